//! kill -9 at any moment: the store verifies, and no mount, cgroup, namespace, listener or process is left.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use airtight_tests::{World, wait_until};
use nix::sys::signal::Signal;

use crate::every_caller;

/// A deterministic spread over what a launch or a build takes.
const MOMENTS: u64 = 10;

fn processes_of(world: &World) -> BTreeSet<String> {
    let home = world.shown("home");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let alive = !status.contains("State:\tZ");
            alive
                && environment
                    .windows(home.len())
                    .any(|part| part == home.as_bytes())
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn left_of(id: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(id))
            .map(str::to_owned),
    );
    for controller in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        let mut open = vec![controller.path()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
            {
                if entry.file_name().to_string_lossy().contains(id) {
                    left.push(entry.path().display().to_string());
                }
                open.push(entry.path());
            }
        }
    }
    left
}

#[test]
fn privileged_a_killed_launch_leaves_nothing() {
    let Some(worlds) = every_caller() else { return };
    for (world, limits) in worlds.iter().zip([&["--pids", "64"][..], &[], &[]]) {
        for moment in 0..MOMENTS {
            let name = format!("kill-{}-{moment}", std::process::id());
            let port = std::net::TcpListener::bind(("127.0.0.1", 0))
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let published = format!("{port}:8080");
            let args = [
                &[
                    "run",
                    "--name",
                    &name,
                    "--publish",
                    &published,
                    "--connect",
                    "peer=127.0.0.1:9",
                ],
                limits,
                &["test/prober", "--", "sleep-forever"],
            ]
            .concat();
            let running = world.start(&args).unwrap();
            // The kill's moment is the subject here, so the wait is one.
            std::thread::sleep(Duration::from_millis(moment * 4));
            running.signal(Signal::SIGKILL).unwrap();
            drop(running);
            let gone = wait_until(Duration::from_secs(20), || {
                processes_of(world).is_empty() && left_of(&name).is_empty()
            });
            assert!(
                gone,
                "moment {moment}: {:?} {:?}",
                processes_of(world),
                left_of(&name)
            );
            let free = wait_until(Duration::from_secs(20), || {
                std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
            });
            assert!(free, "moment {moment}: the port is still listened on");
            let verified = world.airtight(["verify"]).unwrap();
            assert_eq!(verified.code, Some(0), "{verified:?}");
        }
    }
}

/// The child of `parent` that is in a session of its own.
fn session_leader(parent: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let is_leader = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (_, after) = stat.rsplit_once(')').unwrap_or_default();
        // State, parent, process group, session.
        after.split_ascii_whitespace().nth(3) == Some(pid.to_string().as_str())
    };
    children
        .ok()?
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(is_leader)
}

#[test]
fn privileged_the_groups_go_with_the_sandbox_also_when_their_janitor_was_killed() {
    let Some(worlds) = every_caller() else { return };
    let name = format!("janitor-{}", std::process::id());
    let mut running = worlds[0]
        .start(&[
            "run",
            "--name",
            &name,
            "--pids",
            "64",
            "test/prober",
            "--",
            "say",
            ",",
            "sleep-forever",
        ])
        .unwrap();
    running.until("say").unwrap();
    assert_ne!(left_of(&name), Vec::<String>::new());
    let janitor = session_leader(running.pid()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(janitor), Signal::SIGKILL).unwrap();
    running.signal(Signal::SIGTERM).unwrap();
    assert_eq!(running.wait().unwrap().code, Some(128 + 15));
    assert_eq!(left_of(&name), Vec::<String>::new());
}

#[test]
fn privileged_a_killed_build_leaves_a_store_that_verifies() {
    let Some(worlds) = every_caller() else { return };
    let world = &worlds[0];
    world.write("work/app/big", vec![7_u8; 8 << 20]).unwrap();
    for number in 0..50 {
        world
            .write(
                &format!("work/app/small-{number}"),
                format!("{number}").repeat(1000),
            )
            .unwrap();
    }
    world.write("work/app/airtight.toml", "format = 1\nname = \"test/killed\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \".\", to = \"/app\" }]\n[config]\nentrypoint = [\"/app/big\"]\n").unwrap();
    let entry = world.path("work/app/big");
    std::fs::set_permissions(entry, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = world.shown("work/app");
    for moment in 0..MOMENTS {
        let running = world.start(&["build", &directory]).unwrap();
        std::thread::sleep(Duration::from_millis(moment * 12));
        // It may have ended by itself by then.
        drop(running.signal(Signal::SIGKILL));
        drop(running);
        let verified = world.airtight(["verify"]).unwrap();
        assert_eq!(verified.code, Some(0), "moment {moment}: {verified:?}");
    }
    let collected = world.airtight(["gc"]).unwrap();
    assert_eq!(collected.code, Some(0), "{collected:?}");
    let left = std::fs::read_dir(world.path("home/store/tmp"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "gc takes what killed builds left");
    assert_eq!(world.airtight(["build", &directory]).unwrap().code, Some(0));
    assert!(Path::new(&world.path("home/store/blobs")).is_dir());
}
