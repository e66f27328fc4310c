//! What the shipped profiles ask for, worked out before a launch: reading and multiplying out their texts is two thirds of one. The table is made from the
//! texts (`BLESS=1 cargo test -p airtight-profiles`), a test holds that it says what they do, and the compiler reads it: one that is damaged does not compile.
//!
//! First a line for each profile, `NAME OPEN-FILES PROCESSES [write-execute]`. Then one for each alternative of each call, in order,
//! `PROFILES NAME [ARGUMENT&MASK=VALUE]...`, where `PROFILES` is the sum of 1, 2, 4 and 8 for those that have it. Numbers are hexadecimal.

use crate::names::TABLE as NAMES;
use crate::policy::Policy;
use crate::rule::{Conditions, Masked, SyscallSet};
use crate::shipped::SHIPPED;

const TEXT: &[u8] = include_bytes!("../shipped.table");

/// What a profile asks for besides calls.
#[derive(Clone, Copy)]
struct Head {
    open_files: u64,
    processes: u64,
    write_execute: bool,
}

/// One alternative of a call.
#[derive(Clone, Copy)]
struct Row {
    /// A bit for each profile that has it.
    profiles: u8,
    /// How many of [`CONDITIONS`] are its, after those of the rows before.
    conditions: u8,
    /// Its place among the names.
    call: u16,
}

static HEADS: [Head; SHIPPED.len()] = heads();
static ROWS: [Row; count(b'\n', 0, TEXT.len()) - SHIPPED.len()] = rows();
static CONDITIONS: [(u8, Masked); count(b'&', 0, TEXT.len())] = conditions();

/// What the profile at this place of [`SHIPPED`] asks for.
pub(crate) fn policy(at: usize) -> Option<Policy> {
    let head = HEADS.get(at)?;
    Some(Policy {
        syscalls: calls(1 << at)?,
        write_execute: head.write_execute,
        open_files: head.open_files,
        processes: head.processes,
        ..Policy::nothing()
    })
}

fn calls(bit: u8) -> Option<SyscallSet> {
    let mut calls: Vec<(&'static str, Vec<Conditions>)> = Vec::with_capacity(ROWS.len());
    let mut rest = &CONDITIONS[..];
    for row in &ROWS {
        let (when, others) = rest.split_at_checked(row.conditions.into())?;
        rest = others;
        if row.profiles & bit == 0 {
            continue;
        }
        let when = when.iter().copied().collect();
        let (name, _) = NAMES.get(usize::from(row.call))?;
        match calls.last_mut() {
            Some((last, alternatives)) if last == name => alternatives.push(when),
            _ => calls.push((name, vec![when])),
        }
    }
    Some(SyscallSet::sorted(calls))
}

const fn heads() -> [Head; SHIPPED.len()] {
    let mut heads = [Head {
        open_files: 0,
        processes: 0,
        write_execute: false,
    }; SHIPPED.len()];
    let (mut at, mut start) = (0, 0);
    while at < SHIPPED.len() {
        let name = end_of_word(start);
        assert!(is(start, name, SHIPPED[at]), "each profile has a line");
        let files = end_of_word(name + 1);
        let processes = end_of_word(files + 1);
        let end = end_of_line(start);
        let write_execute = end != processes;
        assert!(
            !write_execute || is(processes + 1, end, "write-execute"),
            "nothing else is asked for"
        );
        heads[at] = Head {
            open_files: number(name + 1, files),
            processes: number(files + 1, processes),
            write_execute,
        };
        (at, start) = (at + 1, end + 1);
    }
    heads
}

const fn rows() -> [Row; ROWS.len()] {
    let mut rows = [Row {
        profiles: 0,
        conditions: 0,
        call: 0,
    }; ROWS.len()];
    let (mut at, mut start, mut call) = (0, 0, 0_u16);
    while at < SHIPPED.len() {
        (at, start) = (at + 1, end_of_line(start) + 1);
    }
    at = 0;
    while at < ROWS.len() {
        let bits = end_of_word(start);
        let name = end_of_word(bits + 1);
        // Both are in order, so each name is looked for from the last one on, and one that is not there ends this.
        while !is(bits + 1, name, NAMES[call as usize].0) {
            call += 1;
        }
        let end = end_of_line(start);
        let profiles = number(start, bits);
        assert!(
            0 < profiles && profiles < 1 << SHIPPED.len(),
            "a profile has it"
        );
        rows[at] = Row {
            profiles: profiles.to_le_bytes()[0],
            conditions: count(b'&', name, end).to_le_bytes()[0],
            call,
        };
        (at, start) = (at + 1, end + 1);
    }
    rows
}

const fn conditions() -> [(u8, Masked); CONDITIONS.len()] {
    let mut conditions = [(0, Masked { mask: 0, value: 0 }); CONDITIONS.len()];
    let (mut found, mut at) = (0, 0);
    while found < CONDITIONS.len() {
        if TEXT[at] == b'&' {
            let equals = at + 1 + digits(at + 1);
            assert!(TEXT[equals] == b'=' && TEXT[at - 2] == b' ', "a condition");
            let arg = number(at - 1, at);
            assert!(arg <= 5, "an argument");
            let masked = Masked {
                mask: number(at + 1, equals),
                value: number(equals + 1, end_of_word(equals)),
            };
            conditions[found] = (arg.to_le_bytes()[0], masked);
            found += 1;
        }
        at += 1;
    }
    conditions
}

const fn count(byte: u8, mut from: usize, to: usize) -> usize {
    let mut count = 0;
    while from < to {
        if TEXT[from] == byte {
            count += 1;
        }
        from += 1;
    }
    count
}

const fn end_of_line(mut at: usize) -> usize {
    while TEXT[at] != b'\n' {
        at += 1;
    }
    at
}

const fn end_of_word(mut at: usize) -> usize {
    while TEXT[at] != b'\n' && TEXT[at] != b' ' {
        at += 1;
    }
    at
}

const fn is(from: usize, to: usize, word: &str) -> bool {
    let word = word.as_bytes();
    let mut at = 0;
    while at < word.len() && from + at < to && TEXT[from + at] == word[at] {
        at += 1;
    }
    at == word.len() && from + at == to
}

/// How many hexadecimal digits stand there.
const fn digits(from: usize) -> usize {
    let mut to = from;
    while TEXT[to].is_ascii_hexdigit() {
        to += 1;
    }
    to - from
}

const fn number(mut from: usize, to: usize) -> u64 {
    assert!(
        from < to && to - from <= 16 && digits(from) == to - from,
        "a number"
    );
    let mut number = 0;
    while from < to {
        let digit = match TEXT[from] {
            digit @ b'0'..=b'9' => digit - b'0',
            letter => letter.to_ascii_lowercase() - b'a' + 10,
        };
        number = number << 4 | digit as u64;
        from += 1;
    }
    number
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
            let Policy {
                open_files,
                processes,
                write_execute,
                ..
            } = policy;
            let wx = ["", " write-execute"][usize::from(*write_execute)];
            writeln!(table, "{name} {open_files:x} {processes:x}{wx}").unwrap();
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
        reason = "the golden file is written when it is asked for"
    )]
    fn the_table_says_what_the_texts_say() {
        let policies: Vec<Policy> = (0..SHIPPED.len())
            .map(|at| shipped::read(at).unwrap().policy())
            .collect();
        let table = written(&policies);
        if std::env::var_os("BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/shipped.table");
            return std::fs::write(path, table).unwrap();
        }
        assert_eq!(
            std::str::from_utf8(TEXT).unwrap(),
            table,
            "BLESS=1 makes it anew"
        );
        // Whatever else a profile may ask for would be lost in the table.
        for (at, asked) in policies.into_iter().enumerate() {
            assert_eq!(policy(at), Some(asked), "{}", SHIPPED[at]);
        }
    }
}
