//! A classic BPF machine, and what a filter means read straight from its rules: the tests hold the compiler's programs against both.

use airtight_plan::{ArgCondition, ArgOp, SeccompFilter};
use airtight_sys::seccomp::Insn;

use super::abi::{self, Abi};
use super::{action, opcode};

/// One call, as the kernel shows it to a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) nr: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, high: bool| {
            u32::try_from(if high {
                value >> 32
            } else {
                value & 0xffff_ffff
            })
            .unwrap()
        };
        match offset {
            0 => self.nr,
            4 => self.arch,
            16.. => half(self.args[(offset as usize - 16) / 8], offset % 8 == 4),
            _ => panic!("the program reads {offset}"),
        }
    }
}

/// Runs `program`: the answer, and how many instructions it took.
pub(crate) fn run(program: &[Insn], call: &Call) -> (u32, usize) {
    let (mut a, mut pc, mut steps) = (0, 0, 0);
    loop {
        let Insn { code, jt, jf, k } = program[pc];
        steps += 1;
        pc += 1;
        let mut jump = |holds: bool| pc += usize::from(if holds { jt } else { jf });
        match code {
            opcode::LD => a = call.word(k),
            opcode::AND => a &= k,
            opcode::JA => pc += k as usize,
            opcode::JEQ => jump(a == k),
            opcode::JGT => jump(a > k),
            opcode::JGE => jump(a >= k),
            opcode::JSET => jump(a & k != 0),
            opcode::RET => return (k, steps),
            other => panic!("the program has {other:#x}"),
        }
    }
}

/// What the rules say, without any program.
pub(super) fn meaning(filter: &SeccompFilter, abi: Abi, call: &Call) -> u32 {
    if call.arch != abi.audit_arch {
        return action::KILL_PROCESS;
    }
    if abi.x32 && call.nr & 0xc000_0000 == abi::X32_BIT {
        return action::KILL_PROCESS;
    }
    if call.nr > filter.known_max {
        return action::ENOSYS;
    }
    let is = |name: &str| abi::number(name).unwrap() == Some(call.nr);
    let holds = |when: &[ArgCondition]| when.iter().all(|condition| holds(condition, call));
    if filter.enosys.iter().any(|name| is(name)) {
        action::ENOSYS
    } else if filter
        .notify
        .iter()
        .any(|rule| is(&rule.name) && holds(&rule.when))
    {
        action::USER_NOTIF
    } else if filter
        .allow
        .iter()
        .any(|rule| is(&rule.name) && holds(&rule.when))
    {
        action::ALLOW
    } else {
        action::EPERM
    }
}

fn holds(condition: &ArgCondition, call: &Call) -> bool {
    let (arg, value) = (call.args[usize::from(condition.arg)], condition.value);
    match condition.op {
        ArgOp::Eq => arg == value,
        ArgOp::Ne => arg != value,
        ArgOp::Lt => arg < value,
        ArgOp::Le => arg <= value,
        ArgOp::Gt => arg > value,
        ArgOp::Ge => arg >= value,
        ArgOp::Masked(mask) => arg & mask == value,
    }
}
