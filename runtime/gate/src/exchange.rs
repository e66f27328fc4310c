//! One question to the name servers, in turn, until one answers: over UDP, over TCP where the answer did not fit. Never blocks; it goes on when its
//! socket has an event or its time is over.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use airtight_sys::Result;
use airtight_sys::socket::{self, Connecting, Epoll, Interest};

use crate::dns::{Answer, Family, Name, Query, UDP_MAX, parse_response};
use crate::resolv::Conf;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `ttl` in seconds.
    Found {
        addresses: Vec<IpAddr>,
        ttl: u32,
    },
    Nothing,
    /// No server could tell.
    Failed,
}

/// Messages that are no answer to the question, from the right address and port: past this many, somebody guesses.
const WRONG_MAX: u32 = 16;
const TCP_MAX: usize = 65535;

#[derive(Debug)]
pub(crate) struct Exchange {
    query: Query,
    /// How many servers were asked, round and round.
    tries: usize,
    wrong: u32,
    transport: Transport,
    until: Instant,
    /// As the epoll instance knows it.
    key: u64,
}

#[derive(Debug)]
enum Transport {
    Udp(OwnedFd),
    Tcp {
        fd: OwnedFd,
        unsent: Vec<u8>,
        received: Vec<u8>,
    },
    Done(Outcome),
}

impl Exchange {
    /// Sends the question to the first server.
    pub(crate) fn start(
        name: Name,
        family: Family,
        key: u64,
        conf: &Conf,
        epoll: &Epoll,
        now: Instant,
    ) -> Self {
        let query = Query {
            id: 0,
            name,
            family,
        };
        let mut exchange = Self {
            query,
            tries: 0,
            wrong: 0,
            transport: Transport::Done(Outcome::Failed),
            until: now,
            key,
        };
        exchange.ask_next(conf, epoll, now);
        exchange
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match &self.transport {
            Transport::Done(outcome) => Some(outcome),
            Transport::Udp(_) | Transport::Tcp { .. } => None,
        }
    }

    /// When its time is over. Past, for one that has failed without asking anybody.
    pub(crate) fn deadline(&self) -> Instant {
        self.until
    }

    /// Gives up.
    pub(crate) fn abandon(&mut self) {
        if self.outcome().is_none() {
            self.transport = Transport::Done(Outcome::Failed);
        }
    }

    /// Goes on after an event or at the deadline.
    pub(crate) fn step(&mut self, conf: &Conf, epoll: &Epoll, now: Instant) {
        let answer = match &mut self.transport {
            Transport::Done(_) => return,
            Transport::Udp(fd) => read_udp(fd, &self.query, &mut self.wrong),
            Transport::Tcp {
                fd,
                unsent,
                received,
            } => step_tcp(fd, unsent, received, &self.query),
        };
        match answer {
            Ok(None) if now < self.until => {}
            Ok(Some(Answer::Found { addresses, ttl })) => {
                self.transport = Transport::Done(Outcome::Found { addresses, ttl })
            }
            Ok(Some(Answer::Nothing)) => self.transport = Transport::Done(Outcome::Nothing),
            Ok(Some(Answer::Truncated)) if matches!(self.transport, Transport::Udp(_)) => {
                let asked = self
                    .server(conf)
                    .map(|server| self.ask_over_tcp(server, conf, epoll, now));
                if !matches!(asked, Some(Ok(()))) {
                    self.ask_next(conf, epoll, now);
                }
            }
            // The time is over, the port is closed, the server is broken: the next one.
            Ok(None | Some(Answer::Failed(_) | Answer::Truncated)) | Err(_) => {
                self.ask_next(conf, epoll, now)
            }
        }
    }

    /// The one that is being asked; `tries` counts it.
    fn server(&self, conf: &Conf) -> Option<SocketAddr> {
        conf.nameservers
            .get(self.tries.checked_sub(1)? % conf.nameservers.len().max(1))
            .copied()
    }

    fn ask_next(&mut self, conf: &Conf, epoll: &Epoll, now: Instant) {
        while self.tries < conf.nameservers.len() * conf.attempts {
            self.tries += 1;
            let Some(server) = self.server(conf) else {
                break;
            };
            if self.ask_over_udp(server, conf, epoll, now).is_ok() {
                return;
            }
        }
        self.transport = Transport::Done(Outcome::Failed);
    }

    /// A socket of its own for each question: the kernel gives it a port that nobody knows, and it hears the server only.
    fn ask_over_udp(
        &mut self,
        server: SocketAddr,
        conf: &Conf,
        epoll: &Epoll,
        now: Instant,
    ) -> Result<()> {
        self.query.id = socket::random_word()?;
        self.wrong = 0;
        let fd = socket::udp_connected(&server)?;
        epoll.add(&fd, self.key, Interest::Edges)?;
        socket::give(&fd, &self.query.encode())?;
        self.until = now + conf.timeout;
        self.transport = Transport::Udp(fd);
        Ok(())
    }

    fn ask_over_tcp(
        &mut self,
        server: SocketAddr,
        conf: &Conf,
        epoll: &Epoll,
        now: Instant,
    ) -> Result<()> {
        let fd = socket::tcp_socket(&server)?;
        // Connected or not yet, the first event tells.
        match socket::tcp_connect(&fd, &server)? {
            Connecting::Done | Connecting::InProgress => {
                epoll.add(&fd, self.key, Interest::Edges)?
            }
        }
        let message = self.query.encode();
        let mut unsent = u16::try_from(message.len())
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec();
        unsent.extend(message);
        self.until = now + conf.timeout;
        self.transport = Transport::Tcp {
            fd,
            unsent,
            received: Vec::new(),
        };
        Ok(())
    }
}

fn read_udp(fd: &OwnedFd, query: &Query, wrong: &mut u32) -> Result<Option<Answer>> {
    // One byte more than is allowed, so that a longer one is not taken for a whole one.
    let mut message = [0; UDP_MAX + 1];
    while let Some(length) = socket::take(fd, &mut message)? {
        if let (true, Ok(answer)) = (length <= UDP_MAX, parse_response(&message[..length], query)) {
            return Ok(Some(answer));
        }
        *wrong += 1;
        if *wrong > WRONG_MAX {
            return Ok(Some(Answer::Failed(u8::MAX)));
        }
    }
    Ok(None)
}

fn step_tcp(
    fd: &OwnedFd,
    unsent: &mut Vec<u8>,
    received: &mut Vec<u8>,
    query: &Query,
) -> Result<Option<Answer>> {
    socket::take_error(fd)?;
    while !unsent.is_empty() {
        match socket::give(fd, unsent) {
            Ok(Some(sent)) => drop(unsent.drain(..sent)),
            Ok(None) => return Ok(None),
            // Not connected yet: the event that says so is still to come.
            Err(error) if error.errno as i32 == libc::ENOTCONN => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut part = [0; 4096];
    while let Some(length) = socket::take(fd, &mut part)? {
        received.extend_from_slice(&part[..length]);
        let whole = received
            .first_chunk::<2>()
            .map(|prefix| 2 + usize::from(u16::from_be_bytes(*prefix)));
        if let Some(message) = whole.and_then(|whole| received.get(2..whole)) {
            return Ok(Some(
                parse_response(message, query).unwrap_or(Answer::Failed(u8::MAX)),
            ));
        }
        if length == 0 || received.len() > 2 + TCP_MAX {
            return Ok(Some(Answer::Failed(u8::MAX)));
        }
    }
    Ok(None)
}
