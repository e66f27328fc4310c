//! `update`: new limits for a container's groups.

use std::io::Read as _;
use std::path::Path;

use airtight_plan::bundle::{Resources, update_plan};
use airtight_sandbox::groups::{Groups, hierarchies};
use airtight_sys::lock::Patience;

use crate::args::{Global, UpdateArgs};
use crate::config;
use crate::delete::PATIENCE;
use crate::report::{self, Failure};
use crate::state::{Root, Status};

/// Nobody writes limits longer than that.
const LONGEST: u64 = 1 << 20;

pub(crate) fn update(global: &Global, args: &UpdateArgs) -> Result<(), Failure> {
    let home = Root::find(global.root.as_deref())?.home(&args.id)?;
    let lock = home.lock(Patience::Upto(PATIENCE))?;
    let record = home.known()?;
    match home.settled(&record, &lock) {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(Failure::NotRunning),
    }
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        return Err(Failure::said(
            "Intel RDT: L3 cache and memory bandwidth schemas are not offered",
        ));
    }
    let mut resources = match &args.resources {
        // Other options are ignored then, as runc says.
        Some(path) => read(global, path)?,
        None => flags(args)?,
    };
    let groups = record.groups();
    groups
        .check_memory(&resources.memory)
        .map_err(Failure::Groups)?;
    groups.complete(&mut resources).map_err(Failure::Groups)?;
    let hierarchies = hierarchies().map_err(Failure::Groups)?;
    let plan = update_plan(groups.places(), &resources, &hierarchies)?;
    for warning in Groups::update(&plan).map_err(Failure::Groups)? {
        report::warn(global, &warning);
    }
    drop(lock);
    Ok(())
}

fn read(global: &Global, path: &Path) -> Result<Resources, Failure> {
    let document = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .take(LONGEST)
            .read_to_string(&mut text)
            .map_err(|error| Failure::io("stdin", &error))?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::Said(format!("stdin: is not a JSON object: {error}")))?
    } else {
        config::document(path)?
    };
    let parsed = config::resources(document).map_err(|problems| Failure::Config {
        path: path.to_owned(),
        problems,
    })?;
    for warning in &parsed.warnings {
        report::warn(global, warning);
    }
    Ok(parsed.value)
}

fn flags(args: &UpdateArgs) -> Result<Resources, Failure> {
    let mut resources = Resources::default();
    let (memory, cpu) = (&mut resources.memory, &mut resources.cpu);
    memory.limit = bytes("memory", args.memory.as_deref())?;
    memory.swap = bytes("memory-swap", args.memory_swap.as_deref())?;
    memory.reservation = bytes("memory-reservation", args.memory_reservation.as_deref())?;
    memory.kernel = bytes("kernel-memory", args.kernel_memory.as_deref())?;
    memory.kernel_tcp = bytes("kernel-memory-tcp", args.kernel_memory_tcp.as_deref())?;
    cpu.period = number("cpu-period", args.cpu_period.as_deref())?;
    cpu.quota = number("cpu-quota", args.cpu_quota.as_deref())?;
    cpu.burst = number("cpu-burst", args.cpu_burst.as_deref())?;
    cpu.shares = number("cpu-share", args.cpu_share.as_deref())?;
    cpu.realtime_period = number("cpu-rt-period", args.cpu_rt_period.as_deref())?;
    cpu.realtime_runtime = number("cpu-rt-runtime", args.cpu_rt_runtime.as_deref())?;
    cpu.idle = number("cpu-idle", args.cpu_idle.as_deref())?;
    cpu.cpus.clone_from(&args.cpuset_cpus);
    cpu.mems.clone_from(&args.cpuset_mems);
    // 0 is what callers write for "as it is".
    resources.pids = args.pids_limit.filter(|limit| *limit != 0);
    resources.block_io.weight = args.blkio_weight.filter(|weight| *weight != 0);
    Ok(resources)
}

fn number<T: std::str::FromStr>(flag: &str, text: Option<&str>) -> Result<Option<T>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let invalid = || {
        Failure::Said(format!(
            "invalid value for {flag}: {text:?} is not a whole number in its range"
        ))
    };
    text.parse().map(Some).map_err(|_| invalid())
}

/// As docker writes sizes: `64M`, `1.5g`, `512KiB`, all of them powers of 1024; -1 is no limit.
fn bytes(flag: &str, text: Option<&str>) -> Result<Option<i64>, Failure> {
    match text {
        None | Some("") => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => size(text).map(Some).ok_or_else(|| {
            Failure::Said(format!("invalid value for {flag}: invalid size: '{text}'"))
        }),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded right before, and what is below a byte is left out"
)]
fn size(text: &str) -> Option<i64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    // Whole numbers exactly; a float has 53 bits.
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << (10 * power));
    }
    let size = number.parse::<f64>().ok()? * 1024_f64.powi(power);
    (0.0..9.0e18).contains(&size).then_some(size as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_docker_writes_them() {
        for (text, want) in [
            ("0", Some(0)),
            ("64", Some(64)),
            ("64M", Some(64 << 20)),
            ("64mb", Some(64 << 20)),
            ("512KiB", Some(512 << 10)),
            ("1.5g", Some(3 << 29)),
            ("2 g", Some(2 << 30)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775807k", None),
            ("9999999P", None),
            ("-5", None),
            ("m", None),
            ("1x", None),
            ("1..5m", None),
        ] {
            assert_eq!(size(text), want, "{text}");
        }
        assert_eq!(bytes("memory", Some("-1")).unwrap(), Some(-1));
        let said = bytes("memory", Some("x")).unwrap_err().to_string();
        assert_eq!(said, "invalid value for memory: invalid size: 'x'");
    }
}
