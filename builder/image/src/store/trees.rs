//! Layers as trees: unpacked once, checked against their diffID before they can be seen, leased by what runs from them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use airtight_sys::open::is_opaque;
use sha2::{Digest as _, Sha256};

use super::{Store, open_regular, sync_directory};
use crate::descriptor::Descriptor;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{Encoding, Image, encoding};
use crate::layer::{GZIP_HEADER, Limits, Member, list, unpack};

/// Above what gzip can reach at all (1,032), or an honest layer of zeros would be built and not run. zstd reaches 30 times that, which only a bomb does.
const MAX_RATIO: u64 = 1100;
/// What all layers of an image together may be beyond that.
const RATIO_FREE: u64 = 100 << 20;
/// Of all layers of an image, unpacked.
const IMAGE_BYTES: u64 = 32 << 30;

/// Beside a tree that holds such programs: their paths, a line each.
const WRITE_EXECUTE: &str = "write-execute";

/// Held by what runs from an image's layers: gc leaves them alone. Ends with the process.
#[derive(Debug)]
pub struct Lease {
    _locks: Vec<File>,
}

impl Store {
    /// The layers' trees, lowest first; what is missing is unpacked. Those below a layer that hides all of them are left out.
    ///
    /// # Errors
    /// A blob that is not what it should be, or a layer that [`unpack`] refuses; nothing of it stays.
    pub fn unpacked(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let mut trees = Vec::with_capacity(image.layers().len());
        let mut budget = Budget::default();
        for (descriptor, diff) in image.layers() {
            let home = self.tree_home(diff);
            // A tree alone proves nothing of this blob: a configuration can claim the diffID of any tree that is here.
            if !home.join(proof(descriptor)).exists() {
                self.add()?;
                if home.exists() {
                    self.prove(descriptor, diff, &mut budget)?;
                    record(&home, descriptor)?;
                } else {
                    self.unpack_layer(descriptor, diff, &mut budget)?;
                }
            }
            let rootfs = home.join("rootfs");
            // overlayfs does not look at the mark on a layer's root: there is no directory of that name to merge.
            if is_opaque(&rootfs).map_err(Error::sys(&rootfs))? {
                trees.clear();
            }
            trees.push(rootfs);
        }
        Ok(trees)
    }

    /// Programs of the image that the kernel would give memory that is both written and executed, escaped; none for most images.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_execute(&self, image: &Image) -> Result<Vec<String>> {
        let mut programs = Vec::new();
        for (_, diff) in image.layers() {
            let path = self.tree_home(diff).join(WRITE_EXECUTE);
            match fs::read_to_string(&path) {
                Ok(text) => programs.extend(text.lines().map(str::to_owned)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(&path)(error)),
            }
        }
        Ok(programs)
    }

    /// Calls `each` for every entry of the image's layers, lowest first, with the layer's place and the content of a file. Nothing is unpacked; what
    /// was told of a layer holds when the call succeeds, since only then all of it was held against its digests.
    ///
    /// # Errors
    /// A blob that is not what it should be, a layer that holds what none may; what `each` returns.
    pub fn read_layers(
        &self,
        image: &Image,
        mut each: impl FnMut(usize, Member, &mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        let mut budget = Budget::default();
        for (index, (descriptor, diff)) in image.layers().iter().enumerate() {
            self.read_plain(descriptor, diff, Members::Any, &mut budget, |plain| {
                list(plain, |member, content| each(index, member, content))
            })?;
        }
        Ok(())
    }

    /// Keeps the image's trees while the value lives. From here on gc need not wait for us.
    ///
    /// # Errors
    /// A tree that is not there.
    pub fn lease(&self, image: &Image) -> Result<Lease> {
        let mut locks = Vec::with_capacity(image.layers().len());
        for (_, diff) in image.layers() {
            let path = self.tree_home(diff).join("lock");
            let lock = open_regular(&path).map_err(|error| {
                Error::refused(
                    path.display(),
                    format!("is of a layer that was unpacked, and damaged: {error}"),
                    format!(
                        "remove {}, and the layer is unpacked again",
                        self.tree_home(diff).display()
                    ),
                )
            })?;
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
        *self.adding() = None;
        Ok(Lease { _locks: locks })
    }

    pub(super) fn tree_home(&self, diff: &DiffId) -> PathBuf {
        self.path("layers/sha256").join(diff.0.hex())
    }

    fn unpack_layer(
        &self,
        descriptor: &Descriptor,
        diff: &DiffId,
        budget: &mut Budget,
    ) -> Result<()> {
        let temporary = self.temporary()?;
        let rootfs = temporary.path().join("home/rootfs");
        fs::create_dir_all(&rootfs).map_err(Error::io(&rootfs))?;
        let directory = File::open(&rootfs).map_err(Error::io(&rootfs))?;
        let limits = Limits {
            owners: nix::unistd::geteuid().is_root(),
            ..Limits::default()
        };
        let mut programs = Vec::new();
        self.read_plain(descriptor, diff, Members::Any, budget, |plain| {
            programs = unpack(plain, &directory, &limits)?.write_execute;
            Ok(())
        })?;
        if !programs.is_empty() {
            let path = temporary.path().join("home").join(WRITE_EXECUTE);
            let lines: Vec<String> = programs.iter().map(|path| format!("{path:?}\n")).collect();
            fs::write(&path, lines.concat()).map_err(Error::io(&path))?;
        }

        let lock = temporary.path().join("home/lock");
        File::create(&lock).map_err(Error::io(&lock))?;
        record(&temporary.path().join("home"), descriptor)?;
        airtight_sys::open::sync_filesystem(&directory).map_err(Error::sys(&rootfs))?;
        let home = self.tree_home(diff);
        match fs::rename(temporary.path().join("home"), &home) {
            // Somebody else unpacked the same layer meanwhile, with the same digest.
            Err(_) if home.exists() => record(&home, descriptor),
            Err(error) => Err(Error::io(&home)(error)),
            Ok(()) => sync_directory(&self.path("layers/sha256")),
        }
    }

    /// Holds a blob against a diffID, and unpacks nothing.
    pub(super) fn prove(
        &self,
        descriptor: &Descriptor,
        diff: &DiffId,
        budget: &mut Budget,
    ) -> Result<()> {
        self.read_plain(descriptor, diff, Members::Any, budget, |_| Ok(()))
    }

    /// Gives the archive in a layer's blob to `hold`, which must read all of it, and holds it against blob and diffID too. Its length. A gzip stream must have the form
    /// that layers are written in: another's reader may refuse what ours takes, as a long name in the header.
    ///
    /// # Errors
    /// A blob that is not what it should be; what `hold` returns.
    pub fn prove_archive(
        &self,
        blob: &Descriptor,
        diff: &DiffId,
        hold: impl FnOnce(&mut dyn Read) -> Result<()>,
    ) -> Result<u64> {
        let mut length = 0;
        self.read_plain(
            blob,
            diff,
            Members::Own,
            &mut Budget::default(),
            |archive| {
                let mut counted = Counted {
                    inner: archive,
                    length: 0,
                };
                hold(&mut counted)?;
                length = counted.length;
                Ok(())
            },
        )?;
        Ok(length)
    }

    /// One pass: the compressed bytes are verified, decompressed, hashed again and given to `each` as they come.
    fn read_plain(
        &self,
        descriptor: &Descriptor,
        diff: &DiffId,
        members: Members,
        budget: &mut Budget,
        each: impl FnOnce(&mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        let path = self.blob_path(descriptor.digest());
        let blob = self.open_blob(descriptor)?;
        let kind = encoding(descriptor.media_type()).ok_or_else(|| {
            Error::refused(
                descriptor.digest(),
                format!("is of type {}", descriptor.media_type()),
                "rebuild the image",
            )
        })?;
        let inner = decompress(BufReader::with_capacity(256 << 10, blob), kind, members)
            .map_err(Error::io(&path))?;
        let mut plain = Plain {
            inner: Capped::new(inner, budget.most(descriptor)),
            hasher: Sha256::new(),
        };
        // To the end of the stream, past the archive's own end: both digests are of all of it.
        let read = each(&mut plain)
            .and_then(|()| io::copy(&mut plain, &mut io::sink()).map_err(Error::io(&path)));
        plain.inner.check(
            descriptor.digest(),
            "rebuild the image, or use one whose layers are smaller",
        )?;
        read?;
        budget.spend(descriptor, plain.inner.length);
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

/// The name beside a tree that says: this blob was seen to unpack to it.
fn proof(descriptor: &Descriptor) -> String {
    format!("from-{}", descriptor.digest().hex())
}

fn record(home: &Path, descriptor: &Descriptor) -> Result<()> {
    let path = home.join(proof(descriptor));
    File::create(&path).map(drop).map_err(Error::io(&path))
}

/// What the layers of one image may still expand to: many small bombs are one.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    free: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: IMAGE_BYTES,
            free: RATIO_FREE,
        }
    }
}

impl Budget {
    fn most(&self, descriptor: &Descriptor) -> u64 {
        let Limits { bytes, entries, .. } = Limits::default();
        // The archive's own headers and padding come on top of the files.
        let layer = bytes.saturating_add(entries.saturating_mul(2048));
        let ratio = descriptor.size().saturating_mul(MAX_RATIO);
        layer.min(ratio.saturating_add(self.free)).min(self.bytes)
    }

    fn spend(&mut self, descriptor: &Descriptor, length: u64) {
        let beyond = length.saturating_sub(descriptor.size().saturating_mul(MAX_RATIO));
        self.free = self.free.saturating_sub(beyond);
        self.bytes = self.bytes.saturating_sub(length);
    }
}

/// The uncompressed stream, hashed.
struct Plain<R> {
    inner: Capped<R>,
    hasher: Sha256,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

struct Counted<'a> {
    inner: &'a mut dyn Read,
    length: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.length += count as u64;
        Ok(count)
    }
}

/// A decompressed stream that ends in an error when it is longer than what it came from is worth.
#[derive(Debug)]
pub(crate) struct Capped<R> {
    inner: R,
    length: u64,
    most: u64,
}

impl<R> Capped<R> {
    pub(crate) fn new(inner: R, most: u64) -> Self {
        Self {
            inner,
            length: 0,
            most,
        }
    }

    /// Whether it ended so, which whoever read it cannot tell from another fault.
    pub(crate) fn check(&self, what: impl ToString, fix: &str) -> Result<()> {
        if self.length <= self.most {
            return Ok(());
        }
        Err(Error::refused(what, self.problem(), fix))
    }

    fn problem(&self) -> String {
        format!(
            "unpacks to more than {} bytes, far more than it is worth: refused as a bomb",
            self.most
        )
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.length += count as u64;
        if self.length > self.most {
            let problem = self.problem();
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(count)
    }
}

/// Those of a gzip stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    /// Several, as parallel compressors write, with anything in their headers.
    Any,
    /// The one that a layer of ours has.
    Own,
}

/// The stream inside.
fn decompress<'a>(
    mut reader: impl io::BufRead + 'a,
    kind: Encoding,
    members: Members,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match kind {
        Encoding::None => Box::new(reader),
        Encoding::Gzip if members == Members::Own => {
            if !reader.fill_buf()?.starts_with(&GZIP_HEADER) {
                return Err(foreign());
            }
            Box::new(One(flate2::bufread::GzDecoder::new(reader)))
        }
        Encoding::Gzip => Box::new(DrainAfter {
            inner: flate2::bufread::MultiGzDecoder::new(reader),
            rest: flate2::bufread::MultiGzDecoder::get_mut,
        }),
        Encoding::Zstd => {
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

/// One member, and the end of the stream.
struct One<R>(flate2::bufread::GzDecoder<R>);

impl<R: io::BufRead> Read for One<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !self.0.get_mut().fill_buf()?.is_empty() {
            return Err(foreign());
        }
        Ok(count)
    }
}

fn foreign() -> io::Error {
    let problem = "is gzip of another form than layers are written in";
    io::Error::new(io::ErrorKind::InvalidData, problem)
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

#[cfg(test)]
mod tests {
    use flate2::{Compression, GzBuilder};
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_a_cache_gives_has_one_member_and_the_header_of_a_layer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let member = |header: GzBuilder, content: &[u8]| {
            let mut out = header.write(Vec::new(), Compression::default());
            out.write_all(content).unwrap();
            out.finish().unwrap()
        };
        let plain = || GzBuilder::new().operating_system(255);
        let own = member(plain(), b"archive");
        let empty = member(plain(), b"");
        for (name, bytes, good) in [
            ("ours", own.clone(), true),
            ("a name", member(plain().filename("n"), b"archive"), false),
            ("two members", [own.as_slice(), &empty].concat(), false),
            ("more", [own.as_slice(), b"x"].concat(), false),
            ("nothing", Vec::new(), false),
        ] {
            let (digest, size) = store.put_blob_bytes(&bytes).unwrap();
            let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
            let blob = Descriptor::new(media_type, digest, size);
            let diff = DiffId(Digest::of(b"archive"));
            let proven = store.prove_archive(&blob, &diff, |archive| {
                io::copy(archive, &mut io::sink())
                    .map(drop)
                    .map_err(Error::io(dir.path()))
            });
            assert_eq!(proven.is_ok(), good, "{name}: {proven:?}");
        }
    }
}
