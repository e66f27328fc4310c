//! Trees of mounts: copied, changed and moved by descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::{c_path, fd_result, flag, unit_result};
use crate::error::{Result, SysError};

/// What `mount_setattr(2)` changes: `MOUNT_ATTR_*` bits, and one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    /// The mounts below too.
    pub recursive: bool,
}

/// A detached copy of the mount at `at` (its root is exactly that file or directory), with the mounts below it where `recursive`.
///
/// # Errors
/// `open_tree(2)`'s: `EPERM` where the caller may not mount, `EINVAL` for an unbindable mount, or for one with mounts below it that are locked to it.
pub fn copy_tree(at: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flag(libc::AT_EMPTY_PATH);
    if recursive {
        flags |= flag(libc::AT_RECURSIVE);
    }
    // SAFETY: the path is a static NUL-terminated empty string; the rest are integers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            at.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    fd_result(ret, "open_tree", || {
        let kind = if recursive { "|AT_RECURSIVE" } else { "" };
        format!("OPEN_TREE_CLONE{kind}")
    })
}

/// [`copy_tree`] of a path of the host, whose links are followed; without the mounts below it.
///
/// # Errors
/// As [`copy_tree`], and `ENOENT` where nothing is.
pub fn clone_tree_at(path: &Path) -> Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a live string that ends in NUL; the rest are integers.
    let ret = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    fd_result(ret, "open_tree", || format!("{path:?}, OPEN_TREE_CLONE"))
}

/// Makes `change` on the mount whose root `mount` is, and with `user_namespace` sets the id map of that namespace (`MOUNT_ATTR_IDMAP`), which the kernel
/// allows on a detached mount only.
///
/// # Errors
/// `mount_setattr(2)`'s: `EPERM` for clearing a flag that a user namespace locks, `EINVAL` for a file system that takes no id map.
pub fn change(
    mount: impl AsFd,
    change: &Change,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let (mut set, mut clear) = (change.set, change.clear);
    // The access time is one field of three values, not a set of bits: a new value takes the old one's place whole.
    if (set | clear) & libc::MOUNT_ATTR__ATIME != 0 {
        clear |= libc::MOUNT_ATTR__ATIME;
    }
    let mut userns_fd = 0;
    if let Some(fd) = user_namespace {
        set |= libc::MOUNT_ATTR_IDMAP;
        userns_fd = u64::try_from(fd.as_raw_fd())
            .map_err(|_| SysError::new("mount_setattr", "userns_fd", Errno::EBADF))?;
    }
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: change.propagation,
        userns_fd,
    };
    let mut flags = flag(libc::AT_EMPTY_PATH);
    if change.recursive {
        flags |= flag(libc::AT_RECURSIVE);
    }
    // SAFETY: the path is a static empty string, `attr` is a live structure of exactly the size that is said.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    unit_result(ret, "mount_setattr", || {
        format!("{change:x?}, idmap {}", user_namespace.is_some())
    })
}

/// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`, with `MS_REC` or without, on `path`.
///
/// # Errors
/// `mount(2)`'s.
pub fn set_propagation(path: &str, propagation: MsFlags) -> Result<()> {
    nix::mount::mount(None::<&str>, path, None::<&str>, propagation, None::<&str>)
        .map_err(|errno| SysError::new("mount", format!("{path:?}, {propagation:?}"), errno))
}

/// Takes what is mounted at `path` out of this mount namespace. A link at the end is not followed.
///
/// # Errors
/// `umount2(2)`'s: `EINVAL` for what is no mount point or is locked by a user namespace.
pub fn detach(path: &Path) -> Result<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|errno| SysError::new("umount2", format!("{path:?}, MNT_DETACH"), errno))
}

/// `chroot(2)` into the working directory.
///
/// # Errors
/// The call's.
pub fn change_root_to_working_directory() -> Result<()> {
    nix::unistd::chroot(".").map_err(|errno| SysError::new("chroot", "\".\"", errno))?;
    nix::unistd::chdir("/").map_err(|errno| SysError::new("chdir", "\"/\"", errno))
}
