//! The mount API (5.2) and `mount_setattr` (5.12), by descriptor: a mount is made detached, given its attributes while nobody can reach it,
//! and moved to a target that was opened below the root. The path-based `mount(2)` is here for overlay alone, whose
//! layers the new API takes only from 6.5 on.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use crate::error::{Result, SysError};

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
/// `fsopen(2)`'s, `fsconfig(2)`'s (the option is named), `fsmount(2)`'s.
pub fn new_mount(
    filesystem: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: Attributes,
) -> Result<OwnedFd> {
    // SAFETY: `filesystem` is NUL-terminated and outlives the call, which only reads it.
    let ret = unsafe { libc::syscall(libc::SYS_fsopen, filesystem.as_ptr(), libc::FSOPEN_CLOEXEC) };
    let context = fd_result(ret, "fsopen", || format!("{filesystem:?}"))?;
    for (key, value) in options {
        let (command, pointer) = match value {
            Some(value) => (libc::FSCONFIG_SET_STRING, value.as_ptr()),
            None => (libc::FSCONFIG_SET_FLAG, std::ptr::null()),
        };
        // SAFETY: key and value are NUL-terminated strings that outlive the call (a null value goes with SET_FLAG only).
        let ret = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                key.as_ptr(),
                pointer,
                0,
            )
        };
        unit_result(ret, "fsconfig", || {
            format!("{filesystem:?}, {key:?}, {value:?}")
        })?;
    }
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: FSCONFIG_CMD_CREATE takes no key and no value; both pointers are null as it demands.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            libc::FSCONFIG_CMD_CREATE,
            null,
            null,
            0,
        )
    };
    unit_result(ret, "fsconfig", || format!("{filesystem:?}, CMD_CREATE"))?;
    // SAFETY: fsmount takes integers only.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            attributes.bits(),
        )
    };
    fd_result(ret, "fsmount", || format!("{filesystem:?}, {attributes:?}"))
}

/// A detached copy of the mount at `at` (its root is exactly that file or directory).
///
/// # Errors
/// `open_tree(2)`'s.
pub fn clone_tree(at: impl AsFd) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flag(libc::AT_EMPTY_PATH);
    // SAFETY: the path is a static NUL-terminated empty string; the rest are integers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            at.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    fd_result(ret, "open_tree", || "OPEN_TREE_CLONE".to_owned())
}

/// Sets `attributes` on a mount, and with `user_namespace` the id map of that namespace (`MOUNT_ATTR_IDMAP`), which the kernel allows on a detached
/// mount only.
///
/// # Errors
/// `mount_setattr(2)`'s.
pub fn set_attributes(
    mount: impl AsFd,
    attributes: Attributes,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut set = attributes.bits();
    let mut userns_fd = 0;
    if let Some(fd) = user_namespace {
        set |= libc::MOUNT_ATTR_IDMAP;
        userns_fd = u64::try_from(fd.as_raw_fd())
            .map_err(|_| SysError::new("mount_setattr", "userns_fd", Errno::EBADF))?;
    }
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd,
    };
    // SAFETY: the path is a static empty string, `attr` is a live structure of exactly the size that is said.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flag(libc::AT_EMPTY_PATH),
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    unit_result(ret, "mount_setattr", || {
        format!("{attributes:?}, idmap {}", user_namespace.is_some())
    })
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
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .map_err(|errno| SysError::new("mount", "\"/\", MS_REC|MS_SLAVE", errno))
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
