//! How a container is kept from our own file on the host, to which `/proc/PID/exe` of a process that is still ours leads (CVE-2019-5736).
//!
//! Three things together. Until its exec the process is not dumpable, so that others cannot follow its `exe`. Its exec goes through the springboard, so that
//! the kernel, which follows `/proc/self/exe` for the process itself, finds a sealed page there. Where that does not hold, the runtime runs from a file that
//! cannot be written at all, which costs an exec of its own.

use super::capability::SYS_PTRACE;
use super::{Config, NamespaceKind, ProcessConfig, SeccompAction, SeccompProfile};

/// Whether a first process of `config` needs a runtime whose own file cannot be written.
#[must_use]
pub fn needs_fixed_file(config: &Config) -> bool {
    let Some(process) = &config.process else {
        return false;
    };
    let others = config
        .linux
        .namespaces
        .iter()
        .any(|entry| entry.kind == NamespaceKind::Pid && entry.path.is_some());
    // Its program is one of the image, and it is executed by the kernel's first look at it.
    !config.hooks.start_container.is_empty()
        || (others && !has_user_namespace(config))
        || cannot_spring(process, config.linux.seccomp.as_deref())
}

/// The same for one more process in the container of `config`.
#[must_use]
pub fn exec_needs_fixed_file(process: &ProcessConfig, config: &Config) -> bool {
    let mut own = process.capabilities.unwrap_or_default().bounding;
    if let Some(first) = &config.process {
        own |= first.capabilities.unwrap_or_default().bounding;
    }
    let shared = config
        .linux
        .namespaces
        .iter()
        .find(|entry| entry.kind == NamespaceKind::Pid)
        .is_some_and(|entry| entry.path.is_some() || own & SYS_PTRACE != 0);
    (shared && !has_user_namespace(config))
        || cannot_spring(process, config.linux.seccomp.as_deref())
}

/// A capability of a user namespace says nothing about a process that was executed outside.
fn has_user_namespace(config: &Config) -> bool {
    config
        .linux
        .namespaces
        .iter()
        .any(|entry| entry.kind == NamespaceKind::User)
}

/// The springboard would stand in the way: a label goes to what is executed first, and SELinux has rules about which files may be that; a capability that an
/// exec does not keep may be needed to reach the program; the filter may refuse the call.
fn cannot_spring(process: &ProcessConfig, seccomp: Option<&SeccompProfile>) -> bool {
    let sets = process.capabilities.unwrap_or_default();
    let lost = process.user.uid != 0 && sets.effective & !sets.ambient != 0;
    !process.selinux_label.is_empty()
        || !process.apparmor_profile.is_empty()
        || lost
        || seccomp.is_some_and(|profile| !allows_execveat(profile))
}

fn allows_execveat(profile: &SeccompProfile) -> bool {
    let harmless = |action| matches!(action, SeccompAction::Allow | SeccompAction::Log);
    let mut rules = profile
        .syscalls
        .iter()
        .filter(|rule| rule.names.iter().any(|name| name == "execveat"))
        .peekable();
    if rules.peek().is_none() {
        return harmless(profile.default_action);
    }
    rules.all(|rule| harmless(rule.action) && rule.args.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Capabilities, Hook, NamespaceEntry, SeccompRule};

    fn process() -> ProcessConfig {
        ProcessConfig::default()
    }

    fn with(kinds: &[(NamespaceKind, bool)]) -> Config {
        let mut config = Config {
            process: Some(process()),
            ..Config::default()
        };
        config.linux.namespaces = kinds
            .iter()
            .map(|(kind, joined)| NamespaceEntry {
                kind: *kind,
                path: joined.then(|| "/proc/1/ns/x".into()),
            })
            .collect();
        config
    }

    fn bounded(bounding: u64) -> ProcessConfig {
        ProcessConfig {
            capabilities: Some(Capabilities {
                bounding,
                ..Capabilities::default()
            }),
            ..process()
        }
    }

    fn profile(default: SeccompAction, rules: &[(&str, SeccompAction)]) -> SeccompProfile {
        SeccompProfile {
            default_action: default,
            architectures: Vec::new(),
            flags: Vec::new(),
            syscalls: rules
                .iter()
                .map(|(name, action)| SeccompRule {
                    names: vec!["read".into(), (*name).into()],
                    action: *action,
                    args: Vec::new(),
                })
                .collect(),
            listener: None,
        }
    }

    #[test]
    fn who_may_look_at_the_set_up_sees_a_file_that_cannot_be_written() {
        use NamespaceKind::{Pid, User};
        let own = with(&[(Pid, false)]);
        assert!(!needs_fixed_file(&own));
        assert!(needs_fixed_file(&with(&[(Pid, true)])));
        assert!(!needs_fixed_file(&with(&[(Pid, true), (User, true)])));
        let mut hooked = with(&[(Pid, false)]);
        hooked.hooks.start_container.push(Hook {
            path: "/hook".into(),
            args: Vec::new(),
            env: Vec::new(),
            timeout_seconds: None,
        });
        assert!(needs_fixed_file(&hooked));

        assert!(!exec_needs_fixed_file(&process(), &own));
        assert!(exec_needs_fixed_file(&bounded(SYS_PTRACE), &own));
        assert!(exec_needs_fixed_file(&process(), &with(&[(Pid, true)])));
        let mapped = with(&[(Pid, false), (User, false)]);
        assert!(!exec_needs_fixed_file(&bounded(SYS_PTRACE), &mapped));
        let mut tracing = with(&[(Pid, false)]);
        tracing.process = Some(bounded(SYS_PTRACE));
        assert!(exec_needs_fixed_file(&process(), &tracing));
    }

    #[test]
    fn what_the_springboard_would_break_goes_without() {
        let label = ProcessConfig {
            selinux_label: "l".into(),
            ..process()
        };
        assert!(cannot_spring(&label, None));
        let mut user = bounded(1);
        user.user.uid = 7;
        assert!(!cannot_spring(&user, None));
        user.capabilities = Some(Capabilities {
            effective: 2,
            ..Capabilities::default()
        });
        assert!(cannot_spring(&user, None));
        for (name, profile, want) in [
            (
                "allowed by default",
                profile(SeccompAction::Allow, &[]),
                true,
            ),
            (
                "by name",
                profile(
                    SeccompAction::Errno(1),
                    &[("execveat", SeccompAction::Allow)],
                ),
                true,
            ),
            (
                "refused by default",
                profile(SeccompAction::Errno(1), &[("execve", SeccompAction::Allow)]),
                false,
            ),
            (
                "refused by name",
                profile(
                    SeccompAction::Allow,
                    &[("execveat", SeccompAction::Errno(1))],
                ),
                false,
            ),
            (
                "asked about",
                profile(SeccompAction::Allow, &[("execveat", SeccompAction::Notify)]),
                false,
            ),
        ] {
            assert_eq!(!cannot_spring(&process(), Some(&profile)), want, "{name}");
        }
    }
}
