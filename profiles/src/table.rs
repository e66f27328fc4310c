//! What the shipped profiles ask for, worked out before a launch: reading and multiplying out their text is a third of one. The table is made from the texts
//! (`BLESS=1 cargo test -p airtight-profiles`), and a test holds that it says what they do.
//!
//! First a line for each profile, `NAME OPEN-FILES PROCESSES [write-execute]`. Then one for each alternative of each call, in order,
//! `PROFILES NAME [ARGUMENT&MASK=VALUE]...`, where `PROFILES` is the hexadecimal sum of 1, 2, 4 and 8 for those that have it and the numbers are
//! hexadecimal too.

use crate::names;
use crate::policy::Policy;
use crate::rule::{Conditions, Masked, SyscallSet};
use crate::shipped::SHIPPED;

static TABLE: &str = include_str!("../shipped.table");

/// The row of the profile at this place of [`SHIPPED`], or `None` if the table is not one.
pub(crate) fn policy(at: usize) -> Option<Policy> {
    read(TABLE, at)
}

fn read(table: &str, at: usize) -> Option<Policy> {
    let mut lines = table.lines();
    let mut policy = Policy::nothing();
    for (place, name) in SHIPPED.iter().enumerate() {
        let mut words = lines.next()?.split(' ');
        let [own, files, processes] = [words.next()?, words.next()?, words.next()?];
        if own != *name {
            return None;
        }
        if place == at {
            policy.open_files = files.parse().ok()?;
            policy.processes = processes.parse().ok()?;
            policy.write_execute = match words.next() {
                None => false,
                Some("write-execute") => true,
                Some(_) => return None,
            };
        }
    }
    policy.syscalls = calls(lines, 1 << at)?;
    Some(policy)
}

fn calls<'a>(lines: impl Iterator<Item = &'a str>, bit: u32) -> Option<SyscallSet> {
    let mut known = names::all();
    let mut calls: Vec<(&'static str, Vec<Conditions>)> = Vec::with_capacity(lines.size_hint().0);
    for line in lines {
        let (profiles, call) = line.split_once(' ')?;
        if u32::from_str_radix(profiles, 16).ok()? & bit == 0 {
            continue;
        }
        let (name, when) = call.split_once(' ').unwrap_or((call, ""));
        let when = conditions(when)?;
        match calls.last_mut() {
            Some((last, alternatives)) if *last == name => alternatives.push(when),
            // Both are in order, so each name is looked for from the last one on, and one that is not there is not found.
            _ => calls.push((known.find(|known| *known == name)?, vec![when])),
        }
    }
    Some(SyscallSet::sorted(calls))
}

fn conditions(words: &str) -> Option<Conditions> {
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let mut conditions = Conditions::new();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let (arg, rest) = word.split_once('&')?;
        let (mask, value) = rest.split_once('=')?;
        let masked = Masked {
            mask: number(mask)?,
            value: number(value)?,
        };
        conditions.insert(arg.parse().ok()?, masked);
    }
    Some(conditions)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use super::*;
    use crate::shipped;

    fn written(policies: &[Policy]) -> String {
        let mut table = String::new();
        for (name, policy) in SHIPPED.iter().zip(policies) {
            let wx = ["", " write-execute"][usize::from(policy.write_execute)];
            writeln!(
                table,
                "{name} {} {}{wx}",
                policy.open_files, policy.processes
            )
            .unwrap();
        }
        let mut rows: BTreeMap<(&str, &Conditions), u32> = BTreeMap::new();
        for (at, policy) in policies.iter().enumerate() {
            for call in policy.syscalls.iter() {
                *rows.entry(call).or_default() |= 1 << at;
            }
        }
        for ((name, when), profiles) in rows {
            write!(table, "{profiles:x} {name}").unwrap();
            for (arg, Masked { mask, value }) in when {
                write!(table, " {arg}&{mask:x}={value:x}").unwrap();
            }
            table.push('\n');
        }
        table
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test may write the golden file that it is asked to"
    )]
    fn the_table_says_what_the_texts_say() {
        let policies: Vec<Policy> = (0..SHIPPED.len())
            .map(|at| shipped::read(at).unwrap().policy())
            .collect();
        let table = written(&policies);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(
                concat!(env!("CARGO_MANIFEST_DIR"), "/shipped.table"),
                &table,
            )
            .unwrap();
        } else {
            assert_eq!(TABLE, table, "BLESS=1 makes it anew");
        }
        // Everything else that a profile could ask for would be lost in the table.
        for (at, policy) in policies.into_iter().enumerate() {
            assert_eq!(read(&table, at), Some(policy), "{}", SHIPPED[at]);
        }
    }

    #[test]
    fn a_damaged_table_is_no_profile() {
        assert!(read(TABLE, 0).is_some());
        let with = |line: &str| format!("{TABLE}{line}\n");
        for damaged in [
            String::new(),
            TABLE.replacen("base", "bas", 1),
            TABLE.replacen("base 6", "base x", 1),
            with("f"),
            with("g writev"),
            with("f writew"),
            // Out of order.
            with("f read"),
            with("f writev 1&2"),
            with("f writev 1=2"),
            with("f writev 300&1=1"),
        ] {
            assert_eq!(read(&damaged, 0), None, "{damaged:.40}");
        }
    }
}
