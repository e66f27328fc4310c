//! `linux.resources`: what is asked for. [`super::group_plan`] says which groups give it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `linux.resources`, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub devices: Vec<DeviceRule>,
    pub memory: Memory,
    pub cpu: Cpu,
    pub pids: Option<i64>,
    pub block_io: BlockIo,
    /// Page size (`2MB`) and limit in bytes.
    pub hugepages: Vec<(String, u64)>,
    pub network_class: Option<u32>,
    /// Interface and priority.
    pub network_priorities: Vec<(String, u32)>,
    /// Device, handles, objects.
    pub rdma: Vec<(String, Option<u32>, Option<u32>)>,
    /// cgroup v2 files and their values as written.
    pub unified: BTreeMap<String, String>,
}

/// A rule of the devices controller. `None` is any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    Any,
    Character,
    Block,
}

/// Bytes; -1 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    /// Memory and swap together, as v1 counts.
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    pub disable_oom_killer: Option<bool>,
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below what is used.
    pub check_before_update: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    pub shares: Option<u64>,
    /// Microseconds of each period; negative is no limit.
    pub quota: Option<i64>,
    pub burst: Option<u64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: Option<String>,
    pub mems: Option<String>,
    pub idle: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    /// Major, minor, weight, leaf weight.
    pub weight_device: Vec<(i64, i64, Option<u16>, Option<u16>)>,
    /// Major, minor, rate.
    pub read_bps: Vec<(i64, i64, u64)>,
    pub write_bps: Vec<(i64, i64, u64)>,
    pub read_iops: Vec<(i64, i64, u64)>,
    pub write_iops: Vec<(i64, i64, u64)>,
}
