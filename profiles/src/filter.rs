//! The system-call filter as data. `airtight-sandbox` compiles it ahead of time and caches the program by [`SeccompFilter::digest`].

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::names::{self, KNOWN_MAX};
use crate::policy::Policy;
use crate::rule::Conditions;

/// Raised when the compiler of filters changes what it makes of the same rules, so that no older program is taken from a cache.
const GENERATOR: u32 = 1;

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
    /// As in syscalls(2).
    pub name: String,
    /// All of them hold together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<ArgCondition>,
}

/// A comparison of one argument register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArgCondition {
    /// 0 to 5.
    pub arg: u8,
    /// How it is compared.
    pub op: ArgOp,
    /// With what.
    pub value: u64,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArgOp {
    /// `argument == value`, all 64 bits.
    Eq,
    /// `argument != value`.
    Ne,
    /// `argument < value`.
    Lt,
    /// `argument <= value`.
    Le,
    /// `argument > value`.
    Gt,
    /// `argument >= value`.
    Ge,
    /// `argument & mask == value`.
    Masked(u64),
}

impl SeccompFilter {
    /// `sha256` in hex over the rules, this machine's architecture and the generator's version: the key of a compiled program.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{GENERATOR} {}\n", std::env::consts::ARCH));
        // Names and numbers only: nothing in the filter can fail to serialise.
        hash.update(serde_json::to_vec(self).unwrap_or_default());
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Policy {
    /// The filter of this policy, before the plan looks at what the host has.
    #[must_use]
    pub fn filter(&self) -> SeccompFilter {
        let mut calls = self.syscalls.clone();
        if self.write_execute {
            for name in ["mmap", "mprotect", "pkey_mprotect", "memfd_create"] {
                if let Some(name) = names::known(name) {
                    calls.insert(name, Conditions::new());
                }
            }
        }
        SeccompFilter {
            allow: calls
                .iter()
                // A memfd lies on a mount that is not noexec: it can be filled by write(2) and then mapped executable, which neither
                // `PR_SET_MDWE` nor `vm.memfd_noexec` (it seals the mode, not the mapping) forbids.
                .filter(|(name, _)| self.write_execute || *name != "memfd_create")
                .map(|(name, when)| SyscallRule {
                    name: name.to_owned(),
                    when: conditions(when),
                })
                .collect(),
            // Its flags lie in memory, where no filter can look; libc falls back to clone(2), whose flags are judged.
            enosys: vec!["clone3".to_owned()],
            notify: Vec::new(),
            known_max: KNOWN_MAX,
        }
    }
}

fn conditions(when: &Conditions) -> Vec<ArgCondition> {
    let one = |(arg, masked): (&u8, &crate::rule::Masked)| {
        let op = if masked.mask == u64::MAX {
            ArgOp::Eq
        } else {
            ArgOp::Masked(masked.mask)
        };
        ArgCondition {
            arg: *arg,
            op,
            value: masked.value,
        }
    };
    when.iter().map(one).collect()
}
