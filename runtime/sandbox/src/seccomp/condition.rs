//! Conditions on arguments to a program: a search over the values of one argument at a time.

use std::collections::BTreeMap;

use airtight_plan::{ArgCondition, ArgOp};

use super::assemble::{Assembler, Label, Test};
use super::search::search;

/// Conditions that hold together.
pub(super) type Arm = Vec<ArgCondition>;

/// How much of an argument an ABI has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Both,
    /// A 32-bit one: values of conditions must be cut to the lower half first.
    Low,
}

impl Width {
    pub(super) fn mask(self) -> u64 {
        match self {
            Self::Both => u64::MAX,
            Self::Low => 0xffff_ffff,
        }
    }
}

/// Without the conditions that always hold; `None` when one never does.
pub(super) fn satisfiable(when: &[ArgCondition]) -> Option<Arm> {
    let possible = |c: &ArgCondition| !matches!(c.op, ArgOp::Masked(mask) if c.value & !mask != 0);
    let needed = |c: &&ArgCondition| !matches!(c.op, ArgOp::Masked(0));
    when.iter()
        .all(possible)
        .then(|| when.iter().filter(needed).copied().collect())
}

/// `ok` when one of the arms holds. Arms that look at the same bits of the same argument are searched together.
pub(super) fn any(
    asm: &mut Assembler,
    width: Width,
    arms: &[Arm],
    ok: Label,
    fail: Label,
) -> Label {
    if arms.iter().any(Vec::is_empty) {
        return ok;
    }
    let Some(lead) = arms.first().and_then(|arm| arm.first()) else {
        return fail;
    };
    let Some(mask) = mask(width, lead) else {
        let (these, others): (Vec<&Arm>, Vec<&Arm>) =
            arms.iter().partition(|arm| arm.contains(lead));
        let fail = any(
            asm,
            width,
            &others.into_iter().cloned().collect::<Vec<_>>(),
            ok,
            fail,
        );
        let rest: Vec<Arm> = these.into_iter().map(|arm| without(arm, lead)).collect();
        let ok = any(asm, width, &rest, ok, fail);
        return compare(asm, width, lead, ok, fail);
    };
    let same = |c: &&ArgCondition| c.arg == lead.arg && self::mask(width, c) == Some(mask);
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
    let fail = any(asm, width, &others, ok, fail);
    let targets: Vec<(u64, Label)> = by_value
        .into_iter()
        .rev()
        .map(|(value, rest)| (value, any(asm, width, &rest, ok, fail)))
        .collect();
    among(asm, lead.arg, mask, &targets, fail)
}

/// The bits that an equality looks at; `None` for an order or an inequality.
fn mask(width: Width, condition: &ArgCondition) -> Option<u64> {
    match condition.op {
        ArgOp::Eq => Some(width.mask()),
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
fn compare(
    asm: &mut Assembler,
    width: Width,
    condition: &ArgCondition,
    ok: Label,
    fail: Label,
) -> Label {
    let (high, low) = halves(condition.value);
    let order = |asm: &mut Assembler, test: Test, yes: Label, no: Label| {
        let test = asm.test(test, yes, no);
        let lower = asm.load(low_of(condition.arg), None, test);
        if width == Width::Low {
            return lower;
        }
        let equal = asm.test(Test::Equal(high), lower, no);
        let upper = asm.test(Test::Greater(high), yes, equal);
        asm.load(high_of(condition.arg), None, upper)
    };
    match condition.op {
        ArgOp::Ge => order(asm, Test::AtLeast(low), ok, fail),
        ArgOp::Gt => order(asm, Test::Greater(low), ok, fail),
        ArgOp::Lt => order(asm, Test::AtLeast(low), fail, ok),
        ArgOp::Le => order(asm, Test::Greater(low), fail, ok),
        ArgOp::Ne => among(
            asm,
            condition.arg,
            width.mask(),
            &[(condition.value, fail)],
            ok,
        ),
        ArgOp::Eq => among(
            asm,
            condition.arg,
            width.mask(),
            &[(condition.value, ok)],
            fail,
        ),
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
