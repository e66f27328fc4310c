//! Programs for our own processes, made at compile time: a list of calls, and death for the rest.

use airtight_sys::seccomp::Insn;
use nix::libc::c_long;

use super::{abi, action, opcode};

/// The length of a [`stub`] of this many calls: two loads, the architecture, one comparison each, two answers.
pub(crate) const fn stub_length(calls: usize) -> usize {
    calls + 5
}

/// Allows `calls`, whatever their arguments; `LENGTH` is [`stub_length`] of their count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "short lengths and system-call numbers, at compile time"
)]
pub(crate) const fn stub<const LENGTH: usize>(calls: &[c_long]) -> [Insn; LENGTH] {
    assert!(LENGTH == stub_length(calls.len()) && LENGTH < 256);
    let (kill, allow) = (LENGTH - 2, LENGTH - 1);
    let mut program = [Insn {
        code: opcode::RET,
        jt: 0,
        jf: 0,
        k: action::KILL_PROCESS,
    }; LENGTH];
    program[0] = Insn {
        code: opcode::LD,
        jt: 0,
        jf: 0,
        k: 4,
    };
    program[1] = Insn {
        code: opcode::JEQ,
        jt: 0,
        jf: (kill - 2) as u8,
        k: abi::NATIVE.audit_arch,
    };
    program[2] = Insn {
        code: opcode::LD,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let mut i = 0;
    while i < calls.len() {
        let at = 3 + i;
        program[at] = Insn {
            code: opcode::JEQ,
            jt: (allow - at - 1) as u8,
            jf: 0,
            k: calls[i] as u32,
        };
        i += 1;
    }
    program[allow] = Insn {
        code: opcode::RET,
        jt: 0,
        jf: 0,
        k: action::ALLOW,
    };
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::interpret::{Call, run};

    #[test]
    fn a_stub_allows_its_calls_and_kills_for_the_rest() {
        const CALLS: [c_long; 3] = [1, 60, 231];
        static PROGRAM: [Insn; stub_length(CALLS.len())] = stub(&CALLS);
        for nr in (0..600).chain([0x4000_003c, u32::MAX]) {
            let want = if CALLS.contains(&c_long::from(nr)) {
                action::ALLOW
            } else {
                action::KILL_PROCESS
            };
            assert_eq!(
                run(
                    &PROGRAM,
                    &Call {
                        nr,
                        arch: abi::NATIVE.audit_arch,
                        args: [0; 6]
                    }
                )
                .0,
                want,
                "{nr}"
            );
            assert_eq!(
                run(
                    &PROGRAM,
                    &Call {
                        nr,
                        arch: 0x4000_0003,
                        args: [0; 6]
                    }
                )
                .0,
                action::KILL_PROCESS,
                "{nr}"
            );
        }
    }
}
