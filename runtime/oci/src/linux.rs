//! The `linux` part of a config.json: namespaces, limits, masks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use airtight_plan::Limits;

use crate::document::{Object, Problems};

/// Made for every sandbox, so a config that leaves one out asks to share the host's.
const REQUIRED: [&str; 5] = ["pid", "network", "ipc", "uts", "mount"];
/// Made too; more than a config without them asks for.
const ALSO: [&str; 2] = ["user", "cgroup"];

/// What of it is a wish.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Linux {
    pub(crate) limits: Limits,
    /// Below `/proc`: to be covered.
    pub(crate) masked: Vec<PathBuf>,
}

pub(crate) fn linux(config: &mut Object, problems: &mut Problems) -> Linux {
    let Some(mut linux) = config.object("linux", problems) else {
        problems.add("linux", "is missing: its namespaces must be asked for");
        return Linux::default();
    };
    namespaces(&mut linux, problems);
    let limits = linux
        .object("resources", problems)
        .map(|resources| limits(resources, problems))
        .unwrap_or_default();
    let masked = covered(&mut linux, "maskedPaths", problems);
    // All of `/proc` is read-only here, and `/sys` is empty.
    covered(&mut linux, "readonlyPaths", problems);
    match linux.text("rootfsPropagation", problems).as_deref() {
        None | Some("" | "private" | "rprivate" | "slave" | "rslave") => {}
        Some(_) => problems.add(
            "linux.rootfsPropagation",
            "would let mounts be seen outside",
        ),
    }
    linux.finish(problems);
    let masked = masked
        .into_iter()
        .filter(|path| path.starts_with("/proc"))
        .collect();
    Linux { limits, masked }
}

fn namespaces(linux: &mut Object, problems: &mut Problems) {
    let mut asked = BTreeSet::new();
    for mut namespace in linux.objects("namespaces", problems) {
        let key = namespace.key("type");
        match namespace.text("type", problems) {
            Some(kind) if REQUIRED.contains(&kind.as_str()) || ALSO.contains(&kind.as_str()) => {
                if namespace
                    .text("path", problems)
                    .is_some_and(|path| !path.is_empty())
                {
                    problems.add(
                        &namespace.key("path"),
                        "would join a namespace: every sandbox has its own",
                    );
                }
                asked.insert(kind);
            }
            Some(_) => problems.add(&key, "is not a namespace that is made here"),
            None => problems.add(&key, "is missing"),
        }
        namespace.finish(problems);
    }
    for kind in REQUIRED.iter().filter(|kind| !asked.contains(**kind)) {
        problems.add(
            "linux.namespaces",
            &format!("has no {kind}: the host's is never shared"),
        );
    }
}

fn limits(mut resources: Object, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    if let Some(mut memory) = resources.object("memory", problems) {
        limits.memory = positive(memory.integer("limit", problems));
        // There is never swap: a limit of memory and swap together is that of memory.
        let swap = positive(memory.integer("swap", problems));
        if swap.is_some() && swap != limits.memory {
            problems.add(
                "linux.resources.memory.swap",
                "is not the memory limit: there is no swap here",
            );
        }
        memory.finish(problems);
    }
    if let Some(mut pids) = resources.object("pids", problems) {
        limits.pids = positive(pids.integer("limit", problems));
        pids.finish(problems);
    }
    if let Some(mut cpu) = resources.object("cpu", problems) {
        let quota = positive(cpu.integer("quota", problems));
        let period = positive(cpu.integer("period", problems)).unwrap_or(100_000);
        limits.cpu_millis = quota.map(|quota| quota.saturating_mul(1000) / period);
        cpu.finish(problems);
    }
    for mut device in resources.objects("devices", problems) {
        if device.flag("allow", problems) == Some(true) {
            problems.add(&device.key("allow"), "is true: no sandbox gets a device besides null, zero, full, random, urandom and tty");
        }
    }
    resources.finish(problems);
    limits
}

/// -1 and 0 are how callers write "no limit".
fn positive(limit: Option<i64>) -> Option<u64> {
    limit
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0)
}

fn covered(linux: &mut Object, key: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = linux
        .texts(key, problems)
        .into_iter()
        .map(PathBuf::from)
        .collect();
    let ours = |path: &&PathBuf| {
        !["/proc", "/sys"]
            .iter()
            .any(|root| path.starts_with(Path::new(root)))
    };
    for path in paths.iter().filter(ours) {
        problems.add(
            &linux.key(key),
            &format!(
                "{} lies neither below /proc nor below /sys",
                path.display().to_string().escape_debug()
            ),
        );
    }
    paths
}
