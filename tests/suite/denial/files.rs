//! Invariant 1: the root is read-only, and what can be written is capped.

use airtight_tests::{Need, Without, World, has};
use serde_json::json;

use super::{LANDLOCK, bites, denied};
use crate::errno::EROFS;
use crate::every_caller;

#[test]
fn privileged_nothing_of_the_image_can_be_written() {
    denied(&[
        (&["write", "/new"], EROFS),
        (&["append", "/app/data"], EROFS),
        (&["chmod", "/app/prober"], EROFS),
        (&["unlink", "/app/data"], EROFS),
        (&["write", "/app/new"], EROFS),
        (&["write", "/etc/hosts"], EROFS),
    ]);
}

#[test]
fn privileged_tmpfs_is_capped() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world
            .attempt(&["--tmpfs", "/scratch:4m"], &["fill", "/scratch/x"])
            .unwrap();
        let mebibytes: u64 = report.of("fill").detail.parse().unwrap();
        assert!(mebibytes <= 4, "{report:?}");
    }
}

#[test]
fn privileged_one_sandbox_does_not_take_the_terminals_of_others() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["terminals"]).unwrap();
        assert_eq!(report.of("terminals").detail, "64", "{report:?}");
    }
}

#[test]
fn privileged_the_root_is_read_only_by_the_mount_alone() {
    // Landlock forbids the write too; without it the mount does.
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(&[], &[LANDLOCK], &["write", "/new"])
        .unwrap();
    assert_eq!(report.of("write").errno, EROFS, "{report:?}");
}

#[test]
fn privileged_a_read_only_volume_is_so_by_its_mount_and_by_landlock() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    world.write("work/data/file", "content").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(world.path("work/data"), mode).unwrap();
    let volume = format!("{}:/data:ro", world.shown("work/data"));
    bites(
        &["--volume", &volume],
        &[LANDLOCK, Without::Set("volume", "read_only", json!(false))],
        &["write", "/data/new"],
    );
}
