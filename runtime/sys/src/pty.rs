//! A pseudo terminal from the `/dev/ptmx` that is in view, without a path of its other side (CVE-2025-52565): the kernel opens the peer of this very master.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::Pid;

use crate::directory::open_path_follow;
use crate::error::{Result, SysError};
use crate::open::open_in_root;
use crate::process::place;

/// A new terminal: its master, and its peer for the payload.
///
/// # Errors
/// `open(2)`'s of `/dev/ptmx`, `ioctl(2)`'s.
pub fn open_pair() -> Result<(OwnedFd, OwnedFd)> {
    let master = open_path_follow(Path::new("/dev/ptmx"), OFlag::O_RDWR | OFlag::O_NOCTTY)?;
    peer_of(master)
}

/// Likewise, of the `/dev/ptmx` below `root`, whose links lead nowhere else.
///
/// # Errors
/// `openat2(2)`'s; `ENOTTY` where something else bears the name.
pub fn open_pair_below(root: impl AsFd) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    peer_of(open_in_root(root, Path::new("dev/ptmx"), flags)?)
}

fn peer_of(master: OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int through the pointer, which lives until after the call.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } != 0 {
        return Err(SysError::last("ioctl", "TIOCSPTLCK"));
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as an integer and no pointer.
    let peer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if peer < 0 {
        return Err(SysError::last("ioctl", "TIOCGPTPEER"));
    }
    // SAFETY: the kernel opened `peer` for us just now; nobody else has its number.
    Ok((master, unsafe { OwnedFd::from_raw_fd(peer) }))
}

/// Makes `peer` the controlling terminal of this session, and 0, 1 and 2.
///
/// # Errors
/// `EPERM` when this process leads no session or has a terminal already.
pub fn take(peer: &OwnedFd) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    if unsafe { libc::ioctl(peer.as_raw_fd(), libc::TIOCSCTTY, 0) } != 0 {
        return Err(SysError::last("ioctl", "TIOCSCTTY"));
    }
    (0..3).try_for_each(|number| place(peer, number))
}

/// A process group of its own; with a terminal, the one in front.
///
/// # Errors
/// `setpgid(2)`'s, `tcsetpgrp(3)`'s.
pub fn lead_group(terminal: bool) -> Result<()> {
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .map_err(|errno| SysError::new("setpgid", "0, 0", errno))?;
    if terminal {
        nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid())
            .map_err(|errno| SysError::new("tcsetpgrp", "0", errno))?;
    }
    Ok(())
}
