//! One file for each invariant of a launched sandbox: what must fail fails, as root and rootless, and succeeds when the one step that forbids it is out of
//! the plan, so that the test is known to bite. Where several controls forbid the same, all are taken out and each alone, put back, denies again.

mod calls;
mod code;
mod descriptors;
mod files;
mod network;
mod privilege;
mod view;

use airtight_tests::{Need, Without, World, has};
use serde_json::json;

use crate::every_caller;

/// Attempt (with its arguments), the error it must meet.
type Denied = (&'static [&'static str], i64);

fn attempts(list: &[Denied]) -> Vec<&'static str> {
    list.iter()
        .flat_map(|(attempt, _)| attempt.iter().chain([&","]))
        .copied()
        .collect()
}

/// All of these fail with exactly these errors, for root and rootless.
fn denied(list: &[Denied]) {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for (attempt, errno) in list {
            let report = world.attempt(&[], attempt).unwrap();
            let tried = report.of(attempt[0]);
            assert_eq!(
                (tried.ok, tried.errno),
                (false, *errno),
                "{attempt:?}: {report:?}"
            );
        }
    }
}

/// Without these controls the attempt gets through, and with any one of them back it does not.
fn bites(flags: &[&str], controls: &[Without], attempt: &[&'static str]) {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world.attempt_without(flags, controls, attempt).unwrap();
    assert!(
        report.of(attempt[0]).ok,
        "{attempt:?} should succeed without {controls:?}: {report:?}"
    );
    for kept in 0..controls.len() {
        let mut fewer = controls.to_vec();
        let kept = fewer.remove(kept);
        let report = world.attempt_without(flags, &fewer, attempt).unwrap();
        assert!(
            !report.of(attempt[0]).ok,
            "{attempt:?} should fail by {kept:?} alone: {report:?}"
        );
    }
}

const LANDLOCK: Without = Without::Step("landlock");
const SECCOMP: Without = Without::Step("seccomp");
const CANARY: Without = Without::Step("canary");

// 9. A control is on, refused, or accepted by name.

#[test]
fn privileged_a_confinement_that_does_not_hold_ends_the_launch() {
    // The canary sings when what it tries gets through.
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let without = [Without::StepWith("sysctl", "max_user_namespaces")];
    let report = world.attempt_without(&[], &without, &["say"]).unwrap();
    assert_eq!(report.code, Some(125), "{report:?}");
    assert!(
        report.stderr.contains("UserNamespace should have failed"),
        "{report:?}"
    );
}

#[test]
fn privileged_a_shortfall_needs_a_name_that_is_one() {
    let Some(worlds) = every_caller() else { return };
    let ran = worlds[0]
        .run(&["--accept-shortfall", "no-such-control"], &["say"])
        .unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    // The host has it, so accepting its absence changes nothing.
    let plan = worlds[0]
        .plan(&["--accept-shortfall", "landlock"], &["say"])
        .unwrap();
    assert_eq!(plan["shortfalls"], json!([]));
    assert!(attempts(&[(&["say"], 0)]).contains(&"say"));
}
