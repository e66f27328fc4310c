//! Images that lie, at the level of the store: what is taken, what is refused, and what is left of either.

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
