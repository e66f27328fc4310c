//! Why the gate does not serve.

use std::net::SocketAddr;

use airtight_sys::SysError;

/// The gate ends with this as its one line.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(
        "descriptor 3 is not the control socket of a sandbox: airtight starts this program, not a person ({0})"
    )]
    NotStarted(SysError),
    #[error(transparent)]
    Call(#[from] SysError),
    #[error("{path}: {error}")]
    Read {
        path: &'static str,
        error: std::io::Error,
    },
    #[error("the control socket ended before the sandbox was ready")]
    Ended,
    #[error("the sandbox ended before it was ready")]
    SandboxGone,
    #[error("unexpected message on the control socket: {0}")]
    Message(&'static str),
    #[error("the plan is not one: {0}")]
    Plan(#[from] serde_json::Error),
    #[error("{got} listeners for {want} addresses of the plan")]
    Count { got: usize, want: usize },
    #[error("the descriptor for {want} is not a listening TCP socket")]
    NotListening { want: SocketAddr },
    #[error("the listener for {want} is at {got}")]
    Elsewhere { want: SocketAddr, got: SocketAddr },
    #[error(
        "endpoint {host}: {why}\n  fix: correct the name, or give its address: --connect {host}=ADDRESS:PORT"
    )]
    Unresolved { host: String, why: &'static str },
    #[error("sockets inside the sandbox: {0}")]
    Nursery(String),
    #[error("a limit of {0} open files is too low to serve")]
    FewDescriptors(u64),
    /// The sandbox's first process has it, and ends with it as the launch's error.
    #[error("{0}")]
    Told(Box<Self>),
}
