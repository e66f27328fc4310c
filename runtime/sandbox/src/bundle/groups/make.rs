//! Making groups. What was made is removed again when one of them fails, or a later step of the launch; what was there before stays.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};
use std::rc::Rc;

use airtight_plan::bundle::{BundleGroup, GroupPlan};
use airtight_sys::bpf::{self, Insn};
use airtight_sys::{Result as SysResult, SysError};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use super::dir::{Dir, there};
use super::remove::remove_soon;
use super::{freezer, inherit, settings};
use crate::cgroup::Joins;
use crate::error::Cause;

/// As all groups are: who may read its statistics is its parent's matter.
const MODE: Mode = Mode::from_bits_truncate(0o755);

/// All groups of a plan. Dropped before [`Made::keep`], it takes back what was not there before.
#[derive(Debug, Default)]
pub(in crate::bundle) struct Made {
    pub(super) joins: Joins,
    /// Beside those of the plan.
    pub(super) warnings: Vec<String>,
    /// Directories that were not there before, in the order of their making: the parent, and the name in it.
    new: Vec<(Rc<Dir>, OsString)>,
    /// As the plan says.
    exclusive: bool,
}

pub(super) fn make(plan: &GroupPlan) -> Result<Made, Cause> {
    let mut made = Made::default();
    made.exclusive = plan.exclusive;
    for group in &plan.groups {
        let done = made.group(group);
        match done {
            Ok(()) => {}
            Err(cause) => without(group, cause)?,
        }
    }
    Ok(made)
}

/// Whether the launch goes on without this group.
fn without(group: &BundleGroup, cause: Cause) -> Result<(), Cause> {
    let denied = matches!(
        &cause,
        Cause::Sys(SysError {
            errno: Errno::EACCES | Errno::EPERM | Errno::EROFS,
            ..
        })
    );
    if !denied {
        return Err(cause);
    }
    if !group.optional {
        return Err(Cause::Refused {
            problem: format!("{cause}: permission denied"),
            fix: "let this user have the group, or leave linux.cgroupsPath out".into(),
        });
    }
    let Some(first) = group.settings.first() else {
        return Ok(());
    };
    let controller = first.file.split('.').next().unwrap_or_default();
    let problem = if group.place.is_v2() {
        format!(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {cause}"
        )
    } else {
        format!("cannot set {controller} limit: container could not join or create cgroup")
    };
    Err(Cause::Refused {
        problem,
        fix: "let this user have the group (systemd-run --user --scope -p Delegate=yes …), or leave the limits out".into(),
    })
}

impl Made {
    fn group(&mut self, group: &BundleGroup) -> Result<(), Cause> {
        let mount = Rc::new(Dir::mount(&group.place)?);
        if self.at_once(group, &mount)? {
            return Ok(());
        }
        self.by_names(group, mount)
    }

    /// A new group of v1 whose parent is there and gives it nothing, or gives it by itself: one call makes it. No hierarchy holds links, and what else may be
    /// mounted on the way is seen in what is opened then.
    fn at_once(&mut self, group: &BundleGroup, mount: &Rc<Dir>) -> Result<bool, Cause> {
        let place = &group.place;
        let plain = place
            .dir
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let inherits = !group.inherit.is_empty();
        if !plain || place.is_v2() || inherits && !inherit::is_copied(mount, &place.dir)? {
            return Ok(false);
        }
        match mkdirat(mount.as_ref(), &place.dir, MODE) {
            Ok(()) => {}
            // There already, or its parent is not, or it has no name: all that is seen name by name.
            Err(_) => return Ok(false),
        }
        self.new.push((mount.clone(), place.dir.clone().into()));
        if group.settings.is_empty() && !inherits {
            // Nothing else of it is touched.
            let tasks = mount.file(place.dir.join("tasks"), OFlag::O_WRONLY)?;
            mount.prove_file(&tasks, false)?;
            self.joins.add_v1(tasks);
            return Ok(true);
        }
        let dir = mount.below(&place.dir)?;
        dir.prove(false)?;
        let parent = place.dir.parent().filter(|parent| *parent != Path::new(""));
        match parent.filter(|_| inherits) {
            Some(parent) => self.fill(group, &mount.below(parent)?, &dir, false)?,
            None => self.fill(group, mount, &dir, false)?,
        }
        dir.let_join(false, &mut self.joins)?;
        Ok(true)
    }

    fn by_names(&mut self, group: &BundleGroup, mount: Rc<Dir>) -> Result<(), Cause> {
        let mut dir = mount;
        let mut names = group.place.dir.components().peekable();
        let mut existed = true;
        while let Some(name) = names.next() {
            let Component::Normal(name) = name else {
                return Err(Cause::Sys(SysError::new(
                    "mkdirat",
                    format!("{:?}", group.place.dir),
                    Errno::EINVAL,
                )));
            };
            enable(&dir, &group.controllers)?;
            existed = !self.directory(&dir, name)?;
            let below = Rc::new(dir.below(Path::new(name))?);
            if names.peek().is_some() {
                // From the top down: a child takes no more than its parent has.
                inherit::fill(&group.inherit, &dir, &below, existed)?;
                if !existed {
                    inherit::pass_on(&below, &group.inherit)?;
                }
            } else {
                if existed {
                    self.used_before(group, &below)?;
                }
                self.fill(group, &dir, &below, existed)?;
            }
            dir = below;
        }
        if existed && group.place.dir.as_os_str().is_empty() {
            return Err(Cause::Sys(SysError::new(
                "mkdirat",
                "the root of a hierarchy",
                Errno::EINVAL,
            )));
        }
        Ok(dir.let_join(group.place.is_v2(), &mut self.joins)?)
    }

    /// `true`: made just now.
    fn directory(&mut self, parent: &Rc<Dir>, name: &OsStr) -> Result<bool, Cause> {
        match mkdirat(parent.as_ref(), name, MODE) {
            Ok(()) => {
                // Kept open, since the whole is taken back below what it was made in.
                self.new.push((parent.clone(), name.to_owned()));
                Ok(true)
            }
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => {
                let shown = parent.path().join(name).display().to_string();
                Err(Cause::Sys(SysError::new("mkdirat", shown, errno)))
            }
        }
    }

    /// Another's processes in it would share the limits and be killed with the container; a frozen one would never start.
    fn used_before(&mut self, group: &BundleGroup, dir: &Dir) -> Result<(), Cause> {
        if self.exclusive {
            is_nobodys(dir)?;
        }
        if group.place.has("freezer") || group.place.is_v2() {
            let frozen = if group.place.is_v2() {
                freezer::unified_is_frozen(dir)?
            } else {
                freezer::is_frozen(dir)?
            };
            if frozen {
                return Err(Cause::Refused {
                    problem: "container's cgroup unexpectedly frozen".into(),
                    fix: format!(
                        "thaw {}, or name another linux.cgroupsPath",
                        dir.path().display()
                    ),
                });
            }
        }
        if group.place.has("devices") || group.place.is_v2() {
            let inside = there(dir.read("cgroup.procs"))?
                .unwrap_or_default()
                .lines()
                .count();
            if inside > 0 {
                // Limits set here would be theirs too, and what ends this container would end them.
                return Err(Cause::Refused {
                    problem: format!("container's cgroup is not empty: {inside} process(es) found"),
                    fix: format!(
                        "empty {}, or name another linux.cgroupsPath",
                        dir.path().display()
                    ),
                });
            }
        }
        Ok(())
    }

    fn fill(
        &mut self,
        group: &BundleGroup,
        parent: &Dir,
        dir: &Dir,
        existed: bool,
    ) -> Result<(), Cause> {
        if group.place.is_v2() && !group.controllers.is_empty() {
            settle_type(group, dir)?;
        }
        settings::write(dir, &group.settings, &mut self.warnings)?;
        if existed || !group.settings.is_empty() {
            // What a setting has just written is not empty.
            inherit::fill(&group.inherit, parent, dir, true)?;
        } else {
            inherit::fill_new(&group.inherit, parent, dir)?;
        }
        if let Some(set) = &group.devices {
            let program: Vec<Insn> = airtight_plan::bundle::device_program(set)
                .into_iter()
                .map(|it| Insn {
                    code: it.code,
                    registers: it.registers,
                    offset: it.offset,
                    immediate: it.immediate,
                })
                .collect();
            bpf::attach_device_program(dir, &bpf::load_device_program(&program)?)?;
        }
        Ok(())
    }

    /// They are in the container's state, and `delete` removes them.
    pub(in crate::bundle) fn keep(mut self) {
        self.new.clear();
    }
}

impl Drop for Made {
    /// What fails to go is another's by now, or empty and harmless: the error that led here is told.
    fn drop(&mut self) {
        self.joins.clear();
        while let Some((parent, name)) = self.new.pop() {
            drop(remove_soon(&parent, &name));
        }
    }
}

/// Before anything is written to it.
fn is_nobodys(dir: &Dir) -> Result<(), Cause> {
    // A group of threads, which tells no processes, is another's as well.
    let processes = !matches!(there(dir.read("cgroup.procs")), Ok(list) if list.as_deref().unwrap_or_default().is_empty());
    if !processes && there(dir.children())?.unwrap_or_default().is_empty() {
        return Ok(());
    }
    Err(Cause::Refused {
        problem: format!(
            "linux.cgroupsPath: {} is another's: it has processes, or groups below it",
            dir.path().display()
        ),
        fix: "name a group of the container's own".into(),
    })
}

/// Controllers for the children of `dir`, as far as it has them itself: what it lacks is told by the setting that misses its file.
fn enable(dir: &Dir, controllers: &[String]) -> SysResult<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    // Reading is cheap; each write waits for every other change of a group on this host.
    let on = dir.read("cgroup.subtree_control")?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|name| !on.split_whitespace().any(|word| word == name.as_str()))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty()
        || dir
            .write("cgroup.subtree_control", &missing.join(" "))
            .is_ok()
    {
        return Ok(());
    }
    for one in missing {
        match dir.write("cgroup.subtree_control", &one) {
            // Not given from above, not permitted, or kept from a group that has processes.
            Ok(())
            | Err(SysError {
                errno:
                    Errno::ENOENT
                    | Errno::EACCES
                    | Errno::EPERM
                    | Errno::EBUSY
                    | Errno::EROFS
                    | Errno::EOPNOTSUPP
                    | Errno::EINVAL,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A group below a threaded one takes threads only, and no controller that counts by process.
fn settle_type(group: &BundleGroup, dir: &Dir) -> Result<(), Cause> {
    let kind = dir.read("cgroup.type")?;
    let kind = kind.trim();
    if kind == "domain" {
        return Ok(());
    }
    let by_process = ["memory.", "io.", "cpu.", "hugetlb."];
    let asked = group.settings.iter().any(|setting| {
        by_process
            .iter()
            .any(|prefix| setting.file.starts_with(prefix))
    });
    let path = dir.path().display();
    let problem = match (kind, asked) {
        ("domain invalid", true) => {
            format!(
                "cannot enter cgroupv2 {path:?} with domain controllers -- it is in an invalid state"
            )
        }
        ("domain invalid", false) => return Ok(dir.write("cgroup.type", "threaded")?),
        (_, true) => format!(
            "cannot enter cgroupv2 {path:?} with domain controllers -- it is in {kind} mode"
        ),
        (_, false) => return Ok(()),
    };
    Err(Cause::Refused {
        problem,
        fix: "name a linux.cgroupsPath whose parents have no processes".into(),
    })
}
