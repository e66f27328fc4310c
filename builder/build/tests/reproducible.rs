//! What is built: immutable by construction, and the same from any directory, user and day.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::fs::{self, File, FileTimes, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use airtight_build::{BuildRequest, Built, build};
use airtight_image::Store;

const FILE: &str = r#"
format = 1
name = "golden/app:1"

[[layer]]
name = "system"
generate = ["passwd", "group", "nsswitch"]

[[layer]]
name = "app"
copy = [{ from = "tree", to = "/srv/app", exclude = ["*.pyc"] }, { from = "run.sh", to = "/bin/" }]

[config]
entrypoint = ["/bin/run.sh"]
cmd = ["--serve"]
env = { LANG = "C.UTF-8" }
workdir = "/srv/app"
labels = { "org.opencontainers.image.title" = "golden" }
expose = ["8080"]
stop-signal = "SIGTERM"

[annotations]
"org.opencontainers.image.source" = "https://example.org/golden"
"#;

/// Manifest of [`FILE`] over [`fill`]'s tree. Format 1 is these bytes: what changes them is a new number, and this one stays.
const GOLDEN: &str = "sha256:2fe5ae600598a43807c08bac5e991219aeabfb42c8faeb2ba7795fed1eeb3d75";

/// The same content each time, whatever `mode`, `age` and `order` make of the rest.
fn fill(context: &Path, mode: u32, age: Duration, reversed: bool) {
    fs::create_dir_all(context.join("tree/deep/er")).unwrap();
    let mut files = vec![
        ("tree/index.html", "<p>hello</p>\n", 0o644),
        ("tree/deep/er/data", "data\n", 0o600),
        ("tree/deep/tool", "#!/bin/sh\n", 0o6755),
        ("tree/cache.pyc", "no", 0o644),
        ("run.sh", "#!/bin/sh\n", 0o755),
    ];
    if reversed {
        files.reverse();
    }
    for (path, content, wanted) in files {
        let path = context.join(path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(wanted & !mode | 0o400)).unwrap();
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + age);
        File::open(&path).unwrap().set_times(times).unwrap();
    }
    symlink("../index.html", context.join("tree/deep/link")).unwrap();
    // Another name of the same file is another file of the image, or the number of names would show.
    if reversed {
        fs::hard_link(
            context.join("tree/index.html"),
            context.join("tree/second.html"),
        )
        .unwrap();
    } else {
        fs::write(context.join("tree/second.html"), "<p>hello</p>\n").unwrap();
    }
    fs::write(context.join("airtight.toml"), FILE).unwrap();
}

fn build_in(context: &Path, store: &Store, epoch: Option<u64>) -> Built {
    let file = context.join("airtight.toml");
    let request = BuildRequest {
        file,
        tag: None,
        outputs: vec![],
        platform: None,
        source_date_epoch: epoch,
        ..BuildRequest::default()
    };
    build(&request, store).unwrap()
}

#[test]
fn the_same_input_gives_the_same_digest_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    for (name, mode, age, reversed) in [
        ("one", 0, 1, false),
        ("two/deeper", 0o077, 1_000_000_000, true),
    ] {
        let context = dir.path().join(name);
        fill(&context, mode, Duration::from_secs(age), reversed);
        let store = Store::open(&dir.path().join(format!("{name}-store"))).unwrap();
        digests.push(build_in(&context, &store, None).digest.to_string());
    }
    assert_eq!(digests, [GOLDEN, GOLDEN]);
}

/// gzip makes a thousandth of them, which looks like a bomb.
#[test]
fn a_file_of_zeros_is_built_and_can_be_unpacked() {
    const LENGTH: u64 = 120 << 20;
    let dir = tempfile::tempdir().unwrap();
    let text = "format = 1\nname = \"a\"\n[[layer]]\nname = \"a\"\ncopy = [{ from = \"zeros\", to = \"/zeros\" }]\n";
    fs::write(dir.path().join("airtight.toml"), text).unwrap();
    let zeros = File::create(dir.path().join("zeros")).unwrap();
    zeros.set_len(LENGTH).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let built = build_in(dir.path(), &store, None);
    let trees = store
        .unpacked(&store.image(&built.digest).unwrap())
        .unwrap();
    assert_eq!(trees[0].join("zeros").metadata().unwrap().len(), LENGTH);
}

#[test]
fn another_epoch_is_another_image_and_one_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0, Duration::ZERO, false);
    let store = Store::open(&dir.path().join("store")).unwrap();
    assert_ne!(
        build_in(dir.path(), &store, Some(1)).digest.to_string(),
        GOLDEN
    );
    let request = BuildRequest {
        file: dir.path().join("airtight.toml"),
        tag: None,
        outputs: vec![],
        platform: None,
        source_date_epoch: Some(1 << 33),
        ..BuildRequest::default()
    };
    assert_eq!(
        build(&request, &store).map(|_| ()).unwrap_err().to_string(),
        "SOURCE_DATE_EPOCH is 8589934592, which a layer cannot hold\n  fix: use seconds since 1970, at most 8589934591"
    );
}

#[test]
fn every_entry_is_root_s_and_nobody_may_write_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0, Duration::ZERO, false);
    let store = Store::open(&dir.path().join("store")).unwrap();
    let built = build_in(dir.path(), &store, Some(86_400));
    let image = store.image(&built.digest).unwrap();
    let mut seen = Vec::new();
    for (layer, _) in image.layers() {
        let mut bytes = Vec::new();
        store
            .open_blob(layer)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            let path = entry.path().unwrap().display().to_string();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (0, 0, 86_400),
                "{path}"
            );
            seen.push(format!("{path} {:o}", header.mode().unwrap()));
        }
    }
    let want = [
        "etc/ 555",
        "etc/group 444",
        "etc/nsswitch.conf 444",
        "etc/passwd 444",
        "bin/ 555",
        "bin/run.sh 555",
        "srv/ 555",
        "srv/app/ 555",
        "srv/app/deep/ 555",
        "srv/app/deep/er/ 555",
        "srv/app/deep/er/data 444",
        "srv/app/deep/link 777",
        "srv/app/deep/tool 555",
        "srv/app/index.html 444",
        "srv/app/second.html 444",
    ];
    assert_eq!(seen, want);
}

#[test]
fn the_configuration_says_what_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0, Duration::ZERO, false);
    let store = Store::open(&dir.path().join("store")).unwrap();
    let built = build_in(dir.path(), &store, None);
    let image = store.image(&built.digest).unwrap();
    let config = serde_json::to_value(image.config.config().as_ref().unwrap()).unwrap();
    let want = serde_json::json!({
        "Entrypoint": ["/bin/run.sh"],
        "Cmd": ["--serve"],
        "Env": ["LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "ExposedPorts": { "8080/tcp": {} },
        "Labels": { "org.opencontainers.image.title": "golden" },
        "StopSignal": "SIGTERM",
        "User": "65532:65532",
        "WorkingDir": "/srv/app",
    });
    let expose = serde_json::json!(["8080/tcp"]);
    let mut got = config;
    if got["ExposedPorts"] == expose {
        got["ExposedPorts"] = want["ExposedPorts"].clone();
    }
    assert_eq!(got, want);
    assert_eq!(built.name.to_string(), "golden/app:1");
    assert_eq!(
        store.resolve(&"golden/app:1".parse().unwrap()).unwrap(),
        built.digest
    );
}
