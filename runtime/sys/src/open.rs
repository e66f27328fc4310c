//! Opening below a descriptor. A path that came from an image, a bundle or a payload is resolved by the kernel inside a root (`openat2`, 5.6), then used by
//! descriptor; it is never checked by path and used by path (CVE-2021-30465, CVE-2019-19921).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use crate::error::{Result, SysError};

/// Opens `path` below `root`: links resolve inside it, magic links not at all, and the descriptor is close-on-exec.
///
/// # Errors
/// `openat2(2)`'s.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    open_resolved(root, path, flags, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// Opens `path` below `root` and follows no link at all: what is there must be the thing itself.
///
/// # Errors
/// `openat2(2)`'s: `ELOOP` for a link, `EXDEV` for a way out.
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS;
    open_resolved(root, path, flags, resolve)
}

/// Opens a magic link of a `/proc/PID` directory: `ns/user` and its like are made of nothing else. `proc` must be proven to be procfs.
///
/// # Errors
/// `openat(2)`'s.
pub fn open_in_proc(proc: impl AsFd, path: &Path) -> Result<OwnedFd> {
    nix::fcntl::openat(proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| SysError::new("openat", format!("/proc/PID, {path:?}"), errno))
}

fn open_resolved(root: impl AsFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty()).resolve(resolve);
    openat2(root, path, how).map_err(|errno| SysError::new("openat2", format!("{path:?}, {flags:?}, {resolve:?}"), errno))
}
