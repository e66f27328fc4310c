//! Layers: tar archives, written the same way every time, and unpacked without trust.

mod archive;
mod deflate;
mod encode;
mod header;
mod layout;
mod listing;
mod pipeline;
mod program;
mod proof;
mod turns;
mod unpack;
mod write;

pub use archive::{MAX_DEPTH, MAX_PATH};
pub use encode::Compression;
pub(crate) use encode::GZIP_HEADER;
pub use listing::list;
pub use listing::{Member, MemberKind};
pub use proof::Proof;
pub use unpack::{Limits, Unpacked, unpack};
pub use write::{Content, Form, Held, LayerEntry, LayerItem, Sealed, write};

/// The number of what a build file's `format` says of a layer's bytes: the same entries, epoch and compression give the same bytes for as long as it stays.
pub const FORMAT: u32 = 1;

/// A whiteout hides the name after this prefix in the layers below.
pub const WHITEOUT: &str = ".wh.";
/// Hides all of its directory below.
const OPAQUE: &str = ".wh..wh..opq";
/// aufs keeps its own notes under names of this form.
const AUFS: &str = ".wh..wh.";

/// Whether a directory of an unpacked layer hides what the layers below have in it. What cannot be asked counts as hiding.
#[must_use]
pub fn hides_below(directory: &std::path::Path) -> bool {
    airtight_sys::open::is_opaque(directory).unwrap_or(true)
}
