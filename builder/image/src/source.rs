//! What a build is made from: files of a directory that somebody else may be changing meanwhile. They are named below a descriptor, and no link is
//! followed on the way, so a link that is put there after a look leads nowhere.

use std::fs::File;
use std::io;
use std::path::Path;

use airtight_sys::open::open_beneath;
use nix::fcntl::OFlag;

/// Opens what `path` names below `root` to look at it; neither read nor written, so that a device or pipe does nothing.
///
/// # Errors
/// `openat2(2)`'s: `ELOOP` for a link at any place, the last one too.
pub fn look_beneath(root: &File, path: &Path) -> io::Result<File> {
    open(root, path, OFlag::O_PATH)
}

/// Opens a file below `root` for reading. A pipe does not block; the caller checks on the descriptor what it got.
///
/// # Errors
/// As [`look_beneath`].
pub fn read_beneath(root: &File, path: &Path) -> io::Result<File> {
    open(
        root,
        path,
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
    )
}

fn open(root: &File, path: &Path, flags: OFlag) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    open_beneath(root, path, flags)
        .map(File::from)
        .map_err(|error| io::Error::from(error.errno))
}
