//! Layers: tar archives, written the same way every time, and unpacked without trust.

mod archive;
mod unpack;
mod write;

pub use unpack::{Limits, Unpacked, unpack};
pub use write::LayerWriter;

/// A whiteout hides the name after this prefix in the layers below.
const WHITEOUT: &str = ".wh.";
/// Hides all of its directory below.
const OPAQUE: &str = ".wh..wh..opq";
