//! A sandbox's plan, made into one of a life cycle: the supervisor is gone once `create` has returned, and further processes enter.
//!
//! The order is that of [`crate::plan`], whose comments say why; what is added here says why it stands where it does.

use serde::{Deserialize, Serialize};

use super::Extras;
use crate::bundle::compat::process::labels;
use crate::bundle::exec::joined;
use crate::bundle::{BundleParentStep, BundleStep, GroupPlace, GroupPlan, NamespaceKind};
use crate::control::{Refusal, Result};
use crate::{Audit, ChildStep, ParentStep, Plan};

/// How the verb was called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The container's groups. None: it stays in the caller's.
    pub groups: GroupPlan,
    /// The process waits for `start`.
    pub await_start: bool,
    /// The caller stays until the end, and serves what needs someone.
    pub foreground: bool,
}

/// Every kind that a sandbox has of its own.
const KINDS: [NamespaceKind; 7] = [
    NamespaceKind::User,
    NamespaceKind::Pid,
    NamespaceKind::Net,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Cgroup,
    NamespaceKind::Mount,
];

/// `create` and `run`.
///
/// # Errors
/// What needs someone who serves it, where nobody stays.
pub fn create(plan: Plan, extras: &Extras, how: &Lifecycle) -> Result<Plan> {
    if plan.gate.is_some() && !how.foreground {
        return Err(Refusal::new(
            "connect",
            "endpoints need a gate, which ends with the command that started it",
            "use `run` in the foreground, or a profile without endpoints",
        ));
    }
    let mut parent = Vec::with_capacity(plan.parent.len() + 2);
    if !how.groups.groups.is_empty() {
        parent.push(ParentStep::Bundle(BundleParentStep::Groups(
            how.groups.clone(),
        )));
    }
    for step in plan.parent {
        let maps = matches!(step, ParentStep::IdMaps(_));
        match step {
            ParentStep::Supervise if !how.foreground => {}
            other => parent.push(other),
        }
        if let (true, Some(value)) = (maps, extras.oom_score_adj) {
            // With the caller's rights: the child has none of the host's.
            parent.push(ParentStep::Bundle(BundleParentStep::Limits {
                rlimits: Vec::new(),
                oom_score_adj: Some(value),
            }));
        }
    }
    let mut child = Vec::with_capacity(plan.child.len() + 16);
    for step in plan.child {
        first(step, extras, how, &mut child);
    }
    Ok(Plan {
        parent,
        child,
        audit: if how.foreground {
            plan.audit
        } else {
            Audit::Off
        },
        ..plan
    })
}

/// `exec`: `plan` is that of the container with the further process in the first one's place.
#[must_use]
pub fn exec(
    plan: Plan,
    extras: &Extras,
    foreground: bool,
    pid: i32,
    groups: &[GroupPlace],
    privileged: bool,
) -> Plan {
    let mut parent = Vec::new();
    let mut push = |step| parent.push(ParentStep::Bundle(step));
    if !groups.is_empty() {
        push(BundleParentStep::JoinGroups {
            groups: groups.to_vec(),
            pid,
            named: true,
        });
    }
    push(BundleParentStep::OpenNamespaces {
        namespaces: joined(KINDS, pid),
    });
    // Acts on children to come; without the right to it, the child is born again inside.
    if privileged {
        push(BundleParentStep::JoinPidForChildren);
    }
    parent.push(ParentStep::Clone {
        namespaces: [].into(),
    });
    let mut child = Vec::with_capacity(plan.child.len());
    if foreground {
        // Of its streams too.
        parent.push(ParentStep::Supervise);
        child.push(ChildStep::DieWithParent);
    }
    enter(&plan, extras, !groups.is_empty(), !privileged, &mut child);
    let how = Lifecycle {
        foreground,
        ..Lifecycle::default()
    };
    for step in plan.child {
        if belongs_to_a_process(&step) {
            first(step, extras, &how, &mut child);
        }
    }
    Plan {
        parent,
        child,
        gate: None,
        audit: Audit::Off,
        ..plan
    }
}

/// Into a container that is there.
fn enter(plan: &Plan, extras: &Extras, groups: bool, reborn: bool, steps: &mut Vec<ChildStep>) {
    // Through the host's procfs, with the caller's rights, which end with the user namespace.
    if let Some(value) = extras.oom_score_adj {
        steps.push(ChildStep::Bundle(BundleStep::OomScoreAdj { value }));
    }
    labels(&extras.apparmor_profile, &extras.selinux_label, steps);
    if groups {
        steps.push(ChildStep::JoinCgroups);
    }
    steps.push(ChildStep::Bundle(BundleStep::JoinNamespaces));
    if reborn {
        steps.push(ChildStep::Bundle(BundleStep::Reborn {
            namespaces: [].into(),
        }));
    }
    steps.push(ChildStep::AwaitParent);
    if plan.child.contains(&ChildStep::BecomeNamespaceRoot) {
        steps.push(ChildStep::BecomeNamespaceRoot);
    }
}

/// What each process of a sandbox goes through, after it is in its namespaces and its root.
fn belongs_to_a_process(step: &ChildStep) -> bool {
    match step {
        ChildStep::Rlimit { .. }
        | ChildStep::VerifyMounts
        | ChildStep::SessionKeyring
        | ChildStep::Umask { .. }
        | ChildStep::Terminal
        | ChildStep::NewSession
        | ChildStep::PipeStreams
        | ChildStep::CloseDescriptors
        | ChildStep::WorkingDirectory { .. }
        | ChildStep::DropBoundingSet
        | ChildStep::SetIds { .. }
        | ChildStep::ClearCapabilities
        | ChildStep::SecureBits
        | ChildStep::NoNewPrivs
        | ChildStep::NotDumpable
        | ChildStep::DenyWriteExecute
        | ChildStep::Landlock(_)
        | ChildStep::Canary { .. }
        | ChildStep::Seccomp(_)
        | ChildStep::Exec { .. } => true,
        ChildStep::DieWithParent
        | ChildStep::JoinCgroups
        | ChildStep::UnshareCgroup
        | ChildStep::AwaitParent
        | ChildStep::BecomeNamespaceRoot
        | ChildStep::SlavePropagation
        | ChildStep::Loopback { .. }
        | ChildStep::Sysctl { .. }
        | ChildStep::GateSockets { .. }
        | ChildStep::Rootfs { .. }
        | ChildStep::Proc
        | ChildStep::MaskProc { .. }
        | ChildStep::Dev { .. }
        | ChildStep::Tmpfs { .. }
        | ChildStep::Volume { .. }
        | ChildStep::PivotRoot
        | ChildStep::Hostname { .. }
        | ChildStep::Init
        | ChildStep::Bundle(_) => false,
    }
}

/// One step of the sandbox's plan, with what goes before it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other step stays as and where it is"
)]
fn first(step: ChildStep, extras: &Extras, how: &Lifecycle, steps: &mut Vec<ChildStep>) {
    match step {
        // A created container outlives the runtime.
        ChildStep::DieWithParent if !how.foreground => return,
        ChildStep::UnshareCgroup if !how.groups.groups.is_empty() => {
            steps.push(ChildStep::JoinCgroups);
        }
        // The container's own procfs cannot be written.
        ChildStep::SlavePropagation => {
            labels(&extras.apparmor_profile, &extras.selinux_label, steps);
        }
        // After all mounts, so that none lies above a mask, and below the root that is not entered yet.
        ChildStep::PivotRoot => covers(extras, steps),
        ChildStep::Umask { mask } => {
            let mask = mask | extras.umask;
            return steps.push(ChildStep::Umask { mask });
        }
        // Nobody would fill a pipe or empty it.
        ChildStep::PipeStreams if !how.foreground => {
            return steps.push(ChildStep::Bundle(BundleStep::RefuseFileStreams));
        }
        ChildStep::DropBoundingSet => before_the_drop(extras, steps),
        // The last thing that needs no call which the filters refuse.
        ChildStep::Seccomp(_) => {
            steps.push(ChildStep::Bundle(BundleStep::LookUpProgram));
            if how.await_start {
                steps.push(ChildStep::Bundle(BundleStep::AwaitStart));
            }
            // Below airtight's own, which does not let another be loaded.
            if let Some(profile) = &extras.seccomp {
                steps.push(ChildStep::Bundle(BundleStep::SeccompProfile(
                    profile.clone(),
                )));
            }
        }
        _ => {}
    }
    steps.push(step);
}

fn covers(extras: &Extras, steps: &mut Vec<ChildStep>) {
    let readonly = extras.readonly.iter().cloned();
    steps.extend(readonly.map(|path| ChildStep::Bundle(BundleStep::ReadonlyPath { path })));
    let masked = extras.masked.iter().cloned();
    steps.extend(masked.map(|path| ChildStep::Bundle(BundleStep::MaskPath { path })));
}

/// What takes a look at the root that the payload may not have, and limits below airtight's own.
fn before_the_drop(extras: &Extras, steps: &mut Vec<ChildStep>) {
    let mut push = |step| steps.push(ChildStep::Bundle(step));
    if let Some(uid) = extras.home {
        push(BundleStep::Home { uid });
    }
    for limit in &extras.rlimits {
        // Airtight's own is 1, which keeps the payload's core from a program of the host; 0 does not.
        if limit.resource != RLIMIT_CORE {
            push(BundleStep::LowerRlimit {
                resource: limit.resource,
                soft: limit.soft,
                hard: limit.hard,
            });
        }
    }
    if let Some(scheduler) = extras.scheduler {
        push(BundleStep::Scheduler(scheduler));
    }
    if let Some(priority) = extras.io_priority {
        push(BundleStep::IoPriority(priority));
    }
}

const RLIMIT_CORE: u32 = 4;
