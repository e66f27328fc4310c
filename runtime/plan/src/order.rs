//! The two lists, in the one order that holds. Each comment says why a step is where it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use airtight_profiles::{Policy, SeccompFilter};

use crate::identity::Identity;
use crate::mounts::{self, Mounts};
use crate::network::Network;
use crate::{
    CgroupPlan, ChildStep, HostFacts, Init, LandlockRules, Namespace, ParentStep, Probe, Spec,
    Terminal, limits,
};

/// Everything that was decided, to be put in order.
pub(crate) struct Parts<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) policy: &'a Policy,
    pub(crate) facts: &'a HostFacts,
    pub(crate) identity: Identity,
    /// Layers and volumes come from the parent as idmapped mounts.
    pub(crate) idmap: bool,
    pub(crate) network: Network,
    pub(crate) mounts: Mounts,
    pub(crate) cgroups: Vec<CgroupPlan>,
    pub(crate) landlock: Option<LandlockRules>,
    pub(crate) seccomp: SeccompFilter,
}

pub(crate) fn parent(parts: &Parts<'_>) -> Vec<ParentStep> {
    let mut steps = Vec::new();
    // A port in use must end the launch while there is nothing to take back.
    if !parts.network.publish.is_empty() {
        steps.push(ParentStep::Publish {
            addresses: parts.network.publish.clone(),
        });
    }
    // Before the child, which joins by a descriptor: moving a process from outside costs milliseconds.
    if !parts.cgroups.is_empty() {
        steps.push(ParentStep::Cgroups {
            groups: parts.cgroups.clone(),
        });
    }
    // Before the clone, so that its start runs beside the rest, and so that it holds nothing of the child's.
    if let (Some(path), Some(_)) = (&parts.facts.gate, &parts.network.gate) {
        steps.push(ParentStep::Gate { path: path.clone() });
    }
    let namespaces = [
        Namespace::User,
        Namespace::Pid,
        Namespace::Mount,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Net,
    ];
    steps.push(ParentStep::Clone {
        namespaces: namespaces.into_iter().collect(),
    });
    steps.push(ParentStep::IdMaps(parts.identity.maps.clone()));
    // After the maps: an idmapped mount takes them from the child's user namespace.
    if parts.idmap {
        let layers = parts.spec.layers.clone();
        // All or none: overlayfs shows owners as its layers do, and an image has one kind of owner.
        steps.push(if parts.facts.plain_layers.is_empty() {
            ParentStep::IdmapLayers { layers }
        } else {
            ParentStep::SendLayers { layers }
        });
        if !parts.mounts.idmapped.is_empty() {
            steps.push(ParentStep::IdmapVolumes {
                volumes: parts.mounts.idmapped.clone(),
            });
        }
    }
    steps.push(ParentStep::Supervise);
    steps
}

pub(crate) fn child(parts: Parts<'_>) -> Vec<ChildStep> {
    let mut steps = Vec::with_capacity(64);
    enter(&parts, &mut steps);
    wire(&parts, &mut steps);
    furnish(&parts, &mut steps);
    settle(&parts, &mut steps);
    confine(parts, &mut steps);
    steps
}

/// Into the namespaces, as their root.
fn enter(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    // First of all: between the clone and this the parent may already have died.
    steps.push(ChildStep::DieWithParent);
    if !parts.cgroups.is_empty() {
        steps.push(ChildStep::JoinCgroups);
    }
    // After joining, so that the group's own directory is the namespace's root and `/proc/self/cgroup` says `/`; before the parent is
    // awaited, since it needs no map.
    steps.push(ChildStep::UnshareCgroup);
    steps.push(ChildStep::AwaitParent);
    // While the process is still the host's root: this file takes no other, and the value acts on the pid namespace of who writes it.
    if parts.facts.memfd_noexec {
        steps.push(ChildStep::Sysctl {
            path: "vm/memfd_noexec".into(),
            value: "2".into(),
        });
    }
    // Only now are the maps written; files made before would belong to nobody.
    if parts.identity.namespace_root {
        steps.push(ChildStep::BecomeNamespaceRoot);
    }
    // Before any mount, which would otherwise be seen on the host.
    steps.push(ChildStep::SlavePropagation);
}

/// The network and the namespaces' settings, while procfs of the host is still in view.
fn wire(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    steps.push(ChildStep::Loopback {
        addresses: parts.network.addresses.clone(),
    });
    let mut sysctl = |path: &str, value: &str| {
        steps.push(ChildStep::Sysctl {
            path: path.into(),
            value: value.into(),
        })
    };
    // Before the sockets: endpoints and payload use ports below 1024, and nothing else in this namespace could be meant by them.
    sysctl("net/ipv4/ip_unprivileged_port_start", "0");
    // In our user namespace, for good: the one door to every other kind of namespace.
    sysctl("user/max_user_namespaces", "0");
    // Counted against whoever made the namespace too, so that one sandbox could take all of the host user's.
    sysctl("user/max_inotify_instances", "64");
    sysctl("user/max_inotify_watches", "16384");
    // Before the mounts: the gate checks its sockets while we go on, and a launch without READY has cost little.
    if parts.network.gate.is_some() {
        steps.push(ChildStep::GateSockets {
            listen: parts.network.listen.clone(),
        });
    }
}

/// The mounts, then the root changed to them.
fn furnish(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    steps.push(parts.mounts.rootfs.clone());
    steps.push(ChildStep::Proc);
    // From the host's /dev/null, which is in view until the pivot (CVE-2025-31133).
    steps.extend(mounts::masks(parts.facts));
    steps.push(mounts::dev());
    steps.extend(parts.mounts.steps.iter().cloned());
    steps.push(ChildStep::PivotRoot);
    // Right after, so that whatever replaced a mount meanwhile is seen before anything trusts it.
    steps.push(ChildStep::VerifyMounts);
}

/// What the process carries: name, limits, keyring, session, descriptors.
fn settle(parts: &Parts<'_>, steps: &mut Vec<ChildStep>) {
    steps.push(ChildStep::Hostname {
        name: parts.spec.hostname.clone(),
    });
    steps.extend(limits::rlimits(parts.policy, parts.facts));
    steps.push(ChildStep::SessionKeyring);
    steps.push(ChildStep::Umask { mask: 0o022 });
    // Before the terminal, which becomes the controlling one of the new session.
    steps.push(ChildStep::NewSession);
    // A file of the host that can be read can be mapped as code too, whatever lies in it: it lies on no mount of ours. A socket of the host stays in the
    // host's network. A terminal of its own takes the place of all three anyhow. Before the descriptors are closed, so that the files themselves stay with the parent only.
    if parts.spec.process.terminal == Terminal::Inherit {
        steps.push(ChildStep::PipeStreams);
    }
    // After the mounts, which used descriptors of the host's tree (CVE-2024-21626); before the ids change.
    steps.push(ChildStep::CloseDescriptors);
    if parts.spec.process.terminal == Terminal::Own {
        // From the sandbox's own devpts, by descriptor, after the pivot (CVE-2025-52565).
        steps.push(ChildStep::Terminal);
    }
}

/// Privilege given up for good, fence after fence; each step is the last that could be made where it stands.
fn confine(parts: Parts<'_>, steps: &mut Vec<ChildStep>) {
    let process = &parts.spec.process;
    // Both need CAP_SETPCAP, which ends with the capabilities.
    steps.push(ChildStep::DropBoundingSet);
    steps.push(ChildStep::SecureBits);
    // Needs CAP_SETUID and CAP_SETGID; the locked securebits keep the capabilities across it, so they are cleared by name below.
    steps.push(ChildStep::SetIds {
        uid: process.uid,
        gid: process.gid,
        groups: parts.identity.groups.clone(),
    });
    // The kernel cleared it with the ids.
    steps.push(ChildStep::DieWithParent);
    steps.push(ChildStep::ClearCapabilities);
    // Before Landlock and seccomp, which ask for it of a process without CAP_SYS_ADMIN.
    steps.push(ChildStep::NoNewPrivs);
    // The change of ids set it too, but only where `fs.suid_dumpable` says so.
    steps.push(ChildStep::NotDumpable);
    // A second fence where the kernel has it: the filter refuses anonymous code and any mprotect to code, and all that can be written
    // is mounted noexec or reached through a pipe, so without it no memory becomes code either.
    if parts.facts.mdwe && !parts.policy.write_execute {
        steps.push(ChildStep::DenyWriteExecute);
    }
    // With the payload's ids, so that it cannot start where the payload could not go.
    steps.push(ChildStep::WorkingDirectory {
        path: process.cwd.clone(),
    });
    if let Some(rules) = parts.landlock {
        steps.push(ChildStep::Landlock(rules));
    }
    // From the final context but for the filter, which would answer for the other fences.
    steps.push(ChildStep::Canary {
        probes: probes(&parts.network.listen),
    });
    // Before the payload's filter: pid 1 forks, and loads one of its own.
    if parts.spec.init == Init::Ours {
        steps.push(ChildStep::Init);
    }
    steps.push(ChildStep::Seccomp(parts.seccomp));
    steps.push(ChildStep::Exec {
        args: process.args.clone(),
        env: process.env.clone(),
    });
}

/// Every attempt that must fail. An endpoint that is exactly the probe's target would answer it, from the gate.
fn probes(listen: &[SocketAddr]) -> Vec<Probe> {
    let at = |address: [u8; 4], port| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address)), port);
    let mut probes = Vec::with_capacity(5);
    if !listen.contains(&at([1, 1, 1, 1], 443)) {
        probes.push(Probe::PublicAddress);
    }
    if !listen.contains(&at([169, 254, 169, 254], 80)) {
        probes.push(Probe::MetadataAddress);
    }
    probes.extend([Probe::Mount, Probe::WriteRoot, Probe::UserNamespace]);
    probes
}
