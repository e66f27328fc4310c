//! `linux.seccomp`: a caller's own filter, as it is asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use airtight_profiles::ArgCondition;

/// What `flags` may name, with the bits of `seccomp(2)`. The process has one thread, so that there is none to bring in step.
pub const SECCOMP_FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1 << 5),
];

/// `linux.seccomp`, checked. Its digest is the key of the compiled program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProfile {
    pub default_action: SeccompAction,
    /// `SCMP_ARCH_*` names, as written; the native one is always there.
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*` names, as written.
    pub flags: Vec<String>,
    /// In order. Names that this kernel's tables do not know are passed over, as every runtime does.
    pub syscalls: Vec<SeccompRule>,
    pub listener: Option<SeccompListener>,
}

/// Answers, with the errno or trace word where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompAction {
    KillThread,
    KillProcess,
    Trap,
    Errno(u16),
    Trace(u16),
    Log,
    Allow,
    Notify,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    pub names: Vec<String>,
    pub action: SeccompAction,
    /// All hold together; several of one argument are alternatives, as libseccomp's users have it.
    pub args: Vec<ArgCondition>,
}

/// Where the listener goes (`listenerPath`, `listenerMetadata`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompListener {
    pub path: PathBuf,
    pub metadata: String,
}
