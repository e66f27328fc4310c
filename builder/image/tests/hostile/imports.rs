//! What comes from outside: layouts and archives, their documents, and what becomes of a failure.

use super::*;

#[test]
fn a_fifo_or_a_device_in_a_files_place_is_refused_and_not_waited_for() {
    for (place, device) in [
        ("index.json", false),
        ("oci-layout", false),
        ("blob", false),
        ("index.json", true),
        ("archive", false),
    ] {
        let at = Place::new();
        let mut layout = at
            .layout("a")
            .image("a:1", &[plain(file("a"))], same)
            .done();
        let path = match place {
            "blob" => layout
                .join("blobs/sha256")
                .join(Digest::of(&file("a")).hex()),
            "archive" => {
                layout = at.path("fifo");
                layout.clone()
            }
            other => layout.join(other),
        };
        drop(fs::remove_file(&path));
        if device {
            std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        } else {
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let error = in_time(place, move || said(at.store.import(&layout, None)));
        assert!(error.contains("fix:"), "{place}: {error}");
    }
}

#[test]
fn an_import_that_fails_leaves_no_name() {
    let at = Place::new();
    let bad = tar(&[(Kind::Fifo, "p", "")]);
    let layout = at
        .layout("a")
        .image("a:1", &[plain(file("a"))], same)
        .image("a:2", &[plain(bad.clone())], same)
        .done();
    assert!(said(at.store.import(&layout, None)).contains("named pipe"));
    assert_eq!(at.names(), Vec::<String>::new());
    let config = |diff: &[u8]| {
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [Digest::of(diff)] } }).to_string()
    };
    let saved = json!([
        { "Config": "c1", "RepoTags": ["a:1"], "Layers": ["l1"] },
        { "Config": "c2", "RepoTags": ["a:2"], "Layers": ["l2"] },
    ]);
    let good = file("a");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let archive = tar(&[
        (Kind::Regular, "manifest.json", &saved.to_string()),
        (Kind::Regular, "c1", &config(&good)),
        (Kind::Regular, "c2", &config(&bad)),
        (Kind::Regular, "l1", &text(&good)),
        (Kind::Regular, "l2", &text(&bad)),
    ]);
    let path = at.path("a.tar");
    fs::write(&path, archive).unwrap();
    assert!(said(at.store.import(&path, None)).contains("named pipe"));
    assert_eq!(at.names(), Vec::<String>::new());
}

#[test]
fn a_user_is_looked_up_as_the_payload_will_see_the_image() {
    use Kind::{Directory, Regular, Symlink};
    let low: &[(Kind, &str, &str)] = &[
        (Regular, "etc/passwd", "web:x:7:7::/:\n"),
        (Regular, "cfg/passwd", "web:x:8:8::/:\n"),
    ];
    for (name, high, want) in [
        ("nothing there", vec![(Directory, "etc", "")], Some(7)),
        (
            "a file beside it",
            vec![(Regular, "etc/hosts", "")],
            Some(7),
        ),
        ("hidden", vec![(Regular, "etc/.wh.passwd", "")], None),
        ("its directory hidden", vec![(Regular, ".wh.etc", "")], None),
        (
            "its directory opaque",
            vec![(Regular, "etc/.wh..wh..opq", "")],
            None,
        ),
        (
            "its directory made anew",
            vec![(Regular, ".wh.etc", ""), (Directory, "etc", "")],
            None,
        ),
        ("all hidden", vec![(Regular, ".wh..wh..opq", "")], None),
        ("its directory a file", vec![(Regular, "etc", "")], None),
        (
            "its directory a link",
            vec![(Symlink, "etc", "/cfg")],
            Some(8),
        ),
        (
            "itself a link below",
            vec![(Symlink, "etc/passwd", "../cfg/passwd")],
            Some(8),
        ),
        (
            "a link out",
            vec![(Symlink, "etc/passwd", "../../../cfg/./passwd")],
            Some(8),
        ),
        (
            "a link to itself",
            vec![(Symlink, "etc/passwd", "passwd")],
            None,
        ),
        (
            "a link to nothing",
            vec![(Symlink, "etc/passwd", "/nowhere/passwd")],
            None,
        ),
        (
            "a link that is not what it looks like",
            vec![(Symlink, "etc/passwd", "/cfg/../etc/passwd")],
            None,
        ),
        ("a directory", vec![(Directory, "etc/passwd", "")], None),
        (
            "replaced",
            vec![(Regular, "etc/passwd", "web:x:9:9::/:\n")],
            Some(9),
        ),
    ] {
        let at = Place::new();
        let layers = [plain(tar(low)), plain(tar(&high))];
        let layout = at.layout("a").image("a:1", &layers, same).done();
        at.store.import(&layout, None).unwrap();
        let uid = bundle::resolve_user(&at.trees("a:1"), "web")
            .ok()
            .map(|ids| ids.0);
        assert_eq!(uid, want, "{name}");
    }
}

#[test]
fn an_index_without_an_image_is_refused() {
    let at = Place::new();
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let layout = at.layout("a");
    let platform = |mut entry: Value, arch: &str| {
        entry["platform"] = json!({ "os": "linux", "architecture": arch });
        entry
    };
    let index = |entries: Vec<Value>| {
        layout.blob(
            INDEX,
            json!({ "schemaVersion": 2, "manifests": entries })
                .to_string()
                .as_bytes(),
        )
    };
    let one = layout.blob(MANIFEST, b"{}");
    for (name, document, said_of_it) in [
        (
            "empty",
            json!({ "schemaVersion": 2, "manifests": [] }),
            "no image",
        ),
        (
            "schema",
            json!({ "schemaVersion": 9, "manifests": [] }),
            "schema version 9",
        ),
        (
            "of docker's first schema",
            json!({ "schemaVersion": 2, "manifests": [layout.blob("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}")] }),
            "no image",
        ),
        (
            "no manifests",
            json!({ "schemaVersion": 2 }),
            "missing field `manifests`",
        ),
        (
            "nested empty",
            json!({ "schemaVersion": 2, "manifests": [index(vec![])] }),
            "without an image",
        ),
        (
            "nested twice",
            json!({ "schemaVersion": 2, "manifests": [index(vec![platform(index(vec![one.clone()]), arch)])] }),
            "an index in an index",
        ),
        (
            "nested without platforms",
            json!({ "schemaVersion": 2, "manifests": [index(vec![one.clone()])] }),
            "says of none",
        ),
        (
            "nested for others",
            json!({ "schemaVersion": 2, "manifests": [index(vec![platform(one.clone(), "s390x")])] }),
            "has images for linux/s390x and none for",
        ),
    ] {
        fs::write(layout.dir.join("index.json"), document.to_string()).unwrap();
        let error = said(at.store.import(&layout.dir, None));
        assert!(
            error.contains(said_of_it) && error.contains("fix:"),
            "{name}: {error}"
        );
    }
}

#[test]
fn what_is_no_archive_is_told_so() {
    let at = Place::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &file("a")).unwrap();
    let mut cut = gzip.finish().unwrap();
    cut.truncate(40);
    for (name, bytes, said_of_it) in [
        ("empty", Vec::new(), "is no archive of images"),
        ("text", vec![b'x'; 2000], "no tar archive"),
        (
            "a tar of something",
            file("a"),
            "neither oci-layout nor manifest.json",
        ),
        ("cut gzip", cut, ""),
    ] {
        let path = at.path("a.tar");
        fs::write(&path, bytes).unwrap();
        let error = said(at.store.import(&path, None));
        assert!(
            error.contains(said_of_it) && error.matches("fix:").count() == 1,
            "{name}: {error}"
        );
        assert!(
            error.contains(&path.display().to_string()),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_wrong_size_is_told_of_the_image_and_not_of_the_store() {
    let at = Place::new();
    let good = at
        .layout("a")
        .image("a:1", &[plain(file("a"))], same)
        .done();
    at.store.import(&good, None).unwrap();
    for size in [1, 1 << 20] {
        let bad = at
            .layout("b")
            .image("b:1", &[plain(file("a"))], |m| {
                m["layers"][0]["size"] = json!(size)
            })
            .done();
        let error = said(at.store.import(&bad, None));
        assert!(error.contains(&bad.display().to_string()), "{error}");
        assert!(
            !error.contains("store") && error.contains("get it again"),
            "{error}"
        );
    }
    assert_eq!(at.store.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_document_that_is_none_is_told_by_key() {
    let digest = Digest::of(b"x");
    let error = said(airtight_image::parse_manifest(
        b"{\"schemaVersion\":2}",
        &digest,
    ));
    assert!(error.contains("missing field `config`"), "{error}");
    let error = said(airtight_image::parse_index(
        b"{\"schemaVersion\":2}",
        Path::new("i"),
    ));
    assert!(error.contains("missing field `manifests`"), "{error}");
}
