//! Other tools take what is pushed, and what they push is taken.

use std::process::{Command, Stdio};

use airtight_tests::registry::{Access, REGISTRY, Registry};
use airtight_tests::{Need, World, has};
use serde_json::Value;

use super::{MIB, done, files, told, world};

fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn skopeo_takes_what_is_pushed_and_the_other_way_round() {
    if !has(REGISTRY) || !has(&[Need::Program("skopeo")]) {
        return;
    }
    let world = world(MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let pushed = told(
        &world,
        &["push", "test/app:1", &registry.name("test/app:1")],
    );
    let digest = pushed["digest"].as_str().unwrap();
    let from = format!("docker://{}", registry.name("test/app:1"));
    let seen = must(Command::new("skopeo").args(["inspect", "--tls-verify=false", &from]));
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["Digest"], digest);
    let layout = format!("oci:{}:1", world.shown("work/layout"));
    must(Command::new("skopeo").args(["copy", "-q", "--src-tls-verify=false", &from, &layout]));

    for (format, kind) in [
        ("oci", "application/vnd.oci.image.manifest.v1+json"),
        (
            "v2s2",
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
    ] {
        let name = registry.name(&format!("skopeo/{format}:1"));
        let to = format!("docker://{name}");
        must(Command::new("skopeo").args([
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--format",
            format,
            &layout,
            &to,
        ]));
        let seen = must(Command::new("skopeo").args(["inspect", "--tls-verify=false", &to]));
        let seen: Value = serde_json::from_str(&seen).unwrap();
        let other = World::new().unwrap();
        let pulled = told(&other, &["pull", &to]);
        assert_eq!(
            pulled["digest"], seen["Digest"],
            "{format}: the bytes stay as they are"
        );
        assert_eq!(pulled["manifests"][0]["mediaType"], kind);
        let shown = done(&other, &["inspect", &name]).stdout;
        assert!(shown.contains("/a"), "{shown}");
        // And on to another registry, as it is.
        let on = registry.name(&format!("on/{format}:1"));
        assert_eq!(
            told(&other, &["push", &name, &on])["digest"],
            seen["Digest"]
        );
        assert_eq!(
            told(
                &other,
                &["copy", &name, &registry.name(&format!("copied/{format}:1"))]
            )["digest"],
            seen["Digest"]
        );
        assert!(files(&other, "tmp").is_empty());
    }
}

#[test]
fn privileged_podman_pulls_what_is_pushed() {
    if !has(REGISTRY) || !has(&[Need::Root, Need::Program("podman")]) {
        return;
    }
    let world = world(MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let name = registry.name("test/app:1");
    let pushed = told(&world, &["push", "test/app:1", &name]);
    let podman = |args: &[&str]| {
        let own = ["root", "runroot", "tmpdir"]
            .map(|part| format!("--{part}={}", world.shown(&format!("run/podman-{part}"))));
        must(
            Command::new("podman")
                .args(own)
                .args([
                    "--storage-driver=vfs",
                    "--events-backend=file",
                    "--cgroup-manager=cgroupfs",
                ])
                .args(args),
        )
    };
    podman(&["pull", "-q", "--tls-verify=false", &name]);
    let seen = podman(&["image", "inspect", &name]);
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen[0]["Digest"], pushed["digest"]);
}
