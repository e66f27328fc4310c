//! Carrying bytes between two TCP connections. What cannot be sent on yet is not taken from the kernel: the bytes are looked at
//! (`MSG_PEEK`), sent, and then as many dropped from the source as were taken by the other side. So the gate holds no byte of any
//! connection, its memory does not grow with slow readers, and a full receiver fills the sender's window just as without a gate.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airtight_sys::socket;

/// One connection of a pair, and what is known of it since the last event.
#[derive(Debug)]
pub(crate) struct Side {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// Everything it sent was passed on, its end too.
    ended: bool,
}

/// What a round of carrying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing more to do until an event.
    Idle,
    /// There is more, but it is others' turn.
    More,
    /// Both directions have ended in order.
    Done,
    /// One side is gone: so must be the other.
    Reset,
}

/// Buffers carried before others have their turn.
const ROUNDS: usize = 8;

impl Side {
    /// A connection that is registered for edges: it is ready until it has said otherwise. It ends by RST, also where this process is killed, so that its peer
    /// sees a connection that was cut and not one that ended in order, until [`Self::end`] says otherwise.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        // Of a socket it is never refused.
        drop(socket::reset_on_close(&fd));
        Self {
            fd,
            readable: true,
            writable: true,
            ended: false,
        }
    }

    pub(crate) fn wake(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether an error is pending on it.
    pub(crate) fn has_failed(&self) -> bool {
        socket::take_error(&self.fd).is_err()
    }

    /// The kernel holds bytes of it that were not passed on, as far as is known.
    pub(crate) fn has_more(&self) -> bool {
        !self.ended && self.readable
    }

    /// Its end comes next, and no byte before it.
    pub(crate) fn has_nothing_more(&self) -> bool {
        matches!(socket::peek(&self.fd, &mut [0]), Ok(Some(0)) | Err(_))
    }

    /// Closes it in order: the kernel delivers what is still unsent.
    pub(crate) fn end(self) {
        // Refused, it is cut after all.
        drop(socket::end_on_close(&self.fd));
    }
}

impl AsFd for Side {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Carries what there is, both ways.
pub(crate) fn carry(a: &mut Side, b: &mut Side, buffer: &mut [u8]) -> Flow {
    let flows = [carry_one_way(a, b, buffer), carry_one_way(b, a, buffer)];
    if flows.contains(&Flow::Reset) {
        Flow::Reset
    } else if a.ended && b.ended {
        Flow::Done
    } else if flows.contains(&Flow::More) {
        Flow::More
    } else {
        Flow::Idle
    }
}

/// Carries what is left of a side that nobody holds any more. Nothing goes the other way: it would only find that out, by an error.
pub(crate) fn carry_last(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> Flow {
    match carry_one_way(from, to, buffer) {
        Flow::Idle if from.ended => Flow::Done,
        flow => flow,
    }
}

fn carry_one_way(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> Flow {
    for _ in 0..ROUNDS {
        if from.ended || !from.readable || !to.writable {
            return Flow::Idle;
        }
        match socket::peek(&from.fd, buffer) {
            Ok(None) => from.readable = false,
            Ok(Some(0)) => {
                from.ended = true;
                // ENOTCONN: the other side went meanwhile, which its own direction reports.
                return if socket::shutdown_write(&to.fd).is_ok() {
                    Flow::Idle
                } else {
                    Flow::Reset
                };
            }
            Ok(Some(length)) => match pass_on(from, to, &mut buffer[..length]) {
                Ok(()) => {}
                Err(Gone) => return Flow::Reset,
            },
            Err(_) => return Flow::Reset,
        }
    }
    Flow::More
}

struct Gone;

fn pass_on(from: &Side, to: &mut Side, peeked: &mut [u8]) -> Result<(), Gone> {
    let Some(sent) = socket::give(&to.fd, peeked).map_err(|_| Gone)? else {
        to.writable = false;
        return Ok(());
    };
    // A short send has filled the buffer: the kernel tells when there is room again.
    to.writable = sent == peeked.len();
    socket::discard(&from.fd, &mut peeked[..sent]).map_err(|_| Gone)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// A client, the gate's two sides, a server.
    fn pair() -> (TcpStream, Side, Side, TcpStream) {
        let one = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, Side::new(OwnedFd::from(listener.accept().unwrap().0)))
        };
        let ((client, a), (server, b)) = (one(), one());
        (client, a, b, server)
    }

    fn until(want: Flow, a: &mut Side, b: &mut Side) {
        let mut buffer = [0; 4096];
        loop {
            a.wake(true, true);
            b.wake(true, true);
            let flow = carry(a, b, &mut buffer);
            if flow == want {
                return;
            }
            assert!(matches!(flow, Flow::Idle | Flow::More), "{flow:?}");
        }
    }

    #[test]
    fn one_end_passes_and_the_other_way_stays_open() {
        let (mut client, mut a, mut b, mut server) = pair();
        client.write_all(b"ask").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        while !a.ended {
            a.wake(true, true);
            assert_ne!(carry(&mut a, &mut b, &mut [0; 2]), Flow::Reset);
        }
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ask");
        server.write_all(b"answer").unwrap();
        drop(server);
        until(Flow::Done, &mut a, &mut b);
        a.end();
        b.end();
        text.clear();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }

    #[test]
    fn a_cut_on_one_side_cuts_the_other() {
        let (client, mut a, mut b, mut server) = pair();
        socket::reset_on_close(&client).unwrap();
        drop(client);
        until(Flow::Reset, &mut a, &mut b);
        drop(b);
        assert_eq!(
            server.read(&mut [0; 1]).unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
    }

    #[test]
    fn a_full_receiver_is_waited_for_and_loses_nothing() {
        let (mut client, mut a, mut b, mut server) = pair();
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let mut buffer = vec![0; 65536];
        let chunk: Vec<u8> = (0..=255).cycle().take(8192).collect();
        // Until neither the gate's sockets nor the client's take any more.
        let mut refused = 0;
        while refused < 100 {
            match client.write(&chunk[sent % 256..]) {
                Ok(count) => (sent, refused) = (sent + count, 0),
                Err(_) => refused += 1,
            }
            a.wake(true, false);
            assert_eq!(carry(&mut a, &mut b, &mut buffer), Flow::Idle);
        }
        assert!(!b.writable);
        client.shutdown(Shutdown::Write).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).map(|_| all)
        });
        while !a.ended {
            a.wake(true, true);
            b.wake(true, true);
            assert_ne!(carry(&mut a, &mut b, &mut buffer), Flow::Reset);
        }
        let all = reader.join().unwrap().unwrap();
        assert_eq!(all.len(), sent);
        assert!(
            all.iter()
                .enumerate()
                .all(|(at, &byte)| usize::from(byte) == at % 256)
        );
    }
}
