//! The files of v1's cpuset, which a new group starts with empty and which let no process in before they are filled.
//!
//! Each write to one is held against every group beside it, so that a start among a thousand others takes three walks through them. Of a parent that says
//! so (`cgroup.clone_children`) the kernel copies them as it makes the group, and walks once; parents that are made here say so. What somebody else made
//! stays as it is. The price is paid at the end: such a group has the flag of [`share_scheduling`] still, and its removal is what computes the domains.

use std::path::Path;

use airtight_sys::Result as SysResult;

use super::dir::Dir;

const CLONES: &str = "cgroup.clone_children";
const SHARED: &str = "cpuset.sched_load_balance";

/// A parent that was made just now, and filled.
pub(super) fn pass_on(parent: &Dir, files: &[String]) -> SysResult<()> {
    if files.is_empty() {
        return Ok(());
    }
    parent.write(CLONES, "1")
}

/// Whether a group that is made at `path` is filled by the kernel.
pub(super) fn is_copied(mount: &Dir, path: &Path) -> SysResult<bool> {
    let parent = path.parent().unwrap_or(path);
    let told = mount.read_if_there(parent.join(CLONES))?;
    Ok(told.is_some_and(|told| told.trim() == "1"))
}

/// Fills what is empty; in a group that is new all of them are.
pub(super) fn fill(files: &[String], parent: &Dir, dir: &Dir, existed: bool) -> SysResult<()> {
    for file in files {
        // A new one is empty, or is its parent's copy.
        if !existed || is_empty(dir, file)? {
            dir.write(file, parent.read(file)?.trim())?;
        }
    }
    Ok(())
}

/// A group that is new and that nothing was said of.
pub(super) fn fill_new(files: &[String], parent: &Dir, dir: &Dir) -> SysResult<()> {
    match files.first() {
        None => Ok(()),
        // The kernel copied, all or none.
        Some(first) if !is_empty(dir, first)? => Ok(()),
        Some(_) => {
            share_scheduling(parent, dir)?;
            fill(files, parent, dir, false)
        }
    }
}

fn is_empty(dir: &Dir, file: &str) -> SysResult<bool> {
    Ok(dir.read(file)?.trim().is_empty())
}

/// Has the CPUs of its parent and balances their load in the parent's scheduling domain, which says so itself. With the flag of its own the kernel would
/// compute all domains anew when the group is given its CPUs and when it goes, and look at every group of the host for it: half a millisecond each with
/// none, a whole one with a thousand (cpuset(7), `cpuset.sched_load_balance`).
fn share_scheduling(parent: &Dir, dir: &Dir) -> SysResult<()> {
    match parent.read_if_there(SHARED)? {
        Some(on) if on.trim() == "1" => dir.write(SHARED, "0"),
        _ => Ok(()),
    }
}
