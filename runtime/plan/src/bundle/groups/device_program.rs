//! The device program of cgroup v2: what the devices controller of v1 kept as a list, said in eBPF.
//!
//! The kernel calls it with `struct bpf_cgroup_dev_ctx` for every open and `mknod` of a device; 1 allows, 0 refuses.

use super::{DevicePermissions, DeviceSet};

/// The kernel's `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    /// Destination in the low half, source in the high half.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// `BPF_DEVCG_DEV_*`, in the low half of `access_type`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_*`, in its high half.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Offsets in the context.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Opcodes of `bpf.h`: class, size or operation, mode or source.
const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE: u8 = 0xbc;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_EQUAL: u8 = 0x16;
const EXIT: u8 = 0x95;

/// What each register holds. 1 is the context at first, and scratch once that is read.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR_NUMBER: u8 = 4;
const MINOR_NUMBER: u8 = 5;

/// Allowed by default: an exception that holds any of the accesses refuses. Refused by default: one that holds all of them allows. So the kernel's v1 does.
#[must_use]
pub fn device_program(set: &DeviceSet) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, ACCESS_TYPE),
        value(AND_IMMEDIATE, KIND, 0xffff),
        load(ACCESS, ACCESS_TYPE),
        value(SHIFT_RIGHT_IMMEDIATE, ACCESS, 16),
        load(MAJOR_NUMBER, MAJOR),
        load(MINOR_NUMBER, MINOR),
    ];
    for (devices, permissions) in &set.exceptions {
        let kind = if devices.block { BLOCK } else { CHARACTER };
        let mut rule = vec![test(JUMP_NOT_EQUAL, KIND, kind)];
        let mask = bits(*permissions);
        rule.push(two(MOVE, SCRATCH, ACCESS));
        if set.allow {
            rule.push(value(AND_IMMEDIATE, SCRATCH, mask));
            rule.push(test(JUMP_EQUAL, SCRATCH, 0));
        } else {
            rule.push(value(AND_IMMEDIATE, SCRATCH, !mask));
            rule.push(test(JUMP_NOT_EQUAL, SCRATCH, 0));
        }
        for (register, number) in [(MAJOR_NUMBER, devices.major), (MINOR_NUMBER, devices.minor)] {
            if let Some(number) = number {
                rule.push(test(JUMP_NOT_EQUAL, register, number.cast_signed()));
            }
        }
        rule.push(value(MOVE_IMMEDIATE, RESULT, i32::from(!set.allow)));
        rule.push(EXIT_NOW);
        program.extend(to_the_next(rule));
    }
    program.push(value(MOVE_IMMEDIATE, RESULT, i32::from(set.allow)));
    program.push(EXIT_NOW);
    program
}

const EXIT_NOW: Instruction = Instruction {
    code: EXIT,
    registers: 0,
    offset: 0,
    immediate: 0,
};

fn bits(permissions: DevicePermissions) -> i32 {
    [
        (permissions.mknod, MKNOD),
        (permissions.read, READ),
        (permissions.write, WRITE),
    ]
    .into_iter()
    .filter_map(|(on, bit)| on.then_some(bit))
    .sum()
}

/// Every jump of a rule leads behind its end.
fn to_the_next(mut rule: Vec<Instruction>) -> Vec<Instruction> {
    let mut left = i16::try_from(rule.len()).unwrap_or(i16::MAX);
    for instruction in &mut rule {
        left -= 1;
        if matches!(instruction.code, JUMP_EQUAL | JUMP_NOT_EQUAL) {
            instruction.offset = left;
        }
    }
    rule
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction {
        code: LOAD_WORD,
        registers: register | CONTEXT << 4,
        offset,
        immediate: 0,
    }
}

fn two(code: u8, destination: u8, source: u8) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset: 0,
        immediate: 0,
    }
}

fn value(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: 0,
        immediate,
    }
}

/// A jump whose offset is filled in when the rule is whole.
fn test(code: u8, register: u8, immediate: i32) -> Instruction {
    value(code, register, immediate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::groups::devices::parse_rules;

    /// An interpreter of the instructions above, which takes nothing else.
    fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
        let mut registers = [0_u32; 6];
        let mut at = 0_usize;
        loop {
            let Instruction {
                code,
                registers: r,
                offset,
                immediate,
            } = program[at];
            let (to, from) = (usize::from(r & 0xf), usize::from(r >> 4));
            let immediate = immediate.cast_unsigned();
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                AND_IMMEDIATE => registers[to] &= immediate,
                SHIFT_RIGHT_IMMEDIATE => registers[to] >>= immediate,
                MOVE_IMMEDIATE => registers[to] = immediate,
                MOVE => registers[to] = registers[from],
                JUMP_NOT_EQUAL | JUMP_EQUAL => {
                    if (registers[to] == immediate) == (code == JUMP_EQUAL) {
                        at += usize::try_from(offset).unwrap();
                    }
                }
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    /// `c 1:3 rw` asked of a set of rules.
    fn allows(rules: &str, asked: &str) -> bool {
        let set = DeviceSet::of(parse_rules(rules).iter()).unwrap();
        let rule = &parse_rules(&format!("+{asked}"))[0];
        let kind = if rule.kind == crate::bundle::DeviceKind::Block {
            BLOCK
        } else {
            CHARACTER
        };
        let access = bits(DevicePermissions {
            read: rule.read,
            write: rule.write,
            mknod: rule.mknod,
        });
        let access_type = (access << 16 | kind).cast_unsigned();
        match run(
            &device_program(&set),
            [access_type, rule.major.unwrap(), rule.minor.unwrap()],
        ) {
            0 => false,
            1 => true,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_program_decides_as_the_v1_controller_does() {
        for (rules, asked, want) in [
            ("-a", "c 1:3 r", false),
            ("+a", "b 8:0 rwm", true),
            ("-a, +c 1:3 rwm", "c 1:3 rw", true),
            ("-a, +c 1:3 rwm", "c 1:3 m", true),
            ("-a, +c 1:3 rwm", "b 1:3 r", false),
            ("-a, +c 1:3 rwm", "c 1:5 r", false),
            ("-a, +c 1:3 rwm", "c 2:3 r", false),
            ("-a, +c 1:3 r", "c 1:3 rw", false),
            ("-a, +c 1:* w", "c 1:77 w", true),
            ("-a, +c *:7 w", "c 200:7 w", true),
            ("-a, +b *:* m", "b 8:1 m", true),
            ("-a, +b *:* m", "b 8:1 r", false),
            // No single rule has both accesses: v1 asks for one that has.
            ("-a, +c 1:* r, +c 1:3 w", "c 1:3 rw", false),
            ("+a, -c 1:3 w", "c 1:3 rw", false),
            ("+a, -c 1:3 w", "c 1:3 r", true),
            ("+a, -c 1:* rwm", "c 1:9 m", false),
            ("+a, -c 1:* rwm", "c 2:9 m", true),
            (
                "-a, +c 4294967295:4294967295 r",
                "c 4294967295:4294967295 r",
                true,
            ),
        ] {
            assert_eq!(allows(rules, asked), want, "{rules}: {asked}");
        }
    }

    #[test]
    fn the_last_rule_wins_and_a_rule_of_every_kind_starts_anew() {
        for (rules, asked, want) in [
            ("+c 1:3 rwm, -c 1:3 rwm", "c 1:3 r", false),
            ("-c 1:3 rwm, +c 1:3 rwm", "c 1:3 r", true),
            ("+a, -c 1:3 rwm, -a", "c 1:5 r", false),
            ("-a, +c 1:3 rwm, +a", "c 9:9 r", true),
        ] {
            assert_eq!(allows(rules, asked), want, "{rules}: {asked}");
        }
    }

    #[test]
    fn the_program_is_these_instructions() {
        let set = DeviceSet::of(parse_rules("-a, +c 1:3 rw, +b *:* m").iter()).unwrap();
        let words: Vec<(u8, u8, i16, i32)> = device_program(&set)
            .iter()
            .map(|i| (i.code, i.registers, i.offset, i.immediate))
            .collect();
        assert_eq!(
            words,
            [
                (0x61, 0x12, 0, 0),
                (0x54, 0x02, 0, 0xffff),
                (0x61, 0x13, 0, 0),
                (0x74, 0x03, 0, 16),
                (0x61, 0x14, 4, 0),
                (0x61, 0x15, 8, 0),
                // Character 1:3, no more than read and write.
                (0x56, 0x02, 7, 2),
                (0xbc, 0x31, 0, 0),
                (0x54, 0x01, 0, !6),
                (0x56, 0x01, 4, 0),
                (0x56, 0x04, 3, 1),
                (0x56, 0x05, 2, 3),
                (0xb4, 0x00, 0, 1),
                (0x95, 0x00, 0, 0),
                // Any block device, no more than mknod.
                (0x56, 0x02, 5, 1),
                (0xbc, 0x31, 0, 0),
                (0x54, 0x01, 0, !1),
                (0x56, 0x01, 2, 0),
                (0xb4, 0x00, 0, 1),
                (0x95, 0x00, 0, 0),
                (0xb4, 0x00, 0, 0),
                (0x95, 0x00, 0, 0),
            ]
        );
    }
}
