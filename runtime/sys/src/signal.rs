//! Signals and the waiting for processes, by descriptor where the kernel has one: a pidfd names the process that it was made for and
//! never a later one of the same number.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Result, SysError};

pub use libc::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

/// A set of signals to block.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries((1..=64).filter(|signal| self.has(*signal)))
            .finish()
    }
}

impl Mask {
    /// Every signal.
    #[must_use]
    pub fn all() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset writes the whole set at the pointer and cannot fail for a valid one.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: sigfillset has written it.
        Self(unsafe { set.assume_init() })
    }

    /// Every signal but those that tell of a fault of this very thread: blocked, a fault kills without a trace of which.
    #[must_use]
    pub fn all_but_faults() -> Self {
        let mut mask = Self::all();
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGSYS,
        ] {
            // SAFETY: the set is initialised and the numbers are signals.
            unsafe { libc::sigdelset(&raw mut mask.0, signal) };
        }
        mask
    }

    #[must_use]
    pub fn has(&self, signal: i32) -> bool {
        // SAFETY: the set is initialised; a number that is no signal gives -1.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }

    /// Makes this the mask of the calling thread; returns the one before.
    ///
    /// # Errors
    /// None in practice; `rt_sigprocmask(2)`'s.
    pub fn apply(&self) -> Result<Self> {
        let mut before = MaybeUninit::uninit();
        // SAFETY: the kernel reads our set and writes the one before; both pointers are to live sets.
        let ret =
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, before.as_mut_ptr()) };
        if ret != 0 {
            return Err(failed("rt_sigprocmask", "SIG_SETMASK", Errno::last()));
        }
        // SAFETY: the call succeeded, so that it has written the set.
        Ok(Self(unsafe { before.assume_init() }))
    }
}

/// Every signal's action back to the default and none blocked, as a program expects to be started. Rust's start ignores `SIGPIPE`, and
/// what is ignored or blocked stays so across exec. Allocates nothing.
///
/// # Errors
/// None in practice; `rt_sigprocmask(2)`'s.
pub fn reset_for_exec() -> Result<()> {
    for signal in 1..=64 {
        // SAFETY: no handler of ours is replaced by code that could run: SIG_DFL is no address. KILL, STOP and libc's own two
        // are refused with EINVAL, which is what we want for them.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset writes the whole set at the pointer.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: sigemptyset has written it.
    Mask(unsafe { none.assume_init() }).apply().map(drop)
}

/// Whether the default action of a signal ends the process.
#[must_use]
pub fn ends_a_process(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGCONT
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}

/// Blocked signals as readable events.
#[derive(Debug)]
pub struct SignalFd(File);

impl SignalFd {
    /// `mask` must be blocked already.
    ///
    /// # Errors
    /// `signalfd4(2)`'s.
    pub fn new(mask: &Mask) -> Result<Self> {
        // SAFETY: the kernel reads the set at the pointer, which is live.
        let fd = unsafe {
            libc::signalfd(
                -1,
                &raw const mask.0,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        if fd < 0 {
            return Err(failed("signalfd4", "-1", Errno::last()));
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// The next pending signal's number, or `None`.
    ///
    /// # Errors
    /// `read(2)`'s.
    pub fn receive(&mut self) -> Result<Option<i32>> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match self.0.read(&mut info) {
            // `ssi_signo` comes first.
            Ok(_) => Ok(info.first_chunk().map(|number| i32::from_ne_bytes(*number))),
            Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(err) => Err(failed(
                "read",
                "signalfd",
                Errno::from_raw(err.raw_os_error().unwrap_or(0)),
            )),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor of a process that is our child or visible to us.
///
/// # Errors
/// `ESRCH` when it is gone and reaped, else `pidfd_open(2)`'s.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(failed("pidfd_open", pid, Errno::last())),
    }
}

/// The number of the process of `pidfd`, in the pid namespace of our procfs; `None` when it has ended and was reaped.
///
/// # Errors
/// What reading `/proc/self/fdinfo` says; `EPROTO` when it says no number.
pub fn pid_of(pidfd: impl AsFd) -> Result<Option<i32>> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|err| {
        failed(
            "open",
            &path,
            Errno::from_raw(err.raw_os_error().unwrap_or(0)),
        )
    })?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|number| number.trim().parse::<i32>().ok())
        .ok_or_else(|| failed("read", &path, Errno::EPROTO))?;
    Ok((number > 0).then_some(number))
}

/// Sends a signal to the process of `pidfd`.
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM`.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: integers, and a null siginfo, which asks for what kill(2) would send.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd,
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(failed("pidfd_send_signal", signal, Errno::last()))
    }
}

/// Reaps the child of `pidfd` if it has ended.
///
/// # Errors
/// `ECHILD` when it is no child of ours or was reaped before.
pub fn reap(pidfd: impl AsFd) -> Result<Option<Status>> {
    let fd = libc::id_t::try_from(pidfd.as_fd().as_raw_fd()).unwrap_or(libc::id_t::MAX);
    wait(libc::P_PIDFD, fd).map(|ended| ended.map(|(_, status)| status))
}

/// Reaps any child that has ended: its pid and how. For a pid 1; allocates nothing unless it fails.
///
/// # Errors
/// `ECHILD` when there is no child at all.
pub fn reap_any() -> Result<Option<(i32, Status)>> {
    wait(libc::P_ALL, 0)
}

fn wait(of: libc::idtype_t, id: libc::id_t) -> Result<Option<(i32, Status)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: the kernel writes one siginfo at the pointer, which is live.
        let ret = unsafe { libc::waitid(of, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG) };
        match (ret, Errno::last()) {
            (0, _) => break,
            (_, Errno::EINTR) => {}
            (_, errno) => {
                return Err(SysError {
                    call: "waitid",
                    args: String::new(),
                    errno,
                });
            }
        }
    }
    // SAFETY: zeroed is a valid siginfo, and the kernel may have written over it.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills the SIGCHLD variant, or leaves zeros when nothing has ended.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then(|| match info.si_code {
        libc::CLD_EXITED => (
            pid,
            Status::Exited(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        ),
        _ => (pid, Status::Signaled(status)),
    }))
}

/// Waits for any signal of a blocked mask. Allocates nothing.
///
/// # Errors
/// None in practice; `rt_sigtimedwait(2)`'s.
pub fn wait_for(mask: &Mask) -> Result<i32> {
    loop {
        // SAFETY: the kernel reads the set; a null siginfo asks for the number only.
        let signal = unsafe { libc::sigwaitinfo(&raw const mask.0, std::ptr::null_mut()) };
        match (signal, Errno::last()) {
            (1.., _) => return Ok(signal),
            (_, Errno::EINTR) => {}
            (_, errno) => {
                return Err(SysError {
                    call: "rt_sigtimedwait",
                    args: String::new(),
                    errno,
                });
            }
        }
    }
}

/// `kill(2)` for a pid 1 whose children cannot be reaped, and so not renumbered, by anybody else; -1 is every process of its namespace
/// but itself. Allocates nothing.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: integers only.
    let ret = unsafe { libc::kill(pid, signal) };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError {
            call: "kill",
            args: String::new(),
            errno: Errno::last(),
        })
    }
}

/// Closes 0, 1 and 2, for a process that will never write again.
///
/// # Errors
/// `close_range(2)`'s.
pub fn close_streams() -> Result<()> {
    // SAFETY: integers only; std's handles of these numbers own nothing, and the caller uses none of them again.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, 0, 2, 0) };
    if ret == 0 {
        Ok(())
    } else {
        Err(failed("close_range", "0, 2", Errno::last()))
    }
}

/// Stops this process until its `SIGCONT`.
///
/// # Errors
/// None in practice; `kill(2)`'s.
pub fn stop_self() -> Result<()> {
    // SAFETY: an integer only.
    if unsafe { libc::raise(libc::SIGSTOP) } == 0 {
        Ok(())
    } else {
        Err(failed("raise", "SIGSTOP", Errno::last()))
    }
}

fn failed(call: &'static str, args: impl std::fmt::Display, errno: Errno) -> SysError {
    SysError {
        call,
        args: args.to_string(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_mask_holds_what_it_says() {
        for (signal, all, but_faults) in [
            (SIGTERM, true, true),
            (libc::SIGSEGV, true, false),
            (SIGCHLD, true, true),
            (0, false, false),
        ] {
            assert_eq!(
                (Mask::all().has(signal), Mask::all_but_faults().has(signal)),
                (all, but_faults),
                "{signal}"
            );
        }
    }

    #[test]
    fn a_child_is_reaped_by_its_descriptor_with_its_status() {
        for (script, want) in [
            ("exit 7", Status::Exited(7)),
            ("kill -9 $$", Status::Signaled(SIGKILL)),
        ] {
            #[expect(clippy::zombie_processes, reason = "reap() waits for it")]
            let child = Command::new("/bin/sh")
                .args(["-c", script])
                .spawn()
                .unwrap();
            let pidfd = pidfd_open(i32::try_from(child.id()).unwrap()).unwrap();
            crate::poll::poll(&mut [crate::poll::Watch::readable(pidfd.as_fd())], None).unwrap();
            assert_eq!(reap(&pidfd).unwrap(), Some(want), "{script}");
            assert_eq!(reap(&pidfd).unwrap_err().errno, Errno::ECHILD);
        }
    }
}
