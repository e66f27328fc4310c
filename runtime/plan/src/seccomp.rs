//! The policy's filter, fitted to this launch: what the host cannot make safe is taken out, what the audit looks at is handed over.

use airtight_profiles::{ArgCondition, ArgOp, Policy, SeccompFilter, SyscallRule};

use crate::control::Lacking;
use crate::{Audit, Control, HostFacts, Init, Spec};

const PR_SET_PDEATHSIG: u64 = 1;
/// `O_ACCMODE | O_CREAT`: an open that can only read has none of these bits.
const WRITE_BITS: u64 = 0o103;
const WRITE_FLAGS: [u64; 7] = [0o1, 0o2, 0o3, 0o100, 0o101, 0o102, 0o103];
/// Calls that end in a refusal worth telling, and the argument that says whether: none means always.
const ALWAYS_TOLD: [&str; 4] = ["connect", "creat", "execve", "execveat"];

pub(crate) fn filter(
    spec: &Spec,
    policy: &Policy,
    facts: &HostFacts,
    lacking: &mut Lacking,
) -> SeccompFilter {
    let mut filter = policy.filter();
    if spec.init == Init::Payload {
        // pid 1 has DieWithParent set by us; a payload that could clear it would outlive its supervisor.
        let death = |rule: &SyscallRule| {
            rule.name == "prctl"
                && rule
                    .when
                    .iter()
                    .any(|c| c.arg == 0 && c.value == PR_SET_PDEATHSIG)
        };
        filter.allow.retain(|rule| !death(rule));
    }
    if !facts.memfd_noexec && filter.allow.iter().any(|rule| rule.name == "memfd_create") {
        // DESIGN's invariant 2 has it "in the pid namespace, or the filter": without the sysctl the filter refuses the call.
        if spec.accepted.contains(&Control::MemfdNoexec) {
            lacking.add(Control::MemfdNoexec, "`vm.memfd_noexec` needs Linux 6.6");
        } else {
            filter.allow.retain(|rule| rule.name != "memfd_create");
        }
    }
    if spec.audit != Audit::Off {
        if facts.seccomp_notify {
            told(&mut filter);
        } else {
            lacking.add(
                Control::AuditListener,
                "telling refusals needs Linux 5.5 (or leave the audit off)",
            );
        }
    }
    filter
}

/// Moves what the audit looks at from `allow` to `notify`; only what is allowed, so that no rule is added by being told.
fn told(filter: &mut SeccompFilter) {
    let allow = std::mem::take(&mut filter.allow);
    for rule in allow {
        let flags_at = match rule.name.as_str() {
            "open" => Some(1),
            "openat" => Some(2),
            _ => None,
        };
        if ALWAYS_TOLD.contains(&rule.name.as_str()) {
            filter.notify.push(rule);
        } else if rule.name == "sendto" {
            // The fifth argument is the address; without one it is a write to a connected socket.
            filter.allow.push(with(
                &rule,
                ArgCondition {
                    arg: 4,
                    op: ArgOp::Eq,
                    value: 0,
                },
            ));
            filter.notify.push(with(
                &rule,
                ArgCondition {
                    arg: 4,
                    op: ArgOp::Ne,
                    value: 0,
                },
            ));
        } else if let Some(arg) = flags_at {
            let bits = |value| ArgCondition {
                arg,
                op: ArgOp::Masked(WRITE_BITS),
                value,
            };
            filter.allow.push(with(&rule, bits(0)));
            filter
                .notify
                .extend(WRITE_FLAGS.iter().map(|flags| with(&rule, bits(*flags))));
        } else {
            filter.allow.push(rule);
        }
    }
}

fn with(rule: &SyscallRule, condition: ArgCondition) -> SyscallRule {
    let mut rule = rule.clone();
    rule.when.push(condition);
    rule
}
