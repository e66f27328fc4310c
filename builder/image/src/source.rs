//! What a build is made from: files of a directory that somebody else may be changing meanwhile. They are named below a descriptor, and no link is
//! followed on the way, so a link that is put there after a look leads nowhere.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use airtight_sys::names::NameType;
use airtight_sys::open::open_beneath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use crate::store::Identity;

pub use airtight_sys::names::Names;

/// What lies in a directory, sorted by name. All names are in one place: of a tree of many thousand files each by itself would be most of the work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    names: Vec<u8>,
    /// Each with where its name begins and ends.
    items: Vec<(u32, u32, ItemKind)>,
}

impl Items {
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The one at that place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(&OsStr, &ItemKind)> {
        let (start, end, kind) = self.items.get(at)?;
        let name = self.names.get(*start as usize..*end as usize)?;
        Some((OsStr::from_bytes(name), kind))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &ItemKind)> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// What a name is; a link is the link itself.
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

/// Opens the directory at `path` below `root` to list it.
///
/// # Errors
/// `openat2(2)`'s: `ELOOP` for a link at any place, `ENOTDIR` for what is none.
pub fn directory_beneath(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
    open(root, path, flags)
}

/// Lists what lies in a directory that was just opened, sorted by name, without the names that are not `wanted`. Every look is one by a name in the directory
/// that is held open; of directories and links only the kind is asked.
///
/// # Errors
/// `getdents64(2)`'s, `fstatat(2)`'s, `readlinkat(2)`'s.
pub fn list(
    held: &File,
    names: &mut Names,
    wanted: impl Fn(&OsStr) -> bool,
) -> Result<Items, ListError> {
    let whole = |error: io::Error| ListError { name: None, error };
    // With the zero at each one's end.
    let (mut all, mut found) = (Vec::with_capacity(512), Vec::with_capacity(32));
    let listed = names.each(held, |name, kind| {
        if wanted(OsStr::from_bytes(name.to_bytes())) {
            let start = all.len();
            all.extend_from_slice(name.to_bytes_with_nul());
            found.push((start, all.len() - 1, kind));
        }
    });
    listed.map_err(|error| whole(error.errno.into()))?;
    // Four thousand million bytes of names.
    u32::try_from(all.len()).map_err(|_| whole(io::ErrorKind::FileTooLarge.into()))?;
    found.sort_unstable_by(|(one, end, _), (other, ends, _)| {
        all[*one..*end].cmp(&all[*other..*ends])
    });
    let item = |(start, end, kind): (usize, usize, NameType)| {
        let name = all.get(start..=end).unwrap_or_default();
        // None is that far.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let look = CStr::from_bytes_with_nul(name)
            .map_err(|_| Errno::EINVAL)
            .and_then(|name| look(held, name, kind));
        look.map(|kind| (place(start), place(end), kind))
            .map_err(|errno| ListError {
                name: Some(OsStr::from_bytes(&name[..end - start]).to_owned()),
                error: errno.into(),
            })
    };
    let items = found.into_iter().map(item).collect::<Result<_, _>>()?;
    Ok(Items { names: all, items })
}

fn look(held: &File, name: &CStr, kind: NameType) -> nix::Result<ItemKind> {
    let link = || readlinkat(held, name).map(|target| ItemKind::Symlink(target.into()));
    match kind {
        NameType::Directory => return Ok(ItemKind::Directory),
        NameType::Symlink => return link(),
        NameType::Other => {}
    }
    // What it is now, whatever it was when it was listed.
    let stat = fstatat(held, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
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
