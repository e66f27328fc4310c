//! The two lists of a container that is honoured as its config says, in the one order that holds. Each comment says why a step is where it is.

use std::collections::BTreeSet;

use super::mounts::Mounts;
use super::{Asked, CompatFacts, CompatOptions, check, devices, process};
use crate::bundle::{BundleParentStep, BundleStep, Config, NamespaceKind, Propagation};
use crate::{ChildStep, IdMaps, Namespace, ParentStep};

/// Everything that was decided, to be put in order.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) asked: Asked<'a>,
    pub(super) facts: &'a CompatFacts,
    pub(super) how: &'a CompatOptions,
    pub(super) maps: Option<IdMaps>,
    pub(super) mounts: Mounts,
}

impl Parts<'_> {
    /// New namespaces that a joined user namespace should own are made after joining it; without the right to join a pid namespace here,
    /// so is a joined one.
    fn reborn(&self) -> bool {
        self.asked.joins(NamespaceKind::User)
            && (!self.made().is_empty()
                || (self.asked.joins(NamespaceKind::Pid) && !self.facts.privileged))
    }

    fn made(&self) -> BTreeSet<Namespace> {
        [
            (NamespaceKind::User, Namespace::User),
            (NamespaceKind::Pid, Namespace::Pid),
            (NamespaceKind::Net, Namespace::Net),
            (NamespaceKind::Ipc, Namespace::Ipc),
            (NamespaceKind::Uts, Namespace::Uts),
            (NamespaceKind::Mount, Namespace::Mount),
        ]
        .into_iter()
        .filter(|(kind, _)| self.asked.makes(*kind))
        .map(|(_, namespace)| namespace)
        .collect()
    }
}

pub(super) fn parent(parts: &Parts<'_>) -> Vec<ParentStep> {
    let mut steps = Vec::new();
    let mut push = |step| steps.push(ParentStep::Bundle(step));
    // Before the child, which joins by a descriptor: moving a process from outside costs milliseconds.
    if !parts.how.groups.groups.is_empty() {
        push(BundleParentStep::Groups(parts.how.groups.clone()));
    }
    let joined = parts.asked.joined();
    let pid = joined.iter().any(|entry| entry.kind == NamespaceKind::Pid);
    // While the host's paths mean what the caller meant.
    if !joined.is_empty() {
        push(BundleParentStep::OpenNamespaces { namespaces: joined });
    }
    if !parts.facts.fixed_file && parts.config.process.is_some() {
        push(BundleParentStep::Springboard);
    }
    // Both act on children to come. With a joined user namespace the child does it, by being born again.
    if pid && !parts.reborn() {
        push(BundleParentStep::JoinPidForChildren);
    }
    if parts.asked.makes(NamespaceKind::Time) {
        push(BundleParentStep::TimeOffsets {
            offsets: parts.config.linux.time_offsets.clone(),
        });
    }
    let namespaces = if parts.reborn() {
        BTreeSet::new()
    } else {
        parts.made()
    };
    steps.push(ParentStep::Clone { namespaces });
    if let Some(maps) = &parts.maps {
        steps.push(ParentStep::IdMaps(maps.clone()));
    }
    let mut push = |step| steps.push(ParentStep::Bundle(step));
    if let Some(limits) = process::outside(parts.config, parts.maps.is_some()) {
        // In a user namespace the child has no right of the host's, which it takes to raise a limit or lower a badness.
        push(limits);
    }
    // After the maps, which an idmapped mount takes from the child's namespace; with the caller's rights, which the child may lack.
    push(BundleParentStep::SendMounts {
        mounts: parts.mounts.sent.clone(),
    });
    if has_runtime_hooks(parts.config) {
        push(BundleParentStep::RuntimeHooks {
            prestart: parts.config.hooks.prestart.clone(),
            create_runtime: parts.config.hooks.create_runtime.clone(),
        });
    }
    steps
}

fn has_runtime_hooks(config: &Config) -> bool {
    !config.hooks.prestart.is_empty() || !config.hooks.create_runtime.is_empty()
}

pub(super) fn child(parts: &Parts<'_>) -> Vec<ChildStep> {
    let mut steps = Vec::with_capacity(64);
    enter(parts, &mut steps);
    furnish(parts, &mut steps);
    change_root(parts, &mut steps);
    match &parts.config.process {
        Some(asked) => process::confine(parts, asked, &mut steps),
        None => steps.push(ChildStep::Bundle(BundleStep::AwaitStart)),
    }
    steps
}

/// Into the namespaces, as their root. Nothing here dies with the parent: a created container outlives the runtime.
fn enter(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    let asked = &parts.asked;
    // While the groups' directories can be written with the caller's rights.
    if !parts.how.groups.groups.is_empty() {
        steps.push(ChildStep::JoinCgroups);
    }
    // After joining them: where a caller is held to some CPUs (a service manager's, `taskset`), the container is not.
    steps.push(ChildStep::Bundle(BundleStep::EveryCpu));
    let early = among_others(parts);
    if early {
        oom_score_adj(parts, steps);
        // Others see it from here on, and in a user namespace of theirs, or in one that is below theirs, it has no more rights than they may have.
        steps.push(ChildStep::NotDumpable);
    }
    if !asked.joined().is_empty() {
        steps.push(ChildStep::Bundle(BundleStep::JoinNamespaces));
    }
    if parts.reborn() {
        steps.push(ChildStep::Bundle(BundleStep::Reborn {
            namespaces: parts.made(),
        }));
    }
    // After joining the groups, so that the container's own is the namespace's root; in the user namespace that shall own it.
    if asked.makes(NamespaceKind::Cgroup) {
        steps.push(ChildStep::UnshareCgroup);
    }
    // Not before the maps are written: files made before would belong to nobody.
    steps.push(ChildStep::AwaitParent);
    if asked.has(NamespaceKind::User) {
        steps.push(if process::setgroups(parts) {
            ChildStep::BecomeNamespaceRoot
        } else {
            ChildStep::SetIds {
                uid: 0,
                gid: 0,
                groups: None,
            }
        });
    }
    // Before the console, which becomes the controlling terminal of the new session.
    steps.push(ChildStep::NewSession);
    if parts.how.new_keyring {
        steps.push(ChildStep::SessionKeyring);
    }
    // Whatever the config wants of its root in the end: until the root is changed nothing of ours shall be seen on the host, and binds come as
    // detached copies that keep their peers on their own.
    steps.push(ChildStep::Bundle(BundleStep::RootPropagation {
        propagation: Propagation::RSlave,
    }));
    if asked.makes(NamespaceKind::Net) {
        steps.push(ChildStep::Loopback {
            addresses: Vec::new(),
        });
    }
    // The host's procfs is still in view, whole and writable, and acts on the namespaces of who writes.
    for (key, value) in &parts.config.linux.sysctl {
        steps.push(ChildStep::Sysctl {
            path: check::sysctl_path(key).into(),
            value: value.clone(),
        });
    }
    // Through the same procfs; the container's may be read-only, or not there.
    if !early {
        oom_score_adj(parts, steps);
    }
    // In a pid namespace that others are in they could follow its `exe` to our file, once it has no more rights than they (CVE-2019-5736), and its
    // descriptors to the host (CVE-2016-9962). After all that `/proc/self` is written for, which is root's from here on.
    steps.push(ChildStep::NotDumpable);
}

fn oom_score_adj(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    let process = parts.config.process.as_ref();
    let value = process.and_then(|process| process.oom_score_adj);
    if let (Some(value), None) = (value, &parts.maps) {
        steps.push(ChildStep::Bundle(BundleStep::OomScoreAdj { value }));
    }
}

/// Its pid namespace has other processes, and what is written to its `/proc/PID` still can be: that of one that is not dumpable is root's.
fn among_others(parts: &Parts<'_>) -> bool {
    parts.asked.joins(NamespaceKind::Pid)
        && (parts.facts.privileged || !parts.asked.makes(NamespaceKind::User))
}

/// The root and everything on it, below a descriptor: no path of the image is trusted (CVE-2021-30465, CVE-2019-19921).
fn furnish(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    let (config, linux) = (parts.config, &parts.config.linux);
    let mut push = |step| steps.push(ChildStep::Bundle(step));
    push(BundleStep::AttachRoot {
        path: config.root.path.clone(),
    });
    for mount in &parts.mounts.steps {
        push(BundleStep::Mount(mount.clone()));
    }
    let own_dev = devices::own_dev(config);
    if own_dev {
        // After the mounts, one of which is the `/dev` that they go to.
        push(BundleStep::DeviceNodes {
            nodes: devices::nodes(config),
            bind: devices::bound(&parts.asked, parts.facts.in_user_namespace),
        });
    }
    // After all mounts, so that none lies above a mask; before the pivot, while the host's `/dev/null` is in view, which is proven to be it
    // (CVE-2025-31133).
    for path in &linux.readonly_paths {
        push(BundleStep::ReadonlyPath { path: path.clone() });
    }
    // One that is named twice is masked once: a second mask would hide nothing more.
    let mut masked = BTreeSet::new();
    for path in linux
        .masked_paths
        .iter()
        .filter(|path| masked.insert(*path))
    {
        push(BundleStep::MaskPath { path: path.clone() });
    }
    if let Some(process) = &config.process {
        if process.terminal {
            // By descriptor, below the root that is not entered yet (CVE-2025-52565); before `/dev` becomes read-only.
            push(BundleStep::Console {
                size: process.console_size,
                bind: own_dev,
            });
        }
        push(BundleStep::MakeWorkingDirectory {
            path: process.cwd.clone(),
        });
    }
    for mount in &parts.mounts.late {
        push(BundleStep::Mount(mount.clone()));
    }
    // The specification has both after the mounts and before the root changes, the runtime's own first.
    if has_runtime_hooks(config) {
        push(BundleStep::AwaitHooks);
    }
    if !config.hooks.create_container.is_empty() {
        push(BundleStep::ContainerHooks {
            hooks: config.hooks.create_container.clone(),
        });
    }
}

fn change_root(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    let config = parts.config;
    steps.push(if parts.how.no_pivot {
        ChildStep::Bundle(BundleStep::MoveRoot)
    } else {
        ChildStep::PivotRoot
    });
    if config.root.read_only {
        steps.push(ChildStep::Bundle(BundleStep::ReadonlyRoot));
    }
    // Of the root that it is now: before, it would have been that of the host's copy.
    if let Some(propagation) = config.linux.rootfs_propagation {
        steps.push(ChildStep::Bundle(BundleStep::FinalPropagation {
            propagation,
        }));
    }
    if !config.hostname.is_empty() {
        steps.push(ChildStep::Hostname {
            name: config.hostname.clone(),
        });
    }
    if !config.domainname.is_empty() {
        steps.push(ChildStep::Bundle(BundleStep::Domainname {
            name: config.domainname.clone(),
        }));
    }
}
