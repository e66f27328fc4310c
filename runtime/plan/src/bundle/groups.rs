//! The groups of one container: where they are made in each mounted hierarchy, and which file of them keeps which part of `linux.resources`.
//!
//! Groups are directories and nothing else is asked to make them, as with runc's `cgroupfs` driver.

mod device_program;
mod devices;
mod hierarchies;
mod path;
mod unified;
mod v1;
mod v2;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use device_program::{Instruction, device_program};
pub use devices::{DevicePermissions, DeviceSet, default_device_rules};
pub use hierarchies::{Hierarchies, Hierarchy, Unified};

use super::Resources;
use crate::control::{Refusal, Result};

/// The groups of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    pub groups: Vec<BundleGroup>,
    /// What was asked and no group keeps, as runc would not either: told, and gone on without.
    pub warnings: Vec<String>,
    /// A group that has processes, or groups below it, is another's: its limits are not this container's to set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
}

/// A directory: a v1 hierarchy's, or the v2 tree's. What a container's state keeps of its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlace {
    /// v1: the controllers of the hierarchy, as `/proc/self/cgroup` names it (`cpu,cpuacct`, `name=systemd`). v2: empty.
    pub hierarchy: String,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The directory, relative to `mount`. Missing parents are made too.
    pub dir: PathBuf,
}

/// One group, and what it is to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleGroup {
    pub place: GroupPlace,
    /// v2: controllers to turn on in every parent's `cgroup.subtree_control`, as far as each gives them.
    pub controllers: Vec<String>,
    /// v1: files that a new group starts with empty and that let no process in before they are filled: copied from the parent, from the top down.
    pub inherit: Vec<String>,
    /// In this order, before the child joins.
    pub settings: Vec<Setting>,
    /// v2 only: rules for the device program. v1 has them as settings.
    pub devices: Option<DeviceSet>,
    /// A caller without rights here and without a path of its own choice goes on without this group, unless something was asked of it.
    pub optional: bool,
}

impl BundleGroup {
    fn new(place: GroupPlace, optional: bool) -> Self {
        Self {
            place,
            controllers: Vec::new(),
            inherit: Vec::new(),
            settings: Vec::new(),
            devices: None,
            optional,
        }
    }
}

impl GroupPlace {
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.hierarchy.is_empty()
    }

    /// Whether this is the v1 hierarchy of `controller`.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.hierarchy.split(',').any(|name| name == controller)
    }
}

/// One value for one file of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub file: String,
    pub value: String,
    /// Where the kernel has no such file: this one.
    pub instead: Option<(String, String)>,
    /// Where the kernel has neither: a warning, not the end.
    pub may_lack: bool,
    /// Values that bound each other are refused (EINVAL) in the order that does not fit what was there before; such a one is tried again after the others.
    pub again: bool,
}

impl Setting {
    pub(crate) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
            instead: None,
            may_lack: false,
            again: false,
        }
    }

    fn or(self, file: &str, value: impl ToString) -> Self {
        Self {
            instead: Some((file.to_owned(), value.to_string())),
            ..self
        }
    }

    fn may_lack(self) -> Self {
        Self {
            may_lack: true,
            ..self
        }
    }

    fn again(self) -> Self {
        Self {
            again: true,
            ..self
        }
    }
}

/// A controller by its two names, in the order in which settings are written.
struct Controller {
    v1: &'static str,
    /// Empty: v2 has none.
    v2: &'static str,
}

const CONTROLLERS: [Controller; 13] = [
    controller("cpuset", "cpuset"),
    controller("memory", "memory"),
    controller("cpu", "cpu"),
    controller("pids", "pids"),
    controller("blkio", "io"),
    controller("hugetlb", "hugetlb"),
    controller("rdma", "rdma"),
    controller("net_cls", ""),
    controller("net_prio", ""),
    controller("devices", ""),
    controller("cpuacct", ""),
    controller("perf_event", ""),
    // Last: whoever is in it when all others are joined can be frozen whole.
    controller("freezer", ""),
];

const fn controller(v1: &'static str, v2: &'static str) -> Controller {
    Controller { v1, v2 }
}

/// The groups of container `id`.
///
/// # Errors
/// A path or value that cannot be, or a limit that no hierarchy of this host keeps.
pub fn group_plan(
    cgroups_path: Option<&str>,
    id: &str,
    systemd: bool,
    resources: &Resources,
    hierarchies: &Hierarchies,
    rootless: bool,
) -> Result<GroupPlan> {
    if systemd && !hierarchies.systemd {
        return Err(Refusal::new(
            "--systemd-cgroup",
            "systemd not running on this host, cannot use systemd cgroups manager",
            "leave the flag out (podman: --cgroup-manager=cgroupfs)",
        ));
    }
    let place = path::place(cgroups_path, id, systemd, rootless)?;
    let optional = rootless && cgroups_path.is_none_or(str::is_empty);
    let mut plan = GroupPlan::default();
    for hierarchy in hierarchies.v1.iter().filter(|hierarchy| hierarchy.used()) {
        let place = GroupPlace {
            hierarchy: hierarchy.name.clone(),
            mount: hierarchy.mount.clone(),
            dir: place.below(hierarchy.own.as_deref(), &hierarchy.name)?,
        };
        plan.groups.push(BundleGroup::new(place, optional));
    }
    if let Some(unified) = &hierarchies.v2 {
        // The own group has processes, and so gives its children no controller: on v2 alone its parent is the place.
        let own = match &unified.own {
            Some(own) if hierarchies.v1.is_empty() => Some(own.parent().unwrap_or(own)),
            own => own.as_deref(),
        };
        let place = GroupPlace {
            hierarchy: String::new(),
            mount: unified.mount.clone(),
            dir: place.below(own, "cgroup2")?,
        };
        plan.groups.push(BundleGroup::new(place, optional));
    }
    let available = hierarchies.v2.as_ref().map(|v2| v2.controllers.as_slice());
    settle(&mut plan, resources, available, Rules::Whole { rootless })?;
    Ok(plan)
}

/// New limits for groups that are there. Nothing is said of devices: no verb changes them.
///
/// # Errors
/// As [`group_plan`].
pub fn update_plan(
    places: &[GroupPlace],
    resources: &Resources,
    hierarchies: &Hierarchies,
) -> Result<GroupPlan> {
    let groups = places.iter().cloned();
    let mut plan = GroupPlan {
        groups: groups.map(|place| BundleGroup::new(place, false)).collect(),
        ..GroupPlan::default()
    };
    let available = hierarchies.v2.as_ref().map(|v2| v2.controllers.as_slice());
    settle(&mut plan, resources, available, Rules::AsTheyAre)?;
    Ok(plan)
}

/// What becomes of device rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    Whole { rootless: bool },
    AsTheyAre,
}

/// Each limit to the group that keeps it: the v1 hierarchy of its controller, else the v2 tree.
fn settle(
    plan: &mut GroupPlan,
    resources: &Resources,
    available: Option<&[String]>,
    rules: Rules,
) -> Result<()> {
    let available = available.unwrap_or_default();
    let only_v2 = plan.groups.iter().all(|group| group.place.is_v2());
    if !only_v2 && !resources.unified.is_empty() {
        return Err(Refusal::new(
            "linux.resources.unified",
            "invalid configuration: cannot use unified on cgroup v1",
            "say it as memory, cpu, pids and so on, or start the host with cgroup v2 alone",
        ));
    }
    for controller in &CONTROLLERS {
        if let Some(group) = plan
            .groups
            .iter_mut()
            .find(|group| group.place.has(controller.v1))
        {
            group
                .settings
                .extend(v1::settings(controller.v1, resources, &mut plan.warnings)?);
            if controller.v1 == "cpuset" && rules != Rules::AsTheyAre {
                group.inherit = ["cpuset.cpus", "cpuset.mems"].map(str::to_owned).into();
            }
            continue;
        }
        let given = available.iter().any(|name| name == controller.v2);
        let settings = if only_v2 || given {
            v2::settings(controller.v2, resources)?
        } else {
            v1::settings(controller.v1, resources, &mut plan.warnings)?
        };
        let asked = !settings.is_empty();
        match plan.groups.iter_mut().find(|group| group.place.is_v2()) {
            Some(group) if given => {
                group.settings.extend(settings);
                if asked && !only_v2 {
                    group.controllers.push(controller.v2.to_owned());
                }
            }
            _ if asked && controller.v1 != "devices" => return Err(lacking(controller, only_v2)),
            _ => {}
        }
    }
    if only_v2 {
        v2::untranslated(resources, &mut plan.warnings);
        let settings = unified::settings(resources, available)?;
        if let Some(group) = plan.groups.first_mut() {
            group.settings.extend(settings);
            // All that there are, as runc does: callers read what a container uses from any of them, and it may share out what it has.
            group.controllers = available.to_vec();
        }
    }
    match rules {
        Rules::Whole { rootless } => device_rules(plan, resources, rootless),
        Rules::AsTheyAre => Ok(()),
    }
}

fn lacking(controller: &Controller, only_v2: bool) -> Refusal {
    let name = if only_v2 {
        controller.v2
    } else {
        controller.v1
    };
    Refusal::new(
        format!("linux.resources ({name})"),
        format!("cannot set {name} limit: container could not join or create cgroup"),
        format!("turn the {name} controller on for this host or this user, or leave the limit out"),
    )
}

/// To the devices hierarchy as its files take them, or to the program of the v2 group.
fn device_rules(plan: &mut GroupPlan, resources: &Resources, rootless: bool) -> Result<()> {
    let set = DeviceSet::of(resources.devices.iter().chain(&default_device_rules()))?;
    if let Some(group) = plan
        .groups
        .iter_mut()
        .find(|group| group.place.has("devices"))
    {
        // Devices of others are out of a rootless container's reach anyway: it can make no node, and the host's nodes ask for rights.
        if !rootless {
            group.settings.extend(set.v1());
        }
        return Ok(());
    }
    match plan.groups.iter_mut().find(|group| group.place.is_v2()) {
        _ if rootless => {}
        Some(group) => group.devices = Some(set),
        None => {
            return Err(Refusal::new(
                "linux.resources.devices",
                "mountpoint for devices not found",
                "mount the devices hierarchy or cgroup v2: without them a container could open every device",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
