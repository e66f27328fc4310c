//! The compressed forms of format 1, piece by piece: what one thread does, and how pieces become a stream.

use std::io::{self, Write};

use flate2::Crc;

use super::deflate::{self, Deflater};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// What every tool reads.
    #[default]
    Gzip,
    /// Smaller, and made and unpacked several times as fast; containerd, podman and docker of the last years read it.
    Zstd,
}

/// A gzip header that says nothing of the host: no time, no name, "unknown" operating system.
pub(crate) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
const ZSTD_LEVEL: i32 = 3;
/// The release of libzstd whose bytes format 1 has. Another one is not used, wherever it came from.
const ZSTD_VERSION: u32 = 10_507;

impl Compression {
    /// Of the layer's descriptor.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// As a build file and the command line say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// For keys of layers; never another thing's.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Gzip => 1,
            Self::Zstd => 2,
        }
    }

    /// Bytes of the archive that are compressed by themselves. Of the format: another size gives other bytes.
    pub(super) fn piece(self) -> usize {
        match self {
            Self::Gzip => 256 << 10,
            Self::Zstd => 2 << 20,
        }
    }

    /// Bytes before a piece that its matches may reach into.
    pub(super) fn reach(self) -> usize {
        match self {
            Self::Gzip => deflate::WINDOW,
            Self::Zstd => 0,
        }
    }
}

impl std::str::FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|compression| compression.name() == text)
            .ok_or_else(|| "is neither `gzip` nor `zstd`".to_owned())
    }
}

/// One thread's.
#[derive(Debug)]
pub(super) enum Encoder {
    Gzip(Box<Deflater>),
    Zstd,
}

impl Encoder {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip(Box::new(Deflater::new())),
            Compression::Zstd => Self::Zstd,
        }
    }

    /// Compresses `input` from `start` on into `out`, which is empty. The sum is for gzip's end.
    pub(super) fn piece(
        &mut self,
        input: &[u8],
        start: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<Crc> {
        let mut sum = Crc::new();
        match self {
            Self::Gzip(deflater) => {
                deflater.piece(input, start, out);
                sum.update(input.get(start..).unwrap_or_default());
            }
            Self::Zstd => frame(input, out)?,
        }
        Ok(sum)
    }
}

/// A frame by itself, with its size. A context for each: what was compressed before has no part in it.
fn frame(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let linked = zstd::zstd_safe::version_number();
    if linked != ZSTD_VERSION {
        return Err(io::Error::other(format!(
            "libzstd {linked} is linked, and format 1 is written by {ZSTD_VERSION}"
        )));
    }
    out.reserve(zstd::zstd_safe::compress_bound(input.len()));
    zstd::bulk::Compressor::new(ZSTD_LEVEL)?.compress_to_buffer(input, out)?;
    Ok(())
}

/// What stands around the pieces.
#[derive(Debug)]
pub(super) struct Frame {
    compression: Compression,
    sum: Crc,
}

impl Frame {
    pub(super) fn begin(compression: Compression, out: &mut impl Write) -> io::Result<Self> {
        if compression == Compression::Gzip {
            out.write_all(&GZIP_HEADER)?;
        }
        let sum = Crc::new();
        Ok(Self { compression, sum })
    }

    /// The pieces' sums in their order.
    pub(super) fn piece(&mut self, sum: &Crc) {
        self.sum.combine(sum);
    }

    pub(super) fn end(self, out: &mut impl Write) -> io::Result<()> {
        if self.compression == Compression::Gzip {
            out.write_all(&deflate::END)?;
            out.write_all(&self.sum.sum().to_le_bytes())?;
            // Modulo 2^32, as gzip has it.
            out.write_all(&self.sum.amount().to_le_bytes())?;
        }
        Ok(())
    }
}
