//! The system-call filter as data. `airtight-sandbox` compiles it ahead of time and caches the program by [`SeccompFilter::digest`].

use serde::{Deserialize, Serialize};

/// An allowlist by name and argument. What is listed nowhere and has a number up to [`Self::known_max`] returns EPERM; a number above it
/// returns ENOSYS, so that a libc newer than this filter falls back; another ABI (i386, x32) kills the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompFilter {
    /// Sorted by name. Several rules of one name are alternatives.
    pub allow: Vec<SyscallRule>,
    /// Known, refused, and answered ENOSYS because callers have a fallback that the filter can judge (`clone3` falls back to `clone`).
    pub enosys: Vec<String>,
    /// Handed to the supervisor to be told, then continued by the kernel under every other control: it never decides. Empty without audit.
    /// A notify rule is disjoint from the allow rules of the same name by its arguments, or the name is only here.
    pub notify: Vec<SyscallRule>,
    /// The highest system-call number that this list was written against.
    pub known_max: u32,
}

/// One system call under all of these conditions (none: always).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SyscallRule {
    pub name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<ArgCondition>,
}

/// A comparison of one argument register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArgCondition {
    /// 0 to 5.
    pub arg: u8,
    pub op: ArgOp,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArgOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `argument & mask == value`.
    Masked(u64),
}
