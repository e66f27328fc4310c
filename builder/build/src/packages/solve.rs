//! Which packages a build takes: what was asked for and what that needs, at the latest version of each that fits. The same question has the same answer. Pure.
//!
//! Packages that are `Essential` are taken where something needs them, never by themselves: an image has no use for a shell that nothing asks for.

mod why;

use std::collections::BTreeSet;
use std::rc::Rc;

use super::index::{Candidate, Index};
use super::relation::{Alternatives, Relation};
use super::scripts::only_scripts_need;
use super::version::Version;

/// Choices that are tried; an honest release needs as many as there are packages.
const MAX_STEPS: usize = 50_000;
/// Of one build.
const MAX_CHOSEN: usize = 5_000;

/// A package of the answer.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) candidate: &'a Candidate,
    /// Places in the answer of what it needs; what the base has is none.
    pub(crate) needs: Vec<usize>,
}

/// All packages, in the order in which they were taken.
#[derive(Clone, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) chosen: Vec<Chosen<'a>>,
    /// For each root, the place of what answers it; `None` where the base does.
    pub(crate) roots: Vec<Option<usize>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsolved {
    /// The request that it was for, as the caller counts them.
    pub(crate) root: usize,
    pub(crate) problem: String,
    pub(crate) fix: &'static str,
}

/// Who wants something.
#[derive(Clone, Copy, Debug)]
enum By {
    /// It was there before.
    Base,
    Root(usize),
    Chosen(usize),
}

struct Goal {
    any: Rc<Alternatives>,
    by: By,
}

struct Taken<'a> {
    candidate: &'a Candidate,
    by: By,
    provided: Vec<(String, Option<Version>)>,
    needs: Vec<Rc<Alternatives>>,
    refuses: Vec<Alternatives>,
}

/// A place to come back to.
struct Choice<'a> {
    taken: usize,
    goals: usize,
    next: usize,
    by: By,
    options: Vec<&'a Candidate>,
    at: usize,
}

struct Search<'a> {
    index: &'a Index,
    architecture: &'a str,
    without: &'a BTreeSet<String>,
    /// What the base has comes first.
    taken: Vec<Taken<'a>>,
    base: usize,
    goals: Vec<Goal>,
    next: usize,
    choices: Vec<Choice<'a>>,
    /// The first: what comes after it are other ways round it.
    failed: Option<Unsolved>,
}

/// Answers `roots` on top of `base`, which is there and stays as it is: nothing of that name is taken in another version, and what it lacks itself is not asked for.
/// Whatever `without` names, or only scripts need, counts as there for whoever needs it, and is taken only if it is a root.
///
/// # Errors
/// The first need that cannot be met, or two packages that cannot be together, with the way that leads there.
pub(crate) fn solve<'a>(
    index: &'a Index,
    base: &'a [Candidate],
    architecture: &'a str,
    roots: &[Relation],
    without: &'a BTreeSet<String>,
) -> Result<Answer<'a>, Unsolved> {
    let unreadable = |problem: String| Unsolved {
        root: 0,
        problem: format!("the base {problem}"),
        fix: "use another base",
    };
    let taken: Vec<Taken<'_>> = base
        .iter()
        .map(|there| Taken::new(there, By::Base))
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    let goals = roots.iter().enumerate().map(|(at, relation)| Goal {
        any: Rc::new(Alternatives(vec![relation.clone()])),
        by: By::Root(at),
    });
    let mut search = Search {
        index,
        architecture,
        without,
        base: taken.len(),
        taken,
        goals: goals.collect(),
        next: 0,
        choices: Vec::new(),
        failed: None,
    };
    for _ in 0..MAX_STEPS {
        match search.step() {
            Ok(true) => return Ok(search.answer(roots)),
            Ok(false) => {}
            Err(unsolved) => return Err(unsolved),
        }
    }
    Err(search.failed.take().unwrap_or(Unsolved {
        root: 0,
        problem: format!("needs more than {MAX_STEPS} choices"),
        fix: "ask for less, or name versions",
    }))
}

impl<'a> Search<'a> {
    /// True when nothing is left to be wanted.
    fn step(&mut self) -> Result<bool, Unsolved> {
        let Some(goal) = self.goals.get(self.next) else {
            return Ok(true);
        };
        let (any, by) = (Rc::clone(&goal.any), goal.by);
        self.next += 1;
        if self.is_met(&any, by) {
            return Ok(false);
        }
        let options = self.options(&any);
        if options.is_empty() {
            let unsolved = self.nothing_for(&any, by);
            return self.go_back(unsolved);
        }
        self.choices.push(Choice {
            taken: self.taken.len(),
            goals: self.goals.len(),
            next: self.next,
            by,
            options,
            at: 0,
        });
        self.choose()
    }

    /// Takes the latest choice's option.
    fn choose(&mut self) -> Result<bool, Unsolved> {
        let Some(choice) = self.choices.last() else {
            return Ok(false);
        };
        let (by, at) = (choice.by, choice.at);
        let Some(candidate) = choice.options.get(at).copied() else {
            return Ok(false);
        };
        match self.take(candidate, by) {
            Ok(()) => Ok(false),
            Err(unsolved) => self.go_back(unsolved),
        }
    }

    /// To the latest choice with another option.
    fn go_back(&mut self, unsolved: Unsolved) -> Result<bool, Unsolved> {
        let first = self.failed.get_or_insert(unsolved).clone();
        while let Some(choice) = self.choices.last_mut() {
            choice.at += 1;
            if choice.at < choice.options.len() {
                self.taken.truncate(choice.taken);
                self.goals.truncate(choice.goals);
                self.next = choice.next;
                return self.choose();
            }
            self.choices.pop();
        }
        Err(first)
    }

    fn is_met(&self, any: &Alternatives, by: By) -> bool {
        let left_out = |package: &str| {
            any.0.iter().any(|relation| {
                self.without.contains(&relation.name) || only_scripts_need(package, &relation.name)
            })
        };
        let package = match by {
            By::Root(_) | By::Base => None,
            By::Chosen(at) => self.taken.get(at).map(|taken| &*taken.candidate.name),
        };
        package.is_some_and(left_out) || self.met_by(any).is_some()
    }

    fn met_by(&self, any: &Alternatives) -> Option<usize> {
        any.0.iter().find_map(|relation| {
            self.taken
                .iter()
                .position(|taken| self.meets(relation, taken))
        })
    }

    fn meets(&self, relation: &Relation, taken: &Taken<'_>) -> bool {
        relation.is_for(self.architecture)
            && (relation.name == *taken.candidate.name && relation.takes(&taken.candidate.version)
                || taken.provided.iter().any(|(name, version)| {
                    *name == relation.name && relation.takes_provided(version.as_ref())
                }))
    }

    /// In the order in which they are tried: alternatives as they are written, a package of the name before those that provide it.
    fn options(&self, any: &Alternatives) -> Vec<&'a Candidate> {
        let mut options: Vec<&Candidate> = Vec::new();
        for relation in any
            .0
            .iter()
            .filter(|relation| relation.is_for(self.architecture))
        {
            let real = self
                .index
                .named(&relation.name)
                .filter(|candidate| relation.takes(&candidate.version));
            let provides = |candidate: &&Candidate| {
                let provided = candidate.provided().unwrap_or_default();
                provided.iter().any(|(name, version)| {
                    *name == relation.name && relation.takes_provided(version.as_ref())
                })
            };
            let virtually = self.index.providing(&relation.name).filter(provides);
            for candidate in real.chain(virtually) {
                let is_same = |other: &&Candidate| std::ptr::eq(*other, candidate);
                let another = |taken: &Taken<'_>| taken.candidate.name == candidate.name;
                if !options.iter().any(is_same) && !self.taken.iter().any(another) {
                    options.push(candidate);
                }
            }
        }
        options
    }

    fn take(&mut self, candidate: &'a Candidate, by: By) -> Result<(), Unsolved> {
        const BROKEN: &str = "name another mirror: this one's index is broken";
        let root = self.root(by);
        let broken = |problem: String| Unsolved {
            root,
            problem,
            fix: BROKEN,
        };
        if self.taken.len() >= self.base + MAX_CHOSEN {
            return Err(broken(format!("needs more than {MAX_CHOSEN} packages")));
        }
        let taken = Taken::new(candidate, by).map_err(broken)?;
        for other in &self.taken {
            for (one, against) in [(&taken, other), (other, &taken)] {
                if let Some(relation) = self.refused(one, against) {
                    let problem = format!(
                        "{} {} cannot be together with {} {}, by `{relation}` (the one is {}, the other is {})",
                        one.candidate.name,
                        one.candidate.version,
                        against.candidate.name,
                        against.candidate.version,
                        self.wanted(one.by),
                        self.wanted(against.by),
                    );
                    return Err(Unsolved {
                        root,
                        problem,
                        fix: match other.by {
                            By::Base => {
                                "the base stays as it is: use one without that package, or take out what needs the other"
                            }
                            By::Root(_) | By::Chosen(_) => "take out one of the two that need them",
                        },
                    });
                }
            }
        }
        let at = self.taken.len();
        self.goals.extend(taken.needs.iter().map(|any| Goal {
            any: Rc::clone(any),
            by: By::Chosen(at),
        }));
        self.taken.push(taken);
        Ok(())
    }

    fn refused<'b>(&self, one: &'b Taken<'_>, against: &Taken<'_>) -> Option<&'b Relation> {
        let all = one.refuses.iter().flat_map(|any| any.0.iter());
        all.into_iter()
            .find(|relation| self.meets(relation, against))
    }

    fn answer(&self, roots: &[Relation]) -> Answer<'a> {
        let places = |taken: &Taken<'_>| -> Vec<usize> {
            let met = taken.needs.iter().filter_map(|any| self.met_by(any));
            met.filter_map(|at| at.checked_sub(self.base)).collect()
        };
        let chosen = self.taken.iter().skip(self.base).map(|taken| Chosen {
            candidate: taken.candidate,
            needs: places(taken),
        });
        let met = |root: &Relation| {
            self.taken
                .iter()
                .position(|taken| self.meets(root, taken))
                .and_then(|at| at.checked_sub(self.base))
        };
        Answer {
            chosen: chosen.collect(),
            roots: roots.iter().map(met).collect(),
        }
    }
}

impl<'a> Taken<'a> {
    fn new(candidate: &'a Candidate, by: By) -> Result<Self, String> {
        Ok(Self {
            candidate,
            by,
            provided: candidate.provided()?,
            needs: candidate.needs()?.into_iter().map(Rc::new).collect(),
            refuses: candidate.refuses()?,
        })
    }
}

#[cfg(test)]
mod tests;
