//! `linux.resources` in the files of cgroup v1.

use super::Setting;
use crate::bundle::{BlockIo, Cpu, Memory, Resources};
use crate::control::{Refusal, Result};

/// The kernel moves shares into these bounds in silence.
const SHARES: (u64, u64) = (2, 262_144);

pub(super) fn settings(
    controller: &str,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<Vec<Setting>> {
    match controller {
        "cpuset" => Ok(cpuset(&resources.cpu)),
        "memory" => memory(&resources.memory, warnings),
        "cpu" => cpu(&resources.cpu),
        "pids" => Ok(pids(resources.pids)),
        "blkio" => Ok(block_io(&resources.block_io)),
        "hugetlb" => hugepages(&resources.hugepages, "limit_in_bytes"),
        "rdma" => rdma(resources),
        "net_cls" => Ok(resources
            .network_class
            .map(|class| Setting::new("net_cls.classid", class))
            .into_iter()
            .collect()),
        "net_prio" => priorities(resources),
        _ => Ok(Vec::new()),
    }
}

/// As written: the kernel knows its lists best.
pub(super) fn cpuset(cpu: &Cpu) -> Vec<Setting> {
    [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)]
        .into_iter()
        .filter_map(|(file, value)| {
            let value = value.as_ref().filter(|value| !value.is_empty())?;
            Some(Setting::new(file, value))
        })
        .collect()
}

fn memory(memory: &Memory, warnings: &mut Vec<String>) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let limit = memory.limit.filter(|limit| *limit != 0);
    let swap = memory.swap.filter(|swap| *swap != 0);
    if let Some(limit) = limit {
        settings.push(Setting::new("memory.limit_in_bytes", limit).again());
    }
    match (limit, swap) {
        (_, Some(swap)) => settings.push(Setting::new("memory.memsw.limit_in_bytes", swap).again()),
        // No limit of memory alone would still be one of memory and swap.
        (Some(-1), None) => {
            settings.push(
                Setting::new("memory.memsw.limit_in_bytes", -1)
                    .again()
                    .may_lack(),
            );
        }
        _ => {}
    }
    if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
        settings.push(Setting::new("memory.soft_limit_in_bytes", reservation));
    }
    if memory.kernel.is_some_and(|kernel| kernel != 0) {
        // Kernels since 5.16 take the value and keep no limit.
        warnings.push("linux.resources.memory.kernel: kernel memory has no limit of its own any more, so none is set".to_owned());
    }
    if let Some(tcp) = memory.kernel_tcp.filter(|value| *value != 0) {
        settings.push(Setting::new("memory.kmem.tcp.limit_in_bytes", tcp).may_lack());
    }
    if memory.disable_oom_killer == Some(true) {
        settings.push(Setting::new("memory.oom_control", 1));
    }
    if let Some(swappiness) = memory.swappiness.filter(|value| *value != u64::MAX) {
        if swappiness > 100 {
            return Err(Refusal::new(
                "linux.resources.memory.swappiness",
                format!("invalid memory swappiness value: {swappiness} (valid range is 0-100)"),
                "give one of 0 to 100",
            ));
        }
        settings.push(Setting::new("memory.swappiness", swappiness));
    }
    Ok(settings)
}

fn cpu(cpu: &Cpu) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    // Before a process comes in: one that is real-time already may only enter a group with time for it.
    if let Some(period) = cpu.realtime_period.filter(|value| *value != 0) {
        settings.push(Setting::new("cpu.rt_period_us", period).again());
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|value| *value != 0) {
        settings.push(Setting::new("cpu.rt_runtime_us", runtime).again());
    }
    if let Some(shares) = cpu.shares.filter(|value| *value != 0) {
        let bound = if shares < SHARES.0 {
            Some(("minimum", SHARES.0))
        } else if shares > SHARES.1 {
            Some(("maximum", SHARES.1))
        } else {
            None
        };
        if let Some((which, bound)) = bound {
            return Err(Refusal::new(
                "linux.resources.cpu.shares",
                format!("the {which} allowed cpu-shares is {bound}"),
                format!("give one of {} to {}", SHARES.0, SHARES.1),
            ));
        }
        settings.push(Setting::new("cpu.shares", shares));
    }
    if let Some(period) = cpu.period.filter(|value| *value != 0) {
        settings.push(Setting::new("cpu.cfs_period_us", period).again());
    }
    if let Some(burst) = cpu.burst {
        settings.push(Setting::new("cpu.cfs_burst_us", burst).again().may_lack());
    }
    if let Some(quota) = cpu.quota.filter(|value| *value != 0) {
        settings.push(Setting::new("cpu.cfs_quota_us", quota.max(-1)).again());
    }
    if let Some(idle) = cpu.idle {
        settings.push(Setting::new("cpu.idle", idle));
    }
    Ok(settings)
}

pub(super) fn pids(limit: Option<i64>) -> Vec<Setting> {
    let value = match limit {
        None => return Vec::new(),
        Some(limit) if limit > 0 => limit.to_string(),
        Some(_) => "max".to_owned(),
    };
    vec![Setting::new("pids.max", value)]
}

fn block_io(io: &BlockIo) -> Vec<Setting> {
    let mut settings = Vec::new();
    // CFQ's files went with it (5.0); BFQ has the same under its own name.
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        settings.push(Setting::new("blkio.weight", weight).or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        settings.push(Setting::new("blkio.leaf_weight", weight));
    }
    for (major, minor, weight, leaf) in &io.weight_device {
        if let Some(weight) = weight.filter(|weight| *weight != 0) {
            let value = format!("{major}:{minor} {weight}");
            settings.push(
                Setting::new("blkio.weight_device", &value).or("blkio.bfq.weight_device", &value),
            );
        }
        if let Some(leaf) = leaf.filter(|weight| *weight != 0) {
            settings.push(Setting::new(
                "blkio.leaf_weight_device",
                format!("{major}:{minor} {leaf}"),
            ));
        }
    }
    for (file, rates) in [
        ("read_bps_device", &io.read_bps),
        ("write_bps_device", &io.write_bps),
        ("read_iops_device", &io.read_iops),
        ("write_iops_device", &io.write_iops),
    ] {
        settings.extend(rates.iter().map(|(major, minor, rate)| {
            Setting::new(
                format!("blkio.throttle.{file}"),
                format!("{major}:{minor} {rate}"),
            )
        }));
    }
    settings
}

/// Pages in use, and pages that are promised, which a process that maps them dies of lacking (5.7).
pub(super) fn hugepages(pages: &[(String, u64)], file: &str) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (size, limit) in pages {
        let number = size
            .strip_suffix("KB")
            .or_else(|| size.strip_suffix("MB"))
            .or_else(|| size.strip_suffix("GB"))
            .unwrap_or_default();
        let whole = (1..=9).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !number.starts_with('0');
        if !whole {
            return Err(Refusal::new(
                "linux.resources.hugepageLimits",
                format!("{size:?} is no page size"),
                "write it like 2MB",
            ));
        }
        settings.push(Setting::new(format!("hugetlb.{size}.{file}"), limit));
        settings.push(Setting::new(format!("hugetlb.{size}.rsvd.{file}"), limit).may_lack());
    }
    Ok(settings)
}

pub(super) fn rdma(resources: &Resources) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (device, handles, objects) in &resources.rdma {
        let mut value = word("linux.resources.rdma", device)?.to_owned();
        for (name, limit) in [("hca_handle", handles), ("hca_object", objects)] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {name}={limit}"));
            }
        }
        settings.push(Setting::new("rdma.max", value));
    }
    Ok(settings)
}

fn priorities(resources: &Resources) -> Result<Vec<Setting>> {
    resources
        .network_priorities
        .iter()
        .map(|(interface, priority)| {
            let interface = word("linux.resources.network.priorities", interface)?;
            Ok(Setting::new(
                "net_prio.ifpriomap",
                format!("{interface} {priority}"),
            ))
        })
        .collect()
}

/// A name that becomes the first word of a line.
fn word<'a>(key: &str, name: &'a str) -> Result<&'a str> {
    let plain = !name.is_empty()
        && name.len() <= 64
        && !name.chars().any(|c| c.is_whitespace() || c.is_control());
    if plain {
        Ok(name)
    } else {
        Err(Refusal::new(
            key,
            format!("{name:?} is no device's name"),
            "name a device of this host",
        ))
    }
}
