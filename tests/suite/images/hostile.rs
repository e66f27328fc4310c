//! Images that are not to be trusted: each gives one clear error, and leaves nothing behind.

use airtight_tests::World;
use serde_json::{Value, json};

/// Writes an OCI layout whose only layer is this archive; what is said of it can be wrong.
struct Layout<'a> {
    world: &'a World,
    name: &'static str,
}

impl Layout<'_> {
    fn blob(&self, bytes: &[u8]) -> String {
        let mut child = std::process::Command::new("sha256sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let hex = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
        self.world
            .write(&format!("work/{}/blobs/sha256/{hex}", self.name), bytes)
            .unwrap();
        format!("sha256:{hex}")
    }

    fn write(&self, layer: &[u8], config: &Value, change: impl Fn(&mut Value)) -> String {
        let diff = self.blob(layer);
        let mut config = config.clone();
        if config["rootfs"].is_null() {
            config["rootfs"] = json!({ "type": "layers", "diff_ids": [diff] });
        }
        let config = config.to_string();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": self.blob(config.as_bytes()), "size": config.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff, "size": layer.len() }],
        });
        change(&mut manifest);
        let manifest = manifest.to_string();
        let entry = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": self.blob(manifest.as_bytes()), "size": manifest.len() });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        self.world
            .write(&format!("work/{}/index.json", self.name), index.to_string())
            .unwrap();
        self.world
            .write(
                &format!("work/{}/oci-layout", self.name),
                "{\"imageLayoutVersion\":\"1.0.0\"}",
            )
            .unwrap();
        self.world.shown(&format!("work/{}", self.name))
    }
}

/// A tar archive by Python's own writer, which takes any name and type.
fn archive(world: &World, name: &str, script: &str) -> Vec<u8> {
    let path = world.path(&format!("work/{name}.tar"));
    let program = format!(
        "import tarfile, io, sys\nt = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT)\n\
         def add(name, kind=tarfile.REGTYPE, link='', data=b'', **more):\n    i = tarfile.TarInfo(name)\n    i.type = kind\n    i.linkname = link\n    i.size = len(data)\n    i.mode = 0o755\n    for k, v in more.items(): setattr(i, k, v)\n    t.addfile(i, io.BytesIO(data))\n{script}\nt.close()\n"
    );
    let output = std::process::Command::new("/usr/bin/python3")
        .arg("-c")
        .arg(program)
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read(path).unwrap()
}

fn config() -> Value {
    json!({ "architecture": "amd64", "os": "linux", "config": { "Entrypoint": ["/x"] } })
}

fn left_in(world: &World) -> usize {
    ["tmp", "layers/sha256"]
        .iter()
        .map(|sub| std::fs::read_dir(world.path("home/store").join(sub)).map_or(0, Iterator::count))
        .sum()
}

#[test]
fn a_hostile_layer_is_refused_by_name_and_leaves_nothing() {
    let world = World::new().unwrap();
    let before = left_in(&world);
    for (name, script, said) in [
        ("climbs", "add('../evil', data=b'x')", "climbs out"),
        (
            "climbs-inside",
            "add('a/../../evil', data=b'x')",
            "climbs out",
        ),
        (
            "through-a-link",
            "add('l', tarfile.SYMTYPE, '/tmp')\nadd('l/evil', data=b'x')",
            "a link or no directory",
        ),
        (
            "hard-link-out",
            "add('h', tarfile.LNKTYPE, '../../etc/passwd')",
            "climbs out",
        ),
        (
            "hard-link-to-nothing",
            "add('h', tarfile.LNKTYPE, '/etc/passwd')",
            "hard link",
        ),
        (
            "device",
            "add('null', tarfile.CHRTYPE, devmajor=1, devminor=3)",
            "device node",
        ),
        (
            "block-device",
            "add('sda', tarfile.BLKTYPE, devmajor=8, devminor=0)",
            "device node",
        ),
        ("pipe", "add('pipe', tarfile.FIFOTYPE)", "named pipe"),
        ("whiteout-of-nothing", "add('.wh.')", "whiteout"),
        ("whiteout-of-parent", "add('.wh...')", "whiteout"),
        ("long-name", "add('a/' * 2000 + 'b')", "layer"),
        ("no-archive", "t.fileobj.write(b'x' * 1024)", "archive"),
    ] {
        let layer = archive(&world, name, script);
        let path = Layout {
            world: &world,
            name,
        }
        .write(&layer, &config(), |_| {});
        let ran = world.airtight(["import", &path]).unwrap();
        assert_eq!(ran.code, Some(125), "{name}: {ran:?}");
        assert!(
            ran.stderr.contains(said) && ran.stderr.contains("fix:"),
            "{name}: {ran:?}"
        );
        let run = world.airtight(["run", &format!("oci:{path}")]).unwrap();
        assert_eq!(run.code, Some(125), "{name}: {run:?}");
    }
    assert!(!std::path::Path::new("/tmp/evil").exists() && !world.path("evil").exists());
    assert_eq!(left_in(&world), before);
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
}

#[test]
fn what_is_said_of_an_image_must_be_true() {
    let world = World::new().unwrap();
    let layer = archive(&world, "plain", "add('x', data=b'x')");
    let other = format!("sha256:{}", "0".repeat(64));
    let with = |key: &str, value: Value| {
        let mut config = config();
        config[key] = value;
        config
    };
    let same = |_: &mut Value| {};
    for (name, config, change, said) in [
        (
            "other-cpu",
            with("architecture", json!("arm64")),
            Box::new(same) as Box<dyn Fn(&mut Value)>,
            "arm64",
        ),
        (
            "other-system",
            with("os", json!("windows")),
            Box::new(same),
            "windows",
        ),
        (
            "diff-id",
            with("rootfs", json!({ "type": "layers", "diff_ids": [other] })),
            Box::new(same),
            "unpacks to",
        ),
        (
            "diff-ids",
            with("rootfs", json!({ "type": "layers", "diff_ids": [] })),
            Box::new(same),
            "diffIDs",
        ),
        (
            "size",
            config(),
            Box::new(|m: &mut Value| m["layers"][0]["size"] = json!(17)),
            "longer than",
        ),
        (
            "negative-size",
            config(),
            Box::new(|m: &mut Value| m["layers"][0]["size"] = json!(-1)),
            "manifest",
        ),
        (
            "digest-that-is-a-path",
            config(),
            Box::new(|m: &mut Value| {
                m["layers"][0]["digest"] = json!("sha256:../../../etc/passwd")
            }),
            "sha256",
        ),
        (
            "media-type",
            config(),
            Box::new(|m: &mut Value| m["layers"][0]["mediaType"] = json!("text/plain")),
            "text/plain",
        ),
        (
            "schema-version",
            config(),
            Box::new(|m: &mut Value| m["schemaVersion"] = json!(1)),
            "schema",
        ),
        (
            "no-layers",
            config(),
            Box::new(|m: &mut Value| m["layers"] = json!([])),
            "0 layers",
        ),
    ] {
        let path = Layout {
            world: &world,
            name,
        }
        .write(&layer, &config, change);
        let ran = world.airtight(["import", &path]).unwrap();
        assert_eq!(ran.code, Some(125), "{name}: {ran:?}");
        assert!(
            ran.stderr.contains(said) && ran.stderr.contains("fix:"),
            "{name}: {ran:?}"
        );
    }
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
}

#[test]
fn a_bomb_is_refused() {
    let world = World::new().unwrap();
    // A zstd frame of a tar header and 300 MiB of zeros, at 4 bytes for each 128 KiB; what gzip makes of zeros is an honest layer's too.
    let header = archive(
        &world,
        "zeros",
        "i = tarfile.TarInfo('zeros'); i.size = 300 << 20; t.addfile(i)",
    );
    let mut layer = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38, 0, 0x10, 0];
    layer.extend_from_slice(&header[..512]);
    for last in std::iter::repeat_n(0, 2400).chain([1]) {
        layer.extend_from_slice(&[2 | last, 0, 0x10, 0]);
    }
    let mut config = config();
    config["rootfs"] =
        json!({ "type": "layers", "diff_ids": [format!("sha256:{}", "1".repeat(64))] });
    let layout = Layout {
        world: &world,
        name: "bomb",
    }
    .write(&layer, &config, |m| {
        m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+zstd")
    });
    let ran = world.airtight(["import", &layout]).unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(
        ran.stderr.contains("bomb") && ran.stderr.contains("fix:"),
        "{ran:?}"
    );
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
}

#[test]
fn a_blob_that_was_changed_in_the_store_is_not_used() {
    let world = World::new().unwrap();
    for blob in std::fs::read_dir(world.path("home/store/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let ran = world.run(&[], &["say"]).unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("digest"), "{ran:?}");
    assert_ne!(world.airtight(["verify"]).unwrap().code, Some(0));
}
