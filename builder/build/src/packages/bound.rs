//! Whether pinned packages are an answer to what the build file asks for. A lock is a file that people and their tools merge, and its digest of the question says
//! nothing about the list beside it: a list that lacks what was asked for, or has what nothing needs, is no answer. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Candidate;
use super::relation::{Alternatives, Relation};
use super::scripts::only_scripts_need;
use super::version::Version;

/// A package beside its fields, which are read once.
struct There<'a> {
    package: &'a Candidate,
    /// Its place among the pinned; `None`: the base's.
    pinned: Option<usize>,
}

struct Judge<'a> {
    architecture: &'a str,
    all: Vec<There<'a>>,
    /// By the names that they have or provide, with the version of that name.
    named: BTreeMap<String, Vec<(usize, Option<Version>)>>,
}

/// `asked` with the build file's keys; `base` is there without being pinned.
///
/// # Errors
/// The first thing that is missing, too much, or not to be had beside another, as what the lock does.
pub(crate) fn bound(
    asked: &[(String, &Relation)],
    architecture: &str,
    without: &BTreeSet<String>,
    pinned: &[Candidate],
    base: &[Candidate],
) -> Result<(), String> {
    let judge = Judge::new(architecture, pinned, base)?;
    let mut reached = vec![false; judge.all.len()];
    let mut waiting = Vec::new();
    for (key, relation) in asked {
        let met = judge.met(relation);
        if met.is_empty() {
            return Err(format!(
                "pins nothing for `{relation}`, which {key} asks for"
            ));
        }
        waiting.extend(met);
    }
    while let Some(at) = waiting.pop() {
        let Some((There { package, pinned }, reached @ false)) =
            judge.all.get(at).zip(reached.get_mut(at))
        else {
            continue;
        };
        *reached = true;
        // What the base's packages need is the base's to have.
        if pinned.is_none() {
            continue;
        }
        judge.together(package)?;
        for any in package.needs()? {
            let met = judge.met_by_any(&any);
            let left_out = |relation: &Relation| {
                without.contains(&relation.name) || only_scripts_need(&package.name, &relation.name)
            };
            if met.is_empty() && !any.0.iter().any(left_out) {
                return Err(format!(
                    "pins {} {}, and nothing for `{any}`, which it needs",
                    package.name, package.version
                ));
            }
            waiting.extend(met);
        }
    }
    let mut all = judge.all.iter().zip(&reached);
    match all.find(|(there, reached)| there.pinned.is_some() && !**reached) {
        Some((There { package, .. }, _)) => Err(format!(
            "pins {} {}, which nothing that the build file asks for needs",
            package.name, package.version
        )),
        None => Ok(()),
    }
}

impl<'a> Judge<'a> {
    fn new(
        architecture: &'a str,
        pinned: &'a [Candidate],
        base: &'a [Candidate],
    ) -> Result<Self, String> {
        let ours = pinned.iter().enumerate();
        let ours = ours.map(|(at, package)| There {
            package,
            pinned: Some(at),
        });
        let theirs = base.iter().map(|package| There {
            package,
            pinned: None,
        });
        let all: Vec<There<'_>> = ours.chain(theirs).collect();
        let mut named: BTreeMap<String, Vec<(usize, Option<Version>)>> = BTreeMap::new();
        for (at, There { package, pinned }) in all.iter().enumerate() {
            let own = (package.name.to_string(), Some(package.version.clone()));
            let same = named.get(&own.0).and_then(|others| others.first());
            if let Some((There { package: other, .. }, None)) = same
                .and_then(|(at, _)| all.get(*at))
                .map(|there| (there, *pinned))
            {
                return Err(format!(
                    "pins {} {}, and the base has {}",
                    other.name, other.version, package.version
                ));
            }
            named.entry(own.0).or_default().push((at, own.1));
        }
        for (at, There { package, .. }) in all.iter().enumerate() {
            for (name, version) in package.provided()? {
                named.entry(name).or_default().push((at, version));
            }
        }
        Ok(Self {
            architecture,
            all,
            named,
        })
    }

    fn met(&self, relation: &Relation) -> Vec<usize> {
        if !relation.is_for(self.architecture) {
            return Vec::new();
        }
        let named = self.named.get(&relation.name).into_iter().flatten();
        named
            .filter(|(_, version)| relation.takes_provided(version.as_ref()))
            .map(|(at, _)| *at)
            .collect()
    }

    fn met_by_any(&self, any: &Alternatives) -> Vec<usize> {
        any.0
            .iter()
            .flat_map(|relation| self.met(relation))
            .collect()
    }

    fn together(&self, package: &Candidate) -> Result<(), String> {
        for any in package.refuses()? {
            let against = self.met_by_any(&any);
            let against = against.iter().filter_map(|at| self.all.get(*at));
            if let Some(There { package: other, .. }) = against
                .into_iter()
                .find(|other| other.package.name != package.name)
            {
                return Err(format!(
                    "pins {} {}, which cannot be together with {} {}, by `{any}`",
                    package.name, package.version, other.name, other.version
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::tests::index;
    use super::*;

    fn judged(pinned: &[&str], base: &[&str], asked: &[&str]) -> Result<(), String> {
        let asked: Vec<Relation> = asked
            .iter()
            .map(|text| Relation::parse(text).unwrap())
            .collect();
        let asked: Vec<(String, &Relation)> = asked
            .iter()
            .map(|relation| ("layer[0].packages[0]".to_owned(), relation))
            .collect();
        let (pinned, base) = (index(pinned), index(base));
        let without = [String::from("own")].into();
        bound(
            &asked,
            "amd64",
            &without,
            &pinned.candidates,
            &base.candidates,
        )
    }

    #[test]
    fn an_answer_has_all_that_is_needed_and_nothing_else() {
        for (name, pinned, base, asked, want) in [
            (
                "whole",
                &["aa 1; Depends: bb | cc, own, dpkg", "cc 2; Provides: dd"][..],
                &[][..],
                &["aa (>= 1)", "dd"][..],
                Ok(()),
            ),
            (
                "what the base has is there",
                &["aa 1; Depends: bb"],
                &["bb 1; Depends: gone"],
                &["aa"],
                Ok(()),
            ),
            (
                "not what was asked for",
                &["aa 1"],
                &[],
                &["aa", "bb"],
                Err("pins nothing for `bb`, which layer[0].packages[0] asks for"),
            ),
            (
                "another version than was asked for",
                &["aa 1"],
                &[],
                &["aa (>= 2)"],
                Err("pins nothing for `aa (>= 2)`, which layer[0].packages[0] asks for"),
            ),
            (
                "a need is missing",
                &["aa 1; Depends: bb | cc"],
                &[],
                &["aa"],
                Err("pins aa 1, and nothing for `bb | cc`, which it needs"),
            ),
            (
                "one too many",
                &["aa 1", "evil 1; Depends: aa"],
                &[],
                &["aa"],
                Err("pins evil 1, which nothing that the build file asks for needs"),
            ),
            (
                "the base's too",
                &["aa 1"],
                &["aa 2"],
                &["aa"],
                Err("pins aa 1, and the base has 2"),
            ),
            (
                "not together",
                &["aa 1; Conflicts: bb (<< 2)", "bb 1"],
                &[],
                &["aa", "bb"],
                Err("pins aa 1, which cannot be together with bb 1, by `bb (<< 2)`"),
            ),
        ] {
            let want = want.map_err(str::to_owned);
            assert_eq!(judged(pinned, base, asked), want, "{name}");
        }
    }
}
