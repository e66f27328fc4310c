//! Layers as trees: unpacked once, checked against their diffID before they can be seen, leased by what runs from them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::{Store, sync_directory};
use crate::descriptor::Descriptor;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{Compression, Image, compression};
use crate::layer::{Limits, unpack};

/// Above what gzip can reach at all (1,032), or an honest layer of zeros would be built and not run. zstd reaches 30 times that, which only a bomb does.
const MAX_RATIO: u64 = 1100;
const RATIO_FREE: u64 = 100 << 20;

/// Held by what runs from an image's layers: gc leaves them alone. Ends with the process.
#[derive(Debug)]
pub struct Lease {
    _locks: Vec<File>,
}

impl Store {
    /// The layers' trees, lowest first; what is missing is unpacked.
    ///
    /// # Errors
    /// A blob that is not what it should be, or a layer that [`unpack`] refuses; nothing of it stays.
    pub fn unpacked(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let mut trees = Vec::with_capacity(image.layers().len());
        for (descriptor, diff) in image.layers() {
            let home = self.tree_home(diff);
            if !home.exists() {
                self.unpack_layer(descriptor, diff)?;
            }
            trees.push(home.join("rootfs"));
        }
        Ok(trees)
    }

    /// Keeps the image's trees while the value lives. From here on gc need not wait for us.
    ///
    /// # Errors
    /// A tree that is not there.
    pub fn lease(&self, image: &Image) -> Result<Lease> {
        let mut locks = Vec::with_capacity(image.layers().len());
        for (_, diff) in image.layers() {
            let path = self.tree_home(diff).join("lock");
            let lock = File::open(&path).map_err(Error::io(&path))?;
            lock.lock_shared().map_err(Error::io(&path))?;
            // gc may have taken the tree between the look and the lock.
            if !path.exists() {
                return Err(Error::refused(
                    diff,
                    "was collected just now",
                    "start it again",
                ));
            }
            locks.push(lock);
        }
        *self.adding.borrow_mut() = None;
        Ok(Lease { _locks: locks })
    }

    pub(super) fn tree_home(&self, diff: &DiffId) -> PathBuf {
        self.path("layers/sha256").join(diff.0.hex())
    }

    fn unpack_layer(&self, descriptor: &Descriptor, diff: &DiffId) -> Result<()> {
        self.add()?;
        let temporary = self.temporary()?;
        let rootfs = temporary.path().join("home/rootfs");
        fs::create_dir_all(&rootfs).map_err(Error::io(&rootfs))?;
        let directory = File::open(&rootfs).map_err(Error::io(&rootfs))?;
        let limits = Limits {
            owners: nix::unistd::geteuid().is_root(),
            ..Limits::default()
        };
        self.unpack_verified(descriptor, diff, &directory, &limits)?;

        let lock = temporary.path().join("home/lock");
        File::create(&lock).map_err(Error::io(&lock))?;
        airtight_sys::open::sync_filesystem(&directory).map_err(Error::sys(&rootfs))?;
        let home = self.tree_home(diff);
        match fs::rename(temporary.path().join("home"), &home) {
            // Somebody else unpacked the same layer meanwhile, with the same digest.
            Err(_) if home.exists() => Ok(()),
            Err(error) => Err(Error::io(&home)(error)),
            Ok(()) => sync_directory(&self.path("layers/sha256")),
        }
    }

    /// One pass: the compressed bytes are verified, decompressed, hashed again and unpacked as they come.
    fn unpack_verified(
        &self,
        descriptor: &Descriptor,
        diff: &DiffId,
        root: &File,
        limits: &Limits,
    ) -> Result<()> {
        let path = self.blob_path(descriptor.digest());
        let blob = self.open_blob(descriptor)?;
        let kind = compression(descriptor.media_type()).ok_or_else(|| {
            Error::refused(
                descriptor.digest(),
                format!("is of type {}", descriptor.media_type()),
                "rebuild the image",
            )
        })?;
        let mut plain = Plain {
            inner: decompress(BufReader::with_capacity(256 << 10, blob), kind)
                .map_err(Error::io(&path))?,
            hasher: Sha256::new(),
            length: 0,
            // The archive's own headers and padding come on top of the files.
            most: limits
                .bytes
                .saturating_add(limits.entries.saturating_mul(2048)),
            ratio: descriptor.size().saturating_mul(MAX_RATIO).max(RATIO_FREE),
        };
        unpack(&mut plain, root, limits)?;
        // To the end of the stream, past the archive's own end: both digests are of all of it.
        io::copy(&mut plain, &mut io::sink()).map_err(Error::io(&path))?;
        let found = Digest::from_hasher(plain.hasher);
        if found == diff.0 {
            return Ok(());
        }
        Err(Error::refused(
            descriptor.digest(),
            format!("unpacks to {found} and its configuration says {diff}"),
            "rebuild or pull the image again",
        ))
    }
}

/// The uncompressed stream, counted and hashed.
struct Plain<R> {
    inner: R,
    hasher: Sha256,
    length: u64,
    most: u64,
    ratio: u64,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.length += count as u64;
        if self.length > self.most || self.length > self.ratio {
            let problem = format!(
                "the layer unpacks to more than {} bytes, far more than it is worth: refused as a bomb",
                self.most.min(self.ratio)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The stream inside. A gzip stream may have several members, as parallel compressors write.
fn decompress<'a>(
    reader: impl io::BufRead + 'a,
    kind: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match kind {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(DrainAfter {
            inner: flate2::bufread::MultiGzDecoder::new(reader),
            rest: flate2::bufread::MultiGzDecoder::get_mut,
        }),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            // 128 MiB, what registries' own tools take; a larger window is a way to eat memory.
            decoder.window_log_max(27)?;
            Box::new(DrainAfter {
                inner: decoder,
                rest: zstd::stream::read::Decoder::get_mut,
            })
        }
    })
}

/// A decoder stops at the end of its format; the bytes after it belong to the blob, and its digest is known only when they were read too.
struct DrainAfter<D, R> {
    inner: D,
    rest: fn(&mut D) -> &mut R,
}

impl<D: Read, R: Read> Read for DrainAfter<D, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            io::copy((self.rest)(&mut self.inner), &mut io::sink())?;
        }
        Ok(count)
    }
}
