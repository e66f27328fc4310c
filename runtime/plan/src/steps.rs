//! What will be done: two lists of steps, in order, as data. The loops in `airtight-sandbox` carry them out and
//! decide nothing; `airtight plan` prints them; golden tests compare them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use airtight_profiles::SeccompFilter;

use crate::bundle::{BundleParentStep, BundleStep};
use crate::{Audit, Control, Terminal};

/// One launch, decided. Running it needs no further choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub id: String,
    /// Carried out outside the sandbox, before and around the child.
    pub parent: Vec<ParentStep>,
    /// Carried out by the cloned child, top to bottom; the last is `Exec`.
    pub child: Vec<ChildStep>,
    /// The gate's part; `None` when there is neither endpoint nor published port.
    pub gate: Option<GatePlan>,
    pub audit: Audit,
    pub terminal: Terminal,
    pub timeout_millis: Option<u64>,
    /// Controls that this host lacks and the operator accepted by name.
    pub shortfalls: Vec<Shortfall>,
}

/// A control that is off with the operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    pub control: Control,
    pub why: String,
}

/// Steps with the caller's privilege, on the host's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum ParentStep {
    /// `mkdir` of each group, its limits written, its `tasks`/`cgroup.procs` opened for the child; a janitor removes them.
    Cgroups { groups: Vec<CgroupPlan> },
    /// Listeners on the host for the published ports, before anything else exists, so that a port in use leaves nothing.
    Publish { addresses: Vec<SocketAddr> },
    /// Start `airtight-gate` in the dial namespace and hand it the [`GatePlan`].
    Gate { path: PathBuf },
    /// `clone3` with these namespaces; one thread only.
    Clone { namespaces: BTreeSet<Namespace> },
    /// Write the id maps of the child's user namespace.
    IdMaps(IdMaps),
    /// Layer trees: `open_tree(OPEN_TREE_CLONE)`, `mount_setattr` with read-only, nosuid, nodev, and the id map of the child's
    /// user namespace; the descriptors are sent to the child. Only as root; rootless the child opens them itself.
    IdmapLayers { layers: Vec<PathBuf> },
    /// The same without the id map, where a layer's file system takes none: what the host's ids own is nobody's inside.
    SendLayers { layers: Vec<PathBuf> },
    /// Likewise for volumes, in the order of the child's `Volume` steps.
    IdmapVolumes { volumes: Vec<PathBuf> },
    /// Forward signals, relay the terminal, serve the audit listener, keep the time-out, reap.
    Supervise,
    /// What only bundles ask for.
    Bundle(BundleParentStep),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    User,
    Pid,
    Mount,
    Ipc,
    Uts,
    Net,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// The directory to make.
    pub dir: PathBuf,
    /// v2: joined by `CLONE_INTO_CGROUP` or `cgroup.procs`; v1: the child writes `0` to `tasks`.
    pub v2: bool,
    /// File name and value, written in order.
    pub settings: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
    pub write: MapWriter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapWriter {
    /// As root: straight to `/proc/PID/uid_map` and `gid_map`.
    Direct,
    /// Rootless with one id: `setgroups` is denied first (CVE-2014-8989).
    DirectDenySetgroups,
    /// Rootless with a range: the two helpers, started at once.
    Helpers {
        newuidmap: PathBuf,
        newgidmap: PathBuf,
    },
}

/// Steps inside, in the order of DESIGN's section 6. Every one either succeeds or ends the launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum ChildStep {
    /// `PR_SET_PDEATHSIG`: nothing of the sandbox outlives its supervisor. Said again after the ids change, which clears it.
    DieWithParent,
    /// Write `0` to the descriptors that the parent opened (nothing to do without limits).
    JoinCgroups,
    /// After joining, so that the namespace's root is the sandbox's own group.
    UnshareCgroup,
    /// Block until the maps are written; receives the layers' and volumes' descriptors. End of file: the parent died.
    AwaitParent,
    /// To uid and gid 0 of the user namespace where they are mapped, for the set-up only.
    BecomeNamespaceRoot,
    /// `MS_REC|MS_SLAVE` on `/`: nothing that follows is seen outside.
    SlavePropagation,
    /// `lo` up, with these addresses besides its own.
    Loopback {
        addresses: Vec<IpAddr>,
    },
    /// `net.ipv4.ip_unprivileged_port_start`, `vm.memfd_noexec`, `user.max_user_namespaces`: path under `/proc/sys`, value.
    /// Through a procfs that is proven to be one.
    Sysctl {
        path: PathBuf,
        value: String,
    },
    /// Make the sockets of the gate's plan inside, send them, wait for READY; without it exit.
    GateSockets {
        listen: Vec<SocketAddr>,
    },
    /// A scratch tmpfs: a `top` directory, the layers, a `bottom` directory; overlay of them, read-only.
    Rootfs {
        /// `None`: the parent sends idmapped descriptors. `Some`: open these paths here (rootless).
        layers: Option<Vec<PathBuf>>,
        /// How many layers.
        count: usize,
        /// What lies above the image: mount points that an image cannot turn into links, and our files in `/etc`.
        top: Vec<TopEntry>,
        /// Mount points below the image, for tmpfs and volumes where the image has none.
        bottom: Vec<BottomEntry>,
    },
    /// A new procfs, read-only, of the own pid namespace.
    Proc,
    /// Cover a path under `/proc` with the real `/dev/null` (a file) or an empty read-only directory.
    MaskProc {
        path: PathBuf,
        directory: bool,
    },
    /// `/dev`: a small tmpfs with these nodes bound from the host, proven to be the devices they claim, `fd`, `stdin`, `stdout`, `stderr`
    /// links, a devpts of its own with few terminals and `shm`; read-only once made.
    Dev {
        nodes: Vec<DeviceNode>,
        shm_bytes: u64,
    },
    /// Writable memory: nosuid, nodev, noexec, capped.
    Tmpfs {
        path: PathBuf,
        bytes: u64,
        mode: u32,
    },
    /// A host path given by the operator: nosuid, nodev, noexec, read-only if so asked.
    Volume {
        /// `None`: the parent sends an idmapped descriptor.
        source: Option<PathBuf>,
        destination: PathBuf,
        read_only: bool,
    },
    /// `pivot_root(".", ".")`, the old root detached.
    PivotRoot,
    /// `/`, `/proc`, `/dev` are the file systems that they should be, `/` refuses writes.
    VerifyMounts,
    Hostname {
        name: String,
    },
    /// No higher than the caller's own hard limit, which takes a capability on the host to raise.
    Rlimit {
        resource: Rlimit,
        soft: u64,
        hard: u64,
    },
    /// A session keyring of its own, so that the caller's is out of reach.
    SessionKeyring,
    Umask {
        mask: u32,
    },
    /// `-t`: a pty from the own devpts becomes 0, 1, 2 and the controlling terminal; the master goes to the parent.
    Terminal,
    /// A session of its own, so that no signal or ioctl reaches the caller's terminal session.
    NewSession,
    /// A file that can be read and a socket that is not AF_UNIX, among 0, 1, 2, are replaced by pipes, which the parent fills or empties.
    PipeStreams,
    /// Close all but 0, 1, 2 and the two sockets of the launch itself, which are close-on-exec; a directory among 0, 1, 2 is refused.
    CloseDescriptors,
    /// And the working directory proven to lie inside the root (CVE-2024-21626).
    WorkingDirectory {
        path: PathBuf,
    },
    /// Bounding set emptied, before the ids change and the right to do so is gone.
    DropBoundingSet,
    SetIds {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    /// Inheritable, permitted, effective and ambient sets emptied.
    ClearCapabilities,
    /// `SECBIT_NOROOT` and the rest, locked. Before the capability that sets them is cleared.
    SecureBits,
    NoNewPrivs,
    /// Not dumpable until exec: the set-up's memory is not the payload's to read.
    NotDumpable,
    /// `PR_SET_MDWE`: no memory is both written and executed.
    DenyWriteExecute,
    Landlock(LandlockRules),
    /// Try what must fail, from the final context: a launch whose confinement does not hold ends here.
    Canary {
        probes: Vec<Probe>,
    },
    /// pid 1 stays ours, under a filter of its own; the payload goes on as its child.
    Init,
    /// Last before exec: what came before may use calls that the payload may not.
    Seccomp(SeccompFilter),
    /// What only bundles ask for.
    Bundle(BundleStep),
    Exec {
        args: Vec<String>,
        env: Vec<String>,
    },
}

impl ChildStep {
    /// As messages name the step.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::DieWithParent => "DieWithParent",
            Self::JoinCgroups => "JoinCgroups",
            Self::UnshareCgroup => "UnshareCgroup",
            Self::AwaitParent => "AwaitParent",
            Self::BecomeNamespaceRoot => "BecomeNamespaceRoot",
            Self::SlavePropagation => "SlavePropagation",
            Self::Loopback { .. } => "Loopback",
            Self::Sysctl { .. } => "Sysctl",
            Self::GateSockets { .. } => "GateSockets",
            Self::Rootfs { .. } => "Rootfs",
            Self::Proc => "Proc",
            Self::MaskProc { .. } => "MaskProc",
            Self::Dev { .. } => "Dev",
            Self::Tmpfs { .. } => "Tmpfs",
            Self::Volume { .. } => "Volume",
            Self::PivotRoot => "PivotRoot",
            Self::VerifyMounts => "VerifyMounts",
            Self::Hostname { .. } => "Hostname",
            Self::Rlimit { .. } => "Rlimit",
            Self::SessionKeyring => "SessionKeyring",
            Self::Umask { .. } => "Umask",
            Self::Terminal => "Terminal",
            Self::NewSession => "NewSession",
            Self::PipeStreams => "PipeStreams",
            Self::CloseDescriptors => "CloseDescriptors",
            Self::WorkingDirectory { .. } => "WorkingDirectory",
            Self::DropBoundingSet => "DropBoundingSet",
            Self::SetIds { .. } => "SetIds",
            Self::ClearCapabilities => "ClearCapabilities",
            Self::SecureBits => "SecureBits",
            Self::NoNewPrivs => "NoNewPrivs",
            Self::NotDumpable => "NotDumpable",
            Self::DenyWriteExecute => "DenyWriteExecute",
            Self::Landlock(_) => "Landlock",
            Self::Canary { .. } => "Canary",
            Self::Init => "Init",
            Self::Seccomp(_) => "Seccomp",
            Self::Bundle(step) => step.name(),
            Self::Exec { .. } => "Exec",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TopEntry {
    Directory { path: PathBuf, mode: u32 },
    File { path: PathBuf, content: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum BottomEntry {
    Directory {
        path: PathBuf,
    },
    /// Mount point of a volume that is a file on the host; the executor sees which by the source's type.
    VolumePoint {
        path: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceNode {
    Null,
    Zero,
    Full,
    Random,
    Urandom,
    Tty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rlimit {
    Nofile,
    Nproc,
    Core,
    Memlock,
    Msgqueue,
    Sigpending,
}

/// Attempts that must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// TCP to 1.1.1.1:443. Nothing is sent when it fails as it must: there is no route.
    PublicAddress,
    /// TCP to 169.254.169.254:80.
    MetadataAddress,
    Mount,
    WriteRoot,
    UserNamespace,
}

/// Landlock at the ABI that the kernel has. Rights come from the ABI's list, so an unknown newer right is never claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRules {
    pub abi: u32,
    /// Read and list everything; execute everything in the rootfs except below `write` and [`Self::no_execute`] (a rule at `/`
    /// would cover the mounts below it, so the executor grants each sibling along the way).
    pub no_execute: Vec<PathBuf>,
    /// Full file rights except execute and making devices: tmpfs and writable volumes.
    pub write: Vec<PathBuf>,
    /// Read and write of existing files, ioctl: `/dev` nodes and terminals.
    pub devices: Vec<PathBuf>,
    /// ABI 4: TCP ports that may be bound; 0 is any port the kernel picks.
    pub bind_tcp: BTreeSet<u16>,
    /// ABI 6: abstract unix sockets and signals stay inside.
    pub scopes: bool,
}

/// What the gate carries. Sent to it as JSON; it holds every socket against this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePlan {
    /// [`Plan::id`], for audit lines.
    pub sandbox: String,
    /// What Landlock gives here, for the gate's own confinement. 0: the operator accepted the shortfall.
    pub landlock_abi: u32,
    pub endpoints: Vec<GateEndpoint>,
    pub published: Vec<GatePublished>,
    pub on_death: GateDeath,
    pub audit: GateAudit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateEndpoint {
    /// As the operator wrote it, for audit lines.
    pub display: String,
    /// Where the payload dials: the listeners made inside, one for each family.
    pub inside: Vec<SocketAddr>,
    pub upstream: Upstream,
    pub public: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upstream {
    /// Named exactly by the operator.
    Address(SocketAddr),
    /// Resolved at each dial, outside, and judged after.
    Name { host: String, port: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePublished {
    pub outside: SocketAddr,
    /// Dialled inside, on loopback.
    pub inside: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateDeath {
    Kill,
    Stay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateAudit {
    Off,
    /// Lines for people to the audit descriptor.
    Text,
    /// JSON lines to the audit descriptor.
    Json,
}
