//! Invariant 3: no privilege.

use airtight_tests::{Need, Without, World, has};

use super::{LANDLOCK, SECCOMP};
use crate::every_caller;

#[test]
fn privileged_the_payload_has_no_capability_and_no_root() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["status", ",", "setuid"]).unwrap();
        let status = &report.of("status").detail;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                status.contains(&format!("{set}:\t0000000000000000")),
                "{set}: {status}"
            );
        }
        for line in [
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "Uid:\t65532\t65532\t65532\t65532",
            "Gid:\t65532\t65532\t65532\t65532",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        assert!(!report.of("setuid").ok, "{report:?}");
        let refused = world.run(&["--user", "0"], &["say"]).unwrap();
        assert_eq!(refused.code, Some(125), "{refused:?}");
        assert!(refused.stderr.contains("--user"), "{refused:?}");
    }
}

#[test]
fn privileged_the_bounding_set_and_no_new_privs_are_dropped_by_their_steps() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(&[], &[Without::Step("drop-bounding-set")], &["status"])
        .unwrap();
    assert!(
        !report
            .of("status")
            .detail
            .contains("CapBnd:\t0000000000000000"),
        "{report:?}"
    );
    // The fences that follow, and pid 1's own filter, cannot be put up by a process without no_new_privs: so none of them is there.
    let without = [
        Without::Step("no-new-privs"),
        LANDLOCK,
        SECCOMP,
        Without::Step("init"),
    ];
    let report = world.attempt_without(&[], &without, &["status"]).unwrap();
    assert!(
        report.of("status").detail.contains("NoNewPrivs:\t0"),
        "{report:?}"
    );
    let report = world
        .attempt_without(&[], &without[1..], &["status"])
        .unwrap();
    assert!(
        report.of("status").detail.contains("NoNewPrivs:\t1"),
        "{report:?}"
    );
}

#[test]
fn privileged_capabilities_are_cleared_by_their_step() {
    if !has(&[Need::Root]) {
        return;
    }
    // An exec of another id clears them as well, so it is the canary that still has them and can mount; Landlock forbids that too.
    let world = World::new().unwrap();
    let report = world.attempt_without(&[], &[LANDLOCK], &["say"]).unwrap();
    assert_eq!(report.code, Some(0), "{report:?}");
    let report = world
        .attempt_without(
            &[],
            &[LANDLOCK, Without::Step("clear-capabilities")],
            &["say"],
        )
        .unwrap();
    assert!(
        report.stderr.contains("Mount should have failed"),
        "{report:?}"
    );
}

#[test]
fn privileged_the_hosts_root_is_not_mapped_in() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["read", "/proc/self/uid_map"]).unwrap();
        for line in report.of("read").detail.lines() {
            let numbers: Vec<u64> = line
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            assert_ne!(numbers[1], 0, "{line}");
        }
    }
}

#[test]
fn privileged_a_user_with_a_range_maps_it_and_its_own_id_and_nothing_else() {
    let Some(worlds) = every_caller() else { return };
    let attempts = ["read", "/proc/self/uid_map", ",", "status"];
    let maps = worlds.each_ref().map(|world| {
        let report = world.attempt(&[], &attempts).unwrap();
        let map = &report.of("read").detail;
        let lines = map.lines().map(|line| line.split_whitespace().collect());
        lines
            .map(|words: Vec<&str>| words.join(" "))
            .collect::<Vec<_>>()
    });
    assert_eq!(maps[0].len(), 1, "{maps:?}");
    assert!(maps[0][0].ends_with(" 65536"), "{maps:?}");
    assert_eq!(maps[1], ["65532 54321 1"]);
    assert_eq!(maps[2], ["0 54321 1", "1 1900000000 65535"]);
    for world in &worlds {
        let status = world.attempt(&["--user", "7:8"], &["status"]).unwrap();
        let status = &status.of("status").detail;
        assert!(status.contains("Uid:\t7\t7\t7\t7"), "{status}");
        assert!(status.contains("Gid:\t8\t8\t8\t8"), "{status}");
    }
}
