//! What is asked for: one launch, in checked types. Made by `airtight run` from an image and flags, or by
//! `airtight-runtime` from a bundle. It holds wishes; only [`crate::plan`] turns them into steps.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Control;

/// One launch as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Names the sandbox: 1 to 64 of `[a-z0-9-]`. Its cgroup and log lines carry it.
    pub id: String,
    pub hostname: String,
    /// Layer trees at rest on the host, lowest first, absolute; never empty.
    pub layers: Vec<PathBuf>,
    /// Programs of the layers, as messages name them, that the kernel itself would give memory both written and executed (an executable stack, say).
    pub write_execute: Vec<String>,
    pub process: Process,
    /// Writable memory, besides `/tmp` and `/dev/shm` which every sandbox has.
    pub tmpfs: Vec<Tmpfs>,
    pub volumes: Vec<Volume>,
    pub limits: Limits,
    pub connect: Vec<Connect>,
    pub publish: Vec<Publish>,
    /// TCP ports that the payload may bind besides the published ones.
    pub listen: BTreeSet<u16>,
    /// `--public`: endpoints may lie at public addresses.
    pub public: bool,
    pub init: Init,
    pub audit: Audit,
    /// `--accept-shortfall`: controls that the operator goes without on a host that lacks them.
    pub accepted: BTreeSet<Control>,
}

/// The payload's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Never empty. `args[0]` without `/` is looked up in the `PATH` of `env`, inside the rootfs.
    pub args: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Absolute, inside the rootfs.
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub terminal: Terminal,
}

/// Who owns the payload's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Terminal {
    /// The caller's 0, 1 and 2 as they are (pipes, files, the caller's terminal).
    Inherit,
    /// A new pseudo terminal from the sandbox's own devpts, relayed by the supervisor (`-t`).
    Own,
}

/// Who is pid 1 in the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// A confined process of ours: reaps orphans, forwards signals, so that default signal actions work.
    Ours,
    /// The payload itself, as the OCI runtime specification has it.
    Payload,
}

/// A memory file system at `path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// A directory or file of the host, given by the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub read_only: bool,
}

/// Limits that need a cgroup. `None` is no limit asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    pub pids: Option<u64>,
    /// Thousandths of one CPU.
    pub cpu_millis: Option<u64>,
    /// Wall time in milliseconds, kept by the supervisor.
    pub timeout_millis: Option<u64>,
}

/// An endpoint outside that the payload may reach by TCP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Connect {
    /// What the payload dials: a host name, or an IP address literal in which case `address` is the same address.
    pub name: String,
    /// Where it really is. `None`: the gate resolves `name` outside at each dial.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Connect {
    /// `NAME[=ADDRESS]:PORT`, as the operator would write it.
    #[must_use]
    pub fn display(&self) -> String {
        let bracket = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        match (self.name.parse::<IpAddr>(), &self.address) {
            (Ok(literal), _) => format!("{}:{}", bracket(&literal), self.port),
            (Err(_), Some(address)) => format!("{}={}:{}", self.name, bracket(address), self.port),
            (Err(_), None) => format!("{}:{}", self.name, self.port),
        }
    }
}

/// A port of the host that leads to a port of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    pub address: IpAddr,
    pub host_port: u16,
    pub port: u16,
}

/// Where refusals are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audit {
    Off,
    /// One line for people each.
    Stderr,
    /// One JSON object on a line each, appended.
    File(PathBuf),
}
