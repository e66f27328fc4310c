//! What the architecture decides: its number in audit terms, and the numbers of its system calls.

use std::sync::OnceLock;

use super::SeccompError;
use super::condition::Width;

/// A line for each name, sorted: the name and its number in each of [`TABLES`], `-` where it has none. `102:1:359` is a call behind another's number,
/// its first argument there, and a later number of its own. The tests hold it against libseccomp's tables.
const NUMBERS: &str = if cfg!(target_arch = "x86_64") {
    include_str!("numbers/x86_64.txt")
} else {
    include_str!("numbers/aarch64.txt")
};

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
    let native = TABLES.first().and_then(|table| table.call(name));
    match native {
        Some(Call::Number(number)) => Ok(Some(number)),
        Some(Call::Multiplexed { .. }) => Ok(None),
        None if columns(name).is_some() => Ok(None),
        None => Err(SeccompError::UnknownCall {
            name: name.to_owned(),
        }),
    }
}

/// What follows a name in [`NUMBERS`].
fn columns(name: &str) -> Option<&'static str> {
    static ROWS: OnceLock<Vec<(&str, &str)>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| {
        NUMBERS
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect()
    });
    let at = rows.binary_search_by_key(&name, |(name, _)| name).ok()?;
    rows.get(at).map(|(_, columns)| *columns)
}

/// One set of system-call numbers that this machine's kernel can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// As a profile names it.
    pub(super) name: &'static str,
    /// In [`NUMBERS`].
    column: usize,
    pub(super) audit_arch: u32,
    pub(super) width: Width,
    /// What its numbers have above all others'.
    pub(super) bit: u32,
}

/// The native one first.
pub(super) const TABLES: &[Table] = if cfg!(target_arch = "x86_64") {
    &[
        Table {
            name: "SCMP_ARCH_X86_64",
            column: 0,
            audit_arch: NATIVE.audit_arch,
            width: Width::Both,
            bit: 0,
        },
        Table {
            name: "SCMP_ARCH_X32",
            column: 1,
            audit_arch: NATIVE.audit_arch,
            width: Width::Low,
            bit: X32_BIT,
        },
        Table {
            name: "SCMP_ARCH_X86",
            column: 2,
            audit_arch: 0x4000_0003,
            width: Width::Low,
            bit: 0,
        },
    ]
} else {
    &[
        Table {
            name: "SCMP_ARCH_AARCH64",
            column: 0,
            audit_arch: NATIVE.audit_arch,
            width: Width::Both,
            bit: 0,
        },
        Table {
            name: "SCMP_ARCH_ARM",
            column: 1,
            audit_arch: 0x4000_0028,
            width: Width::Low,
            bit: 0,
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
        let Some(columns) = columns(name) else {
            // Newer than the tables; since 5.1 every architecture gives a new call the same number.
            return airtight_plan::unified_number(name)
                .map(|number| Call::Number(number | self.bit));
        };
        let mut parts = columns.split(' ').nth(self.column)?.split(':');
        let number: u32 = parts.next()?.parse().ok()?;
        match parts.next() {
            None => Some(Call::Number(number | self.bit)),
            Some(first) => Some(Call::Multiplexed {
                number,
                first: first.parse().ok()?,
                own: parts.next().and_then(|own| own.parse().ok()),
            }),
        }
    }
}
