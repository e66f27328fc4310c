//! `events`: what a container uses, each time an interval has passed, and when it ran out of memory.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use airtight_sandbox::groups::{Groups, Oom};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::signal;
use serde_json::{Value, json};

use crate::args::Global;
use crate::report::{self, Failure};
use crate::state::{Root, Status};

pub(crate) fn events(global: &Global, id: &str, interval: &str, once: bool) -> Result<(), Failure> {
    let interval = duration(interval)
        .filter(|interval| !interval.is_zero())
        .ok_or_else(|| Failure::said("duration interval must be greater than 0"))?;
    let home = Root::find(global.root.as_deref())?.home(id)?;
    let record = home.known()?;
    let (Some(process), false) = (record.process, home.status(&record) == Status::Stopped) else {
        return Err(Failure::Said(format!(
            "container with id {id} is not running"
        )));
    };
    let groups = record.groups();
    if once {
        return stats(id, &groups);
    }
    let mut oom = groups
        .oom_watch()
        .map_err(Failure::Groups)?
        .ok_or_else(|| Failure::said("this container has no group that counts memory"))?;
    // Its end is the end of the events, on whichever version.
    let Ok(pidfd) = signal::pidfd_open(process.pid) else {
        return Ok(());
    };
    let mut next = Instant::now() + interval;
    while process.is_alive() {
        let left = next.saturating_duration_since(Instant::now());
        let mut watches = [Watch::readable(pidfd.as_fd()), oom.watch()];
        poll(&mut watches, Some(left))?;
        let [ended, told] = watches.map(|watch| watch.is_ready());
        if told {
            match oom.look().map_err(Failure::Groups)? {
                Oom::Happened => report::print(&event("oom", id, None))?,
                Oom::Nothing => {}
                Oom::Ended => break,
            }
        }
        if ended {
            break;
        }
        if Instant::now() >= next {
            if let Err(failure) = stats(id, &groups) {
                report::warn(global, &failure.to_string());
            }
            next += interval;
        }
    }
    Ok(())
}

fn stats(id: &str, groups: &Groups) -> Result<(), Failure> {
    let data: Value = groups.stats().map_err(Failure::Groups)?;
    report::print(&event("stats", id, Some(&data)))
}

/// In this order: callers look for its beginning.
fn event(kind: &str, id: &str, data: Option<&Value>) -> String {
    let data = data.map_or(String::new(), |data| format!(",\"data\":{data}"));
    format!("{{\"type\":\"{kind}\",\"id\":{}{data}}}\n", json!(id))
}

/// As Go writes them: `5s`, `1m30s`, `1.5h`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * size;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_begins_with_its_type_and_container() {
        assert_eq!(event("oom", "c", None), "{\"type\":\"oom\",\"id\":\"c\"}\n");
        let stats = event("stats", "c", Some(&json!({ "pids": {} })));
        assert_eq!(
            stats,
            "{\"type\":\"stats\",\"id\":\"c\",\"data\":{\"pids\":{}}}\n"
        );
    }

    #[test]
    fn intervals_are_written_as_go_writes_them() {
        for (text, want) in [
            ("5s", Some(5_000)),
            ("250ms", Some(250)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("", Some(0)),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5x", None),
            ("1e999h", None),
        ] {
            assert_eq!(duration(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
