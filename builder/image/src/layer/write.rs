//! Writing a layer: ustar, pax only where ustar cannot say it, sorted, no owner, one time. The uncompressed and the compressed bytes are hashed
//! as they pass.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};

/// A gzip header that says nothing of the host: no time, no name, "unknown" operating system.
const OPERATING_SYSTEM_UNKNOWN: u8 = 255;
const LEVEL: u32 = 6;
const BLOCK: usize = 512;

/// Writes one layer to `out`, gzip-compressed. Entries come in the order of their paths.
pub struct LayerWriter<W: Write> {
    out: io::BufWriter<Tee<GzEncoder<W>>>,
    epoch: u64,
    last: PathBuf,
    shown: &'static Path,
}

impl<W: Write> std::fmt::Debug for LayerWriter<W> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("LayerWriter")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// Hashes and counts what goes through.
struct Tee<W> {
    inner: W,
    hasher: Sha256,
    length: u64,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> LayerWriter<W> {
    /// Every entry gets the modification time `epoch`, in seconds.
    pub fn new(out: W, epoch: u64) -> Self {
        let gzip = GzBuilder::new()
            .mtime(0)
            .operating_system(OPERATING_SYSTEM_UNKNOWN)
            .write(out, Compression::new(LEVEL));
        let tee = Tee {
            inner: gzip,
            hasher: Sha256::new(),
            length: 0,
        };
        Self {
            out: io::BufWriter::with_capacity(256 << 10, tee),
            epoch,
            last: PathBuf::new(),
            shown: Path::new("layer"),
        }
    }

    /// # Errors
    /// An entry out of order, or the writer's.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.header(path.as_ref(), EntryType::Directory, mode, 0, None)
    }

    /// The digest is the content's: taken as it passes, so that nobody reads a file twice.
    ///
    /// # Errors
    /// An entry out of order, content that is not `length` bytes, or the reader's or writer's.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        length: u64,
        content: impl Read,
    ) -> Result<Digest> {
        let path = path.as_ref();
        self.header(path, EntryType::Regular, mode, length, None)?;
        let mut tee = Tee {
            inner: &mut self.out,
            hasher: Sha256::new(),
            length: 0,
        };
        let copied = io::copy(&mut content.take(length), &mut tee).map_err(Error::io(path))?;
        let digest = Digest::from_hasher(tee.hasher);
        if copied != length {
            return Err(Error::refused(
                path.display(),
                format!("ended after {copied} of {length} bytes"),
                "build again when nothing writes to it",
            ));
        }
        self.pad(length).map_err(Error::io(path))?;
        Ok(digest)
    }

    /// # Errors
    /// An entry out of order, or the writer's.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        self.header(
            path.as_ref(),
            EntryType::Symlink,
            0o777,
            0,
            Some(target.as_ref()),
        )
    }

    /// Ends the archive; `out` has all of it.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> Result<(DiffId, u64)> {
        let fail = Error::io(self.shown);
        let end = |mut out: io::BufWriter<Tee<GzEncoder<W>>>| {
            out.write_all(&[0; 2 * BLOCK])?;
            let tee = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            tee.inner.finish()?.flush()?;
            Ok((DiffId(Digest::from_hasher(tee.hasher)), tee.length))
        };
        end(self.out).map_err(fail)
    }

    fn header(
        &mut self,
        path: &Path,
        kind: EntryType,
        mode: u32,
        size: u64,
        link: Option<&Path>,
    ) -> Result<()> {
        if path <= self.last.as_path() && !self.last.as_os_str().is_empty() {
            let problem = format!("comes after {}", self.last.display());
            return Err(Error::refused(
                path.display(),
                problem,
                "write a layer's entries in the order of their paths",
            ));
        }
        path.clone_into(&mut self.last);
        self.write_header(path, kind, mode, size, link)
            .map_err(Error::io(path))
    }

    fn write_header(
        &mut self,
        path: &Path,
        kind: EntryType,
        mode: u32,
        size: u64,
        link: Option<&Path>,
    ) -> io::Result<()> {
        let mut header = self.blank(kind, mode, size);
        let mut long = Vec::new();
        let mut name = path.as_os_str().to_owned();
        if kind == EntryType::Directory {
            name.push("/");
        }
        if header.set_path(&name).is_err() {
            long.push(("path", name.as_encoded_bytes().to_vec()));
            header.set_path(shortened(path))?;
        }
        if let Some(link) = link
            && header
                .set_link_name_literal(link.as_os_str().as_encoded_bytes())
                .is_err()
        {
            long.push(("linkpath", link.as_os_str().as_encoded_bytes().to_vec()));
            header.set_link_name_literal("long")?;
        }
        if !long.is_empty() {
            self.pax(&long)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn blank(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.epoch);
        header.set_size(size);
        header
    }

    /// POSIX.1-2001 extended header records: `LENGTH KEY=VALUE\n`, the length counting itself.
    fn pax(&mut self, records: &[(&str, Vec<u8>)]) -> io::Result<()> {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let mut header = self.blank(EntryType::XHeader, 0o644, body.len() as u64);
        header.set_path("pax")?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(&body)?;
        self.pad(body.len() as u64)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
        if over == 0 {
            Ok(())
        } else {
            self.out.write_all(&[0; BLOCK][over..])
        }
    }
}

/// What a reader without pax sees: the end of the name.
fn shortened(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars()
        .filter(char::is_ascii)
        .take(90)
        .collect::<String>()
        + "~"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn sample(epoch: u64) -> (Vec<u8>, DiffId) {
        let mut bytes = Vec::new();
        let mut layer = LayerWriter::new(&mut bytes, epoch);
        layer.directory("a", 0o555).unwrap();
        layer.file("a/b", 0o444, 5, &b"hello"[..]).unwrap();
        layer.symlink("a/c", "b").unwrap();
        layer
            .file(format!("a/{}", "long".repeat(60)), 0o444, 0, &b""[..])
            .unwrap();
        let (diff, _) = layer.finish().unwrap();
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
        let mut layer = LayerWriter::new(Vec::new(), 0);
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
            let mut layer = LayerWriter::new(&mut bytes, 7);
            for (path, content) in &entries {
                match kind(path) {
                    b'd' => layer.directory(path, 0o555).unwrap(),
                    b'l' => layer.symlink(path, Path::new("x").join(path)).unwrap(),
                    _ => {
                        let length = content.len() as u64;
                        let digest = layer.file(path, 0o444, length, content.as_slice()).unwrap();
                        prop_assert_eq!(digest, Digest::of(content));
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
