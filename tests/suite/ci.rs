//! The commands of docs/ci.md, as a job of a CI runs them: an ordinary user without capabilities, who can gain none and may make no user namespace.

use std::process::Command;

use airtight_tests::registry::{Access, Authority, REGISTRY, Registry};
use airtight_tests::{Need, World, binary, has, repository};

/// Runs the rest of its arguments as a user of a CI's container, who owns nothing here: in a user namespace that allows none below it, without
/// capabilities and without a way to any.
const AS_A_JOB: &str = r#"
echo 0 > /proc/sys/user/max_user_namespaces || exit 98
exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all --no-new-privs -- "$@"
"#;

const APP: &str = r#"format = 1
name = "shop/api"
[[layer]]
name = "app"
copy = [{ from = "dist/{arch}/run", to = "/bin/run" }]
generate = ["passwd", "group"]
[config]
entrypoint = ["/bin/run"]
"#;

/// The commands of the blocks of one language below a heading, in order; of YAML, what its `run` and `script` have.
fn commands(heading: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("docs/ci.md")).unwrap();
    let after = text.split_once(&format!("## {heading}\n")).unwrap().1;
    let section = after.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    let blocks = section.split(fence.as_str()).skip(1);
    let lines = blocks.flat_map(|block| block.split("\n```").next().unwrap().lines());
    let command = |line: &str| {
        let line = line.trim().trim_start_matches("- ");
        (line.starts_with("airtight ") || line.starts_with("printf ")).then(|| line.to_owned())
    };
    lines.filter_map(command).collect()
}

fn job(world: &World) -> Command {
    let mut command = world.command("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps"]);
    command.args(["sh", "-c", AS_A_JOB, "job"]);
    command
}

#[test]
fn privileged_the_commands_of_the_documentation_run_without_any_privilege() {
    let needs = [
        Need::Root,
        Need::Program("unshare"),
        Need::Program("setpriv"),
    ];
    if !has(REGISTRY) || !has(&needs) {
        return;
    }
    let world = World::rootless().unwrap();
    world.write("work/airtight.toml", APP).unwrap();
    for cpu in ["amd64", "arm64"] {
        let path = world
            .write(&format!("work/dist/{cpu}/run"), format!("#!/bin/{cpu}\n"))
            .unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let refused = job(&world)
        .args(["unshare", "--user", "true"])
        .output()
        .unwrap();
    assert!(
        !refused.status.success(),
        "the job may make user namespaces"
    );
    let capabilities = job(&world)
        .args(["grep", "^Cap", "/proc/self/status"])
        .output()
        .unwrap();
    let capabilities = String::from_utf8(capabilities.stdout).unwrap();
    let none = |line: &str| line.split_whitespace().nth(1) == Some("0000000000000000");
    assert!(
        capabilities.lines().count() == 5 && capabilities.lines().all(none),
        "{capabilities}"
    );

    let authority = Authority::new().unwrap();
    let trusted = std::fs::read(authority.path("trust/ca.crt")).unwrap();
    world.write("home/ca.crt", trusted).unwrap();
    let registry = Registry::start(Some(&authority), Access::Basic("user:hunter22")).unwrap();
    let path = format!(
        "{}:{}",
        binary("airtight").parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let host = format!("localhost:{}", registry.port);
    let mut ran = Vec::new();
    for (heading, language, count) in [
        ("GitHub Actions", "yaml", 7),
        ("GitLab", "yaml", 5),
        ("Several platforms", "sh", 11),
        ("What changed", "sh", 2),
    ] {
        let commands = commands(heading, language);
        assert_eq!(commands.len(), count, "{heading}: {commands:?}");
        for line in commands {
            let output = job(&world)
                .args(["sh", "-euc", &line])
                .env("PATH", &path)
                .env("SSL_CERT_FILE", world.path("home/ca.crt"))
                .envs([
                    ("REGISTRY", host.as_str()),
                    ("REGISTRY_USER", "user"),
                    ("REGISTRY_PASSWORD", "hunter22"),
                    ("REVISION", "0f00"),
                ])
                .env("REGISTRY_AUTH_FILE", world.path("home/auth.json"))
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{heading}: {line}: {told}");
            ran.push(line);
        }
    }
    assert!(
        registry.has_tag("shop/api", "0f00") && registry.has_tag("shop/api", "both"),
        "{ran:?}"
    );
    let sarif = std::fs::read_to_string(world.path("work/airtight.sarif")).unwrap();
    assert!(sarif.contains("\"version\": \"2.1.0\""), "{sarif}");
}
