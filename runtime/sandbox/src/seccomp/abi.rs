//! What the architecture decides: its number in audit terms, and the numbers of its system calls.

use libseccomp::ScmpSyscall;

use super::SeccompError;

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
