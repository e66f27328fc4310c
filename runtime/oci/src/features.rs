//! `features`: what is true of this release, in the terms of features.md of the OCI runtime specification.

use airtight_plan::bundle::{CAPABILITIES, mount_options};
use serde_json::{Value, json};

use crate::config::seccomp;
use crate::report::{self, Failure};

/// Both modes together: what an airtight bundle may not ask for is refused by name, whatever this says.
pub(crate) fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": &CAPABILITIES[..],
            // Limits of the rdma controller are v1's and v2's. No systemd is asked for a scope: `--systemd-cgroup` takes its names, and makes the directories.
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": seccomp::features(&airtight_sandbox::seccomp::supported_flags()),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
        "annotations": {
            "dev.airtight.version": env!("CARGO_PKG_VERSION"),
        },
        // None of ours changes what a container may do to the host.
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

/// As runc prints it, for callers that read the lines.
pub(crate) fn version() -> Result<(), Failure> {
    let text = format!(
        "airtight-runtime version {}\nspec: 1.2.0\n",
        env!("CARGO_PKG_VERSION")
    );
    report::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_sorted_or_in_the_kernels_order_and_names_each_once() {
        let features = features();
        for pointer in [
            "/mountOptions",
            "/linux/namespaces",
            "/linux/seccomp/actions",
            "/linux/seccomp/operators",
            "/linux/seccomp/archs",
            "/linux/seccomp/knownFlags",
        ] {
            let list: Vec<&str> = features
                .pointer(pointer)
                .and_then(Value::as_array)
                .unwrap()
                .iter()
                .map(|item| item.as_str().unwrap())
                .collect();
            let mut sorted = list.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(list, sorted, "{pointer}");
        }
    }
}
