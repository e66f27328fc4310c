//! Limits: which cgroup controller keeps each, and the rlimits.

use airtight_profiles::Policy;

use crate::control::{Refusal, Result};
use crate::{CgroupPlan, ChildStep, HostFacts, Init, Rlimit, Spec};

/// Below this the sandbox's own start does not fit: 4 MiB.
const MEMORY_MIN: u64 = 4 << 20;
/// The kernel's quota has a floor of 1 ms in each period of 100 ms.
const CPU_MILLIS_MIN: u64 = 10;
const CPU_PERIOD_MICROS: u64 = 100_000;
/// The kernel's default for `fs.nr_open`, which bounds what a payload may raise itself to.
const NOFILE_HARD: u64 = 1 << 20;

/// Queued signals and POSIX timers of one sandbox.
const SIGNALS: u64 = 1024;
/// `MLOCK_LIMIT` and `MQ_BYTES_MAX`.
const LOCKED_BYTES: u64 = 8 << 20;
const QUEUE_BYTES: u64 = 819_200;

/// One limit: the flag, the controller, and the files for cgroup v1 and v2.
struct Limit {
    flag: &'static str,
    controller: &'static str,
    v1: Vec<(String, String)>,
    v2: Vec<(String, String)>,
}

/// The groups to make; none without limits.
pub(crate) fn cgroups(spec: &Spec, facts: &HostFacts) -> Result<Vec<CgroupPlan>> {
    let mut groups: Vec<CgroupPlan> = Vec::new();
    for limit in limits(spec)? {
        let unified = facts
            .cgroup
            .v2
            .as_ref()
            .filter(|v2| v2.controllers.iter().any(|name| name == limit.controller));
        let (parent, v2, settings) = match (unified, facts.cgroup.v1.get(limit.controller)) {
            (Some(unified), _) => (&unified.dir, true, limit.v2),
            (None, Some(dir)) => (dir, false, limit.v1),
            (None, None) => {
                let problem = format!(
                    "no {} controller is delegated to this process",
                    limit.controller
                );
                let fix = "run below a delegated cgroup (systemd-run --user --scope -p Delegate=yes …), as root, or without the limit";
                return Err(Refusal::new(limit.flag, problem, fix));
            }
        };
        let dir = parent.join(format!("airtight-{}", spec.id));
        match groups.iter_mut().find(|group| group.dir == dir) {
            Some(group) => group.settings.extend(settings),
            None => groups.push(CgroupPlan { dir, v2, settings }),
        }
    }
    Ok(groups)
}

fn limits(spec: &Spec) -> Result<Vec<Limit>> {
    let set = |file: &str, value: String| (file.to_owned(), value);
    let mut limits = Vec::new();
    if let Some(memory) = spec.limits.memory {
        at_least("--memory", memory, MEMORY_MIN, "bytes")?;
        limits.push(Limit {
            flag: "--memory",
            controller: "memory",
            // Without swap, which would let the payload hold more than its limit.
            v1: vec![
                set("memory.limit_in_bytes", memory.to_string()),
                // Buffers of TCP sockets are an account of their own there.
                set("memory.kmem.tcp.limit_in_bytes", memory.to_string()),
                set("memory.swappiness", "0".into()),
            ],
            // The group dies as one: a payload that lost one process at random is in no state that anyone tested.
            v2: vec![
                set("memory.max", memory.to_string()),
                set("memory.swap.max", "0".into()),
                set("memory.oom.group", "1".into()),
            ],
        });
    }
    if let Some(pids) = spec.limits.pids {
        let least = match spec.init {
            Init::Ours => 2,
            Init::Payload => 1,
        };
        at_least("--pids", pids, least, "processes")?;
        let settings = vec![set("pids.max", pids.to_string())];
        limits.push(Limit {
            flag: "--pids",
            controller: "pids",
            v1: settings.clone(),
            v2: settings,
        });
    }
    if let Some(millis) = spec.limits.cpu_millis {
        at_least("--cpus", millis, CPU_MILLIS_MIN, "thousandths")?;
        let quota = millis
            .checked_mul(CPU_PERIOD_MICROS / 1000)
            .filter(|quota| i64::try_from(*quota).is_ok());
        let quota = quota.ok_or_else(|| {
            Refusal::new(
                "--cpus",
                "is more than the kernel can count",
                "ask for fewer",
            )
        })?;
        limits.push(Limit {
            flag: "--cpus",
            controller: "cpu",
            v1: vec![
                set("cpu.cfs_period_us", CPU_PERIOD_MICROS.to_string()),
                set("cpu.cfs_quota_us", quota.to_string()),
            ],
            v2: vec![set("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}"))],
        });
    }
    if let Some(millis) = spec.limits.timeout_millis {
        at_least("--timeout", millis, 1, "milliseconds")?;
    }
    Ok(limits)
}

fn at_least(flag: &str, asked: u64, least: u64, unit: &str) -> Result<()> {
    if asked >= least {
        return Ok(());
    }
    Err(Refusal::new(
        flag,
        format!("{asked} {unit} is too little to start"),
        format!("ask for at least {least}"),
    ))
}

/// Limits of each process. The executor takes the smaller of these and the caller's own hard limits: it cannot raise one.
pub(crate) fn rlimits(policy: &Policy, facts: &HostFacts) -> Vec<ChildStep> {
    let hard = facts.nofile_hard.min(NOFILE_HARD);
    let rlimit = |resource, soft, hard| ChildStep::Rlimit {
        resource,
        soft,
        hard,
    };
    vec![
        rlimit(Rlimit::Nofile, hard.min(policy.open_files), hard),
        // Counted by user and user namespace, so that the sandbox's processes only.
        rlimit(Rlimit::Nproc, policy.processes, policy.processes),
        // A core holds the payload's secrets, and core_pattern may name a program of the host, which is run as the host's root and whatever the limit is:
        // but for 1, by which the kernel knows the crash of such a program itself (core(5)). The filter keeps the payload from lowering it.
        rlimit(Rlimit::Core, 1, 1),
        // What the kernel counts against whoever made the user namespace too: without a bound here one sandbox could use up the host
        // user's own signals, timers, locked memory and message queues. The last two are the kernel's defaults.
        rlimit(Rlimit::Sigpending, SIGNALS, SIGNALS),
        rlimit(Rlimit::Memlock, LOCKED_BYTES, LOCKED_BYTES),
        rlimit(Rlimit::Msgqueue, QUEUE_BYTES, QUEUE_BYTES),
    ]
}
