//! What this host allows, and the meeting of it with what a payload asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::endpoint::{Endpoint, PortSet};
use crate::policy::{Excess, Policy, TmpfsGrant};
use crate::profile::{Profile, ProfileError};
use crate::shipped;

/// The largest memory file system that the built-in ceiling allows: 1 GiB.
const TMPFS_EACH: u64 = 1 << 30;
/// What the kernel allows by default (`fs.nr_open`).
const OPEN_FILES: u64 = 1 << 20;
/// Threads of one sandbox.
const PROCESSES: u64 = 1 << 15;

/// What this host allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    policy: Policy,
    on_excess: OnExcess,
}

/// What becomes of a bundle that asks for more than is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExcess {
    /// It is refused with the list.
    #[default]
    Refuse,
    /// What is too much is left out, and told. The sensible setting where a cluster writes the bundles.
    Narrow,
}

/// What the operator adds on the command line of one launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// `--connect`.
    pub connect: BTreeSet<Endpoint>,
    /// `--public`.
    pub public: bool,
    /// TCP ports that the payload may bind.
    pub listen: PortSet,
    /// Size in bytes by path.
    pub tmpfs: BTreeMap<PathBuf, u64>,
}

impl Ceiling {
    /// Allows the system calls of every shipped profile, memory that is written and executed for those that say so, listening, and
    /// memory file systems; no endpoint and no public address.
    #[must_use]
    pub fn built_in() -> Self {
        let policy = Policy {
            syscalls: shipped::every_call(),
            write_execute: true,
            listen: PortSet::all(),
            tmpfs: TmpfsGrant::Anywhere { each: TMPFS_EACH },
            open_files: OPEN_FILES,
            processes: PROCESSES,
            ..Policy::nothing()
        };
        Self {
            policy,
            on_excess: OnExcess::Refuse,
        }
    }

    /// Reads a ceiling: the format of a profile, where `extends` may also be `"built-in"`, a `tmpfs` path may be `"*"`, and `on-excess` may be
    /// `"refuse"` or `"narrow"`.
    ///
    /// # Errors
    /// What is wrong in the file, with its key and the fix.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ProfileError> {
        Profile::parse_ceiling(text, file).map(|profile| Self {
            policy: profile.policy(),
            on_excess: profile.on_excess(),
        })
    }

    /// All that it allows.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What becomes of a bundle that asks for more.
    #[must_use]
    pub fn on_excess(&self) -> OnExcess {
        self.on_excess
    }
}

/// The effective policy and what of the ask it leaves out.
#[must_use]
pub fn narrow(
    profile: &Profile,
    ceiling: &Ceiling,
    additions: &Additions,
) -> (Policy, Vec<Excess>) {
    let Additions {
        connect,
        public,
        listen,
        tmpfs,
    } = additions;
    let (mut asked, mut allowed) = (profile.policy(), ceiling.policy.clone());
    asked.connect.extend(connect.iter().cloned());
    asked.public |= public;
    for (first, last) in listen.ranges() {
        asked.listen.insert(*first, *last);
    }
    for (path, size) in tmpfs {
        asked.tmpfs.insert(path, *size);
    }
    // To name an endpoint is to grant it: the built-in ceiling has none so that an image's word alone never opens one.
    allowed.connect.extend(connect.iter().cloned());
    allowed.public |= public;
    (asked.tighten(&allowed), asked.exceeds(&allowed))
}

/// The effective policy: what the profile and the operator ask, all of it within the ceiling.
///
/// # Errors
/// What the ask has beyond the ceiling, item by item.
pub fn effective(
    profile: &Profile,
    ceiling: &Ceiling,
    additions: &Additions,
) -> Result<Policy, Vec<Excess>> {
    let (policy, excess) = narrow(profile, ceiling, additions);
    if excess.is_empty() {
        Ok(policy)
    } else {
        Err(excess)
    }
}
