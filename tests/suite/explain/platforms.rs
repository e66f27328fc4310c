//! Images for several platforms: built from one file, kept by one index, pinned by one lock, and looked into for one of them.

use airtight_tests::registry::{Access, REGISTRY, Registry};
use airtight_tests::{World, has};

use super::{done, golden, json, program};

const PLATFORMS: &str = r#"format = 1
name = "test/multi"
[[layer]]
name = "app"
copy = [{ from = "dist/{arch}/run", to = "/bin/run" }]
[config]
entrypoint = ["/bin/run"]
"#;

#[test]
fn one_file_builds_for_several_platforms_and_an_index_holds_them() {
    let world = World::new().unwrap();
    world.write("work/multi/airtight.toml", PLATFORMS).unwrap();
    for cpu in ["amd64", "arm64"] {
        program(
            &world,
            &format!("work/multi/dist/{cpu}/run"),
            &format!("#!/bin/{cpu}\n"),
        );
    }
    let directory = world.shown("work/multi");
    for cpu in ["amd64", "arm64"] {
        done(
            &world,
            &[
                "build",
                &directory,
                "--platform",
                &format!("linux/{cpu}"),
                "-t",
                &format!("api:{cpu}"),
            ],
        );
    }
    let layout = world.shown("work/all");
    let create = [
        "index",
        "create",
        "shop/api:1",
        "api:amd64",
        "api:arm64",
        "--annotation",
        "a=b",
        "--platform-annotation",
        "linux/arm64:c=d",
    ];
    let digest = done(
        &world,
        &[&create[..], &["-o", &format!("oci:{layout}:1")]].concat(),
    )
    .stdout;
    golden(
        "index.json",
        &done(&world, &["inspect", "shop/api:1", "--json"]).stdout,
    );
    let listed = json(&world, &["images", "--json"]);
    let index = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["name"] == "shop/api:1")
        .unwrap();
    assert_eq!(
        index["platforms"],
        serde_json::json!(["linux/amd64", "linux/arm64"])
    );
    let told = json(
        &world,
        &[
            "inspect",
            "shop/api:1",
            "--platform",
            "linux/arm64",
            "--json",
        ],
    );
    assert_eq!(told["config"]["architecture"], "arm64");
    let twice = world
        .airtight(["index", "create", "x", "api:amd64", "shop/api:1"])
        .unwrap();
    assert!(
        twice.code == Some(125) && twice.stderr.contains("are both for linux/amd64"),
        "{twice:?}"
    );
    let foreign = world
        .airtight(["run", "--platform", "linux/arm64", "shop/api:1"])
        .unwrap();
    assert!(
        foreign.code == Some(125) && foreign.stderr.contains("is for linux/arm64"),
        "{foreign:?}"
    );
    done(&world, &["plan", "shop/api:1"]);
    done(&world, &["rm", "api:amd64", "api:arm64"]);
    done(&world, &["gc"]);
    let why = json(
        &world,
        &[
            "why",
            "shop/api:1",
            "/bin/run",
            "--platform",
            "linux/arm64",
            "--json",
        ],
    );
    assert_eq!(
        why["chain"][0]["says"], "copied from dist/arm64/run, which the build file names",
        "{why}"
    );
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));

    // By default what is for this machine, with --all or --platform the rest.
    let other = World::new().unwrap();
    done(&other, &["import", &layout, "--name", "one"]);
    assert_eq!(
        json(&other, &["inspect", "one", "--json"])["config"]["architecture"],
        "amd64"
    );
    done(
        &other,
        &[
            "import",
            &layout,
            "--platform",
            "linux/arm64",
            "--name",
            "arm",
        ],
    );
    assert_eq!(
        json(&other, &["inspect", "arm", "--json"])["config"]["architecture"],
        "arm64"
    );
    let all = done(&other, &["import", &layout, "--all", "--name", "all"]).stdout;
    assert!(all.starts_with(digest.trim()), "{all}");
    assert_eq!(
        json(
            &other,
            &[
                "why",
                "all",
                "/bin/run",
                "--platform",
                "linux/arm64",
                "--json"
            ]
        )["explained"],
        true
    );
    let made = done(
        &other,
        &[
            "index",
            "create",
            "again",
            "one",
            "arm",
            "--annotation",
            "a=b",
            "--platform-annotation",
            "linux/arm64:c=d",
        ],
    );
    assert_eq!(made.stdout, digest, "the same images and annotations");
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let name = registry.name("shop/api:1");
    let pushed = json(&world, &["push", "shop/api:1", &name, "--json"]);
    assert_eq!(pushed["digest"], digest.trim());
    assert_eq!(
        json(&world, &["push", "shop/api:1", &name, "--json"])["sent"],
        0
    );
    let third = World::new().unwrap();
    let pulled = json(&third, &["pull", &name, "--all", "--json"]);
    assert_eq!(pulled["digest"], digest.trim());
    assert_eq!(
        json(
            &third,
            &[
                "why",
                &name,
                "/bin/run",
                "--platform",
                "linux/arm64",
                "--json"
            ]
        )["explained"],
        true
    );
    done(
        &third,
        &[
            "export",
            &name,
            &format!("oci-archive:{}", third.shown("work/all.tar")),
        ],
    );
    let arm = json(
        &third,
        &[
            "pull",
            &name,
            "--platform",
            "linux/arm64",
            "--name",
            "arm",
            "--json",
        ],
    );
    assert_ne!(arm["digest"], digest.trim());
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
}

#[test]
fn a_lock_pins_a_base_for_each_platform() {
    let world = World::new().unwrap();
    world.write("work/multi/airtight.toml", PLATFORMS).unwrap();
    program(&world, "work/multi/dist/amd64/run", "#!/bin/amd\n");
    program(&world, "work/multi/dist/arm64/run", "#!/bin/arm\n");
    let layout = world.shown("work/next/base");
    let base = |create: &[&str]| {
        for cpu in ["amd64", "arm64"] {
            let (platform, name) = (format!("linux/{cpu}"), format!("api:{cpu}"));
            let directory = world.shown("work/multi");
            done(
                &world,
                &["build", &directory, "--platform", &platform, "-t", &name],
            );
        }
        let both = ["index", "create", "shop/api:1", "api:amd64", "api:arm64"];
        done(&world, &[&both[..], create].concat());
    };
    base(&["-o", &format!("oci:{layout}:1")]);
    let text = "format = 1\nname = \"test/next\"\nbase = \"oci:base:1\"\n[[layer]]\nname = \"own\"\ngenerate = [\"nsswitch\"]\n";
    world.write("work/next/airtight.toml", text).unwrap();
    let next = world.shown("work/next");
    let build = |cpu: &str, more: &[&str]| {
        let platform = format!("linux/{cpu}");
        let args = ["build", &next, "--platform", &platform];
        world.airtight([&args[..], more].concat()).unwrap()
    };
    let amd = build("amd64", &[]);
    assert_eq!(amd.code, Some(0), "{amd:?}");
    let told = build("arm64", &["--locked"]);
    assert_eq!(told.code, Some(125), "{told:?}");
    assert!(
        told.stderr.contains("`airtight.lock`: pins the base for linux/amd64, and the build is for linux/arm64\n  fix: pin it too: airtight build --platform linux/arm64"),
        "{told:?}"
    );
    let arm = build("arm64", &[]);
    assert_eq!(arm.code, Some(0), "{arm:?}");
    // Both are pinned by now, and the base moves on: what is pinned is taken from the store.
    program(&world, "work/multi/dist/amd64/run", "#!/bin/amd, changed\n");
    program(&world, "work/multi/dist/arm64/run", "#!/bin/arm, changed\n");
    std::fs::remove_dir_all(world.path("work/next/base")).unwrap();
    base(&["-o", &format!("oci:{layout}:1")]);
    for (cpu, want) in [("amd64", &amd), ("arm64", &arm)] {
        let built = build(cpu, &["--locked", "--no-cache"]);
        assert_eq!(
            (built.code, &built.stdout),
            (Some(0), &want.stdout),
            "{cpu}: {built:?}"
        );
    }
    // A lock that says one platform's is another's is not believed.
    let lock = world.path("work/next/airtight.lock");
    let honest = std::fs::read_to_string(&lock).unwrap();
    let swapped = honest
        .replace("linux/amd64", "linux/x")
        .replace("linux/arm64", "linux/amd64");
    std::fs::write(&lock, swapped).unwrap();
    let told = build("amd64", &["--locked"]);
    assert_eq!(told.code, Some(125), "{told:?}");
    assert!(told.stderr.contains("the lock pins sha256:"), "{told:?}");
}

#[test]
fn what_is_for_another_cpu_takes_nothing_from_this_one() {
    let world = World::new().unwrap();
    let text = |layer: &str| {
        format!(
            "format = 1\nname = \"a\"\n[[layer]]\nname = \"l\"\n{layer}\n[config]\nentrypoint = [\"/bin/true\"]\n"
        )
    };
    let copy = "copy = [{ from = \"/bin/true\", to = \"/bin/true\" }]";
    for (layer, want) in [
        (
            format!("{copy}\nclosure = [\"/bin/true\"]"),
            "`layer[0].closure`: takes libraries from this host, which is linux/amd64, and the image is for linux/arm64",
        ),
        (
            copy.to_owned(),
            "`config.entrypoint[0]`: /bin/true is a program for another CPU (ELF machine 62) than linux/arm64",
        ),
    ] {
        world.write("work/a/airtight.toml", text(&layer)).unwrap();
        let ran = world
            .airtight(["build", &world.shown("work/a"), "--platform", "linux/arm64"])
            .unwrap();
        assert!(
            ran.code == Some(125) && ran.stderr.contains(want),
            "{ran:?}"
        );
    }
}
