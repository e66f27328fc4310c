//! From the files of cgroup v2, in the terms of v1.

use airtight_sys::Result as SysResult;
use serde_json::{Map, Value};

use super::super::dir::Dir;
use super::{Parts, block_io, cell, count, entry, page_sizes, pressure, put, put_some, table, v1};

const NANOSECONDS: u64 = 1000;

pub(super) fn stats(dir: &Dir) -> SysResult<Parts> {
    let mut parts = Parts::default();
    cpu(dir, &mut parts.cpu)?;
    // v1's flags, which have no counterpart: callers expect the keys.
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
        put(&mut parts.cpuset, key, 0);
    }
    memory(dir, &mut parts.memory)?;
    put_some(&mut parts.pids, "current", count(dir, "pids.current")?);
    put_some(&mut parts.pids, "limit", v1::pids_limit(dir)?);
    parts.block_io = block_io::v2(dir)?;
    for (part, file) in [
        (&mut parts.cpu, "cpu.pressure"),
        (&mut parts.memory, "memory.pressure"),
        (&mut parts.block_io, "io.pressure"),
    ] {
        put_some(part, "psi", pressure(dir, file)?);
    }
    for size in page_sizes(dir)? {
        let mut pages = Map::new();
        put_some(
            &mut pages,
            "usage",
            count(dir, &format!("hugetlb.{size}.current"))?,
        );
        let events = table(
            &dir.read_if_there(format!("hugetlb.{size}.events"))?
                .unwrap_or_default(),
        );
        put(&mut pages, "failcnt", cell(&events, "max"));
        put(&mut parts.hugepages, &size, pages);
    }
    Ok(parts)
}

fn cpu(dir: &Dir, cpu: &mut Map<String, Value>) -> SysResult<()> {
    let told = table(&dir.read_if_there("cpu.stat")?.unwrap_or_default());
    let nanoseconds = |name| cell(&told, name).saturating_mul(NANOSECONDS);
    let mut usage = Map::new();
    put_some(&mut usage, "total", nanoseconds("usage_usec"));
    put(&mut usage, "kernel", nanoseconds("system_usec"));
    put(&mut usage, "user", nanoseconds("user_usec"));
    put(cpu, "usage", usage);
    let mut throttling = Map::new();
    put_some(&mut throttling, "periods", cell(&told, "nr_periods"));
    put_some(
        &mut throttling,
        "throttledPeriods",
        cell(&told, "nr_throttled"),
    );
    put_some(
        &mut throttling,
        "throttledTime",
        nanoseconds("throttled_usec"),
    );
    put(cpu, "throttling", throttling);
    Ok(())
}

fn memory(dir: &Dir, memory: &mut Map<String, Value>) -> SysResult<()> {
    let raw = table(&dir.read_if_there("memory.stat")?.unwrap_or_default());
    put_some(memory, "cache", cell(&raw, "file"));
    let (usage, limit) = (count(dir, "memory.current")?, count(dir, "memory.max")?);
    let peak = count(dir, "memory.peak")?;
    put(memory, "usage", entry(limit, usage, peak, 0));
    // Callers expect memory and swap together, as v1 counts.
    let swap = count(dir, "memory.swap.current")?.saturating_add(usage);
    let swap_limit = match (count(dir, "memory.swap.max")?, limit) {
        (0, limit) => limit,
        (u64::MAX, _) => u64::MAX,
        (swap, limit) => swap.saturating_add(limit),
    };
    put(memory, "swap", entry(swap_limit, swap, 0, 0));
    put(memory, "kernel", entry(0, 0, 0, 0));
    put(memory, "kernelTCP", entry(0, 0, 0, 0));
    put_some(memory, "raw", raw);
    Ok(())
}
