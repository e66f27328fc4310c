//! Images in and out: reproducible, accepted by the tools that others use, and refused when they are not what they should be.

mod examples;
mod hostile;
mod peers;

use std::process::{Command, Stdio};

use airtight_tests::{Need, World, has, parse};

use crate::every_caller;

const APP: &str = "format = 1\nname = \"test/app\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"tree\", to = \"/app\" }]\n[config]\nentrypoint = [\"/app/run\"]\n";

fn context(world: &World, sub: &str) -> String {
    world
        .write(&format!("work/{sub}/airtight.toml"), APP)
        .unwrap();
    for (name, content) in [
        ("run", "#!/bin/sh\n"),
        ("a/one", "1"),
        ("a/two", "2"),
        ("z", "last"),
    ] {
        world
            .write(&format!("work/{sub}/tree/{name}"), content)
            .unwrap();
    }
    let run = world.path(&format!("work/{sub}/tree/run"));
    std::fs::set_permissions(run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.shown(&format!("work/{sub}"))
}

#[test]
fn the_same_input_gives_the_same_digest_elsewhere_and_for_another_user() {
    if !has(&[Need::Root]) {
        return;
    }
    let worlds = [World::new().unwrap(), World::rootless().unwrap()];
    let mut digests = Vec::new();
    for (world, sub, umask) in [
        (&worlds[0], "one", "022"),
        (&worlds[0], "deeper/two", "077"),
        (&worlds[1], "three", "002"),
    ] {
        let directory = context(world, sub);
        let script =
            format!("umask {umask}; TZ=Pacific/Auckland LC_ALL=C exec \"$0\" build \"$1\"");
        let output = world
            .command("sh")
            .arg("-c")
            .arg(script)
            .arg(airtight_tests::binary("airtight"))
            .arg(directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        digests.push(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
    assert!(
        digests[0].starts_with("sha256:") && digests[0].trim().len() == 71,
        "{digests:?}"
    );
}

/// Names that come from an image or a build's directory are in messages; neither may speak as airtight.
#[test]
fn privileged_no_name_forges_a_message_or_steers_the_terminal() {
    const HOSTILE: &str = "\u{1b}[2Jx\nairtight: all is well\n  fix: none";
    let shown = r"\u{1b}[2Jx\nairtight: all is well\n  fix: none";
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let directory = context(world, "hostile");
        let program = APP.replace(
            "/app/run",
            "\\u001b[2Jx\\nairtight: all is well\\n  fix: none",
        );
        world
            .write("work/hostile/airtight.toml", program.as_bytes())
            .unwrap();
        assert_eq!(world.airtight(["build", &directory]).unwrap().code, Some(0));
        let ran = world.airtight(["run", "test/app"]).unwrap();
        assert_eq!(ran.code, Some(127), "{ran:?}");
        assert!(ran.stderr.contains(shown), "{ran:?}");
        let lines = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with("airtight: "))
                .count()
        };
        assert_eq!(lines(&ran.stderr), 1, "{ran:?}");
        assert!(
            !ran.stderr.contains(['\u{1b}', '\r']) && !ran.stderr.contains("\n  fix"),
            "{ran:?}"
        );

        let socket = world.path("work/hostile/tree").join(HOSTILE);
        drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
        let built = world.airtight(["build", &directory]).unwrap();
        // In a problem, which may be another error's words, a fix is part of the line.
        let shown = shown.replace(r"\n  fix", "; fix");
        let want = format!(
            "airtight: {directory}/airtight.toml: `layer[0].copy[0].from`: `tree/{shown}` is a socket, which a layer of an app cannot hold\n  \
             fix: remove it, or name it in `exclude`\n"
        );
        assert_eq!(
            (built.code, built.stderr.as_str()),
            (Some(125), want.as_str())
        );
    }
}

#[test]
fn two_builds_at_once_share_a_store() {
    let world = World::new().unwrap();
    let directory = context(&world, "shared");
    let running: Vec<_> = (0..4)
        .map(|number| {
            world
                .start(&["build", &directory, "-t", &format!("test/app:{number}")])
                .unwrap()
        })
        .collect();
    let digests: Vec<String> = running
        .into_iter()
        .map(|one| one.wait().unwrap().stdout)
        .collect();
    assert!(
        digests
            .iter()
            .all(|digest| *digest == digests[0] && digest.starts_with("sha256:")),
        "{digests:?}"
    );
    let images = world.airtight(["images", "--json"]).unwrap();
    assert_eq!(images.stdout.matches("test/app").count(), 4, "{images:?}");
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
}

#[test]
fn names_go_and_gc_takes_what_they_held() {
    let world = World::new().unwrap();
    let directory = context(&world, "gone");
    world.airtight(["build", &directory]).unwrap();
    assert_eq!(world.airtight(["rm", "test/app"]).unwrap().code, Some(0));
    assert_eq!(world.airtight(["rm", "test/app"]).unwrap().code, Some(125));
    let blobs = || {
        let found = std::fs::read_dir(world.path("home/store/blobs/sha256"));
        found.unwrap().count()
    };
    let before = blobs();
    assert_eq!(world.airtight(["gc"]).unwrap().code, Some(0));
    assert_eq!(
        before - blobs(),
        4,
        "manifest, configuration, and why its files are there: the ledger and its manifest"
    );
    let ran = world.airtight(["gc", "--cache"]).unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        before - blobs(),
        5,
        "and the layer, kept for the next build"
    );
    assert_eq!(
        world.run(&[], &["say"]).unwrap().code,
        Some(0),
        "another image stays whole"
    );
}

#[test]
fn privileged_what_runs_is_not_collected_until_it_has_ended() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let args = [
            "run",
            "-i",
            "test/prober",
            "--",
            "say",
            "up",
            ",",
            "stdin",
            ",",
            "exec",
            "/app/prober",
        ];
        let mut running = world.start(&args).unwrap();
        running.until("up").unwrap();
        assert_eq!(world.airtight(["rm", "test/prober"]).unwrap().code, Some(0));
        let gc = |in_use: u64| {
            let ran = world.airtight(["gc", "--json"]).unwrap();
            let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(report["layers_in_use"], in_use, "{ran:?}");
            assert_eq!(report["layers"], 1 - in_use, "{ran:?}");
        };
        gc(1);
        running.feed("go").unwrap();
        let ran = running.wait().unwrap();
        // The program is opened anew after the collection.
        assert!(
            parse(ran.code, &ran.stdout, &ran.stderr).of("exec").ok,
            "{ran:?}"
        );
        gc(0);
    }
}

/// Runs to success or fails the test with what was printed.
fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn privileged_other_tools_take_what_is_written_and_the_other_way_round() {
    if !has(&[Need::Root, Need::Program("skopeo"), Need::Program("umoci")]) {
        return;
    }
    let world = World::new().unwrap();
    let directory = context(&world, "out");
    let (layout, archive) = (world.shown("work/layout"), world.shown("work/image.tar"));
    let built = world
        .airtight([
            "build",
            &directory,
            "-o",
            &format!("oci:{layout}:v1"),
            "-o",
            &format!("oci-archive:{archive}:v1"),
        ])
        .unwrap();
    assert_eq!(built.code, Some(0), "{built:?}");
    let inspected = must(Command::new("skopeo").args(["inspect", &format!("oci:{layout}:v1")]));
    assert!(inspected.contains(built.stdout.trim()), "{inspected}");
    must(Command::new("skopeo").args(["inspect", &format!("oci-archive:{archive}:v1")]));
    must(Command::new("umoci").args([
        "unpack",
        "--rootless",
        "--image",
        &format!("{layout}:v1"),
        &world.shown("work/unpacked"),
    ]));
    assert_eq!(
        std::fs::read_to_string(world.path("work/unpacked/rootfs/app/a/one")).unwrap(),
        "1"
    );

    let (docker, oci) = (
        world.shown("work/docker.tar"),
        world.shown("work/again.tar"),
    );
    must(Command::new("skopeo").args([
        "copy",
        "-q",
        &format!("oci:{layout}:v1"),
        &format!("docker-archive:{docker}:test/docker:v1"),
    ]));
    must(Command::new("skopeo").args([
        "copy",
        "-q",
        &format!("oci:{layout}:v1"),
        &format!("oci-archive:{oci}:test/oci:v1"),
    ]));
    for (path, name) in [
        (&docker, "test/docker:v1"),
        (&oci, "test/oci:v1"),
        (&layout, "layout:v1"),
    ] {
        let imported = world.airtight(["import", path]).unwrap();
        assert_eq!(imported.code, Some(0), "{imported:?}");
        let images = world.airtight(["images", "--json"]).unwrap();
        assert!(images.stdout.contains(name), "{name}: {images:?}");
    }
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
}
