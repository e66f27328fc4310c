//! `spec`: a config.json to start from. By default one that [`crate::confined`] takes; under `--compat` the one that other runtimes write.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::report::Failure;

/// Which one to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    /// What airtight gives.
    Airtight,
    /// What every runtime gives to root.
    Compat,
    /// What every runtime gives to a user of these ids.
    Rootless { uid: u32, gid: u32 },
}

/// A template of airtight's own is the same for every user.
pub(crate) fn which(compat: bool, rootless: bool) -> Template {
    match (compat, rootless) {
        (false, _) => Template::Airtight,
        (true, false) => Template::Compat,
        (true, true) => {
            let (uid, gid) = airtight_sandbox::own_ids();
            Template::Rootless { uid, gid }
        }
    }
}

/// Writes `config.json` into `dir`, if there is none.
pub(crate) fn write(dir: &Path, which: Template) -> Result<(), Failure> {
    let path = dir.join("config.json");
    let fail = |error: std::io::Error| Failure::File {
        path: path.clone(),
        problem: error.to_string(),
        fix: "name a directory without one that can be written",
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(fail)?;
    file.write_all(format!("{:#}\n", template(which)).as_bytes())
        .map_err(fail)
}

pub(crate) fn template(which: Template) -> Value {
    match which {
        Template::Airtight => airtight(),
        Template::Compat => compat(None),
        Template::Rootless { uid, gid } => compat(Some((uid, gid))),
    }
}

const ENV: [&str; 2] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=xterm",
];
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn namespaces(kinds: &[&str]) -> Vec<Value> {
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

fn airtight() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": { "uid": 65532, "gid": 65532 },
            "args": ["sh"],
            "env": ENV,
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "airtight",
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "ro"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance"]),
            mount("/dev/shm", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/run", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=16m"]),
        ],
        "linux": {
            "namespaces": namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": READONLY,
            "resources": {},
        },
    })
}

/// A user's has no network namespace, whose sysfs it could mount, no group 5 of terminals and no device rules; all its ids are its own.
fn compat(user: Option<(u32, u32)>) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    let linux = match user {
        None => json!({
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup"]),
        }),
        Some((uid, gid)) => json!({
            "uidMappings": [{ "containerID": 0, "hostID": uid, "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": gid, "size": 1 }],
            "namespaces": namespaces(&["pid", "ipc", "uts", "mount", "cgroup", "user"]),
        }),
    };
    let sys = match user {
        None => mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        Some(_) => mount(
            "/sys",
            "none",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        ),
    };
    if user.is_none() {
        pts.push("gid=5");
    }
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ENV,
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "airtight",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &pts),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            sys,
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": linux,
    });
    config["linux"]["maskedPaths"] = json!([
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
    ]);
    config["linux"]["readonlyPaths"] = json!(READONLY);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use airtight_plan::bundle::airtight::wish;

    #[test]
    fn what_is_written_is_taken() {
        let Value::Object(config) = template(Template::Airtight) else {
            panic!("not an object")
        };
        let parsed = crate::config::config(config).unwrap();
        let taken = wish(&parsed.value, &parsed.unknown, "id");
        assert_eq!(taken.beyond, []);
        assert_eq!(taken.spec.process.args, ["sh"]);
        assert_eq!(taken.spec.tmpfs.len(), 1);
    }

    #[test]
    fn what_is_written_for_other_runtimes_is_read_whole() {
        for (which, namespaces, mapped) in [
            (Template::Compat, 6, vec![]),
            (Template::Rootless { uid: 7, gid: 8 }, 6, vec![7]),
        ] {
            let Value::Object(document) = template(which) else {
                panic!("not an object")
            };
            let parsed = crate::config::config(document).unwrap();
            let linux = parsed.value.linux;
            let outside: Vec<u32> = linux.uid_mappings.iter().map(|map| map.outside).collect();
            assert_eq!(
                (linux.namespaces.len(), outside),
                (namespaces, mapped),
                "{which:?}"
            );
            assert_eq!(parsed.warnings, [] as [String; 0], "{which:?}");
        }
    }
}
