//! `mounts`, decided: which tree, which attributes, seen from where.

use std::path::{Component, Path, PathBuf};

use super::options::{Attributes, Options, RDONLY, options};
use super::{Asked, CompatFacts, CompatOptions};
use crate::bundle::{
    Config, MountEntry, MountIdmap, MountSource, MountStep, NamespaceKind, Propagation, SentMount,
};
use crate::control::{Refusal, Result};

/// Made by the kernel for a namespace: whether one is read-only is a matter of the mount. As a flag of the file system it would be refused where
/// another mount of it is writable.
const OF_THE_KERNEL: [&str; 5] = ["proc", "sysfs", "mqueue", "devpts", "tmpfs"];

/// File systems whose files have the kernel's labels: one of a mount's own is refused.
const UNLABELLED: [&str; 3] = ["proc", "sysfs", "mqueue"];

/// The mounts of a container.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Trees of the host, the root first.
    pub(super) sent: Vec<SentMount>,
    pub(super) steps: Vec<MountStep>,
    /// What becomes read-only when all else is made.
    pub(super) late: Vec<MountStep>,
}

pub(super) fn mounts(
    config: &Config,
    asked: &Asked<'_>,
    facts: &CompatFacts,
    how: &CompatOptions,
) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    // With what is mounted below it, as a bind of it by hand would have.
    mounts.sent.push(SentMount {
        source: config.root.path.clone(),
        recursive: true,
        idmap: None,
    });
    for entry in &config.mounts {
        mounts.add(entry, config, asked, facts, how)?;
    }
    Ok(mounts)
}

impl Mounts {
    fn add(
        &mut self,
        entry: &MountEntry,
        config: &Config,
        asked: &Asked<'_>,
        facts: &CompatFacts,
        how: &CompatOptions,
    ) -> Result<()> {
        let destination = destination(entry)?;
        let mut options = options(&entry.options);
        let bind = options.bind || entry.kind == "bind";
        let idmap = idmap(entry, &options, bind, asked, facts)?;
        let own = if entry.kind == "tmpfs" && !bind && !options.remount {
            self.later(&mut options.own, &destination)
        } else if bind {
            // A user namespace may not take back what the host's mount holds its files to, and is not given more by us.
            let locked = asked.has(NamespaceKind::User) || facts.in_user_namespace;
            options.own.whole(locked)
        } else {
            options.own
        };
        let what = if options.remount {
            MountSource::Remount {
                options: if bind {
                    Vec::new()
                } else {
                    superblock(&options, entry)
                },
            }
        } else if bind {
            self.sent.push(SentMount {
                source: source(entry, how),
                recursive: options.recursive,
                idmap,
            });
            MountSource::Sent
        } else if entry.kind == "cgroup" || entry.kind == "cgroup2" {
            MountSource::Cgroup {
                read_only: options.own.set & RDONLY != 0,
                // Only there is the child sure to be in the groups that were made for it, with the right to copy the host's mounts.
                shown: asked.makes(NamespaceKind::Cgroup) && !asked.has(NamespaceKind::User),
            }
        } else {
            new(entry, &options, label(config, facts))
        };
        let mut propagation = if bind {
            inherited(config.linux.rootfs_propagation)
        } else {
            Vec::new()
        };
        propagation.extend(options.propagation);
        self.steps.push(MountStep {
            destination,
            what,
            set: own.set,
            clear: own.clear,
            recursive_set: options.below.set,
            recursive_clear: options.below.clear,
            propagation,
            copy_up: options.copy_up,
        });
        Ok(())
    }

    /// A tmpfs that shall be read-only takes mount points, nodes and copies first.
    fn later(&mut self, own: &mut Attributes, destination: &Path) -> Attributes {
        if own.set & RDONLY != 0 {
            own.set &= !RDONLY;
            self.late.push(MountStep {
                destination: destination.to_owned(),
                what: MountSource::Remount {
                    options: Vec::new(),
                },
                set: RDONLY,
                clear: 0,
                recursive_set: 0,
                recursive_clear: 0,
                propagation: Vec::new(),
                copy_up: false,
            });
        }
        *own
    }
}

/// A relative one is taken from `/`, which the specification deprecates and every runtime does.
pub(in crate::bundle) fn destination(entry: &MountEntry) -> Result<PathBuf> {
    let refuse = |problem: &str| {
        Err(Refusal::new(
            format!("mounts {}", entry.destination.display()),
            problem,
            "name a path inside the container",
        ))
    };
    if entry.destination == Path::new("") {
        return refuse("the destination is missing");
    }
    let mut path = PathBuf::from("/");
    for part in entry.destination.components() {
        match part {
            Component::Normal(name) => path.push(name),
            // Nothing lies above the root.
            Component::ParentDir => drop(path.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path == Path::new("/") {
        return refuse("the destination is the root itself");
    }
    Ok(path)
}

fn source(entry: &MountEntry, how: &CompatOptions) -> PathBuf {
    how.bundle.join(&entry.source)
}

/// `linux.mountLabel`, where something reads labels.
fn label<'a>(config: &'a Config, facts: &CompatFacts) -> Option<&'a str> {
    let label = config.linux.mount_label.as_str();
    (facts.selinux && !label.is_empty()).then_some(label)
}

fn new(entry: &MountEntry, options: &Options, label: Option<&str>) -> MountSource {
    let mut data = superblock(options, entry);
    if let Some(label) = label
        && !UNLABELLED.contains(&entry.kind.as_str())
    {
        data.push(("context".to_owned(), Some(label.to_owned())));
    }
    MountSource::New {
        filesystem: entry.kind.clone(),
        source: entry.source.clone(),
        options: data,
    }
}

/// What the file system itself is told.
fn superblock(options: &Options, entry: &MountEntry) -> Vec<(String, Option<String>)> {
    let mut data = options.data.clone();
    if options.own.set & RDONLY != 0 && !OF_THE_KERNEL.contains(&entry.kind.as_str()) {
        // A device or an image that cannot be written is refused without this.
        data.push(("ro".to_owned(), None));
    }
    data
}

/// What a bind is to the host before its own words: copied out of a namespace that is the host's slave, unless the config shares the root.
fn inherited(root: Option<Propagation>) -> Vec<Propagation> {
    match root {
        None | Some(Propagation::Slave | Propagation::RSlave) => vec![Propagation::RSlave],
        Some(Propagation::Shared | Propagation::RShared) => Vec::new(),
        Some(
            Propagation::Private
            | Propagation::RPrivate
            | Propagation::Unbindable
            | Propagation::RUnbindable,
        ) => vec![Propagation::RPrivate],
    }
}

fn idmap(
    entry: &MountEntry,
    options: &Options,
    bind: bool,
    asked: &Asked<'_>,
    facts: &CompatFacts,
) -> Result<Option<MountIdmap>> {
    let mapped = !entry.uid_mappings.is_empty() || !entry.gid_mappings.is_empty();
    if options.idmap.is_none() && !mapped {
        return Ok(None);
    }
    let refuse = |problem: &str, fix: &str| {
        Err(Refusal::new(
            format!("mounts {}", entry.destination.display()),
            problem,
            fix,
        ))
    };
    if !bind {
        return refuse(
            "only a bind can have its ids mapped",
            "leave idmap and the mappings out",
        );
    }
    if !facts.idmapped_mounts || !facts.privileged {
        return refuse(
            "ids of mounts cannot be mapped here",
            "use Linux 5.12 as root, or leave idmap and the mappings out",
        );
    }
    if mapped && (entry.uid_mappings.is_empty() || entry.gid_mappings.is_empty()) {
        return refuse("has mappings of users or groups only", "give both");
    }
    if !mapped && !asked.has(NamespaceKind::User) {
        return refuse(
            "there is no user namespace to take the mappings from",
            "give uidMappings and gidMappings",
        );
    }
    Ok(Some(MountIdmap {
        maps: mapped.then(|| (entry.uid_mappings.clone(), entry.gid_mappings.clone())),
        recursive: options.idmap == Some(true),
    }))
}
