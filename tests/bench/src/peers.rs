//! The peers' bundle: one static busybox, runc's own `spec`, and the default seccomp profile that containers-common ships.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::{Result, run};

/// Where Debian's containers-common keeps Docker-style profiles' default.
const SECCOMP_DEFAULT: &str = "/usr/share/containers/seccomp.json";
const BUSYBOX: &str = "/bin/busybox";

/// Makes `dir/rootfs` and `dir/config.json`.
pub(crate) fn bundle(dir: &Path) -> Result<()> {
    let rootfs = dir.join("rootfs");
    for sub in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        fs::create_dir_all(rootfs.join(sub))?;
    }
    fs::copy(BUSYBOX, rootfs.join("bin/busybox"))
        .map_err(|error| format!("{BUSYBOX}: {error}; apt install busybox-static"))?;
    fs::hard_link(rootfs.join("bin/busybox"), rootfs.join("bin/true"))?;
    run(Command::new("runc").arg("spec").current_dir(dir))?;

    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    // The hard limit of this class of machine cannot be raised, and a spec that asks for it fails.
    if let Some(process) = config["process"].as_object_mut() {
        process.remove("rlimits");
    }
    config["linux"]["cgroupsPath"] = json!(Groups::path());
    config["linux"]["seccomp"] = seccomp(&config["process"]["capabilities"]["bounding"])?;
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut()
        && !namespaces
            .iter()
            .any(|namespace| namespace["type"] == "cgroup")
    {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    fs::write(path, serde_json::to_vec_pretty(&config)?)?;
    Ok(())
}

/// The profile as engines turn it into `linux.seccomp`: entries whose conditions this container meets.
fn seccomp(capabilities: &Value) -> Result<Value> {
    let text = fs::read(SECCOMP_DEFAULT).map_err(|error| {
        format!("{SECCOMP_DEFAULT}: {error}; apt install golang-github-containers-common")
    })?;
    let profile: Value = serde_json::from_slice(&text)?;
    let has = |list: &Value, held: &dyn Fn(&str) -> bool| {
        list.as_array()
            .is_some_and(|names| names.iter().filter_map(Value::as_str).any(held))
    };
    let capable = |name: &str| has(capabilities, &|held| held == name);
    let mut syscalls = Vec::new();
    for entry in profile["syscalls"].as_array().into_iter().flatten() {
        let (includes, excludes) = (&entry["includes"], &entry["excludes"]);
        let caps_met = includes["caps"].is_null() || has(&includes["caps"], &capable);
        let arch_met =
            includes["arches"].is_null() || has(&includes["arches"], &|arch| arch == "amd64");
        let excluded =
            has(&excludes["caps"], &capable) || has(&excludes["arches"], &|arch| arch == "amd64");
        if !caps_met || !arch_met || excluded {
            continue;
        }
        let mut rule = json!({ "names": entry["names"], "action": entry["action"] });
        for key in ["args", "errnoRet"] {
            let given =
                !entry[key].is_null() && entry[key].as_array().is_none_or(|list| !list.is_empty());
            if given {
                rule[key] = entry[key].clone();
            }
        }
        syscalls.push(rule);
    }
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"].as_u64().unwrap_or(1),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": syscalls,
    }))
}

/// Where the groups of all containers of this bench are, below each hierarchy. A runtime takes back what it made below; what lies above is ours to take back.
#[derive(Debug)]
pub(crate) struct Groups;

impl Groups {
    pub(crate) fn path() -> String {
        format!("/airtight-bench-{}", std::process::id())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
        for hierarchy in hierarchies.map(|entry| entry.path()).chain([root.into()]) {
            // Most have none.
            drop(fs::remove_dir(
                hierarchy.join(Self::path().trim_start_matches('/')),
            ));
        }
    }
}
