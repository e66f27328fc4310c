//! Rules to a program: a binary search over ranges of system-call numbers that share an answer, and below each the conditions on arguments.
//! Pure. The tests hold it against libseccomp's program of the same rules, number by number.

use std::collections::BTreeMap;

use airtight_plan::{SeccompFilter, SyscallRule};
use airtight_sys::seccomp::{Insn, MAX_INSNS};

use super::abi::{self, Abi};
use super::assemble::{Assembler, Label, Test};
use super::condition::{Arm, Width, any, satisfiable};
use super::search::search;
use super::{SeccompError, action};

/// Raised when the same rules compile to another program, so that no older one is taken from a cache.
pub(super) const GENERATOR: u32 = 1;

/// Offsets in `struct seccomp_data`.
pub(super) const NR: u32 = 0;
pub(super) const ARCH: u32 = 4;

/// What a number gets. Arms are alternatives; the first list that has one that holds decides.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Always(u32),
    Judged { notify: Vec<Arm>, allow: Vec<Arm> },
}

/// Compiles `filter` for `abi`.
pub(super) fn compile(filter: &SeccompFilter, abi: Abi) -> Result<Vec<Insn>, SeccompError> {
    let spans = spans(&answers(filter)?, filter.known_max, abi);
    let mut asm = Assembler::default();
    let found = search(&mut asm, &spans, &|asm, answer| judge(asm, answer));
    let native = asm.load(NR, None, found);
    // The numbers below mean other calls to another architecture: it gets no answer at all.
    let foreign = asm.ret(action::KILL_PROCESS);
    let which = asm.test(Test::Equal(abi.audit_arch), native, foreign);
    let start = asm.load(ARCH, None, which);
    let program = asm.finish(start);
    if program.len() > MAX_INSNS {
        return Err(SeccompError::TooLong {
            instructions: program.len(),
        });
    }
    Ok(program)
}

/// By number; one that is missing is refused.
fn answers(filter: &SeccompFilter) -> Result<BTreeMap<u32, Answer>, SeccompError> {
    let mut judged: BTreeMap<u32, (Vec<Arm>, Vec<Arm>)> = BTreeMap::new();
    for (rules, notify) in [(&filter.notify, true), (&filter.allow, false)] {
        for SyscallRule { name, when } in rules {
            let (Some(number), Some(arm)) = (abi::number(name)?, satisfiable(when)) else {
                continue;
            };
            let (told, allowed) = judged.entry(number).or_default();
            if notify { told } else { allowed }.push(arm);
        }
    }
    let mut answers: BTreeMap<u32, Answer> = judged
        .into_iter()
        .map(|(number, arms)| (number, answer(arms)))
        .collect();
    for name in &filter.enosys {
        if let Some(number) = abi::number(name)? {
            answers.insert(number, Answer::Always(action::ENOSYS));
        }
    }
    Ok(answers)
}

fn answer((notify, mut allow): (Vec<Arm>, Vec<Arm>)) -> Answer {
    if notify.iter().any(Vec::is_empty) {
        return Answer::Always(action::USER_NOTIF);
    }
    if let Some(always) = allow.iter().find(|arm| arm.is_empty()) {
        allow = vec![always.clone()];
        if notify.is_empty() {
            return Answer::Always(action::ALLOW);
        }
    }
    Answer::Judged { notify, allow }
}

/// All numbers, each span from its start to the next one's.
fn spans(answers: &BTreeMap<u32, Answer>, known_max: u32, abi: Abi) -> Vec<(u32, Answer)> {
    let mut spans: Vec<(u32, Answer)> = Vec::new();
    let mut add = |start: u32, answer: Answer| {
        if spans.last().is_none_or(|(_, last)| *last != answer) {
            spans.push((start, answer));
        }
    };
    for number in 0..=known_max.min(abi::X32_BIT - 2) {
        add(
            number,
            answers
                .get(&number)
                .cloned()
                .unwrap_or(Answer::Always(action::EPERM)),
        );
    }
    add(
        known_max.min(abi::X32_BIT - 2) + 1,
        Answer::Always(action::ENOSYS),
    );
    if abi.x32 {
        // Calls of the x32 ABI differ by this bit only, and the table above does not speak of them. With the sign bit it is no call.
        add(abi::X32_BIT, Answer::Always(action::KILL_PROCESS));
        add(abi::X32_BIT << 1, Answer::Always(action::ENOSYS));
    }
    spans
}

fn judge(asm: &mut Assembler, answer: &Answer) -> Label {
    match answer {
        Answer::Always(action) => asm.ret(*action),
        Answer::Judged { notify, allow } => {
            let refused = asm.ret(action::EPERM);
            let allowed = asm.ret(action::ALLOW);
            let judged = any(asm, Width::Both, allow, allowed, refused);
            if notify.is_empty() {
                return judged;
            }
            let told = asm.ret(action::USER_NOTIF);
            any(asm, Width::Both, notify, told, judged)
        }
    }
}
