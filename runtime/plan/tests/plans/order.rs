//! The order of confinement, and that a narrower policy gives a plan with fewer rights, over asks made at random.

use airtight_plan::{
    Audit, ChildStep, Control, HostFacts, Init, Limits, Plan, Spec, Terminal, plan,
};
use airtight_profiles::{Ceiling, Policy, SeccompFilter, effective, shipped};
use proptest::prelude::*;

use crate::fixture::{connect, publish, root, spec, user, user_with_range};

/// The step's name, as its JSON has it.
fn name(step: &ChildStep) -> String {
    serde_json::to_value(step).unwrap()["step"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn names(plan: &Plan) -> Vec<String> {
    plan.child.iter().map(name).collect()
}

fn any_facts() -> impl Strategy<Value = HostFacts> {
    let whose = prop::sample::select(vec![root(), user(), user_with_range()]);
    (whose, 0u32..8, any::<[bool; 5]>()).prop_map(
        |(facts, landlock_abi, [memfd_noexec, mdwe, ipv6, idmapped_mounts, seccomp_notify])| {
            HostFacts {
                landlock_abi,
                memfd_noexec,
                mdwe,
                ipv6,
                idmapped_mounts,
                seccomp_notify,
                ..facts
            }
        },
    )
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let connects = prop::sample::subsequence(
        vec![
            connect("redis", Some("10.0.0.5"), 6379),
            connect("db", None, 5432),
            connect("10.1.1.1", None, 80),
        ],
        0..=3,
    );
    let publishes = prop::sample::subsequence(
        vec![
            publish("127.0.0.1", 8080, 80),
            publish("0.0.0.0", 8443, 443),
        ],
        0..=2,
    );
    (connects, publishes, any::<[bool; 4]>()).prop_map(
        |(connect, publish, [terminal, init, audit, limits])| {
            let mut spec = Spec {
                connect,
                publish,
                accepted: Control::ALL.into(),
                ..spec()
            };
            if terminal {
                spec.process.terminal = Terminal::Own;
            }
            if init {
                spec.init = Init::Payload;
            }
            if audit {
                spec.audit = Audit::Stderr;
            }
            if limits {
                spec.limits = Limits {
                    memory: Some(64 << 20),
                    pids: Some(64),
                    ..Limits::default()
                };
            }
            spec
        },
    )
}

fn policy(profile: &str, spec: &Spec) -> Policy {
    effective(
        &shipped(profile).unwrap(),
        &Ceiling::built_in(),
        &spec.additions().unwrap(),
    )
    .unwrap()
}

/// Each pair in this order, where both are there; what is listed as always is there.
const ALWAYS: &[&str] = &[
    "die-with-parent",
    "unshare-cgroup",
    "await-parent",
    "slave-propagation",
    "loopback",
    "sysctl",
    "rootfs",
    "proc",
    "mask-proc",
    "dev",
    "tmpfs",
    "pivot-root",
    "verify-mounts",
    "hostname",
    "rlimit",
    "session-keyring",
    "umask",
    "new-session",
    "close-descriptors",
    "drop-bounding-set",
    "secure-bits",
    "set-ids",
    "clear-capabilities",
    "no-new-privs",
    "not-dumpable",
    "working-directory",
    "canary",
    "seccomp",
    "exec",
];
const BEFORE: &[(&str, &str)] = &[
    ("join-cgroups", "unshare-cgroup"),
    ("await-parent", "become-namespace-root"),
    ("become-namespace-root", "slave-propagation"),
    ("slave-propagation", "rootfs"),
    ("sysctl", "gate-sockets"),
    ("loopback", "gate-sockets"),
    ("gate-sockets", "rootfs"),
    ("rootfs", "proc"),
    ("proc", "mask-proc"),
    ("mask-proc", "pivot-root"),
    ("tmpfs", "pivot-root"),
    ("pivot-root", "verify-mounts"),
    ("verify-mounts", "close-descriptors"),
    ("new-session", "terminal"),
    ("pivot-root", "terminal"),
    ("close-descriptors", "set-ids"),
    ("drop-bounding-set", "set-ids"),
    ("secure-bits", "set-ids"),
    ("set-ids", "clear-capabilities"),
    ("clear-capabilities", "no-new-privs"),
    ("no-new-privs", "landlock"),
    ("not-dumpable", "landlock"),
    ("deny-write-execute", "canary"),
    ("set-ids", "working-directory"),
    ("working-directory", "landlock"),
    ("landlock", "canary"),
    ("no-new-privs", "seccomp"),
    ("canary", "init"),
    ("canary", "seccomp"),
    ("init", "seccomp"),
    ("seccomp", "exec"),
];

fn check_order(plan: &Plan) {
    let names = names(plan);
    let last = |name: &str| names.iter().rposition(|step| step == name);
    let first = |name: &str| names.iter().position(|step| step == name);
    for name in ALWAYS {
        assert!(first(name).is_some(), "{name} is missing in {names:?}");
    }
    for (a, b) in BEFORE {
        if let (Some(at), Some(then)) = (last(a), first(b)) {
            assert!(at < then, "{a} comes after {b}: {names:?}");
        }
    }
    assert_eq!(names.first().map(String::as_str), Some("die-with-parent"));
    assert_eq!(names.last().map(String::as_str), Some("exec"));
    let again = last("die-with-parent").unwrap();
    assert!(
        again > last("set-ids").unwrap(),
        "the change of ids clears the death signal"
    );
}

/// Whether every rule of `inner` has a rule in `outer` with no condition that it lacks.
fn within(inner: &SeccompFilter, outer: &SeccompFilter) -> bool {
    inner.allow.iter().chain(&inner.notify).all(|rule| {
        let wider = |other: &&airtight_profiles::SyscallRule| {
            other.name == rule.name && other.when.iter().all(|c| rule.when.contains(c))
        };
        outer
            .allow
            .iter()
            .chain(&outer.notify)
            .any(|other| wider(&other))
    })
}

fn filter(plan: &Plan) -> &SeccompFilter {
    let filters: Vec<&SeccompFilter> = plan
        .child
        .iter()
        .filter_map(|step| match step {
            ChildStep::Seccomp(filter) => Some(filter),
            _ => None,
        })
        .collect();
    assert_eq!(filters.len(), 1);
    filters[0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_confines_in_order(spec in any_spec(), facts in any_facts(), profile in prop::sample::select(vec!["base", "service", "jit", "build"])) {
        check_order(&plan(&spec, &policy(profile, &spec), &facts).unwrap());
    }

    #[test]
    fn a_tightened_policy_gives_a_plan_with_a_subset_of_the_calls(spec in any_spec(), facts in any_facts(),
        a in prop::sample::select(vec!["base", "service", "jit", "build"]), b in prop::sample::select(vec!["base", "service", "jit", "build"])) {
        let (a, b) = (policy(a, &spec), policy(b, &spec));
        let narrow = plan(&spec, &a.tighten(&b), &facts).unwrap();
        for wide in [a, b] {
            prop_assert!(within(filter(&narrow), filter(&plan(&spec, &wide, &facts).unwrap())));
        }
    }

    #[test]
    fn host_uid_0_is_never_mapped_in_and_the_payload_never_root(spec in any_spec(), facts in any_facts()) {
        let plan = plan(&spec, &policy("service", &spec), &facts).unwrap();
        for step in &plan.parent {
            if let airtight_plan::ParentStep::IdMaps(maps) = step {
                prop_assert!(maps.uids.iter().all(|map| map.outside > 0));
            }
        }
        let ids = |step: &ChildStep| matches!(step, ChildStep::SetIds { uid: 65532, gid: 65532, .. });
        prop_assert_eq!(plan.child.iter().filter(|step| ids(step)).count(), 1);
    }

    #[test]
    fn told_calls_are_not_also_allowed(spec in any_spec(), facts in any_facts()) {
        let spec = Spec { audit: Audit::Stderr, ..spec };
        let plan = plan(&spec, &policy("service", &spec), &facts).unwrap();
        let filter = filter(&plan);
        prop_assert_eq!(filter.notify.is_empty(), !facts.seccomp_notify);
        for told in &filter.notify {
            for allowed in filter.allow.iter().filter(|rule| rule.name == told.name) {
                // Disjoint: some argument is compared by both, with the same mask or as equal against unequal, and differs.
                let apart = told.when.iter().any(|t| allowed.when.iter().any(|a| a.arg == t.arg && (a.op != t.op || a.value != t.value)));
                prop_assert!(apart, "{told:?} {allowed:?}");
            }
        }
    }
}
