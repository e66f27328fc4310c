//! Invariant 4: namespaces, `/proc`, `/sys` and `/dev` show nothing of the host.

use airtight_tests::{Need, Without, World, has};

use super::{CANARY, denied};
use crate::errno::EROFS;
use crate::every_caller;

#[test]
fn privileged_namespaces_are_its_own_and_show_no_path_of_the_host() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for kind in ["user", "pid", "mnt", "ipc", "uts", "net", "cgroup"] {
            let report = world.attempt(&[], &["namespace", kind]).unwrap();
            let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(
                report.of("namespace").detail,
                host.display().to_string(),
                "{kind}"
            );
        }
        let report = world
            .attempt(&[], &["read", "/proc/self/mountinfo"])
            .unwrap();
        let mounts = &report.of("read").detail;
        assert!(
            !mounts.contains("airtight") && !mounts.contains("/work") && !mounts.contains("/home"),
            "{mounts}"
        );
        let report = world.attempt(&[], &["read", "/proc/self/cgroup"]).unwrap();
        for line in report.of("read").detail.lines() {
            assert!(line.ends_with(":/"), "{line}");
        }
        let report = world.attempt(&[], &["list", "/sys"]).unwrap();
        assert_eq!(report.of("list").detail, "");
        let report = world.attempt(&[], &["list", "/dev"]).unwrap();
        assert_eq!(
            report.of("list").detail,
            "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
        );
    }
}

#[test]
fn privileged_proc_shows_nothing_of_the_kernels_inside_and_takes_no_setting() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for path in [
            "/proc/keys",
            "/proc/timer_list",
            "/proc/kcore",
            "/proc/cmdline",
            "/proc/swaps",
            "/proc/sysrq-trigger",
        ] {
            if !std::path::Path::new(path).exists() {
                continue;
            }
            let report = world.attempt(&[], &["read", path]).unwrap();
            let tried = report.of("read");
            assert!(
                !tried.ok || tried.detail == "character device" || tried.detail.is_empty(),
                "{path}: {tried:?}"
            );
        }
    }
    denied(&[
        (&["write", "/proc/sys/kernel/hostname"], EROFS),
        (&["write", "/proc/self/oom_score_adj"], EROFS),
    ]);
}

#[test]
fn privileged_a_namespace_that_is_not_asked_for_is_the_hosts() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    for (name, kind) in [("uts", "uts"), ("ipc", "ipc")] {
        // The host's name must stay what it is.
        let without = [Without::Namespace(name), Without::Step("hostname"), CANARY];
        let report = world
            .attempt_without(&[], &without, &["namespace", kind])
            .unwrap();
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(
            report.of("namespace").detail,
            host.display().to_string(),
            "{report:?}"
        );
    }
    let report = world
        .attempt_without(
            &[],
            &[Without::Step("unshare-cgroup")],
            &["namespace", "cgroup"],
        )
        .unwrap();
    let host = std::fs::read_link("/proc/self/ns/cgroup").unwrap();
    assert_eq!(
        report.of("namespace").detail,
        host.display().to_string(),
        "{report:?}"
    );
}

#[test]
fn privileged_a_mask_is_what_hides() {
    if !has(&[Need::Root, Need::File("/proc/keys")]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(
            &[],
            &[Without::StepWith("mask-proc", "keys")],
            &["read", "/proc/keys"],
        )
        .unwrap();
    assert_ne!(report.of("read").detail, "character device", "{report:?}");
}
