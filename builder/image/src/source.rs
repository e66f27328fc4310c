//! What a build is made from: files of a directory that somebody else may be changing meanwhile. They are named below a descriptor, and no link is
//! followed on the way, so a link that is put there after a look leads nowhere.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use airtight_sys::open::open_beneath;
use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use crate::store::Identity;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: OsString,
    pub kind: ItemKind,
}

/// What it names; a link is the link itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    Directory,
    /// The target as it is.
    Symlink(PathBuf),
    File(Identity),
    /// What no layer of files can hold, as it is called.
    Other(&'static str),
}

/// Why a directory could not be listed: the name in it that could not be asked about, if it was that.
#[derive(Debug)]
pub struct ListError {
    pub name: Option<OsString>,
    pub error: io::Error,
}

/// What `path` below `root` names; a link on the way or at its end is refused.
///
/// # Errors
/// `openat2(2)`'s: `ELOOP` for a link.
pub fn kind_beneath(root: &File, path: &Path) -> io::Result<ItemKind> {
    let found = look_beneath(root, path)?;
    Ok(kind_of(&fstat(&found)?))
}

/// Lists what lies in the directory at `path` below `root`, sorted by name, without the names that are not `wanted`. Every look is one by a name in the directory
/// that is held open; of directories and links only the kind is asked.
///
/// # Errors
/// `openat2(2)`'s, `getdents64(2)`'s, `fstatat(2)`'s, `readlinkat(2)`'s.
pub fn list_beneath(
    root: &File,
    path: &Path,
    wanted: impl Fn(&OsStr) -> bool,
) -> Result<Vec<Item>, ListError> {
    let whole = |error: io::Error| ListError { name: None, error };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
    let held = open(root, path, flags).map_err(whole)?;
    let mut held = Dir::from_fd(held.into()).map_err(|errno| whole(errno.into()))?;
    let mut names = Vec::new();
    for entry in held.iter() {
        let entry = entry.map_err(|errno| whole(errno.into()))?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") && wanted(OsStr::from_bytes(name.to_bytes())) {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let item = |(name, kind): (CString, Option<Type>)| {
        let found = look(&held, &name, kind);
        let name = OsString::from_vec(name.into_bytes());
        match found {
            Ok(kind) => Ok(Item { name, kind }),
            Err(errno) => Err(ListError {
                name: Some(name),
                error: errno.into(),
            }),
        }
    };
    names.into_iter().map(item).collect()
}

fn look(held: &Dir, name: &CString, kind: Option<Type>) -> nix::Result<ItemKind> {
    let link = || readlinkat(held, name.as_c_str()).map(|target| ItemKind::Symlink(target.into()));
    match kind {
        Some(Type::Directory) => return Ok(ItemKind::Directory),
        Some(Type::Symlink) => return link(),
        Some(
            Type::File | Type::Fifo | Type::Socket | Type::BlockDevice | Type::CharacterDevice,
        )
        | None => {}
    }
    // What it is now, whatever it was when it was listed.
    let stat = fstatat(held, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() {
        return link();
    }
    Ok(kind_of(&stat))
}

/// Of what is no link.
fn kind_of(stat: &FileStat) -> ItemKind {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => ItemKind::Directory,
        SFlag::S_IFREG => ItemKind::File(Identity::of_stat(stat)),
        SFlag::S_IFSOCK => ItemKind::Other("a socket"),
        SFlag::S_IFIFO => ItemKind::Other("a FIFO"),
        SFlag::S_IFBLK => ItemKind::Other("a block device"),
        SFlag::S_IFCHR => ItemKind::Other("a character device"),
        _ => ItemKind::Other("of an unknown type"),
    }
}

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
