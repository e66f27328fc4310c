//! Where groups may be made, from `/proc/self/cgroup` and `/proc/self/mountinfo`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airtight_plan::{Cgroup, CgroupV2};

/// The controllers that limits are made of.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// One line of `mountinfo`, of a cgroup file system.
struct Mount<'a> {
    /// The group that the mount shows as its root.
    root: &'a str,
    point: &'a str,
    v2: bool,
    options: &'a str,
}

/// v1: the own group of each controller. v2: the nearest group upwards from the own one whose children get the most of the controllers;
/// usually its parent, since a group with processes in it gives its children none.
pub(super) fn places(
    own: &str,
    mountinfo: &str,
    writable: &dyn Fn(&Path) -> bool,
    read: &dyn Fn(&Path) -> String,
) -> Cgroup {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(mount).collect();
    let mut v1 = BTreeMap::new();
    let mut v2 = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            v2 = mounts
                .iter()
                .find(|mount| mount.v2)
                .and_then(|mount| unified(mount, group, writable, read));
            continue;
        }
        for controller in controllers
            .split(',')
            .filter(|name| CONTROLLERS.contains(name))
        {
            let of = |mount: &&Mount<'_>| {
                !mount.v2 && mount.options.split(',').any(|option| option == controller)
            };
            let dir = mounts.iter().find(of).and_then(|mount| below(mount, group));
            if let Some(dir) = dir.filter(|dir| writable(dir)) {
                v1.insert(controller.to_owned(), dir);
            }
        }
    }
    Cgroup { v1, v2 }
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    // A blank in a path is written as an escape; no cgroup is mounted at one.
    let plain = !point.contains('\\') && !root.contains('\\');
    (plain && matches!(kind, "cgroup" | "cgroup2")).then_some(Mount {
        root,
        point,
        v2: kind == "cgroup2",
        options,
    })
}

/// The directory of `group`, if the mount shows it.
fn below(mount: &Mount<'_>, group: &str) -> Option<PathBuf> {
    let inside = Path::new(group).strip_prefix(mount.root).ok()?;
    // A group outside of our cgroup namespace is shown with `..`.
    let plain = inside
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    // Joining nothing would leave a slash at the end.
    plain.then(|| Path::new(mount.point).join(inside).components().collect())
}

fn unified(
    mount: &Mount<'_>,
    group: &str,
    writable: &dyn Fn(&Path) -> bool,
    read: &dyn Fn(&Path) -> String,
) -> Option<CgroupV2> {
    let own = below(mount, group)?;
    let mut best: Option<CgroupV2> = None;
    for dir in own
        .ancestors()
        .take_while(|dir| dir.starts_with(mount.point))
    {
        // Moving a process needs the right to write the list of the common ancestor too, which is this group.
        if !writable(dir) || !writable(&dir.join("cgroup.procs")) {
            continue;
        }
        let given = read(&dir.join("cgroup.subtree_control"));
        let controllers: Vec<String> = CONTROLLERS
            .iter()
            .filter(|name| given.split_whitespace().any(|word| word == **name))
            .map(|name| (*name).to_owned())
            .collect();
        if controllers.len() > best.as_ref().map_or(0, |best| best.controllers.len()) {
            best = Some(CgroupV2 {
                dir: dir.to_owned(),
                controllers,
            });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /box /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const V2: &str =
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn v1(found: &Cgroup) -> Vec<String> {
        found
            .v1
            .iter()
            .map(|(name, dir)| format!("{name} {}", dir.display()))
            .collect()
    }

    #[test]
    fn each_controller_of_v1_has_the_directory_of_the_own_group() {
        let nothing = |_: &Path| String::new();
        let all = |_: &Path| true;
        let memory_only = |path: &Path| path.starts_with("/sys/fs/cgroup/memory");
        let own = "8:pids:/\n4:memory:/box/inner\n1:cpu,cpuacct:/\n0::/\n";
        let everything = [
            "cpu /sys/fs/cgroup/cpu,cpuacct",
            "memory /sys/fs/cgroup/memory/inner",
            "pids /sys/fs/cgroup/pids",
        ];
        type Writable<'a> = &'a dyn Fn(&Path) -> bool;
        for (name, own, writable, want) in [
            ("root", own, &all as Writable<'_>, &everything[..]),
            (
                "only some are writable",
                own,
                &memory_only,
                &everything[1..2],
            ),
            (
                "a group that the mount does not show",
                "4:memory:/other\n",
                &all,
                &[],
            ),
            (
                "a group outside of the cgroup namespace",
                "4:memory:/box/../../x\n",
                &all,
                &[],
            ),
            ("nonsense", "4memory\n:::\n", &all, &[]),
        ] {
            let found = places(own, HYBRID, writable, &nothing);
            assert_eq!(v1(&found), want, "{name}");
            assert_eq!(found.v2, None, "{name}");
        }
    }

    #[test]
    fn the_group_of_v2_is_the_nearest_that_gives_the_most() {
        let user = "/sys/fs/cgroup/user.slice/u1.service";
        let own = "0::/user.slice/u1.service/app.slice/run.scope\n";
        let control = |path: &Path| match path
            .to_str()
            .unwrap()
            .strip_prefix("/sys/fs/cgroup")
            .unwrap()
        {
            "/cgroup.subtree_control" => "cpuset cpu io memory pids".to_owned(),
            "/user.slice/u1.service/app.slice/cgroup.subtree_control" => "memory pids\n".to_owned(),
            _ => String::new(),
        };
        let root = |_: &Path| true;
        let delegated = |path: &Path| path.starts_with(user);
        let nowhere = |_: &Path| false;
        type Writable<'a> = &'a dyn Fn(&Path) -> bool;
        for (name, writable, want) in [
            (
                "root",
                &root as Writable<'_>,
                Some(("/sys/fs/cgroup".to_owned(), vec!["memory", "pids", "cpu"])),
            ),
            (
                "delegated",
                &delegated,
                Some((format!("{user}/app.slice"), vec!["memory", "pids"])),
            ),
            ("not delegated", &nowhere, None),
        ] {
            let found = places(own, V2, writable, &control).v2;
            let found = found.map(|v2| (v2.dir.to_str().unwrap().to_owned(), v2.controllers));
            assert_eq!(
                found,
                want.map(|(dir, names)| (dir, names.into_iter().map(str::to_owned).collect())),
                "{name}"
            );
        }
    }
}
