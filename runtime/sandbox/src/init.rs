//! pid 1 of a sandbox when it is ours: reaps, forwards, ends with the payload. It holds no descriptor, no capability and no name of the
//! host, and its own filter leaves it a handful of calls: taken over, it could do less than the payload.

use airtight_sys::process::{close_all_but, exit_now};
use airtight_sys::seccomp::{Insn, Notify, install};
use airtight_sys::signal::{self, Mask, Status};
use airtight_sys::{Result, arguments};
use nix::libc;
use nix::unistd::Pid;

use crate::seccomp::{action, native_arch, opcode};

/// Everything that the loop below makes; what else happens is not ours, so that it ends the sandbox.
const CALLS: [libc::c_long; 7] = [
    libc::SYS_rt_sigtimedwait,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_exit_group,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
];

/// Load and check the architecture, load the number, one comparison each, two answers.
const LENGTH: usize = 3 + CALLS.len() + 2;

static PROGRAM: [Insn; LENGTH] = program();

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lengths below 16 and system-call numbers, at compile time")]
const fn program() -> [Insn; LENGTH] {
    const KILL: usize = LENGTH - 2;
    const ALLOW: usize = LENGTH - 1;
    let stop = Insn { code: opcode::RET, jt: 0, jf: 0, k: action::KILL_PROCESS };
    let mut program = [stop; LENGTH];
    program[0] = Insn { code: opcode::LD, jt: 0, jf: 0, k: 4 };
    program[1] = Insn { code: opcode::JEQ, jt: 0, jf: (KILL - 2) as u8, k: native_arch() };
    program[2] = Insn { code: opcode::LD, jt: 0, jf: 0, k: 0 };
    let mut i = 0;
    while i < CALLS.len() {
        let at = 3 + i;
        program[at] = Insn { code: opcode::JEQ, jt: (ALLOW - at - 1) as u8, jf: 0, k: CALLS[i] as u32 };
        i += 1;
    }
    program[ALLOW] = Insn { code: opcode::RET, jt: 0, jf: 0, k: action::ALLOW };
    program
}

/// Serves as pid 1 until `payload` ends, then ends as it did: its code, or 128+n for signal n. The kernel kills whatever is left in the
/// namespace. `no_new_privs` must be set.
pub(crate) fn run(payload: Pid) -> ! {
    match serve(payload.as_raw()) {
        Ok(Status::Exited(code)) => exit_now(code.into()),
        Ok(Status::Signaled(number)) => exit_now(128 + number),
        // Nobody to tell: the descriptors are closed. The supervisor sees 125.
        Err(_) => exit_now(125),
    }
}

fn serve(payload: i32) -> Result<Status> {
    let mask = Mask::all();
    mask.apply()?;
    arguments::erase()?;
    // The rendezvous too: its end of file tells the parent that the payload runs.
    signal::close_streams()?;
    close_all_but(&[])?;
    install(&PROGRAM, Notify::No)?;
    // From here on no allocation: it might need memory, which the filter refuses.
    loop {
        match signal::wait_for(&mask)? {
            signal::SIGCHLD => {
                if let Some(status) = reap_all(payload)? {
                    return Ok(status);
                }
            }
            // Stopping the payload alone would leave its children running; and the default action of SIGTSTP is not taken by a
            // process group without a parent in its session, which the payload's is.
            signal::SIGTSTP => send(-1, signal::SIGSTOP),
            signal::SIGCONT => send(-1, signal::SIGCONT),
            other => send(payload, other),
        }
    }
}

/// The payload's status if it was among those that have ended.
fn reap_all(payload: i32) -> Result<Option<Status>> {
    let mut ended = None;
    // The payload is a child of ours until it is reaped here, so that ECHILD comes only after it.
    while let Ok(Some((pid, status))) = signal::reap_any() {
        if pid == payload {
            ended = Some(status);
        }
    }
    Ok(ended)
}

fn send(pid: i32, number: i32) {
    // The payload may have ended just now, or have taken an id that is out of our reach; its SIGCHLD will come.
    drop(signal::kill(pid, number));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::interpret::{Call, run as interpret};

    #[test]
    fn the_filter_of_pid_1_allows_its_calls_and_kills_for_the_rest() {
        for nr in (0..600).chain([0x4000_003c, u32::MAX]) {
            let want = if CALLS.contains(&i64::from(nr)) { action::ALLOW } else { action::KILL_PROCESS };
            assert_eq!(interpret(&PROGRAM, &Call { nr, arch: native_arch(), args: [0; 6] }).0, want, "{nr}");
            assert_eq!(interpret(&PROGRAM, &Call { nr, arch: 0x4000_0003, args: [0; 6] }).0, action::KILL_PROCESS, "{nr}");
        }
    }
}
