//! Which of several rules for one call decides where more than one holds. A profile does not say; libseccomp tries them in an order that comes
//! from its tree of comparisons, and profiles were tested with that. Only rules that answer differently need it.

use std::cmp::Ordering;

use airtight_plan::{ArgCondition, ArgOp};

use super::condition::{Arm, Width};

/// One comparison of a 32-bit word. The later argument is looked at first, its upper word before its lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Comparison {
    word: u8,
    kind: Kind,
    datum: u32,
    mask: u32,
    /// Of the condition that it is part of.
    order: Order,
}

/// What is compared: `<` and `<=` are the opposites of `>=` and `>`, and unequal that of equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Equal,
    Masked,
    Greater,
    AtLeast,
}

/// Kinds of conditions, first tried last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Above,
    Below,
    Equality,
}

/// Comparisons on one level, in the order in which they are tried.
#[derive(Debug, Default)]
struct Level(Vec<Node>);

#[derive(Debug)]
struct Node {
    comparison: Comparison,
    /// What is decided here: once it holds, or once it does not.
    leaves: Vec<(Arm, u32)>,
    below: Level,
}

/// `arms` in the order in which they are to be tried: the first that holds decides.
pub(super) fn order(arms: Vec<(Arm, u32)>, width: Width) -> Vec<(Arm, u32)> {
    let mut root = Level::default();
    for (arm, action) in arms {
        let comparisons: Vec<Comparison> = arm.iter().flat_map(|c| comparisons(c, width)).collect();
        root.insert(&comparisons, arm, action);
    }
    let mut ordered = Vec::new();
    root.flatten(&mut ordered);
    ordered
}

impl Level {
    fn insert(&mut self, comparisons: &[Comparison], arm: Arm, action: u32) {
        let Some((first, rest)) = comparisons.split_first() else {
            return;
        };
        let at = self.0.iter().position(|node| {
            node.comparison.same(first) || node.comparison.before(first) == Ordering::Less
        });
        let at = match at {
            Some(at)
                if self
                    .0
                    .get(at)
                    .is_some_and(|node| node.comparison.same(first)) =>
            {
                at
            }
            other => {
                let at = other.unwrap_or(self.0.len());
                self.0.insert(
                    at,
                    Node {
                        comparison: *first,
                        leaves: Vec::new(),
                        below: Self::default(),
                    },
                );
                at
            }
        };
        let Some(node) = self.0.get_mut(at) else {
            return;
        };
        if !rest.is_empty() {
            node.below.insert(rest, arm, action);
        } else if node.leaves.iter().all(|(there, _)| *there != arm) {
            node.leaves.push((arm, action));
        }
    }

    fn flatten(self, into: &mut Vec<(Arm, u32)>) {
        for node in self.0 {
            into.extend(node.leaves);
            node.below.flatten(into);
        }
    }
}

impl Comparison {
    /// The same branch of the program: an inequality shares it with the equality, `<` with `>=`.
    fn same(&self, other: &Self) -> bool {
        self.word == other.word
            && self.kind == other.kind
            && self.datum == other.datum
            && self.mask == other.mask
    }

    fn before(&self, other: &Self) -> Ordering {
        let data = || match self.order {
            Order::Below => other.datum.cmp(&self.datum),
            Order::Above | Order::Equality => self.datum.cmp(&other.datum),
        };
        self.word
            .cmp(&other.word)
            .then(self.order.cmp(&other.order))
            .then_with(data)
    }
}

fn comparisons(condition: &ArgCondition, width: Width) -> Vec<Comparison> {
    let (kind, order) = match condition.op {
        ArgOp::Eq | ArgOp::Ne => (Kind::Equal, Order::Equality),
        ArgOp::Masked(_) => (Kind::Masked, Order::Equality),
        ArgOp::Gt => (Kind::Greater, Order::Above),
        ArgOp::Le => (Kind::Greater, Order::Below),
        ArgOp::Ge => (Kind::AtLeast, Order::Above),
        ArgOp::Lt => (Kind::AtLeast, Order::Below),
    };
    let mask = match condition.op {
        ArgOp::Masked(mask) => mask,
        ArgOp::Eq | ArgOp::Ne | ArgOp::Gt | ArgOp::Ge | ArgOp::Lt | ArgOp::Le => u64::MAX,
    };
    let half = |value: u64, high: bool| {
        let shift = if high { 32 } else { 0 };
        u32::try_from(value >> shift & 0xffff_ffff).unwrap_or(u32::MAX)
    };
    let one = |high: bool| Comparison {
        word: condition.arg * 2 + u8::from(high),
        // An order looks at the upper word with `>`, whichever it is.
        kind: match kind {
            Kind::AtLeast if high => Kind::Greater,
            other => other,
        },
        datum: half(condition.value, high),
        mask: half(mask, high),
        order,
    };
    match width {
        Width::Both => vec![one(true), one(false)],
        Width::Low => vec![one(false)],
    }
}
