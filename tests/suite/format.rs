//! Format 1 from outside: the same bytes for whoever builds, however, and readers of other makers that take them.

use std::fs;
use std::path::Path;
use std::process::Command;

use airtight_tests::{Need, World, binary, has};

/// Of the manifests of [`image`]'s tree. They never change: other bytes are another format.
const GOLDEN: [(&str, &str); 2] = [
    (
        "gzip",
        "sha256:b44ef2630be0b7f0c27af32c87e380761c551365ea0fa772e9d9c27e16480977",
    ),
    (
        "zstd",
        "sha256:b3626a980e00e63e9cbc31a1fdd6e6e82c0ba74421f41055e637626756336c7b",
    ),
];

const FILE: &str = r#"
format = 1
name = "format/one"

[[layer]]
name = "app"
copy = [{ from = "tree", to = "/srv" }, { from = "start", to = "/bin/" }]
split = "1MiB"

[[layer]]
name = "accounts"
generate = ["passwd", "group", "nsswitch"]

[config]
entrypoint = ["/bin/start"]
env = { LANG = "C.UTF-8", A = "ä" }

[annotations]
"org.opencontainers.image.source" = "https://example.org/format"
"#;

/// Three directories with 2 MB in files of several pieces, one piece and none, and a name that needs a pax record.
fn image(world: &World) -> String {
    let mut state = 99_u32;
    let mut noise = |length: usize, mask: u8| -> Vec<u8> {
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] & mask
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let long = format!("work/app/tree/c/{}", "n".repeat(140));
    for (path, content) in [
        ("work/app/airtight.toml", FILE.as_bytes().to_vec()),
        ("work/app/start", b"#!/bin/sh\n".to_vec()),
        ("work/app/tree/a/large", noise(1_400_000, 0x1f)),
        ("work/app/tree/b/noise", noise(500_000, 0xff)),
        ("work/app/tree/b/empty", Vec::new()),
        ("work/app/tree/c/ü", b"text\n".repeat(9000)),
        (&long, b"x".to_vec()),
    ] {
        world.write(path, content).unwrap();
    }
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.path("work/app/start"), executable).unwrap();
    world.shown("work/app")
}

/// What a build prints under these settings of its environment.
fn built(world: &World, before: &str, format: &str, more: &str) -> String {
    let context = image(world);
    let airtight = binary("airtight");
    let script = format!(
        "{before} {} build --no-cache --compression-format {format} {more} {context}",
        airtight.display()
    );
    let output = world
        .command("/bin/sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn privileged_the_digest_is_golden_for_whoever_builds_and_however() {
    if !has(&[Need::Root]) {
        return;
    }
    for world in [World::new().unwrap(), World::rootless().unwrap()] {
        for (before, more) in [
            ("umask 022; exec", "-j 1"),
            (
                "umask 077; TZ=Pacific/Auckland LC_ALL=tr_TR.UTF-8 exec nice -n 19",
                "-j 2",
            ),
            ("umask 000; TZ=UTC LANG=C exec nice -n 5 taskset -c 0", ""),
            ("exec", "-j 5"),
        ] {
            for (format, golden) in GOLDEN {
                let digest = built(&world, before, format, more);
                assert_eq!(digest, golden, "{before} {format} {more}");
            }
        }
    }
}

#[test]
fn readers_of_other_makers_take_the_layers() {
    if !has(&[
        Need::Program("skopeo"),
        Need::Program("zstd"),
        Need::Program("gzip"),
    ]) {
        return;
    }
    let world = World::new().unwrap();
    for (format, _) in GOLDEN {
        let layout = world.shown(&format!("work/{format}"));
        built(&world, "exec", format, &format!("-o oci:{layout}:x"));
        // Go's readers: what is unpacked there has the digests that the configuration says, or skopeo refuses.
        let plain = world.shown(&format!("work/{format}-plain"));
        let from = format!("oci:{layout}:x");
        let to = format!("oci:{plain}:x");
        run(world
            .command("skopeo")
            .args(["copy", "--dest-decompress", &from, &to]));
        let image = layers(Path::new(&layout));
        let names = image.iter().map(String::as_str);
        assert!(names.clone().count() >= 3, "{format}");
        for blob in names {
            run(world
                .command(format)
                .args(["-t", "-q"])
                .stdin(fs::File::open(blob).unwrap()));
            let list = format!("{format} -dc < {blob} | tar -tvf - > /dev/null");
            run(world.command("/bin/sh").args(["-ec", &list]));
        }
    }
}

/// The files of the layers of a layout's one image.
fn layers(layout: &Path) -> Vec<String> {
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let blob = |digest: &serde_json::Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        layout.join("blobs/sha256").join(hex)
    };
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(&index["manifests"][0]["digest"]));
    let all = manifest["layers"].as_array().unwrap();
    all.iter()
        .map(|layer| blob(&layer["digest"]).display().to_string())
        .collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
