//! A bundle's groups: made and filled before the child exists, joined by it, and from then on found again by the places that the container's state keeps.
//!
//! Every file is reached by descriptor below the mount of its hierarchy, which is proven to be a cgroup file system.

mod current;
mod dir;
mod freezer;
mod inherit;
mod make;
mod oom;
mod processes;
mod remove;
mod settings;
mod stats;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use airtight_plan::bundle::{GroupPlace, GroupPlan, Hierarchies};
use airtight_sys::{Result as SysResult, SysError};
use nix::errno::Errno;

use crate::error::Cause;
use crate::parent::Parent;

pub use oom::{Oom, OomWatch};
pub use remove::Inside;

use dir::Dir;
pub(super) use make::Made;

/// The hierarchies that are mounted here.
///
/// # Errors
/// `/proc` does not tell.
pub fn hierarchies() -> Result<Hierarchies, Cause> {
    let read = |path: &str| {
        // procfs tells no length, and a guess that grows from 32 bytes is a dozen calls.
        let mut text = String::with_capacity(16 << 10);
        File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|error| Cause::File {
                path: path.into(),
                error,
            })?;
        Ok::<_, Cause>(text)
    };
    let own = read("/proc/self/cgroup")?;
    let mountinfo = read("/proc/self/mountinfo")?;
    let systemd = std::path::Path::new("/run/systemd/system").is_dir();
    Ok(Hierarchies::read(&own, &mountinfo, systemd, &|mount| {
        // None, if it cannot be read: a limit that needs one is refused then.
        std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
    }))
}

/// The groups of a container, by their places. One that is not there any more has nothing in it.
#[derive(Clone, Debug)]
pub struct Groups {
    places: Vec<GroupPlace>,
}

impl Groups {
    #[must_use]
    pub fn new(places: Vec<GroupPlace>) -> Self {
        Self { places }
    }

    #[must_use]
    pub fn places(&self) -> &[GroupPlace] {
        &self.places
    }

    /// New limits for the groups of these places, as [`airtight_plan::bundle::update_plan`] says them. Returns what could not be set and may lack.
    ///
    /// # Errors
    /// The first value that the kernel refused; those before it stay.
    pub fn update(plan: &GroupPlan) -> Result<Vec<String>, Cause> {
        let mut warnings = plan.warnings.clone();
        for group in plan
            .groups
            .iter()
            .filter(|group| !group.settings.is_empty())
        {
            let dir = Dir::open(&group.place)?;
            settings::write(&dir, &group.settings, &mut warnings)?;
        }
        Ok(warnings)
    }

    /// The group of a v1 controller.
    fn of(&self, controller: &str) -> SysResult<Option<Dir>> {
        self.find(|place| place.has(controller))
    }

    fn unified(&self) -> SysResult<Option<Dir>> {
        self.find(GroupPlace::is_v2)
    }

    fn find(&self, wanted: impl Fn(&GroupPlace) -> bool) -> SysResult<Option<Dir>> {
        match self.places.iter().find(|place| wanted(place)) {
            Some(place) => Dir::open_if_there(place),
            None => Ok(None),
        }
    }

    /// v2 alone: no v1 hierarchy has a group.
    fn only_unified(&self) -> bool {
        self.places.iter().all(GroupPlace::is_v2)
    }
}

impl Parent<'_> {
    pub(super) fn groups(&mut self, plan: &GroupPlan) -> Result<(), Cause> {
        let mut made = make::make(plan)?;
        self.bundle.groups = std::mem::take(&mut made.joins);
        if let Some(context) = self.bundle.context {
            context.warnings.borrow_mut().append(&mut made.warnings);
        }
        self.bundle.made = Some(made);
        Ok(())
    }

    /// Groups that another process of the container is in. One that is gone had no process: the container moved itself, and further ones follow it, so
    /// that none runs outside its limits.
    pub(super) fn join_groups(
        &mut self,
        places: &[GroupPlace],
        pid: i32,
        named: bool,
    ) -> Result<(), Cause> {
        for place in places {
            let dir = match Dir::open_if_there(place)? {
                Some(dir) if place.is_v2() && has_groups_below(&dir)? => of_process(place, pid)?,
                Some(dir) => dir,
                None if named => {
                    let shown = place.mount.join(&place.dir);
                    return Err(Cause::Refused {
                        problem: format!(
                            "adding pid to cgroup {}: no such file or directory",
                            shown.display()
                        ),
                        fix: "make it, or name one that is there with --cgroup".into(),
                    });
                }
                None => {
                    self.follow(place, pid)?;
                    continue;
                }
            };
            dir.let_join(place.is_v2(), &mut self.bundle.groups)?;
        }
        Ok(())
    }

    /// To where the container's process is. That is where this one is already if the caller could make no groups; then it has no right to others' either, and
    /// there is no limit of the container's that it could be outside of.
    fn follow(&mut self, place: &GroupPlace, pid: i32) -> Result<(), Cause> {
        if group_of(place, &pid.to_string())? == group_of(place, "self")? {
            return Ok(());
        }
        let joined = of_process(place, pid).and_then(|dir| {
            dir.let_join(place.is_v2(), &mut self.bundle.groups)
                .map_err(Cause::from)
        });
        match joined {
            // Who may change groups is never told this.
            Err(Cause::Sys(SysError {
                errno: Errno::EACCES | Errno::EPERM,
                ..
            })) => Ok(()),
            other => other,
        }
    }
}

/// Gives controllers to groups below it, and so takes no process itself.
fn has_groups_below(dir: &Dir) -> SysResult<bool> {
    let given = dir.read_if_there("cgroup.subtree_control")?;
    Ok(given.is_some_and(|given| !given.trim().is_empty()))
}

/// The group of this hierarchy that this process of the container is in.
fn of_process(place: &GroupPlace, pid: i32) -> Result<Dir, Cause> {
    let group = group_of(place, &pid.to_string())?;
    let dir = if group.as_os_str().is_empty() {
        // The hierarchy's own.
        ".".into()
    } else {
        group
    };
    Ok(Dir::open(&GroupPlace {
        dir,
        ..place.clone()
    })?)
}

/// As `/proc/PROCESS/cgroup` tells it, without the slash in front.
fn group_of(place: &GroupPlace, process: &str) -> Result<PathBuf, Cause> {
    let path = PathBuf::from(format!("/proc/{process}/cgroup"));
    let text = std::fs::read_to_string(&path).map_err(|error| Cause::File { path, error })?;
    let group = text
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(":/"))
        .find_map(|(hierarchy, group)| (hierarchy == place.hierarchy).then_some(group))
        .unwrap_or_default();
    Ok(group.into())
}

#[cfg(test)]
mod tests;
