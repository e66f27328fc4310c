//! Images to and from a registry: Debian's `docker-registry`, started by each test on loopback.

mod auth;
mod cache;
mod faults;
mod tools;

use airtight_tests::registry::{Access, Fault, Proxy, REGISTRY, Registry};
use airtight_tests::{Need, Ran, World, binary, has};
use nix::sys::signal::Signal;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A store with an image of two layers, `test/app:1`; the second has `size` bytes that nothing compresses.
fn world(size: u64) -> World {
    let world = World::new().unwrap();
    write(&world, "one", size);
    world
}

fn write(world: &World, small: &str, size: u64) {
    let context = "format = 1\nname = \"test/app\"\nbase = \"scratch\"\n[[layer]]\nname = \"a\"\ncopy = [{ from = \"small\", to = \"/a\" }]\n\
        [[layer]]\nname = \"b\"\ncopy = [{ from = \"large\", to = \"/b\" }]\n[config]\nentrypoint = [\"/a\"]\n[profile]\nextends = \"service\"\n";
    world.write("work/app/airtight.toml", context).unwrap();
    let small = world.write("work/app/small", small).unwrap();
    std::fs::set_permissions(small, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if !world.path("work/app/large").exists() {
        // The same in every run, and of no pattern that a compressor knows.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let large: Vec<u8> = (0..size / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        world.write("work/app/large", large).unwrap();
    }
    done(
        world,
        &["build", &world.shown("work/app"), "-t", "test/app:1"],
    );
}

fn done(world: &World, args: &[&str]) -> Ran {
    let ran = world.airtight(args.iter().copied()).unwrap();
    assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
    ran
}

/// What a transfer says of itself.
fn told(world: &World, args: &[&str]) -> Value {
    let ran = done(world, &[args, &["--json"]].concat());
    serde_json::from_str(&ran.stdout).unwrap()
}

fn states(told: &Value) -> Vec<&str> {
    let blobs = told["blobs"].as_array().unwrap();
    blobs
        .iter()
        .map(|blob| blob["state"].as_str().unwrap())
        .collect()
}

/// The digest of the largest blob.
fn largest(told: &Value) -> (String, u64) {
    let blobs = told["blobs"].as_array().unwrap();
    let blob = blobs
        .iter()
        .max_by_key(|blob| blob["size"].as_u64())
        .unwrap();
    (
        blob["digest"].as_str().unwrap().to_owned(),
        blob["size"].as_u64().unwrap(),
    )
}

/// The store is whole, holds no name but those of its own images, and nothing half done.
fn nothing_pulled(world: &World) {
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
    let images = done(world, &["images", "--json"]).stdout;
    assert!(!images.contains("localhost:"), "{images}");
}

fn files(world: &World, sub: &str) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("home/store").join(sub)).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn only_what_is_missing_is_sent_and_a_pull_gives_back_the_same() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(3 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let to = registry.name("test/app:1");
    let first = told(&world, &["push", "test/app:1", &to]);
    assert_eq!(states(&first), ["sent"; 3]);
    let again = told(&world, &["push", "test/app:1", &to]);
    assert_eq!(states(&again), ["skipped"; 3]);
    assert_eq!(
        (&again["sent"], &again["manifests"][0]["state"]),
        (&0.into(), &"skipped".into())
    );

    let elsewhere = told(
        &world,
        &["push", "test/app:1", &registry.name("test/other:1")],
    );
    assert_eq!(states(&elsewhere), ["mounted"; 3]);

    write(&world, "two", 0);
    let changed = told(&world, &["push", "test/app:1", &to]);
    assert_eq!(
        states(&changed),
        ["sent", "sent", "skipped"],
        "configuration, the small layer, the large one"
    );
    assert!(changed["sent"].as_u64().unwrap() < 4096, "{changed}");

    let other = World::new().unwrap();
    let pulled = told(&other, &["pull", &to]);
    assert_eq!(pulled["digest"], changed["digest"]);
    assert_eq!(states(&pulled), ["received"; 3]);
    assert_eq!(states(&told(&other, &["pull", &to])), ["skipped"; 3]);
    let shown = done(&other, &["inspect", &to]).stdout;
    assert!(
        shown.contains("\"extends\":\"service\""),
        "the profile travels with the image: {shown}"
    );
    let digest = first["digest"].as_str().unwrap();
    let pinned = registry.name(&format!("test/other@{digest}"));
    let named = told(&other, &["pull", &pinned, "--name", "by/digest:1"]);
    assert_eq!(
        (&named["digest"], &named["reference"]),
        (&first["digest"], &"by/digest:1".into())
    );
    // An image that was pulled knows where it goes.
    assert_eq!(told(&other, &["push", &to])["sent"], 0);
    assert_eq!(other.airtight(["verify"]).unwrap().code, Some(0));
    assert!(files(&other, "tmp").is_empty() && files(&world, "tmp").is_empty());
}

#[test]
fn a_killed_push_goes_on_where_it_was() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(30 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let proxy = Proxy::before(registry.port).unwrap();
    let to = proxy.name("test/app:1");
    // The large layer goes in pieces of 8 MiB; the third one is under way.
    proxy.fault_after("PATCH", "/blobs/uploads/", 2, 1, Fault::Hold);
    let running = world.start(&["push", "test/app:1", &to]).unwrap();
    assert!(proxy.holds());
    running.signal(Signal::SIGKILL).unwrap();
    assert_eq!(running.wait().unwrap().code, None);
    assert!(
        !registry.has_tag("test/app", "1"),
        "a name without its blobs"
    );
    assert_eq!(files(&world, "tmp").len(), 1, "where the upload stands");
    proxy.clear();
    let again = told(&world, &["push", "--no-referrers", "test/app:1", &to]);
    let (_, size) = largest(&again);
    assert_eq!(states(&again), ["skipped", "skipped", "sent"]);
    assert_eq!(again["blobs"][2]["bytes"], size - 16 * MIB);
    let wire: u64 = proxy.seen().iter().map(|seen| seen.body).sum();
    let manifest = again["manifests"][0]["size"].as_u64().unwrap();
    assert_eq!(wire, size - 16 * MIB + manifest);
    assert!(files(&world, "tmp").is_empty());
    let other = World::new().unwrap();
    assert_eq!(told(&other, &["pull", &to])["digest"], again["digest"]);
}

#[test]
fn an_upload_goes_on_in_the_middle_of_a_piece_where_the_registry_keeps_it() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(20 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let proxy = Proxy::before(registry.port).unwrap();
    proxy.fault_after(
        "PATCH",
        "/blobs/uploads/",
        1,
        1,
        Fault::KeepRequest(3 * MIB),
    );
    let pushed = told(&world, &["push", "test/app:1", &proxy.name("test/app:1")]);
    let ranges: Vec<String> = proxy
        .of("PATCH")
        .iter()
        .filter_map(|seen| {
            let line = seen
                .head
                .lines()
                .find(|line| line.to_lowercase().starts_with("content-range:"));
            line.map(|line| {
                line.split(' ')
                    .nth(1)
                    .unwrap()
                    .split('-')
                    .next()
                    .unwrap()
                    .to_owned()
            })
        })
        .collect();
    let at = |mib: u64| (mib * MIB).to_string();
    assert_eq!(ranges, ["0".to_owned(), at(8), at(11), at(19)]);
    let pulled = told(
        &World::new().unwrap(),
        &["pull", &registry.name("test/app:1")],
    );
    assert_eq!(pulled["digest"], pushed["digest"]);
}

#[test]
fn a_terminal_sees_how_far_it_is_and_nobody_else() {
    if !has(REGISTRY) || !has(&[Need::Program("script")]) {
        return;
    }
    let world = world(MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let proxy = Proxy::before(registry.port).unwrap();
    let to = proxy.name("test/app:1");
    let push = format!("{} push test/app:1 {to}", binary("airtight").display());
    for (name, quiet, want) in [
        ("shown", "", true),
        ("quiet", " --quiet", false),
        ("as JSON", " --json", false),
    ] {
        proxy.clear();
        proxy.fault(
            "HEAD",
            "/blobs/",
            1,
            Fault::Silence(std::time::Duration::from_millis(1600)),
        );
        let ran = world
            .command("script")
            .args(["-qec", &format!("{push}{quiet}"), "/dev/null"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{name}: {text}");
        assert_eq!(text.contains("] "), want, "{name}: {text:?}");
    }
    proxy.clear();
    proxy.fault(
        "HEAD",
        "/blobs/",
        1,
        Fault::Silence(std::time::Duration::from_millis(1600)),
    );
    let ran = done(&world, &["push", "test/app:1", &to]);
    assert!(!ran.stderr.contains(['[', '\r', '\u{1b}']), "{ran:?}");
}

#[test]
fn a_killed_pull_goes_on_where_it_was_and_leaves_nothing_unverified() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(12 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let pushed = told(
        &world,
        &["push", "test/app:1", &registry.name("test/app:1")],
    );
    let (digest, size) = largest(&pushed);
    let proxy = Proxy::before(registry.port).unwrap();
    let from = proxy.name("test/app:1");
    let path: &'static str = Box::leak(digest.clone().into_boxed_str());
    proxy.fault("GET", path, 1, Fault::StallAnswer(8 * MIB));
    let other = World::new().unwrap();
    let running = other.start(&["pull", &from]).unwrap();
    assert!(proxy.holds());
    let partial = format!("home/store/tmp/p-{}", digest.trim_start_matches("sha256:"));
    let arrived = airtight_tests::wait_until(std::time::Duration::from_secs(30), || {
        std::fs::metadata(other.path(&partial)).is_ok_and(|file| file.len() >= 7 * MIB)
    });
    assert!(arrived);
    running.signal(Signal::SIGKILL).unwrap();
    running.wait().unwrap();
    nothing_pulled(&other);
    proxy.clear();
    let pulled = told(&other, &["pull", &from]);
    assert!(
        pulled["received"].as_u64().unwrap() < size - 6 * MIB,
        "{pulled}"
    );
    let ranged = proxy.of("GET").iter().any(|seen| {
        seen.path.contains(path) && seen.head.to_lowercase().contains("\r\nrange: bytes=")
    });
    assert!(ranged, "{:?}", proxy.seen());
    assert!(files(&other, "tmp").is_empty());

    // What lies there may be anything by the next time.
    let third = World::new().unwrap();
    std::fs::write(third.path(&partial), vec![7; 1024]).unwrap();
    assert_eq!(told(&third, &["pull", &from])["digest"], pushed["digest"]);
    assert_eq!(third.airtight(["verify"]).unwrap().code, Some(0));
}

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn descriptor(kind: &str, text: &str) -> Value {
    serde_json::json!({ "mediaType": kind, "digest": digest_of(text.as_bytes()), "size": text.len() })
}

fn digest_of(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    format!(
        "sha256:{}",
        String::from_utf8_lossy(&output.stdout)
            .split(' ')
            .next()
            .unwrap()
    )
}

/// An index of the image for two platforms, and a manifest that refers to it, by the tag that stands for a list.
fn put_index(registry: &Registry, image: &str) -> (String, String) {
    let image: Value = serde_json::from_str(image).unwrap();
    let mut manifest = image["manifest"].clone();
    let first = manifest.to_string();
    let mut config = image["config"].clone();
    config["architecture"] = "s390x".into();
    let config = config.to_string();
    registry
        .put_blob("multi", &digest_of(config.as_bytes()), config.as_bytes())
        .unwrap();
    manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &config);
    let second = manifest.to_string();
    let mut entries = Vec::new();
    for (text, cpu) in [(&first, "amd64"), (&second, "s390x")] {
        registry
            .put_manifest("multi", &digest_of(text.as_bytes()), OCI_MANIFEST, text)
            .unwrap();
        let mut entry = descriptor(OCI_MANIFEST, text);
        entry["platform"] = serde_json::json!({ "os": "linux", "architecture": cpu });
        entries.push(entry);
    }
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries })
            .to_string();
    registry
        .put_manifest("multi", "1", OCI_INDEX, &index)
        .unwrap();
    let empty = "{}";
    registry
        .put_blob("multi", &digest_of(b"{}"), b"{}")
        .unwrap();
    let note = "a note about all of it";
    registry
        .put_blob("multi", &digest_of(note.as_bytes()), note.as_bytes())
        .unwrap();
    let refer = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.note", "config": descriptor("application/vnd.oci.empty.v1+json", empty),
        "layers": [descriptor("text/plain", note)], "subject": descriptor(OCI_INDEX, &index),
    })
    .to_string();
    registry
        .put_manifest("multi", &digest_of(refer.as_bytes()), OCI_MANIFEST, &refer)
        .unwrap();
    let mut entry = descriptor(OCI_MANIFEST, &refer);
    entry["artifactType"] = "application/x.note".into();
    let list =
        serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] })
            .to_string();
    registry
        .put_manifest(
            "multi",
            &digest_of(index.as_bytes()).replace(':', "-"),
            OCI_INDEX,
            &list,
        )
        .unwrap();
    (index, refer)
}

#[test]
fn a_copy_has_all_platforms_and_what_refers_to_them() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(MIB);
    let (from, to) = (
        Registry::start(None, Access::Everybody).unwrap(),
        Registry::start(None, Access::Everybody).unwrap(),
    );
    done(&world, &["push", "test/app:1", &from.name("multi:single")]);
    let image = done(&world, &["inspect", "--json", "test/app:1"]).stdout;
    let (index, refer) = put_index(&from, &image);
    // Through the first registry's own list, and through the tag that stands for one.
    let list = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &refer)] }).to_string();
    let proxy = Proxy::before(from.port).unwrap();
    let path: &'static str =
        Box::leak(format!("/referrers/{}", digest_of(index.as_bytes())).into_boxed_str());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {OCI_INDEX}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{list}",
        list.len()
    );
    proxy.fault("GET", path, 9, Fault::Answer(answer));
    let other = World::new().unwrap();
    for (name, source) in [
        ("tag", from.name("multi:1")),
        ("list", proxy.name("multi:1")),
    ] {
        let repository = format!("mirror/{name}");
        let target = to.name(&format!("{repository}:1"));
        let copied = told(&other, &["copy", "--all", &source, &target]);
        assert_eq!(copied["digest"], digest_of(index.as_bytes()), "{name}");
        assert_eq!(
            copied["manifests"].as_array().unwrap().len(),
            6,
            "{name}: two images, the index, the two that refer to them, and the name: {copied}"
        );
        let list_tag = digest_of(index.as_bytes()).replace(':', "-");
        assert!(to.has_tag(&repository, &list_tag), "{name}");
        let again = told(&other, &["copy", "--all", &source, &target]);
        assert_eq!(again["sent"], 0, "{name}");
    }
    // One platform is an image, and may be pulled where it cannot run.
    let one = told(
        &other,
        &[
            "copy",
            "--platform",
            "linux/s390x",
            &from.name("multi:1"),
            &to.name("one:1"),
        ],
    );
    assert_ne!(one["digest"], digest_of(index.as_bytes()));
    let far = told(
        &other,
        &[
            "pull",
            "--platform",
            "linux/s390x",
            &to.name("mirror/tag:1"),
            "--name",
            "far:1",
        ],
    );
    assert_eq!(far["digest"], one["digest"]);
    assert_eq!(
        done(&other, &["pull", &to.name("mirror/tag:1")])
            .stdout
            .split(' ')
            .next(),
        Some(
            digest_of(
                serde_json::from_str::<Value>(&image).unwrap()["manifest"]
                    .to_string()
                    .as_bytes()
            )
            .as_str()
        )
    );
    let wrong = other
        .airtight([
            "pull",
            "--platform",
            "linux/arm64",
            &to.name("mirror/tag:1"),
        ])
        .unwrap();
    assert!(
        wrong
            .stderr
            .contains("has no image for linux/arm64; it has: linux/amd64, linux/s390x"),
        "{wrong:?}"
    );
    assert!(files(&other, "tmp").is_empty());
    // In one registry nothing is sent at all but manifests.
    let renamed = told(
        &other,
        &["copy", &from.name("multi:single"), &from.name("released:1")],
    );
    assert_eq!(states(&renamed), ["mounted"; 5]);
}
