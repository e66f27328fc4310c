//! What the process carries, and what it gives up: the same for a container's first process and for those that `exec` adds.

use std::sync::Arc;

use super::order::Parts;
use super::{Asked, CompatFacts};
use crate::ChildStep;
use crate::bundle::capability::SYS_ADMIN;
use crate::bundle::{
    BundleParentStep, BundleStep, Capabilities, Config, LabelModule, NamespaceKind, ProcessConfig,
    RlimitEntry, SeccompProfile,
};

/// Limits that the parent sets, since in a new user namespace the child could not.
pub(super) fn outside(config: &Config, new_user_namespace: bool) -> Option<BundleParentStep> {
    let process = config.process.as_ref()?;
    let any = !process.rlimits.is_empty() || process.oom_score_adj.is_some();
    (new_user_namespace && any).then(|| BundleParentStep::Limits {
        rlimits: process.rlimits.clone(),
        oom_score_adj: process.oom_score_adj,
    })
}

pub(in crate::bundle) fn limits(rlimits: &[RlimitEntry], steps: &mut Vec<ChildStep>) {
    steps.extend(rlimits.iter().map(|limit| {
        ChildStep::Bundle(BundleStep::ExactRlimit {
            resource: limit.resource,
            soft: limit.soft,
            hard: limit.hard,
        })
    }));
}

/// Of what is executed next.
pub(in crate::bundle) fn labels(apparmor: &str, selinux: &str, steps: &mut Vec<ChildStep>) {
    for (module, label) in [
        (LabelModule::AppArmor, apparmor),
        (LabelModule::SeLinux, selinux),
    ] {
        if !label.is_empty() {
            steps.push(ChildStep::Bundle(BundleStep::ExecLabel {
                module,
                label: label.to_owned(),
            }));
        }
    }
}

/// What differs between a first process and one more.
pub(in crate::bundle) struct Ending<'a> {
    pub(in crate::bundle) process: &'a ProcessConfig,
    pub(in crate::bundle) seccomp: Option<&'a Arc<SeccompProfile>>,
    /// Set already.
    pub(in crate::bundle) limited: bool,
    /// `setgroups(2)` is allowed in the user namespace.
    pub(in crate::bundle) setgroups: bool,
    /// Wait for `start`.
    pub(in crate::bundle) await_start: bool,
    pub(in crate::bundle) start_hooks: &'a [crate::bundle::Hook],
    /// Abstract sockets of the host would be in reach.
    pub(in crate::bundle) scopes: bool,
    pub(in crate::bundle) preserve_fds: u32,
    pub(in crate::bundle) personality: Option<u64>,
}

impl<'a> Ending<'a> {
    /// Of a container's first process.
    fn first(parts: &'a Parts<'_>, process: &'a ProcessConfig) -> Self {
        let (config, facts) = (parts.config, parts.facts);
        Self {
            process,
            seccomp: config.linux.seccomp.as_ref(),
            limited: parts.maps.is_some(),
            setgroups: setgroups(parts),
            await_start: parts.how.await_start,
            start_hooks: &config.hooks.start_container,
            scopes: scoped(config, process, facts),
            preserve_fds: parts.how.preserve_fds,
            personality: config.linux.personality,
        }
    }
}

/// The Landlock ABI that has scopes.
const SCOPES: u32 = 6;

/// Abstract sockets of the host are in reach, and can be taken out of it. Whoever administers the host may need them (multipathd has one), and has it
/// without them.
pub(in crate::bundle) fn scoped(
    config: &Config,
    process: &ProcessConfig,
    facts: &CompatFacts,
) -> bool {
    let asked = Asked(config);
    let administers = !asked.has(NamespaceKind::User)
        && process
            .capabilities
            .is_some_and(|sets| sets.bounding & SYS_ADMIN != 0);
    !asked.has(NamespaceKind::Net) && !administers && facts.landlock_abi >= SCOPES
}

pub(super) fn setgroups(parts: &Parts<'_>) -> bool {
    let denied = parts
        .maps
        .as_ref()
        .is_some_and(|maps| maps.write == crate::MapWriter::DirectDenySetgroups);
    parts.facts.setgroups && !denied
}

pub(super) fn confine(parts: &Parts<'_>, process: &ProcessConfig, steps: &mut Vec<ChildStep>) {
    Ending::first(parts, process).confine(steps);
}

impl Ending<'_> {
    /// Everything from the finished root to the program.
    pub(in crate::bundle) fn confine(&self, steps: &mut Vec<ChildStep>) {
        self.attributes(steps);
        self.privileges(steps);
        self.start(steps);
    }

    /// What is inherited; some of it takes a right that ends with the capabilities.
    fn attributes(&self, steps: &mut Vec<ChildStep>) {
        let process = self.process;
        if !self.limited {
            limits(&process.rlimits, steps);
        }
        let priorities = [
            process.scheduler.map(BundleStep::Scheduler),
            process.io_priority.map(BundleStep::IoPriority),
        ];
        steps.extend(priorities.into_iter().flatten().map(ChildStep::Bundle));
        labels(&process.apparmor_profile, &process.selinux_label, steps);
        // After the mounts, which used descriptors of the host's tree, and before any code of the image runs (CVE-2024-21626).
        if self.preserve_fds > 0 {
            steps.push(ChildStep::Bundle(BundleStep::PreserveDescriptors {
                count: self.preserve_fds,
            }));
        } else {
            steps.push(ChildStep::CloseDescriptors);
        }
    }

    fn privileges(&self, steps: &mut Vec<ChildStep>) {
        let process = self.process;
        let capabilities = process.capabilities.unwrap_or_default().settled();
        // Takes CAP_SETPCAP, which ends with the ids.
        steps.push(ChildStep::Bundle(BundleStep::BoundingSet {
            keep: capabilities.bounding,
        }));
        if !environment(&process.env)
            .iter()
            .any(|entry| entry.starts_with("HOME="))
        {
            // While whatever the root lets nobody else read can be read.
            steps.push(ChildStep::Bundle(BundleStep::Home {
                uid: process.user.uid,
            }));
        }
        // A directory that the set-up may enter and the payload may not is entered by the set-up, and the other way round below.
        steps.push(ChildStep::Bundle(BundleStep::TryWorkingDirectory {
            path: process.cwd.clone(),
        }));
        steps.push(ChildStep::Bundle(BundleStep::KeepCapabilities));
        // With the right that goes with the old ids.
        steps.push(ChildStep::Bundle(BundleStep::OwnStreams {
            uid: process.user.uid,
        }));
        steps.push(ChildStep::SetIds {
            uid: process.user.uid,
            gid: process.user.gid,
            groups: self.setgroups.then(|| process.user.additional_gids.clone()),
        });
        steps.push(ChildStep::Bundle(BundleStep::SetCapabilities(
            if self.late() {
                // Ambient ones would go over to the hooks below, and come with the last word.
                Capabilities {
                    effective: capabilities.effective | SYS_ADMIN,
                    permitted: capabilities.permitted | SYS_ADMIN,
                    ambient: 0,
                    ..capabilities
                }
            } else {
                capabilities
            },
        )));
        steps.push(ChildStep::Umask {
            mask: process.user.umask.unwrap_or(0o022),
        });
        // Both with the payload's ids, so that what it may not enter or execute is told by `create`; both before the caller's filter, which may
        // refuse the calls that prove where the directory lies (CVE-2024-21626).
        steps.push(ChildStep::Bundle(BundleStep::LastWorkingDirectory {
            path: process.cwd.clone(),
        }));
        steps.push(ChildStep::Bundle(BundleStep::LookUpProgram));
        if process.no_new_privileges == Some(true) {
            steps.push(ChildStep::NoNewPrivs);
        }
    }

    /// Without `no_new_privs`, loading a filter or a Landlock domain takes CAP_SYS_ADMIN, so that one capability is kept until then.
    fn late(&self) -> bool {
        self.process.no_new_privileges != Some(true) && (self.seccomp.is_some() || self.scopes)
    }

    fn start(&self, steps: &mut Vec<ChildStep>) {
        let process = self.process;
        if self.await_start {
            steps.push(ChildStep::Bundle(BundleStep::AwaitStart));
        }
        if self.scopes {
            // Where the network is the host's its abstract sockets are in reach, and some of them start containers (CVE-2020-15257). Signals need no
            // scope: a pid namespace holds them, and a shared one is shared for their sake.
            steps.push(ChildStep::Bundle(BundleStep::Scopes {
                abstract_unix: true,
                signal: false,
            }));
        }
        // It changes what system calls the rest of the set-up sees.
        if let Some(flags) = self.personality {
            steps.push(ChildStep::Bundle(BundleStep::Personality { flags }));
        }
        // Last of ours: what came before may use calls that the payload may not. After it come only what a filter of any runtime lets through.
        if let Some(profile) = self.seccomp {
            steps.push(ChildStep::Bundle(BundleStep::SeccompProfile(Arc::clone(
                profile,
            ))));
        }
        // Programs of the image like the one that follows, so they are held by all that holds it: outside the filter they could do what it forbids.
        if !self.start_hooks.is_empty() {
            steps.push(ChildStep::Bundle(BundleStep::ContainerHooks {
                hooks: self.start_hooks.to_vec(),
            }));
        }
        if self.late() {
            steps.push(ChildStep::Bundle(BundleStep::SetCapabilities(
                process.capabilities.unwrap_or_default().settled(),
            )));
        }
        steps.push(ChildStep::Exec {
            args: process.args.clone(),
            env: environment(&process.env),
        });
    }
}

/// Of a variable that is named twice the last one counts, as a shell has it, whatever the program's libc would find first.
fn environment(env: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for entry in env.iter().rev() {
        if seen.insert(name(entry)) {
            kept.push(entry.clone());
        }
    }
    // An empty one is replaced by the user's own.
    kept.retain(|entry| entry != "HOME=");
    kept.reverse();
    kept
}
