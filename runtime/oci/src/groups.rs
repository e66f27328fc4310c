//! The container's groups: where they can be, and what the verbs do with them.

use std::fs;

use airtight_plan::bundle::{BundleGroup, Hierarchies};

use crate::report::Failure;

/// What this host mounts, and where this process is in it.
pub(crate) fn hierarchies() -> Result<Hierarchies, Failure> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| Failure::io(path, &error));
    Ok(Hierarchies::read(
        &read("/proc/self/cgroup")?,
        &read("/proc/self/mountinfo")?,
        std::path::Path::new("/run/systemd/system").is_dir(),
        &|mount| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default(),
    ))
}

pub(crate) fn kill_and_remove(groups: &[BundleGroup]) -> Result<(), Failure> {
    for group in groups {
        drop(fs::remove_dir(group.mount.join(&group.dir)));
    }
    Ok(())
}

pub(crate) fn thaw(_groups: &[BundleGroup]) -> Result<(), Failure> {
    Ok(())
}

pub(crate) fn signal_all(_groups: &[BundleGroup], _number: i32) -> Result<(), Failure> {
    Ok(())
}

pub(crate) fn frozen(_groups: &[BundleGroup]) -> bool {
    false
}
