//! The compressions of indices and packages. How much may come out is the caller's to say; how much memory it may take is said here.

use std::io::{self, BufReader, Read};

/// KiB of an xz stream's dictionary and tables. `xz -9` takes 65 MB; dpkg makes no more.
const XZ_MEMORY: u32 = 96 << 10;
/// Base-2 logarithm of a zstd window's bytes; dpkg's highest level has 27.
const ZSTD_WINDOW: u32 = 27;
const BUFFER: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    /// By the end of a file's name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (_, end) = name.rsplit_once('.')?;
        Some(match end {
            "gz" => Self::Gzip,
            "xz" => Self::Xz,
            "zst" => Self::Zstd,
            "tar" => Self::None,
            _ => return None,
        })
    }

    /// At most `limit` bytes of what comes out; one more is an error, so that a bomb fills nothing.
    ///
    /// # Errors
    /// The decompressor's.
    pub(crate) fn reader<'a>(
        self,
        inner: impl Read + 'a,
        limit: u64,
    ) -> io::Result<Box<dyn Read + 'a>> {
        let inner = BufReader::with_capacity(BUFFER, inner);
        let plain: Box<dyn Read + 'a> = match self {
            Self::None => Box::new(inner),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(inner)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(inner, true, XZ_MEMORY)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(inner)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
        };
        Ok(Box::new(Bounded {
            inner: plain,
            left: limit,
        }))
    }
}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "unpacks to more bytes than it should",
            )
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_comes_out_than_was_allowed() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::copy(&mut io::repeat(0).take(1 << 20), &mut packed).unwrap();
        let packed = packed.finish().unwrap();
        for (limit, want) in [(1 << 20, true), ((1 << 20) - 1, false)] {
            let mut reader = Compression::Gzip.reader(packed.as_slice(), limit).unwrap();
            let done = io::copy(&mut reader, &mut io::sink());
            assert_eq!(done.is_ok(), want, "{limit}");
        }
    }

    #[test]
    fn a_name_says_how() {
        for (name, want) in [
            ("data.tar.xz", Some(Compression::Xz)),
            ("Packages.gz", Some(Compression::Gzip)),
            ("data.tar.zst", Some(Compression::Zstd)),
            ("data.tar", Some(Compression::None)),
            ("data.tar.lzma", None),
            ("Packages", None),
        ] {
            assert_eq!(Compression::of(name), want, "{name}");
        }
    }
}
