//! `spec`: a config.json to start from, which [`crate::bundle`] takes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::report::Failure;

/// Writes `config.json` into `dir`, if there is none.
pub(crate) fn write(dir: &Path) -> Result<(), Failure> {
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
    file.write_all(format!("{:#}\n", template()).as_bytes())
        .map_err(fail)
}

fn template() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]
        .map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": { "uid": 65532, "gid": 65532 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "airtight",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev", "tmpfs", &["nosuid", "noexec", "ro"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/run", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=16m"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::bundle;

    #[test]
    fn what_is_written_is_taken() {
        let Value::Object(config) = template() else {
            panic!("not an object")
        };
        let taken = bundle(config, "id").unwrap();
        assert_eq!(taken.spec.process.args, ["sh"]);
        assert_eq!(taken.spec.tmpfs.len(), 1);
    }
}
