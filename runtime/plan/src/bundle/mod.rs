//! What a bundle's `config.json` asks for, in checked types, and the pieces of a plan that only bundles have.
//!
//! Field names are those of the OCI runtime specification 1.2 (`config.md`, `config-linux.md`).

pub mod airtight;
mod capability;
mod compat;
mod config;
mod exec;
mod groups;
mod own_file;
mod resources;
mod seccomp;
mod steps;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use capability::{CAPABILITIES, capability_bit};
pub use compat::{CompatFacts, CompatOptions, compat, mount_options, warnings};
pub use config::*;
pub use exec::{ExecOptions, exec, inherit};
pub use groups::*;
pub use own_file::{exec_needs_fixed_file, needs_fixed_file};
pub use resources::*;
pub use seccomp::*;
pub use steps::*;

use crate::IdMap;

/// A namespace to join by its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinNamespace {
    pub kind: NamespaceKind,
    pub path: PathBuf,
}

/// Every kind of `namespaces(7)`, in the order in which they are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceKind {
    User,
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
    Time,
    Mount,
}

/// `linux.timeOffsets`: added to the clock of the new time namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`, as `/proc/PID/timens_offsets` takes it.
    pub clock: String,
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// A tree of the host, copied for the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentMount {
    /// Absolute. Followed as the caller wrote it: it is the caller's own path, opened with the caller's rights.
    pub source: PathBuf,
    /// With the mounts below it.
    pub recursive: bool,
    pub idmap: Option<MountIdmap>,
}

/// `idmap` and `ridmap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountIdmap {
    /// `None`: the map of the container's own user namespace.
    pub maps: Option<(Vec<IdMap>, Vec<IdMap>)>,
    pub recursive: bool,
}

/// One entry of `mounts`, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStep {
    /// Absolute, inside the root. Links on the way are followed inside the root (`RESOLVE_IN_ROOT`).
    pub destination: PathBuf,
    pub what: MountSource,
    /// `MOUNT_ATTR_*` bits to set on the mount, and to clear, on it alone.
    pub set: u64,
    pub clear: u64,
    /// The same for the mount and all below it (`rro`, `rnosuid`, …).
    pub recursive_set: u64,
    pub recursive_clear: u64,
    pub propagation: Vec<Propagation>,
    /// `tmpcopyup`: what the image has there is copied into the new tmpfs.
    pub copy_up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum MountSource {
    /// The next descriptor of [`SentMount`]s.
    Sent,
    /// A new file system: its type, its source for `mountinfo`, its options for `fsconfig` (a flag has no value), `MS_*`-like superblock flags among them
    /// (`ro`, `sync`, `dirsync`, `lazytime`, `mand`).
    New {
        filesystem: String,
        source: String,
        options: Vec<(String, Option<String>)>,
    },
    /// The container's own view of its groups: a cgroup2, or on v1 a tmpfs with each hierarchy's own directory and the usual links.
    ///
    /// `shown`: each hierarchy of v1 as the host mounted it, from the container's own group down, which is what a mount of the new namespace's would be as
    /// well: the kernel has one file system for each hierarchy, and to ask for it again stops all changes of groups on the host for a moment.
    Cgroup { read_only: bool, shown: bool },
    /// `remount`: what is there changes its attributes, and its superblock these options where there are any (`bind,remount` has none).
    Remount {
        options: Vec<(String, Option<String>)>,
    },
}

/// A device node of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStep {
    /// Absolute, inside the root.
    pub path: PathBuf,
    pub kind: NodeKind,
    pub major: u64,
    pub minor: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

/// One hook (`config.md`, POSIX-platform hooks).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// `args[0]` included; empty: the path.
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub timeout_seconds: Option<u64>,
}

/// The five sets, a bit for each capability number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// `process.scheduler`, as `sched_setattr(2)` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    pub nice: i32,
    pub priority: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// `process.ioPriority`, as `ioprio_set(2)` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_*`: 1 real time, 2 best effort, 3 idle.
    pub class: u16,
    pub priority: u16,
}
