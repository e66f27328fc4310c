//! Stopping every process of a container at once, and letting them go on.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use airtight_sys::poll::{Watch, poll};
use airtight_sys::{Result as SysResult, SysError};
use nix::fcntl::OFlag;

use super::Groups;
use super::dir::{Dir, there};
use crate::error::Cause;

/// A process in an uninterruptible call freezes when that ends; longer than this is for the caller to decide.
const LIMIT: Duration = Duration::from_secs(10);
const V1_STATE: &str = "freezer.state";
/// v1: between looks at whether all have stopped.
const FIRST_WAIT: Duration = Duration::from_micros(20);
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// v1: new processes may go on appearing while the rest is frozen; a thaw now and then lets the kernel catch them.
const LOOKS_PER_TRY: u32 = 40;

impl Groups {
    /// Returns when every process has stopped.
    ///
    /// # Errors
    /// Some did not in time: all go on then.
    pub fn freeze(&self) -> Result<(), Cause> {
        match self.freezer()? {
            Some(Freezer::V1(dir)) => freeze_v1(&dir),
            Some(Freezer::V2(dir)) => freeze_v2(&dir),
            None => Err(Cause::Refused {
                problem: "this container has no group that can be frozen".into(),
                fix: "mount the freezer hierarchy or cgroup v2 before it is created".into(),
            }),
        }
    }

    /// A container without a freezer is never frozen.
    ///
    /// # Errors
    /// The kernel's.
    pub fn thaw(&self) -> Result<(), Cause> {
        match self.freezer()? {
            Some(Freezer::V1(dir)) => thaw_v1(&dir),
            Some(Freezer::V2(dir)) => Ok(dir.write("cgroup.freeze", "0")?),
            None => Ok(()),
        }
    }

    /// Likewise with groups that the container made below its own and froze: on v1 a process in one of them cannot even be killed, on v2 it can.
    ///
    /// # Errors
    /// The kernel's.
    pub fn thaw_all(&self) -> Result<(), Cause> {
        if self.is_frozen()? {
            self.thaw()?;
        }
        if let Some(dir) = self.of("freezer")? {
            dir.walk(|parent, name| {
                let file = Path::new(name).join(V1_STATE);
                there(parent.write(file, "THAWED")).map(drop)
            })?;
        }
        Ok(())
    }

    /// Whether they are, or are about to be. A container without a freezer is not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_frozen(&self) -> Result<bool, Cause> {
        if let Some(dir) = self.of("freezer")? {
            return Ok(is_frozen(&dir)?);
        }
        if self.only_unified()
            && let Some(dir) = self.unified()?
        {
            return Ok(unified_is_frozen(&dir)?);
        }
        Ok(false)
    }

    fn freezer(&self) -> SysResult<Option<Freezer>> {
        if let Some(dir) = self.of("freezer")? {
            return Ok(Some(Freezer::V1(dir)));
        }
        // Also beside v1 where that has no freezer.
        Ok(self.unified()?.map(Freezer::V2))
    }
}

enum Freezer {
    V1(Dir),
    V2(Dir),
}

pub(super) fn is_frozen(dir: &Dir) -> SysResult<bool> {
    Ok(matches!(
        dir.read_if_there(V1_STATE)?.unwrap_or_default().trim(),
        "FROZEN" | "FREEZING"
    ))
}

pub(super) fn unified_is_frozen(dir: &Dir) -> SysResult<bool> {
    Ok(dir
        .read_if_there("cgroup.freeze")?
        .unwrap_or_default()
        .trim()
        == "1")
}

fn freeze_v1(dir: &Dir) -> Result<(), Cause> {
    let frozen = try_freeze_v1(dir);
    if !matches!(frozen, Ok(true)) {
        // Half frozen is worse than running: nobody would look for that.
        dir.write(V1_STATE, "THAWED")?;
    }
    if frozen? { Ok(()) } else { Err(unable()) }
}

/// The kernel says FREEZING until the last has stopped, and tells nobody when that is.
fn try_freeze_v1(dir: &Dir) -> Result<bool, Cause> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let mut wait = FIRST_WAIT;
        for _ in 0..LOOKS_PER_TRY {
            // Written each time: it takes the ones that came since.
            dir.write(V1_STATE, "FROZEN")?;
            match dir.read(V1_STATE)?.trim() {
                "FROZEN" => return Ok(true),
                "FREEZING" => {}
                other => {
                    let problem = format!("unexpected state {other} while freezing");
                    let fix = "see whether a group above this one is being changed".into();
                    return Err(Cause::Refused { problem, fix });
                }
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        dir.write(V1_STATE, "THAWED")?;
    }
    Ok(false)
}

fn thaw_v1(dir: &Dir) -> Result<(), Cause> {
    dir.write(V1_STATE, "THAWED")?;
    if is_frozen(dir)? {
        // A group above keeps it.
        return Err(Cause::Refused {
            problem: format!("{} is still frozen", dir.path().display()),
            fix: "thaw the group above it".into(),
        });
    }
    Ok(())
}

fn freeze_v2(dir: &Dir) -> Result<(), Cause> {
    let events = dir.file("cgroup.events", OFlag::O_RDONLY)?;
    dir.write("cgroup.freeze", "1")?;
    let end = Instant::now() + LIMIT;
    loop {
        let mut text = [0_u8; 256];
        let length = nix::sys::uio::pread(&events, &mut text, 0)
            .map_err(|errno| SysError::new("pread64", "cgroup.events", errno))?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        // Ready at once if it changed between the read and here.
        if left.is_zero() || !poll(&mut [Watch::changed(events.as_fd())], Some(left))? {
            dir.write("cgroup.freeze", "0")?;
            return Err(unable());
        }
    }
}

fn unable() -> Cause {
    Cause::Refused {
        problem: "unable to freeze".into(),
        fix: "try again: a process was in a call that cannot be interrupted".into(),
    }
}
