//! `lo`, its addresses, and the sockets that the gate answers.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airtight_sys::netlink::Netlink;
use airtight_sys::socket::{MAX_FDS, recv_fds, send_fds, tcp_listen};

use super::{Failure, Result};

/// Of each listener; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Of the gate's answer: READY, or `N` and why not.
const ANSWER_MAX: usize = 1024;

pub(super) fn loopback(addresses: &[IpAddr]) -> Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.loopback_up()?;
    for address in addresses {
        netlink.loopback_address(*address)?;
    }
    Ok(())
}

/// Makes the listeners inside, hands them over and waits for READY: the payload never runs with a gate that does not serve.
pub(super) fn gate_sockets(gate: Option<&OwnedFd>, listen: &[SocketAddr]) -> Result<()> {
    let gate =
        gate.ok_or_else(|| Failure::Said("there is no gate to give the sockets to".into()))?;
    if listen.len() > MAX_FDS {
        return Err(Failure::Said(format!(
            "{} listeners are more than one message carries ({MAX_FDS})",
            listen.len()
        )));
    }
    let listeners = listen
        .iter()
        .map(|address| tcp_listen(address, BACKLOG))
        .collect::<airtight_sys::Result<Vec<_>>>()?;
    let borrowed: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    send_fds(gate, b"L", &borrowed)?;
    let mut answer = [0_u8; ANSWER_MAX];
    let (length, _) = recv_fds(gate, &mut answer, 0)?;
    match answer.get(..length) {
        Some(b"R") => Ok(()),
        Some([b'N', reason @ ..]) => {
            Err(Failure::Gate(String::from_utf8_lossy(reason).into_owned()))
        }
        _ => Err(Failure::Said(
            "the gate is not ready; its own line says why".into(),
        )),
    }
}
