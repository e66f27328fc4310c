//! The gate: the process outside a sandbox that carries its allowed traffic. It holds listeners that were made inside, at the
//! endpoints' own addresses, and dials the real endpoints from the network it lives in; published ports go the other way. What is not
//! an endpoint of the plan has no socket, so there is nothing here that could let it through.
//!
//! One thread and one epoll loop. Before it serves it gives up files, capabilities and all but some forty system calls, and it ends
//! with the sandbox. When it dies, listeners close and connections reset: the sandbox loses access, never gains it.
//!
//! It does not decide what an endpoint is (`airtight-plan` does), only whether an address that a name resolves to may be dialled
//! ([`verdict`]). UDP is not carried.

#![forbid(unsafe_code)]

pub mod audit;
mod confine;
mod dial;
pub mod dns;
mod doors;
mod drain;
mod error;
mod exchange;
pub mod filter;
mod handshake;
mod nursery;
mod relay;
pub mod resolv;
mod resolver;
mod server;
mod slab;
mod token;
pub mod verdict;

use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use airtight_sys::socket;

pub use error::GateError;
pub use handshake::PLAN_MAX;

/// The longest message that says why the gate does not serve, in bytes with its tag `N`.
pub const REASON_MAX: usize = 1024;

/// The control socket's number, set by the launcher.
pub const CONTROL_FD: RawFd = 3;

/// Takes the control socket, serves one sandbox and returns when it has ended.
///
/// # Errors
/// What was handed over is not what the plan says, a control could not be set, or a socket inside was not to be had.
pub fn serve() -> Result<(), GateError> {
    let control: OwnedFd = socket::inherited(CONTROL_FD).map_err(GateError::NotStarted)?;
    // `control` stays open until the end: it is how the launcher may see ours.
    prepare(&control)
        .map_err(|error| tell(&control, error))?
        .run()
}

/// Up to READY.
fn prepare(control: &OwnedFd) -> Result<server::Server, GateError> {
    let handed = handshake::receive(control.as_fd())?;
    let open_files = socket::raise_open_files()?;
    let ports = confine::dialled_ports(&handed.plan);
    let landlock_abi = handed.plan.landlock_abi;
    // Entering the sandbox's namespaces takes rights that go next.
    let nursery = nursery::Nursery::start(&handed.plan, handed.pidfd.as_fd())?;
    let mut server = server::Server::new(handed, nursery, open_files)?;
    confine::confine(landlock_abi, &ports, filter::SERVE)?;
    server.resolve_all()?;
    server.open()?;
    socket::send_fds(control, b"R", &[])?;
    Ok(server)
}

/// The sandbox that waits for READY gets the reason instead; where nobody waits, it is this process's own line.
fn tell(control: &OwnedFd, error: GateError) -> GateError {
    let mut message = format!("N{error}").into_bytes();
    message.truncate(REASON_MAX);
    match error {
        GateError::NotStarted(_) | GateError::Ended | GateError::SandboxGone => error,
        error if socket::send_fds(control, &message, &[]).is_ok() => {
            GateError::Told(Box::new(error))
        }
        error => error,
    }
}
