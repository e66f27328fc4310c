//! `exec`: one more process in a container that is there. The same two loops, over the namespaces that the container's own process is in.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::compat::check::check_process;
use super::compat::process::{Ending, limits, scoped};
use super::{
    BundleParentStep, BundleStep, CompatFacts, Config, GroupPlace, JoinNamespace, NamespaceKind,
    ProcessConfig,
};
use crate::control::Result;
use crate::{Audit, ChildStep, ParentStep, Plan, Terminal};

/// The container and how `exec` was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOptions {
    pub id: String,
    /// The container's process, proven by its start time to be it.
    pub pid: i32,
    /// The container's groups. None: the process stays in the caller's.
    pub groups: Vec<GroupPlace>,
    /// `--cgroup` names some of them.
    pub named_groups: bool,
    /// Not `--no-new-keyring`.
    pub new_keyring: bool,
    pub preserve_fds: u32,
}

/// What the container's own process says goes for what a further one leaves open.
#[must_use]
pub fn inherit(process: ProcessConfig, container: &Config) -> ProcessConfig {
    let Some(first) = &container.process else {
        return process;
    };
    let or = |own: String, theirs: &String| if own.is_empty() { theirs.clone() } else { own };
    let mut user = process.user;
    user.umask = user.umask.or(first.user.umask);
    ProcessConfig {
        user,
        capabilities: process.capabilities.or(first.capabilities),
        no_new_privileges: process.no_new_privileges.or(first.no_new_privileges),
        rlimits: if process.rlimits.is_empty() {
            first.rlimits.clone()
        } else {
            process.rlimits
        },
        apparmor_profile: or(process.apparmor_profile, &first.apparmor_profile),
        selinux_label: or(process.selinux_label, &first.selinux_label),
        oom_score_adj: process.oom_score_adj.or(first.oom_score_adj),
        scheduler: process.scheduler.or(first.scheduler),
        io_priority: process.io_priority.or(first.io_priority),
        exec_affinity: if process.exec_affinity == super::ExecAffinity::default() {
            first.exec_affinity.clone()
        } else {
            process.exec_affinity
        },
        ..process
    }
}

/// Decides one more process, after [`inherit`].
///
/// # Errors
/// What the process asks for that cannot be, by its key.
pub fn exec(
    process: &ProcessConfig,
    container: &Config,
    facts: &CompatFacts,
    how: &ExecOptions,
) -> Result<Plan> {
    check_process(process, facts)?;
    let namespaces = namespaces(container, how.pid);
    let pid = namespaces
        .iter()
        .any(|entry| entry.kind == NamespaceKind::Pid);
    let parts = Parts {
        process,
        container,
        facts,
        how,
        namespaces,
        // Without the right to join it from here, it is joined as the root of its user namespace; either way it holds children only.
        reborn: pid && !facts.privileged,
        pid,
    };
    Ok(Plan {
        id: how.id.clone(),
        parent: parts.parent(),
        child: parts.child(),
        gate: None,
        audit: Audit::Off,
        terminal: if process.terminal {
            Terminal::Own
        } else {
            Terminal::Inherit
        },
        timeout_millis: None,
        shortfalls: Vec::new(),
    })
}

/// Every kind that the config names, new or joined: the container's process is in it.
fn namespaces(container: &Config, pid: i32) -> Vec<JoinNamespace> {
    let kinds = container.linux.namespaces.iter().map(|entry| entry.kind);
    joined(kinds, pid)
}

/// These of the process `pid`, in the order of joining.
pub(super) fn joined(
    kinds: impl IntoIterator<Item = NamespaceKind>,
    pid: i32,
) -> Vec<JoinNamespace> {
    let mut namespaces: Vec<JoinNamespace> = kinds
        .into_iter()
        .map(|kind| JoinNamespace {
            kind,
            path: PathBuf::from(format!("/proc/{pid}/ns/{}", file(kind))),
        })
        .collect();
    namespaces.sort_by_key(|entry| entry.kind);
    namespaces
}

fn file(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Net => "net",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
        NamespaceKind::Mount => "mnt",
    }
}

struct Parts<'a> {
    process: &'a ProcessConfig,
    container: &'a Config,
    facts: &'a CompatFacts,
    how: &'a ExecOptions,
    namespaces: Vec<JoinNamespace>,
    reborn: bool,
    pid: bool,
}

impl Parts<'_> {
    fn parent(&self) -> Vec<ParentStep> {
        let mut steps = Vec::new();
        let mut push = |step| steps.push(ParentStep::Bundle(step));
        if !self.how.groups.is_empty() {
            push(BundleParentStep::JoinGroups {
                groups: self.how.groups.clone(),
                pid: self.how.pid,
                named: self.how.named_groups,
            });
        }
        if !self.namespaces.is_empty() {
            push(BundleParentStep::OpenNamespaces {
                namespaces: self.namespaces.clone(),
            });
        }
        if !self.facts.fixed_file {
            push(BundleParentStep::Springboard);
        }
        // Acts on children to come, and saves being born twice.
        if self.pid && !self.reborn {
            push(BundleParentStep::JoinPidForChildren);
        }
        steps.push(ParentStep::Clone {
            namespaces: BTreeSet::new(),
        });
        steps
    }

    fn child(&self) -> Vec<ChildStep> {
        let mut steps = Vec::with_capacity(32);
        self.enter(&mut steps);
        Ending {
            process: self.process,
            seccomp: self.container.linux.seccomp.as_ref(),
            limited: true,
            setgroups: self.facts.setgroups,
            await_start: false,
            start_hooks: &[],
            scopes: scoped(self.container, self.process, self.facts),
            preserve_fds: self.how.preserve_fds,
            personality: self.container.linux.personality,
        }
        .confine(&mut steps);
        steps
    }

    fn enter(&self, steps: &mut Vec<ChildStep>) {
        let process = self.process;
        // All of this with the caller's rights on the host, which end with the user namespace, and through the host's procfs.
        if !process.exec_affinity.initial.is_empty() {
            steps.push(ChildStep::Bundle(BundleStep::Affinity {
                cpus: process.exec_affinity.initial.clone(),
            }));
        }
        limits(&process.rlimits, steps);
        if let Some(value) = process.oom_score_adj {
            steps.push(ChildStep::Bundle(BundleStep::OomScoreAdj { value }));
        }
        if !self.how.groups.is_empty() {
            steps.push(ChildStep::JoinCgroups);
        }
        if !process.exec_affinity.last.is_empty() {
            // The groups may have changed it.
            steps.push(ChildStep::Bundle(BundleStep::Affinity {
                cpus: process.exec_affinity.last.clone(),
            }));
        } else if process.exec_affinity.initial.is_empty() {
            // What the caller is held to is not the container's.
            steps.push(ChildStep::Bundle(BundleStep::EveryCpu));
        }
        // The container's own processes see it from here on, or from its second birth on, and shall not follow it anywhere (CVE-2019-5736,
        // CVE-2016-9962): in a joined user namespace it has no more rights than they may have. Its part of `/proc/self` has been written.
        steps.push(ChildStep::NotDumpable);
        if !self.namespaces.is_empty() {
            steps.push(ChildStep::Bundle(BundleStep::JoinNamespaces));
        }
        if self.reborn {
            steps.push(ChildStep::Bundle(BundleStep::Reborn {
                namespaces: BTreeSet::new(),
            }));
        }
        steps.push(ChildStep::AwaitParent);
        if self
            .namespaces
            .iter()
            .any(|entry| entry.kind == NamespaceKind::User)
        {
            steps.push(if self.facts.setgroups {
                ChildStep::BecomeNamespaceRoot
            } else {
                ChildStep::SetIds {
                    uid: 0,
                    gid: 0,
                    groups: None,
                }
            });
        }
        // Again: a change of ids makes it what `fs.suid_dumpable` says.
        steps.push(ChildStep::NotDumpable);
        // Before the console, which becomes the controlling terminal of the new session.
        steps.push(ChildStep::NewSession);
        if self.how.new_keyring {
            steps.push(ChildStep::SessionKeyring);
        }
        if process.terminal {
            steps.push(ChildStep::Bundle(BundleStep::Console {
                size: process.console_size,
                // `/dev/console` is that of the container's first process.
                bind: false,
            }));
        }
    }
}
