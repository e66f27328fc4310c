//! Grants of system calls: names with conditions on their arguments.

use serde::Serialize;

use crate::grant::{Source, each};
use crate::names;
use crate::rule::{Conditions, Masked, SyscallSet, display, refusal};
use crate::section::{ProfileError, Section};
use crate::shipped::every_call;

/// Most alternatives that the conditions of one grant may multiply to.
const MAX_ALTERNATIVES: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SyscallGrant {
    pub(crate) names: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) when: Vec<Condition>,
    pub(crate) why: String,
}

/// `argument & mask` is any of these; without a mask the whole register counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Condition {
    pub(crate) any: Vec<u64>,
    pub(crate) arg: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mask: Option<u64>,
}

impl SyscallGrant {
    /// Each name with the product of its conditions.
    pub(crate) fn set(&self) -> SyscallSet {
        let mut alternatives = vec![Conditions::new()];
        for Condition { arg, mask, any } in &self.when {
            let one = |value: &u64| Masked {
                mask: mask.unwrap_or(u64::MAX),
                value: *value,
            };
            alternatives = alternatives
                .iter()
                .flat_map(|before| any.iter().map(|value| with(before, *arg, one(value))))
                .collect();
        }
        let mut set = SyscallSet::default();
        for name in &self.names {
            for when in &alternatives {
                set.insert(name, when.clone());
            }
        }
        set
    }
}

fn with(before: &Conditions, arg: u8, masked: Masked) -> Conditions {
    let mut after = before.clone();
    after.insert(arg, masked);
    after
}

pub(crate) fn syscalls(
    mut grant: Section<'_>,
    source: Source,
) -> Result<SyscallGrant, ProfileError> {
    let texts = grant.texts("names")?;
    if texts.is_empty() {
        return Err(grant.error(
            "names",
            "is missing or empty",
            "name the system calls, like `names = [\"mlock\"]`",
        ));
    }
    let mut names = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let known = names::known(text).ok_or_else(|| {
            grant.error(
                &format!("names[{at}]"),
                format!("`{text}` {}", refusal(text)),
                "look the name up in syscalls(2)",
            )
        })?;
        names.push(known);
    }
    let when = each(grant.sections("when")?, condition)?;
    let mut args: Vec<u8> = when.iter().map(|condition| condition.arg).collect();
    args.sort_unstable();
    if args.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(grant.error(
            "when",
            "names one argument twice",
            "give one condition for each argument",
        ));
    }
    if when
        .iter()
        .map(|condition| condition.any.len())
        .product::<usize>()
        > MAX_ALTERNATIVES
    {
        return Err(grant.error(
            "when",
            format!("has more than {MAX_ALTERNATIVES} combinations"),
            "use a mask, or fewer values",
        ));
    }
    let why = grant.why()?;
    let checked = SyscallGrant { names, when, why };
    if source != Source::Trusted {
        within_every_call(&checked, &grant)?;
    }
    grant.finish()?;
    Ok(checked)
}

/// What leads out of a sandbox is no grant at all, whatever the ceiling says.
fn within_every_call(checked: &SyscallGrant, grant: &Section<'_>) -> Result<(), ProfileError> {
    let every = every_call();
    let beyond = checked.set().beyond(&every);
    let Some((name, when)) = beyond.iter().next() else {
        return Ok(());
    };
    if name == "memfd_create" {
        return Err(grant.error(
            "names",
            "`memfd_create` makes files that can be mapped executable",
            "ask for `write-execute`, which brings it",
        ));
    }
    if every.names(name) {
        let call = display(name, when);
        return Err(grant.error(
            "when",
            format!("`{call}` is wider than any shipped profile"),
            "take the conditions of `service`",
        ));
    }
    Err(grant.error("names", format!("`{name}` {}", refusal(name)), "remove it"))
}

fn condition(mut section: Section<'_>) -> Result<Condition, ProfileError> {
    let arg = section.integer("arg")?;
    let arg = section.required("arg", arg, "write the argument's number, 0 to 5")?;
    let arg = u8::try_from(arg)
        .ok()
        .filter(|arg| *arg <= 5)
        .ok_or_else(|| section.error("arg", format!("{arg} is not from 0 to 5"), "count from 0"))?;
    let mask = section.integer("mask")?;
    let any = section.integers("any")?;
    if any.is_empty() {
        return Err(section.error(
            "any",
            "is missing or empty",
            "write the values that are permitted, like `any = [0]`",
        ));
    }
    if let Some(value) = any
        .iter()
        .find(|value| **value & !mask.unwrap_or(u64::MAX) != 0)
    {
        return Err(section.error(
            "any",
            format!("{value:#x} has bits outside of the mask, so nothing would match"),
            "widen the mask",
        ));
    }
    section.finish()?;
    Ok(Condition { any, arg, mask })
}
