//! What the gate is handed before it serves, held against the plan: the plan and the listeners outside (`P`) and the sandbox's pidfd (`D`) from
//! the launcher, the listeners inside (`L`) from the sandbox's first process. `D` and `L` come from two processes, so in any order.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airtight_plan::{GateAudit, GatePlan};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::socket::{self, MAX_FDS};

use crate::error::GateError;

/// The longest plan, in bytes of JSON.
pub const PLAN_MAX: usize = 64 << 10;

/// Everything, checked.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) plan: GatePlan,
    pub(crate) audit: Option<OwnedFd>,
    /// In the order of `plan.published`.
    pub(crate) outside: Vec<TcpListener>,
    pub(crate) pidfd: OwnedFd,
    /// In the order of `plan.endpoints[].inside`, flattened.
    pub(crate) inside: Vec<TcpListener>,
}

/// Reads messages until all is there.
pub(crate) fn receive(control: BorrowedFd<'_>) -> Result<Handed, GateError> {
    let (plan, mut fds) = receive_plan(control)?;
    let audit = if plan.audit == GateAudit::Off || fds.is_empty() {
        None
    } else {
        Some(fds.remove(0))
    };
    if plan.audit != GateAudit::Off && audit.is_none() {
        return Err(GateError::Message(
            "the plan asks for audit and brings no descriptor for it",
        ));
    }
    let outside = listeners(
        fds,
        plan.published.iter().map(|published| published.outside),
    )?;
    let addresses: Vec<SocketAddr> = plan
        .endpoints
        .iter()
        .flat_map(|endpoint| endpoint.inside.iter().copied())
        .collect();
    let (pidfd, fds) = receive_sandbox(control, addresses.len())?;
    let inside = listeners(fds, addresses.into_iter())?;
    Ok(Handed {
        plan,
        audit,
        outside,
        pidfd,
        inside,
    })
}

fn receive_plan(control: BorrowedFd<'_>) -> Result<(GatePlan, Vec<OwnedFd>), GateError> {
    let mut message = vec![0; 1 + PLAN_MAX];
    let (length, fds) = socket::recv_fds(control, &mut message, MAX_FDS).map_err(|error| {
        match error.errno as i32 {
            libc::ENOTSOCK | libc::ENOTCONN => GateError::NotStarted(error),
            _ => GateError::Call(error),
        }
    })?;
    match &message[..length] {
        [] => Err(GateError::Ended),
        [b'P', json @ ..] => Ok((serde_json::from_slice(json)?, fds)),
        _ => Err(GateError::Message("the plan does not come first")),
    }
}

/// The pidfd, and as many descriptors as there are addresses inside: a message holds no more than [`MAX_FDS`], so there may be several.
fn receive_sandbox(
    control: BorrowedFd<'_>,
    want: usize,
) -> Result<(OwnedFd, Vec<OwnedFd>), GateError> {
    let mut pidfd: Option<OwnedFd> = None;
    let mut inside = Vec::new();
    let mut told = false;
    loop {
        if let Some(pidfd) = pidfd.take_if(|_| told && inside.len() >= want) {
            return Ok((pidfd, inside));
        }
        wait(control, pidfd.as_ref())?;
        let mut tag = [0; 1];
        let (length, mut fds) = socket::recv_fds(control, &mut tag, MAX_FDS)?;
        match (&tag[..length], fds.len()) {
            ([], _) => return Err(GateError::Ended),
            (b"D", 1) if pidfd.is_none() => pidfd = fds.pop(),
            (b"L", _) if !told || inside.len() < want => {
                told = true;
                inside.append(&mut fds);
            }
            _ => {
                return Err(GateError::Message(
                    "neither the sandbox's process nor its listeners",
                ));
            }
        }
    }
}

/// Until there is a message. The launcher holds the control socket too, so that a sandbox which died shows only by its pidfd.
fn wait(control: BorrowedFd<'_>, pidfd: Option<&OwnedFd>) -> Result<(), GateError> {
    let mut watches = [
        Watch::readable(control),
        pidfd.map_or_else(Watch::nothing, |fd| Watch::readable(fd.as_fd())),
    ];
    poll(&mut watches, None)?;
    if watches[0].has_data() || !watches[1].is_ready() {
        Ok(())
    } else {
        Err(GateError::SandboxGone)
    }
}

/// Each descriptor must be what the plan says of its place: a listener elsewhere would be a hole in the allowlist.
fn listeners(
    fds: Vec<OwnedFd>,
    addresses: impl ExactSizeIterator<Item = SocketAddr>,
) -> Result<Vec<TcpListener>, GateError> {
    let (got, want) = (fds.len(), addresses.len());
    if got != want {
        return Err(GateError::Count { got, want });
    }
    fds.into_iter()
        .zip(addresses)
        .map(|(fd, want)| listener(fd, want))
        .collect()
}

fn listener(fd: OwnedFd, want: SocketAddr) -> Result<TcpListener, GateError> {
    if !socket::is_stream_listener(&fd).unwrap_or(false) {
        return Err(GateError::NotListening { want });
    }
    let got = socket::local_address(&fd)?;
    if (got.ip(), got.port()) != (want.ip(), want.port()) {
        return Err(GateError::Elsewhere { want, got });
    }
    let listener = TcpListener::from(fd);
    // A connection that is gone before it is accepted must not stop the loop.
    listener
        .set_nonblocking(true)
        .map_err(|error| GateError::Read {
            path: "a listener",
            error,
        })?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_what_the_plan_says_or_refused() {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (here, there) = (bind(), bind());
        let (at, elsewhere) = (here.local_addr().unwrap(), there.local_addr().unwrap());
        let client = std::net::TcpStream::connect(at).unwrap();
        let fd = |listener: &TcpListener| listener.as_fd().try_clone_to_owned().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for (case, fds, want) in [
            ("right", vec![fd(&here)], None),
            (
                "too few",
                vec![],
                Some("0 listeners for 1 addresses of the plan".to_owned()),
            ),
            (
                "too many",
                vec![fd(&here), fd(&there)],
                Some("2 listeners for 1 addresses of the plan".into()),
            ),
            (
                "elsewhere",
                vec![fd(&there)],
                Some(format!("the listener for {at} is at {elsewhere}")),
            ),
            (
                "connected",
                vec![client.into()],
                Some(format!(
                    "the descriptor for {at} is not a listening TCP socket"
                )),
            ),
            (
                "a file",
                vec![file.into()],
                Some(format!(
                    "the descriptor for {at} is not a listening TCP socket"
                )),
            ),
        ] {
            let got = listeners(fds, [at].into_iter());
            assert_eq!(got.err().map(|error| error.to_string()), want, "{case}");
        }
    }
}
