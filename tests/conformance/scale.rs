//! Many containers alive at once, started one by one: none of them slows the next down for good, and none leaves anything behind.
//!
//! `AIRTIGHT_ALIVE=1000` for as many as the design says; fewer by default, since the machine is shared with the other tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use airtight_tests::{Need, has, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Container, PATIENCE, Place, groups, sleeps};

const ALIVE: usize = 100;
/// Starts at each end whose medians are told.
const ENDS: usize = 20;

/// What could be left behind, in the parts of the host that are everybody's: counted, since other tests come and go.
fn mounts_of(place: &Place) -> usize {
    let dir = place.shown("");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(&dir)).count()
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is its reaper's to take.
    !stat.is_empty() && !stat.contains(") Z ")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn alive(place: &Place) {
    let count = std::env::var("AIRTIGHT_ALIVE").map_or(ALIVE, |text| text.parse().unwrap());
    // One root for all of them: what is counted is what the runtime makes.
    let shared = place.container(|_| {});
    let rootfs = shared.rootfs("");
    let mut containers: Vec<Container<'_>> = Vec::new();
    let mut times = Vec::new();
    for _ in 0..count {
        let container = place.bundle(|config| {
            config["root"]["path"] = json!(rootfs);
            sleeps(config);
        });
        let began = Instant::now();
        container.ok("create", &[]);
        container.ok("start", &[]);
        times.push(began.elapsed());
        containers.push(container);
    }
    let ends = ENDS.min(count / 2).max(1);
    let first = median(times[..ends].to_vec());
    let last = median(times[count - ends..].to_vec());
    eprintln!(
        "{count} alive: create and start took {first:?} at first and {last:?} at last, {:.2} times as long",
        last.as_secs_f64() / first.as_secs_f64()
    );

    let list = place.call(&["list", "--quiet"]);
    assert_eq!(list.stdout.lines().count(), count);
    let pids: BTreeSet<i32> = containers.iter().map(Container::pid).collect();
    assert_eq!(pids.len(), count);
    assert!(pids.iter().all(|pid| lives(*pid)));
    // Nothing of theirs is mounted where the host sees it.
    assert_eq!(mounts_of(place), 0);

    // In an order that is not that of their birth, half of them by force.
    let (odd, even): (Vec<_>, Vec<_>) = containers
        .iter()
        .enumerate()
        .partition(|(at, _)| at % 2 == 1);
    for (_, container) in &odd {
        container.ok("delete", &["--force"]);
    }
    for (_, container) in &even {
        kill(Pid::from_raw(container.pid()), Signal::SIGKILL).unwrap();
    }
    for (_, container) in &even {
        container.becomes("stopped");
        container.ok("delete", &[]);
    }
    assert!(wait_until(PATIENCE, || !pids.iter().any(|pid| lives(*pid))));
    assert_eq!(place.call(&["list", "--quiet"]).stdout, "");
    for container in &containers {
        assert_eq!(container.groups(), [] as [&Path; 0], "{}", container.id);
    }
    let left: Vec<_> = fs::read_dir(place.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        // Compiled filters are kept.
        .filter(|name| !name.to_string_lossy().starts_with('~'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(mounts_of(place), 0);
    assert_eq!(groups("airtight-test"), [] as [&Path; 0]);
}

#[test]
fn privileged_many_containers_leave_nothing_behind() {
    if !has(&[Need::Root, Need::File("/bin/busybox")]) {
        return;
    }
    alive(&Place::airtight(&["--compat"]));
    alive(&Place::airtight(&["--on-excess", "narrow"]));
}
