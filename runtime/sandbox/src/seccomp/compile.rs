//! Rules to a program: a binary search over ranges of system-call numbers that share an answer, and below each a search over the values
//! of one argument at a time. Pure. The tests hold it against libseccomp's program of the same rules, number by number.

use std::collections::BTreeMap;

use airtight_plan::{ArgCondition, ArgOp, SeccompFilter, SyscallRule};
use airtight_sys::seccomp::{Insn, MAX_INSNS};

use super::abi::{self, Abi};
use super::assemble::{Assembler, Label, Test};
use super::{SeccompError, action};

/// Raised when the same rules compile to another program, so that no older one is taken from a cache.
pub(super) const GENERATOR: u32 = 1;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;

/// Conditions that hold together.
type Arm = Vec<ArgCondition>;

/// What a number gets. Arms are alternatives; the first list that has one that holds decides.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Always(u32),
    Judged { notify: Vec<Arm>, allow: Vec<Arm> },
}

/// Compiles `filter` for `abi`.
pub(super) fn compile(filter: &SeccompFilter, abi: Abi) -> Result<Vec<Insn>, SeccompError> {
    let spans = spans(&answers(filter)?, filter.known_max, abi);
    let mut asm = Assembler::default();
    let found = search(&mut asm, &spans, &|asm, answer| judge(asm, answer));
    let native = asm.load(NR, None, found);
    // The numbers below mean other calls to another architecture: it gets no answer at all.
    let foreign = asm.ret(action::KILL_PROCESS);
    let which = asm.test(Test::Equal(abi.audit_arch), native, foreign);
    let start = asm.load(ARCH, None, which);
    let program = asm.finish(start);
    if program.len() > MAX_INSNS {
        return Err(SeccompError::TooLong {
            instructions: program.len(),
        });
    }
    Ok(program)
}

/// By number; one that is missing is refused.
fn answers(filter: &SeccompFilter) -> Result<BTreeMap<u32, Answer>, SeccompError> {
    let mut judged: BTreeMap<u32, (Vec<Arm>, Vec<Arm>)> = BTreeMap::new();
    for (rules, notify) in [(&filter.notify, true), (&filter.allow, false)] {
        for SyscallRule { name, when } in rules {
            let (Some(number), Some(arm)) = (abi::number(name)?, satisfiable(when)) else {
                continue;
            };
            let (told, allowed) = judged.entry(number).or_default();
            if notify { told } else { allowed }.push(arm);
        }
    }
    let mut answers: BTreeMap<u32, Answer> = judged
        .into_iter()
        .map(|(number, arms)| (number, answer(arms)))
        .collect();
    for name in &filter.enosys {
        if let Some(number) = abi::number(name)? {
            answers.insert(number, Answer::Always(action::ENOSYS));
        }
    }
    Ok(answers)
}

fn answer((notify, mut allow): (Vec<Arm>, Vec<Arm>)) -> Answer {
    if notify.iter().any(Vec::is_empty) {
        return Answer::Always(action::USER_NOTIF);
    }
    if let Some(always) = allow.iter().find(|arm| arm.is_empty()) {
        allow = vec![always.clone()];
        if notify.is_empty() {
            return Answer::Always(action::ALLOW);
        }
    }
    Answer::Judged { notify, allow }
}

/// Without the conditions that always hold; `None` when one never does.
fn satisfiable(when: &[ArgCondition]) -> Option<Arm> {
    let possible = |c: &ArgCondition| !matches!(c.op, ArgOp::Masked(mask) if c.value & !mask != 0);
    let needed = |c: &&ArgCondition| !matches!(c.op, ArgOp::Masked(0));
    when.iter()
        .all(possible)
        .then(|| when.iter().filter(needed).copied().collect())
}

/// All numbers, each span from its start to the next one's.
fn spans(answers: &BTreeMap<u32, Answer>, known_max: u32, abi: Abi) -> Vec<(u32, Answer)> {
    let mut spans: Vec<(u32, Answer)> = Vec::new();
    let mut add = |start: u32, answer: Answer| {
        if spans.last().is_none_or(|(_, last)| *last != answer) {
            spans.push((start, answer));
        }
    };
    for number in 0..=known_max.min(abi::X32_BIT - 2) {
        add(
            number,
            answers
                .get(&number)
                .cloned()
                .unwrap_or(Answer::Always(action::EPERM)),
        );
    }
    add(
        known_max.min(abi::X32_BIT - 2) + 1,
        Answer::Always(action::ENOSYS),
    );
    if abi.x32 {
        // Calls of the x32 ABI differ by this bit only, and the table above does not speak of them. With the sign bit it is no call.
        add(abi::X32_BIT, Answer::Always(action::KILL_PROCESS));
        add(abi::X32_BIT << 1, Answer::Always(action::ENOSYS));
    }
    spans
}

/// Finds the span that the accumulator lies in. The first span holds everything below the second.
fn search<T: PartialEq>(
    asm: &mut Assembler,
    spans: &[(u32, T)],
    leaf: &dyn Fn(&mut Assembler, &T) -> Label,
) -> Label {
    let Some(((_, first), (_, last))) = spans.first().zip(spans.last()) else {
        return asm.ret(action::EPERM);
    };
    if spans.len() == 1 {
        return leaf(asm, first);
    }
    if let Some(singles) = singles(spans, last) {
        let mut next = leaf(asm, last);
        for (value, target) in singles.into_iter().rev() {
            let found = leaf(asm, target);
            next = asm.test(Test::Equal(value), found, next);
        }
        return next;
    }
    let (below, above) = spans.split_at(spans.len() / 2);
    let boundary = above.first().map_or(0, |(start, _)| *start);
    let high = search(asm, above, leaf);
    let low = search(asm, below, leaf);
    asm.test(Test::AtLeast(boundary), high, low)
}

/// A few single values in one span of `around`, cheaper compared one by one. The first span starts somewhere below its neighbour's
/// start and the last one has no end, so both must be `around`.
fn singles<'a, T: PartialEq>(spans: &'a [(u32, T)], around: &T) -> Option<Vec<(u32, &'a T)>> {
    let first = spans.first().filter(|(_, first)| first == around)?;
    let mut found = Vec::new();
    for ((start, inside), (end, _)) in spans.iter().zip(spans.get(1..)?) {
        if inside != around {
            (start + 1 == *end && found.len() < 3).then_some(())?;
            found.push((*start, inside));
        }
    }
    (first.0 <= found.first()?.0).then_some(found)
}

fn judge(asm: &mut Assembler, answer: &Answer) -> Label {
    match answer {
        Answer::Always(action) => asm.ret(*action),
        Answer::Judged { notify, allow } => {
            let refused = asm.ret(action::EPERM);
            let allowed = asm.ret(action::ALLOW);
            let judged = any(asm, allow, allowed, refused);
            if notify.is_empty() {
                return judged;
            }
            let told = asm.ret(action::USER_NOTIF);
            any(asm, notify, told, judged)
        }
    }
}

/// `ok` when one of the arms holds. Arms that look at the same bits of the same argument are searched together.
fn any(asm: &mut Assembler, arms: &[Arm], ok: Label, fail: Label) -> Label {
    if arms.iter().any(Vec::is_empty) {
        return ok;
    }
    let Some(lead) = arms.first().and_then(|arm| arm.first()) else {
        return fail;
    };
    let Some(mask) = mask(lead) else {
        let (these, others): (Vec<&Arm>, Vec<&Arm>) =
            arms.iter().partition(|arm| arm.contains(lead));
        let fail = any(
            asm,
            &others.into_iter().cloned().collect::<Vec<_>>(),
            ok,
            fail,
        );
        let rest: Vec<Arm> = these.into_iter().map(|arm| without(arm, lead)).collect();
        let ok = any(asm, &rest, ok, fail);
        return compare(asm, lead, ok, fail);
    };
    let same = |c: &&ArgCondition| c.arg == lead.arg && self::mask(c) == Some(mask);
    let mut by_value: BTreeMap<u64, Vec<Arm>> = BTreeMap::new();
    let mut others = Vec::new();
    for arm in arms {
        match arm.iter().find(same) {
            Some(condition) => by_value
                .entry(condition.value)
                .or_default()
                .push(without(arm, condition)),
            None => others.push(arm.clone()),
        }
    }
    let fail = any(asm, &others, ok, fail);
    let targets: Vec<(u64, Label)> = by_value
        .into_iter()
        .rev()
        .map(|(value, rest)| (value, any(asm, &rest, ok, fail)))
        .collect();
    among(asm, lead.arg, mask, &targets, fail)
}

/// The bits that an equality looks at; `None` for an order or an inequality.
fn mask(condition: &ArgCondition) -> Option<u64> {
    match condition.op {
        ArgOp::Eq => Some(u64::MAX),
        ArgOp::Masked(mask) => Some(mask),
        ArgOp::Ne | ArgOp::Lt | ArgOp::Le | ArgOp::Gt | ArgOp::Ge => None,
    }
}

fn without(arm: &Arm, condition: &ArgCondition) -> Arm {
    arm.iter()
        .filter(|other| *other != condition)
        .copied()
        .collect()
}

/// Where the masked argument's value leads: `targets` by value, highest first.
fn among(asm: &mut Assembler, arg: u8, mask: u64, targets: &[(u64, Label)], fail: Label) -> Label {
    let (mask_high, mask_low) = halves(mask);
    // By the upper half first: usually its mask is empty, and there is one group.
    let mut by_high: BTreeMap<u32, Vec<(u32, Label)>> = BTreeMap::new();
    for (value, target) in targets {
        let (high, low) = halves(*value);
        by_high.entry(high).or_default().push((low, *target));
    }
    let highs: Vec<(u32, Label)> = by_high
        .into_iter()
        .rev()
        .map(|(high, lows)| (high, word(asm, low_of(arg), mask_low, &lows, fail)))
        .collect();
    word(asm, high_of(arg), mask_high, &highs, fail)
}

/// The same for one word; an empty mask leaves the value 0.
fn word(
    asm: &mut Assembler,
    offset: u32,
    mask: u32,
    targets: &[(u32, Label)],
    fail: Label,
) -> Label {
    match (mask, targets) {
        (0, [(_, target)]) => *target,
        (_, [(0, target)]) => {
            let test = asm.test(Test::AnyBit(mask), fail, *target);
            asm.load(offset, None, test)
        }
        _ => {
            let found = search(asm, &sparse(targets, fail), &|_, label| *label);
            asm.load(offset, (mask != u32::MAX).then_some(mask), found)
        }
    }
}

/// Spans that hold one value each, and `fail` between.
fn sparse(targets: &[(u32, Label)], fail: Label) -> Vec<(u32, Label)> {
    let mut spans = vec![(0, fail)];
    for (value, target) in targets.iter().rev() {
        match spans.last_mut() {
            Some(last) if last.0 == *value => last.1 = *target,
            _ => spans.push((*value, *target)),
        }
        if let Some(next) = value.checked_add(1) {
            spans.push((next, fail));
        }
    }
    spans.dedup_by(|next, before| next.1 == before.1);
    spans
}

/// An inequality or an order, over both halves.
fn compare(asm: &mut Assembler, condition: &ArgCondition, ok: Label, fail: Label) -> Label {
    let (high, low) = halves(condition.value);
    let order = |asm: &mut Assembler, test: Test, yes: Label, no: Label| {
        let test = asm.test(test, yes, no);
        let lower = asm.load(low_of(condition.arg), None, test);
        let equal = asm.test(Test::Equal(high), lower, no);
        let upper = asm.test(Test::Greater(high), yes, equal);
        asm.load(high_of(condition.arg), None, upper)
    };
    match condition.op {
        ArgOp::Ge => order(asm, Test::AtLeast(low), ok, fail),
        ArgOp::Gt => order(asm, Test::Greater(low), ok, fail),
        ArgOp::Lt => order(asm, Test::AtLeast(low), fail, ok),
        ArgOp::Le => order(asm, Test::Greater(low), fail, ok),
        ArgOp::Ne => among(asm, condition.arg, u64::MAX, &[(condition.value, fail)], ok),
        ArgOp::Eq => among(asm, condition.arg, u64::MAX, &[(condition.value, ok)], fail),
        ArgOp::Masked(mask) => among(asm, condition.arg, mask, &[(condition.value, ok)], fail),
    }
}

fn halves(value: u64) -> (u32, u32) {
    let half = |shift: u32| u32::try_from((value >> shift) & 0xffff_ffff).unwrap_or(u32::MAX);
    (half(32), half(0))
}

/// Offset of an argument's lower half in `struct seccomp_data`, on a little-endian machine.
fn low_of(arg: u8) -> u32 {
    16 + 8 * u32::from(arg)
}

fn high_of(arg: u8) -> u32 {
    low_of(arg) + 4
}
