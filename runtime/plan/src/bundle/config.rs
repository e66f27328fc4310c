//! A bundle's `config.json` in checked types: every value is one that the kernel could take, none of them is decided yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, Hook, IoPriority, NamespaceKind, NodeKind, Propagation, Resources, Scheduler,
    SeccompProfile, TimeOffset,
};
use crate::IdMap;

/// `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub oci_version: String,
    pub root: Root,
    /// A bundle without a process can be created and not started.
    pub process: Option<ProcessConfig>,
    /// Empty: not asked for.
    pub hostname: String,
    pub domainname: String,
    pub mounts: Vec<MountEntry>,
    pub hooks: Hooks,
    pub annotations: BTreeMap<String, String>,
    pub linux: LinuxConfig,
}

/// `root`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// As written by the parser; absolute and without links when it comes to [`super::compat`].
    pub path: PathBuf,
    pub read_only: bool,
}

/// `process`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessConfig {
    pub terminal: bool,
    /// Columns and rows.
    pub console_size: Option<(u16, u16)>,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    /// `None`: no set is asked for, which `exec` takes as the container's own.
    pub capabilities: Option<Capabilities>,
    pub rlimits: Vec<RlimitEntry>,
    /// `None`: not said, which `exec` takes as the container's own.
    pub no_new_privileges: Option<bool>,
    /// Empty: not asked for.
    pub apparmor_profile: String,
    pub selinux_label: String,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    pub exec_affinity: ExecAffinity,
}

/// `process.user`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub umask: Option<u32>,
    pub additional_gids: Vec<u32>,
}

/// One entry of `process.rlimits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RlimitEntry {
    /// `RLIMIT_*` number of the kernel.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// `process.execCPUAffinity`: of processes that `exec` starts. Empty: as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecAffinity {
    /// Before the process is in the container's groups.
    pub initial: Vec<u32>,
    pub last: Vec<u32>,
}

/// One entry of `mounts`, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountEntry {
    pub destination: PathBuf,
    /// Empty: not said.
    pub kind: String,
    pub source: String,
    pub options: Vec<String>,
    pub uid_mappings: Vec<IdMap>,
    pub gid_mappings: Vec<IdMap>,
}

/// `hooks`, at all six points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// `linux`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxConfig {
    pub namespaces: Vec<NamespaceEntry>,
    pub uid_mappings: Vec<IdMap>,
    pub gid_mappings: Vec<IdMap>,
    pub time_offsets: Vec<TimeOffset>,
    pub devices: Vec<DeviceEntry>,
    /// Empty: the runtime's choice.
    pub cgroups_path: String,
    pub resources: Resources,
    pub rootfs_propagation: Option<Propagation>,
    pub seccomp: Option<Arc<SeccompProfile>>,
    pub masked_paths: Vec<PathBuf>,
    pub readonly_paths: Vec<PathBuf>,
    /// Empty: not asked for.
    pub mount_label: String,
    /// `PER_*` bits.
    pub personality: Option<u64>,
    pub intel_rdt: Option<IntelRdt>,
    /// As written, with dots or slashes.
    pub sysctl: BTreeMap<String, String>,
}

/// One entry of `linux.namespaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceEntry {
    pub kind: NamespaceKind,
    /// `None`: a new one.
    pub path: Option<PathBuf>,
}

/// One entry of `linux.devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    pub path: PathBuf,
    pub kind: NodeKind,
    pub major: u32,
    pub minor: u32,
    pub mode: Option<u32>,
    pub uid: u32,
    pub gid: u32,
}

/// `linux.intelRdt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntelRdt {
    pub clos_id: String,
    pub l3_cache_schema: String,
    pub mem_bw_schema: String,
}
