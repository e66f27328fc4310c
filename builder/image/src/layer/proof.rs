//! Whether an archive is, byte for byte, the one that a build would write of entries whose contents it knows by their digests alone. What comes from a cache of somebody
//! else's is believed no other way: nothing of it is parsed, all of it is compared.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::header::{self, Kind};
use crate::error::{Error, Result};

const BUFFER: usize = 64 << 10;

/// An archive that is read beside the entries that it should have, in their order.
#[derive(Debug)]
pub struct Proof<R> {
    archive: R,
    epoch: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Proof<R> {
    /// `epoch` is the time that every entry should have.
    pub fn new(archive: R, epoch: u64) -> Self {
        let buffer = vec![0; BUFFER];
        Self {
            archive,
            epoch,
            buffer,
        }
    }

    /// # Errors
    /// Another entry, or the reader's.
    pub fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.header(path, Kind::Directory, mode)
    }

    /// # Errors
    /// Another entry, or the reader's.
    pub fn symlink(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.header(path, Kind::Symlink(target), 0o777)
    }

    /// `digest` is SHA-256 of the content.
    ///
    /// # Errors
    /// Another entry or content, or the reader's.
    pub fn file(&mut self, path: &Path, mode: u32, length: u64, digest: &[u8; 32]) -> Result<()> {
        self.header(path, Kind::File(length), mode)?;
        let mut hasher = Sha256::new();
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let buffer = &mut self.buffer[..wanted];
            self.archive
                .read_exact(buffer)
                .map_err(|error| unread(path, error))?;
            hasher.update(buffer);
            left -= wanted as u64;
        }
        if hasher.finalize().as_slice() != digest {
            return Err(other(path, "another content"));
        }
        let over = usize::try_from(length % header::BLOCK as u64).unwrap_or(0);
        if over > 0 {
            self.same(path, &[0; header::BLOCK][over..])?;
        }
        Ok(())
    }

    /// The archive ends here too, and nothing comes after it.
    ///
    /// # Errors
    /// More, or less; the reader's.
    pub fn finish(mut self) -> Result<()> {
        let end = Path::new("its end");
        self.same(end, &[0; 2 * header::BLOCK])?;
        match self.archive.read(&mut self.buffer) {
            Ok(0) => Ok(()),
            Ok(_) => Err(other(end, "more")),
            Err(error) => Err(unread(end, error)),
        }
    }

    fn header(&mut self, path: &Path, kind: Kind<'_>, mode: u32) -> Result<()> {
        let wanted = header::entry(path, kind, mode, self.epoch);
        self.same(path, &wanted)
    }

    fn same(&mut self, path: &Path, wanted: &[u8]) -> Result<()> {
        for wanted in wanted.chunks(BUFFER) {
            let found = &mut self.buffer[..wanted.len()];
            self.archive
                .read_exact(found)
                .map_err(|error| unread(path, error))?;
            if found != wanted {
                return Err(other(path, "another entry"));
            }
        }
        Ok(())
    }
}

fn other(path: &Path, what: &str) -> Error {
    Error::refused(
        "a layer of a cache",
        format!(
            "is not what its key says: it has {what} at {}",
            path.display()
        ),
        "find out who wrote it, and write the cache anew with --cache-to",
    )
}

fn unread(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return other(path, "nothing");
    }
    Error::io(path)(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    /// A directory, a file over two blocks with a long name, a link.
    fn archive() -> Vec<u8> {
        let mut bytes = Vec::new();
        let long = format!("d/{}", "n".repeat(200));
        let content = [7; 700];
        bytes.extend(header::entry(Path::new("d"), Kind::Directory, 0o555, 3));
        bytes.extend(header::entry(Path::new(&long), Kind::File(700), 0o444, 3));
        bytes.extend(content);
        bytes.extend([0; 324]);
        bytes.extend(header::entry(
            Path::new("l"),
            Kind::Symlink(Path::new("d")),
            0o777,
            3,
        ));
        bytes.extend([0; 1024]);
        bytes
    }

    fn hold(archive: &[u8]) -> Result<()> {
        let mut proof = Proof::new(archive, 3);
        let long = format!("d/{}", "n".repeat(200));
        proof.directory(Path::new("d"), 0o555)?;
        let digest = Digest::of(&[7; 700]).to_bytes();
        proof.file(Path::new(&long), 0o444, 700, &digest)?;
        proof.symlink(Path::new("l"), Path::new("d"))?;
        proof.finish()
    }

    #[test]
    fn every_byte_counts() {
        let whole = archive();
        hold(&whole).unwrap();
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            hold(&other).unwrap_err();
        }
        for at in 0..whole.len() {
            hold(&whole[..at]).unwrap_err();
        }
        let longer = [whole.as_slice(), b"\0"].concat();
        let told = hold(&longer).unwrap_err().to_string();
        assert!(told.contains("has more at its end"), "{told}");
    }
}
