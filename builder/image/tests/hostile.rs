//! Images that lie, at the level of the store: what is taken, what is refused, and what is left of either.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's own preparations end the test"
)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use airtight_image::layer::{Limits, hides_below, unpack};
use airtight_image::{Digest, Error, Reference, Store, bundle};
use serde_json::{Value, json};
use tar::EntryType as Kind;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn tar(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        if *kind == Kind::Symlink || *kind == Kind::Link {
            header.set_link_name(content).unwrap();
            tar.append_data(&mut header, path, &b""[..]).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn file(content: &str) -> Vec<u8> {
    tar(&[(Kind::Regular, "x", content)])
}

/// An OCI layout in the making.
struct Layout {
    dir: PathBuf,
    entries: Vec<Value>,
}

/// Type, bytes, and the diffID that the configuration says.
type Layer = (&'static str, Vec<u8>, Digest);

fn plain(bytes: Vec<u8>) -> Layer {
    let diff = Digest::of(&bytes);
    (TAR, bytes, diff)
}

impl Layout {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
        Self {
            dir,
            entries: Vec::new(),
        }
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    fn image(mut self, name: &str, layers: &[Layer], change: impl Fn(&mut Value)) -> Self {
        let blobs: Vec<Value> = layers
            .iter()
            .map(|(kind, bytes, _)| self.blob(kind, bytes))
            .collect();
        let diffs: Vec<&Digest> = layers.iter().map(|(.., diff)| diff).collect();
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let config = json!({ "architecture": arch, "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diffs } });
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let mut manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs });
        change(&mut manifest);
        let mut entry = self.blob(MANIFEST, manifest.to_string().as_bytes());
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        self.entries.push(entry);
        self
    }

    fn done(self) -> PathBuf {
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
        self.dir
    }
}

struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn layout(&self, name: &str) -> Layout {
        Layout::new(self.dir.path().join(name))
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn names(&self) -> Vec<String> {
        let images = self.store.images().unwrap();
        images.into_iter().map(|image| image.name).collect()
    }

    fn trees(&self, name: &str) -> Vec<PathBuf> {
        let image = self.store.resolve(&name.parse().unwrap()).unwrap();
        self.store
            .unpacked(&self.store.image(&image).unwrap())
            .unwrap()
    }
}

fn same(_: &mut Value) {}

fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

/// Fails where `work` hangs, which a test run would only show by its time-out.
fn in_time<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(send.send(work())));
    receive
        .recv_timeout(Duration::from_secs(20))
        .unwrap_or_else(|_| panic!("{name} hangs"))
}

#[test]
fn a_blob_is_held_against_its_diff_id_though_the_tree_is_there() {
    let at = Place::new();
    let (good, other) = (file("a"), file("b"));
    let claimed = (TAR, other.clone(), Digest::of(&good));
    let a = at
        .layout("a")
        .image("a:1", &[plain(good.clone())], same)
        .done();
    let b = at.layout("b").image("b:1", &[claimed], same).done();
    at.store.import(&a, None).unwrap();
    let error = said(at.store.import(&b, None));
    assert!(
        error.contains("unpacks to") && error.contains("fix:"),
        "{error}"
    );
    assert_eq!(at.names(), ["a:1"]);
    // Without the record, as a store of an earlier version has it, the tree is proven and not made again.
    let home = at.path("store/layers/sha256").join(Digest::of(&good).hex());
    let proof = home.join(format!("from-{}", Digest::of(&good).hex()));
    fs::remove_file(&proof).unwrap();
    at.trees("a:1");
    assert!(
        proof.exists()
            && !home
                .join(format!("from-{}", Digest::of(&other).hex()))
                .exists()
    );
    // A name that leads to such a pair nevertheless is found out.
    let entry: Value = serde_json::from_slice(&fs::read(b.join("index.json")).unwrap()).unwrap();
    fs::write(at.path("store/refs/b%1"), entry["manifests"][0].to_string()).unwrap();
    let problems = at.store.verify().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("unpacks to"),
        "{problems:?}"
    );
}

/// Paths of a tree: `x/` opaque directories, `x` others, `-x` whiteouts.
fn shape(root: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if meta.file_type().is_char_device() {
                all.insert(format!("-{name}"));
            } else if meta.is_dir() && hides_below(&path) {
                all.insert(format!("{name}/"));
            } else {
                all.insert(name);
            }
            if meta.is_dir() {
                directories.push(path);
            }
        }
    }
    all
}

#[test]
fn a_whiteout_hides_what_is_below_whatever_its_layer_puts_there() {
    use Kind::{Directory, Link, Regular, Symlink};
    for (name, entries, want) in [
        (
            "before",
            vec![
                (Regular, ".wh.d", ""),
                (Directory, "d", ""),
                (Regular, "d/new", ""),
            ],
            vec!["d/", "d/new"],
        ),
        (
            "after",
            vec![
                (Directory, "d", ""),
                (Regular, "d/new", ""),
                (Regular, ".wh.d", ""),
            ],
            vec!["d/", "d/new"],
        ),
        (
            "directory not said",
            vec![(Regular, ".wh.d", ""), (Regular, "d/e/new", "")],
            vec!["d/", "d/e", "d/e/new"],
        ),
        (
            "deep",
            vec![(Regular, "a/.wh.d", ""), (Directory, "a/d", "")],
            vec!["a", "a/d/"],
        ),
        (
            "a file",
            vec![(Regular, ".wh.f", ""), (Regular, "f", "")],
            vec!["f"],
        ),
        (
            "a file, first",
            vec![(Regular, "f", ""), (Regular, ".wh.f", "")],
            vec!["f"],
        ),
        ("nothing", vec![(Regular, ".wh.f", "")], vec!["-f"]),
        (
            "a file between",
            vec![
                (Regular, ".wh.d", ""),
                (Regular, "d", ""),
                (Directory, "d", ""),
            ],
            vec!["d/"],
        ),
        (
            "an opaque one that was replaced",
            vec![
                (Regular, "d/.wh..wh..opq", ""),
                (Regular, "d", ""),
                (Directory, "d", ""),
            ],
            vec!["d/"],
        ),
        (
            "a directory that becomes a file",
            vec![(Directory, "d", ""), (Regular, "d", "")],
            vec!["d"],
        ),
        (
            "a directory that becomes a link",
            vec![(Directory, "d", ""), (Symlink, "d", "/etc")],
            vec!["d"],
        ),
        (
            "aufs",
            vec![
                (Directory, ".wh..wh.plnk", ""),
                (Regular, ".wh..wh.plnk/1", ""),
                (Regular, ".wh..wh.aufs", ""),
            ],
            vec![],
        ),
        (
            "aufs and a link",
            vec![(Regular, "a", ""), (Link, "b", "a")],
            vec!["a", "b"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        unpack(
            tar(&entries).as_slice(),
            File::open(dir.path()).unwrap(),
            &Limits::default(),
        )
        .unwrap();
        let want: BTreeSet<String> = want.into_iter().map(str::to_owned).collect();
        assert_eq!(shape(dir.path()), want, "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = tar(&[(Regular, ".wh.a", ""), (Link, "b", "a")]);
    let error = said(unpack(
        archive.as_slice(),
        File::open(dir.path()).unwrap(),
        &Limits::default(),
    ));
    assert!(error.contains("hard link"), "{error}");
}

#[test]
fn a_layer_that_hides_all_leaves_out_the_layers_below() {
    let at = Place::new();
    let top = tar(&[
        (Kind::Regular, ".wh..wh..opq", ""),
        (Kind::Regular, "y", ""),
    ]);
    let layers = [
        plain(file("a")),
        plain(file("b")),
        plain(top.clone()),
        plain(file("c")),
    ];
    let layout = at.layout("a").image("a:1", &layers, same).done();
    at.store.import(&layout, None).unwrap();
    let trees = at.trees("a:1");
    assert_eq!(trees.len(), 2, "{trees:?}");
    assert!(trees[0].join("y").exists() && trees[1].join("x").exists());
}

#[test]
fn directories_that_no_entry_names_count_as_entries() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 6,
        ..Limits::default()
    };
    let archive = tar(&[(Kind::Regular, "a/b/c/d/e/f/g", "")]);
    let error = said(unpack(
        archive.as_slice(),
        File::open(dir.path()).unwrap(),
        &limits,
    ));
    assert!(error.contains("more than 6 entries"), "{error}");
}

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
fn a_fifo_in_the_store_is_refused_and_not_waited_for() {
    for place in ["refs/a%1", "blob"] {
        let at = Place::new();
        let layout = at
            .layout("a")
            .image("a:1", &[plain(file("a"))], same)
            .done();
        let digest = at.store.import(&layout, None).unwrap()[0].digest.clone();
        let path = match place {
            "blob" => at.path("store/blobs/sha256").join(digest.hex()),
            other => at.path("store").join(other),
        };
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let problems = in_time(place, move || {
            assert_eq!(at.names(), Vec::<String>::new());
            at.store.verify().unwrap().problems
        });
        assert!(
            problems.iter().any(|line| line.contains("no regular file")),
            "{place}: {problems:?}"
        );
    }
}

#[test]
fn a_long_list_of_layers_is_refused_before_they_are_copied() {
    let at = Place::new();
    let many = |manifest: &mut Value| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 126].into();
    };
    let layout = at
        .layout("a")
        .image("a:1", &[plain(file("a"))], many)
        .done();
    let error = said(at.store.import(&layout, None));
    assert!(
        error.contains("126 layers") && error.contains("fix:"),
        "{error}"
    );
    let saved = json!([{ "Config": "c", "RepoTags": ["a:1"], "Layers": vec!["l"; 126] }]);
    let archive = at.path("a.tar");
    let files = tar(&[
        (Kind::Regular, "manifest.json", &saved.to_string()),
        (Kind::Regular, "c", "{}"),
        (Kind::Regular, "l", "l"),
    ]);
    fs::write(&archive, files).unwrap();
    let error = said(at.store.import(&archive, None));
    assert!(
        error.contains("126 layers") && error.contains("fix:"),
        "{error}"
    );
    let blobs = at.path("store/blobs/sha256");
    assert!(
        !blobs.join(Digest::of(&file("a")).hex()).exists()
            && !blobs.join(Digest::of(b"l").hex()).exists()
    );
}

/// A zstd frame of zeros after `head`: 4 bytes for each 128 KiB.
fn zeros(head: &[u8], length: usize) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    let block = |kind: u32, last: u32, size: usize| {
        ((u32::try_from(size).unwrap() << 3) | (kind << 1) | last).to_le_bytes()
    };
    frame.extend_from_slice(&block(0, 0, head.len())[..3]);
    frame.extend_from_slice(head);
    for _ in 0..length / BLOCK {
        frame.extend_from_slice(&block(1, 0, BLOCK)[..3]);
        frame.push(0);
    }
    frame.extend_from_slice(&block(1, 1, length % BLOCK)[..3]);
    frame.push(0);
    frame
}

/// A layer whose only file has `mib` of zeros.
fn bomb(name: &str, mib: usize) -> Layer {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_size((mib as u64) << 20);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut whole = header.as_bytes().to_vec();
    let frame = zeros(&whole, (mib << 20) + 1024);
    whole.resize(512 + (mib << 20) + 1024, 0);
    (
        "application/vnd.oci.image.layer.v1.tar+zstd",
        frame,
        Digest::of(&whole),
    )
}

#[test]
fn an_image_of_small_bombs_is_one_bomb() {
    let at = Place::new();
    let one = at.layout("one").image("a:1", &[bomb("a", 60)], same).done();
    at.store.import(&one, None).unwrap();
    let two = at
        .layout("two")
        .image("a:2", &[bomb("b", 60), bomb("c", 60)], same)
        .done();
    let error = said(at.store.import(&two, None));
    assert!(error.contains("bomb") && error.contains("fix:"), "{error}");
    // What gzip makes of zeros is not one: such a layer can be built.
    let (_, _, diff) = bomb("d", 120);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut plain =
        zstd::stream::read::Decoder::new(std::io::Cursor::new(bomb("d", 120).1)).unwrap();
    std::io::copy(&mut plain, &mut gzip).unwrap();
    let layer = (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        gzip.finish().unwrap(),
        diff,
    );
    let zeros = at.layout("zeros").image("a:3", &[layer], same).done();
    at.store.import(&zeros, None).unwrap();
}

#[test]
fn an_archive_that_expands_without_measure_is_refused() {
    let at = Place::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut plain =
        zstd::stream::read::Decoder::new(std::io::Cursor::new(bomb("oci-layout", 150).1)).unwrap();
    std::io::copy(&mut plain, &mut gzip).unwrap();
    let path = at.path("a.tar.gz");
    fs::write(&path, gzip.finish().unwrap()).unwrap();
    let error = said(at.store.import(&path, None));
    assert!(
        error.contains("bomb") && error.contains("gunzip"),
        "{error}"
    );
    assert_eq!(fs::read_dir(at.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_damaged_blob_is_healed_by_storing_it_again() {
    let at = Place::new();
    let layout = at
        .layout("a")
        .image("a:1", &[plain(file("a"))], same)
        .done();
    at.store.import(&layout, None).unwrap();
    for blob in fs::read_dir(at.path("store/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(at.store.verify().unwrap().problems.len(), 4);
    at.store.import(&layout, None).unwrap();
    assert_eq!(at.store.verify().unwrap().problems, Vec::<String>::new());
    let (digest, _) = at.store.put_blob_bytes(b"config").unwrap();
    fs::write(at.path("store/blobs/sha256").join(digest.hex()), b"Config").unwrap();
    at.store.put_blob_bytes(b"config").unwrap();
    assert_eq!(at.store.verify().unwrap().problems, Vec::<String>::new());
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

#[test]
fn one_damaged_image_or_a_stray_file_does_not_hide_the_others() {
    let at = Place::new();
    for (name, content) in [("a:1", "a"), ("b:1", "b"), ("c:1", "c")] {
        let layout = at
            .layout(content)
            .image(name, &[plain(file(content))], same)
            .done();
        at.store.import(&layout, None).unwrap();
    }
    for stray in ["refs/.a.swp", "blobs/sha256/.b.swp", "layers/sha256/x"] {
        fs::write(at.path("store").join(stray), "").unwrap();
    }
    assert_eq!(at.store.gc().unwrap().blobs, 0);
    assert_eq!(at.names(), ["a:1", "b:1", "c:1"]);
    assert_eq!(at.store.verify().unwrap().problems.len(), 3);
    let bad = at.store.resolve(&"a:1".parse().unwrap()).unwrap();
    fs::write(at.path("store/blobs/sha256").join(bad.hex()), "{}").unwrap();
    fs::write(at.path("store/refs/b%1"), "{").unwrap();
    assert_eq!(at.names(), ["c:1"]);
    let damaged = at.store.damaged().unwrap();
    for said_of_it in [".a.swp", "image a:1: ", "image b:1: "] {
        assert!(
            damaged.iter().any(|line| line.contains(said_of_it)),
            "{said_of_it}: {damaged:?}"
        );
    }
    // What it needs cannot be known, so nothing is collected until its name is gone.
    for name in ["b:1", "a:1"] {
        assert!(said(at.store.gc()).contains(&format!("airtight rm {name}")));
        at.store.untag(&name.parse::<Reference>().unwrap()).unwrap();
    }
    assert!(at.store.gc().unwrap().blobs > 0);
    assert_eq!(at.names(), ["c:1"]);
}

#[test]
fn a_store_that_others_can_write_is_refused() {
    for (mode, taken) in [
        (0o700, true),
        (0o755, true),
        (0o775, false),
        (0o777, false),
        (0o1777, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = Store::open(dir.path());
        assert_eq!(opened.is_ok(), taken, "{mode:o}");
        if let Err(error) = opened {
            assert!(
                error.to_string().contains(&format!("{mode:04o}"))
                    && error.to_string().contains("fix:"),
                "{error}"
            );
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{mode:o}");
        }
    }
}

#[test]
fn verify_and_gc_wait_for_one_another() {
    let at = Place::new();
    let lock = File::create(at.path("store/lock")).unwrap();
    lock.lock().unwrap();
    let root = at.path("store");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let report = Store::open(&root).unwrap().verify();
        drop(send.send(report.unwrap().problems));
    });
    // Beside gc, what was listed would be gone when it is read.
    let waits = receive.recv_timeout(Duration::from_millis(200));
    assert_eq!(waits, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
    drop(lock);
    assert_eq!(
        receive.recv_timeout(Duration::from_secs(20)),
        Ok(Vec::new())
    );
}
