//! A caller's profile to a program that answers as libseccomp's program of the same profile would, with what runc adds: a call that is newer than
//! all that the profile names does not exist, so that libraries fall back instead of failing. Pure.

use std::collections::BTreeMap;

use airtight_plan::bundle::{SeccompAction, SeccompProfile, SeccompRule};
use airtight_plan::{ArgCondition, ArgOp};
use airtight_sys::seccomp::{Insn, MAX_INSNS};
use sha2::{Digest as _, Sha256};

use super::abi::{Call, TABLES, Table, X32_BIT};
use super::assemble::{Assembler, Label, Test};
use super::compile::{ARCH, GENERATOR, NR};
use super::condition::{Arm, Width, any};
use super::order::order;
use super::search::search;
use super::{SeccompError, action};

/// Rules of one call and one answer beyond this compile to more than the kernel takes.
const MAX_ARMS: usize = 4 * MAX_INSNS;

/// What a number gets: the first group with an arm that holds, else what is otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    width: Width,
    groups: Vec<(Vec<Arm>, u32)>,
    otherwise: u32,
}

/// Rules of one call in one table, as they come.
#[derive(Debug, Default)]
struct Rules {
    /// Without conditions. The first stands, and whatever has conditions is part of it.
    always: Option<u32>,
    arms: Vec<(Arm, u32)>,
}

/// The program of `profile` on this machine.
pub(super) fn compile(profile: &SeccompProfile) -> Result<Vec<Insn>, SeccompError> {
    let arms = |rule: &SeccompRule| rule.names.len() * rule.args.len().max(1);
    let total: usize = profile.syscalls.iter().map(arms).sum();
    if total > MAX_ARMS {
        return Err(SeccompError::TooLong {
            instructions: total,
        });
    }
    let tables: Vec<Table> = TABLES
        .iter()
        .enumerate()
        // The native one is there whether it is named or not.
        .filter(|(at, table)| {
            *at == 0 || profile.architectures.iter().any(|name| name == table.name)
        })
        .map(|(_, table)| *table)
        .collect();
    let mut machines: Vec<u32> = tables.iter().map(|table| table.audit_arch).collect();
    machines.dedup();
    let mut asm = Assembler::default();
    let mut sections: Vec<(u32, Label)> = Vec::new();
    for machine in machines.into_iter().rev() {
        let of_it: Vec<Table> = tables
            .iter()
            .filter(|table| table.audit_arch == machine)
            .copied()
            .collect();
        let found = search(&mut asm, &spans(profile, &of_it), &judge);
        sections.push((machine, asm.load(NR, None, found)));
    }
    // The numbers mean other calls to another architecture, and libseccomp's users leave it at this answer.
    let mut which = asm.ret(action::KILL_THREAD);
    for (machine, section) in sections {
        which = asm.test(Test::Equal(machine), section, which);
    }
    let start = asm.load(ARCH, None, which);
    let program = asm.finish(start);
    if program.len() > MAX_INSNS {
        return Err(SeccompError::TooLong {
            instructions: program.len(),
        });
    }
    Ok(program)
}

/// The key of the compiled program: all that it depends on, and nothing else.
pub(super) fn digest(profile: &SeccompProfile) -> String {
    let SeccompProfile {
        default_action,
        architectures,
        syscalls,
        // How it is loaded and who listens change nothing in it.
        flags: _,
        listener: _,
    } = profile;
    let mut bytes = Vec::with_capacity(16 << 10);
    bytes.extend(format!("profile {GENERATOR} {}\n", std::env::consts::ARCH).bytes());
    bytes.extend(word(*default_action).to_le_bytes());
    let texts = |bytes: &mut Vec<u8>, list: &[String]| {
        bytes.extend(list.len().to_le_bytes());
        for text in list {
            bytes.extend_from_slice(&text.len().to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
    };
    texts(&mut bytes, architectures);
    for SeccompRule {
        names,
        action,
        args,
    } in syscalls
    {
        texts(&mut bytes, names);
        bytes.extend(word(*action).to_le_bytes());
        bytes.extend(args.len().to_le_bytes());
        for ArgCondition { arg, op, value } in args {
            let (op, mask) = match op {
                ArgOp::Eq => (0, 0),
                ArgOp::Ne => (1, 0),
                ArgOp::Lt => (2, 0),
                ArgOp::Le => (3, 0),
                ArgOp::Gt => (4, 0),
                ArgOp::Ge => (5, 0),
                ArgOp::Masked(mask) => (6, *mask),
            };
            bytes.extend([*arg, op]);
            bytes.extend(mask.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
    }
    Sha256::digest(&bytes)
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// `SECCOMP_RET_*` with its data.
pub(super) fn word(of: SeccompAction) -> u32 {
    match of {
        SeccompAction::KillThread => action::KILL_THREAD,
        SeccompAction::KillProcess => action::KILL_PROCESS,
        SeccompAction::Trap => action::TRAP,
        SeccompAction::Errno(errno) => action::ERRNO | u32::from(errno),
        SeccompAction::Trace(message) => action::TRACE | u32::from(message),
        SeccompAction::Log => action::LOG,
        SeccompAction::Allow => action::ALLOW,
        SeccompAction::Notify => action::USER_NOTIF,
    }
}

/// All numbers of one machine, each span from its start to the next one's.
fn spans(profile: &SeccompProfile, tables: &[Table]) -> Vec<(u32, Answer)> {
    let otherwise = word(profile.default_action);
    let mut background = BTreeMap::new();
    let mut answers = BTreeMap::new();
    background.insert(0, otherwise);
    let of_machine =
        |table: &&Table| tables.first().map(|first| first.audit_arch) == Some(table.audit_arch);
    let split = TABLES.iter().filter(of_machine).any(|table| table.bit != 0);
    if split && tables.iter().all(|table| table.bit == 0) {
        // Numbers of an ABI that the profile does not name. -1 is no call: a tracer asks for it to have one passed over.
        background.insert(X32_BIT, action::KILL_THREAD);
        background.insert(u32::MAX, otherwise);
    }
    for table in tables {
        let (rules, last) = rules(profile, table);
        let last = last.filter(|_| hides_newer_calls(profile.default_action));
        for (number, rules) in rules {
            // A call behind a multiplexer can be named while the multiplexer's own number is a newer one to this rule.
            if last.is_none_or(|last| number <= last) {
                answers.insert(number, answer(rules, table.width, otherwise));
            }
        }
        if let Some(last) = last {
            newer(&mut background, last, split);
        }
    }
    overlay(&background, answers)
}

/// A permissive default lets newer calls be, and a tracer is to see them.
fn hides_newer_calls(default: SeccompAction) -> bool {
    !matches!(
        default,
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_)
    )
}

/// Numbers above the highest that the profile names of a table do not exist. `split`: those with x32's bit and those without are two tables.
fn newer(background: &mut BTreeMap<u32, u32>, last: u32, split: bool) {
    let mut hide = |from: u32, to: Option<u32>| {
        let after = to.map(|to| (to, at(background, to)));
        let within: Vec<u32> = background
            .range(from..)
            .map(|(start, _)| *start)
            .take_while(|start| to.is_none_or(|to| *start < to))
            .collect();
        for start in within {
            background.remove(&start);
        }
        background.insert(from, action::ENOSYS);
        if let Some((to, answer)) = after {
            background.insert(to, answer);
        }
    };
    let end = X32_BIT << 1;
    match (split, last & X32_BIT != 0) {
        (false, _) => hide(last + 1, None),
        (true, false) => {
            hide(last + 1, Some(X32_BIT));
            hide(end, Some(end | X32_BIT));
        }
        (true, true) => {
            hide(last + 1, Some(end));
            hide(end | X32_BIT, None);
        }
    }
}

fn at(background: &BTreeMap<u32, u32>, number: u32) -> u32 {
    background
        .range(..=number)
        .next_back()
        .map_or(action::KILL_THREAD, |(_, answer)| *answer)
}

/// Answers of single numbers upon those of ranges.
fn overlay(background: &BTreeMap<u32, u32>, answers: BTreeMap<u32, Answer>) -> Vec<(u32, Answer)> {
    let plain = |otherwise: u32| Answer {
        width: Width::Both,
        groups: Vec::new(),
        otherwise,
    };
    let mut points: BTreeMap<u32, Answer> = background
        .iter()
        .map(|(start, answer)| (*start, plain(*answer)))
        .collect();
    for number in answers.keys() {
        if let Some(after) = number.checked_add(1) {
            points
                .entry(after)
                .or_insert_with(|| plain(at(background, after)));
        }
    }
    points.extend(answers);
    let mut spans: Vec<(u32, Answer)> = points.into_iter().collect();
    spans.dedup_by(|next, before| next.1 == before.1);
    spans
}

/// The rules of each number in a table, and the highest number that the profile names.
fn rules(profile: &SeccompProfile, table: &Table) -> (BTreeMap<u32, Rules>, Option<u32>) {
    let mut by_number: BTreeMap<u32, Rules> = BTreeMap::new();
    let mut last = None;
    for rule in &profile.syscalls {
        let arms = alternatives(&rule.args, table.width);
        for name in &rule.names {
            let Some(call) = table.call(name) else {
                continue;
            };
            if let Call::Number(number) = call {
                last = last.max(Some(number).filter(|number| *number > 0));
            }
            if rule.action == profile.default_action {
                continue;
            }
            let action = word(rule.action);
            let mut add = |number: u32, arm: Arm| {
                by_number.entry(number).or_default().add(arm, action);
            };
            for arm in &arms {
                match call {
                    Call::Number(number) => add(number, arm.clone()),
                    Call::Multiplexed { number, first, own } => {
                        // The first argument says which call it is; where the others lie now, libseccomp does not ask either.
                        let mut behind: Arm = arm.iter().filter(|c| c.arg != 0).copied().collect();
                        behind.insert(
                            0,
                            ArgCondition {
                                arg: 0,
                                op: ArgOp::Eq,
                                value: first,
                            },
                        );
                        add(number, behind);
                        if let Some(own) = own {
                            add(own, arm.clone());
                        }
                    }
                }
            }
        }
    }
    (by_number, last)
}

impl Rules {
    fn add(&mut self, arm: Arm, action: u32) {
        if self.always.is_some() {
            return;
        }
        if arm.is_empty() {
            self.always = Some(action);
            self.arms.clear();
        } else {
            self.arms.push((arm, action));
        }
    }
}

/// A rule's conditions hold together, except where an argument has several: then each condition is a rule of its own, as runc has it.
fn alternatives(args: &[ArgCondition], width: Width) -> Vec<Arm> {
    let cut = |c: &ArgCondition| ArgCondition {
        value: c.value & width.mask(),
        op: match c.op {
            ArgOp::Masked(mask) => ArgOp::Masked(mask & width.mask()),
            other => other,
        },
        ..*c
    };
    let needed = |c: &ArgCondition| c.op != ArgOp::Masked(0);
    let mut arm: Arm = args.iter().map(cut).collect();
    arm.sort_by_key(|c| c.arg);
    let several = arm
        .windows(2)
        .any(|pair| matches!(pair, [one, next] if one.arg == next.arg));
    if several {
        args.iter()
            .map(cut)
            .map(|c| Some(c).filter(needed).into_iter().collect())
            .collect()
    } else {
        arm.retain(needed);
        vec![arm]
    }
}

fn answer(rules: Rules, width: Width, otherwise: u32) -> Answer {
    if let Some(always) = rules.always {
        return Answer {
            width: Width::Both,
            groups: Vec::new(),
            otherwise: always,
        };
    }
    let mut arms = rules.arms;
    let first = arms.first().map(|(_, action)| *action);
    if arms.iter().any(|(_, action)| Some(*action) != first) {
        arms = order(arms, width);
    }
    let mut groups: Vec<(Vec<Arm>, u32)> = Vec::new();
    for (arm, action) in arms {
        match groups.last_mut() {
            Some((arms, last)) if *last == action => arms.push(arm),
            _ => groups.push((vec![arm], action)),
        }
    }
    Answer {
        width,
        groups,
        otherwise,
    }
}

fn judge(asm: &mut Assembler, answer: &Answer) -> Label {
    let mut next = asm.ret(answer.otherwise);
    for (arms, action) in answer.groups.iter().rev() {
        let holds = asm.ret(*action);
        next = any(asm, answer.width, arms, holds, next);
    }
    next
}
