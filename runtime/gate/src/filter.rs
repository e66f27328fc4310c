//! The gate's own system-call filter, as a program of the kernel's classic BPF. Pure: a list in, instructions out. Whatever is not on
//! the list kills the process: the gate links its libc statically, so the list cannot be outdated by a newer one, and a gate that
//! asks for anything else is no longer ours.

use airtight_sys::seccomp::Insn;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

// Offsets into `struct seccomp_data`.
const NR: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// When a listed call is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// The low half of an argument is one of these; the kernel takes an `int` there and sees no more of it.
    OneOf(u8, &'static [u32]),
    /// None of these bits is set in an argument.
    Without(u8, u32),
}

const PROT_EXEC: u32 = 4;
/// What a build with debug assertions asks of each descriptor that it closes.
const F_GETFD: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// `getifaddrs` asks by it.
const AF_NETLINK: u32 = 16;

/// What serving takes. Frequent calls first: the program is read from the top.
pub const SERVE: &[(libc::c_long, When)] = &[
    (libc::SYS_recvfrom, When::Always),
    (libc::SYS_sendto, When::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, When::Always),
    (libc::SYS_epoll_pwait, When::Always),
    (libc::SYS_epoll_ctl, When::Always),
    (libc::SYS_accept4, When::Always),
    (libc::SYS_close, When::Always),
    (libc::SYS_fcntl, When::OneOf(1, &[F_GETFD])),
    (
        libc::SYS_socket,
        When::OneOf(0, &[AF_INET, AF_INET6, AF_NETLINK]),
    ),
    (libc::SYS_connect, When::Always),
    (libc::SYS_setsockopt, When::Always),
    (libc::SYS_getsockopt, When::Always),
    (libc::SYS_shutdown, When::Always),
    (libc::SYS_clock_gettime, When::Always),
    // Audit lines, and a panic's last words.
    (libc::SYS_write, When::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, When::Always),
    (libc::SYS_ppoll, When::Always),
    // `/etc/hosts`, by the descriptor opened before.
    (libc::SYS_statx, When::Always),
    (libc::SYS_fstat, When::Always),
    (libc::SYS_pread64, When::Always),
    // The nursery's messages, `getifaddrs`, query ids.
    (libc::SYS_recvmsg, When::Always),
    (libc::SYS_sendmsg, When::Always),
    (libc::SYS_bind, When::Always),
    (libc::SYS_getsockname, When::Always),
    (libc::SYS_getrandom, When::Always),
    // The allocator. No memory is ever executable.
    (libc::SYS_brk, When::Always),
    (libc::SYS_mmap, When::Without(2, PROT_EXEC)),
    (libc::SYS_mprotect, When::Without(2, PROT_EXEC)),
    (libc::SYS_mremap, When::Always),
    (libc::SYS_munmap, When::Always),
    (libc::SYS_madvise, When::Always),
    (libc::SYS_futex, When::Always),
    // The end, also by abort.
    (libc::SYS_rt_sigprocmask, When::Always),
    (libc::SYS_rt_sigaction, When::Always),
    (libc::SYS_rt_sigreturn, When::Always),
    (libc::SYS_sigaltstack, When::Always),
    (libc::SYS_restart_syscall, When::Always),
    (libc::SYS_getpid, When::Always),
    (libc::SYS_gettid, When::Always),
    (libc::SYS_tgkill, When::Always),
    (libc::SYS_exit, When::Always),
    (libc::SYS_exit_group, When::Always),
];

/// What handing out sockets takes.
pub const NURSE: &[(libc::c_long, When)] = &[
    (libc::SYS_recvmsg, When::Always),
    (libc::SYS_sendmsg, When::Always),
    (libc::SYS_socket, When::OneOf(0, &[AF_INET, AF_INET6])),
    (libc::SYS_close, When::Always),
    (libc::SYS_fcntl, When::OneOf(1, &[F_GETFD])),
    (libc::SYS_brk, When::Always),
    (libc::SYS_mmap, When::Without(2, PROT_EXEC)),
    (libc::SYS_munmap, When::Always),
    (libc::SYS_rt_sigreturn, When::Always),
    (libc::SYS_restart_syscall, When::Always),
    (libc::SYS_exit, When::Always),
    (libc::SYS_exit_group, When::Always),
];

/// The program that allows these calls and kills on any other, and on any call of another ABI: an i386 call has another
/// architecture, an x32 one a number with a bit that no listed number has.
#[must_use]
pub fn program(allowed: &[(libc::c_long, When)]) -> Vec<Insn> {
    let load = |at| Insn {
        code: LOAD,
        jt: 0,
        jf: 0,
        k: at,
    };
    let jump = |code, k, jt, jf| Insn { code, jt, jf, k };
    let end = |action| Insn {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: action,
    };
    let mut program = vec![
        load(ARCH_AT),
        jump(JUMP_EQUAL, ARCH, 1, 0),
        end(KILL_PROCESS),
        load(NR),
    ];
    for &(number, when) in allowed {
        // Numbers of calls are small and positive in every libc.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let decide = match when {
            When::Always => vec![end(ALLOW)],
            When::Without(arg, bits) => {
                vec![
                    load(argument(arg)),
                    jump(JUMP_ANY_BIT, bits, 0, 1),
                    end(KILL_PROCESS),
                    end(ALLOW),
                ]
            }
            When::OneOf(arg, values) => {
                let mut decide = vec![load(argument(arg))];
                for &value in values {
                    decide.extend([jump(JUMP_EQUAL, value, 0, 1), end(ALLOW)]);
                }
                decide.push(end(KILL_PROCESS));
                decide
            }
        };
        // At most a dozen instructions.
        let skip = u8::try_from(decide.len()).unwrap_or(u8::MAX);
        program.push(jump(JUMP_EQUAL, number, 0, skip));
        program.extend(decide);
    }
    program.push(end(KILL_PROCESS));
    program
}

/// Where the low half of an argument lies on a little-endian machine.
fn argument(number: u8) -> u32 {
    ARGS + 8 * u32::from(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn answer(program: &[Insn], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = [0_u8; 64];
        data[..4].copy_from_slice(&nr.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (place, arg) in data[16..].chunks_exact_mut(8).zip(args) {
            place.copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut word) = (0, 0);
        loop {
            let Insn { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD => {
                    word = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap())
                }
                JUMP_EQUAL => at += usize::from(if word == k { jt } else { jf }),
                JUMP_ANY_BIT => at += usize::from(if word & k != 0 { jt } else { jf }),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn what_is_listed_is_allowed_and_all_else_kills() {
        let nr = |number: libc::c_long| u32::try_from(number).unwrap();
        let args = |first, third| [first, 0, third, 0, 0, 0];
        for (case, list, arch, number, args, allowed) in [
            (
                "read a stream",
                SERVE,
                ARCH,
                nr(libc::SYS_recvfrom),
                args(0, 0),
                true,
            ),
            (
                "end",
                SERVE,
                ARCH,
                nr(libc::SYS_exit_group),
                args(0, 0),
                true,
            ),
            ("dial", SERVE, ARCH, nr(libc::SYS_socket), args(2, 0), true),
            (
                "dial, high half ignored",
                SERVE,
                ARCH,
                nr(libc::SYS_socket),
                args(0xdead_0000_0002, 0),
                true,
            ),
            (
                "unix socket",
                SERVE,
                ARCH,
                nr(libc::SYS_socket),
                args(1, 0),
                false,
            ),
            (
                "packet socket",
                SERVE,
                ARCH,
                nr(libc::SYS_socket),
                args(17, 0),
                false,
            ),
            ("memory", SERVE, ARCH, nr(libc::SYS_mmap), args(0, 3), true),
            (
                "executable memory",
                SERVE,
                ARCH,
                nr(libc::SYS_mmap),
                args(0, 7),
                false,
            ),
            (
                "made executable",
                SERVE,
                ARCH,
                nr(libc::SYS_mprotect),
                args(0, 5),
                false,
            ),
            ("open", SERVE, ARCH, nr(libc::SYS_openat), args(0, 0), false),
            ("exec", SERVE, ARCH, nr(libc::SYS_execve), args(0, 0), false),
            ("clone", SERVE, ARCH, nr(libc::SYS_clone), args(0, 0), false),
            ("setns", SERVE, ARCH, nr(libc::SYS_setns), args(0, 0), false),
            (
                "ptrace",
                SERVE,
                ARCH,
                nr(libc::SYS_ptrace),
                args(0, 0),
                false,
            ),
            (
                "x32",
                SERVE,
                ARCH,
                0x4000_0000 | nr(libc::SYS_recvfrom),
                args(0, 0),
                false,
            ),
            (
                "i386",
                SERVE,
                0x4000_0003,
                nr(libc::SYS_recvfrom),
                args(0, 0),
                false,
            ),
            (
                "a socket inside",
                NURSE,
                ARCH,
                nr(libc::SYS_socket),
                args(10, 0),
                true,
            ),
            (
                "connect inside",
                NURSE,
                ARCH,
                nr(libc::SYS_connect),
                args(0, 0),
                false,
            ),
            (
                "netlink inside",
                NURSE,
                ARCH,
                nr(libc::SYS_socket),
                args(16, 0),
                false,
            ),
        ] {
            assert_eq!(
                answer(&program(list), arch, number, args) == ALLOW,
                allowed,
                "{case}"
            );
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        for list in [SERVE, NURSE] {
            let mut numbers: Vec<_> = list.iter().map(|(number, _)| number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), list.len());
        }
    }
}
