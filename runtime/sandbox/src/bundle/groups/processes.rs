//! The processes of a container, and signals to all of them.

use std::collections::BTreeSet;
use std::path::Path;

use airtight_sys::{Result as SysResult, SysError, signal};
use nix::errno::Errno;

use super::Groups;
use super::dir::{Dir, there};
use crate::error::Cause;

/// Rounds in which processes are found that the one before did not signal. More than a few mean that they fork faster than we look.
const ROUNDS: usize = 8;
/// Descriptors that are open at a time.
const HELD: usize = 64;

impl Groups {
    /// As this pid namespace numbers them, in order; with those of groups that the container made below its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pids(&self) -> Result<Vec<i32>, Cause> {
        let mut found = BTreeSet::new();
        if let Some(dir) = self.members()? {
            members(&dir, &mut found)?;
        }
        Ok(found.into_iter().collect())
    }

    /// Sends `number` to every process; one of SIGKILL leaves none that could fork another. Returns how many were sent one, if that is known.
    ///
    /// # Errors
    /// The kernel's: `EPERM`.
    pub fn signal_all(&self, number: i32) -> Result<Option<usize>, Cause> {
        if number != signal::SIGKILL {
            let mut done = BTreeSet::new();
            self.round(number, &mut done)?;
            return Ok(Some(done.len()));
        }
        // One write, and no fork escapes it (5.14). Beside v1 the container's processes are in that tree too.
        if let Some(dir) = self.unified()?
            && there(dir.write("cgroup.kill", "1"))?.is_some()
        {
            return Ok(None);
        }
        let mut done = BTreeSet::new();
        for _ in 0..ROUNDS {
            if !self.round(number, &mut done)? {
                return Ok(Some(done.len()));
            }
        }
        // They fork faster than that: stopped, they do not, and a signal that kills is the first that they find when they go on.
        self.freeze()?;
        let killed = self.round(number, &mut done);
        self.thaw()?;
        killed?;
        Ok(Some(done.len()))
    }

    /// Each process once. `true`: there was one that no round before had seen.
    fn round(&self, number: i32, done: &mut BTreeSet<i32>) -> Result<bool, Cause> {
        let mut new = false;
        let list = || {
            self.pids()
                .map(|pids| pids.into_iter().collect::<BTreeSet<_>>())
        };
        signal_listed(list, number, |pid, sent| match sent {
            Ok(()) => {
                new |= done.insert(pid);
                Ok(())
            }
            Err(error) if error.errno == Errno::ESRCH => Ok(()),
            Err(error) => Err(error.into()),
        })?;
        Ok(new)
    }

    /// The group that tells. On v1 any would do, and the container can reach none of them.
    fn members(&self) -> SysResult<Option<Dir>> {
        if let Some(dir) = self.unified()? {
            return Ok(Some(dir));
        }
        for controller in ["devices", "freezer", "pids", "memory", "name=systemd"] {
            if let Some(dir) = self.of(controller)? {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }
}

/// Sends `number` to every process that `list` names, and tells `each` how that went.
pub(super) fn signal_listed<E>(
    list: impl Fn() -> Result<BTreeSet<i32>, E>,
    number: i32,
    mut each: impl FnMut(i32, SysResult<()>) -> Result<(), E>,
) -> Result<(), E> {
    let pids: Vec<i32> = list()?.into_iter().collect();
    // A container may have more processes than this one may have descriptors.
    for some in pids.chunks(HELD) {
        let mut held = Vec::with_capacity(some.len());
        for pid in some {
            match signal::pidfd_open(*pid) {
                Ok(pidfd) => held.push((*pid, pidfd)),
                Err(error) => each(*pid, Err(error))?,
            }
        }
        // A number may have gone to another process between the list and the descriptor, and a container that forks fast sees to that: only one that is on
        // the list after that is ours.
        let still = list()?;
        for (pid, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            each(*pid, signal::pidfd_send_signal(pidfd, number))?;
        }
    }
    Ok(())
}

pub(super) fn members(dir: &Dir, found: &mut BTreeSet<i32>) -> SysResult<()> {
    listed(dir, Path::new("cgroup.procs"), found)?;
    dir.walk(|parent, name| listed(parent, &Path::new(name).join("cgroup.procs"), found))
}

fn listed(dir: &Dir, file: &Path, found: &mut BTreeSet<i32>) -> SysResult<()> {
    // One of threads tells no processes; they are in the group above it.
    let list = match dir.read(file) {
        Err(SysError {
            errno: Errno::EOPNOTSUPP,
            ..
        }) => None,
        read => there(read)?,
    };
    // 0 is a process that this pid namespace does not show.
    let pids = list
        .iter()
        .flat_map(|list| list.lines())
        .filter_map(|line| line.parse().ok());
    found.extend(pids.filter(|pid: &i32| *pid > 0));
    Ok(())
}
