//! System-call filters as programs: compiled from the plan's rules, kept by digest, verified when read. Which calls are allowed is the
//! policy's to say; loading a program is `airtight_sys::seccomp`'s.

mod abi;
mod assemble;
mod cache;
mod compile;
/// The version of libseccomp that compiles the filters.
#[must_use]
pub fn library_version() -> Option<(u32, u32, u32)> {
    let version = libseccomp::ScmpVersion::current().ok()?;
    Some((version.major, version.minor, version.micro))
}

#[cfg(test)]
mod interpret;
mod stub;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use airtight_plan::SeccompFilter;
use airtight_sys::seccomp::{Insn, Notify};

pub(crate) use stub::{stub, stub_length};

/// Instruction codes of classic BPF that a seccomp program may have.
pub(crate) mod opcode {
    /// `A = word at k`.
    pub(crate) const LD: u16 = 0x20;
    pub(crate) const JA: u16 = 0x05;
    pub(crate) const JEQ: u16 = 0x15;
    pub(crate) const JGT: u16 = 0x25;
    pub(crate) const JGE: u16 = 0x35;
    pub(crate) const JSET: u16 = 0x45;
    /// `A &= k`.
    pub(crate) const AND: u16 = 0x54;
    pub(crate) const RET: u16 = 0x06;
}

/// What a program answers: `SECCOMP_RET_*`.
pub(crate) mod action {
    pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
    pub(crate) const USER_NOTIF: u32 = 0x7fc0_0000;
    pub(crate) const ALLOW: u32 = 0x7fff_0000;
    /// `SECCOMP_RET_ERRNO` with the number in the low half.
    pub(crate) const EPERM: u32 = 0x0005_0000 + 1;
    pub(crate) const ENOSYS: u32 = 0x0005_0000 + 38;
}

/// A filter ready to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    insns: Vec<Insn>,
    notify: Notify,
}

impl Program {
    /// What `airtight_sys::seccomp::install` takes.
    #[must_use]
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// Whether the supervisor is told of some calls, so that there must be a listener.
    #[must_use]
    pub fn notify(&self) -> Notify {
        self.notify
    }
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error(
        "the system-call filter names `{name}`, which neither this libseccomp nor airtight knows"
    )]
    UnknownCall { name: String },
    #[error(
        "the system-call filter compiles to {instructions} instructions; the kernel takes 4096"
    )]
    TooLong { instructions: usize },
    #[error("keeping a compiled filter at {}: {source}", path.display())]
    Cache {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The program of `filter`: from `cache_dir/seccomp/<digest>.bpf` if that is whole and ours, else compiled and kept there. A cache that
/// cannot be written costs the next start its time and nothing else, so it is no error here.
///
/// # Errors
/// A rule names no system call, or the program is longer than the kernel takes.
pub fn program(filter: &SeccompFilter, cache_dir: &Path) -> Result<Program, SeccompError> {
    let digest = filter.digest();
    let path = cache::path(cache_dir, &digest);
    let notify = if filter.notify.is_empty() {
        Notify::No
    } else {
        Notify::Yes
    };
    if let Some(insns) = cache::read(&path, &digest) {
        return Ok(Program { insns, notify });
    }
    let insns = compile::compile(filter, abi::NATIVE)?;
    drop(cache::write(&path, &digest, &insns));
    Ok(Program { insns, notify })
}

/// Compiles ahead, at build or installation.
///
/// # Errors
/// As [`program`], and when the cache cannot be written.
pub fn warm(filter: &SeccompFilter, cache_dir: &Path) -> Result<(), SeccompError> {
    let digest = filter.digest();
    let path = cache::path(cache_dir, &digest);
    if cache::read(&path, &digest).is_some() {
        return Ok(());
    }
    let insns = compile::compile(filter, abi::NATIVE)?;
    cache::write(&path, &digest, &insns).map_err(|source| SeccompError::Cache { path, source })
}
