//! What a config's plan hangs on, and no more: each fact is looked for only where the config asks for what it decides.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use airtight_plan::bundle::{CompatFacts, Config, NamespaceKind, ProcessConfig};
use airtight_sys::directory::open_path_follow;
use airtight_sys::{facts, landlock, process};
use nix::fcntl::OFlag;

use crate::probe::map_helpers;

/// `f_type`s, from the kernel's `magic.h`.
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
const RDTGROUP_SUPER_MAGIC: i64 = 0x0765_5821;
/// Of the host's own user namespace.
const WHOLE: [&str; 3] = ["0", "0", "4294967295"];

/// The facts for [`airtight_plan::bundle::compat`].
#[must_use]
pub fn compat_facts(config: &Config) -> CompatFacts {
    let kinds = |kind| {
        config
            .linux
            .namespaces
            .iter()
            .find(move |entry| entry.kind == kind)
    };
    let network = kinds(NamespaceKind::Net);
    let has_network_sysctl = config.linux.sysctl.keys().any(|key| key.starts_with("net"));
    let base = config
        .process
        .as_ref()
        .map(process_facts)
        .unwrap_or_else(own_facts);
    CompatFacts {
        selinux: base.selinux || (!config.linux.mount_label.is_empty() && has_selinux()),
        joins_own_network: has_network_sysctl
            && network
                .and_then(|entry| entry.path.as_deref())
                .is_some_and(is_own_network),
        idmapped_mounts: config.mounts.iter().any(|mount| {
            !mount.uid_mappings.is_empty()
                || mount
                    .options
                    .iter()
                    .any(|word| word == "idmap" || word == "ridmap")
        }) && has_mount_setattr(),
        resctrl: config.linux.intel_rdt.is_some() && is_on("/sys/fs/resctrl", RDTGROUP_SUPER_MAGIC),
        landlock_abi: if network.is_none() {
            landlock::abi().unwrap_or(0)
        } else {
            0
        },
        map_helpers: (kinds(NamespaceKind::User).is_some() && !base.privileged)
            .then(map_helpers)
            .flatten(),
        ..base
    }
}

/// The facts that a process alone hangs on, for `exec`.
#[must_use]
pub fn process_facts(process: &ProcessConfig) -> CompatFacts {
    CompatFacts {
        apparmor: !process.apparmor_profile.is_empty() && has_apparmor(),
        selinux: !process.selinux_label.is_empty() && has_selinux(),
        ..own_facts()
    }
}

/// The caller's effective ids.
#[must_use]
pub fn own_ids() -> (u32, u32) {
    (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    )
}

fn own_facts() -> CompatFacts {
    let in_user_namespace = in_user_namespace();
    let (euid, egid) = own_ids();
    CompatFacts {
        euid,
        egid,
        privileged: facts::is_administrator(),
        fixed_file: super::own_file::is_fixed(),
        in_user_namespace,
        // Whatever cannot be read is no denial: the call itself then tells.
        setgroups: !in_user_namespace
            || fs::read_to_string("/proc/self/setgroups")
                .map_or(true, |text| text.trim() != "deny"),
        ..CompatFacts::default()
    }
}

fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(WHOLE))
}

fn has_selinux() -> bool {
    is_on("/sys/fs/selinux", SELINUX_MAGIC)
}

fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
}

fn is_own_network(path: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (identity(path), identity(Path::new("/proc/self/ns/net"))) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // What cannot be told apart is taken for the host's own: its settings are not touched.
        _ => true,
    }
}

/// `mount_setattr(2)` came with ids of mounts, in 5.12.
fn has_mount_setattr() -> bool {
    crate::probe::kernel() >= (5, 12)
}

fn is_on(path: &str, filesystem: i64) -> bool {
    open_path_follow(Path::new(path), OFlag::O_PATH)
        .and_then(process::filesystem_type)
        .is_ok_and(|found| found == filesystem)
}
