//! The start of a process that carries sockets: what it inherits, a child of it that runs one function, and the way into another process's
//! network.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit};

use super::failed;
use crate::error::Result;
use crate::namespace::{Forked, assert_single_threaded, clone_into};
use crate::process::{exit_now, set_rlimit};

/// Takes a descriptor that this process was started with, close-on-exec from now on. Call it first of all, once for each number: what this
/// process opened itself has an owner already.
///
/// # Errors
/// `EBADF` when there is none, `EINVAL` for a standard stream.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    let fail = |errno| failed("fcntl", &format!("{number}, F_SETFD, FD_CLOEXEC"), errno);
    if number < 3 {
        return Err(fail(Errno::EINVAL));
    }
    // SAFETY: fcntl below is the test whether the number is open, and it touches no memory; the value is forgotten if it is not. That nobody
    // else owns it is the caller's part: it is a number that an exec handed over, taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(fd),
        Err(errno) => {
            std::mem::forget(fd);
            Err(fail(errno))
        }
    }
}

/// Raises the limit of open descriptors to the hard one and returns it.
///
/// # Errors
/// `getrlimit(2)`'s, `setrlimit(2)`'s.
pub fn raise_open_files() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|errno| failed("getrlimit", "RLIMIT_NOFILE", errno))?;
    set_rlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard)
}

/// No core file, nor a program that is given one: it would hold what passes through this process. The kernel starts such a program whatever the limit
/// is, but for 1.
///
/// # Errors
/// `setrlimit(2)`'s.
pub fn no_core_file() -> Result<()> {
    crate::process::lower_rlimit(Resource::RLIMIT_CORE, 1, 1)
}

/// Two bytes that nobody can guess.
///
/// # Errors
/// `getrandom(2)`'s.
pub fn random_word() -> Result<u16> {
    let mut bytes = [0_u8; 2];
    // SAFETY: the kernel writes at most `bytes.len()` bytes at the pointer, which is a live array of this frame.
    let length = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(length) == Ok(bytes.len()) {
        return Ok(u16::from_ne_bytes(bytes));
    }
    Err(failed("getrandom", "2 bytes", Errno::last()))
}

/// Forks; the child runs `run` and ends with what it returns, never coming back into the caller's code. Returns the child's pidfd.
///
/// # Errors
/// `EBUSY` when this process has more than one thread: a lock that another holds would stay held in the child for ever. Else
/// `clone3(2)`'s.
pub fn fork_run(run: impl FnOnce() -> u8) -> Result<OwnedFd> {
    assert_single_threaded()?;
    match clone_into(CloneFlags::empty())? {
        Forked::Parent { pidfd, .. } => Ok(pidfd),
        Forked::Child => exit_now(i32::from(run())),
    }
}

/// Enters the user and network namespaces of the process behind `pidfd`, with every capability that the user namespace
/// gives: sockets made from now on are born there.
///
/// # Errors
/// `setns(2)`'s.
pub fn enter_network(pidfd: impl AsFd) -> Result<()> {
    setns(&pidfd, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(|errno| {
        failed(
            "setns",
            &format!(
                "pidfd {}, CLONE_NEWUSER|CLONE_NEWNET",
                pidfd.as_fd().as_raw_fd()
            ),
            errno,
        )
    })
}
