//! pid 1 of a sandbox when it is ours: reaps, forwards, ends with the payload. It holds no descriptor, no capability and no name of the
//! host, and its own filter leaves it a handful of calls: taken over, it could do less than the payload.

use airtight_sys::process::{close_all_but, exit_now};
use airtight_sys::seccomp::{Insn, Notify, install};
use airtight_sys::signal::{self, Mask, Status};
use airtight_sys::{Result, arguments};
use nix::libc;
use nix::unistd::Pid;

use crate::seccomp::{stub, stub_length};

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

static PROGRAM: [Insn; stub_length(CALLS.len())] = stub(&CALLS);

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
