//! What this host gives, as `sandbox::probe` found it. Plain data: a test writes any host down.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The facts that [`crate::plan`] decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    pub arch: Arch,
    /// `uname -r`, for messages and [`crate::plan`]'s table of what came when.
    pub kernel: (u32, u32),
    pub euid: u32,
    pub egid: u32,
    /// The caller holds `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID` in its user namespace.
    pub privileged: bool,
    pub user_namespaces: Have,
    pub seccomp: bool,
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER` with `SECCOMP_USER_NOTIF_FLAG_CONTINUE` (5.5).
    pub seccomp_notify: bool,
    /// 0 where the kernel has no Landlock.
    pub landlock_abi: u32,
    pub overlay: bool,
    /// `mount_setattr(MOUNT_ATTR_IDMAP)`, below an overlay too (5.19).
    pub idmapped_mounts: bool,
    /// Of the launch's layers those whose file system takes no id map, such as another overlay's root.
    pub plain_layers: Vec<PathBuf>,
    /// `vm.memfd_noexec` exists (6.3), does not refuse old callers (6.6 on), and takes this caller's write: the host's root alone.
    pub memfd_noexec: bool,
    /// `prctl(PR_SET_MDWE)` (6.3).
    pub mdwe: bool,
    pub ipv6: bool,
    /// Subordinate ids of an unprivileged caller, with the two set-uid helpers that map them.
    pub subids: Option<SubIds>,
    pub cgroup: Cgroup,
    /// Entries of `/proc` from the known list that exist here and must be masked.
    pub proc_to_mask: Vec<Masked>,
    /// Hard limit of open files.
    pub nofile_hard: u64,
    /// Path of the gate's binary beside ours, if it is there.
    pub gate: Option<PathBuf>,
}

/// Present, or absent for a reason that an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Have {
    Yes,
    /// Why not, and what would turn it on.
    No(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Amd64,
    Arm64,
}

/// A path under `/proc` to cover, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    /// Relative to `/proc`.
    pub path: PathBuf,
    pub directory: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubIds {
    /// First host id and count.
    pub uids: (u32, u32),
    pub gids: (u32, u32),
    pub newuidmap: PathBuf,
    pub newgidmap: PathBuf,
}

/// Where this process may make cgroups: the directory of its own group in each hierarchy, if it may write there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// v1 controller name (`memory`, `pids`, `cpu`) to the directory under which a group may be made.
    pub v1: BTreeMap<String, PathBuf>,
    /// v2: the directory, and the controllers that its children would get.
    pub v2: Option<CgroupV2>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupV2 {
    pub dir: PathBuf,
    pub controllers: Vec<String>,
}
