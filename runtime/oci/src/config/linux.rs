//! `linux`, without its resources and its filter's rules.

use std::path::PathBuf;
use std::sync::Arc;

use airtight_plan::bundle::{
    DeviceEntry, IntelRdt, LinuxConfig, NamespaceEntry, NamespaceKind, NodeKind, Propagation,
    TimeOffset,
};

use super::{asked, mappings, resources, seccomp};
use crate::document::{Object, Problems};

/// `PER_LINUX32`.
const LINUX32: u64 = 8;

pub(super) fn linux(mut object: Object, problems: &mut Problems) -> LinuxConfig {
    let linux = &mut object;
    let config = LinuxConfig {
        namespaces: namespaces(linux, problems),
        uid_mappings: mappings(linux, "uidMappings", problems),
        gid_mappings: mappings(linux, "gidMappings", problems),
        time_offsets: time_offsets(linux, problems),
        devices: devices(linux, problems),
        cgroups_path: linux.text("cgroupsPath", problems).unwrap_or_default(),
        resources: linux
            .object("resources", problems)
            .map(|object| resources::resources(object, problems))
            .unwrap_or_default(),
        rootfs_propagation: propagation(linux, problems),
        seccomp: linux
            .object("seccomp", problems)
            .and_then(|mut object| seccomp::seccomp(&mut object, problems))
            .map(Arc::new),
        masked_paths: paths(linux, "maskedPaths", problems),
        readonly_paths: paths(linux, "readonlyPaths", problems),
        mount_label: linux.text("mountLabel", problems).unwrap_or_default(),
        personality: personality(linux, problems),
        intel_rdt: linux
            .object("intelRdt", problems)
            .map(|object| intel_rdt(object, problems)),
        sysctl: linux.text_map("sysctl", problems),
    };
    // An entry asks for an interface of the host's by its name alone.
    if !object.named("netDevices", problems).is_empty() {
        problems.pass_over(object.key("netDevices"));
    }
    object.rest(problems);
    config
}

fn namespaces(linux: &mut Object, problems: &mut Problems) -> Vec<NamespaceEntry> {
    let mut namespaces = Vec::new();
    for mut namespace in linux.objects("namespaces", problems) {
        let key = namespace.key("type");
        let kind = match namespace.text("type", problems).as_deref() {
            Some("user") => NamespaceKind::User,
            Some("pid") => NamespaceKind::Pid,
            Some("network") => NamespaceKind::Net,
            Some("ipc") => NamespaceKind::Ipc,
            Some("uts") => NamespaceKind::Uts,
            Some("cgroup") => NamespaceKind::Cgroup,
            Some("time") => NamespaceKind::Time,
            Some("mount") => NamespaceKind::Mount,
            _ => {
                problems.add(&key, "is not a kind of namespace");
                continue;
            }
        };
        let path = asked(namespace.path("path", problems));
        namespaces.push(NamespaceEntry { kind, path });
    }
    namespaces
}

fn time_offsets(linux: &mut Object, problems: &mut Problems) -> Vec<TimeOffset> {
    let mut offsets = Vec::new();
    for (clock, mut offset) in linux.named("timeOffsets", problems) {
        if clock != "monotonic" && clock != "boottime" {
            problems.add(
                &linux.key("timeOffsets"),
                "names a clock that has no offset",
            );
        }
        offsets.push(TimeOffset {
            clock,
            seconds: offset.number("secs", problems).unwrap_or(0),
            nanoseconds: offset.number("nanosecs", problems).unwrap_or(0),
        });
    }
    offsets
}

fn devices(linux: &mut Object, problems: &mut Problems) -> Vec<DeviceEntry> {
    let mut devices = Vec::new();
    for mut device in linux.objects("devices", problems) {
        let key = device.key("type");
        let kind = match device.text("type", problems).as_deref() {
            Some("c" | "u") => NodeKind::Character,
            Some("b") => NodeKind::Block,
            Some("p") => NodeKind::Fifo,
            _ => {
                problems.add(&key, "is not c, u, b or p");
                continue;
            }
        };
        devices.push(DeviceEntry {
            path: device.path("path", problems).unwrap_or_default(),
            kind,
            major: device.number("major", problems).unwrap_or(0),
            minor: device.number("minor", problems).unwrap_or(0),
            // With or without the bits that say what kind of file it is.
            mode: device
                .number::<u32>("fileMode", problems)
                .map(|mode| mode & 0o7777),
            uid: device.id("uid", problems).unwrap_or(0),
            gid: device.id("gid", problems).unwrap_or(0),
        });
    }
    devices
}

fn propagation(linux: &mut Object, problems: &mut Problems) -> Option<Propagation> {
    match linux.text("rootfsPropagation", problems)?.as_str() {
        "" => None,
        "private" => Some(Propagation::Private),
        "rprivate" => Some(Propagation::RPrivate),
        "slave" => Some(Propagation::Slave),
        "rslave" => Some(Propagation::RSlave),
        "shared" => Some(Propagation::Shared),
        "rshared" => Some(Propagation::RShared),
        "unbindable" => Some(Propagation::Unbindable),
        "runbindable" => Some(Propagation::RUnbindable),
        _ => {
            problems.add(
                &linux.key("rootfsPropagation"),
                "is not [r]private, [r]slave, [r]shared or [r]unbindable",
            );
            None
        }
    }
}

fn paths(linux: &mut Object, key: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = linux
        .texts(key, problems)
        .into_iter()
        .map(PathBuf::from)
        .collect();
    if paths.iter().any(|path| !path.is_absolute()) {
        problems.add(&linux.key(key), "holds a path that is not absolute");
    }
    paths
}

fn personality(linux: &mut Object, problems: &mut Problems) -> Option<u64> {
    let mut personality = linux.object("personality", problems)?;
    if !personality.texts("flags", problems).is_empty() {
        problems.add(&personality.key("flags"), "is not empty: there are none");
    }
    let key = personality.key("domain");
    match personality.text("domain", problems).as_deref() {
        Some("LINUX") => Some(0),
        Some("LINUX32") => Some(LINUX32),
        _ => {
            problems.add(&key, "is not LINUX or LINUX32");
            None
        }
    }
}

fn intel_rdt(mut rdt: Object, problems: &mut Problems) -> IntelRdt {
    let mut text = |key: &str| rdt.text(key, problems).unwrap_or_default();
    IntelRdt {
        clos_id: text("closID"),
        l3_cache_schema: text("l3CacheSchema"),
        mem_bw_schema: text("memBwSchema"),
    }
}
