//! The `linux` part of a config: namespaces, limits, masks, the caller's own filter.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Beyonds, Extras};
use crate::bundle::{
    Config, LinuxConfig, NamespaceKind, Propagation, Resources, SeccompAction, SeccompProfile,
};

/// Made for every sandbox, so a config that leaves one out asks to share the host's.
const REQUIRED: [(NamespaceKind, &str); 5] = [
    (NamespaceKind::Pid, "pid"),
    (NamespaceKind::Net, "network"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Uts, "uts"),
    (NamespaceKind::Mount, "mount"),
];
/// Files of a v2 group that bound what the container takes; others could take from the host's own.
const UNIFIED: [&str; 13] = [
    "cpu.idle",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.max",
    "memory.oom.group",
    "memory.swap.high",
    "memory.swap.max",
    "pids.max",
];
const ENOSYS: u16 = 38;

pub(super) fn linux(config: &Config, extras: &mut Extras, beyond: &mut Beyonds) -> Resources {
    let linux = &config.linux;
    namespaces(linux, beyond);
    for (key, asked, problem, narrowed) in [
        (
            "linux.uidMappings",
            !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty(),
            "names ids of the host: airtight chooses them",
            "ids of the sandbox's own",
        ),
        (
            "linux.timeOffsets",
            !linux.time_offsets.is_empty(),
            "is not honoured",
            "the host's clocks",
        ),
        (
            "linux.devices",
            !linux.devices.is_empty(),
            "is not empty: no sandbox gets a device besides null, zero, full, random, urandom and tty",
            "none",
        ),
        (
            "linux.sysctl",
            !linux.sysctl.is_empty(),
            "is not honoured",
            "none is set",
        ),
        (
            "linux.personality",
            linux.personality.is_some_and(|flags| flags != 0),
            "is not honoured",
            "LINUX",
        ),
        (
            "linux.intelRdt",
            linux.intel_rdt.is_some(),
            "is not honoured",
            "left out",
        ),
        (
            "linux.rootfsPropagation",
            matches!(
                linux.rootfs_propagation,
                Some(Propagation::Shared | Propagation::RShared)
            ),
            "would let mounts be seen outside",
            "rslave",
        ),
        (
            "domainname",
            !config.domainname.is_empty(),
            "is not honoured",
            "left out",
        ),
    ] {
        if asked {
            beyond.add(key, problem, narrowed);
        }
    }
    extras.seccomp = linux
        .seccomp
        .as_ref()
        .map(|profile| Arc::new(seccomp(profile, beyond)));
    // All of the root and of `/proc` is read-only here, and `/sys` is empty.
    let ours = |path: &&std::path::PathBuf| {
        !["/sys"]
            .iter()
            .any(|root| path.starts_with(Path::new(root)))
    };
    extras
        .masked
        .extend(linux.masked_paths.iter().filter(ours).cloned());
    extras.readonly.extend(
        linux
            .readonly_paths
            .iter()
            .filter(|path| !path.starts_with("/proc"))
            .filter(ours)
            .cloned(),
    );
    resources(&linux.resources, beyond)
}

fn namespaces(linux: &LinuxConfig, beyond: &mut Beyonds) {
    for (at, entry) in linux.namespaces.iter().enumerate() {
        if entry.path.is_some() {
            beyond.add(
                format!("linux.namespaces[{at}].path"),
                "would join a namespace: every sandbox has its own",
                "its own",
            );
        } else if entry.kind == NamespaceKind::Time {
            beyond.add(
                format!("linux.namespaces[{at}].type"),
                "is not a namespace that is made here",
                "the host's clocks",
            );
        }
    }
    let new = linux.namespaces.iter().filter(|entry| entry.path.is_none());
    let kinds: BTreeSet<_> = new.clone().map(|entry| entry.kind).collect();
    if kinds.len() < new.count() {
        beyond.add("linux.namespaces", "names one twice", "each once");
    }
    for (kind, name) in REQUIRED {
        if !linux.namespaces.iter().any(|entry| entry.kind == kind) {
            beyond.add(
                "linux.namespaces",
                format!("has no {name}: the host's is never shared"),
                "its own",
            );
        }
    }
}

/// A listener acts with rights of its own on what the payload asks, and the kernel gives a process one of them.
fn seccomp(profile: &SeccompProfile, beyond: &mut Beyonds) -> SeccompProfile {
    let mut profile = profile.clone();
    let notifies = profile.listener.is_some()
        || profile.default_action == SeccompAction::Notify
        || profile
            .syscalls
            .iter()
            .any(|rule| rule.action == SeccompAction::Notify);
    if notifies {
        beyond.add(
            "linux.seccomp",
            "would hand system calls to a listener outside",
            "they are refused with ENOSYS",
        );
        profile.listener = None;
        let told = |action: &mut SeccompAction| {
            if *action == SeccompAction::Notify {
                *action = SeccompAction::Errno(ENOSYS);
            }
        };
        told(&mut profile.default_action);
        profile
            .syscalls
            .iter_mut()
            .for_each(|rule| told(&mut rule.action));
        profile
            .flags
            .retain(|flag| flag != "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
    }
    profile
}

/// Limits narrow; what gives more of the host is left out.
fn resources(asked: &Resources, beyond: &mut Beyonds) -> Resources {
    let mut resources = asked.clone();
    if asked.devices.iter().any(|rule| rule.allow) {
        beyond.add(
            "linux.resources.devices",
            "allows some: no sandbox gets a device besides null, zero, full, random, urandom and tty",
            "none",
        );
    }
    resources.devices.clear();
    if asked.memory.disable_oom_killer == Some(true) {
        beyond.add(
            "linux.resources.memory.disableOOMKiller",
            "is true: a payload at its limit would hang with what it holds",
            "false",
        );
        resources.memory.disable_oom_killer = None;
    }
    if asked.cpu.realtime_runtime.is_some() || asked.cpu.realtime_period.is_some() {
        beyond.add(
            "linux.resources.cpu.realtimeRuntime",
            "would go before others",
            "left out",
        );
        (
            resources.cpu.realtime_runtime,
            resources.cpu.realtime_period,
        ) = (None, None);
    }
    resources.unified.retain(|file, _| {
        let kept = UNIFIED.contains(&file.as_str());
        if !kept {
            beyond.add(
                format!("linux.resources.unified.{file}"),
                "is not one of the files that bound a container",
                "left out",
            );
        }
        kept
    });
    resources
}
