//! Which listeners are accepted from: as many connections as descriptors allow, each direction leaving a part of them to the other. Peers from outside who hold
//! all that they can get so do not keep the sandbox from its endpoints, nor a sandbox that does them from its published ports.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use airtight_sys::Result;
use airtight_sys::socket::{self, Epoll, Interest};

use crate::dial::Route;
use crate::token::Token;

/// How long to let the kernel recover when it had no descriptor or memory for a connection.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Descriptors kept for everything that is not a connection.
const SPARE: u64 = 64;

/// All listeners, and how many connections there are of them.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Those inside first. Their places are the tokens' numbers.
    listeners: Vec<(TcpListener, Route)>,
    /// Of both directions together.
    most: usize,
    /// Of one.
    share: usize,
    outward: Way,
    inward: Way,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// Connections.
    open: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Watched,
    /// Connections wait in the backlog, whose length bounds them, until others have ended.
    Full,
    /// Or until this moment, after the kernel lacked something.
    Until(Instant),
}

/// How many connections, of two descriptors each, a limit of open files allows beside `fixed` other ones.
#[must_use]
pub(crate) fn connection_limit(open_files: u64, fixed: usize) -> usize {
    let fixed = u64::try_from(fixed).unwrap_or(u64::MAX);
    let free = open_files.saturating_sub(SPARE).saturating_sub(fixed);
    usize::try_from(free / 2).unwrap_or(usize::MAX).min(1 << 20)
}

impl Way {
    fn has_room(&self, share: usize) -> bool {
        self.open < share
    }
}

impl Doors {
    /// None is accepted from until [`Doors::open`].
    pub(crate) fn new(listeners: Vec<(TcpListener, Route)>, most: usize) -> Self {
        let inward = |(_, route): &(TcpListener, Route)| matches!(route, Route::Published(_));
        let both = listeners.iter().any(inward) && !listeners.iter().all(inward);
        let way = || Way {
            open: 0,
            state: State::Full,
        };
        Self {
            listeners,
            most,
            share: if both { most - most / 4 } else { most },
            outward: way(),
            inward: way(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }

    fn way(&mut self, route: Route) -> &mut Way {
        match route {
            Route::Endpoint(_) => &mut self.outward,
            Route::Published(_) => &mut self.inward,
        }
    }

    fn all(&self) -> usize {
        self.outward.open + self.inward.open
    }

    /// From here on connections are accepted.
    pub(crate) fn open(&mut self, epoll: &Epoll) -> Result<()> {
        self.watch(Route::Endpoint(0), epoll)?;
        self.watch(Route::Published(0), epoll)
    }

    /// The next connection of a listener, if one waits and there is room.
    pub(crate) fn accept(
        &mut self,
        number: usize,
        epoll: &Epoll,
    ) -> Result<Option<(OwnedFd, Route)>> {
        let Some(&(_, route)) = self.listeners.get(number) else {
            return Ok(None);
        };
        let (all, most, share) = (self.all(), self.most, self.share);
        let way = self.way(route);
        if way.state != State::Watched {
            return Ok(None);
        }
        if all >= most || !way.has_room(share) {
            return self.pause(route, State::Full, epoll).map(|()| None);
        }
        let accepted = self
            .listeners
            .get(number)
            .map(|(listener, _)| socket::tcp_accept(listener));
        match accepted {
            Some(Ok(Some(fd))) => {
                self.way(route).open += 1;
                Ok(Some((fd, route)))
            }
            Some(Ok(None)) | None => Ok(None),
            // No descriptor, no memory: of this process or of the host.
            Some(Err(_)) => self
                .pause(route, State::Until(Instant::now() + BACK_OFF), epoll)
                .map(|()| None),
        }
    }

    /// A connection that came in by `route` has ended.
    pub(crate) fn left(&mut self, route: Route) {
        let way = self.way(route);
        way.open = way.open.saturating_sub(1);
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [&self.outward, &self.inward]
            .into_iter()
            .filter_map(|way| match way.state {
                State::Until(when) => Some(when),
                State::Watched | State::Full => None,
            })
            .min()
    }

    /// Accepts again where there is room. Some of it first, so that the listeners are not switched on and off with each connection.
    pub(crate) fn keep_time(&mut self, epoll: &Epoll, now: Instant) -> Result<()> {
        for route in [Route::Endpoint(0), Route::Published(0)] {
            let (all, most, share) = (self.all(), self.most, self.share);
            let way = self.way(route);
            let over = match way.state {
                State::Watched => false,
                State::Full => true,
                State::Until(when) => when <= now,
            };
            if over && all < most - most / 16 && way.has_room(share - share / 16) {
                self.watch(route, epoll)?;
            }
        }
        Ok(())
    }

    /// Listens no more.
    pub(crate) fn close_where(
        &mut self,
        is_over: impl Fn(&Route) -> bool,
        epoll: &Epoll,
    ) -> Result<()> {
        let (outward, inward) = (self.outward.state, self.inward.state);
        for (listener, route) in self.listeners.iter().filter(|(_, route)| is_over(route)) {
            let state = match route {
                Route::Endpoint(_) => outward,
                Route::Published(_) => inward,
            };
            // Its closing is enough only where nobody else holds it.
            if state == State::Watched {
                epoll.remove(listener)?;
            }
        }
        self.listeners.retain(|(_, route)| !is_over(route));
        Ok(())
    }

    /// Of the direction of `route`, its number does not count.
    fn watch(&mut self, route: Route, epoll: &Epoll) -> Result<()> {
        for (number, (listener, other)) in self.listeners.iter().enumerate() {
            if same_way(*other, route) {
                let token = Token::Listener(number).pack();
                epoll.add(listener, token, Interest::Readable)?;
            }
        }
        self.way(route).state = State::Watched;
        Ok(())
    }

    fn pause(&mut self, route: Route, state: State, epoll: &Epoll) -> Result<()> {
        for (listener, other) in &self.listeners {
            if same_way(*other, route) {
                epoll.remove(listener)?;
            }
        }
        self.way(route).state = state;
        Ok(())
    }
}

fn same_way(one: Route, other: Route) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn connections_leave_room_for_the_rest() {
        for (open_files, fixed, want) in [
            (20000, 36, 9950),
            (64, 0, 0),
            (0, 0, 0),
            (100, 4, 16),
            (u64::MAX, 0, 1 << 20),
        ] {
            assert_eq!(
                connection_limit(open_files, fixed),
                want,
                "{open_files} {fixed}"
            );
        }
    }

    #[test]
    fn one_direction_leaves_a_part_to_the_other() {
        let listener = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (inside, outside) = (listener(), listener());
        let addresses = [inside.local_addr().unwrap(), outside.local_addr().unwrap()];
        let dialled = addresses.map(|address| {
            let dial = |_| TcpStream::connect(address).unwrap();
            (0..20).map(dial).collect::<Vec<_>>()
        });
        let epoll = Epoll::new().unwrap();
        let listeners = vec![(inside, Route::Endpoint(0)), (outside, Route::Published(0))];
        let mut doors = Doors::new(listeners, 16);
        doors.open(&epoll).unwrap();
        let all = |doors: &mut Doors, number| {
            let mut held = 0;
            while doors.accept(number, &epoll).unwrap().is_some() {
                held += 1;
            }
            held
        };
        // Whoever comes first has three quarters, the other one the rest.
        assert_eq!((all(&mut doors, 1), all(&mut doors, 0)), (12, 4));
        doors.left(Route::Endpoint(0));
        doors.keep_time(&epoll, Instant::now()).unwrap();
        assert_eq!(all(&mut doors, 1), 0, "it has its share");
        assert_eq!(all(&mut doors, 0), 0, "some room first");
        doors.left(Route::Endpoint(0));
        doors.keep_time(&epoll, Instant::now()).unwrap();
        assert_eq!((all(&mut doors, 1), all(&mut doors, 0)), (0, 2));
        (0..9).for_each(|_| doors.left(Route::Published(0)));
        doors.keep_time(&epoll, Instant::now()).unwrap();
        assert_eq!((all(&mut doors, 0), all(&mut doors, 1)), (8, 1));
        drop(dialled);
    }
}
