//! System-call filters as programs: compiled from the plan's rules, kept by digest, verified when read. Which calls are allowed is the
//! policy's to say; loading a program is `airtight_sys::seccomp`'s.

mod abi;
mod assemble;
mod cache;
mod compile;
mod condition;
#[cfg(test)]
mod interpret;
mod order;
mod profile;
#[cfg(test)]
mod profile_tests;
mod search;
mod stub;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use airtight_plan::SeccompFilter;
use airtight_plan::bundle::{SECCOMP_FLAGS, SeccompAction, SeccompProfile};
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
    pub(crate) const KILL_THREAD: u32 = 0;
    pub(crate) const TRAP: u32 = 0x0003_0000;
    /// With the number in the low half.
    pub(crate) const ERRNO: u32 = 0x0005_0000;
    /// With the tracer's message in the low half.
    pub(crate) const TRACE: u32 = 0x7ff0_0000;
    pub(crate) const LOG: u32 = 0x7ffc_0000;
    pub(crate) const USER_NOTIF: u32 = 0x7fc0_0000;
    pub(crate) const ALLOW: u32 = 0x7fff_0000;
    pub(crate) const EPERM: u32 = ERRNO + 1;
    pub(crate) const ENOSYS: u32 = ERRNO + 38;
}

/// A filter ready to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    insns: Vec<Insn>,
    notify: Notify,
    /// `SECCOMP_FILTER_FLAG_*` that a caller asked for.
    flags: u64,
}

impl Program {
    /// What `airtight_sys::seccomp::install` takes.
    #[must_use]
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// Whether somebody is told of some calls, so that there must be a listener.
    #[must_use]
    pub fn notify(&self) -> Notify {
        self.notify
    }

    /// What `airtight_sys::seccomp::install_flagged` takes besides.
    #[must_use]
    pub fn flags(&self) -> u64 {
        self.flags
    }
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("the system-call filter names `{name}`, which airtight does not know")]
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
    let insns = kept(&filter.digest(), cache_dir, || {
        compile::compile(filter, abi::NATIVE)
    })?;
    Ok(Program {
        insns,
        notify: notify(!filter.notify.is_empty()),
        flags: 0,
    })
}

/// The program of a caller's `profile`, kept in the same way.
///
/// # Errors
/// The program is longer than the kernel takes.
pub fn profile_program(
    profile: &SeccompProfile,
    cache_dir: &Path,
) -> Result<Program, SeccompError> {
    let insns = kept(&profile::digest(profile), cache_dir, || {
        profile::compile(profile)
    })?;
    let notifies = profile
        .syscalls
        .iter()
        .any(|rule| rule.action == SeccompAction::Notify);
    let flags = SECCOMP_FLAGS
        .iter()
        .filter(|(name, _)| profile.flags.iter().any(|asked| asked == name))
        .fold(0, |flags, (_, bit)| flags | bit);
    Ok(Program {
        insns,
        notify: notify(notifies),
        flags,
    })
}

/// Those of [`SECCOMP_FLAGS`] that this kernel takes.
#[must_use]
pub fn supported_flags() -> Vec<&'static str> {
    SECCOMP_FLAGS
        .iter()
        .filter(|(_, bit)| airtight_sys::seccomp::flag_available(*bit))
        .map(|(name, _)| *name)
        .collect()
}

/// From the cache, or made and left there.
fn kept(
    digest: &str,
    cache_dir: &Path,
    make: impl FnOnce() -> Result<Vec<Insn>, SeccompError>,
) -> Result<Vec<Insn>, SeccompError> {
    let path = cache::path(cache_dir, digest);
    if let Some(insns) = cache::read(&path, digest) {
        return Ok(insns);
    }
    let insns = make()?;
    drop(cache::write(&path, digest, &insns));
    Ok(insns)
}

fn notify(some: bool) -> Notify {
    if some { Notify::Yes } else { Notify::No }
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
