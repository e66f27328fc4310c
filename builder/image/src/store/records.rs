//! Layers that builds have made, by what they were made from. A record is believed when its text is whole, says that it is the one asked for, and the blob that it
//! names is there, unchanged since it was last read whole; anything else counts as no record, and the layer is made again.
//!
//! ```text
//! cache/layers/SHAPE/KEY    a line of JSON, and the digest of that line; its time is that of the last build that used it
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::blob::is_whole;
use super::gc::Keep;
use super::{Store, in_the_way, line, open_regular};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};

/// A record is 700 bytes.
const MAX_RECORD: u64 = 4 << 10;
const VERSION: u32 = 1;
/// What nobody used for so long goes with the next gc, though its blob may stay for an image.
pub(super) const UNUSED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Of blobs that only records hold; those that were used last stay.
const KEPT_BYTES: u64 = 10 << 30;

/// What a layer is made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerKey {
    /// Everything but the contents of files: how it is written, and each path, kind, mode, length and link.
    pub shape: Digest,
    /// The shape, and each file's content.
    pub key: Digest,
}

/// The layer that was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LayerRecord {
    /// Of the blob.
    pub digest: Digest,
    pub diff_id: DiffId,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes of the archive in it.
    pub uncompressed: u64,
    pub entries: u64,
    /// Its archive is proven, and whoever compressed it may have done so otherwise than the format says: a cache in a registry gave it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// A record as it is kept: with what it is a record of, so that it stands for nothing else under another name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kept {
    version: u32,
    of: LayerKey,
    layer: LayerRecord,
    /// The blob's file when it was last known to be whole.
    seen: Seen,
}

/// Two looks that agree in this saw the same bytes, unless somebody set the clock back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Seen {
    fn at(path: &Path) -> io::Result<(Self, u64)> {
        let found = fs::symlink_metadata(path)?;
        let seen = Self {
            device: found.dev(),
            inode: found.ino(),
            changed: (found.ctime(), found.ctime_nsec()),
        };
        Ok((seen, found.len()))
    }
}

/// Reads what a record's file holds; the bytes are hostile. What it is a record of, and the layer.
///
/// # Errors
/// Anything but one whole record of this version.
pub fn parse_layer_record(bytes: &[u8]) -> Result<(LayerKey, LayerRecord)> {
    parse(bytes).map(|kept| (kept.of, kept.layer))
}

fn parse(bytes: &[u8]) -> Result<Kept> {
    let bad = |problem: &str| {
        Error::refused(
            "a record of a layer",
            problem,
            "build again: the layer is made anew",
        )
    };
    if bytes.len() as u64 > MAX_RECORD {
        return Err(bad("is longer than 4096 bytes"));
    }
    let line = line::read(bytes).map_err(bad)?;
    let kept: Kept = serde_json::from_str(line).map_err(|_| bad("is none of this release"))?;
    if kept.version != VERSION {
        return Err(bad("is of another version"));
    }
    Ok(kept)
}

impl Store {
    /// Whether a layer of this shape was made before: if none was, no look at contents can find one.
    #[must_use]
    pub fn knows_shape(&self, shape: &Digest) -> bool {
        self.shape_path(shape).is_dir()
    }

    /// The layer that was made of `key`, with its blob in the store. From now on gc waits for this process.
    ///
    /// # Errors
    /// The store's lock; a record or blob that is not what it should be is as none.
    pub fn layer_record(&self, key: &LayerKey) -> Result<Option<LayerRecord>> {
        self.add()?;
        let path = self.record_path(key);
        let Ok(kept) = read(&path) else {
            return Ok(None);
        };
        if kept.of != *key {
            return Ok(None);
        }
        let blob = self.blob_path(&kept.layer.digest);
        match Seen::at(&blob) {
            Ok((seen, size)) if seen == kept.seen && size == kept.layer.size => {
                used(&path);
                Ok(Some(kept.layer))
            }
            // Another file than was seen then: copied, restored or damaged. It is read once.
            Ok(_) if is_whole(&blob, &kept.layer.digest, kept.layer.size) => {
                self.put_layer_record(key, &kept.layer)?;
                Ok(Some(kept.layer))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Keeps for later builds that `layer`, whose blob was just written or verified, is what `key` gives.
    ///
    /// # Errors
    /// The file system's.
    pub fn put_layer_record(&self, key: &LayerKey, layer: &LayerRecord) -> Result<()> {
        let blob = self.blob_path(&layer.digest);
        let (seen, _) = Seen::at(&blob).map_err(Error::io(&blob))?;
        let kept = Kept {
            version: VERSION,
            of: key.clone(),
            layer: layer.clone(),
            seen,
        };
        let path = self.record_path(key);
        let directory = self.shape_path(&key.shape);
        let text = line::write(&kept).map_err(Error::io(&path))?;
        let write = || -> io::Result<()> {
            // gc may take the directory while it is empty.
            for last in [false, true] {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&directory)?;
                let mut file = tempfile::NamedTempFile::new_in(self.path("tmp"))?;
                file.write_all(text.as_bytes())?;
                match file.persist(&path) {
                    Err(error) if !last && error.error.kind() == io::ErrorKind::NotFound => {}
                    other => return other.map(drop).map_err(|error| error.error),
                }
            }
            Ok(())
        };
        // Nothing waits for it to reach the disk: what a power failure leaves of it is whole by its own digest, or no record.
        write().map_err(Error::io(&path))
    }

    fn shape_path(&self, shape: &Digest) -> PathBuf {
        self.path("cache/layers").join(shape.hex())
    }

    fn record_path(&self, key: &LayerKey) -> PathBuf {
        self.shape_path(&key.shape).join(key.key.hex())
    }

    /// Removes the records that no build used lately, or all; answers the blobs that those which stay need. `named` are the blobs that are kept anyway.
    pub(super) fn collect_records(
        &self,
        named: &BTreeSet<Digest>,
        keep: Keep,
    ) -> Result<(u64, BTreeSet<Digest>)> {
        let mut records = self.records()?;
        records.sort_by(|one, other| other.used.cmp(&one.used).then(one.path.cmp(&other.path)));
        let (mut removed, mut blobs, mut bytes) = (0, BTreeSet::new(), 0_u64);
        let now = SystemTime::now();
        for record in records {
            let kept = read(&record.path).ok().filter(|_| {
                keep == Keep::Recent
                    && now.duration_since(record.used).unwrap_or_default() < UNUSED_FOR
            });
            // Of no use without its blob.
            let kept = kept.filter(|kept| self.blob_path(&kept.layer.digest).is_file());
            let extra = kept.as_ref().map_or(0, |kept| {
                let counted =
                    named.contains(&kept.layer.digest) || blobs.contains(&kept.layer.digest);
                if counted { 0 } else { kept.layer.size }
            });
            match kept {
                Some(kept) if bytes.saturating_add(extra) <= KEPT_BYTES => {
                    bytes += extra;
                    blobs.insert(kept.layer.digest);
                }
                Some(_) | None => {
                    fs::remove_file(&record.path).map_err(Error::io(&record.path))?;
                    removed += 1;
                    if let Some(shape) = record.path.parent() {
                        // Fails while another record is in it.
                        drop(fs::remove_dir(shape));
                    }
                }
            }
        }
        Ok((removed, blobs))
    }

    fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for shape in list(&self.path("cache/layers"))? {
            for path in list(&shape)? {
                let found = fs::symlink_metadata(&path).map_err(Error::io(&path))?;
                let used = found.modified().map_err(Error::io(&path))?;
                records.push(Record { path, used });
            }
        }
        Ok(records)
    }
}

struct Record {
    path: PathBuf,
    used: SystemTime,
}

fn read(path: &Path) -> Result<Kept> {
    let mut bytes = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(MAX_RECORD + 1).read_to_end(&mut bytes))
        .map_err(Error::io(path))?;
    parse(&bytes)
}

/// For gc. A store that cannot be written to is no reason to stop here: it is one where something is to be written.
fn used(path: &Path) {
    let touched = File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(SystemTime::now()));
    drop(touched);
}

/// What lies in a directory that may not be there.
fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(in_the_way(directory))?,
    };
    read.map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(Error::io(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store, LayerKey, LayerRecord) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (digest, size) = store.put_blob_bytes(b"a layer").unwrap();
        let key = LayerKey {
            shape: Digest::of(b"shape"),
            key: Digest::of(b"key"),
        };
        let record = LayerRecord {
            digest,
            diff_id: DiffId(Digest::of(b"tar")),
            size,
            uncompressed: 10_240,
            entries: 3,
            foreign: false,
        };
        store.put_layer_record(&key, &record).unwrap();
        (dir, store, key, record)
    }

    #[test]
    fn a_record_is_found_by_what_its_layer_was_made_from_and_by_nothing_else() {
        let (_dir, store, key, record) = store();
        assert_eq!(store.layer_record(&key).unwrap(), Some(record));
        assert!(store.knows_shape(&key.shape));
        assert!(!store.knows_shape(&key.key));
        let other = LayerKey {
            key: Digest::of(b"other"),
            ..key.clone()
        };
        assert_eq!(store.layer_record(&other).unwrap(), None);
        // Under another's name it is no record of that.
        fs::copy(store.record_path(&key), store.record_path(&other)).unwrap();
        assert_eq!(store.layer_record(&other).unwrap(), None);
    }

    #[test]
    fn a_record_that_is_damaged_or_whose_blob_is_gone_or_changed_is_none() {
        let (_dir, store, key, record) = store();
        let path = store.record_path(&key);
        let whole = fs::read_to_string(&path).unwrap();
        let flipped = whole.replace("10240", "10241");
        for (name, text) in [
            ("empty", String::new()),
            ("cut in the line", whole[..100].to_owned()),
            ("cut in the digest", whole[..whole.len() - 2].to_owned()),
            ("one number changed", flipped),
            ("more after it", whole.clone() + "x"),
            ("endless", " ".repeat(1 << 20)),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(store.layer_record(&key).unwrap(), None, "{name}");
        }
        fs::write(&path, &whole).unwrap();
        let blob = store.blob_path(&record.digest);
        fs::write(&blob, b"a lazer").unwrap();
        assert_eq!(store.layer_record(&key).unwrap(), None, "another blob");
        // Another file with the right bytes is read once, and then known.
        fs::write(&blob, b"a layer").unwrap();
        assert_eq!(store.layer_record(&key).unwrap(), Some(record));
        assert_ne!(fs::read_to_string(&path).unwrap(), whole);
        fs::remove_file(&blob).unwrap();
        assert_eq!(store.layer_record(&key).unwrap(), None, "no blob");
    }

    #[test]
    fn gc_keeps_what_recent_builds_used_and_no_more() {
        let (_dir, store, key, record) = store();
        let report = store.gc().unwrap();
        assert_eq!((report.blobs, report.records), (0, 0));
        assert_eq!(store.layer_record(&key).unwrap(), Some(record.clone()));
        let long_ago = SystemTime::now() - UNUSED_FOR - Duration::from_secs(60);
        let file = File::options().write(true).open(store.record_path(&key));
        file.unwrap().set_modified(long_ago).unwrap();
        let report = store.gc().unwrap();
        assert_eq!((report.blobs, report.records), (1, 1));
        assert!(!store.knows_shape(&key.shape));
        // One that was used now goes only when it is asked for.
        store.put_blob_bytes(b"a layer").unwrap();
        store.put_layer_record(&key, &record).unwrap();
        let report = store.gc_cache().unwrap();
        assert_eq!((report.blobs, report.records), (1, 1));
    }
}
