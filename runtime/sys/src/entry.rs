//! Entries of a directory, as a copier needs them: names, status, extended attributes. A link is always the link itself.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat, major, minor};

use crate::error::{Result, SysError};

/// The longest name and the longest value of an extended attribute that Linux has.
const XATTR_MAX: usize = 64 << 10;

/// What `fstatat(2)` says of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One of `S_IFMT`.
    pub format: SFlag,
    /// Permission bits, set-id and sticky among them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The identity of the file: one that has several names has one.
    pub identity: (u64, u64),
    pub links: u64,
    /// Of a device.
    pub number: (u64, u64),
}

/// The names in a directory, sorted.
///
/// # Errors
/// `getdents64(2)`'s.
pub fn names(directory: OwnedFd) -> Result<Vec<OsString>> {
    let failed = |errno| SysError::new("getdents64", "", errno);
    let mut open = Dir::from_fd(directory).map_err(failed)?;
    let mut names = Vec::new();
    for entry in open.iter() {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What `name` itself is.
///
/// # Errors
/// `fstatat(2)`'s.
pub fn entry(parent: impl AsFd, name: &OsStr) -> Result<Entry> {
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| SysError::new("fstatat", format!("{name:?}"), errno))?;
    Ok(Entry {
        format: SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        identity: (stat.st_dev, stat.st_ino),
        links: stat.st_nlink,
        number: (major(stat.st_rdev), minor(stat.st_rdev)),
    })
}

/// Opens `name` for reading: never through a link, and without waiting for a writer where it is a fifo by now.
///
/// # Errors
/// `openat(2)`'s.
pub fn open_entry(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
        .map_err(|errno| SysError::new("openat", format!("{name:?}"), errno))
}

/// Where the link `name` leads, as it is written.
///
/// # Errors
/// `readlinkat(2)`'s.
pub fn read_link(parent: impl AsFd, name: &OsStr) -> Result<OsString> {
    readlinkat(parent, name)
        .map_err(|errno| SysError::new("readlinkat", format!("{name:?}"), errno))
}

/// Gives `to` the extended attributes of `from`, both open for reading; those that the other file system or this caller's rights do not allow are left out.
///
/// # Errors
/// `flistxattr(2)`'s, `fgetxattr(2)`'s, `fsetxattr(2)`'s.
pub fn copy_xattrs(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let mut list = vec![0_u8; XATTR_MAX];
    // SAFETY: the kernel writes at most the length that it is given into the buffer, which is that long and outlives the call.
    let length = unsafe { libc::flistxattr(from, list.as_mut_ptr().cast(), list.len()) };
    let Ok(length) = usize::try_from(length) else {
        return match Errno::last() {
            Errno::EOPNOTSUPP => Ok(()),
            errno => Err(SysError::new("flistxattr", "", errno)),
        };
    };
    for name in list
        .get(..length)
        .unwrap_or_default()
        .split(|&byte| byte == 0)
    {
        let Ok(name) = CString::new(name) else {
            continue;
        };
        if !name.is_empty() {
            copy_xattr(from, to, &name)?;
        }
    }
    Ok(())
}

fn copy_xattr(from: libc::c_int, to: libc::c_int, name: &CStr) -> Result<()> {
    let failed = |call| SysError::last(call, OsStr::from_bytes(name.to_bytes()).to_string_lossy());
    let mut value = vec![0_u8; XATTR_MAX];
    // SAFETY: `name` ends at its NUL; the kernel writes at most the length that it is given into the buffer, which is that long.
    let length =
        unsafe { libc::fgetxattr(from, name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let Ok(length) = usize::try_from(length) else {
        return match Errno::last() {
            // Taken away meanwhile.
            Errno::ENODATA => Ok(()),
            _ => Err(failed("fgetxattr")),
        };
    };
    // SAFETY: `name` ends at its NUL, and `length` is what the kernel filled of the buffer, so that it reads nothing else.
    let ret = unsafe { libc::fsetxattr(to, name.as_ptr(), value.as_ptr().cast(), length, 0) };
    match Errno::last() {
        _ if ret == 0 => Ok(()),
        Errno::EOPNOTSUPP | Errno::EPERM | Errno::EINVAL => Ok(()),
        _ => Err(failed("fsetxattr")),
    }
}
