//! Limits through the cgroup that the host has; asked for and not to be had is refused by name.

use airtight_tests::{Need, World, has};

use crate::every_caller;

fn groups() -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains("airtight") {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn privileged_limits_hold_and_leave_no_group() {
    if !has(&[Need::Root, Need::Cgroups]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt(
            &["--pids", "16", "--name", "limit-pids"],
            &["processes", "200"],
        )
        .unwrap();
    assert!(!report.of("processes").ok, "{report:?}");
    let report = world
        .attempt(
            &["--pids", "300", "--name", "limit-pids-2"],
            &["processes", "200"],
        )
        .unwrap();
    assert!(report.of("processes").ok, "{report:?}");
    let ran = world
        .run(
            &["--memory", "32m", "--name", "limit-memory"],
            &["allocate", "128"],
        )
        .unwrap();
    assert_eq!(ran.code, Some(137), "{ran:?}");
    let report = world
        .attempt(
            &["--memory", "256m", "--name", "limit-memory-2"],
            &["allocate", "128"],
        )
        .unwrap();
    assert!(report.of("allocate").ok, "{report:?}");
    let report = world
        .attempt(&["--cpus", "0.5", "--name", "limit-cpu"], &["say"])
        .unwrap();
    assert!(report.of("say").ok, "{report:?}");
    let left: Vec<_> = groups()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("limit-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn privileged_a_limit_that_cannot_be_enforced_is_refused_by_name() {
    let Some(worlds) = every_caller() else { return };
    for (flag, value) in [("--memory", "32m"), ("--pids", "16"), ("--cpus", "1")] {
        let ran = worlds[1].run(&[flag, value], &["say"]).unwrap();
        assert_eq!(ran.code, Some(125), "{flag}: {ran:?}");
        assert!(
            ran.stderr.contains(flag) && ran.stderr.contains("fix:"),
            "{flag}: {ran:?}"
        );
    }
}

#[test]
fn privileged_what_the_kernel_counts_by_user_is_bounded_for_a_sandbox() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let service = ["--profile", "service"];
        let report = world
            .attempt(&service, &["queue-signals", ",", "watch-files"])
            .unwrap();
        for (name, most) in [("queue-signals", 1024), ("watch-files", 64)] {
            let had: u32 = report.of(name).detail.parse().unwrap();
            assert!((1..=most).contains(&had), "{name}: {report:?}");
        }
    }
}
