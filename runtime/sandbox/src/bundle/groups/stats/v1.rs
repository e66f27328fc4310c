//! From the files of cgroup v1.

use airtight_sys::{Result as SysResult, SysError};
use nix::errno::Errno;
use serde_json::{Map, Value};

use super::super::Groups;
use super::super::dir::Dir;
use super::{Parts, block_io, cell, count, entry, list, page_sizes, put, put_some, table};

/// `cpuacct.stat` counts in ticks of this many nanoseconds (`USER_HZ`, which is 100 everywhere).
const TICK: u64 = 10_000_000;

pub(super) fn stats(groups: &Groups) -> SysResult<Parts> {
    let mut parts = Parts::default();
    let mut usage = Map::new();
    match groups.of("cpuacct")? {
        Some(dir) => cpu_usage(&dir, &mut usage)?,
        None => {
            put(&mut usage, "kernel", 0);
            put(&mut usage, "user", 0);
        }
    }
    put(&mut parts.cpu, "usage", usage);
    let throttling = match groups.of("cpu")? {
        Some(dir) => throttling(&dir)?,
        None => Map::new(),
    };
    put(&mut parts.cpu, "throttling", throttling);
    parts.cpuset = cpuset(groups.of("cpuset")?.as_ref())?;
    parts.memory = memory(groups.of("memory")?.as_ref())?;
    if let Some(dir) = groups.of("pids")? {
        put_some(&mut parts.pids, "current", count(&dir, "pids.current")?);
        put_some(&mut parts.pids, "limit", pids_limit(&dir)?);
    }
    if let Some(dir) = groups.of("blkio")? {
        parts.block_io = block_io::v1(&dir)?;
    }
    if let Some(dir) = groups.of("hugetlb")? {
        for size in page_sizes(&dir)? {
            let mut pages = Map::new();
            let file = |name| format!("hugetlb.{size}.{name}");
            put_some(&mut pages, "usage", count(&dir, &file("usage_in_bytes"))?);
            put_some(&mut pages, "max", count(&dir, &file("max_usage_in_bytes"))?);
            put(&mut pages, "failcnt", count(&dir, &file("failcnt"))?);
            put(&mut parts.hugepages, &size, pages);
        }
    }
    Ok(parts)
}

/// No limit is told as none.
pub(super) fn pids_limit(dir: &Dir) -> SysResult<u64> {
    Ok(dir
        .number("pids.max")?
        .filter(|limit| *limit != u64::MAX)
        .unwrap_or(0))
}

fn cpu_usage(dir: &Dir, usage: &mut Map<String, Value>) -> SysResult<()> {
    put_some(usage, "total", count(dir, "cpuacct.usage")?);
    let each = dir
        .read_if_there("cpuacct.usage_percpu")?
        .unwrap_or_default();
    put_some(
        usage,
        "percpu",
        each.split_whitespace()
            .filter_map(|it| it.parse::<u64>().ok())
            .collect::<Vec<_>>(),
    );
    let (mut user, mut kernel) = (Vec::new(), Vec::new());
    // A heading, then: cpu, user, system.
    for line in dir
        .read_if_there("cpuacct.usage_all")?
        .unwrap_or_default()
        .lines()
        .skip(1)
    {
        let mut words = line
            .split(' ')
            .skip(1)
            .filter_map(|word| word.parse::<u64>().ok());
        if let (Some(in_user), Some(in_kernel)) = (words.next(), words.next()) {
            user.push(in_user);
            kernel.push(in_kernel);
        }
    }
    put_some(usage, "percpu_kernel", kernel);
    put_some(usage, "percpu_user", user);
    let ticks = table(&dir.read_if_there("cpuacct.stat")?.unwrap_or_default());
    put(usage, "kernel", cell(&ticks, "system").saturating_mul(TICK));
    put(usage, "user", cell(&ticks, "user").saturating_mul(TICK));
    Ok(())
}

fn throttling(dir: &Dir) -> SysResult<Map<String, Value>> {
    let told = table(&dir.read_if_there("cpu.stat")?.unwrap_or_default());
    let mut map = Map::new();
    put_some(&mut map, "periods", cell(&told, "nr_periods"));
    put_some(&mut map, "throttledPeriods", cell(&told, "nr_throttled"));
    put_some(&mut map, "throttledTime", cell(&told, "throttled_time"));
    Ok(map)
}

fn cpuset(dir: Option<&Dir>) -> SysResult<Map<String, Value>> {
    let mut map = Map::new();
    let text = |file: &str| match dir {
        Some(dir) => dir.read_if_there(file),
        None => Ok(None),
    };
    put_some(
        &mut map,
        "cpus",
        list(&text("cpuset.cpus")?.unwrap_or_default()),
    );
    put_some(
        &mut map,
        "mems",
        list(&text("cpuset.mems")?.unwrap_or_default()),
    );
    for key in [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ] {
        let value = text(&format!("cpuset.{key}"))?.unwrap_or_default();
        put(&mut map, key, value.trim().parse::<i64>().unwrap_or(0));
    }
    Ok(map)
}

fn memory(dir: Option<&Dir>) -> SysResult<Map<String, Value>> {
    let mut map = Map::new();
    let raw = match dir {
        Some(dir) => table(&dir.read_if_there("memory.stat")?.unwrap_or_default()),
        None => Map::new(),
    };
    put_some(&mut map, "cache", cell(&raw, "cache"));
    for (key, prefix) in [
        ("usage", "memory"),
        ("swap", "memory.memsw"),
        ("kernel", "memory.kmem"),
        ("kernelTCP", "memory.kmem.tcp"),
    ] {
        let of = match dir {
            Some(dir) => account(dir, prefix)?,
            None => entry(0, 0, 0, 0),
        };
        put(&mut map, key, of);
    }
    put_some(&mut map, "raw", raw);
    Ok(map)
}

fn account(dir: &Dir, prefix: &str) -> SysResult<Map<String, Value>> {
    let file = |name: &str| match count(dir, &format!("{prefix}.{name}")) {
        // There and not counted.
        Err(SysError {
            errno: Errno::EOPNOTSUPP,
            ..
        }) => Ok(0),
        counted => counted,
    };
    Ok(entry(
        file("limit_in_bytes")?,
        file("usage_in_bytes")?,
        file("max_usage_in_bytes")?,
        file("failcnt")?,
    ))
}
