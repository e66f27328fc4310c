//! `--compat`: a config honoured as it says. Pure: what is asked for, what the host gives and how the verb was called go in, a plan comes out.
//!
//! What breaks nobody is added: paths are followed below a descriptor, no descriptor of the runtime is inherited, sockets of the host's network without a
//! name in the file system are out of reach.

pub(super) mod check;
mod devices;
mod identity;
pub(super) mod mounts;
mod options;
mod order;
pub(super) mod process;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use options::mount_options;

use super::{Config, GroupPlan, JoinNamespace, NamespaceKind};
use crate::control::{Refusal, Result};
use crate::{Audit, MapWriter, Plan, Terminal};
use order::Parts;

/// What of the host a container's plan hangs on. Less than [`crate::HostFacts`]: every look at the host costs part of a start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatFacts {
    pub euid: u32,
    pub egid: u32,
    /// The caller holds `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID` in its user namespace.
    pub privileged: bool,
    /// The caller's user namespace is not the host's: no device node can be made there.
    pub in_user_namespace: bool,
    /// The caller's user namespace, or for `exec` the container's, lets groups be set (`/proc/self/setgroups`).
    pub setgroups: bool,
    /// `newuidmap` and `newgidmap`; looked for only where the caller has not the right to write maps.
    pub map_helpers: Option<(PathBuf, PathBuf)>,
    /// The network namespace that the config joins by path is the caller's own.
    pub joins_own_network: bool,
    /// `mount_setattr(MOUNT_ATTR_IDMAP)` (5.12).
    pub idmapped_mounts: bool,
    pub apparmor: bool,
    pub selinux: bool,
    /// `/sys/fs/resctrl` is mounted.
    pub resctrl: bool,
    /// 0 where the kernel has no Landlock.
    pub landlock_abi: u32,
    /// The runtime's own file cannot be written through what this process runs from ([`super::needs_fixed_file`]).
    pub fixed_file: bool,
}

/// How `create` or `run` was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatOptions {
    pub id: String,
    /// Absolute; sources of binds may be relative to it.
    pub bundle: PathBuf,
    /// The container's groups, as [`super::group_plan`] has them. None: it stays in the caller's.
    pub groups: GroupPlan,
    pub no_pivot: bool,
    /// Not `--no-new-keyring`.
    pub new_keyring: bool,
    pub preserve_fds: u32,
    /// The process waits for `start`.
    pub await_start: bool,
}

/// Decides one container.
///
/// # Errors
/// What the config asks for that cannot be, by its key.
pub fn compat(config: &Config, facts: &CompatFacts, how: &CompatOptions) -> Result<Plan> {
    let asked = Asked(config);
    check::check(config, &asked, facts)?;
    let maps = identity::maps(config, &asked, facts)?;
    let denied = maps
        .as_ref()
        .is_some_and(|maps| maps.write == MapWriter::DirectDenySetgroups);
    if (denied || !facts.setgroups)
        && config
            .process
            .as_ref()
            .is_some_and(|process| !process.user.additional_gids.is_empty())
    {
        return Err(Refusal::new(
            "process.user.additionalGids",
            "cannot be set in a user namespace of one id",
            "leave them out, or map a range of ids",
        ));
    }
    let mounts = mounts::mounts(config, &asked, facts, how)?;
    let parts = Parts {
        config,
        asked,
        facts,
        how,
        maps,
        mounts,
    };
    let terminal = config
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    Ok(Plan {
        id: how.id.clone(),
        parent: order::parent(&parts),
        child: order::child(&parts),
        gate: None,
        audit: Audit::Off,
        terminal: if terminal {
            Terminal::Own
        } else {
            Terminal::Inherit
        },
        timeout_millis: None,
        shortfalls: Vec::new(),
    })
}

/// What is worth a word and no refusal, as lines.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    config
        .mounts
        .iter()
        .filter(|mount| !mount.destination.is_absolute())
        .map(|mount| {
            format!(
                "mount destination {:?} is relative, which is deprecated: taken from /",
                mount.destination
            )
        })
        .collect()
}

/// The namespaces that a config asks for.
#[derive(Clone, Copy, Debug)]
struct Asked<'a>(&'a Config);

impl Asked<'_> {
    /// A new one, or one by path.
    fn has(self, kind: NamespaceKind) -> bool {
        self.0
            .linux
            .namespaces
            .iter()
            .any(|entry| entry.kind == kind)
    }

    fn joins(self, kind: NamespaceKind) -> bool {
        self.0
            .linux
            .namespaces
            .iter()
            .any(|entry| entry.kind == kind && entry.path.is_some())
    }

    fn makes(self, kind: NamespaceKind) -> bool {
        self.has(kind) && !self.joins(kind)
    }

    /// In the order of joining: the user namespace first, whose rights the others ask for.
    fn joined(self) -> Vec<JoinNamespace> {
        let mut joined: Vec<JoinNamespace> = self
            .0
            .linux
            .namespaces
            .iter()
            .filter_map(|entry| {
                Some(JoinNamespace {
                    kind: entry.kind,
                    path: entry.path.clone()?,
                })
            })
            .collect();
        joined.sort_by_key(|entry| entry.kind);
        joined
    }
}
