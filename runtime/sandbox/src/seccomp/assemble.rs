//! An assembler that works from the end of the program to its start. Classic BPF jumps forwards only, so that whatever a jump leads to is
//! there already: every offset is known at once, and a block that was made before is shared if it is near enough.

use std::collections::HashMap;

use airtight_sys::seccomp::Insn;

use super::opcode;

/// A place in the program, counted from its end: the first instruction made, the last one run, is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Label(usize);

/// A comparison of the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Test {
    Equal(u32),
    Greater(u32),
    AtLeast(u32),
    AnyBit(u32),
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Last instruction first.
    reversed: Vec<Insn>,
    /// Where each conditional block was last made.
    made: HashMap<(Test, Label, Label), Label>,
    loaded: HashMap<(u32, Option<u32>, Label), Label>,
    returned: HashMap<u32, Label>,
}

/// The farthest that a conditional jump reaches, less one for the jump that a second, far target may put in between.
const REACH: usize = u8::MAX as usize - 1;

impl Assembler {
    /// Ends the run with `action`.
    pub(super) fn ret(&mut self, action: u32) -> Label {
        if let Some(label) = self
            .returned
            .get(&action)
            .copied()
            .filter(|label| self.near(*label))
        {
            return label;
        }
        let label = self.push(opcode::RET, 0, 0, action);
        self.returned.insert(action, label);
        label
    }

    /// Goes to `yes` or `no`.
    pub(super) fn test(&mut self, test: Test, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        if let Some(label) = self
            .made
            .get(&(test, yes, no))
            .copied()
            .filter(|label| self.near(*label))
        {
            return label;
        }
        let (yes_near, no_near) = (self.reachable(yes), self.reachable(no));
        let (code, k) = match test {
            Test::Equal(k) => (opcode::JEQ, k),
            Test::Greater(k) => (opcode::JGT, k),
            Test::AtLeast(k) => (opcode::JGE, k),
            Test::AnyBit(k) => (opcode::JSET, k),
        };
        let (jt, jf) = (self.distance(yes_near), self.distance(no_near));
        let label = self.push(code, jt, jf, k);
        self.made.insert((test, yes, no), label);
        label
    }

    /// Loads the word at `offset` of `seccomp_data`, masked if asked, and goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, mask: Option<u32>, next: Label) -> Label {
        if let Some(label) = self
            .loaded
            .get(&(offset, mask, next))
            .copied()
            .filter(|label| self.near(*label))
        {
            return label;
        }
        self.fall_through(next);
        if let Some(mask) = mask {
            self.push(opcode::AND, 0, 0, mask);
        }
        let label = self.push(opcode::LD, 0, 0, offset);
        self.loaded.insert((offset, mask, next), label);
        label
    }

    /// The program that starts at `start`, in order of running.
    pub(super) fn finish(mut self, start: Label) -> Vec<Insn> {
        self.reversed.truncate(start.0 + 1);
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Insn { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    fn near(&self, label: Label) -> bool {
        self.reversed.len() - 1 - label.0 < REACH
    }

    /// Instructions between the one that comes next (in front) and `label`.
    fn distance(&self, label: Label) -> u8 {
        u8::try_from(self.reversed.len() - 1 - label.0).unwrap_or(u8::MAX)
    }

    /// A label within a conditional jump's reach that leads to `label`: itself, or an unconditional jump made for it.
    fn reachable(&mut self, label: Label) -> Label {
        if self.near(label) {
            label
        } else {
            self.jump(label)
        }
    }

    fn jump(&mut self, label: Label) -> Label {
        let k = u32::try_from(self.reversed.len() - 1 - label.0).unwrap_or(u32::MAX);
        self.push(opcode::JA, 0, 0, k)
    }

    /// Makes `label` what the next instruction runs into.
    fn fall_through(&mut self, label: Label) {
        if label.0 + 1 != self.reversed.len() {
            self.jump(label);
        }
    }
}
