//! What a build file gave last, by all that was looked at: `cache/outcomes/HEX`, HEX of the build file's path, is a line of JSON and the digest of that line. A build that sees
//! the very same again need not plan anew. Whatever is wrong with it costs that plan.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::records::{LayerKey, LayerRecord};
use super::{Store, line, open_regular};
use crate::digest::Digest;
use crate::error::{Error, Result};

const VERSION: u32 = 1;
/// Of a hundred layers with long names.
const MAX_OUTCOME: u64 = 256 << 10;

/// A layer of an outcome; its record is beside the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeLayer {
    pub name: String,
    pub of: LayerKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// What was looked at.
    of: Digest,
    layers: Vec<OutcomeLayer>,
}

/// Reads what an outcome's file holds; the bytes are hostile. What was looked at, and the layers.
///
/// # Errors
/// Anything but one whole outcome of this version.
pub fn parse_outcome(bytes: &[u8]) -> Result<(Digest, Vec<OutcomeLayer>)> {
    let bad = |problem: &str| {
        let fix = "build again: it is made anew";
        Error::refused("the outcome of a build", problem, fix)
    };
    if bytes.len() as u64 > MAX_OUTCOME {
        return Err(bad("is longer than 256 KiB"));
    }
    let line = line::read(bytes).map_err(bad)?;
    match serde_json::from_str::<Kept>(line) {
        Ok(kept) if kept.version == VERSION => Ok((kept.of, kept.layers)),
        Ok(_) | Err(_) => Err(bad("is none of this release")),
    }
}

impl Store {
    /// The layers that the build file of `path`, a digest of it, gave when `seen` was looked at, all in the store; `None` if that is not known.
    ///
    /// # Errors
    /// The store's lock.
    pub fn outcome(
        &self,
        path: &Digest,
        seen: &Digest,
    ) -> Result<Option<Vec<(OutcomeLayer, LayerRecord)>>> {
        let mut bytes = Vec::new();
        let read = open_regular(&self.outcome_path(path))
            .and_then(|file| file.take(MAX_OUTCOME + 1).read_to_end(&mut bytes));
        if read.is_err() {
            return Ok(None);
        }
        let Ok((of, layers)) = parse_outcome(&bytes) else {
            return Ok(None);
        };
        if of != *seen {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(layers.len());
        for layer in layers {
            match self.layer_record(&layer.of)? {
                Some(record) => found.push((layer, record)),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// Keeps for later builds what the build file gave.
    ///
    /// # Errors
    /// The file system's.
    pub fn put_outcome(
        &self,
        path: &Digest,
        seen: &Digest,
        layers: Vec<OutcomeLayer>,
    ) -> Result<()> {
        let to = self.outcome_path(path);
        let kept = Kept {
            version: VERSION,
            of: seen.clone(),
            layers,
        };
        let text = line::write(&kept).map_err(Error::io(&to))?;
        let write = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(self.path("cache/outcomes"))?;
            let mut file = tempfile::NamedTempFile::new_in(self.path("tmp"))?;
            file.write_all(text.as_bytes())?;
            file.persist(&to).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(Error::io(&to))
    }

    /// Forgets what the build file gave: what it gives now is not proven.
    pub fn forget_outcome(&self, path: &Digest) {
        drop(fs::remove_file(self.outcome_path(path)));
    }

    fn outcome_path(&self, path: &Digest) -> PathBuf {
        self.path("cache/outcomes").join(path.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DiffId;

    #[test]
    fn an_outcome_is_known_by_all_that_was_seen_and_needs_all_its_layers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (digest, size) = store.put_blob_bytes(b"layer").unwrap();
        let of = LayerKey {
            shape: Digest::of(b"shape"),
            key: Digest::of(b"key"),
        };
        let record = LayerRecord {
            digest,
            diff_id: DiffId(Digest::of(b"tar")),
            size,
            uncompressed: 1024,
            entries: 1,
            foreign: false,
        };
        let (path, seen) = (Digest::of(b"/src/airtight.toml"), Digest::of(b"seen"));
        let layer = OutcomeLayer {
            name: "app".to_owned(),
            of: of.clone(),
        };
        store
            .put_outcome(&path, &seen, vec![layer.clone()])
            .unwrap();
        assert_eq!(store.outcome(&path, &seen).unwrap(), None, "no record");
        store.put_layer_record(&of, &record).unwrap();
        let found = store.outcome(&path, &seen).unwrap();
        assert_eq!(found, Some(vec![(layer, record)]));
        assert_eq!(store.outcome(&path, &path).unwrap(), None, "seen otherwise");
        assert_eq!(store.outcome(&seen, &seen).unwrap(), None, "another file");
        let whole = fs::read(store.outcome_path(&path)).unwrap();
        for at in 0..whole.len() {
            parse_outcome(&whole[..at]).unwrap_err();
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            parse_outcome(&damaged).unwrap_err();
        }
        store.forget_outcome(&path);
        assert_eq!(store.outcome(&path, &seen).unwrap(), None, "forgotten");
    }
}
