//! What the architecture decides: its number in audit terms, and the numbers of its system calls.

use libseccomp::{ScmpArch, ScmpSyscall};

use super::SeccompError;
use super::condition::Width;

/// The architecture that a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abi {
    /// `AUDIT_ARCH_*`: the ELF machine, 64 bits, little endian.
    pub(super) audit_arch: u32,
    /// The kernel may have the x32 calls.
    pub(super) x32: bool,
}

/// What a call of the x32 ABI has in its number (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// This machine's.
pub(super) const NATIVE: Abi = if cfg!(target_arch = "x86_64") {
    Abi {
        audit_arch: 0xc000_003e,
        x32: true,
    }
} else {
    Abi {
        audit_arch: 0xc000_00b7,
        x32: false,
    }
};

/// The number of a call here. `None`: another architecture has it (`open` on arm64).
pub(super) fn number(name: &str) -> Result<Option<u32>, SeccompError> {
    match ScmpSyscall::from_name(name) {
        // A negative number is libseccomp's own, for a call that this architecture lacks.
        Ok(call) => Ok(u32::try_from(call.as_raw_syscall()).ok()),
        // Debian 12's libseccomp is older than some calls; since 5.1 every architecture gives them the same number.
        Err(_) => match airtight_plan::unified_number(name) {
            Some(number) => Ok(Some(number)),
            None => Err(SeccompError::UnknownCall {
                name: name.to_owned(),
            }),
        },
    }
}

/// One set of system-call numbers that this machine's kernel can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// As a profile names it.
    pub(super) name: &'static str,
    arch: ScmpArch,
    pub(super) audit_arch: u32,
    pub(super) width: Width,
    /// What its numbers have above all others'.
    pub(super) bit: u32,
    /// Old calls go by way of `socketcall` and `ipc`.
    multiplexed: bool,
}

/// The native one first.
pub(super) const TABLES: &[Table] = if cfg!(target_arch = "x86_64") {
    &[
        Table {
            name: "SCMP_ARCH_X86_64",
            arch: ScmpArch::X8664,
            audit_arch: NATIVE.audit_arch,
            width: Width::Both,
            bit: 0,
            multiplexed: false,
        },
        Table {
            name: "SCMP_ARCH_X32",
            arch: ScmpArch::X32,
            audit_arch: NATIVE.audit_arch,
            width: Width::Low,
            bit: X32_BIT,
            multiplexed: false,
        },
        Table {
            name: "SCMP_ARCH_X86",
            arch: ScmpArch::X86,
            audit_arch: 0x4000_0003,
            width: Width::Low,
            bit: 0,
            multiplexed: true,
        },
    ]
} else {
    &[
        Table {
            name: "SCMP_ARCH_AARCH64",
            arch: ScmpArch::Aarch64,
            audit_arch: NATIVE.audit_arch,
            width: Width::Both,
            bit: 0,
            multiplexed: false,
        },
        Table {
            name: "SCMP_ARCH_ARM",
            arch: ScmpArch::Arm,
            audit_arch: 0x4000_0028,
            width: Width::Low,
            bit: 0,
            multiplexed: false,
        },
    ]
};

/// How a name is called in one [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Number(u32),
    /// By this number with this first argument, and since Linux 4.3 (sockets) or 5.1 (System V) perhaps by a number of its own too.
    Multiplexed {
        number: u32,
        first: u64,
        own: Option<u32>,
    },
}

impl Table {
    /// `None`: the table has no such call.
    pub(super) fn call(&self, name: &str) -> Option<Call> {
        const SOCKETCALL: u32 = 102;
        const IPC: u32 = 117;
        let raw = match ScmpSyscall::from_name_by_arch(name, self.arch) {
            Ok(call) => call.as_raw_syscall(),
            Err(_) => {
                return airtight_plan::unified_number(name)
                    .map(|number| Call::Number(number | self.bit));
            }
        };
        if let Ok(number) = u32::try_from(raw) {
            return Some(Call::Number(number));
        }
        // libseccomp numbers the calls behind socketcall(2) from -101 down and those behind ipc(2) from -201 down, by their first argument.
        let (number, first) = match raw {
            -120..=-101 => (SOCKETCALL, -100 - raw),
            -224..=-201 => (IPC, -200 - raw),
            _ => return None,
        };
        self.multiplexed.then(|| Call::Multiplexed {
            number,
            first: u64::from(first.unsigned_abs()),
            own: own_number(raw),
        })
    }
}

/// i386's direct numbers of calls that were only behind another once.
fn own_number(raw: i32) -> Option<u32> {
    let number = match raw {
        // socket, bind, connect, listen
        -101 => 359,
        -104..=-102 => 361 + (-102 - raw).unsigned_abs(),
        // getsockname, getpeername, socketpair
        -106 => 367,
        -107 => 368,
        -108 => 360,
        // sendto, recvfrom, shutdown, setsockopt, getsockopt
        -111 => 369,
        -112 => 371,
        -113 => 373,
        -114 => 366,
        -115 => 365,
        // sendmsg, recvmsg, accept4, recvmmsg, sendmmsg
        -116 => 370,
        -117 => 372,
        -118 => 364,
        -119 => 337,
        -120 => 345,
        // semget, semctl
        -202 => 393,
        -203 => 394,
        // msgsnd, msgrcv, msgget, msgctl
        -211 => 400,
        -212 => 401,
        -213 => 399,
        -214 => 402,
        // shmat, shmdt, shmget, shmctl
        -221 => 397,
        -222 => 398,
        -223 => 395,
        -224 => 396,
        _ => return None,
    };
    Some(number)
}
