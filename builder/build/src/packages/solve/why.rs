//! Why there is no answer, in words: what is wanted, by whom, and what is there instead.

use super::super::relation::Alternatives;
use super::{By, Search, Taken, Unsolved};

/// Names in a chain of a message.
const MAX_CHAIN: usize = 12;

impl Search<'_> {
    pub(super) fn wanted(&self, by: By) -> String {
        match by {
            By::Base => "the base's".to_owned(),
            By::Root(_) | By::Chosen(_) => format!("needed by {}", self.chain(by)),
        }
    }

    pub(super) fn nothing_for(&self, any: &Alternatives, by: By) -> Unsolved {
        let in_base = any.0.iter().find_map(|relation| {
            let mut base = self.taken.iter().take(self.base);
            base.find(|taken| *taken.candidate.name == *relation.name)
        });
        if let Some(Taken { candidate, .. }) = in_base {
            let who = match by {
                By::Root(_) | By::Base => "asked for".to_owned(),
                By::Chosen(_) => format!("needed by {}", self.chain(by)),
            };
            let problem = format!(
                "`{any}` is {who}, and the base has {} {}, which stays as it is",
                candidate.name, candidate.version
            );
            return Unsolved {
                root: self.root(by),
                problem,
                fix: "use a base of the suite's own versions, or without that package",
            };
        }
        let there: Vec<String> = any
            .0
            .iter()
            .flat_map(|relation| self.index.named(&relation.name))
            .map(|candidate| format!("{} {}", candidate.name, candidate.version))
            .take(4)
            .collect();
        let there = if there.is_empty() {
            "and there is no such package".to_owned()
        } else {
            format!("and there is only {}", there.join(", "))
        };
        let problem = match by {
            By::Root(_) | By::Base => format!("`{any}` is asked for, {there}"),
            By::Chosen(_) => format!("`{any}` is needed by {}, {there}", self.chain(by)),
        };
        Unsolved {
            root: self.root(by),
            problem,
            fix: "correct the name, name a suite or component that has it, or list in `without` what only scripts need",
        }
    }

    /// `libb 1 <- liba 2 <- what was asked for`.
    pub(super) fn chain(&self, mut by: By) -> String {
        let mut names = Vec::new();
        while let By::Chosen(at) = by {
            let Some(taken) = self.taken.get(at) else {
                break;
            };
            names.push(format!(
                "{} {}",
                taken.candidate.name, taken.candidate.version
            ));
            by = taken.by;
        }
        if names.is_empty() {
            return "the build file".to_owned();
        }
        if names.len() > MAX_CHAIN {
            names.drain(MAX_CHAIN / 2..names.len() - MAX_CHAIN / 2);
            names.insert(MAX_CHAIN / 2, "…".to_owned());
        }
        names.join(" <- ")
    }

    pub(super) fn root(&self, mut by: By) -> usize {
        loop {
            match by {
                By::Base => return 0,
                By::Root(at) => return at,
                By::Chosen(at) => match self.taken.get(at) {
                    Some(taken) => by = taken.by,
                    None => return 0,
                },
            }
        }
    }
}
