//! Sockets born inside the sandbox. A connection to a published port goes on to the sandbox's own loopback, which only a socket made in its
//! network namespace reaches. A forked child enters that namespace once, gives up everything else, and hands out fresh TCP sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airtight_plan::GatePlan;
use airtight_sys::{process, socket};

use crate::confine::confine;
use crate::error::GateError;
use crate::filter;
use crate::slab::Key;

/// Sockets kept ready of each family, so that a connection need not wait for one.
const READY: usize = 8;

/// The gate's side.
#[derive(Debug)]
pub(crate) struct Nursery {
    sock: OwnedFd,
    v4: Stock,
    v6: Stock,
}

#[derive(Debug, Default)]
struct Stock {
    ready: Vec<OwnedFd>,
    waiting: VecDeque<Key>,
    /// Asked for and not come yet.
    coming: usize,
    /// To keep in `ready`; 0 for a family that nothing is published to.
    keep: usize,
}

/// Family tags of requests and answers.
const V4: u8 = b'4';
const V6: u8 = b'6';
const ERROR: u8 = b'E';

impl Nursery {
    /// Starts the child and waits for its first socket: proof that it is inside. `None` without published ports.
    pub(crate) fn start(plan: &GatePlan, pidfd: BorrowedFd<'_>) -> Result<Option<Self>, GateError> {
        let has = |v4: bool| {
            plan.published
                .iter()
                .any(|published| published.inside.is_ipv4() == v4)
        };
        if plan.published.is_empty() {
            return Ok(None);
        }
        let (ours, theirs) = socket::seqpacket_pair()?;
        let abi = plan.landlock_abi;
        // The pidfd that comes back says when it ends, which the socket says as well.
        drop(socket::fork_run(|| nurse(&theirs, pidfd, abi))?);
        drop(theirs);
        let stock = |v4| Stock {
            keep: if has(v4) { READY } else { 0 },
            ..Stock::default()
        };
        let mut nursery = Self {
            sock: ours,
            v4: stock(true),
            v6: stock(false),
        };
        nursery.order()?;
        nursery.receive()?;
        Ok(Some(nursery))
    }

    /// A socket of `address`'s family now, or one that [`Self::receive`] will bring for `key`.
    pub(crate) fn take(
        &mut self,
        address: &SocketAddr,
        key: Key,
    ) -> Result<Option<OwnedFd>, GateError> {
        let stock = if address.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let socket = stock.ready.pop();
        if socket.is_none() {
            stock.waiting.push_back(key);
        }
        self.order()?;
        Ok(socket)
    }

    /// Takes one message, when there is one: a socket for the first who waits, or for the stock.
    pub(crate) fn receive(&mut self) -> Result<Option<(Key, OwnedFd)>, GateError> {
        let mut message = [0; 256];
        let (length, mut fds) = socket::recv_fds(&self.sock, &mut message, 1)?;
        let stock = match message[..length] {
            [V4] => &mut self.v4,
            [V6] => &mut self.v6,
            [ERROR, ref text @ ..] => {
                return Err(GateError::Nursery(
                    String::from_utf8_lossy(text).into_owned(),
                ));
            }
            _ => return Err(GateError::Nursery("their maker has ended".into())),
        };
        let socket = fds
            .pop()
            .ok_or_else(|| GateError::Nursery("a message without one".into()))?;
        stock.coming = stock.coming.saturating_sub(1);
        let taken = match stock.waiting.pop_front() {
            Some(key) => Some((key, socket)),
            None => {
                stock.ready.push(socket);
                None
            }
        };
        self.order()?;
        Ok(taken)
    }

    /// Asks for what is missing. What finds no room in the socket is asked for at the next turn, which the answers before it bring.
    fn order(&mut self) -> Result<(), GateError> {
        for (tag, stock) in [(V4, &mut self.v4), (V6, &mut self.v6)] {
            while stock.ready.len() + stock.coming < stock.keep + stock.waiting.len() {
                if socket::give(&self.sock, &[tag])?.is_none() {
                    return Ok(());
                }
                stock.coming += 1;
            }
        }
        Ok(())
    }
}

impl AsFd for Nursery {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sock.as_fd()
    }
}

/// The child's whole life. It inherited all that the gate holds, and keeps one socket.
fn nurse(sock: &OwnedFd, pidfd: BorrowedFd<'_>, landlock_abi: u32) -> u8 {
    match enter(sock, pidfd, landlock_abi).and_then(|()| hand_out(sock)) {
        Ok(()) => 0,
        Err(error) => {
            let mut message = vec![ERROR];
            message.extend(error.to_string().bytes().take(200));
            // A gate that is gone needs no reason. One that is there has more requests on their way, and a close with those unread would
            // throw the message away: so until it has ended.
            drop(socket::send_fds(sock, &message, &[]));
            while let Ok((1.., _)) = socket::recv_fds(sock, &mut [0; 1], 0) {}
            1
        }
    }
}

fn enter(sock: &OwnedFd, pidfd: BorrowedFd<'_>, landlock_abi: u32) -> Result<(), GateError> {
    process::close_all_but(&[sock.as_fd(), pidfd])?;
    socket::enter_network(pidfd)?;
    process::close_all_but(&[sock.as_fd()])?;
    confine(landlock_abi, &[], filter::NURSE)
}

/// Until the gate ends: its side of the socket closes, however it ended.
fn hand_out(sock: &OwnedFd) -> Result<(), GateError> {
    loop {
        let mut family = [0; 1];
        let (length, _) = socket::recv_fds(sock, &mut family, 0)?;
        let address = match family[..length] {
            [] => return Ok(()),
            [V4] => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            [V6] => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Err(GateError::Message("no family")),
        };
        let fresh = socket::tcp_socket(&SocketAddr::new(address, 0))?;
        socket::send_fds(sock, &family, &[fresh.as_fd()])?;
    }
}
