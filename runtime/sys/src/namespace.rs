//! Making a process in new namespaces, and the few calls that change them.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::error::{Result, SysError};

/// `_IO(0xb7, 0x3)` of ioctl_ns(2).
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Of clone3(2) alone: too large for the flags of clone(2).
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Which side of a `clone3` or `fork` this is.
#[derive(Debug)]
pub enum Forked {
    Child,
    Parent { child: Pid, pidfd: OwnedFd },
}

/// `clone3` without `CLONE_VM`, in new namespaces, with a pidfd: a fork.
///
/// The caller has one thread (see [`assert_single_threaded`]): a lock that another thread held at this moment would stay locked in the child for ever.
///
/// # Errors
/// `clone3(2)`'s: `EPERM` and `ENOSPC` where user namespaces are switched off or used up.
pub fn clone_into(namespaces: CloneFlags) -> Result<Forked> {
    clone_with(namespaces, libc::SIGCHLD, None)
}

/// [`clone_into`], the child born in `cgroup`, the directory of a cgroup v2 group (`CLONE_INTO_CGROUP`, Linux 5.7).
///
/// Nobody is moved: a move by `cgroup.procs` waits for an RCU grace period, 5 to 14 ms on a host that was idle.
///
/// # Errors
/// [`clone_into`]'s, and those of a write to the group's `cgroup.procs`; `EINVAL` and `E2BIG` of an older kernel.
pub fn clone_into_cgroup(namespaces: CloneFlags, cgroup: BorrowedFd<'_>) -> Result<Forked> {
    clone_with(namespaces, libc::SIGCHLD, Some(cgroup))
}

fn clone_with(
    namespaces: CloneFlags,
    exit_signal: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Forked> {
    let mut pidfd: RawFd = -1;
    let flags = namespaces.bits().cast_unsigned() | libc::CLONE_PIDFD.cast_unsigned();
    // SAFETY: `clone_args` is plain integers, for which all-zero is a valid value (and means "not asked for").
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags);
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = exit_signal.cast_unsigned().into();
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child gets a copy of this address space, so both sides go on from here on stacks of their own; `args`
    // and `pidfd` live until after the call, and the caller has one thread, so no lock is held across it.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(ret) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => {
            // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor of ours in `pidfd`; nobody else knows its number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent {
                child: Pid::from_raw(pid),
                pidfd,
            })
        }
        _ => Err(SysError::last("clone3", format!("{namespaces:?}"))),
    }
}

/// Fails unless this process has exactly one thread.
///
/// # Errors
/// `EBUSY` with the count; what reading `/proc/self/task` says.
pub fn assert_single_threaded() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    // proc(5) counts them as links of the directory, like any directory's own, besides the two that each has.
    let links = std::fs::metadata("/proc/self/task")
        .map_err(|error| {
            SysError::new(
                "stat",
                "\"/proc/self/task\"",
                Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            )
        })?
        .nlink();
    let count = links.saturating_sub(2);
    if count == 1 {
        Ok(())
    } else {
        Err(SysError::new(
            "clone3",
            format!("{count} threads in the caller"),
            Errno::EBUSY,
        ))
    }
}

/// `unshare(2)`.
///
/// # Errors
/// The call's.
pub fn unshare(flags: CloneFlags) -> Result<()> {
    nix::sched::unshare(flags)
        .map_err(|errno| SysError::new("unshare", format!("{flags:?}"), errno))
}

/// `sethostname(2)`, of the own UTS namespace.
///
/// # Errors
/// The call's.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).map_err(|errno| SysError::new("sethostname", name, errno))
}

/// `setdomainname(2)`, of the own UTS namespace.
///
/// # Errors
/// The call's.
pub fn set_domainname(name: &str) -> Result<()> {
    // SAFETY: the kernel reads as many bytes at the pointer as the length says; both are those of a live string.
    let ret = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last("setdomainname", name))
    }
}

/// Makes a process as [`clone_into`] does, but as a sibling: a child of this process's own parent, which is told of its end by the signal that it is told of ours.
///
/// # Errors
/// `clone3(2)`'s: `EINVAL` for the first process of a pid namespace.
pub fn clone_sibling(namespaces: CloneFlags) -> Result<Forked> {
    clone_with(namespaces | CloneFlags::CLONE_PARENT, 0, None)
}

/// Moves this thread into the namespace of `fd`, which must be of this kind.
///
/// # Errors
/// `setns(2)`'s: `EINVAL` for another kind.
pub fn join(fd: impl AsFd, kind: CloneFlags) -> Result<()> {
    nix::sched::setns(fd, kind).map_err(|errno| SysError::new("setns", format!("{kind:?}"), errno))
}

/// The kind of namespace that `fd` is, as its `CLONE_NEW*` flag.
///
/// # Errors
/// `ENOTTY` for what is no namespace.
pub fn kind(fd: impl AsFd) -> Result<CloneFlags> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let ret = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE) };
    if ret > 0 {
        Ok(CloneFlags::from_bits_retain(ret))
    } else {
        Err(SysError::last("ioctl", "NS_GET_NSTYPE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thread_is_seen() {
        // A test is a thread beside the one that waits for it.
        let error = assert_single_threaded().unwrap_err();
        assert_eq!((error.call, error.errno), ("clone3", Errno::EBUSY));
    }
}
