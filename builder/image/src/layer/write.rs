//! Writing a layer: a tar archive in the dialect of format 1, sorted, compressed as it is written. The uncompressed bytes, the compressed ones and each
//! file's are hashed as they pass.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use super::encode::Compression;
use super::layout::Layout;
use super::pipeline;
use crate::digest::DiffId;
use crate::error::Error;

/// How a layer is written. The same entries in the same form give the same bytes; the number of workers is not part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Modification time of every entry, in seconds since 1970.
    pub epoch: u64,
    pub compression: Compression,
    /// Threads that read and compress, at most; 1 is the caller's own.
    pub workers: NonZeroUsize,
}

/// One entry of a layer that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct LayerEntry<'a, C> {
    /// From the root, without a slash at the start.
    pub path: &'a Path,
    pub item: LayerItem<'a, C>,
}

/// What it is; owner and time are the same for all.
#[derive(Clone, Copy, Debug)]
pub enum LayerItem<'a, C> {
    Directory {
        mode: u32,
    },
    Symlink {
        target: &'a Path,
    },
    File {
        mode: u32,
        /// Bytes.
        length: u64,
        content: C,
    },
}

/// What a file holds, for whichever thread makes the piece of the archive that it lies in. A large file is read in parts, in any order and at the same time.
pub trait Content: Copy + Send + Sync {
    /// What a thread keeps from one file to the next.
    type Hand: Default;
    type Error: From<Error> + Send;

    /// Fills `into` with the bytes from `at` on. Whether what they are can be known later without reading them.
    ///
    /// # Errors
    /// The reader's; a file of another length than was said.
    fn read(&self, hand: &mut Self::Hand, at: u64, into: &mut [u8]) -> Result<bool, Self::Error>;
}

/// Bytes in memory.
impl Content for &[u8] {
    type Hand = ();
    type Error = Error;

    fn read(&self, (): &mut (), at: u64, into: &mut [u8]) -> Result<bool, Error> {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let there = self
            .get(from..)
            .and_then(|rest| rest.get(..into.len()))
            .ok_or_else(|| {
                let wanted = at.saturating_add(into.len() as u64);
                Error::refused(
                    "a file of a layer",
                    format!("has {} bytes and should have {wanted}", self.len()),
                    "say how long it is",
                )
            })?;
        into.copy_from_slice(there);
        Ok(true)
    }
}

/// What a file was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// SHA-256 of the content.
    pub digest: [u8; 32],
    /// What [`Content::read`] said of all of it.
    pub steady: bool,
}

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub diff_id: DiffId,
    /// Bytes of the archive.
    pub uncompressed: u64,
    /// Of each file, in their order: taken as it passed, so that nobody reads a file twice.
    pub contents: Vec<Held>,
}

/// Writes one layer to `out`. Entries come in the order of their paths.
///
/// # Errors
/// An entry out of order, what [`Content::read`] says, the writer's. Of several the first in the archive, whatever the threads.
pub fn write<'a, W, C>(
    out: W,
    form: &Form,
    entries: impl Iterator<Item = LayerEntry<'a, C>> + Send,
) -> Result<Sealed, C::Error>
where
    W: Write + Send,
    C: Content,
{
    let Form {
        epoch,
        compression,
        workers,
    } = *form;
    pipeline::run(out, compression, workers, Layout::of(entries, epoch))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{self, Read as _};
    use std::path::PathBuf;

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

    fn file<C>(path: &Path, length: usize, content: C) -> LayerEntry<'_, C> {
        let item = LayerItem::File {
            mode: 0o444,
            length: length as u64,
            content,
        };
        LayerEntry { path, item }
    }

    fn of<'a>(path: &'a str, content: &'a str) -> LayerEntry<'a, &'a [u8]> {
        file(path.as_ref(), content.len(), content.as_bytes())
    }

    fn sample(epoch: u64) -> (Vec<u8>, DiffId) {
        let mut bytes = Vec::new();
        let long = format!("a/{}", "long".repeat(60));
        let directory = LayerItem::Directory { mode: 0o555 };
        let link = LayerItem::Symlink {
            target: "b".as_ref(),
        };
        let as_is = |path: &'static str, item| LayerEntry {
            path: path.as_ref(),
            item,
        };
        let entries = [
            as_is("a", directory),
            of("a/b", "hello"),
            as_is("a/c", link),
            of(&long, ""),
        ];
        let sealed = write(&mut bytes, &form(epoch), entries.into_iter()).unwrap();
        (bytes, sealed.diff_id)
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
        let short = file("c".as_ref(), 3, &b"xy"[..]);
        for (entries, want) in [
            (vec![of("b", ""), of("a", "")], "comes after b"),
            (vec![of("b", ""), short], "has 2 bytes and should have 3"),
        ] {
            let told = write(Vec::new(), &form(0), entries.into_iter()).unwrap_err();
            assert!(told.to_string().contains(want), "{told}");
        }
    }

    /// About nine pieces of gzip and two of zstd, of which one ends exactly with a file and one with a header.
    fn large(compression: Compression, workers: usize) -> (Vec<u8>, DiffId) {
        let form = Form {
            epoch: 1,
            compression,
            workers: NonZeroUsize::new(workers).unwrap(),
        };
        let mut state = 7_u32;
        let content = |number: usize| -> Vec<u8> {
            let length = match number {
                0 => compression.piece() - 512,
                1 => compression.piece() - 1024,
                2 => 0,
                _ => 30_000 + 997 * number,
            };
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b'a' + (state.to_le_bytes()[3] >> 4)
            };
            (0..length).map(|_| next()).collect()
        };
        let contents: Vec<_> = (0..40).map(content).collect();
        let paths: Vec<_> = (0..40).map(|number| format!("f{number:02}")).collect();
        let entries = paths
            .iter()
            .zip(&contents)
            .map(|(path, content)| file(path.as_ref(), content.len(), content.as_slice()));
        let mut bytes = Vec::new();
        let sealed = write(&mut bytes, &form, entries).unwrap();
        let held = contents.iter().map(|content| Held {
            digest: Digest::of(content).to_bytes(),
            steady: true,
        });
        assert_eq!(sealed.contents, held.collect::<Vec<_>>());
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
                for _ in 0..3 {
                    let same = large(compression, workers) == (bytes.clone(), diff.clone());
                    assert!(same, "{compression:?} with {workers} workers");
                }
            }
        }
    }

    /// Zeros that come late, or not at all.
    #[derive(Clone, Copy)]
    struct Slow {
        /// Microseconds for a part of an even number.
        even: u64,
        /// Of the part that is not steady, and of those that cannot be read.
        shaky: u64,
        lost: &'static [u64],
    }

    impl Content for Slow {
        type Hand = ();
        type Error = Error;

        fn read(&self, (): &mut (), at: u64, into: &mut [u8]) -> Result<bool, Error> {
            let part = at.div_ceil(Compression::Gzip.piece() as u64);
            if part.is_multiple_of(2) {
                std::thread::sleep(std::time::Duration::from_micros(self.even));
            }
            if self.lost.contains(&part) {
                return Err(Error::refused(part, "is lost", "find it"));
            }
            into.fill(0);
            Ok(part != self.shaky)
        }
    }

    #[test]
    fn a_file_in_parts_is_as_steady_as_the_least_of_them_and_the_first_error_is_told() {
        let length = 40 * Compression::Gzip.piece();
        let digest = Digest::of(&vec![0; length]).to_bytes();
        for workers in [1, 2, 6] {
            let form = Form {
                workers: NonZeroUsize::new(workers).unwrap(),
                ..form(0)
            };
            let written = |even, shaky, lost| {
                let content = Slow { even, shaky, lost };
                let entries = [file("f".as_ref(), length, content)];
                write(Vec::new(), &form, entries.into_iter())
            };
            for (shaky, steady) in [(0, false), (17, false), (40, false), (41, true)] {
                let sealed = written(10, shaky, &[]).unwrap();
                assert_eq!(sealed.contents, [Held { digest, steady }], "{shaky}");
            }
            // The later of the two is met first.
            let told = written(20_000, 99, &[8, 9]).unwrap_err().to_string();
            assert!(told.starts_with("8: is lost"), "{workers}: {told}");
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
        let noise: Vec<u8> = (0..500_000_u32)
            .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2])
            .collect();
        let paths: Vec<_> = (10..60).map(|number| number.to_string()).collect();
        for workers in [1, 4] {
            let form = Form {
                workers: NonZeroUsize::new(workers).unwrap(),
                ..form(0)
            };
            let one = |path| file(Path::new(path), noise.len(), noise.as_slice());
            let entries = paths.iter().map(one);
            let told = write(Full(10_000), &form, entries).unwrap_err();
            assert!(told.to_string().contains("no storage space"), "{workers}");
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
            let targets: Vec<_> = entries.keys().map(|path| Path::new("x").join(path)).collect();
            let items = entries.iter().zip(&targets).map(|((path, content), target)| {
                let item = match kind(path) {
                    b'd' => LayerItem::Directory { mode: 0o555 },
                    b'l' => LayerItem::Symlink { target },
                    _ => return file(path, content.len(), content.as_slice()),
                };
                LayerEntry { path, item }
            });
            write(&mut bytes, &form(7), items).unwrap();
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
