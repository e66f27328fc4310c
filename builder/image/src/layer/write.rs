//! Writing a layer: a tar archive in the dialect of format 1, sorted, compressed as it is written. The uncompressed bytes, the compressed ones and each
//! file's are hashed as they pass.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::encode::Compression;
use super::header::{self, Kind};
use super::pipeline::Pipeline;
use crate::digest::DiffId;
use crate::error::{Error, Result};

/// How a layer is written. The same entries in the same form give the same bytes; the number of workers is not part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Modification time of every entry, in seconds since 1970.
    pub epoch: u64,
    pub compression: Compression,
    /// Threads that compress, at most; 1 is the caller's own.
    pub workers: NonZeroUsize,
}

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub diff_id: DiffId,
    /// Bytes of the archive.
    pub uncompressed: u64,
    /// SHA-256 of the content of each file, in their order: taken as it passed, so that nobody reads a file twice.
    pub contents: Vec<[u8; 32]>,
}

/// Writes one layer to `out`. Entries come in the order of their paths.
pub struct LayerWriter<W: Write> {
    out: Pipeline<W>,
    epoch: u64,
    last: PathBuf,
}

impl<W: Write> std::fmt::Debug for LayerWriter<W> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("LayerWriter")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl<W: Write> LayerWriter<W> {
    /// # Errors
    /// The writer's.
    pub fn new(out: W, form: &Form) -> Result<Self> {
        let Form {
            epoch,
            compression,
            workers,
        } = *form;
        let out =
            Pipeline::begin(out, compression, workers).map_err(Error::io(Path::new(SHOWN)))?;
        Ok(Self {
            out,
            epoch,
            last: PathBuf::new(),
        })
    }

    /// # Errors
    /// An entry out of order, or the writer's.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.header(path.as_ref(), Kind::Directory, mode)
    }

    /// `content` is read until it has given `length` bytes; where it is asked for one more than it has left, it may say that there is more than
    /// was planned.
    ///
    /// # Errors
    /// An entry out of order, content that is not `length` bytes, or the reader's or writer's.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        length: u64,
        mut content: impl Read,
    ) -> Result<()> {
        let path = path.as_ref();
        self.header(path, Kind::File(length), mode)?;
        let wrong = |problem: String| {
            let fix = "build again when nothing writes to it";
            Err(Error::refused(path.display(), problem, fix))
        };
        let mut own = self.out.file(length).map(|file| (file, Sha256::new()));
        let mut left = length;
        while left > 0 {
            let room = self.out.room();
            let asked = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .saturating_add(1)
                .min(room.len());
            let room = &mut room[..asked];
            let count = match content.read(room) {
                Ok(count) => count,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(Error::io(path)(err)),
            };
            if count == 0 {
                return wrong(format!("ended after {} of {length} bytes", length - left));
            }
            if count as u64 > left {
                return wrong(format!("has more than {length} bytes"));
            }
            if let Some((_, hasher)) = &mut own {
                hasher.update(&room[..count]);
            }
            self.out.advance(count).map_err(Error::io(path))?;
            left -= count as u64;
        }
        let over = usize::try_from(length % header::BLOCK as u64).unwrap_or(0);
        if over > 0 {
            let zeros = &[0; header::BLOCK][over..];
            self.out.write_all(zeros).map_err(Error::io(path))?;
        }
        if let Some((file, hasher)) = own {
            self.out.digest(file, hasher.finalize().into());
        }
        Ok(())
    }

    /// # Errors
    /// An entry out of order, or the writer's.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        self.header(path.as_ref(), Kind::Symlink(target.as_ref()), 0o777)
    }

    /// Ends the archive; `out` has all of it.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> Result<Sealed> {
        let fail = Error::io(Path::new(SHOWN));
        let sealed = self
            .out
            .write_all(&[0; 2 * header::BLOCK])
            .and_then(|()| self.out.finish())
            .map_err(fail)?;
        Ok(Sealed {
            diff_id: sealed.diff_id,
            uncompressed: sealed.length,
            contents: sealed.digests,
        })
    }

    fn header(&mut self, path: &Path, kind: Kind<'_>, mode: u32) -> Result<()> {
        if path <= self.last.as_path() && !self.last.as_os_str().is_empty() {
            let problem = format!("comes after {}", self.last.display());
            return Err(Error::refused(
                path.display(),
                problem,
                "write a layer's entries in the order of their paths",
            ));
        }
        path.clone_into(&mut self.last);
        self.out
            .write_all(&header::entry(path, kind, mode, self.epoch))
            .map_err(Error::io(path))
    }
}

/// The layer in messages that are about no entry.
const SHOWN: &str = "layer";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn form(epoch: u64) -> Form {
        Form {
            epoch,
            compression: Compression::Gzip,
            workers: NonZeroUsize::MIN,
        }
    }

    fn sample(epoch: u64) -> (Vec<u8>, DiffId) {
        let mut bytes = Vec::new();
        let mut layer = LayerWriter::new(&mut bytes, &form(epoch)).unwrap();
        layer.directory("a", 0o555).unwrap();
        layer.file("a/b", 0o444, 5, &b"hello"[..]).unwrap();
        layer.symlink("a/c", "b").unwrap();
        layer
            .file(format!("a/{}", "long".repeat(60)), 0o444, 0, &b""[..])
            .unwrap();
        let diff = layer.finish().unwrap().diff_id;
        (bytes, diff)
    }

    #[test]
    fn the_same_entries_give_the_same_bytes_and_a_tar_reader_takes_them() {
        let (bytes, diff) = sample(0);
        assert_eq!(sample(0), (bytes.clone(), diff.clone()));
        assert_ne!(sample(1).1, diff);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "a/".to_owned(),
                "a/b".into(),
                "a/c".into(),
                format!("a/{}", "long".repeat(60))
            ]
        );
    }

    #[test]
    fn an_entry_out_of_order_or_of_another_length_is_refused() {
        let mut layer = LayerWriter::new(Vec::new(), &form(0)).unwrap();
        layer.file("b", 0o444, 0, &b""[..]).unwrap();
        assert!(
            layer
                .file("a", 0o444, 0, &b""[..])
                .unwrap_err()
                .to_string()
                .contains("comes after b")
        );
        assert!(
            layer
                .file("c", 0o444, 3, &b"xy"[..])
                .unwrap_err()
                .to_string()
                .contains("ended after 2 of 3 bytes")
        );
    }

    /// About nine pieces of gzip and two of zstd, of which one ends exactly with a file.
    fn large(compression: Compression, workers: usize) -> (Vec<u8>, DiffId) {
        let form = Form {
            epoch: 1,
            compression,
            workers: NonZeroUsize::new(workers).unwrap(),
        };
        let mut bytes = Vec::new();
        let mut layer = LayerWriter::new(&mut bytes, &form).unwrap();
        let mut contents = Vec::new();
        let mut state = 7_u32;
        for number in 0..40 {
            let length = match number {
                0 => compression.piece() - 512,
                _ => 30_000 + 997 * number,
            };
            let content: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b'a' + (state.to_le_bytes()[3] >> 4)
                })
                .collect();
            let path = format!("f{number:02}");
            layer
                .file(path, 0o444, length as u64, content.as_slice())
                .unwrap();
            contents.push(Digest::of(&content).to_bytes());
        }
        let sealed = layer.finish().unwrap();
        assert_eq!(sealed.contents, contents);
        (bytes, sealed.diff_id)
    }

    #[test]
    fn the_number_of_workers_changes_no_byte() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (bytes, diff) = large(compression, 1);
            let mut plain = Vec::new();
            match compression {
                Compression::Gzip => flate2::read::MultiGzDecoder::new(bytes.as_slice())
                    .read_to_end(&mut plain)
                    .unwrap(),
                Compression::Zstd => zstd::stream::read::Decoder::new(bytes.as_slice())
                    .unwrap()
                    .read_to_end(&mut plain)
                    .unwrap(),
            };
            assert_eq!(DiffId(Digest::of(&plain)), diff);
            for workers in [2, 5, 64] {
                let same = large(compression, workers) == (bytes.clone(), diff.clone());
                assert!(same, "{compression:?} with {workers} workers");
            }
        }
    }

    #[test]
    fn a_writer_that_fails_ends_the_layer_and_its_threads() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(bytes.len())
                    .ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for workers in [1, 4] {
            let form = Form {
                workers: NonZeroUsize::new(workers).unwrap(),
                ..form(0)
            };
            let mut layer = LayerWriter::new(Full(10_000), &form).unwrap();
            let mut told = None;
            for number in 10..60 {
                let noise: Vec<u8> = (0..500_000_u32)
                    .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2])
                    .collect();
                let file = layer.file(format!("{number}"), 0o444, 500_000, noise.as_slice());
                if let Err(err) = file {
                    told = Some(err.to_string());
                    break;
                }
            }
            let told = told.or_else(|| layer.finish().err().map(|err| err.to_string()));
            assert!(told.unwrap().contains("no storage space"), "{workers}");
        }
    }

    /// Directories of `d`, files of `f` and links of `l`, so that no entry is in the way of another; names as hostile as a file system takes them.
    fn entries() -> impl Strategy<Value = BTreeMap<PathBuf, Vec<u8>>> {
        let name = "[a-z. \n\u{e9}\\\\%]{1,12}|[a-z]{90,120}";
        let path = (prop::collection::vec(name, 0..5), "[fl]", name);
        let one = (path, prop::collection::vec(any::<u8>(), 0..1500));
        prop::collection::vec(one, 0..12).prop_map(|list| {
            let mut all = BTreeMap::new();
            for ((directories, kind, name), content) in list {
                let mut path = PathBuf::new();
                for directory in directories {
                    path.push(format!("d{directory}"));
                    all.insert(path.clone(), Vec::new());
                }
                all.insert(path.join(format!("{kind}{name}")), content);
            }
            all
        })
    }

    fn kind(path: &Path) -> u8 {
        path.file_name().unwrap().as_encoded_bytes()[0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_what_is_unpacked(entries in entries()) {
            let mut bytes = Vec::new();
            let mut layer = LayerWriter::new(&mut bytes, &form(7)).unwrap();
            for (path, content) in &entries {
                match kind(path) {
                    b'd' => layer.directory(path, 0o555).unwrap(),
                    b'l' => layer.symlink(path, Path::new("x").join(path)).unwrap(),
                    _ => {
                        let length = content.len() as u64;
                        layer.file(path, 0o444, length, content.as_slice()).unwrap();
                    }
                }
            }
            layer.finish().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let root = std::fs::File::open(dir.path()).unwrap();
            let limits = crate::layer::Limits::default();
            crate::layer::unpack(flate2::read::GzDecoder::new(bytes.as_slice()), &root, &limits).unwrap();
            for (path, content) in &entries {
                let found = dir.path().join(path);
                let meta = std::fs::symlink_metadata(&found).unwrap();
                match kind(path) {
                    b'd' => prop_assert!(meta.is_dir()),
                    b'l' => prop_assert_eq!(std::fs::read_link(&found).unwrap(), Path::new("x").join(path)),
                    _ => prop_assert_eq!(&std::fs::read(&found).unwrap(), content),
                }
            }
            // A user cannot remove what lies in directories without a write bit.
            for path in entries.keys().filter(|path| kind(path) == b'd') {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(dir.path().join(path), mode).unwrap();
            }
        }
    }
}
