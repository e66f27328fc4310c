//! The loop: one thread, one epoll instance, one buffer. Accepts, has the address decided, dials, and carries bytes until both sides have ended. Goes
//! when the sandbox goes, after what that left on the way ([`crate::drain`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use airtight_plan::{GatePlan, Upstream};
use airtight_sys::socket::{self, Epoll, Event, Interest, Watch};

use crate::audit::Audit;
use crate::dial::{Connection, Route, Stage};
use crate::doors::{Doors, connection_limit};
use crate::error::GateError;
use crate::handshake::Handed;
use crate::nursery::Nursery;
use crate::relay::{Flow, Side, carry, carry_last};
use crate::resolver::{Resolved, Resolver};
use crate::slab::{Key, Slab};
use crate::token::Token;

/// For all connections together: large enough that a call's cost does not count, small enough to stay in the CPU's cache.
const BUFFER: usize = 128 << 10;
/// Connections taken from one listener before others have their turn.
const ACCEPTS: usize = 64;
const EVENTS: usize = 256;

/// Everything that serving takes. The parts of a dial are in [`crate::dial`].
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) plan: GatePlan,
    pub(crate) epoll: Epoll,
    pub(crate) connections: Slab<Connection>,
    pub(crate) resolver: Resolver,
    pub(crate) nursery: Option<Nursery>,
    pub(crate) audit: Audit,
    /// When a dial has taken too long. An entry of a dial that is over does no harm.
    pub(crate) deadlines: BinaryHeap<Reverse<(Instant, Key)>>,
    pub(crate) doors: Doors,
    buffer: Vec<u8>,
    /// Connections that have an event, or more to carry than one turn allows: each once, however much it says, so that none takes others' turns.
    queued: Vec<Key>,
    pub(crate) sandbox: OwnedFd,
    /// The sandbox has ended, and what it left is waited for until this moment.
    pub(crate) ending: Option<Instant>,
}

/// What an event loop reads into, made once.
#[derive(Debug)]
pub(crate) struct Room {
    watch: Watch,
    events: Vec<Event>,
}

impl Room {
    fn new() -> Self {
        Self {
            watch: Watch::with_room(EVENTS),
            events: Vec::with_capacity(EVENTS),
        }
    }
}

impl Server {
    /// Takes what was handed over; the process may still open files, and does.
    pub(crate) fn new(
        handed: Handed,
        nursery: Option<Nursery>,
        open_files: u64,
    ) -> Result<Self, GateError> {
        let Handed {
            plan,
            audit,
            outside,
            pidfd,
            inside,
        } = handed;
        let inside_routes = plan
            .endpoints
            .iter()
            .enumerate()
            .flat_map(|(number, one)| one.inside.iter().map(move |_| Route::Endpoint(number)));
        let routes: Vec<Route> = inside_routes
            .chain((0..outside.len()).map(Route::Published))
            .collect();
        let listeners: Vec<_> = inside.into_iter().chain(outside).zip(routes).collect();
        // Two sockets for each name that is being resolved.
        let most = connection_limit(open_files, listeners.len() + 2 * plan.endpoints.len());
        if most == 0 {
            return Err(GateError::FewDescriptors(open_files));
        }
        let epoll = Epoll::new()?;
        epoll.add(&pidfd, Token::Sandbox.pack(), Interest::Readable)?;
        let mut names: Vec<String> = Vec::new();
        for endpoint in &plan.endpoints {
            if let Upstream::Name { host, .. } = &endpoint.upstream
                && !names.contains(host)
            {
                names.push(host.clone());
            }
        }
        Ok(Self {
            audit: Audit::new(audit, plan.audit, plan.sandbox.clone()),
            plan,
            epoll,
            connections: Slab::new(),
            resolver: Resolver::new(names),
            nursery,
            deadlines: BinaryHeap::new(),
            doors: Doors::new(listeners, most),
            buffer: vec![0; BUFFER],
            queued: Vec::new(),
            sandbox: pidfd,
            ending: None,
        })
    }

    /// Resolves every name once, before the sandbox starts: one that has no address now is a mistake to be told at once, not at the first dial.
    /// Nothing is accepted meanwhile. Where the addresses may be dialled is judged at each dial.
    pub(crate) fn resolve_all(&mut self) -> Result<(), GateError> {
        let mut asked = Vec::new();
        for number in 0..self.resolver.len() {
            match self
                .resolver
                .resolve(number, None, &self.epoll, Instant::now())
            {
                Some(resolved) => self.must_have(number, &resolved)?,
                None => asked.push(number),
            }
        }
        let mut room = Room::new();
        while !asked.is_empty() {
            self.wait(&mut room)?;
            let mut due = self.resolver.due(Instant::now());
            for event in room.events.drain(..) {
                match Token::unpack(event.key) {
                    Some(Token::Sandbox) => return Err(GateError::SandboxGone),
                    Some(Token::Name(number)) => due.push(number),
                    _ => {}
                }
            }
            for number in due {
                if let Some((_, resolved)) = self.resolver.step(number, &self.epoll, Instant::now())
                {
                    self.must_have(number, &resolved)?;
                    asked.retain(|&other| other != number);
                }
            }
        }
        Ok(())
    }

    fn must_have(&self, number: usize, resolved: &Resolved) -> Result<(), GateError> {
        match resolved {
            Ok(_) => Ok(()),
            Err(failure) => Err(GateError::Unresolved {
                host: self.resolver.host(number).to_owned(),
                why: failure.text(),
            }),
        }
    }

    /// From here on connections are accepted.
    pub(crate) fn open(&mut self) -> Result<(), GateError> {
        if let Some(nursery) = &self.nursery {
            self.epoll
                .add(nursery.as_fd(), Token::Nursery.pack(), Interest::Readable)?;
        }
        Ok(self.doors.open(&self.epoll)?)
    }

    /// Serves until the sandbox ends, and what it has left on the way after that.
    pub(crate) fn run(&mut self) -> Result<(), GateError> {
        let mut room = Room::new();
        while !self.turn(&mut room)? {}
        self.drain(&mut room)
    }

    fn wait(&self, room: &mut Room) -> Result<(), GateError> {
        Ok(self
            .epoll
            .wait(&mut room.watch, self.patience(), &mut room.events)?)
    }

    /// One wait and what came of it. Whether the sandbox has ended.
    pub(crate) fn turn(&mut self, room: &mut Room) -> Result<bool, GateError> {
        self.wait(room)?;
        let mut ended = false;
        for event in room.events.drain(..) {
            match Token::unpack(event.key) {
                Some(Token::Sandbox) => ended = true,
                Some(token) => self.handle(token, event)?,
                None => {}
            }
        }
        for key in std::mem::take(&mut self.queued) {
            self.carry_queued(key);
        }
        self.keep_time()?;
        Ok(ended)
    }

    /// Milliseconds until something is due, `None` for never.
    fn patience(&self) -> Option<u32> {
        if !self.queued.is_empty() {
            return Some(0);
        }
        let dial = self.deadlines.peek().map(|Reverse((when, _))| *when);
        let next = [
            dial,
            self.resolver.deadline(),
            self.doors.deadline(),
            self.ending,
        ]
        .into_iter()
        .flatten()
        .min()?;
        let wait = next.saturating_duration_since(Instant::now());
        // Rounded up: waking before the time would only wait again.
        Some(u32::try_from(wait.as_millis() + 1).unwrap_or(u32::MAX))
    }

    fn handle(&mut self, token: Token, event: Event) -> Result<(), GateError> {
        match token {
            Token::Sandbox => {}
            Token::Nursery => {
                let born = match &mut self.nursery {
                    Some(nursery) => nursery.receive()?,
                    None => None,
                };
                if let Some((key, socket)) = born {
                    self.dial_inside(key, socket);
                }
            }
            Token::Listener(number) => {
                self.accept(number)?;
            }
            Token::Name(number) => self.resolve_on(number),
            Token::Near(key) => self.near(key, event),
            Token::Far(key) => self.far(key, event),
        }
        Ok(())
    }

    fn keep_time(&mut self) -> Result<(), GateError> {
        let now = Instant::now();
        while let Some(Reverse((when, key))) = self.deadlines.peek().copied() {
            if when > now {
                break;
            }
            self.deadlines.pop();
            self.dial_overdue(key, now);
        }
        for number in self.resolver.due(now) {
            self.resolve_on(number);
        }
        Ok(self.doors.keep_time(&self.epoll, now)?)
    }

    /// Whether more may be waiting.
    pub(crate) fn accept(&mut self, number: usize) -> Result<bool, GateError> {
        for _ in 0..ACCEPTS {
            match self.doors.accept(number, &self.epoll)? {
                Some((fd, route)) => self.accepted(fd, route),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn accepted(&mut self, fd: OwnedFd, route: Route) {
        // Refused for a connection that is gone already, which then shows by itself.
        drop(socket::no_delay(&fd));
        let now = Instant::now();
        let key = self.connections.insert(Connection::new(fd, route, now));
        let watched = self.connections.at(key).map(|one| {
            self.epoll
                .add(one.near.as_fd(), Token::Near(key).pack(), Interest::Edges)
        });
        match watched {
            Some(Ok(())) => self.dial(key, now),
            _ => self.cut(key),
        }
    }

    fn near(&mut self, key: Key, event: Event) {
        let Some(one) = self.connections.at(key) else {
            return;
        };
        one.near.wake(
            event.readable || event.failed || event.peer_closed,
            event.writable || event.failed,
        );
        match &one.stage {
            Stage::Carrying(_) => self.queue(key, event.failed),
            // A client that has reset is dialled for no more. One that has only ended its sending is: its answer may be all it wants.
            Stage::Resolving | Stage::Unborn | Stage::Dialling { .. } => {
                let gone = event.failed && one.near.has_failed();
                // Nobody is left to send more.
                if gone || (self.ending.is_some() && one.near.has_nothing_more()) {
                    self.cut(key);
                }
            }
        }
    }

    fn far(&mut self, key: Key, event: Event) {
        let Some(one) = self.connections.at(key) else {
            return;
        };
        match &mut one.stage {
            Stage::Carrying(far) => {
                far.wake(
                    event.readable || event.failed || event.peer_closed,
                    event.writable || event.failed,
                );
                self.queue(key, event.failed);
            }
            Stage::Dialling { .. } if event.writable || event.failed => self.dialled(key),
            Stage::Dialling { .. } | Stage::Resolving | Stage::Unborn => {}
        }
    }

    /// Has it carried in this turn, or in the next one.
    fn queue(&mut self, key: Key, failed: bool) {
        let Some(one) = self.connections.at(key) else {
            return;
        };
        one.failed |= failed;
        if !std::mem::replace(&mut one.queued, true) {
            self.queued.push(key);
        }
    }

    fn carry_queued(&mut self, key: Key) {
        let Some(one) = self.connections.at(key) else {
            return;
        };
        one.queued = false;
        let failed = std::mem::take(&mut one.failed);
        self.carry(key);
        if !failed {
            return;
        }
        // An error that no read has found since the other side takes no more: a cut is told at once, not after what is queued.
        let Some(one) = self.connections.at(key) else {
            return;
        };
        let broken = match &one.stage {
            Stage::Carrying(far) => one.near.has_failed() || far.has_failed(),
            Stage::Resolving | Stage::Unborn | Stage::Dialling { .. } => false,
        };
        if broken {
            self.cut(key);
        }
    }

    pub(crate) fn carry(&mut self, key: Key) {
        let Some(Connection {
            near,
            stage: Stage::Carrying(far),
            route,
            ..
        }) = self.connections.at(key)
        else {
            return;
        };
        let flow = match (self.ending, route) {
            (None, _) => carry(near, far, &mut self.buffer),
            (Some(_), Route::Endpoint(_)) => carry_last(near, far, &mut self.buffer),
            (Some(_), Route::Published(_)) => carry_last(far, near, &mut self.buffer),
        };
        match flow {
            Flow::Idle => {}
            Flow::More => self.queue(key, false),
            Flow::Done => self.end(key),
            Flow::Reset => self.cut(key),
        }
    }

    /// Closes both sides in order.
    fn end(&mut self, key: Key) {
        if let Some(one) = self.remove(key) {
            one.near.end();
            if let Stage::Carrying(far) = one.stage {
                far.end();
            }
        }
    }

    /// Ends both sides by RST.
    pub(crate) fn cut(&mut self, key: Key) {
        drop(self.remove(key));
    }

    fn remove(&mut self, key: Key) -> Option<Connection> {
        let one = self.connections.remove(key)?;
        self.doors.left(one.route);
        Some(one)
    }

    /// Both sides are connected.
    pub(crate) fn join(&mut self, key: Key, far: OwnedFd) {
        if let Some(one) = self.connections.at(key) {
            one.stage = Stage::Carrying(Side::new(far));
            self.carry(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// One that never runs, with two connections.
    fn server() -> (Server, Key, std::net::TcpStream, std::net::TcpStream) {
        let pair = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (ours, OwnedFd::from(listener.accept().unwrap().0))
        };
        let handed = Handed {
            plan: GatePlan {
                sandbox: "test".into(),
                landlock_abi: 0,
                endpoints: Vec::new(),
                published: Vec::new(),
                on_death: airtight_plan::GateDeath::Kill,
                audit: airtight_plan::GateAudit::Off,
            },
            audit: None,
            outside: Vec::new(),
            pidfd: std::io::pipe().unwrap().0.into(),
            inside: Vec::new(),
        };
        let mut server = Server::new(handed, None, 1024).unwrap();
        let ((client, near), (upstream, far)) = (pair(), pair());
        let one = Connection::new(near, Route::Endpoint(0), Instant::now());
        let key = server.connections.insert(one);
        server.join(key, far);
        (server, key, client, upstream)
    }

    #[test]
    fn a_connection_that_says_much_has_one_turn_as_others_have() {
        let (mut server, key, mut client, upstream) = server();
        let event = |readable, failed| Event {
            key: 0,
            readable,
            writable: true,
            peer_closed: false,
            failed,
        };
        std::io::Write::write_all(&mut client, &[0; 64]).unwrap();
        // A byte at a time, so that there is more than one turn allows.
        server.buffer.truncate(1);
        let mut room = Room::new();
        for _ in 0..3 {
            for _ in 0..5 {
                server.near(key, event(true, false));
                server.far(key, event(false, false));
            }
            assert_eq!(server.queued, [key]);
            server.turn(&mut room).unwrap();
        }
        // An error that comes meanwhile is not lost.
        socket::reset_on_close(&upstream).unwrap();
        drop(upstream);
        server.near(key, event(true, true));
        server.near(key, event(true, false));
        server.turn(&mut room).unwrap();
        assert_eq!(server.connections.len(), 0);
    }
}
