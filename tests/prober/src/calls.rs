//! System calls by name or number: what comes back is the filter's answer.

use crate::{Attempt, address, syscall};

pub(crate) fn attempt(name: &str, args: &[&str]) -> Option<Attempt> {
    let first = args.first().copied().unwrap_or_default();
    if name == "call" {
        return Some(
            first
                .parse::<i64>()
                .map_err(|_| libc::EINVAL)
                .and_then(|number| syscall(number, [0; 6]))
                .map(|ret| ret.to_string()),
        );
    }
    if name == "i386-call" {
        return Some(i386_getpid());
    }
    let me = std::process::id() as usize;
    let (number, args): (i64, [usize; 6]) = match name {
        "unshare-user" => (
            libc::SYS_unshare,
            [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0],
        ),
        "clone-user" => (
            libc::SYS_clone,
            [
                (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize,
                0,
                0,
                0,
                0,
                0,
            ],
        ),
        "clone3" => (libc::SYS_clone3, [0; 6]),
        "setns" => (libc::SYS_setns, [0; 6]),
        "keyctl" => (libc::SYS_keyctl, [0; 6]),
        "add-key" => (libc::SYS_add_key, [0; 6]),
        "bpf" => (libc::SYS_bpf, [0; 6]),
        "perf-event-open" => (libc::SYS_perf_event_open, [0; 6]),
        "userfaultfd" => (libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]),
        "io-uring-setup" => (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        "ptrace-traceme" => (libc::SYS_ptrace, [0; 6]),
        "process-vm-readv" => (libc::SYS_process_vm_readv, [me, 0, 0, 0, 0, 0]),
        "process-vm-writev" => (libc::SYS_process_vm_writev, [me, 0, 0, 0, 0, 0]),
        "pidfd-getfd" => (libc::SYS_pidfd_getfd, [0; 6]),
        "kcmp" => (libc::SYS_kcmp, [me, me, 0, 0, 0, 0]),
        "personality" => (libc::SYS_personality, [0x0020_0000, 0, 0, 0, 0, 0]),
        "personality-query" => (libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        "reboot" => (libc::SYS_reboot, [0; 6]),
        "swapon" => (libc::SYS_swapon, [address(c"/x"), 0, 0, 0, 0, 0]),
        "init-module" => (libc::SYS_init_module, [0; 6]),
        "sethostname" => (libc::SYS_sethostname, [address(c"x"), 1, 0, 0, 0, 0]),
        "open-by-handle-at" => (libc::SYS_open_by_handle_at, [0; 6]),
        "quotactl" => (libc::SYS_quotactl, [0; 6]),
        "tiocsti" => (
            libc::SYS_ioctl,
            [0, libc::TIOCSTI as usize, address(c"x"), 0, 0, 0],
        ),
        // The kernel looks at 32 bits of the number only (CVE-2019-10063).
        "tiocsti-high-bits" => (
            libc::SYS_ioctl,
            [0, libc::TIOCSTI as usize | 1 << 32, address(c"x"), 0, 0, 0],
        ),
        "tcxonc" => (libc::SYS_ioctl, [0, libc::TCXONC as usize, 0, 0, 0, 0]),
        "tiocsctty" => (libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0, 0, 0, 0]),
        "tioclinux" => (
            libc::SYS_ioctl,
            [0, libc::TIOCLINUX as usize, address(c"\x02"), 0, 0, 0],
        ),
        "setrlimit-core" => (libc::SYS_setrlimit, [4, address(&[0_u64; 2]), 0, 0, 0, 0]),
        "prlimit-core" => (libc::SYS_prlimit64, [0, 4, address(&[0_u64; 2]), 0, 0, 0]),
        "x32-getpid" => (0x4000_0000 | libc::SYS_getpid, [0; 6]),
        _ => return None,
    };
    Some(syscall(number, args).map(|ret| ret.to_string()))
}

/// `getpid` through the 32-bit entry, which has numbers of its own.
fn i386_getpid() -> Attempt {
    #[cfg(target_arch = "x86_64")]
    {
        let ret: i64;
        // SAFETY: number 20 of the 32-bit table is getpid, which takes no argument and touches no memory; `int 0x80` clobbers r8 to r11 only, and rax is
        // the result.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => ret, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        if ret < 0 {
            Err(i32::try_from(-ret).unwrap_or(libc::EIO))
        } else {
            Ok(ret.to_string())
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Err(libc::ENOSYS)
}
