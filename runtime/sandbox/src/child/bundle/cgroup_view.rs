//! The container's own view of its groups.
//!
//! v2: the one tree, from the container's own group down. v1: a small tmpfs with a directory for each hierarchy, named as on the host, in which the container's own group is; and
//! a link for each controller that shares a hierarchy. On a host that has both, the hierarchies of v1, since those have the controllers.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use airtight_plan::bundle::{BundleParentStep, BundleStep, MountStep, NamespaceKind};
use airtight_plan::{ChildStep, ParentStep};
use airtight_sys::directory::{self, open_path_follow};
use airtight_sys::mount::{self, Change};
use airtight_sys::{SysError, open, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;

use super::super::{Child, Failure, Result};
use super::below::{Links, Missing};
use super::mounts::{change_attributes, new_filesystem, put};
use super::root::unescape;

/// `f_type` of a v2 tree.
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// `f_type` of a hierarchy of v1.
const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;
const HOST: &str = "/sys/fs/cgroup";

/// What every mount of groups has.
const FIXED: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// One v1 hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// `cpu,cpuacct`, or `name=systemd`.
    controllers: String,
    /// The directory's name where the host mounts it.
    name: String,
    /// The container's own group.
    group: PathBuf,
}

impl Child<'_> {
    pub(super) fn cgroup_view(
        &mut self,
        step: &MountStep,
        read_only: bool,
        shown: bool,
    ) -> Result<()> {
        let host = open_path_follow(Path::new(HOST), OFlag::O_PATH)?;
        if process::filesystem_type(&host)? == CGROUP2_SUPER_MAGIC {
            let tree = self.tree_of_v2(step, read_only)?;
            let place = self.place(&step.destination, Links::Follow, Missing::Directory)?;
            return put(&tree, &place, step);
        }
        let bits = FIXED | (step.set & !libc::MOUNT_ATTR_RDONLY);
        let mode = ("mode".to_owned(), Some("755".to_owned()));
        let top = new_filesystem("tmpfs", "tmpfs", &[mode], bits)?;
        let place = self.place(&step.destination, Links::Follow, Missing::Directory)?;
        // Attached before it is filled: before 6.15 the kernel attaches nothing below a detached mount.
        mount::attach(&top, &place.fd)?;
        for (hierarchy, tree) in self.trees(shown)? {
            let mut set = bits;
            if read_only {
                set |= libc::MOUNT_ATTR_RDONLY;
            }
            let change = Change {
                set,
                propagation: libc::MS_PRIVATE,
                ..Change::default()
            };
            mount::change(&tree, &change, None)?;
            // The file system is ours, and nobody is in it yet.
            open::mkdir(&top, OsStr::new(&hierarchy.name), 0o755)?;
            mount::attach_at(&tree, &top, OsStr::new(&hierarchy.name))?;
            link_controllers(&top, &hierarchy)?;
        }
        if read_only {
            let change = Change {
                set: libc::MOUNT_ATTR_RDONLY,
                ..Change::default()
            };
            mount::change(&top, &change, None)?;
        }
        super::mounts::set_propagation(&top, &step.propagation)
    }

    fn tree_of_v2(&self, step: &MountStep, read_only: bool) -> Result<OwnedFd> {
        let read_only = if read_only {
            libc::MOUNT_ATTR_RDONLY
        } else {
            0
        };
        if self.has_cgroup_namespace() {
            match new_filesystem("cgroup2", "cgroup", &[], step.set | read_only) {
                // Without a user namespace that owns the cgroup namespace the kernel makes none.
                Err(Failure::Sys(SysError {
                    errno: Errno::EPERM | Errno::EBUSY,
                    ..
                })) => {}
                other => return other,
            }
        }
        let own = self
            .groups()
            .find(|group| group.place.is_v2())
            .map(|group| group.place.mount.join(&group.place.dir))
            .filter(|group| group.is_dir())
            .unwrap_or_else(|| PathBuf::from(HOST));
        let tree = mount::copy_tree(open_path_follow(&own, OFlag::O_PATH)?, false)?;
        change_attributes(&tree, step)?;
        let change = Change {
            set: read_only,
            ..Change::default()
        };
        mount::change(&tree, &change, None)?;
        Ok(tree)
    }

    fn groups(&self) -> impl Iterator<Item = &airtight_plan::bundle::BundleGroup> {
        self.inputs
            .plan
            .parent
            .iter()
            .filter_map(|step| {
                if let ParentStep::Bundle(BundleParentStep::Groups(plan)) = step {
                    Some(plan.groups.iter())
                } else {
                    None
                }
            })
            .flatten()
    }

    /// What is shown of each hierarchy, not attached yet: the container's groups as the plan has them, and, where they are not there (a caller that may not
    /// make any), those that this process is in.
    fn trees(&self, shown: bool) -> Result<Vec<(Hierarchy, OwnedFd)>> {
        let planned: Vec<_> = self
            .groups()
            .filter(|group| !group.place.is_v2())
            .map(|group| Hierarchy {
                controllers: group.place.hierarchy.clone(),
                name: name_of(&group.place.mount),
                group: group.place.mount.join(&group.place.dir),
            })
            .collect();
        let own = self.has_cgroup_namespace();
        let there =
            !planned.is_empty() && (shown || !own || planned.iter().all(|one| one.group.is_dir()));
        if there {
            match tree_of_each(planned, own && !shown) {
                Err(Failure::Sys(SysError {
                    errno: Errno::ENOENT,
                    ..
                })) => {}
                trees => return trees,
            }
        }
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| Failure::Said(format!("{path}: {error}")))
        };
        let found = own_hierarchies(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        tree_of_each(found, own)
    }

    fn has_cgroup_namespace(&self) -> bool {
        let steps = &self.inputs.plan.child;
        let made = steps.contains(&ChildStep::UnshareCgroup);
        let joins = steps.contains(&ChildStep::Bundle(BundleStep::JoinNamespaces));
        made || joins
            && self.inputs.plan.parent.iter().any(|step| {
                matches!(step, ParentStep::Bundle(BundleParentStep::OpenNamespaces { namespaces })
                    if namespaces.iter().any(|join| join.kind == NamespaceKind::Cgroup))
            })
    }
}

fn tree_of_each(all: Vec<Hierarchy>, own: bool) -> Result<Vec<(Hierarchy, OwnedFd)>> {
    let tree = |hierarchy: &Hierarchy| {
        if own {
            own_hierarchy(hierarchy)
        } else {
            let tree = mount::clone_tree_at(&hierarchy.group)?;
            match process::filesystem_type(&tree)? {
                CGROUP_SUPER_MAGIC => Ok(tree),
                other => Err(Failure::Said(format!(
                    "{}: is on a file system of type {other:#x}, not in a hierarchy of groups",
                    hierarchy.group.display()
                ))),
            }
        }
    };
    all.into_iter()
        .map(|hierarchy| tree(&hierarchy).map(|tree| (hierarchy, tree)))
        .collect()
}

/// In a cgroup namespace a mount of the hierarchy begins at the namespace's own group.
fn own_hierarchy(hierarchy: &Hierarchy) -> Result<OwnedFd> {
    let options: Vec<_> = match hierarchy.controllers.strip_prefix("name=") {
        Some(name) => vec![
            ("none".to_owned(), None),
            ("name".to_owned(), Some(name.to_owned())),
        ],
        None => hierarchy
            .controllers
            .split(',')
            .map(|controller| (controller.to_owned(), None))
            .collect(),
    };
    new_filesystem("cgroup", "cgroup", &options, FIXED)
}

fn link_controllers(top: &OwnedFd, hierarchy: &Hierarchy) -> Result<()> {
    for controller in hierarchy.controllers.split(',') {
        if controller == hierarchy.name || controller.starts_with("name=") {
            continue;
        }
        match directory::make_link(top, Path::new(controller), Path::new(&hierarchy.name)) {
            Err(SysError {
                errno: Errno::EEXIST,
                ..
            }) => {}
            other => other?,
        }
    }
    Ok(())
}

fn name_of(mount: &Path) -> String {
    mount
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The v1 hierarchies of a `mountinfo`, with the group of each that a `/proc/PID/cgroup` names.
fn own_hierarchies(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mounted, filesystem) = line.split_once(" - ")?;
            let mut fields = mounted.split(' ').skip(3);
            let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
            let mut fields = filesystem.split(' ');
            if fields.next()? != "cgroup" {
                return None;
            }
            let options = fields.nth(1)?;
            let (controllers, path) = cgroup.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                let all = controllers
                    .split(',')
                    .all(|one| options.split(',').any(|option| option == one));
                (all && !controllers.is_empty()).then_some((controllers, path))
            })?;
            // A mount that begins at a group of its own shows what is below that one.
            let below = path
                .strip_prefix(root.trim_end_matches('/'))
                .unwrap_or(path);
            Some(Hierarchy {
                controllers: controllers.to_owned(),
                name: name_of(Path::new(&point)),
                group: Path::new(&point).join(below.trim_start_matches('/')),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_with_the_own_group_of_each() {
        let mountinfo = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
36 31 0:33 /pod /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
";
        let cgroup = "3:name=systemd:/\n2:devices:/pod/a\n1:cpu,cpuacct:/a/b\n0::/x\n";
        let hierarchy = |controllers: &str, name: &str, group: &str| Hierarchy {
            controllers: controllers.into(),
            name: name.into(),
            group: group.into(),
        };
        assert_eq!(
            own_hierarchies(mountinfo, cgroup),
            [
                hierarchy(
                    "cpu,cpuacct",
                    "cpu,cpuacct",
                    "/sys/fs/cgroup/cpu,cpuacct/a/b"
                ),
                hierarchy("name=systemd", "systemd", "/sys/fs/cgroup/systemd/"),
                hierarchy("devices", "devices", "/sys/fs/cgroup/devices/a"),
            ]
        );
    }
}
