//! What a layer holds, without unpacking it: each entry with its content as it streams by.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive::{self, Kind};
use super::{AUFS, Limits, OPAQUE, WHITEOUT};
use crate::error::{Error, Result};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative, without `.` and `..`; never empty. Of a whiteout, what it hides; of an opaque mark, the directory, which may be the root.
    pub path: PathBuf,
    pub kind: MemberKind,
    /// Permission bits, with set-user-ID, set-group-ID and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Bytes of the content.
    pub size: u64,
    /// It has file capabilities.
    pub capability: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    Directory,
    File,
    /// The target as it is.
    Symlink(PathBuf),
    /// To another path of the same layer.
    Hardlink(PathBuf),
    /// Hides this path of the layers below.
    Whiteout,
    /// Hides all that the layers below have in this directory.
    Opaque,
}

/// Calls `each` for every entry of an uncompressed archive, with the content of a file. Entries for the root itself are left out.
///
/// # Errors
/// What is no archive, or holds what no layer may; what `each` returns.
pub fn list(
    reader: impl Read,
    mut each: impl FnMut(Member, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let limits = Limits::default();
    let (mut entries, mut bytes) = (0, 0_u64);
    archive::read(reader, |entry, content| {
        entries += 1;
        bytes = bytes.saturating_add(entry.size);
        if entries > limits.entries || bytes > limits.bytes {
            return Err(Error::refused(
                "layer",
                format!("has {entries} entries and {bytes} bytes or more"),
                "split or rebuild the image",
            ));
        }
        let (Some(name), parent) = (
            entry.path.file_name(),
            entry.path.parent().unwrap_or(Path::new("")),
        ) else {
            return Ok(());
        };
        let text = name.as_encoded_bytes();
        let (path, kind) = if text == OPAQUE.as_bytes() {
            (parent.to_owned(), MemberKind::Opaque)
        } else if text.starts_with(AUFS.as_bytes()) {
            return Ok(());
        } else if let Some(hidden) = text.strip_prefix(WHITEOUT.as_bytes()) {
            use std::os::unix::ffi::OsStrExt as _;
            let hidden = parent.join(std::ffi::OsStr::from_bytes(hidden));
            (hidden, MemberKind::Whiteout)
        } else {
            let kind = match entry.kind {
                Kind::Directory => MemberKind::Directory,
                Kind::File => MemberKind::File,
                Kind::Symlink(target) => MemberKind::Symlink(target),
                Kind::Hardlink(target) => MemberKind::Hardlink(target),
            };
            (entry.path, kind)
        };
        let member = Member {
            path,
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            capability: entry.capability,
        };
        each(member, &mut content.take(entry.size))
    })
}
