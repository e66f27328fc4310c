//! `linux.resources`, which speaks of v1, in the files of cgroup v2.

use super::{Setting, v1};
use crate::bundle::{BlockIo, Cpu, Memory, Resources};
use crate::control::{Refusal, Result};

/// The kernel's, which a new quota is written with.
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn settings(controller: &str, resources: &Resources) -> Result<Vec<Setting>> {
    match controller {
        "cpuset" => Ok(v1::cpuset(&resources.cpu)),
        "memory" => memory(&resources.memory),
        "cpu" => Ok(cpu(&resources.cpu)),
        "pids" => Ok(v1::pids(resources.pids)),
        "io" => Ok(io(&resources.block_io)),
        "hugetlb" => v1::hugepages(&resources.hugepages, "max"),
        "rdma" => v1::rdma(resources),
        _ => Ok(Vec::new()),
    }
}

/// What v2 has no file for. Other runtimes go on in silence.
pub(super) fn untranslated(resources: &Resources, warnings: &mut Vec<String>) {
    let Resources {
        memory,
        cpu,
        block_io,
        ..
    } = resources;
    let leaf = |io: &BlockIo| {
        io.leaf_weight.is_some() || io.weight_device.iter().any(|device| device.3.is_some())
    };
    for (asked, key) in [
        (
            memory.kernel.is_some_and(|value| value != 0),
            "memory.kernel",
        ),
        (
            memory.kernel_tcp.is_some_and(|value| value != 0),
            "memory.kernelTCP",
        ),
        (
            memory.swappiness.is_some_and(|value| value != u64::MAX),
            "memory.swappiness",
        ),
        (
            memory.disable_oom_killer == Some(true),
            "memory.disableOOMKiller",
        ),
        (
            cpu.realtime_period.is_some_and(|value| value != 0),
            "cpu.realtimePeriod",
        ),
        (
            cpu.realtime_runtime.is_some_and(|value| value != 0),
            "cpu.realtimeRuntime",
        ),
        (leaf(block_io), "blockIO leaf weights"),
        (resources.network_class.is_some(), "network.classID"),
        (
            !resources.network_priorities.is_empty(),
            "network.priorities",
        ),
    ] {
        if asked {
            warnings.push(format!(
                "linux.resources.{key}: cgroup v2 has no such limit, so none is set"
            ));
        }
    }
}

fn memory(memory: &Memory) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if let Some(swap) = swap(memory)? {
        let value = max(swap);
        let setting = Setting::new("memory.swap.max", &value);
        // Without swap there is no file, and nothing that these two could change.
        settings.push(if matches!(value.as_str(), "0" | "max") {
            setting.may_lack()
        } else {
            setting
        });
    }
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        settings.push(Setting::new("memory.max", max(limit)));
    }
    if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
        settings.push(Setting::new("memory.low", max(reservation)));
    }
    Ok(settings)
}

/// v1 counts memory and swap together, v2 swap alone.
fn swap(memory: &Memory) -> Result<Option<i64>> {
    let refused = |problem: &str| {
        Err(Refusal::new(
            "linux.resources.memory.swap",
            problem,
            "give the sum of memory and swap, with a limit of memory no larger",
        ))
    };
    match (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        (-1, 0) | (_, -1) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (0 | -1, _) => refused("unable to set swap limit without memory limit"),
        (limit, _) if limit < 0 => refused(&format!("invalid memory value: {limit}")),
        (limit, swap) if swap < limit => refused("memory+swap limit should be >= memory limit"),
        (limit, swap) => Ok(Some(swap - limit)),
    }
}

fn max(value: i64) -> String {
    if value == -1 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

fn cpu(cpu: &Cpu) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(shares) = cpu.shares.filter(|value| *value != 0) {
        settings.push(Setting::new("cpu.weight", weight(shares)));
    }
    if let Some(idle) = cpu.idle {
        settings.push(Setting::new("cpu.idle", idle));
    }
    if let Some(burst) = cpu.burst {
        settings.push(Setting::new("cpu.max.burst", burst).again().may_lack());
    }
    let quota = cpu.quota.filter(|value| *value != 0);
    let period = cpu.period.filter(|value| *value != 0);
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        let period = period.unwrap_or(DEFAULT_PERIOD);
        settings.push(Setting::new("cpu.max", format!("{quota} {period}")).again());
    }
    settings
}

/// Shares of 2 to 262144 onto weights of 1 to 10000, in a straight line, as runc and crun did when callers learnt to compute with it.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

fn io(io: &BlockIo) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        settings.push(Setting::new("io.bfq.weight", weight).or("io.weight", io_weight(weight)));
    }
    for (major, minor, weight, _) in &io.weight_device {
        if let Some(weight) = weight.filter(|weight| *weight != 0) {
            let or = format!("{major}:{minor} {}", io_weight(weight));
            settings.push(
                Setting::new("io.bfq.weight", format!("{major}:{minor} {weight}"))
                    .or("io.weight", or)
                    .may_lack(),
            );
        }
    }
    for (key, rates) in [
        ("rbps", &io.read_bps),
        ("wbps", &io.write_bps),
        ("riops", &io.read_iops),
        ("wiops", &io.write_iops),
    ] {
        for (major, minor, rate) in rates {
            // 0 takes a limit back on v1 and is no value on v2.
            let rate = match rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            settings.push(Setting::new(
                "io.max",
                format!("{major}:{minor} {key}={rate}"),
            ));
        }
    }
    settings
}

/// 10 to 1000 onto 1 to 10000. BFQ's own weights begin at 1.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}
