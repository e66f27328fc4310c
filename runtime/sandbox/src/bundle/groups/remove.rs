//! Removing groups.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use airtight_plan::bundle::GroupPlace;
use airtight_sys::{Result as SysResult, SysError, signal};
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Groups;
use super::dir::{Dir, there};
use super::processes::{members, signal_listed};
use crate::error::Cause;

/// A process that has ended leaves its group a moment later.
const FIRST_WAIT: Duration = Duration::from_micros(10);
const LONGEST_WAIT: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(10);
/// Ended ones leave sooner than that; others are a reason to stop waiting.
const LIMIT_FOR_KEPT: Duration = Duration::from_millis(500);

/// What becomes of processes that are still inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// They keep the group: an error.
    Kept,
    Killed,
}

impl Groups {
    /// Removes each group with those below it. One that is not there is removed already.
    ///
    /// # Errors
    /// Processes in it, or a call that failed. The others are removed all the same.
    pub fn remove(&self, inside: Inside) -> Result<(), Cause> {
        let mut failed = None;
        // For all of them: who keeps one keeps the others too.
        let end = Instant::now()
            + match inside {
                Inside::Kept => LIMIT_FOR_KEPT,
                Inside::Killed => LIMIT,
            };
        for place in &self.places {
            if let Err(error) = remove(place, inside, end) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn remove(place: &GroupPlace, inside: Inside, end: Instant) -> SysResult<()> {
    let (Some(parent), Some(name)) = (place.dir.parent(), place.dir.file_name()) else {
        return Err(SysError::new(
            "unlinkat",
            "the root of a hierarchy",
            Errno::EINVAL,
        ));
    };
    let mount = Dir::mount(place)?;
    // Nearly every group is empty by now: one call.
    if remove_directory(&mount, place.dir.as_os_str()).is_ok() {
        return Ok(());
    }
    let parent = if parent.as_os_str().is_empty() {
        mount
    } else {
        match there(mount.below(parent))? {
            Some(parent) => parent,
            None => return Ok(()),
        }
    };
    let mut wait = FIRST_WAIT;
    loop {
        let error = match remove_directory(&parent, name) {
            Err(error) if error.errno == Errno::EBUSY => error,
            done => return done,
        };
        if let Some(dir) = there(parent.below(Path::new(name)))? {
            remove_below(&dir)?;
            if inside == Inside::Killed {
                kill(&dir)?;
            }
        }
        if Instant::now() > end {
            return Err(error);
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Ones of the container's own, from the bottom up; what is busy keeps the whole busy, and is met again.
fn remove_below(dir: &Dir) -> SysResult<()> {
    dir.walk(|parent, name| match remove_directory(parent, name) {
        Err(error) if error.errno != Errno::EBUSY => Err(error),
        _ => Ok(()),
    })
}

fn kill(dir: &Dir) -> SysResult<()> {
    let list = || {
        let mut found = BTreeSet::new();
        members(dir, &mut found).map(|()| found)
    };
    // Ended meanwhile, or out of our reach: the next look sees which.
    signal_listed(list, signal::SIGKILL, |_, _| Ok(()))
}

/// One that a child of ours was in, which has just been killed.
pub(super) fn remove_soon(parent: &Dir, name: &OsStr) -> SysResult<()> {
    let end = Instant::now() + LIMIT_FOR_KEPT;
    let mut wait = FIRST_WAIT;
    loop {
        match remove_directory(parent, name) {
            Err(error) if error.errno == Errno::EBUSY && Instant::now() < end => {}
            done => return done,
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn remove_directory(parent: &Dir, name: &OsStr) -> SysResult<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => {
            let shown = parent.path().join(name).display().to_string();
            Err(SysError::new("unlinkat", shown, errno))
        }
    }
}
