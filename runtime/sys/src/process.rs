//! What a process says of itself: death signal, dumpability, limits, descriptors, working directory, exec.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{Result, SysError};

fn prctl(option: libc::c_int, name: &'static str, args: [libc::c_ulong; 4]) -> Result<libc::c_int> {
    // SAFETY: every option used in this file reads its arguments as integers and touches no memory of ours.
    let ret = unsafe { libc::prctl(option, args[0], args[1], args[2], args[3]) };
    if ret >= 0 {
        Ok(ret)
    } else {
        Err(SysError::last("prctl", name))
    }
}

/// The kernel kills this process when the thread that made it ends. An id change clears it.
///
/// # Errors
/// `prctl(2)`'s.
pub fn die_with_parent() -> Result<()> {
    prctl(
        libc::PR_SET_PDEATHSIG,
        "PR_SET_PDEATHSIG, SIGKILL",
        [u64::from(libc::SIGKILL.cast_unsigned()), 0, 0, 0],
    )
    .map(drop)
}

/// `no_new_privs`, for good.
///
/// # Errors
/// `prctl(2)`'s.
pub fn set_no_new_privs() -> Result<()> {
    prctl(
        libc::PR_SET_NO_NEW_PRIVS,
        "PR_SET_NO_NEW_PRIVS",
        [1, 0, 0, 0],
    )
    .map(drop)
}

/// Other processes of the same id cannot read this one's memory or `/proc/PID/exe`. An exec of a readable file ends it.
///
/// # Errors
/// `prctl(2)`'s.
pub fn set_not_dumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, "PR_SET_DUMPABLE, 0", [0, 0, 0, 0]).map(drop)
}

/// Memory-deny-write-execute (6.3), kept across exec.
///
/// # Errors
/// `EINVAL` before 6.3.
pub fn deny_write_execute() -> Result<()> {
    prctl(
        libc::PR_SET_MDWE,
        "PR_SET_MDWE",
        [libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN), 0, 0, 0],
    )
    .map(drop)
}

/// `SECBIT_NOROOT` and the other bits with their locks: uid 0 means nothing, ids give no capability back, none can be made ambient.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn lock_securebits() -> Result<()> {
    const NOROOT: u64 = 0b11;
    const NO_SETUID_FIXUP: u64 = 0b11 << 2;
    const KEEP_CAPS_LOCKED: u64 = 1 << 5;
    const NO_CAP_AMBIENT_RAISE: u64 = 0b11 << 6;
    prctl(
        libc::PR_SET_SECUREBITS,
        "PR_SET_SECUREBITS",
        [
            NOROOT | NO_SETUID_FIXUP | KEEP_CAPS_LOCKED | NO_CAP_AMBIENT_RAISE,
            0,
            0,
            0,
        ],
    )
    .map(drop)
}

/// Empties the bounding set.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding_set() -> Result<()> {
    for capability in 0..64 {
        match prctl(
            libc::PR_CAPBSET_DROP,
            "PR_CAPBSET_DROP",
            [capability, 0, 0, 0],
        ) {
            Ok(_) => {}
            // Past the last capability that this kernel has.
            Err(error) if error.errno == Errno::EINVAL && capability > 0 => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets a resource limit.
///
/// # Errors
/// `setrlimit(2)`'s: `EPERM` for a hard limit above the present one.
pub fn set_rlimit(resource: Resource, soft: u64, hard: u64) -> Result<()> {
    nix::sys::resource::setrlimit(resource, soft, hard)
        .map_err(|errno| SysError::new("setrlimit", format!("{resource:?}, {soft}, {hard}"), errno))
}

/// Sets a resource limit, but no higher than the present hard one, which no process of a user namespace can raise.
///
/// # Errors
/// `getrlimit(2)`'s.
pub fn lower_rlimit(resource: Resource, soft: u64, hard: u64) -> Result<()> {
    let (_, most) = nix::sys::resource::getrlimit(resource)
        .map_err(|errno| SysError::new("getrlimit", format!("{resource:?}"), errno))?;
    set_rlimit(resource, soft.min(most), hard.min(most))
}

/// Sets a resource limit by the kernel's number, exactly as it is given.
///
/// # Errors
/// `prlimit(2)`'s: `EINVAL` for a number that this kernel does not have or a soft limit above the hard one, `EPERM` for a hard limit above the
/// present one.
pub fn set_rlimit_number(resource: u32, soft: u64, hard: u64) -> Result<()> {
    set_rlimit_of(0, resource, soft, hard)
}

/// The same for this process, but no higher than it has it already: what is beyond is cut. (`RLIM_INFINITY` is the largest number.)
///
/// # Errors
/// `prlimit(2)`'s.
pub fn lower_rlimit_number(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let mut now = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let nothing: *const libc::rlimit64 = std::ptr::null();
    // SAFETY: the first pointer is null, so nothing is set; the kernel writes one limit at the second, a live value of this frame.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            nothing,
            std::ptr::from_mut(&mut now),
        )
    };
    if ret != 0 {
        return Err(SysError::last("prlimit64", resource.to_string()));
    }
    let hard = hard.min(now.rlim_max);
    set_rlimit_number(resource, soft.min(now.rlim_cur).min(hard), hard)
}

/// The same for another process, by the rights of this one; 0 is this one.
///
/// # Errors
/// As [`set_rlimit_number`]'s, and `ESRCH`.
pub fn set_rlimit_of(pid: libc::pid_t, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    let nothing: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: the kernel reads one limit at the first pointer, a live value of this frame; the second is null, so nothing is written.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            std::ptr::from_ref(&limit),
            nothing,
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last(
            "prlimit64",
            format!("{resource}, {soft}, {hard}"),
        ))
    }
}

/// A new, empty session keyring: the caller's keys are out of reach.
///
/// # Errors
/// `keyctl(2)`'s.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; no memory of ours is read.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    if ret >= 0 {
        Ok(())
    } else {
        Err(SysError::last("keyctl", "KEYCTL_JOIN_SESSION_KEYRING"))
    }
}

/// Closes every descriptor from 3 on but those in `keep`.
///
/// # Errors
/// `close_range(2)`'s.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<()> {
    close_from(3, keep)
}

fn close_from(mut from: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut numbers: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().cast_unsigned())
        .filter(|&fd| fd >= from)
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        if number > from {
            close_range(from, number - 1)?;
        }
        from = number + 1;
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: integers only. Closing a descriptor that a Rust value still owns is the caller's concern: it is on its way to exec or exit, and no
    // such value is used or dropped after.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last("close_range", format!("{first}, {last}")))
    }
}

/// Opens `/dev/null` for each of 0, 1, 2 that is closed: else the next file opened would be somebody's standard stream.
///
/// # Errors
/// `open(2)`'s.
pub fn fill_standard_streams() -> Result<()> {
    for fd in 0..3 {
        // SAFETY: F_GETFD reads no memory; an unopened number is an error that is looked at.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 {
            continue;
        }
        // The lowest free number is `fd`, since those below it are open by now. It stays open for the life of the process.
        let opened = nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, Mode::empty())
            .map_err(|errno| SysError::new("open", "\"/dev/null\"", errno))?;
        std::mem::forget(opened);
    }
    Ok(())
}

/// A directory among 0, 1, 2 would lead out of the root: refused by its number.
///
/// # Errors
/// `EISDIR`, or `fstat(2)`'s.
pub fn refuse_directory_streams() -> Result<()> {
    for (fd, name) in [
        (std::io::stdin().as_fd().try_clone_to_owned(), "stdin"),
        (std::io::stdout().as_fd().try_clone_to_owned(), "stdout"),
        (std::io::stderr().as_fd().try_clone_to_owned(), "stderr"),
    ] {
        let fd = fd.map_err(|error| {
            SysError::new(
                "fcntl",
                name,
                Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            )
        })?;
        let stat = fstat(&fd).map_err(|errno| SysError::new("fstat", name, errno))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            return Err(SysError::new(
                "fstat",
                format!("{name} is a directory of the host"),
                Errno::EISDIR,
            ));
        }
    }
    Ok(())
}

/// Changes the working directory and proves that it lies inside the root: the kernel says `(unreachable)` of one that does not (CVE-2024-21626).
///
/// # Errors
/// `chdir(2)`'s; `EXDEV` for one outside.
pub fn change_directory(path: &Path) -> Result<()> {
    let shown = format!("{path:?}");
    nix::unistd::chdir(path).map_err(|errno| SysError::new("chdir", &*shown, errno))?;
    let reached: PathBuf =
        nix::unistd::getcwd().map_err(|errno| SysError::new("getcwd", &*shown, errno))?;
    if reached.is_absolute() {
        Ok(())
    } else {
        Err(SysError::new("getcwd", shown, Errno::EXDEV))
    }
}

/// The file-system type of what a descriptor is on (`f_type` of `fstatfs(2)`).
///
/// # Errors
/// The call's.
pub fn filesystem_type(fd: impl AsFd) -> Result<i64> {
    nix::sys::statfs::fstatfs(fd)
        .map(|stat| stat.filesystem_type().0)
        .map_err(|errno| SysError::new("fstatfs", "", errno))
}

/// Whether the mount that a file was opened by, or its file system, is read-only.
///
/// # Errors
/// `fstatvfs(3)`'s.
pub fn is_on_read_only_mount(fd: impl AsFd) -> Result<bool> {
    nix::sys::statvfs::fstatvfs(fd)
        .map(|stat| stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
        .map_err(|errno| SysError::new("fstatvfs", "", errno))
}

/// `execve(2)`; returns only on failure.
#[must_use]
pub fn exec(path: &CString, args: &[CString], env: &[CString]) -> SysError {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(errno) => SysError::new("execve", format!("{path:?}"), errno),
    }
}

/// `execveat(2)` of an open file; returns only on failure.
#[must_use]
pub fn exec_fd(program: impl AsFd, args: &[CString], env: &[CString]) -> SysError {
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    match nix::unistd::execveat(program, c"", args, env, flags) {
        Ok(never) => match never {},
        Err(errno) => SysError::new("execveat", "AT_EMPTY_PATH", errno),
    }
}

/// Puts `fd` at `number` without close-on-exec, for a program that expects it there.
///
/// # Errors
/// `dup2(2)`'s.
pub fn place(fd: &OwnedFd, number: RawFd) -> Result<()> {
    // SAFETY: integers only; `number` is 0 to 3 and the caller is a child that execs next and owns no value at that number.
    let ret = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if ret == number {
        Ok(())
    } else {
        Err(SysError::last("dup2", format!("{number}")))
    }
}

/// Likewise, for a number that this very descriptor may already have: then only close-on-exec goes.
///
/// # Errors
/// `dup2(2)`'s, `fcntl(2)`'s.
pub fn place_exactly(fd: &OwnedFd, number: RawFd) -> Result<()> {
    if fd.as_raw_fd() != number {
        return place(fd, number);
    }
    // SAFETY: F_SETFD takes an integer.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 {
        Ok(())
    } else {
        Err(SysError::last("fcntl", "F_SETFD"))
    }
}

/// The descriptor `number` stays open across exec from now on.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn keep_across_exec(number: RawFd) -> Result<()> {
    // SAFETY: F_SETFD takes an integer; an unopened number is an error that is looked at.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 {
        Ok(())
    } else {
        Err(SysError::last("fcntl", format!("{number}, F_SETFD")))
    }
}

/// Closes every descriptor from 3 on but those in `keep` and the `count` from 3 on, which are the caller's.
///
/// # Errors
/// `close_range(2)`'s.
pub fn close_all_but_first(count: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    close_from(count.saturating_add(3), keep)
}

/// Whether a descriptor of this number is open.
#[must_use]
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD reads no memory; an unopened number is an error.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// The effective user of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// When the process of this number started, in clock ticks after boot; `None` for one that is not there or is a zombie.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let mut text = [0; 4096];
    let mut file = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    // One line, of which the kernel gives all that fits: 52 numbers of twenty digits at most, and a name of 64 bytes.
    let length = std::io::Read::read(&mut file, &mut text).ok()?;
    let stat = text.get(..length)?;
    // The name in field 2 may hold blanks and brackets.
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22; the state was field 3.
    let start = fields.nth(22 - 4)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(start)
}

/// A file in memory with this content, to be read from its start; close-on-exec. It has no end that somebody must read, unlike a pipe.
///
/// # Errors
/// `memfd_create(2)`'s, `write(2)`'s.
pub fn memory_file(name: &std::ffi::CStr, content: &[u8]) -> Result<std::fs::File> {
    use std::io::{Seek as _, Write as _};
    let failed = |error: std::io::Error| {
        SysError::new(
            "write",
            "memfd",
            Errno::from_raw(error.raw_os_error().unwrap_or(0)),
        )
    };
    let fd = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| SysError::new("memfd_create", format!("{name:?}"), errno))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// Closes every descriptor above `last`.
///
/// # Errors
/// `close_range(2)`'s.
pub fn close_above(last: RawFd) -> Result<()> {
    close_range(last.cast_unsigned() + 1, u32::MAX)
}

/// `umask(2)`, which cannot fail.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(Mode::from_bits_truncate(mask));
}

/// `setsid(2)`: no controlling terminal, no process group of the caller's.
///
/// # Errors
/// The call's.
pub fn new_session() -> Result<()> {
    nix::unistd::setsid()
        .map(drop)
        .map_err(|errno| SysError::new("setsid", "", errno))
}

/// `CLOCK_MONOTONIC`, the same clock in parent and child (no time namespace).
#[must_use]
pub fn now() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(std::time::Duration::ZERO, Into::into)
}

/// Ends at once, without destructors: a forked child must not run its parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
