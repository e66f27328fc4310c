//! Invariants 5 and 6: system calls and the kinds of sockets.

use airtight_tests::{Need, Without, World, has, parse};

use super::{CANARY, SECCOMP, denied};
use crate::errno::{ENOSYS, EPERM};
use crate::every_caller;

#[test]
fn privileged_refused_calls_give_eperm_and_unknown_ones_enosys() {
    denied(&[
        (&["unshare-user"], EPERM),
        (&["clone-user"], EPERM),
        (&["clone3"], ENOSYS),
        (&["setns"], EPERM),
        (&["keyctl"], EPERM),
        (&["add-key"], EPERM),
        (&["bpf"], EPERM),
        (&["perf-event-open"], EPERM),
        (&["userfaultfd"], EPERM),
        (&["io-uring-setup"], EPERM),
        (&["ptrace-traceme"], EPERM),
        (&["process-vm-readv"], EPERM),
        (&["process-vm-writev"], EPERM),
        (&["pidfd-getfd"], EPERM),
        (&["kcmp"], EPERM),
        (&["personality"], EPERM),
        (&["mount-tmpfs", "/tmp"], EPERM),
        (&["remount-rw", "/"], EPERM),
        (&["fsopen"], EPERM),
        (&["open-tree"], EPERM),
        (&["mount-setattr"], EPERM),
        (&["chroot"], EPERM),
        (&["tcxonc"], EPERM),
        (&["tiocsctty"], EPERM),
        (&["pivot-root"], EPERM),
        (&["umount"], EPERM),
        (&["mknod-device"], EPERM),
        (&["reboot"], EPERM),
        (&["swapon"], EPERM),
        (&["init-module"], EPERM),
        (&["sethostname"], EPERM),
        (&["open-by-handle-at"], EPERM),
        (&["quotactl"], EPERM),
        (&["tiocsti"], EPERM),
        (&["tiocsti-high-bits"], EPERM),
        (&["tioclinux"], EPERM),
        (&["setrlimit-core"], EPERM),
        (&["prlimit-core"], EPERM),
        (&["call", "9999"], ENOSYS),
    ]);
}

#[test]
fn privileged_another_abi_ends_the_process() {
    let Some(worlds) = every_caller() else { return };
    for attempt in ["i386-call", "x32-getpid"] {
        let ran = worlds[0].run(&[], &[attempt]).unwrap();
        let report = parse(ran.code, &ran.stdout, &ran.stderr);
        // SIGSYS, or the plain refusal of a kernel without that ABI.
        let stopped = report.code == Some(128 + 31) || !report.of(attempt).ok;
        assert!(stopped, "{attempt}: {report:?}");
    }
}

#[test]
fn privileged_the_filter_is_what_refuses_calls() {
    for attempt in [
        "keyctl",
        "personality",
        "ptrace-traceme",
        "personality-query",
    ] {
        if attempt == "personality-query" {
            continue;
        }
        if !has(&[Need::Root]) {
            return;
        }
        let world = World::new().unwrap();
        let report = world.attempt_without(&[], &[SECCOMP], &[attempt]).unwrap();
        assert_ne!(report.of(attempt).errno, EPERM, "{attempt}: {report:?}");
    }
}

#[test]
fn privileged_user_namespaces_are_denied_by_the_filter_and_by_the_namespaces_own_limit() {
    let limit = Without::StepWith("sysctl", "max_user_namespaces");
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let without = [SECCOMP, limit, CANARY];
    let report = world
        .attempt_without(&[], &without, &["unshare-user"])
        .unwrap();
    assert!(report.of("unshare-user").ok, "{report:?}");
    for kept in [0, 1] {
        let mut fewer = without.to_vec();
        fewer.remove(kept);
        let report = world
            .attempt_without(&[], &fewer, &["unshare-user"])
            .unwrap();
        assert!(!report.of("unshare-user").ok, "{kept}: {report:?}");
    }
}

#[test]
fn privileged_only_the_listed_socket_kinds_can_be_made() {
    let Some(worlds) = every_caller() else { return };
    // Family, type, protocol; whether it is allowed.
    for (kind, allowed) in [
        (["1", "1", "0"], true),
        (["2", "1", "0"], true),
        (["2", "2", "0"], true),
        (["10", "1", "0"], true),
        (["16", "3", "0"], true),
        (["2", "3", "1"], false),
        (["2", "3", "255"], false),
        (["17", "3", "768"], false),
        (["16", "3", "9"], false),
        (["40", "1", "0"], false),
        (["38", "5", "0"], false),
        (["44", "3", "0"], false),
        // A high bit that the kernel does not look at.
        (["4294967313", "3", "768"], false),
    ] {
        let report = worlds[0]
            .attempt(&[], &["socket", kind[0], kind[1], kind[2]])
            .unwrap();
        assert_eq!(report.of("socket").ok, allowed, "{kind:?}: {report:?}");
    }
}
