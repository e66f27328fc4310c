//! Images that lie, at the level of the store: what is taken, what is refused, and what is left of either.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's own preparations end the test"
)]

mod imports;
mod layers;
mod store;

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
