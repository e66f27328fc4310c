//! File systems by their contexts: `fsopen(2)`, `fspick(2)`, `fsconfig(2)`, `fsmount(2)`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::{fd_result, unit_result};
use crate::error::{Result, SysError};

/// The key of an option, and its value; one without a value is a flag.
pub type FilesystemOption<'a> = (&'a CStr, Option<&'a CStr>);

/// The longest value that `fsconfig(2)` takes as a string, without its NUL.
pub const VALUE_MAX: usize = 255;

/// A new superblock of `filesystem` with these options, mounted detached with `attributes` (`MOUNT_ATTR_*`).
///
/// # Errors
/// `fsopen(2)`'s, `fsconfig(2)`'s (the option is named, with what the file system says of it), `fsmount(2)`'s.
pub fn new_filesystem(
    filesystem: &CStr,
    options: &[FilesystemOption<'_>],
    attributes: u64,
) -> Result<OwnedFd> {
    // SAFETY: `filesystem` is NUL-terminated and outlives the call, which only reads it.
    let ret = unsafe { libc::syscall(libc::SYS_fsopen, filesystem.as_ptr(), libc::FSOPEN_CLOEXEC) };
    let context = fd_result(ret, "fsopen", || format!("{filesystem:?}"))?;
    configure(&context, filesystem, options)?;
    command(
        &context,
        libc::FSCONFIG_CMD_CREATE,
        filesystem,
        "CMD_CREATE",
    )?;
    // SAFETY: fsmount takes integers only.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            attributes,
        )
    };
    fd_result(ret, "fsmount", || {
        format!("{filesystem:?}, {attributes:#x}{}", told(&context))
    })
}

/// Changes the superblock of what is mounted at `mount`, for everyone who has it mounted.
///
/// # Errors
/// `fspick(2)`'s and `fsconfig(2)`'s.
pub fn reconfigure(mount: impl AsFd, options: &[FilesystemOption<'_>]) -> Result<()> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
    // SAFETY: the path is a static empty string, which with FSPICK_EMPTY_PATH stands for the descriptor itself; the rest are integers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_fspick,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    let context = fd_result(ret, "fspick", String::new)?;
    configure(&context, c"remount", options)?;
    command(
        &context,
        libc::FSCONFIG_CMD_RECONFIGURE,
        c"remount",
        "CMD_RECONFIGURE",
    )
}

fn configure(context: &OwnedFd, filesystem: &CStr, options: &[FilesystemOption<'_>]) -> Result<()> {
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
            format!("{filesystem:?}, {key:?}, {value:?}{}", told(context))
        })?;
    }
    Ok(())
}

fn command(context: &OwnedFd, command: libc::c_uint, filesystem: &CStr, name: &str) -> Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the two commands of this file take no key and no value; both pointers are null as they demand.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            null,
            null,
            0,
        )
    };
    unit_result(ret, "fsconfig", || {
        format!("{filesystem:?}, {name}{}", told(context))
    })
}

/// What the file system wrote into the context about its refusal: the errno alone is mostly EINVAL. The thread's errno stays as it was.
fn told(context: &OwnedFd) -> String {
    let errno = Errno::last();
    let mut buffer = [0_u8; 256];
    let said = nix::unistd::read(context, &mut buffer)
        .ok()
        .and_then(|length| buffer.get(..length))
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    errno.set();
    // The first two bytes are the level and a space.
    said.and_then(|text| text.get(2..).map(|rest| format!(": {}", rest.trim_end())))
        .unwrap_or_default()
}

/// `mount(2)` over the working directory, for the options that `fsconfig(2)` cannot carry: it takes values of at most [`VALUE_MAX`] bytes, `mount(2)` a page
/// of all of them together.
///
/// # Errors
/// `mount(2)`'s.
pub fn mount_over_working_directory(
    source: &str,
    filesystem: &str,
    flags: MsFlags,
    data: &str,
) -> Result<()> {
    nix::mount::mount(Some(source), ".", Some(filesystem), flags, Some(data)).map_err(|errno| {
        SysError::new(
            "mount",
            format!("{source:?}, \".\", {filesystem:?}, {data:?}"),
            errno,
        )
    })
}
