//! Tools of other makers take a layout, an archive and an image that was pulled, in gzip and in zstd, and run it. What one of them cannot do is told by a test too, with
//! an image of another maker that it does not take either.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use airtight_tests::registry::{Access, REGISTRY, Registry};
use airtight_tests::{Need, World, has};
use serde_json::Value;

use super::must;

const FORMATS: [&str; 2] = ["gzip", "zstd"];
const FILE: &str = "format = 1\nname = \"test/peers:1\"\n[[layer]]\nname = \"tools\"\ncopy = [{ from = \"/bin/busybox\", to = \"/bin/busybox\" }]\n\
    [[layer]]\nname = \"app\"\ncopy = [{ from = \"hello\", to = \"/srv/hello\" }]\ngenerate = [\"passwd\", \"group\"]\n\
    [config]\nentrypoint = [\"/bin/busybox\", \"cat\", \"/srv/hello\"]\n";

/// `work/FORMAT`, a layout, and `work/FORMAT.tar`, an archive, both with the name `v1`. The manifest's digest.
fn written(world: &World, format: &str) -> String {
    world.write("work/c/airtight.toml", FILE).unwrap();
    world.write("work/c/hello", "hello\n").unwrap();
    let context = world.shown("work/c");
    let out = world.shown(&format!("work/{format}"));
    let (layout, archive) = (format!("oci:{out}:v1"), format!("oci-archive:{out}.tar:v1"));
    let args = [
        "build",
        &context,
        "--compression-format",
        format,
        "-o",
        &layout,
        "-o",
        &archive,
    ];
    let built = world.airtight(args).unwrap();
    assert_eq!(built.code, Some(0), "{built:?}");
    built.stdout.trim().to_owned()
}

fn tried(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn oci_image_tool_validates_each_document_and_the_layout() {
    const MEDIA_TYPE: &str =
        "invalid descriptor MediaType \\\"application/vnd.oci.image.layer.v1.tar+zstd\\\"";
    if !has(&[
        Need::Program("oci-image-tool"),
        Need::Program("skopeo"),
        Need::Program("busybox"),
    ]) {
        return;
    }
    let world = World::new().unwrap();
    for format in FORMATS {
        let manifest = written(&world, format);
        let layout = world.path(&format!("work/{format}"));
        let blob = |digest: &str| {
            layout
                .join("blobs/sha256")
                .join(digest.trim_start_matches("sha256:"))
        };
        let config = json(&blob(&manifest))["config"]["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        for (kind, file) in [
            ("imageIndex", layout.join("index.json")),
            ("manifest", blob(&manifest)),
            ("config", blob(&config)),
        ] {
            must(
                Command::new("oci-image-tool")
                    .args(["validate", "--type", kind])
                    .arg(file),
            );
        }
        let whole = |path: &Path| {
            let told = tried(
                "oci-image-tool",
                &[
                    "validate",
                    "--type",
                    "image",
                    "--ref",
                    "name=v1",
                    path.to_str().unwrap(),
                ],
            );
            (
                told.status.success(),
                String::from_utf8(told.stderr).unwrap(),
            )
        };
        // Another maker's of the same layers: whether the validator itself knows such an image.
        let other = world.path(&format!("work/{format}-other"));
        let (from, to) = (
            format!("oci:{}:v1", layout.display()),
            format!("oci:{}:v1", other.display()),
        );
        must(Command::new("skopeo").args(["copy", "-q", &from, &to]));
        match format {
            "gzip" => assert_eq!(
                (whole(&layout).0, whole(&other).0),
                (true, true),
                "{:?}",
                whole(&layout)
            ),
            // Its release is from before image-spec 1.1 had zstd: it refuses whoever's.
            _ => {
                for path in [&layout, &other] {
                    let (taken, told) = whole(path);
                    assert!(!taken && told.contains(MEDIA_TYPE), "{told}");
                }
            }
        }
        // It walks no archive at all, not even a layout of its liking that was put into one by tar.
        let archive = world.path(&format!("work/{format}-plain.tar"));
        must(
            Command::new("tar")
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&other)
                .arg("."),
        );
        for path in [archive, world.path(&format!("work/{format}.tar"))] {
            let (taken, told) = whole(&path);
            assert!(
                !taken && told.contains("unable to walk: end of walk"),
                "{told}"
            );
        }
    }
}

#[test]
fn privileged_umoci_unpacks_gzip_and_knows_no_zstd() {
    if !has(&[
        Need::Root,
        Need::Program("umoci"),
        Need::Program("skopeo"),
        Need::Program("busybox"),
    ]) {
        return;
    }
    let world = World::new().unwrap();
    for format in FORMATS {
        written(&world, format);
        let layout = world.shown(&format!("work/{format}"));
        let unpack = |layout: &str, to: &str| {
            let to = world.shown(to);
            let told = tried(
                "umoci",
                &["unpack", "--image", &format!("{layout}:v1"), &to],
            );
            let hello = std::fs::read_to_string(Path::new(&to).join("rootfs/srv/hello"));
            (
                told.status.success(),
                hello.ok(),
                String::from_utf8(told.stderr).unwrap(),
            )
        };
        let (taken, hello, told) = unpack(&layout, &format!("work/{format}-bundle"));
        if format == "gzip" {
            assert_eq!((taken, hello.as_deref()), (true, Some("hello\n")), "{told}");
            continue;
        }
        // umoci 0.4 has no zstd: what skopeo makes gzip of the same image it takes.
        assert!(
            told.contains(
                "blob is not correct mediatype: application/vnd.oci.image.layer.v1.tar+zstd"
            ),
            "{told}"
        );
        let again = world.shown("work/again");
        let (from, to) = (format!("oci:{layout}:v1"), format!("oci:{again}:v1"));
        must(Command::new("skopeo").args([
            "copy",
            "-q",
            "--dest-compress-format",
            "gzip",
            &from,
            &to,
        ]));
        let (taken, hello, told) = unpack(&again, "work/again-bundle");
        assert_eq!((taken, hello.as_deref()), (true, Some("hello\n")), "{told}");
    }
}

/// podman with all that it keeps in the world.
fn podman(world: &World, args: &[&str]) -> String {
    // Limits that a host without CAP_SYS_RESOURCE can give.
    let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:20000\", \"nproc=1024:4096\"]\n";
    let conf = world.write("run/containers.conf", limits).unwrap();
    let own = ["root", "runroot", "tmpdir"]
        .map(|part| format!("--{part}={}", world.shown(&format!("run/podman-{part}"))));
    let quiet = [
        "--storage-driver=vfs",
        "--events-backend=file",
        "--cgroup-manager=cgroupfs",
    ];
    must(
        Command::new("podman")
            // A layout's directory becomes a name, and a temporary one is none.
            .current_dir(world.path("work"))
            .args(own)
            .args(quiet)
            .args(args)
            .env("CONTAINERS_CONF", conf),
    )
}

fn podman_runs(world: &World, image: &str) -> String {
    podman(
        world,
        &["run", "--rm", "--network=none", "--runtime=runc", image],
    )
}

#[test]
fn privileged_podman_loads_and_runs_layout_archive_and_what_was_pulled() {
    if !has(&[
        Need::Root,
        Need::Program("podman"),
        Need::Program("runc"),
        Need::Program("busybox"),
    ]) {
        return;
    }
    let world = World::new().unwrap();
    for format in FORMATS {
        let digest = written(&world, format);
        for input in [format, &format!("{format}.tar")] {
            let loaded = podman(&world, &["load", "-q", "-i", input]);
            let name = loaded.trim().rsplit(": ").next().unwrap().to_owned();
            assert_eq!(podman_runs(&world, &name), "hello\n", "{input}");
            podman(&world, &["rmi", "-f", &name]);
        }
        for from in [
            format!("oci:{format}:v1"),
            format!("oci-archive:{format}.tar:v1"),
        ] {
            assert_eq!(podman_runs(&world, &from), "hello\n", "{from}");
        }
        if !has(REGISTRY) {
            continue;
        }
        // What was pulled and goes on as an archive is the same image.
        let registry = Registry::start(None, Access::Everybody).unwrap();
        let name = registry.name("test/peers:1");
        let other = World::new().unwrap();
        let out = other.shown("work/pulled.tar");
        for (world, args) in [
            (&world, vec!["push", "test/peers:1", &name]),
            (&other, vec!["pull", &name]),
            (
                &other,
                vec!["export", &name, &format!("oci-archive:{out}:v1")],
            ),
        ] {
            let ran = world.airtight(args).unwrap();
            assert_eq!(ran.code, Some(0), "{ran:?}");
        }
        let pulled = format!("oci-archive:{out}:v1");
        let seen = must(Command::new("skopeo").args(["inspect", &pulled]));
        assert!(seen.contains(&digest), "{format}: {seen}");
        assert_eq!(podman_runs(&world, &pulled), "hello\n", "{format}");
    }
}

/// `$1` the directory with the archives, `$2` where containerd lives.
const CONTAINERD: &str = r#"
work=$1; cd "$2"
cat > config.toml <<CONF
version = 2
root = "$PWD/root"
state = "$PWD/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$PWD/grpc.sock"
[ttrpc]
address = "$PWD/ttrpc.sock"
CONF
containerd -c config.toml > log 2>&1 & daemon=$!
# A namespace of its own: shims and groups are named by it.
c() { timeout 60 ctr --address "$PWD/grpc.sock" --namespace "airtight-peers-$$" "$@"; }
end() {
  kill $daemon; wait $daemon
  rmdir /sys/fs/cgroup/{,*/}airtight-peers-$$ 2>/dev/null
  grep -F " $PWD/" /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount"; done
}
trap end EXIT
until c version >/dev/null 2>&1; do kill -0 $daemon || exit 9; sleep 0.1; done
for format in gzip zstd; do
  c image import --base-name "local/$format" "$work/$format.tar" >&2 || exit 8
  echo "$format $(c run --rm --snapshotter native "local/$format:v1" "one-$format")"
done
"#;

#[test]
fn privileged_containerd_imports_and_runs_the_archives() {
    if !has(&[
        Need::Root,
        Need::Program("containerd"),
        Need::Program("ctr"),
        Need::Program("runc"),
        Need::Program("busybox"),
    ]) {
        return;
    }
    let world = World::new().unwrap();
    for format in FORMATS {
        written(&world, format);
    }
    std::fs::create_dir_all(world.path("run")).unwrap();
    let (work, run) = (world.shown("work"), world.shown("run"));
    let ran = tried(
        "timeout",
        &["120", "bash", "-c", CONTAINERD, "bash", &work, &run],
    );
    let told = String::from_utf8_lossy(&ran.stderr);
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(said, "gzip hello\nzstd hello\n", "{told}");
}

#[test]
fn skopeo_copies_both_to_where_others_read() {
    if !has(&[Need::Program("skopeo"), Need::Program("busybox")]) {
        return;
    }
    let world = World::new().unwrap();
    for format in FORMATS {
        let digest = written(&world, format);
        let out = world.shown(&format!("work/{format}"));
        for from in [format!("oci:{out}:v1"), format!("oci-archive:{out}.tar:v1")] {
            let seen = must(Command::new("skopeo").args(["inspect", &from]));
            let seen: Value = serde_json::from_str(&seen).unwrap();
            assert_eq!(seen["Digest"], digest.as_str(), "{from}");
            // Plain, so that each layer is read and held against its diffID.
            let plain = format!("oci:{}:v1", world.shown("work/plain"));
            must(Command::new("skopeo").args(["copy", "-q", "--dest-decompress", &from, &plain]));
            // Docker's own format has no zstd, and skopeo does not make it gzip by itself.
            let docker = world.shown("work/docker.tar");
            let to = format!("docker-archive:{docker}:test/peers:1");
            let told = tried("skopeo", &["copy", "-q", &from, &to]);
            let why = String::from_utf8(told.stderr).unwrap();
            let unknown = why.contains("zstd compression is not supported for docker images");
            assert_eq!(
                (told.status.success(), unknown),
                (format == "gzip", format == "zstd"),
                "{why}"
            );
            // Not written over by skopeo.
            if format == "gzip" {
                std::fs::remove_file(docker).unwrap();
            }
            std::fs::remove_dir_all(world.path("work/plain")).unwrap();
        }
    }
}
