//! kill -9 of the runtime at any call of `create`: `delete --force` takes back all that is there by then.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use airtight_tests::{Need, wait_until};

use crate::harness::{Container, PATIENCE, Place, must, sleeps};

/// Of the calls of one kind at most this many are tried, spread over all of them.
const MOST_OF_A_KIND: usize = 12;

#[test]
fn privileged_a_killed_create_is_deleted_whole() {
    must("delete --force leaves no process, group, mount or directory of a create that was killed at any of its calls")
        .needs(Need::Program("strace"))
        .holds(|place| {
            // The state directory's promise is ours.
            if !place.is("airtight") {
                return;
            }
            let container = place.container(sleeps);
            for (call, count) in calls(place, &container) {
                for at in (1..=count).step_by(count.div_ceil(MOST_OF_A_KIND)) {
                    let inject = format!("inject={call}:signal=SIGKILL:when={at}");
                    place.finish(traced(&container, &["-e", &inject]));
                    container.ok("delete", &["--force"]);
                    let moment = format!("{call} {at}");
                    assert_eq!(container.groups().len(), 0, "{moment}");
                    assert!(!place.path("state").join(&container.id).exists(), "{moment}");
                    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
                    assert!(!mounts.contains(&container.id), "{moment}");
                    // Its child sees the end of the runtime and ends too.
                    assert!(
                        wait_until(PATIENCE, || processes(&container.id) == 0),
                        "{moment}"
                    );
                }
            }
        });
}

/// The calls that `create` makes itself, by name, and how often.
fn calls(place: &Place, container: &Container<'_>) -> BTreeMap<String, usize> {
    let trace = place.shown("trace.txt");
    let ran = place.finish(traced(container, &["-o", &trace]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    container.ok("delete", &["--force"]);
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        if let Some((name, _)) = line.split_once('(')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(calls.contains_key("clone3"), "{calls:?}");
    calls
}

/// `create` under strace(1), which follows no child.
fn traced(container: &Container<'_>, options: &[&str]) -> Command {
    let create = container.command("create", &[]);
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null"]).args(options);
    command.arg(create.get_program()).args(create.get_args());
    command
}

/// Those that carry the container's name on their command line.
fn processes(id: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(id))
        .count()
}
