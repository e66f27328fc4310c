//! Programs against the rules they were made of, against libseccomp's program of the same rules, and against this kernel.

use airtight_plan::{ArgCondition, ArgOp, SeccompFilter, SyscallRule};
use airtight_profiles::{Ceiling, Profile, effective, shipped};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use proptest::prelude::*;

use super::abi::{self, Abi, NATIVE};
use super::compile::compile;
use super::interpret::{Call, meaning, run};
use super::*;

const ARM64: Abi = Abi {
    audit_arch: 0xc000_00b7,
    x32: false,
};

fn rule(name: &str, when: &[(u8, ArgOp, u64)]) -> SyscallRule {
    let when = when
        .iter()
        .map(|&(arg, op, value)| ArgCondition { arg, op, value })
        .collect();
    SyscallRule {
        name: name.into(),
        when,
    }
}

/// The filters that launches get, with and without the audit's part.
fn shipped_filters() -> Vec<(String, SeccompFilter)> {
    let mut filters = Vec::new();
    for name in ["base", "service", "jit", "build"] {
        let profile: Profile = shipped(name).unwrap().clone();
        let policy = effective(&profile, &Ceiling::built_in(), &Default::default()).unwrap();
        let quiet = policy.filter();
        let mut told = quiet.clone();
        told.allow.retain(|rule| {
            !["connect", "execve", "openat", "sendto"].contains(&rule.name.as_str())
        });
        told.allow
            .push(rule("openat", &[(2, ArgOp::Masked(0o103), 0)]));
        told.allow.push(rule("sendto", &[(4, ArgOp::Eq, 0)]));
        told.notify = vec![
            rule("connect", &[]),
            rule("execve", &[]),
            rule("sendto", &[(4, ArgOp::Ne, 0)]),
        ];
        told.notify
            .extend((1..=3).map(|bits| rule("openat", &[(2, ArgOp::Masked(0o103), bits)])));
        filters.extend([
            (name.to_owned(), quiet),
            (format!("{name} with audit"), told),
        ]);
    }
    filters
}

/// For each argument the values that a condition on it could tell apart, and some that none does.
fn interesting(filter: &SeccompFilter, number: u32) -> [Vec<u64>; 6] {
    let mut values: [Vec<u64>; 6] = Default::default();
    for values in &mut values {
        values.extend([0, 1, u64::MAX, 1 << 32, 0x8000_0000]);
    }
    for rule in filter
        .allow
        .iter()
        .chain(&filter.notify)
        .filter(|rule| abi::number(&rule.name).unwrap() == Some(number))
    {
        for c in &rule.when {
            let near = [
                c.value,
                c.value.wrapping_add(1),
                c.value.wrapping_sub(1),
                c.value | 1 << 32,
                c.value ^ 0x10,
            ];
            values[usize::from(c.arg)].extend(near);
            if let ArgOp::Masked(mask) = c.op {
                values[usize::from(c.arg)]
                    .extend([c.value | !mask, c.value ^ (mask & mask.wrapping_neg())]);
            }
        }
    }
    for values in &mut values {
        values.sort_unstable();
        values.dedup();
    }
    values
}

/// Calls of one number: every pair of interesting values of neighbouring arguments, the others from the same list in step.
fn calls(filter: &SeccompFilter, arch: u32, nr: u32) -> impl Iterator<Item = Call> {
    let values = interesting(filter, nr);
    let conditional = values.iter().any(|values| values.len() > 5);
    let at = move |arg: usize, i: usize| values[arg][i % values[arg].len()];
    let rounds = if conditional { 4000 } else { 1 };
    // Strides without a common factor walk through all combinations of the lists.
    (0..rounds).map(move |i| Call {
        nr,
        arch,
        args: [
            at(0, i),
            at(1, i / 7 + i),
            at(2, i / 3),
            at(3, i / 11),
            at(4, i / 5),
            at(5, i),
        ],
    })
}

fn numbers(filter: &SeccompFilter) -> impl Iterator<Item = u32> {
    let edges = [
        abi::X32_BIT - 1,
        abi::X32_BIT,
        abi::X32_BIT + 59,
        0x7fff_ffff,
        0x8000_0000,
        0xc000_0000,
        u32::MAX,
    ];
    (0..=filter.known_max + 2).chain(edges)
}

#[test]
fn a_shipped_filter_answers_each_call_as_its_rules_say() {
    for (name, filter) in shipped_filters() {
        for abi in [NATIVE, ARM64] {
            let program = compile(&filter, abi).unwrap();
            for call in numbers(&filter).flat_map(|nr| calls(&filter, abi.audit_arch, nr)) {
                let want = meaning(&filter, abi, &call);
                assert_eq!(run(&program, &call).0, want, "{name}: {call:x?}");
            }
            // i386 on x86_64, big-endian arm: whatever the number.
            for arch in [0x4000_0003, 0x4000_0028, 0] {
                let call = Call {
                    nr: 3,
                    arch,
                    args: [0; 6],
                };
                assert_eq!(
                    run(&program, &call).0,
                    action::KILL_PROCESS,
                    "{name}: {arch:x}"
                );
            }
        }
    }
}

/// The time of loading grows with the length, the time of each call with the steps: both were measured at these sizes.
#[test]
fn a_shipped_program_is_short_and_shallow() {
    for (name, filter) in shipped_filters() {
        let program = compile(&filter, NATIVE).unwrap();
        let ours = calls(&filter, NATIVE.audit_arch, 0)
            .map(|call| run(&program, &call).1)
            .max()
            .unwrap();
        let oracle = oracle(&filter);
        eprintln!(
            "{name}: {} instructions, read(2) in {ours} steps; libseccomp: {}",
            program.len(),
            oracle.len()
        );
        assert!(
            program.len() < 450 && program.len() * 3 < oracle.len() * 2,
            "{name}: {}",
            program.len()
        );
        assert!(ours <= 14, "{name}: {ours} steps");
    }
}

/// libseccomp's program of the same rules, where it can express them: its x32 and unknown numbers are its own affair.
fn oracle(filter: &SeccompFilter) -> Vec<Insn> {
    let mut context = ScmpFilterContext::new(ScmpAction::Errno(1)).unwrap();
    context.set_ctl_optimize(2).unwrap();
    let number = |name: &str| {
        abi::number(name)
            .unwrap()
            .map(|nr| ScmpSyscall::from_raw_syscall(nr.cast_signed()))
    };
    let mut add = |action: ScmpAction, name: &str, when: &[ArgCondition]| {
        let Some(call) = number(name) else { return };
        let compare = |c: &ArgCondition| {
            let op = match c.op {
                ArgOp::Eq => ScmpCompareOp::Equal,
                ArgOp::Ne => ScmpCompareOp::NotEqual,
                ArgOp::Lt => ScmpCompareOp::Less,
                ArgOp::Le => ScmpCompareOp::LessOrEqual,
                ArgOp::Gt => ScmpCompareOp::Greater,
                ArgOp::Ge => ScmpCompareOp::GreaterEqual,
                ArgOp::Masked(mask) => ScmpCompareOp::MaskedEqual(mask),
            };
            ScmpArgCompare::new(c.arg.into(), op, c.value)
        };
        let compared: Vec<ScmpArgCompare> = when.iter().map(compare).collect();
        context
            .add_rule_conditional(action, call, &compared)
            .unwrap();
    };
    for rule in &filter.notify {
        add(ScmpAction::Notify, &rule.name, &rule.when);
    }
    for rule in &filter.allow {
        add(ScmpAction::Allow, &rule.name, &rule.when);
    }
    for name in &filter.enosys {
        add(ScmpAction::Errno(38), name, &[]);
    }
    let mut file = tempfile::tempfile().unwrap();
    context.export_bpf(&file).unwrap();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    let half = |b: &[u8]| u16::from_le_bytes(b.try_into().unwrap());
    let decode = |b: &[u8]| Insn {
        code: half(&b[..2]),
        jt: b[2],
        jf: b[3],
        k: u32::from_le_bytes(b[4..].try_into().unwrap()),
    };
    bytes.chunks_exact(8).map(decode).collect()
}

#[test]
fn libseccomp_makes_the_same_of_the_same_rules() {
    for (name, filter) in shipped_filters() {
        let (ours, theirs) = (compile(&filter, NATIVE).unwrap(), oracle(&filter));
        for call in (0..=filter.known_max).flat_map(|nr| calls(&filter, NATIVE.audit_arch, nr)) {
            assert_eq!(
                run(&ours, &call).0,
                run(&theirs, &call).0,
                "{name}: {call:x?}"
            );
        }
    }
}

fn any_condition() -> impl Strategy<Value = ArgCondition> {
    // Small and shared values, so that rules overlap; halves that differ, so that both words are looked at.
    let value = prop_oneof![
        0..6_u64,
        Just(1 << 32),
        Just((1 << 32) + 3),
        Just(u64::MAX),
        Just(0xffff_fffe)
    ];
    let mask = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(3),
        Just(6),
        Just(0xffff_ffff),
        Just(0xffff_ffff << 32),
        Just(u64::MAX)
    ];
    let op = prop_oneof![
        Just(ArgOp::Eq),
        Just(ArgOp::Ne),
        Just(ArgOp::Lt),
        Just(ArgOp::Le),
        Just(ArgOp::Gt),
        Just(ArgOp::Ge),
        mask.prop_map(ArgOp::Masked),
    ];
    (0..3_u8, op, value).prop_map(|(arg, op, value)| ArgCondition { arg, op, value })
}

fn any_rules() -> impl Strategy<Value = Vec<SyscallRule>> {
    const NAMES: [&str; 10] = [
        "read",
        "write",
        "open",
        "close",
        "ioctl",
        "openat",
        "prctl",
        "mseal",
        "cachestat",
        "futex_wake",
    ];
    let when =
        prop_oneof![1 => Just(Vec::new()), 4 => prop::collection::vec(any_condition(), 0..4)];
    let rule = (prop::sample::select(&NAMES[..]), when).prop_map(|(name, when)| SyscallRule {
        name: name.into(),
        when,
    });
    prop::collection::vec(rule, 0..40)
}

proptest! {
    #[test]
    fn any_rules_compile_to_what_they_say(
        allow in any_rules(),
        notify in any_rules(),
        enosys in prop::collection::vec(prop::sample::select(&["clone3", "read", "mseal"][..]), 0..2),
        known_max in prop_oneof![Just(0_u32), Just(300), Just(469)],
    ) {
        let enosys = enosys.into_iter().map(str::to_owned).collect();
        let filter = SeccompFilter { allow, enosys, notify, known_max };
        let program = compile(&filter, NATIVE).unwrap();
        for nr in numbers(&filter) {
            for call in calls(&filter, NATIVE.audit_arch, nr).step_by(13) {
                prop_assert_eq!(run(&program, &call).0, meaning(&filter, NATIVE, &call), "{:x?}", call);
            }
        }
    }
}

#[test]
fn a_name_that_nobody_knows_is_an_error_and_not_a_silent_refusal() {
    let filter = SeccompFilter {
        allow: vec![rule("opnat", &[])],
        enosys: vec![],
        notify: vec![],
        known_max: 469,
    };
    let text = compile(&filter, NATIVE).unwrap_err().to_string();
    assert_eq!(
        text,
        "the system-call filter names `opnat`, which airtight does not know"
    );
}

#[test]
fn a_filter_that_is_too_long_for_the_kernel_is_an_error() {
    let allow = (0..3000)
        .map(|i| rule("ioctl", &[(1, ArgOp::Eq, i * 3), (2, ArgOp::Eq, i * 5)]))
        .collect();
    let filter = SeccompFilter {
        allow,
        enosys: vec![],
        notify: vec![],
        known_max: 469,
    };
    let SeccompError::TooLong { instructions } = compile(&filter, NATIVE).unwrap_err() else {
        panic!("another error")
    };
    assert!(instructions > 4096);
}

#[test]
fn a_program_comes_from_the_cache_the_second_time_and_damage_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (_, filter) = shipped_filters().swap_remove(1);
    let path = cache::path(dir.path(), &filter.digest());
    let first = program(&filter, dir.path()).unwrap();
    assert_eq!(
        (
            first.notify(),
            cache::read(&path, &filter.digest()).as_deref()
        ),
        (Notify::Yes, Some(first.insns()))
    );
    std::fs::write(&path, b"AIRTBPF1 and then nonsense").unwrap();
    assert_eq!(program(&filter, dir.path()).unwrap(), first);
    assert_eq!(
        cache::read(&path, &filter.digest()).as_deref(),
        Some(first.insns())
    );
    warm(&filter, dir.path()).unwrap();

    // A cache that cannot be written stops no launch; warming it does say so.
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    assert_eq!(program(&filter, &blocked).unwrap(), first);
    let err = warm(&filter, &blocked).unwrap_err().to_string();
    assert!(err.starts_with("keeping a compiled filter at "), "{err}");
}
