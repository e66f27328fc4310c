//! The binary search of a program: over spans of values, each from its start to the next one's.

use super::action;
use super::assemble::{Assembler, Label, Test};

/// Finds the span that the accumulator lies in. The first span holds everything below the second.
pub(super) fn search<T: PartialEq>(
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
