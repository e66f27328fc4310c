//! The hierarchies that are mounted here, from the text of `/proc/self/cgroup` and `/proc/self/mountinfo`.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CONTROLLERS;

/// Where groups can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies {
    pub v1: Vec<Hierarchy>,
    pub v2: Option<Unified>,
    /// systemd runs this host.
    pub systemd: bool,
}

/// A v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Its controllers, as `/proc/self/cgroup` has them: `cpu,cpuacct`, `name=systemd`.
    pub name: String,
    pub mount: PathBuf,
    /// The caller's own group, relative to `mount`. `None`: the mount does not show it.
    pub own: Option<PathBuf>,
}

/// The v2 tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unified {
    pub mount: PathBuf,
    pub own: Option<PathBuf>,
    /// `cgroup.controllers` at the mount.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// A hierarchy of resources, or the one that systemd tells services apart by; others belong to programs of their own.
    pub(super) fn used(&self) -> bool {
        self.name == "name=systemd"
            || self
                .name
                .split(',')
                .any(|name| CONTROLLERS.iter().any(|known| known.v1 == name))
    }
}

/// One visible mount of a cgroup file system.
struct Mount<'a> {
    /// The group that the mount shows as its root.
    root: &'a str,
    point: &'a str,
    v2: bool,
    options: &'a str,
}

impl Hierarchies {
    /// `controllers` reads `cgroup.controllers` of the v2 tree that is mounted at a path.
    #[must_use]
    pub fn read(
        own: &str,
        mountinfo: &str,
        systemd: bool,
        controllers: &dyn Fn(&Path) -> String,
    ) -> Self {
        let mounts = visible(mountinfo);
        let mut found = Self {
            systemd,
            ..Self::default()
        };
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(name), Some(group)) = (fields.next(), fields.next()) else {
                continue;
            };
            let Some(mount) = mounts.iter().find(|mount| mount.shows(name)) else {
                continue;
            };
            let (own, point) = (mount.below(group), PathBuf::from(mount.point));
            if mount.v2 {
                let given = controllers(&point);
                found.v2 = Some(Unified {
                    mount: point,
                    own,
                    controllers: given.split_whitespace().map(str::to_owned).collect(),
                });
            } else {
                found.v1.push(Hierarchy {
                    name: name.to_owned(),
                    mount: point,
                    own,
                });
            }
        }
        found
    }
}

/// Those that no later mount covers. The usual place comes first: containers have binds of the same hierarchies elsewhere.
fn visible(mountinfo: &str) -> Vec<Mount<'_>> {
    let mut mounts: Vec<Mount<'_>> = Vec::new();
    for line in mountinfo.lines() {
        let Some((point, mount)) = mount(line) else {
            continue;
        };
        mounts.retain(|earlier| !is_at_or_below(earlier.point, point));
        mounts.extend(mount);
    }
    mounts.sort_by_key(|mount| !mount.point.starts_with("/sys/fs/cgroup"));
    mounts
}

/// Both as the kernel writes them: without `.`, `..` or a `/` too many.
fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || above == "/")
}

/// A mount point, and what a cgroup file system there shows.
fn mount(line: &str) -> Option<(&str, Option<Mount<'_>>)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    // A blank in a path is written as an escape; no cgroup is mounted at one.
    let plain = !point.contains('\\') && !root.contains('\\');
    let mount = (plain && matches!(kind, "cgroup" | "cgroup2")).then_some(Mount {
        root,
        point,
        v2: kind == "cgroup2",
        options,
    });
    Some((point, mount))
}

impl Mount<'_> {
    fn shows(&self, name: &str) -> bool {
        if name.is_empty() || self.v2 {
            return name.is_empty() && self.v2;
        }
        name.split(',')
            .all(|controller| self.options.split(',').any(|option| option == controller))
    }

    /// `group`, relative to the mount. One outside of our cgroup namespace is shown with `..`.
    fn below(&self, group: &str) -> Option<PathBuf> {
        let inside = Path::new(group).strip_prefix(self.root).ok()?;
        let plain = inside
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| inside.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const OWN: &str = "4:name=systemd:/init\n3:memory:/user/a b\n2:cpu,cpuacct:/../else\n0::/\n";

    fn read(own: &str, mountinfo: &str) -> Hierarchies {
        Hierarchies::read(own, mountinfo, false, &|point| {
            assert!(point.starts_with("/sys/fs/cgroup"));
            "cpu io\n".to_owned()
        })
    }

    /// Each hierarchy: name, mount, own group.
    fn shown(found: &Hierarchies) -> Vec<(&str, &str, Option<&str>)> {
        let v2 = found.v2.iter().map(|v2| ("", &v2.mount, &v2.own));
        found
            .v1
            .iter()
            .map(|v1| (v1.name.as_str(), &v1.mount, &v1.own))
            .chain(v2)
            .map(|(name, mount, own)| {
                let own = own.as_deref().map(|own| own.to_str().unwrap());
                (name, mount.to_str().unwrap(), own)
            })
            .collect()
    }

    #[test]
    fn hierarchies_are_found_with_the_own_group_where_the_mount_shows_it() {
        let found = read(OWN, HYBRID);
        assert_eq!(
            shown(&found),
            [
                ("name=systemd", "/sys/fs/cgroup/systemd", Some("init")),
                ("memory", "/sys/fs/cgroup/memory", Some("user/a b")),
                ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", None),
                ("", "/sys/fs/cgroup/unified", Some("")),
            ]
        );
        assert_eq!(found.v2.unwrap().controllers, ["cpu", "io"]);
    }

    #[test]
    fn what_a_later_mount_covers_is_not_there() {
        let v2_only = format!("{HYBRID}90 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(
            shown(&read(OWN, &v2_only)),
            [("", "/sys/fs/cgroup", Some(""))]
        );
        let v1_only = format!("{HYBRID}90 41 0:99 / /sys/fs/cgroup/unified rw - tmpfs none rw\n");
        assert_eq!(read(OWN, &v1_only).v2, None);
    }

    #[test]
    fn a_mount_that_shows_part_of_a_hierarchy_is_read_from_its_root() {
        let inside = "1 2 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        for (group, want) in [
            ("/docker/x/y", Some("y")),
            ("/docker/x", Some("")),
            ("/", None),
        ] {
            let found = read(&format!("3:memory:{group}\n"), inside);
            assert_eq!(
                shown(&found),
                [("memory", "/sys/fs/cgroup/memory", want)],
                "{group}"
            );
        }
    }

    #[test]
    fn a_bind_elsewhere_is_not_taken_for_the_usual_place() {
        let bind = format!(
            "1 2 0:32 / /srv/x/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n{HYBRID}"
        );
        assert_eq!(
            read(OWN, &bind).v1[1].mount,
            Path::new("/sys/fs/cgroup/memory")
        );
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in [
            "",
            "a",
            "1:x",
            "::",
            " - \n - cgroup2 x",
            "1 2 3 / /sys/fs/cgroup - cgroup2",
        ] {
            assert_eq!(read(text, text), Hierarchies::default(), "{text:?}");
        }
    }
}
