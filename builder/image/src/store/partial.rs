//! What comes or goes in pieces and may be cut off by a kill: it lies in `tmp` under a name that the next attempt finds, locked by whoever works on it. gc
//! takes what nobody holds.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::blob::is_whole;
use super::{Store, sync_directory};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// What is kept of an upload is some hundred bytes.
const MAX_KEPT: u64 = 64 << 10;

/// A blob that is being fetched.
#[derive(Debug)]
pub(crate) struct Partial {
    held: Held,
    hasher: Sha256,
    length: u64,
    wanted: Descriptor,
    blobs: PathBuf,
}

/// A file in `tmp` that this process alone works on.
#[derive(Debug)]
struct Held {
    file: File,
    path: PathBuf,
    /// Whether it stays when the value goes.
    keep: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is gc's.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Of nothing there is nothing to go on with.
        self.held.keep &= self.length > 0;
    }
}

impl Store {
    /// Where the blob can be written to; what an attempt before this one has fetched of it is there already.
    pub(crate) fn partial(&self, wanted: &Descriptor) -> Result<Partial> {
        self.add()?;
        let held = match self.hold(&format!("p-{}", wanted.digest().hex()))? {
            Some(held) => held,
            // Another process is fetching the same.
            None => self.hold_unnamed()?,
        };
        let mut partial = Partial {
            held,
            hasher: Sha256::new(),
            length: 0,
            wanted: wanted.clone(),
            blobs: self.path("blobs/sha256"),
        };
        partial.take_up()?;
        Ok(partial)
    }

    /// What was kept under a name, and may be kept again; none while another process has it.
    pub(crate) fn kept(&self, name: &str) -> Result<Option<Kept>> {
        self.add()?;
        Ok(self.hold(name)?.map(Kept))
    }

    fn hold(&self, name: &str) -> Result<Option<Held>> {
        let path = self.path("tmp").join(name);
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&path)
                .map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // Whoever had it may have taken the name away between the opening and the lock.
            let own = file.metadata().map_err(Error::io(&path))?;
            match fs::symlink_metadata(&path) {
                Ok(there) if there.ino() == own.ino() && there.dev() == own.dev() => {
                    return Ok(Some(Held {
                        file,
                        path,
                        keep: true,
                    }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(&path)(error)),
            }
        }
    }

    fn hold_unnamed(&self) -> Result<Held> {
        let tmp = self.path("tmp");
        let (file, path) = tempfile::Builder::new()
            .prefix("p-")
            .tempfile_in(&tmp)
            .map_err(Error::io(&tmp))?
            .keep()
            .map_err(|error| Error::io(&tmp)(error.error))?;
        let held = Held {
            file,
            path,
            keep: false,
        };
        held.file.lock().map_err(Error::io(&held.path))?;
        Ok(held)
    }

    /// Whether the blob is in the store as it should be.
    #[must_use]
    pub fn has_whole(&self, blob: &Descriptor) -> bool {
        is_whole(&self.blob_path(blob.digest()), blob.digest(), blob.size())
    }
}

impl Partial {
    /// Bytes that are here.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn wanted(&self) -> &Descriptor {
        &self.wanted
    }

    pub(crate) fn path(&self) -> &Path {
        &self.held.path
    }

    fn take_up(&mut self) -> Result<()> {
        let there = self
            .held
            .file
            .metadata()
            .map_err(Error::io(&self.held.path))?
            .len();
        if there == 0 {
            return Ok(());
        }
        if there > self.wanted.size() {
            return self.restart();
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = self
                .held
                .file
                .read(&mut buffer)
                .map_err(Error::io(&self.held.path))?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(buffer.get(..count).unwrap_or_default());
            self.length += count as u64;
        }
    }

    /// Throws away what is here.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.hasher = Sha256::new();
        self.length = 0;
        let file = &mut self.held.file;
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .map_err(Error::io(&self.held.path))?;
        Ok(())
    }

    /// # Errors
    /// The file system's, or more bytes than the blob has.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let length = self.length + bytes.len() as u64;
        if length > self.wanted.size() {
            return Err(Error::refused(
                self.wanted.digest(),
                format!(
                    "is longer than the {} bytes that it should be",
                    self.wanted.size()
                ),
                super::blob::INCOMING,
            ));
        }
        self.held
            .file
            .write_all(bytes)
            .map_err(Error::io(&self.held.path))?;
        self.hasher.update(bytes);
        self.length = length;
        Ok(())
    }

    /// # Errors
    /// Other bytes than the blob's: none of them stays.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let found = Digest::from_hasher(self.hasher.clone());
        if self.length == self.wanted.size() && found == *self.wanted.digest() {
            return Ok(());
        }
        let (length, wanted) = (self.length, self.wanted.size());
        self.restart()?;
        self.held.keep = false;
        let problem = if length == wanted {
            format!("has the digest {found}")
        } else {
            format!("is {length} bytes and should be {wanted}")
        };
        Err(Error::refused(
            self.wanted.digest(),
            problem,
            super::blob::INCOMING,
        ))
    }

    /// Gives the blob its name in the store.
    ///
    /// # Errors
    /// As [`Partial::verify`], or the file system's.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.verify()?;
        let to = self.blobs.join(self.wanted.digest().hex());
        self.held.file.sync_all().map_err(Error::io(&to))?;
        fs::rename(&self.held.path, &to).map_err(Error::io(&to))?;
        sync_directory(&self.blobs)
    }

    /// It was wanted for something else than the store, and that is done.
    pub(crate) fn discard(mut self) {
        self.held.keep = false;
    }
}

/// A few bytes about something unfinished.
#[derive(Debug)]
pub(crate) struct Kept(Held);

impl Kept {
    /// What is there, at most 64 KiB of it.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>> {
        let Held { file, path, .. } = &mut self.0;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.take(MAX_KEPT).read_to_end(&mut bytes))
            .map_err(Error::io(path))?;
        Ok(bytes)
    }

    /// Replaces it. A kill in between leaves what is no document, which is as good as nothing.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Held { file, path, .. } = &mut self.0;
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(bytes))
            .map_err(Error::io(path))
    }

    pub(crate) fn forget(mut self) {
        self.0.keep = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: &[u8]) -> Descriptor {
        Descriptor::new("x", Digest::of(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_blob_that_was_cut_off_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let wanted = blob(b"hello world");
        let mut first = store.partial(&wanted).unwrap();
        first.write(b"hello").unwrap();
        // Another process at the same time begins its own.
        let other = Store::open(dir.path()).unwrap();
        assert_eq!(other.partial(&wanted).unwrap().length(), 0);
        drop(first);
        let mut second = store.partial(&wanted).unwrap();
        assert_eq!(second.length(), 5);
        second.write(b" world").unwrap();
        assert!(second.write(b"!").is_err(), "longer than it should be");
        second.commit().unwrap();
        assert!(store.has_whole(&wanted));
        assert_eq!(fs::read_dir(store.path("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn other_bytes_get_no_name_and_do_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for (name, bytes, said) in [
            ("changed", &b"hellO"[..], "has the digest"),
            ("cut", b"hell", "is 4 bytes and should be 5"),
        ] {
            let mut partial = store.partial(&blob(b"hello")).unwrap();
            partial.write(bytes).unwrap();
            let told = partial.commit().unwrap_err().to_string();
            assert!(told.contains(said), "{name}: {told}");
            assert!(!store.has_whole(&blob(b"hello")), "{name}");
            assert_eq!(
                fs::read_dir(store.path("tmp")).unwrap().count(),
                0,
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_one_s_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut kept = store.kept("u-1").unwrap().unwrap();
        kept.write(b"long").unwrap();
        kept.write(b"new").unwrap();
        assert!(store.kept("u-1").unwrap().is_none());
        drop(kept);
        let mut kept = store.kept("u-1").unwrap().unwrap();
        assert_eq!(kept.read().unwrap(), b"new");
        kept.forget();
        assert_eq!(fs::read_dir(store.path("tmp")).unwrap().count(), 0);
    }
}
