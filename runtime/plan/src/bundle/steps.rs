//! The steps that only bundles have: the part of an OCI `config.json` that `airtight run` never asks for. Carried out by the same two loops.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, GroupPlace, GroupPlan, Hook, IoPriority, JoinNamespace, MountStep, NodeStep,
    RlimitEntry, Scheduler, SeccompProfile, SentMount, TimeOffset,
};
use crate::Namespace;

/// On the host's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "bundle-step")]
pub enum BundleParentStep {
    /// Open each namespace by its path while the host is in view, prove that it is one of its kind; the child joins them in
    /// [`BundleStep::JoinNamespaces`].
    OpenNamespaces { namespaces: Vec<JoinNamespace> },
    /// The opened pid namespace becomes that of children to come: `setns` with CLONE_NEWPID acts on them only.
    JoinPidForChildren,
    /// `unshare(CLONE_NEWTIME)` acts on children to come; their clocks' offsets are written before the first of them exists.
    TimeOffsets { offsets: Vec<TimeOffset> },
    /// A bundle's groups: made where they are not there, limits and device rules set, opened for the child. They stay until `delete`.
    Groups(GroupPlan),
    /// Limits and the badness of the waiting child, set from outside: in a new user namespace it has no right to raise or lower them.
    Limits {
        rlimits: Vec<RlimitEntry>,
        oom_score_adj: Option<i32>,
    },
    /// The groups of a container that is there already, opened for a further process of it.
    /// On v2 a container may have moved its processes into groups below its own, which then takes none: the one that `pid` is in will do.
    JoinGroups {
        groups: Vec<GroupPlace>,
        pid: i32,
        /// They were asked for by name, so that each must be there. Else, where one is not, it is the one that `pid` is in.
        named: bool,
    },
    /// Trees of the host for the child's [`BundleStep::AttachRoot`] and [`BundleStep::Mount`]: each a detached copy, made with the caller's rights and
    /// sent in this order.
    SendMounts { mounts: Vec<SentMount> },
    /// A page of code that becomes the container's program, so that the kernel never looks at that program while the process is ours (CVE-2019-5736).
    Springboard,
    /// `prestart` and `createRuntime`: run when the child has its namespaces and mounts and waits in [`BundleStep::AwaitHooks`].
    RuntimeHooks {
        prestart: Vec<Hook>,
        create_runtime: Vec<Hook>,
    },
}

/// Inside. Every one either succeeds or ends the launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "bundle-step")]
pub enum BundleStep {
    /// Into the namespaces that the parent opened: the user namespace first, whose rights the others ask for.
    JoinNamespaces,
    /// Goes on as a new process, the parent's own child too (`CLONE_PARENT`), in these new namespaces: a pid namespace holds children
    /// only, and namespaces that a joined user namespace should own are made after joining it. The parent is told the new process.
    Reborn {
        namespaces: BTreeSet<Namespace>,
    },
    /// How mounts of `/` and those that follow are seen from outside.
    RootPropagation {
        propagation: Propagation,
    },
    /// The first sent tree becomes the root to be: attached over `path`, where hooks expect it, or over `/` where that cannot be reached.
    AttachRoot {
        path: PathBuf,
    },
    /// One entry of a bundle's `mounts`, on a target that is resolved and, where missing, made below the root's descriptor.
    Mount(MountStep),
    /// `/dev` of a bundle: nodes made with `mknod`, or bound from the host where a user namespace forbids that; the links `fd`, `stdin`, `stdout`,
    /// `stderr`, `ptmx`, `core`.
    DeviceNodes {
        nodes: Vec<NodeStep>,
        bind: bool,
    },
    /// `linux.maskedPaths`: the real `/dev/null`, or an empty read-only tmpfs over a directory. One that does not exist needs none.
    MaskPath {
        path: PathBuf,
    },
    /// `linux.readonlyPaths`: bound on itself, read-only. One that does not exist needs nothing.
    ReadonlyPath {
        path: PathBuf,
    },
    /// The root itself is read-only from here on.
    ReadonlyRoot,
    /// Missing directories of the working directory are made below the root, as every runtime does.
    MakeWorkingDirectory {
        path: PathBuf,
    },
    /// `--no-pivot`: the root is moved over `/` and `chroot` entered, for hosts whose root is the initial ramfs.
    MoveRoot,
    /// The finished root's propagation (`linux.rootfsPropagation`).
    FinalPropagation {
        propagation: Propagation,
    },
    Domainname {
        name: String,
    },
    /// Tells the parent that the namespaces are there and waits until its hooks have run.
    AwaitHooks,
    /// `createContainer` before the root changes, `startContainer` right before the program and under its filter: run here, in the container's namespaces.
    ContainerHooks {
        hooks: Vec<Hook>,
    },
    /// `HOME` of a process whose environment has none: its user's, as the root's own `/etc/passwd` says, else `/`. Programs of every image count on it.
    Home {
        uid: u32,
    },
    /// Into the working directory, proven to lie inside the root (CVE-2024-21626), while the set-up still has rights of its own. A refusal is left to the
    /// next step.
    TryWorkingDirectory {
        path: PathBuf,
    },
    /// The same with the payload's ids, if it was refused before.
    LastWorkingDirectory {
        path: PathBuf,
    },
    /// The program of [`crate::ChildStep::Exec`] is looked up with the payload's ids, so that `create` tells what is missing.
    LookUpProgram,
    /// Tells the parent that all is ready but the payload, and waits for `start`.
    AwaitStart,
    /// As [`crate::ChildStep::CloseDescriptors`], but the caller's from 3 on, this many, stay open (`--preserve-fds`).
    PreserveDescriptors {
        count: u32,
    },
    /// The console: a pty of the container's own devpts, its peer bound over `/dev/console` by descriptor (CVE-2025-52565), the master sent out.
    Console {
        /// Columns and rows.
        size: Option<(u16, u16)>,
        /// There is a `/dev` to bind over.
        bind: bool,
    },
    OomScoreAdj {
        value: i32,
    },
    Scheduler(Scheduler),
    IoPriority(IoPriority),
    Affinity {
        cpus: Vec<u32>,
    },
    /// Every CPU that the groups allow, whichever the caller was held to.
    EveryCpu,
    Personality {
        flags: u64,
    },
    /// A limit as a bundle names it: set as written, or the launch ends.
    ExactRlimit {
        /// `RLIMIT_*` number of the kernel.
        resource: u32,
        soft: u64,
        hard: u64,
    },
    /// The same, but no higher than what the process has: what is beyond is cut, not refused.
    LowerRlimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    /// A file that can be read, or a socket of the host's network, among 0, 1, 2 ends the launch: nobody stays to put a pipe in its place.
    RefuseFileStreams,
    /// Pipes and files on 0, 1 and 2 become the payload's own, so that it can open them again by `/dev/stdout`. What cannot be owned (another's
    /// terminal, a read-only file system, `/dev/null`) stays as it is, as every runtime has it.
    OwnStreams {
        uid: u32,
    },
    /// The bounding set becomes this, before the ids change.
    BoundingSet {
        keep: u64,
    },
    /// Permitted capabilities are kept across the change of ids.
    KeepCapabilities,
    /// Effective, permitted, inheritable, then ambient.
    SetCapabilities(Capabilities),
    /// AppArmor and SELinux labels of what is executed.
    ExecLabel {
        module: LabelModule,
        label: String,
    },
    /// Landlock without file rights: abstract unix sockets and signals of those outside are out of reach.
    Scopes {
        abstract_unix: bool,
        signal: bool,
    },
    /// A caller's own filter.
    SeccompProfile(Arc<SeccompProfile>),
}

impl BundleStep {
    /// As messages name the step.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::JoinNamespaces => "JoinNamespaces",
            Self::Reborn { .. } => "Reborn",
            Self::RootPropagation { .. } => "RootPropagation",
            Self::AttachRoot { .. } => "AttachRoot",
            Self::Mount(_) => "Mount",
            Self::DeviceNodes { .. } => "DeviceNodes",
            Self::MaskPath { .. } => "MaskPath",
            Self::ReadonlyPath { .. } => "ReadonlyPath",
            Self::ReadonlyRoot => "ReadonlyRoot",
            Self::MakeWorkingDirectory { .. } => "MakeWorkingDirectory",
            Self::MoveRoot => "MoveRoot",
            Self::FinalPropagation { .. } => "FinalPropagation",
            Self::Domainname { .. } => "Domainname",
            Self::AwaitHooks => "AwaitHooks",
            Self::ContainerHooks { .. } => "ContainerHooks",
            Self::Home { .. } => "Home",
            Self::TryWorkingDirectory { .. } => "TryWorkingDirectory",
            Self::LastWorkingDirectory { .. } => "LastWorkingDirectory",
            Self::LookUpProgram => "LookUpProgram",
            Self::AwaitStart => "AwaitStart",
            Self::PreserveDescriptors { .. } => "PreserveDescriptors",
            Self::Console { .. } => "Console",
            Self::OomScoreAdj { .. } => "OomScoreAdj",
            Self::Scheduler(_) => "Scheduler",
            Self::IoPriority(_) => "IoPriority",
            Self::Affinity { .. } => "Affinity",
            Self::EveryCpu => "EveryCpu",
            Self::Personality { .. } => "Personality",
            Self::ExactRlimit { .. } => "ExactRlimit",
            Self::LowerRlimit { .. } => "LowerRlimit",
            Self::RefuseFileStreams => "RefuseFileStreams",
            Self::OwnStreams { .. } => "OwnStreams",
            Self::BoundingSet { .. } => "BoundingSet",
            Self::KeepCapabilities => "KeepCapabilities",
            Self::SetCapabilities(_) => "SetCapabilities",
            Self::ExecLabel { .. } => "ExecLabel",
            Self::Scopes { .. } => "Scopes",
            Self::SeccompProfile(_) => "SeccompProfile",
        }
    }
}

/// `mount_namespaces(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    Private,
    RPrivate,
    Slave,
    RSlave,
    Shared,
    RShared,
    Unbindable,
    RUnbindable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelModule {
    AppArmor,
    SeLinux,
}
