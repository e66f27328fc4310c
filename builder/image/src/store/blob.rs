//! Blobs: written under a temporary name and hashed as they are written; read with digest and size checked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use airtight_sys::writeback::start_writeback;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Store, open_regular, sync_directory};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::MAX_DOCUMENT;

/// A blob being written. Dropped without [`BlobWriter::commit`], nothing of it stays.
#[derive(Debug)]
pub struct BlobWriter {
    file: io::BufWriter<NamedTempFile>,
    hasher: Sha256,
    length: u64,
    /// What the kernel was asked to begin to write to the disk.
    begun: u64,
    blobs: PathBuf,
}

/// Bytes after which the disk is set to work, so that the sync at the end finds little to wait for.
const WRITEBACK: u64 = 8 << 20;

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        let waiting = self.length - self.begun;
        if waiting >= WRITEBACK {
            let file = self.file.get_ref().as_file();
            // Only time is lost where a file system or filter does not know it: the sync is what counts.
            drop(start_writeback(file, self.begun, waiting));
            self.begun = self.length;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter {
    /// Gives the blob its name. A nil error means that "the content is stored at its digest"; storing it again changes nothing.
    ///
    /// # Errors
    /// The file system's.
    pub fn commit(self) -> Result<(Digest, u64)> {
        let blobs = self.blobs.clone();
        let stored = self.name()?;
        sync_directory(&blobs)?;
        Ok(stored)
    }

    /// Its name, once its bytes are on the disk: whoever sees the name finds all of them, after a power failure too.
    fn name(self) -> Result<(Digest, u64)> {
        let digest = Digest::from_hasher(self.hasher.clone());
        let length = self.length;
        // One that was damaged is healed by what is stored now.
        if !is_whole(&self.blobs.join(digest.hex()), &digest, length) {
            self.place(&digest)?;
        }
        Ok((digest, length))
    }

    fn place(self, digest: &Digest) -> Result<()> {
        let path = self.blobs.join(digest.hex());
        let temporary = self
            .file
            .into_inner()
            .map_err(|error| Error::io(&path)(error.into_error()))?;
        temporary.as_file().sync_all().map_err(Error::io(&path))?;
        temporary
            .persist(&path)
            .map_err(|error| Error::io(&path)(error.error))?;
        Ok(())
    }
}

/// Whether what has the name is the blob.
pub(super) fn is_whole(path: &Path, digest: &Digest, length: u64) -> bool {
    open_regular(path).is_ok_and(|file| {
        let wanted = Descriptor::new("", digest.clone(), length);
        VerifiedReader::new(file, &wanted, STORED).finish().is_ok()
    })
}

/// What to do about a blob of the store that is not what it was.
const STORED: &str = "the blob was changed or damaged: build, import or pull the image again";
/// And about one that comes from outside.
pub(super) const INCOMING: &str =
    "the image was changed or damaged on its way, or says what is not so: get it again";

/// Reads a blob; the end of it is only told when digest and size are right.
#[derive(Debug)]
pub struct VerifiedReader<R> {
    inner: R,
    hasher: Option<Sha256>,
    wanted: Descriptor,
    length: u64,
    fix: &'static str,
}

impl<R: Read> VerifiedReader<R> {
    pub(crate) fn new(inner: R, wanted: &Descriptor, fix: &'static str) -> Self {
        Self {
            inner,
            hasher: Some(Sha256::new()),
            wanted: wanted.clone(),
            length: 0,
            fix,
        }
    }

    /// Reads what is left, so that the digest is known.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }

    fn wrong(&self, problem: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} {problem}\n  fix: {}", self.wanted.digest(), self.fix),
        )
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.length += count as u64;
        if self.length > self.wanted.size() {
            return Err(self.wrong(&format!(
                "is longer than the {} bytes that it should be",
                self.wanted.size()
            )));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        if count == 0 && !buffer.is_empty() {
            if self.length != self.wanted.size() {
                return Err(self.wrong(&format!(
                    "is {} bytes and should be {}",
                    self.length,
                    self.wanted.size()
                )));
            }
            // Once; later reads of the end stay the end.
            if let Some(hasher) = self.hasher.take() {
                let found = Digest::from_hasher(hasher);
                if found != *self.wanted.digest() {
                    return Err(self.wrong(&format!("has the digest {found}")));
                }
            }
        }
        Ok(count)
    }
}

impl Store {
    /// # Errors
    /// The file system's.
    pub fn put_blob(&self) -> Result<BlobWriter> {
        self.add()?;
        let tmp = self.path("tmp");
        let file = tempfile::Builder::new()
            .prefix("b-")
            .tempfile_in(&tmp)
            .map_err(Error::io(&tmp))?;
        file.as_file()
            .lock_shared()
            .map_err(Error::io(file.path()))?;
        let blobs = self.path("blobs/sha256");
        Ok(BlobWriter {
            file: io::BufWriter::with_capacity(256 << 10, file),
            hasher: Sha256::new(),
            length: 0,
            begun: 0,
            blobs,
        })
    }

    /// # Errors
    /// The file system's.
    pub fn put_blob_bytes(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let stored = self.bytes(bytes)?;
        sync_directory(&self.path("blobs/sha256"))?;
        Ok(stored)
    }

    /// As [`BlobWriter::commit`] for a blob that a name is about to refer to: that it has its own may not be on the disk yet. [`Store::tag`] and
    /// [`Store::attach`] see to that before they write theirs, once for all blobs.
    ///
    /// # Errors
    /// The file system's.
    pub fn stage(&self, blob: BlobWriter) -> Result<(Digest, u64)> {
        let stored = blob.name()?;
        *self.unsettled() = true;
        Ok(stored)
    }

    /// As [`Store::stage`].
    ///
    /// # Errors
    /// The file system's.
    pub fn stage_bytes(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let stored = self.bytes(bytes)?;
        *self.unsettled() = true;
        Ok(stored)
    }

    /// A file is made only for what is not there: to make one costs more than to look.
    fn bytes(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        // Before the look, so that gc takes nothing after it.
        self.add()?;
        let (digest, length) = (Digest::of(bytes), bytes.len() as u64);
        if !is_whole(&self.blob_path(&digest), &digest, length) {
            let mut blob = self.put_blob()?;
            blob.file
                .write_all(bytes)
                .map_err(Error::io(&self.path("tmp")))?;
            blob.place(&digest)?;
        }
        Ok((digest, length))
    }

    /// Before a name is written. What was staged by another process and found here counts as well: only a name that is on the disk may be referred to by one.
    pub(super) fn settle(&self) -> Result<()> {
        let mut unsettled = self.unsettled();
        if *unsettled {
            sync_directory(&self.path("blobs/sha256"))?;
            *unsettled = false;
        }
        Ok(())
    }

    /// Copies from an untrusted reader, called `from` in what is said of it, what `descriptor` says, or nothing.
    pub(crate) fn put_verified(
        &self,
        reader: impl Read,
        descriptor: &Descriptor,
        from: &Path,
    ) -> Result<()> {
        let path = self.blob_path(descriptor.digest());
        // One that is not what it was is copied again.
        if is_whole(&path, descriptor.digest(), descriptor.size()) {
            return Ok(());
        }
        let mut blob = self.put_blob()?;
        let mut reader = VerifiedReader::new(reader, descriptor, INCOMING);
        io::copy(&mut reader, &mut blob).map_err(Error::io(from))?;
        blob.commit().map(drop)
    }

    /// All of a blob, verified, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// A blob that is not there, too long, or not what its digest says.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        descriptor.at_most(limit)?;
        // Bounded just now.
        let mut bytes = Vec::with_capacity(usize::try_from(descriptor.size()).unwrap_or(0) + 1);
        self.open_blob(descriptor)?
            .read_to_end(&mut bytes)
            .map_err(Error::io(&self.blob_path(descriptor.digest())))?;
        Ok(bytes)
    }

    /// # Errors
    /// A blob that is not there.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "one kind of error is told apart from all others"
    )]
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifiedReader<File>> {
        let path = self.blob_path(descriptor.digest());
        let file = open_regular(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::refused(
                descriptor.digest(),
                "is not in the store",
                "build, import or pull the image again",
            ),
            _ => Error::io(&path)(error),
        })?;
        Ok(VerifiedReader::new(file, descriptor, STORED))
    }

    /// A manifest or index of which only the digest is known.
    pub(crate) fn read_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let size = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::refused(
                    digest,
                    "is not in the store",
                    "see `airtight images`; build or import it",
                ));
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        self.read_blob(&Descriptor::new("", digest.clone(), size), MAX_DOCUMENT)
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_comes_back_only_as_it_was_put() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (digest, size) = store.put_blob_bytes(b"hello").unwrap();
        let descriptor = Descriptor::new("x", digest.clone(), size);
        assert_eq!(store.read_blob(&descriptor, 5).unwrap(), b"hello");
        assert!(
            store
                .read_blob(&descriptor, 4)
                .unwrap_err()
                .to_string()
                .contains("at most 4")
        );
        for (name, bytes, said) in [
            ("changed", &b"hellO"[..], "has the digest"),
            ("cut", b"hell", "is 4 bytes and should be 5"),
            ("longer", b"hello!", "is longer than"),
        ] {
            fs::write(store.blob_path(&digest), bytes).unwrap();
            let error = store.read_blob(&descriptor, 5).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put_blob().unwrap().write_all(b"x").unwrap();
        assert_eq!(fs::read_dir(store.path("tmp")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.path("blobs/sha256")).unwrap().count(), 0);
    }
}
