//! A set of permitted system calls, and the algebra that narrows it. A condition is a masked equality, because those intersect exactly.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::names;

/// `argument & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Masked {
    /// The bits that count.
    pub mask: u64,
    /// What they are.
    pub value: u64,
}

impl Masked {
    /// What satisfies both; `None` when nothing does.
    fn and(self, other: Self) -> Option<Self> {
        (self.value & other.mask == other.value & self.mask).then_some(Self {
            mask: self.mask | other.mask,
            value: self.value | other.value,
        })
    }

    /// Whether everything that satisfies `self` satisfies `other`.
    fn implies(self, other: Self) -> bool {
        other.mask & !self.mask == 0 && self.value & other.mask == other.value
    }
}

/// Conditions by argument, 0 to 5, that hold together. Empty: always.
pub type Conditions = BTreeMap<u8, Masked>;

/// System calls by name, each with alternatives. No alternative lies within another of the same name, so equal sets compare equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyscallSet {
    // Shared until changed: a launch holds the same shipped set several times over.
    calls: Arc<BTreeMap<&'static str, Vec<Conditions>>>,
}

impl SyscallSet {
    /// Adds one alternative. `name` must come from [`names::known`].
    pub(crate) fn insert(&mut self, name: &'static str, when: Conditions) {
        let alternatives = Arc::make_mut(&mut self.calls).entry(name).or_default();
        if alternatives.iter().any(|present| within(&when, present)) {
            return;
        }
        alternatives.retain(|present| !within(present, &when));
        let at = alternatives.partition_point(|present| *present < when);
        alternatives.insert(at, when);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        for (name, alternatives) in other.calls.iter() {
            for when in alternatives {
                self.insert(name, when.clone());
            }
        }
    }

    /// Of calls in order of name, each with alternatives that are in order and none of which lies within another.
    pub(crate) fn sorted(calls: Vec<(&'static str, Vec<Conditions>)>) -> Self {
        Self {
            calls: Arc::new(calls.into_iter().collect()),
        }
    }

    /// The calls that both permit.
    #[must_use]
    pub fn tighten(&self, with: &Self) -> Self {
        let mut both = Vec::with_capacity(self.calls.len());
        let mut all = true;
        for (name, ours, theirs) in self.beside(with) {
            let permitted = meet(name, ours, theirs);
            all &= *permitted == *ours;
            if !permitted.is_empty() {
                both.push((name, permitted));
            }
        }
        if all {
            // The common case: nothing is taken, and nothing is copied.
            return self.clone();
        }
        let owned = both
            .into_iter()
            .map(|(name, when)| (name, when.into_owned()));
        Self::sorted(owned.collect())
    }

    /// The alternatives of `self` that no single alternative of `ceiling` covers.
    #[must_use]
    pub fn beyond(&self, ceiling: &Self) -> Self {
        let mut beyond = Self::default();
        for (name, ours, theirs) in self.beside(ceiling) {
            if among(ours, theirs) {
                continue;
            }
            for when in ours.iter().filter(|a| !theirs.iter().any(|b| within(a, b))) {
                beyond.insert(name, when.clone());
            }
        }
        beyond
    }

    /// Each name of `self` with its alternatives and those of `other`, which may be none. Both are in order: one walk finds them.
    fn beside<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'static str, &'a [Conditions], &'a [Conditions])> {
        let mut others = other.calls.iter().peekable();
        self.calls.iter().map(move |(name, ours)| {
            while others.next_if(|(other, _)| *other < name).is_some() {}
            let theirs = others.next_if(|(other, _)| *other == name);
            (*name, &**ours, theirs.map_or(&[][..], |(_, when)| when))
        })
    }

    /// Whether nothing is permitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether the call is permitted under some condition.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.calls.contains_key(name)
    }

    /// Each alternative with its name, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Conditions)> {
        self.calls
            .iter()
            .flat_map(|(name, alternatives)| alternatives.iter().map(move |when| (*name, when)))
    }
}

/// One call in words: `clone(flags & 0x7e020000 == 0x0)` with arguments by number.
pub(crate) fn display(name: &str, when: &Conditions) -> String {
    struct One<'a>(u8, &'a Masked);
    impl fmt::Display for One<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(
                f,
                "arg{} & {:#x} == {:#x}",
                self.0, self.1.mask, self.1.value
            )
        }
    }
    let conditions: Vec<String> = when
        .iter()
        .map(|(arg, masked)| One(*arg, masked).to_string())
        .collect();
    if conditions.is_empty() {
        name.to_owned()
    } else {
        format!("{name}({})", conditions.join(", "))
    }
}

/// Whether `inner` permits nothing that `outer` does not.
fn within(inner: &Conditions, outer: &Conditions) -> bool {
    outer
        .iter()
        .all(|(arg, wide)| inner.get(arg).is_some_and(|narrow| narrow.implies(*wide)))
}

/// The alternatives of one call that both permit.
fn meet<'a>(
    name: &'static str,
    ours: &'a [Conditions],
    theirs: &[Conditions],
) -> Cow<'a, [Conditions]> {
    if among(ours, theirs) {
        return Cow::Borrowed(ours);
    }
    let mut both = SyscallSet::default();
    for when in ours
        .iter()
        .flat_map(|a| theirs.iter().filter_map(|b| intersect(a, b)))
    {
        both.insert(name, when);
    }
    let met = both.iter().map(|(_, when)| when.clone()).collect();
    Cow::Owned(met)
}

/// Whether the alternatives of one call are among others of it as they stand. Both are in order: what follows is quadratic otherwise.
fn among(ours: &[Conditions], theirs: &[Conditions]) -> bool {
    let mut theirs = theirs.iter();
    ours.iter().all(|a| theirs.any(|b| a == b))
}

fn intersect(a: &Conditions, b: &Conditions) -> Option<Conditions> {
    let mut both = a.clone();
    for (arg, masked) in b {
        let merged = match both.get(arg) {
            Some(present) => present.and(*masked)?,
            None => *masked,
        };
        both.insert(*arg, merged);
    }
    Some(both)
}

/// Why a name cannot be granted at all, for those that people ask for.
pub(crate) fn refusal(name: &str) -> &'static str {
    match names::known(name) {
        None => "is not a system call",
        Some(_) => "is granted to no payload: it leads out of the sandbox or is not needed in one",
    }
}
