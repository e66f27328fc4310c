//! seccomp(2): loading a classic BPF program and listening to its notifications. What a program says is not decided here.

use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// One instruction: the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Insn {
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// And when it does not.
    pub jf: u8,
    pub k: u32,
}

const _: () = assert!(size_of::<Insn>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Insn>() == align_of::<libc::sock_filter>());

/// The kernel takes no longer program (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = 4096;

/// Whether the loader wants to be told of calls that the program answers with `SECCOMP_RET_USER_NOTIF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    No,
    Yes,
}

/// Puts this thread under `program`, for ever. Needs `no_new_privs` or `CAP_SYS_ADMIN`. With [`Notify::Yes`] the descriptor of the
/// listener is returned, close-on-exec. Allocates nothing unless it fails.
///
/// # Errors
/// `EINVAL` for a program that the kernel does not take, `EACCES` without `no_new_privs`.
pub fn install(program: &[Insn], notify: Notify) -> Result<Option<OwnedFd>> {
    // While the supervisor looks at a call, only a fatal signal may interrupt it: else a signal handler without SA_RESTART
    // (Go's preemption) makes the payload repeat the call for ever. Since 5.19; older kernels answer EINVAL.
    const WAIT: u64 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match install_flagged(program, notify, WAIT) {
        Err(err) if err.errno == Errno::EINVAL && notify == Notify::Yes => {
            install_flagged(program, notify, 0)
        }
        other => other,
    }
}

/// The same with `SECCOMP_FILTER_FLAG_*` as they are given; `WAIT_KILLABLE_RECV` counts with a listener only.
///
/// # Errors
/// As [`install`]'s; `EINVAL` also for a flag that the kernel does not know.
pub fn install_flagged(program: &[Insn], notify: Notify, flags: u64) -> Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len())
        .map_err(|_| failed("seccomp", program.len(), Errno::EINVAL))?;
    let prog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    match notify {
        Notify::No => {
            load(&prog, flags & !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).map(|_| None)
        }
        Notify::Yes => {
            let fd = load(&prog, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
            let fd = RawFd::try_from(fd).map_err(|_| failed("seccomp", fd, Errno::EBADF))?;
            // SAFETY: with NEW_LISTENER a result that is not negative is a descriptor that the kernel has just made for us alone.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
    }
}

/// Whether the kernel knows these flags of filters: asked with no program, which it looks at after them.
#[must_use]
pub fn flag_available(flags: u64) -> bool {
    let asked = if flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV == 0 {
        flags
    } else {
        // One without a listener is refused whatever the kernel knows.
        flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    };
    let program = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel reads at the pointer if at all, finds that it is null, and answers EFAULT.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            asked,
            program,
        )
    };
    ret < 0 && Errno::last() == Errno::EFAULT
}

fn load(prog: &libc::sock_fprog, flags: libc::c_ulong) -> Result<libc::c_long> {
    // SAFETY: the kernel reads `len` instructions at `filter`; both come from one slice in `install`, which outlives this call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(prog),
        )
    };
    if ret < 0 {
        let args = format!(
            "SECCOMP_SET_MODE_FILTER, {flags:#x}, {} instructions",
            prog.len
        );
        return Err(SysError {
            call: "seccomp",
            args,
            errno: Errno::last(),
        });
    }
    Ok(ret)
}

/// Whether the kernel knows a return value of filters (`SECCOMP_GET_ACTION_AVAIL`). `false` also where there is no seccomp.
#[must_use]
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes at the pointer, which is a live u32 of this frame.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            std::ptr::from_ref(&action),
        ) == 0
    }
}

/// A call of the sandbox that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    id: u64,
    /// The thread, as this process's pid namespace numbers it; 0 when it is not visible there.
    pub pid: u32,
    pub nr: i32,
    pub args: [u64; 6],
}

/// Receives notifications and answers each with "go on": what the kernel's other controls say then holds.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// `struct seccomp_notif`, with room for what a newer kernel adds.
    request: Vec<u64>,
    /// `struct seccomp_notif_resp`, likewise.
    response: Vec<u64>,
}

const REQUEST_WORDS: usize = size_of::<libc::seccomp_notif>() / 8;
const RESPONSE_WORDS: usize = size_of::<libc::seccomp_notif_resp>() / 8;
// The words below are read and written by position.
const _: () = assert!(REQUEST_WORDS == 10 && RESPONSE_WORDS == 3 && cfg!(target_endian = "little"));

/// `SECCOMP_IOCTL_NOTIF_ID_VALID` with the direction that the kernel's own header corrected in 5.17; both are accepted.
const NOTIF_ID_VALID: libc::Ioctl = 0x4008_2102;

impl Listener {
    /// Takes the descriptor that [`install`] returned.
    ///
    /// # Errors
    /// `EINVAL` where the kernel has no notifications.
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let mut sizes = libc::seccomp_notif_sizes {
            seccomp_notif: 0,
            seccomp_notif_resp: 0,
            seccomp_data: 0,
        };
        // SAFETY: the kernel writes one `seccomp_notif_sizes` at the pointer, which is a live one of this frame.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_GET_NOTIF_SIZES,
                0,
                std::ptr::from_mut(&mut sizes),
            )
        };
        if ret < 0 {
            return Err(failed("seccomp", "SECCOMP_GET_NOTIF_SIZES", Errno::last()));
        }
        let words = |bytes: u16, least: usize| usize::from(bytes).div_ceil(8).max(least);
        Ok(Self {
            fd,
            request: vec![0; words(sizes.seccomp_notif, REQUEST_WORDS)],
            response: vec![0; words(sizes.seccomp_notif_resp, RESPONSE_WORDS)],
        })
    }

    /// The next notification; `None` when the caller died or was interrupted meanwhile. Call it when poll says readable: it blocks.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn receive(&mut self) -> Result<Option<Notification>> {
        // The kernel refuses a request buffer that is not zero.
        self.request.fill(0);
        // SAFETY: the kernel writes `sizes.seccomp_notif` bytes at the pointer; `new` made the buffer at least that long.
        let ret = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                self.request.as_mut_ptr(),
            )
        };
        if ret < 0 {
            let errno = Errno::last();
            let passing = matches!(errno, Errno::ENOENT | Errno::EINTR | Errno::EAGAIN);
            return if passing {
                Ok(None)
            } else {
                Err(failed("ioctl", "SECCOMP_IOCTL_NOTIF_RECV", errno))
            };
        }
        // id:u64, pid:u32, flags:u32, then seccomp_data { nr:i32, arch:u32, instruction_pointer:u64, args:[u64;6] }.
        let [id, pid_flags, nr_arch, _, args @ ..] = self.request.as_slice() else {
            return Ok(None);
        };
        let Some(args) = args.first_chunk::<6>() else {
            return Ok(None);
        };
        Ok(Some(Notification {
            id: *id,
            pid: low(*pid_flags),
            nr: low(*nr_arch).cast_signed(),
            args: *args,
        }))
    }

    /// Lets the call go on. A caller that died meanwhile is no error.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn go_on(&mut self, notification: &Notification) -> Result<()> {
        self.response.fill(0);
        // id:u64, val:i64, error:i32, flags:u32.
        if let [id, _, error_flags, ..] = self.response.as_mut_slice() {
            *id = notification.id;
            *error_flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE << 32;
        }
        // SAFETY: the kernel reads `sizes.seccomp_notif_resp` bytes at the pointer; `new` made the buffer at least that long.
        let ret = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                self.response.as_mut_ptr(),
            )
        };
        match (ret, Errno::last()) {
            (0, _) | (_, Errno::ENOENT) => Ok(()),
            (_, errno) => Err(failed("ioctl", "SECCOMP_IOCTL_NOTIF_SEND", errno)),
        }
    }

    /// Whether the caller still waits: what was read from its memory before a `true` was its own and not that of a process that got
    /// its pid later.
    #[must_use]
    pub fn still_waits(&self, notification: &Notification) -> bool {
        let id = notification.id;
        // SAFETY: the kernel reads eight bytes at the pointer, which is a live u64 of this frame.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_ID_VALID, std::ptr::from_ref(&id)) == 0 }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(u32::MAX)
}

fn failed(call: &'static str, args: impl std::fmt::Display, errno: Errno) -> SysError {
    SysError {
        call,
        args: args.to_string(),
        errno,
    }
}
