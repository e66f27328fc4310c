//! What a config may not say, whoever says it: the specification's MUSTs, and asks whose effect would fall on the host.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Asked, CompatFacts};
use crate::bundle::{Config, NamespaceKind, ProcessConfig};
use crate::control::{Refusal, Result};

/// Each in an ipc namespace of its own.
const IPC_SYSCTLS: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shmall",
    "shmmax",
    "shmmni",
    "shm_rmid_forced",
];

pub(super) fn check(config: &Config, asked: &Asked<'_>, facts: &CompatFacts) -> Result<()> {
    if !version(&config.oci_version) {
        return Err(Refusal::new(
            "ociVersion",
            format!("is {:?}, not 1.0 to 1.3", config.oci_version),
            "write the version of the specification that the file follows",
        ));
    }
    if !config.root.path.is_absolute() {
        return Err(Refusal::new(
            "root.path",
            "is not absolute",
            "name the directory of the root file system",
        ));
    }
    namespaces(config, asked)?;
    for key in config.linux.sysctl.keys() {
        sysctl(key, asked, facts)?;
    }
    if let Some(process) = &config.process {
        check_process(process, facts)?;
    }
    if config.linux.intel_rdt.is_some() && !facts.resctrl {
        return Err(Refusal::new(
            "linux.intelRdt",
            "this host has no resource control mounted",
            "mount resctrl at /sys/fs/resctrl, or leave it out",
        ));
    }
    if config.linux.intel_rdt.is_some() {
        return Err(Refusal::new(
            "linux.intelRdt",
            "groups of resource control are not made by this release",
            "leave it out",
        ));
    }
    devices(config)
}

/// 1.0 to 1.3, with whatever follows (`1.0.2-dev`).
pub(in crate::bundle) fn version(text: &str) -> bool {
    let mut parts = text.splitn(3, '.');
    parts.next() == Some("1")
        && parts
            .next()
            .is_some_and(|minor| ["0", "1", "2", "3"].contains(&minor))
        && parts.next().is_some_and(|patch| !patch.is_empty())
}

fn namespaces(config: &Config, asked: &Asked<'_>) -> Result<()> {
    let linux = &config.linux;
    let mut seen = BTreeSet::new();
    for entry in &linux.namespaces {
        if !seen.insert(entry.kind) {
            return Err(Refusal::new(
                "linux.namespaces",
                format!("names {:?} twice", entry.kind),
                "name each kind once",
            ));
        }
        if let Some(path) = &entry.path
            && !path.is_absolute()
        {
            return Err(Refusal::new(
                "linux.namespaces",
                format!("the path {} is not absolute", path.display()),
                "name it from /",
            ));
        }
    }
    if !asked.has(NamespaceKind::Mount) {
        return Err(Refusal::new(
            "linux.namespaces",
            "has no mount namespace: the container's mounts would be the host's",
            "add one",
        ));
    }
    for (value, name) in [
        (&config.hostname, "hostname"),
        (&config.domainname, "domainname"),
    ] {
        if !value.is_empty() && !asked.has(NamespaceKind::Uts) {
            return Err(Refusal::new(
                name,
                "would be the host's: there is no uts namespace",
                "add one, or leave the name out",
            ));
        }
    }
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if mapped && !asked.has(NamespaceKind::User) {
        return Err(Refusal::new(
            "linux.uidMappings",
            "there is no user namespace that they could be of",
            "add one, or leave the mappings out",
        ));
    }
    if asked.makes(NamespaceKind::User)
        && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty())
    {
        return Err(Refusal::new(
            "linux.uidMappings",
            "a new user namespace has no ids without uidMappings and gidMappings",
            "give both",
        ));
    }
    if !linux.time_offsets.is_empty() && !asked.makes(NamespaceKind::Time) {
        return Err(Refusal::new(
            "linux.timeOffsets",
            "there is no new time namespace that they could be of",
            "add one, or leave them out",
        ));
    }
    Ok(())
}

/// Its file under `/proc/sys`. As sysctl(8) has it: whichever of `.` and `/` comes first separates, and the other stands for itself.
pub(super) fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.get(at..).is_some_and(|rest| rest.starts_with('.')) => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

fn sysctl(key: &str, asked: &Asked<'_>, facts: &CompatFacts) -> Result<()> {
    let refuse = |problem: &str| {
        Err(Refusal::new(
            format!("linux.sysctl {}", key.escape_debug()),
            problem,
            "leave it out, or give the container a namespace that holds it",
        ))
    };
    let path = sysctl_path(key);
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return refuse("is no name of a setting");
    }
    let (top, rest) = path.split_once('/').unwrap_or((&path, ""));
    let ipc = (top == "kernel" && IPC_SYSCTLS.contains(&rest)) || path.starts_with("fs/mqueue/");
    if ipc {
        return if asked.has(NamespaceKind::Ipc) {
            Ok(())
        } else {
            refuse("would be the host's: there is no ipc namespace")
        };
    }
    if top == "net" {
        return if asked.has(NamespaceKind::Net) && !facts.joins_own_network {
            Ok(())
        } else {
            refuse("would be the host's: there is no network namespace")
        };
    }
    match (path.as_str(), asked.has(NamespaceKind::Uts)) {
        ("kernel/domainname", true) => Ok(()),
        ("kernel/hostname", true) => refuse("is what the key `hostname` is for"),
        _ => refuse("is in no namespace of the container's"),
    }
}

/// Also for `exec`.
pub(crate) fn check_process(process: &ProcessConfig, facts: &CompatFacts) -> Result<()> {
    let refuse = |key: &str, problem: &str, fix: &str| {
        Err(Refusal::new(format!("process.{key}"), problem, fix))
    };
    if process.args.is_empty() {
        return refuse("args", "is empty", "name a program");
    }
    if !process.cwd.is_absolute() {
        return refuse("cwd", "is not an absolute path", "name it from /");
    }
    let user = &process.user;
    let mut ids = user.additional_gids.iter().chain([&user.uid, &user.gid]);
    // For the calls that set ids it is "as it is": the payload would be root.
    if ids.any(|id| *id == u32::MAX) {
        return refuse(
            "user",
            "has the id 4294967295, which is none",
            "name another",
        );
    }
    let texts = process.args.iter().chain(&process.env);
    if texts.clone().any(|text| text.contains('\0')) {
        return refuse("args", "holds a zero byte", "leave it out of args and env");
    }
    let named = |entry: &String| entry.find('=').is_some_and(|at| at > 0);
    if !process.env.iter().all(named) {
        return refuse(
            "env",
            "holds an entry without a name and `=`",
            "write NAME=VALUE",
        );
    }
    let mut seen = BTreeSet::new();
    for limit in &process.rlimits {
        if !seen.insert(limit.resource) {
            return refuse("rlimits", "names a limit twice", "name each once");
        }
        if limit.soft > limit.hard {
            return refuse("rlimits", "has a soft limit above the hard one", "lower it");
        }
    }
    if !process.apparmor_profile.is_empty() && !facts.apparmor {
        return refuse(
            "apparmorProfile",
            "this host has no AppArmor",
            "leave it out",
        );
    }
    if !process.selinux_label.is_empty() && !facts.selinux {
        return refuse(
            "selinuxLabel",
            "SELinux is off on this host",
            "leave it out",
        );
    }
    Ok(())
}

fn devices(config: &Config) -> Result<()> {
    for device in &config.linux.devices {
        if !device.path.is_absolute() || device.path == Path::new("/") {
            return Err(Refusal::new(
                "linux.devices",
                format!("{} is not an absolute path", device.path.display()),
                "name the node from /",
            ));
        }
    }
    Ok(())
}
