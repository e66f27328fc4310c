//! The mount API (5.2) and `mount_setattr` (5.12), by descriptor: a mount is made detached, given its attributes while nobody can reach it,
//! and moved to a target that was opened below the root. The path-based `mount(2)` is here for overlay alone, whose
//! layers the new API takes only from 6.5 on.

mod filesystem;
mod tree;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use crate::error::{Result, SysError};

pub use filesystem::*;
pub use tree::*;

/// Attributes of a mount. Everything of ours is `nosuid,nodev` unless a device is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    pub read_only: bool,
    pub no_suid: bool,
    pub no_dev: bool,
    pub no_exec: bool,
}

impl Attributes {
    /// `nosuid,nodev,noexec`, writable.
    pub const DATA: Self = Self {
        read_only: false,
        no_suid: true,
        no_dev: true,
        no_exec: true,
    };
    /// `ro,nosuid,nodev,noexec`.
    pub const FIXED: Self = Self {
        read_only: true,
        no_suid: true,
        no_dev: true,
        no_exec: true,
    };
    /// `ro,nosuid,nodev`: the payload's code.
    pub const CODE: Self = Self {
        read_only: true,
        no_suid: true,
        no_dev: true,
        no_exec: false,
    };
    /// `nosuid,noexec`: a device node that must work.
    pub const DEVICE: Self = Self {
        read_only: false,
        no_suid: true,
        no_dev: false,
        no_exec: true,
    };

    fn bits(self) -> u64 {
        let mut bits = 0;
        for (on, bit) in [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.no_suid, libc::MOUNT_ATTR_NOSUID),
            (self.no_dev, libc::MOUNT_ATTR_NODEV),
            (self.no_exec, libc::MOUNT_ATTR_NOEXEC),
        ] {
            if on {
                bits |= bit;
            }
        }
        bits
    }
}

fn fd_result(
    ret: libc::c_long,
    call: &'static str,
    args: impl FnOnce() -> String,
) -> Result<OwnedFd> {
    match RawFd::try_from(ret) {
        // SAFETY: a non-negative result of the call is a descriptor that the kernel made just now for us; nobody else has its number.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last(call, args())),
    }
}

fn unit_result(ret: libc::c_long, call: &'static str, args: impl FnOnce() -> String) -> Result<()> {
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last(call, args()))
    }
}

/// A new superblock of `filesystem` with these options, mounted detached with `attributes`.
///
/// # Errors
/// As [`new_filesystem`].
pub fn new_mount(
    filesystem: &CStr,
    options: &[FilesystemOption<'_>],
    attributes: Attributes,
) -> Result<OwnedFd> {
    new_filesystem(filesystem, options, attributes.bits())
}

/// A detached copy of the mount at `at` (its root is exactly that file or directory).
///
/// # Errors
/// As [`copy_tree`].
pub fn clone_tree(at: impl AsFd) -> Result<OwnedFd> {
    copy_tree(at, false)
}

/// Sets `attributes` on a mount, and with `user_namespace` the id map of that namespace.
///
/// # Errors
/// As [`change`].
pub fn set_attributes(
    mount: impl AsFd,
    attributes: Attributes,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let set = Change {
        set: attributes.bits(),
        ..Change::default()
    };
    change(mount, &set, user_namespace)
}

/// Attaches a detached mount over the file or directory that `target` is.
///
/// # Errors
/// `move_mount(2)`'s.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are static empty strings; the rest are integers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    unit_result(ret, "move_mount", || {
        format!(
            "{} over {}",
            mount.as_fd().as_raw_fd(),
            target.as_fd().as_raw_fd()
        )
    })
}

/// Attaches a detached mount over the directory of this name in `parent`; a link of that name is not followed.
///
/// # Errors
/// `move_mount(2)`'s.
pub fn attach_at(mount: impl AsFd, parent: impl AsFd, name: &OsStr) -> Result<()> {
    let name = c_path(Path::new(name))?;
    // SAFETY: both paths are live strings that end in NUL; the rest are integers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            parent.as_fd().as_raw_fd(),
            name.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    unit_result(ret, "move_mount", || {
        format!("{} over {name:?}", mount.as_fd().as_raw_fd())
    })
}

/// A read-only overlay without an upper layer, at `target`; `lower` names directories relative to the working directory, highest first.
/// `userxattr`: its marks are in `user.overlay.*`, which an unprivileged unpacker can write.
///
/// # Errors
/// `mount(2)`'s.
pub fn overlay(lower: &str, target: &str) -> Result<()> {
    let data = format!("lowerdir={lower},userxattr");
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(
        Some("overlay"),
        target,
        Some("overlay"),
        flags,
        Some(data.as_str()),
    )
    .map_err(|errno| SysError::new("mount", format!("overlay, {target:?}, {data:?}"), errno))
}

/// `MS_REC|MS_SLAVE` on `/`: what happens here is not seen outside.
///
/// # Errors
/// `mount(2)`'s.
pub fn slave_propagation() -> Result<()> {
    set_propagation("/", MsFlags::MS_REC | MsFlags::MS_SLAVE)
}

/// The working directory becomes the root, and the old root is detached from below it: `pivot_root(".", ".")` needs no
/// directory for the old root inside the new one.
///
/// # Errors
/// `pivot_root(2)`'s, `umount2(2)`'s, `chdir(2)`'s.
pub fn pivot_to_working_directory() -> Result<()> {
    nix::unistd::pivot_root(".", ".")
        .map_err(|errno| SysError::new("pivot_root", "\".\", \".\"", errno))?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH)
        .map_err(|errno| SysError::new("umount2", "\".\", MNT_DETACH", errno))?;
    nix::unistd::chdir("/").map_err(|errno| SysError::new("chdir", "\"/\"", errno))
}

/// `mount("none", "/", "tmpfs")` from here must fail: the canary's attempt.
///
/// # Errors
/// The refusal, which is what the caller hopes for.
pub fn try_mount_tmpfs() -> Result<()> {
    nix::mount::mount(
        Some("none"),
        "/",
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|errno| SysError::new("mount", "tmpfs, \"/\"", errno))
}

/// A C string of a number or a short text of ours.
///
/// # Errors
/// `EINVAL` for a NUL inside.
pub fn option(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| SysError::new("fsconfig", format!("{text:?}"), Errno::EINVAL))
}

/// The kernel's flag words are unsigned where libc's constants are signed.
const fn flag(value: libc::c_int) -> libc::c_uint {
    value.cast_unsigned()
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| SysError::new("mount", format!("{path:?}"), Errno::EINVAL))
}
