//! Groups for the limits that a plan asks for. Each directory is locked (`flock(2)`) by an open file that the supervisor and its janitor
//! share: a directory that can be locked belongs to nobody any more, whatever became of them, and the next sandbox of that id takes it away.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use airtight_plan::CgroupPlan;
use airtight_sys::namespace::{self, Forked};
use airtight_sys::open::open_beneath;
use airtight_sys::poll::{Watch, poll};
use airtight_sys::{Result, SysError, directory, signal};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::Cause;
use crate::janitor::Janitor;

/// Rounds of looking whether a group is empty, and how long each waits for the ends of what is in it.
const ROUNDS: usize = 20;
const ROUND: Duration = Duration::from_millis(100);

/// The groups of one sandbox. Dropped when the sandbox has ended: they are removed then.
#[derive(Debug)]
pub(crate) struct Cgroups {
    groups: Vec<Group>,
    joins: Joins,
    /// Removes them even if this process is killed.
    janitor: Option<Janitor>,
}

/// By what the child gets into its groups.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// The child writes `0` to each.
    tasks: Vec<OwnedFd>,
    /// The child is born in it.
    unified: Option<Unified>,
}

#[derive(Debug)]
struct Unified {
    dir: OwnedFd,
    /// For a kernel that refuses to have it born there.
    procs: OwnedFd,
}

/// One directory of ours.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) parent: File,
    pub(crate) name: PathBuf,
    /// Holds the lock. Open for as long as the group is in use.
    pub(crate) dir: File,
}

/// Makes the groups of a plan, with their limits, and opens for each the file by which the child joins.
pub(crate) fn make(plans: &[CgroupPlan], id: &str) -> std::result::Result<Cgroups, Cause> {
    let mut cgroups = Cgroups {
        groups: Vec::new(),
        joins: Joins::default(),
        janitor: None,
    };
    for plan in plans {
        cgroups.groups.push(Group::make(&plan.dir, id)?);
    }
    // Before anything else is done with them, so that a kill of this process leaves nothing.
    cgroups.janitor = Some(Janitor::start(&cgroups.groups)?);
    for (plan, group) in plans.iter().zip(&cgroups.groups) {
        for (file, value) in &plan.settings {
            let path = plan.dir.join(file);
            let setting = open_beneath(&group.dir, Path::new(file), OFlag::O_WRONLY)?;
            directory::write_value(
                &setting,
                value.as_bytes(),
                &format!("{}, {value:?}", path.display()),
            )?;
        }
        let open = |file| open_beneath(&group.dir, Path::new(file), OFlag::O_WRONLY);
        if plan.v2 {
            let dir = group.dir.try_clone().map_err(|error| Cause::File {
                path: plan.dir.clone(),
                error,
            })?;
            cgroups.joins.add_v2(dir.into(), open("cgroup.procs")?);
        } else {
            cgroups.joins.add_v1(open("tasks")?);
        }
    }
    Ok(cgroups)
}

impl Joins {
    /// `tasks` moves one thread, which is all that there is of a child, and waits for nothing.
    pub(crate) fn add_v1(&mut self, tasks: OwnedFd) {
        self.tasks.push(tasks);
    }

    /// `dir` is the group, `procs` its `cgroup.procs`. One hierarchy has one group.
    pub(crate) fn add_v2(&mut self, dir: OwnedFd, procs: OwnedFd) {
        self.unified = Some(Unified { dir, procs });
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.tasks.len() + usize::from(self.unified.is_some())
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes the child, in the group of v2 if there is one. `true`: it was born there.
    pub(crate) fn clone(&self, namespaces: CloneFlags) -> Result<(Forked, bool)> {
        if let Some(unified) = &self.unified
            && let Ok(forked) = namespace::clone_into_cgroup(namespaces, unified.dir.as_fd())
        {
            return Ok((forked, true));
        }
        // What the group refuses, its `cgroup.procs` refuses too, and says better.
        Ok((namespace::clone_into(namespaces)?, false))
    }

    /// In the child: enters every group that it was not `born` in. `0` is the writer itself, whatever its pid namespace.
    pub(crate) fn enter(&self, born: bool) -> Result<()> {
        let unified = self.unified.as_ref().filter(|_| !born);
        self.tasks
            .iter()
            .chain(unified.map(|unified| &unified.procs))
            .try_for_each(|group| {
                directory::write_value(group, b"0", "the tasks of a group, \"0\"")
            })
    }
}

impl Cgroups {
    pub(crate) fn joins(&self) -> &Joins {
        &self.joins
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.joins.clear();
        // It has all that it needs, and when it has ended in order they are gone.
        let gone = self.janitor.take().is_some_and(Janitor::finish);
        if !gone {
            self.groups.iter().for_each(|group| drop(group.remove()));
        }
    }
}

impl Group {
    fn make(path: &Path, id: &str) -> std::result::Result<Self, Cause> {
        let at = |error| Cause::File {
            path: path.to_owned(),
            error,
        };
        let taken = || Cause::Refused {
            problem: format!("a sandbox with the id {id} holds {}", path.display()),
            fix: "wait for its end, or choose another id".to_owned(),
        };
        match std::fs::create_dir(path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                // Left by one that was killed together with its janitor, or still in use. What it held dies with it; whoever lives in there is another's.
                let old = Self::open(path).map_err(at)?;
                old.dir.try_lock().map_err(|_| taken())?;
                old.remove_when_empty().map_err(|_| taken())?;
                std::fs::create_dir(path).map_err(|_| taken())?;
            }
            made => made.map_err(at)?,
        }
        let group = Self::open(path).map_err(at)?;
        group.dir.try_lock().map_err(|_| taken())?;
        Ok(group)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Self {
            parent: File::open(parent)?,
            name: name.into(),
            dir: File::open(path)?,
        })
    }

    fn remove_when_empty(&self) -> Result<()> {
        for _ in 0..ROUNDS {
            match unlinkat(&self.parent, &self.name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::EBUSY) => std::thread::sleep(ROUND),
                Err(errno) => return Err(self.failed("unlinkat", errno)),
            }
        }
        Err(self.failed("unlinkat", Errno::EBUSY))
    }

    /// Kills whatever is left inside and removes the directory.
    pub(crate) fn remove(&self) -> Result<()> {
        for _ in 0..ROUNDS {
            match unlinkat(&self.parent, &self.name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::EBUSY) => self.kill_members()?,
                Err(errno) => return Err(self.failed("unlinkat", errno)),
            }
        }
        Err(self.failed("unlinkat", Errno::EBUSY))
    }

    /// A number read from the list may belong to another process by the time of the signal: a descriptor is made for it first, and only
    /// one that is on the list after that is killed.
    fn kill_members(&self) -> Result<()> {
        let held: Vec<(i32, OwnedFd)> = self
            .members()?
            .into_iter()
            .filter_map(|pid| signal::pidfd_open(pid).ok().map(|fd| (pid, fd)))
            .collect();
        let still = self.members()?;
        for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            // Ended meanwhile, or out of our reach: the next round sees which.
            drop(signal::pidfd_send_signal(pidfd, signal::SIGKILL));
        }
        // One is enough to wait for: the rest of the round is the next one's. None: the last one has left the list and not yet the group.
        let mut watches: Vec<Watch<'_>> = held
            .iter()
            .map(|(_, pidfd)| Watch::readable(pidfd.as_fd()))
            .collect();
        poll(&mut watches, Some(ROUND)).map(drop)
    }

    fn members(&self) -> Result<Vec<i32>> {
        // Opened anew each time: an open list of cgroup v1 is up to a second old.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let list = nix::fcntl::openat(
            &self.dir,
            "cgroup.procs",
            flags,
            nix::sys::stat::Mode::empty(),
        )
        .map_err(|errno| self.failed("openat", errno))?;
        let text = io::read_to_string(File::from(list))
            .map_err(|err| self.failed("read", Errno::from_raw(err.raw_os_error().unwrap_or(0))))?;
        // 0 is a process that this pid namespace does not show.
        Ok(text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 0)
            .collect())
    }

    fn failed(&self, call: &'static str, errno: Errno) -> SysError {
        SysError::new(call, format!("{:?}", self.name), errno)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{ProbeInput, probe};

    /// A directory of the caller's own where groups can be made, or a word on why the test is skipped.
    fn place() -> Option<PathBuf> {
        let found = probe(&ProbeInput::default()).cgroup;
        let dir = found.v1.get("pids").cloned().or(found.v2.map(|v2| v2.dir));
        if dir.is_none() {
            assert!(
                std::env::var_os("AIRTIGHT_MUST_RUN").is_none(),
                "no cgroup may be made here"
            );
            eprintln!("skipped: no cgroup may be made here");
        }
        dir
    }

    #[test]
    fn privileged_a_group_is_its_makers_until_it_is_let_go_and_is_removed_with_what_is_in_it() {
        let Some(dir) = place() else { return };
        let path = dir.join(format!("airtight-test-{}", std::process::id()));
        let first = Group::make(&path, "x").unwrap();
        let taken = Group::make(&path, "x").unwrap_err().to_string();
        assert!(
            taken.contains("a sandbox with the id x holds") && taken.contains("fix: "),
            "{taken}"
        );

        let mut sleeper = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        std::fs::write(path.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        // As after a kill of the supervisor and of its janitor: the lock goes with the last descriptor.
        drop(first);
        let taken = Group::make(&path, "x").unwrap_err().to_string();
        assert!(taken.contains("holds"), "{taken}");
        assert_eq!(sleeper.try_wait().unwrap(), None, "another's lives on");
        let second = Group::open(&path).unwrap();
        second.remove().unwrap();
        assert_eq!(sleeper.wait().unwrap().code(), None, "its own is killed");
        let third = Group::make(&path, "x").unwrap();
        drop(third);
        let second = Group::make(&path, "x").unwrap();
        second.remove().unwrap();
        assert!(!path.exists());
        second.remove().unwrap();
    }
}
