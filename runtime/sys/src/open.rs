//! Opening below a descriptor. A path that came from an image, a bundle or a payload is resolved by the kernel inside a root (`openat2`, 5.6), then used by
//! descriptor; it is never checked by path and used by path (CVE-2021-30465, CVE-2019-19921).

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use crate::error::{Result, SysError};

/// Opens `path` below `root`: links resolve inside it, magic links not at all, and the descriptor is close-on-exec.
///
/// # Errors
/// `openat2(2)`'s.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    open_resolved(
        root,
        path,
        flags,
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    )
}

/// Opens `path` below `root` and follows no link at all: what is there must be the thing itself.
///
/// # Errors
/// `openat2(2)`'s: `ELOOP` for a link, `EXDEV` for a way out.
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_SYMLINKS;
    open_resolved(root, path, flags, resolve)
}

/// Opens an absolute path of the host that was found to have no link in it: one that somebody put there since is not followed.
///
/// # Errors
/// `openat2(2)`'s: `ELOOP` for a link.
pub fn open_without_links(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS;
    open_resolved(nix::fcntl::AT_FDCWD, path, flags, resolve)
}

/// Opens a magic link of a `/proc/PID` directory: `ns/user` and its like are made of nothing else. `proc` must be proven to be procfs.
///
/// # Errors
/// `openat(2)`'s.
pub fn open_in_proc(proc: impl AsFd, path: &Path) -> Result<OwnedFd> {
    openat(
        proc,
        path,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| SysError::new("openat", format!("/proc/PID, {path:?}"), errno))
}

/// Opens what is directly below `parent` under this one name, itself: a link is not followed. `name` is one component.
///
/// # Errors
/// `openat(2)`'s.
pub fn open_name(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(failed("openat", name))
}

/// Where a link leads, as it is written; `None` for what is no link.
///
/// # Errors
/// `readlinkat(2)`'s.
pub fn link_target(link: impl AsFd) -> Result<Option<PathBuf>> {
    match readlinkat(link, "") {
        Ok(target) => Ok(Some(target.into())),
        // What the kernel says of an empty path that stands for no link.
        Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(SysError::new("readlinkat", "", errno)),
    }
}

fn open_resolved(
    root: impl AsFd,
    path: &Path,
    flags: OFlag,
    resolve: ResolveFlag,
) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(resolve);
    openat2(root, path, how).map_err(|errno| {
        SysError::new(
            "openat2",
            format!("{path:?}, {flags:?}, {resolve:?}"),
            errno,
        )
    })
}

/// A new file, never an existing one and never through a link.
///
/// # Errors
/// `openat(2)`'s: `EEXIST`.
pub fn create(parent: impl AsFd, name: &OsStr, mode: u32) -> Result<OwnedFd> {
    let flags =
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(mode)).map_err(failed("openat", name))
}

/// A new directory that its owner can fill.
///
/// # Errors
/// `mkdirat(2)`'s.
pub fn make_directory(parent: impl AsFd, name: &OsStr) -> Result<()> {
    mkdirat(parent, name, Mode::S_IRWXU).map_err(failed("mkdirat", name))
}

/// A new directory with `mode`, less the umask.
///
/// # Errors
/// `mkdirat(2)`'s.
pub fn mkdir(parent: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    mkdirat(parent, name, Mode::from_bits_truncate(mode)).map_err(failed("mkdirat", name))
}

/// A new device node or fifo (`kind`) with `mode`, less the umask.
///
/// # Errors
/// `mknodat(2)`'s: `EPERM` for a device in a user namespace.
pub fn make_node(
    parent: impl AsFd,
    name: &OsStr,
    kind: SFlag,
    mode: u32,
    device: (u64, u64),
) -> Result<()> {
    let number = nix::sys::stat::makedev(device.0, device.1);
    mknodat(parent, name, kind, Mode::from_bits_truncate(mode), number)
        .map_err(failed("mknodat", name))
}

/// # Errors
/// `symlinkat(2)`'s.
pub fn symlink(target: &Path, parent: impl AsFd, name: &OsStr) -> Result<()> {
    symlinkat(target, parent, name).map_err(failed("symlinkat", name))
}

/// A second name of what `from_name` itself is: a link is linked, not followed.
///
/// # Errors
/// `linkat(2)`'s.
pub fn hardlink(from: impl AsFd, from_name: &OsStr, parent: impl AsFd, name: &OsStr) -> Result<()> {
    linkat(from, from_name, parent, name, AtFlags::empty()).map_err(failed("linkat", name))
}

/// overlayfs's whiteout: a character device 0:0, which is no device and needs no privilege (5.8).
///
/// # Errors
/// `mknodat(2)`'s: `EEXIST`.
pub fn make_whiteout(parent: impl AsFd, name: &OsStr) -> Result<()> {
    mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), 0).map_err(failed("mknodat", name))
}

/// Marks a directory as hiding all below it, in the form that `userxattr` overlays read.
///
/// # Errors
/// `setxattr(2)`'s: `EOPNOTSUPP` on a file system without user attributes.
pub fn set_opaque(directory: &OwnedFd) -> Result<()> {
    // An O_PATH descriptor takes no xattr call, and its /proc name does.
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .map_err(|_| SysError::new("setxattr", "user.overlay.opaque", Errno::EINVAL))?;
    // SAFETY: path and name are NUL-terminated, the value is one byte long as is said, and all outlive the call.
    let ret = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"user.overlay.opaque".as_ptr(),
            c"y".as_ptr().cast(),
            1,
            0,
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last("setxattr", "user.overlay.opaque"))
    }
}

/// Whether a directory is marked by [`set_opaque`]. A link at the end is not followed.
///
/// # Errors
/// `lgetxattr(2)`'s.
pub fn is_opaque(directory: &Path) -> Result<bool> {
    let failed = |errno| {
        SysError::new(
            "lgetxattr",
            format!("{directory:?}, user.overlay.opaque"),
            errno,
        )
    };
    let path = std::ffi::CString::new(directory.as_os_str().as_encoded_bytes())
        .map_err(|_| failed(Errno::EINVAL))?;
    let mut value = [0_u8; 2];
    // SAFETY: path and name are NUL-terminated; the kernel writes at most the two bytes that it is given, which outlive the call.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            c"user.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match Errno::last() {
        _ if length >= 0 => Ok(length == 1 && value[0] == b'y'),
        Errno::ENODATA | Errno::EOPNOTSUPP => Ok(false),
        errno => Err(failed(errno)),
    }
}

/// Owner and group of the name itself.
///
/// # Errors
/// `fchownat(2)`'s.
pub fn own(parent: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    fchownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(failed("fchownat", name))
}

/// Owner and group of what `fd` refers to (an `O_PATH` descriptor will do).
///
/// # Errors
/// `fchownat(2)`'s.
pub fn own_opened(fd: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    fchownat(fd, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
        .map_err(|errno| SysError::new("fchownat", format!("{uid}:{gid}"), errno))
}

/// Mode of a file that was just made here, so that it is no link.
///
/// # Errors
/// `fchmodat(2)`'s.
pub fn set_mode(parent: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    fchmodat(
        parent,
        name,
        Mode::from_bits_truncate(mode),
        FchmodatFlags::FollowSymlink,
    )
    .map_err(failed("fchmodat", name))
}

/// Modification time of the name itself, in seconds.
///
/// # Errors
/// `utimensat(2)`'s.
pub fn set_time(parent: impl AsFd, name: &OsStr, seconds: i64) -> Result<()> {
    let time = TimeSpec::new(seconds, 0);
    utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(failed("utimensat", name))
}

/// Mode and time of an open directory.
///
/// # Errors
/// `fchmod(2)`'s, `futimens(3)`'s.
pub fn set_directory(directory: &OwnedFd, mode: u32, seconds: i64) -> Result<()> {
    let time = TimeSpec::new(seconds, 0);
    fchmod(directory, Mode::from_bits_truncate(mode))
        .map_err(|errno| SysError::new("fchmod", format!("{mode:o}"), errno))?;
    futimens(directory, &time, &time).map_err(|errno| SysError::new("futimens", "", errno))
}

/// Removes a file, a link or an empty directory; what is not there is fine.
///
/// # Errors
/// `unlinkat(2)`'s: `ENOTEMPTY`.
pub fn remove_if_there(parent: impl AsFd, name: &OsStr) -> Result<()> {
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => {
            unlinkat(&parent, name, UnlinkatFlags::RemoveDir).map_err(failed("unlinkat", name))
        }
        Err(errno) => Err(failed("unlinkat", name)(errno)),
    }
}

/// All that is dirty on the file system of `fd`, in one call: cheaper than a sync of each of many files.
///
/// # Errors
/// `syncfs(2)`'s.
pub fn sync_filesystem(fd: impl AsFd) -> Result<()> {
    nix::unistd::syncfs(fd).map_err(|errno| SysError::new("syncfs", "", errno))
}

fn failed(call: &'static str, name: &OsStr) -> impl Fn(Errno) -> SysError {
    let name = name.to_owned();
    move |errno| SysError::new(call, format!("{name:?}"), errno)
}
