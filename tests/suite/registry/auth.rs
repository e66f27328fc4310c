//! Who may: TLS and its authorities, passwords, tokens, helpers; and that no secret goes where it should not.

use std::os::unix::fs::PermissionsExt as _;

use airtight_tests::registry::{Access, Authority, Fault, Proxy, REGISTRY, Registry, Tokens};
use airtight_tests::{Need, Ran, World, binary, has};

use super::{MIB, done, states, told, world};

/// `user:hunter2`, as docker keeps it.
const AUTH: &str = "dXNlcjpodW50ZXIy";
const PAIR: &str = "user:hunter2";

fn docker_config(world: &World, host: &str) {
    let text = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{AUTH}\"}}}}}}");
    world.write("home/.docker/config.json", text).unwrap();
}

fn no_secret(ran: &Ran, name: &str) {
    for secret in ["hunter2", AUTH] {
        assert!(
            !ran.stderr.contains(secret) && !ran.stdout.contains(secret),
            "{name}: {ran:?}"
        );
    }
}

#[test]
fn tls_and_a_password_are_asked_for() {
    if !has(REGISTRY) {
        return;
    }
    let authority = Authority::new().unwrap();
    let registry = Registry::start(Some(&authority), Access::Basic(PAIR)).unwrap();
    let world = world(MIB);
    let to = registry.name("test/app:1");
    let trust = authority.trust();
    let fails = |args: &[&str], want: &str| {
        let ran = world.airtight(args.iter().copied()).unwrap();
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(ran.stderr.contains(want), "{want}: {ran:?}");
        no_secret(&ran, want);
    };
    fails(
        &["push", "test/app:1", &to],
        "has a certificate that is not trusted",
    );
    let push = ["push", "test/app:1", &to, "--cert-dir", &trust];
    fails(&push, "no credentials were found");
    docker_config(&world, "elsewhere.example.org");
    fails(&push, "no credentials were found");
    let wrong =
        "{\"auths\":{\"localhost\":{},\"HOST\":{\"username\":\"user\",\"password\":\"hunter22\"}}}";
    world
        .write(
            "home/.docker/config.json",
            wrong.replace("HOST", to.split('/').next().unwrap()),
        )
        .unwrap();
    fails(&push, "is refused with these credentials");
    docker_config(&world, to.split('/').next().unwrap());
    assert_eq!(states(&told(&world, &push)), ["sent"; 3]);
    assert_eq!(told(&world, &push)["sent"], 0);

    // podman's file, which is looked at first; and the one that is named.
    let other = World::new().unwrap();
    let entry = format!(
        "{{\"auths\":{{\"{}/test\":{{\"auth\":\"{AUTH}\"}}}}}}",
        to.split('/').next().unwrap()
    );
    other.write("run/containers/auth.json", &entry).unwrap();
    told(&other, &["pull", &to, "--cert-dir", &trust]);
    let named = other.write("work/auth.json", &entry).unwrap();
    std::fs::remove_file(other.path("run/containers/auth.json")).unwrap();
    told(
        &other,
        &[
            "pull",
            &to,
            "--cert-dir",
            &trust,
            "--authfile",
            named.to_str().unwrap(),
        ],
    );
    let absent = other
        .airtight([
            "pull",
            &to,
            "--cert-dir",
            &trust,
            "--authfile",
            "/nonexistent",
        ])
        .unwrap();
    assert!(absent.stderr.contains("/nonexistent: "), "{absent:?}");
    let odd = other
        .airtight(["pull", &to, "--cert-dir", "/nonexistent"])
        .unwrap();
    assert!(odd.stderr.contains("is no directory"), "{odd:?}");
    // The user's own certs.d, as podman has it.
    let own = format!(
        "home/.config/containers/certs.d/{}/ca.crt",
        to.split('/').next().unwrap()
    );
    other
        .write(&own, std::fs::read(format!("{trust}/ca.crt")).unwrap())
        .unwrap();
    told(
        &other,
        &["pull", &to, "--authfile", named.to_str().unwrap()],
    );
}

#[test]
fn a_helper_is_asked_on_its_standard_input() {
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Basic(PAIR)).unwrap();
    let world = world(MIB);
    let to = registry.name("test/app:1");
    let host = to.split('/').next().unwrap();
    let path = format!(
        "{}:{}",
        world.shown("work/bin"),
        std::env::var("PATH").unwrap()
    );
    let helper = |script: &str| {
        let file = world
            .write(
                "work/bin/docker-credential-test",
                format!("#!/bin/sh\n{script}\n"),
            )
            .unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = world
            .command(binary("airtight"))
            .args(["push", "test/app:1", &to])
            .env("PATH", &path)
            .output()
            .unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    for (kind, config) in [
        (
            "of the host",
            format!("{{\"credHelpers\":{{\"{host}\":\"test\"}}}}"),
        ),
        (
            "of all",
            format!("{{\"auths\":{{\"{host}\":{{}}}},\"credsStore\":\"test\"}}"),
        ),
    ] {
        world.write("home/.docker/config.json", config).unwrap();
        let good = "echo \"$*: $(cat)\" > \"$HOME/asked\"; echo '{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"hunter2\"}'";
        let ran = helper(good);
        assert_eq!(ran.code, Some(0), "{kind}: {ran:?}");
        no_secret(&ran, kind);
        assert_eq!(
            std::fs::read_to_string(world.path("home/asked")).unwrap(),
            format!("get: {host}\n"),
            "{kind}"
        );
        for (name, script, want) in [
            (
                "knows none",
                "echo 'credentials not found in native keychain'; exit 1",
                "no credentials were found",
            ),
            (
                "fails",
                "echo hunter2; echo hunter2 >&2; exit 3",
                "docker-credential-test get: failed",
            ),
            (
                "answers with what is none",
                "echo hunter2",
                "did not answer with a user and a secret",
            ),
            (
                "answers without end",
                "yes hunter2",
                "said more than 64 KiB",
            ),
        ] {
            let ran = helper(script);
            assert_eq!(ran.code, Some(125), "{kind} {name}: {ran:?}");
            assert!(ran.stderr.contains(want), "{kind} {name}: {ran:?}");
            no_secret(&ran, name);
        }
    }
}

#[test]
fn tokens_are_bought_and_renewed() {
    if !has(REGISTRY) {
        return;
    }
    let tokens = Tokens::start(PAIR, "refresh-me", 300).unwrap();
    let registry = Registry::start(None, Access::Token(&tokens)).unwrap();
    let proxy = Proxy::before(registry.port).unwrap();
    let world = world(20 * MIB);
    let to = proxy.name("team/app:1");
    let host = to.split('/').next().unwrap();
    let none = world.airtight(["push", "test/app:1", &to]).unwrap();
    assert!(
        none.stderr
            .contains("gives no token to one who has not logged in (401"),
        "{none:?}"
    );
    let entry = "{\"auths\":{\"HOST\":{\"username\":\"user\",\"password\":\"hunter2 no\"}}}"
        .replace("HOST", host);
    world.write("home/.docker/config.json", entry).unwrap();
    let wrong = world.airtight(["push", "test/app:1", &to]).unwrap();
    assert!(
        wrong
            .stderr
            .contains("gives no token for these credentials (401"),
        "{wrong:?}"
    );
    no_secret(&wrong, "the server repeats it");

    docker_config(&world, host);
    // In the middle the registry finds the token too old.
    let stale = Fault::Answer(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: REALM\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .replace("REALM", &challenge(&proxy, &world)),
    );
    let before = tokens.asked().len();
    proxy.fault_after("PATCH", "/blobs/uploads/", 1, 1, stale);
    told(&world, &["push", "test/app:1", &to]);
    let asked = tokens.asked().split_off(before);
    assert_eq!(asked.len(), 2, "one, and one more: {asked:?}");
    assert_eq!(
        asked[0],
        "GET service=test&scope=repository:team/app:pull,push"
    );

    let other = proxy.name("team/other:1");
    assert_eq!(
        states(&told(&world, &["push", "test/app:1", &other])),
        ["mounted"; 3]
    );
    let asked = tokens.asked();
    let both =
        "GET service=test&scope=repository:team/other:pull,push&scope=repository:team/app:pull";
    assert!(asked.iter().any(|asked| asked == both), "{asked:?}");

    // An identity token buys them too, and is sent in no address.
    let entry = "{\"auths\":{\"HOST\":{\"auth\":\"AA\",\"identitytoken\":\"refresh-me\"}}}"
        .replace("HOST", host);
    let puller = World::new().unwrap();
    puller.write("home/.docker/config.json", entry).unwrap();
    told(&puller, &["pull", &to]);
    let asked = tokens.asked();
    let last = asked.last().unwrap();
    assert!(last.starts_with("POST grant_type=refresh_token&client_id=airtight&refresh_token=refresh-me&scope=repository:team/app:pull"), "{last}");
}

/// What the registry itself asks for.
fn challenge(proxy: &Proxy, world: &World) -> String {
    let url = format!("http://localhost:{}/v2/", proxy.port);
    let output = world.command("curl").args(["-si", &url]).output().unwrap();
    let head = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Www-Authenticate: "));
    line.unwrap().trim().to_owned()
}

#[test]
fn credentials_go_to_no_other_host() {
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let (own, foreign) = (
        Proxy::before(registry.port).unwrap(),
        Proxy::before(registry.port).unwrap(),
    );
    let world = world(MIB);
    let to = own.name("test/app:1");
    docker_config(&world, to.split('/').next().unwrap());
    let basic = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    own.fault("HEAD", "/blobs/", 1, Fault::Answer(basic.to_owned()));
    let elsewhere = |path: &str| {
        let location = format!("http://localhost:{}{path}", foreign.port);
        Fault::Answer(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    };
    let pushed = told(&world, &["push", "--jobs", "1", "test/app:1", &to]);
    let (digest, _) = super::largest(&pushed);
    let path: &'static str = Box::leak(format!("/v2/test/app/blobs/{digest}").into_boxed_str());
    own.fault("GET", path, 9, elsewhere(path));
    own.fault("GET", "/manifests/", 1, Fault::Answer(basic.to_owned()));
    let puller = World::new().unwrap();
    docker_config(&puller, to.split('/').next().unwrap());
    assert_eq!(told(&puller, &["pull", &to])["digest"], pushed["digest"]);
    let told_so = |proxy: &Proxy| {
        proxy
            .seen()
            .iter()
            .filter(|seen| seen.head.to_lowercase().contains("\r\nauthorization:"))
            .count()
    };
    assert!(told_so(&own) > 3, "{:?}", own.seen());
    assert!(!foreign.seen().is_empty(), "the redirect was followed");
    assert_eq!(told_so(&foreign), 0, "{:?}", foreign.seen());

    // An upload that is to go elsewhere goes there, and takes no credentials along.
    own.clear();
    foreign.clear();
    own.fault("HEAD", "/blobs/", 1, Fault::Answer(basic.to_owned()));
    let begun = world
        .command("curl")
        .args([
            "-si",
            "-X",
            "POST",
            &format!("http://localhost:{}/v2/moved/blobs/uploads/", foreign.port),
        ])
        .output()
        .unwrap();
    let begun = String::from_utf8_lossy(&begun.stdout).into_owned();
    let location = begun
        .lines()
        .find_map(|line| line.strip_prefix("Location: "))
        .unwrap()
        .trim();
    let accepted = format!(
        "HTTP/1.1 202 Accepted\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    own.fault("POST", "/blobs/uploads/", 1, Fault::Answer(accepted));
    std::fs::remove_dir_all(world.path("home/store/cache/origins")).unwrap();
    done(
        &world,
        &["push", "--jobs", "1", "test/app:1", &own.name("moved:1")],
    );
    assert_eq!(foreign.of("PUT").len(), 1, "{:?}", foreign.seen());
    assert_eq!(told_so(&foreign), 0, "{:?}", foreign.seen());
}

/// In a network of its own, whose registry is not on loopback.
const FAR: &str = r#"
set -e
ip link set lo up
ip address add 198.51.100.7/32 dev lo
docker-registry serve "$1" >/dev/null 2>&1 &
registry=$!
trap 'kill $registry' EXIT
for wait in $(seq 200); do curl -s -o /dev/null http://198.51.100.7:5000/v2/ && break; sleep 0.05; done
shift
"$@" 2>&1 || true
"$@" --insecure-registry 198.51.100.7:5000 --quiet
"#;

#[test]
fn privileged_plain_text_is_for_loopback_and_for_whom_the_operator_names() {
    if !has(REGISTRY) || !has(&[Need::Root, Need::Program("ip"), Need::Program("unshare")]) {
        return;
    }
    let world = world(MIB);
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"198.51.100.7:5000\"}}\n",
        world.shown("work/data")
    );
    let config = world.write("work/registry.yml", config).unwrap();
    let output = world
        .command("unshare")
        .args(["--net", "sh", "-c", FAR, "sh"])
        .arg(config)
        .arg(binary("airtight"))
        .args([
            "push",
            "test/app:1",
            "198.51.100.7:5000/far:1",
            "--retry",
            "0",
            "--timeout",
            "5",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let (refused, taken) = said.split_once("\n  fix: ").unwrap();
    assert_eq!(
        refused,
        "airtight: https://198.51.100.7:5000: does not speak TLS"
    );
    assert!(
        taken.contains("--insecure-registry")
            && taken.trim_end().ends_with("198.51.100.7:5000/far:1"),
        "{said}"
    );
    let wrong = world
        .airtight([
            "push",
            "test/app:1",
            "r.test/a",
            "--insecure-registry",
            "http://r.test",
        ])
        .unwrap();
    assert!(
        wrong
            .stderr
            .contains("--insecure-registry http://r.test: is no host"),
        "{wrong:?}"
    );
}
