//! From an accepted connection to a dialled one: the name resolved, each address judged, one after the other tried until one answers. What fails
//! is told once and cuts the client.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use airtight_plan::{GateEndpoint, Upstream};
use airtight_sys::socket::{self, Connecting, Interest};

use crate::audit::{Cause, Line, Topic, What};
use crate::relay::Side;
use crate::resolver::Resolved;
use crate::server::Server;
use crate::slab::Key;
use crate::token::Token;
use crate::verdict::{Refusal, Verdict, judge};

/// From the accepted connection to the dialled one, all addresses together.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(10);
/// Addresses tried for one connection.
const ADDRESSES_MAX: usize = 16;

/// Where connections of a listener go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Outward, to an endpoint of the plan.
    Endpoint(usize),
    /// Inward, to a published port.
    Published(usize),
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) near: Side,
    pub(crate) stage: Stage,
    pub(crate) route: Route,
    /// It waits for its turn to be carried.
    pub(crate) queued: bool,
    /// An event said that one of its sides has an error, which carrying may not find.
    pub(crate) failed: bool,
    /// Of the whole dial.
    until: Instant,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Resolving,
    /// Waits for a socket from the nursery.
    Unborn,
    Dialling {
        fd: OwnedFd,
        address: SocketAddr,
        rest: VecDeque<SocketAddr>,
        /// Of this address.
        until: Instant,
    },
    Carrying(Side),
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd, route: Route, now: Instant) -> Self {
        Self {
            near: Side::new(fd),
            stage: Stage::Resolving,
            route,
            queued: false,
            failed: false,
            until: now + DIAL_MAX,
        }
    }
}

impl Server {
    /// Begins the way to the other side.
    pub(crate) fn dial(&mut self, key: Key, now: Instant) {
        let Some(one) = self.connections.at(key) else {
            return;
        };
        match one.route {
            Route::Endpoint(number) => match self
                .plan
                .endpoints
                .get(number)
                .map(|endpoint| &endpoint.upstream)
            {
                Some(Upstream::Address(address)) => {
                    let address = *address;
                    self.dial_judged(key, number, &[address.ip()], address.port());
                }
                Some(Upstream::Name { host, .. }) => {
                    let name = self.resolver.number(host);
                    match name
                        .and_then(|name| self.resolver.resolve(name, Some(key), &self.epoll, now))
                    {
                        Some(resolved) => self.resolved(key, &resolved),
                        None => self.deadlines.push(Reverse((now + DIAL_MAX, key))),
                    }
                }
                None => self.cut(key),
            },
            Route::Published(number) => self.dial_published(key, number, now),
        }
    }

    fn dial_published(&mut self, key: Key, number: usize, now: Instant) {
        let Some(inside) = self
            .plan
            .published
            .get(number)
            .map(|published| published.inside)
        else {
            return self.cut(key);
        };
        let taken = self
            .nursery
            .as_mut()
            .map(|nursery| nursery.take(&inside, key));
        match taken {
            Some(Ok(Some(socket))) => self.dial_inside(key, socket),
            Some(Ok(None)) => {
                if let Some(one) = self.connections.at(key) {
                    one.stage = Stage::Unborn;
                    self.deadlines.push(Reverse((now + DIAL_MAX, key)));
                }
            }
            // Its end is an event of its own, which ends the gate.
            Some(Err(_)) | None => self.cut(key),
        }
    }

    /// With a socket that was born inside.
    pub(crate) fn dial_inside(&mut self, key: Key, socket: OwnedFd) {
        // Gone meanwhile, the socket goes too.
        let Some(one) = self.connections.at(key) else {
            return;
        };
        let Route::Published(number) = one.route else {
            return;
        };
        if let Some(inside) = self
            .plan
            .published
            .get(number)
            .map(|published| published.inside)
        {
            self.connect(key, socket, inside, VecDeque::new());
        }
    }

    /// A name's sockets have an event, or its time has come.
    pub(crate) fn resolve_on(&mut self, number: usize) {
        if let Some((waiting, resolved)) = self.resolver.step(number, &self.epoll, Instant::now()) {
            for key in waiting {
                self.resolved(key, &resolved);
            }
        }
    }

    fn resolved(&mut self, key: Key, resolved: &Resolved) {
        let Some(Connection {
            route: Route::Endpoint(number),
            stage: Stage::Resolving,
            ..
        }) = self.connections.at(key)
        else {
            return;
        };
        let number = *number;
        let Some(GateEndpoint {
            upstream: Upstream::Name { port, .. },
            ..
        }) = self.plan.endpoints.get(number)
        else {
            return;
        };
        let port = *port;
        match resolved {
            Ok(addresses) => self.dial_judged(key, number, addresses, port),
            Err(failure) => self.fail(key, Cause::Unresolved, failure.text().to_owned()),
        }
    }

    /// Only what the verdict allows, however the addresses came.
    fn dial_judged(&mut self, key: Key, number: usize, addresses: &[IpAddr], port: u16) {
        let Some(endpoint) = self.plan.endpoints.get(number) else {
            return self.cut(key);
        };
        // Asked at each dial: a host's addresses come and go.
        let own = match &endpoint.upstream {
            Upstream::Address(_) => Ok(Vec::new()),
            Upstream::Name { .. } => socket::host_addresses(),
        };
        let own = match own {
            Ok(own) => own,
            Err(error) => return self.fail(key, Cause::Descriptors, error.to_string()),
        };
        let mut allowed = VecDeque::new();
        for &address in addresses.iter().take(ADDRESSES_MAX) {
            match judge(endpoint, address, &own) {
                Verdict::Allowed => allowed.push_back(SocketAddr::new(address, port)),
                Verdict::Refused(why) => {
                    let topic = Topic {
                        what: What::Dial,
                        number,
                        cause: Cause::Verdict(why),
                    };
                    self.audit
                        .tell(topic, || refusal(endpoint, address, port, why));
                }
            }
        }
        match allowed.is_empty() {
            // Each was told above.
            true => self.cut(key),
            false => self.try_next(key, allowed, None),
        }
    }

    /// The next address, or the end: with the last error.
    fn try_next(&mut self, key: Key, mut rest: VecDeque<SocketAddr>, mut failed: Option<String>) {
        while let Some(address) = rest.pop_front() {
            match socket::tcp_socket(&address) {
                Ok(fd) => return self.connect(key, fd, address, rest),
                Err(error) => failed = Some(error.to_string()),
            }
        }
        let reason = failed.unwrap_or_else(|| "no address is left".into());
        self.fail(key, Cause::Unreachable, reason);
    }

    fn connect(&mut self, key: Key, fd: OwnedFd, address: SocketAddr, rest: VecDeque<SocketAddr>) {
        drop(socket::no_delay(&fd));
        let connecting = socket::tcp_connect(&fd, &address);
        let watched = connecting.and_then(|how| {
            // After connect: a socket that is in no state yet has events that mean nothing.
            self.epoll
                .add(&fd, Token::Far(key).pack(), Interest::Edges)
                .map(|()| how)
        });
        match watched {
            Ok(Connecting::Done) => self.join(key, fd),
            Ok(Connecting::InProgress) => {
                let Some(one) = self.connections.at(key) else {
                    return;
                };
                let now = Instant::now();
                // Each address its share of the time, so that a dead one does not use up the others'.
                let share = u32::try_from(rest.len() + 1).unwrap_or(u32::MAX);
                let until = now + one.until.saturating_duration_since(now) / share;
                one.stage = Stage::Dialling {
                    fd,
                    address,
                    rest,
                    until,
                };
                self.deadlines.push(Reverse((until, key)));
            }
            Err(error) => self.try_next(key, rest, Some(error.to_string())),
        }
    }

    /// The dialled socket has an event.
    pub(crate) fn dialled(&mut self, key: Key) {
        let Some((fd, address, rest)) = self.take_dialling(key) else {
            return;
        };
        match socket::take_error(&fd) {
            Ok(()) => self.join(key, fd),
            Err(error) => self.try_next(
                key,
                rest,
                Some(format!("{address}: {}", error.errno.desc())),
            ),
        }
    }

    pub(crate) fn dial_overdue(&mut self, key: Key, now: Instant) {
        let Some(one) = self.connections.at(key) else {
            return;
        };
        match &one.stage {
            Stage::Carrying(_) => {}
            Stage::Dialling { until, .. } if *until > now => {}
            Stage::Dialling { .. } => {
                if let Some((_, address, rest)) = self.take_dialling(key) {
                    self.try_next(key, rest, Some(format!("{address}: no answer in time")));
                }
            }
            Stage::Resolving => self.fail(key, Cause::Unresolved, "no name server answers".into()),
            Stage::Unborn => self.fail(key, Cause::Descriptors, "no socket inside in time".into()),
        }
    }

    fn take_dialling(&mut self, key: Key) -> Option<(OwnedFd, SocketAddr, VecDeque<SocketAddr>)> {
        let one = self.connections.at(key)?;
        match std::mem::replace(&mut one.stage, Stage::Resolving) {
            Stage::Dialling {
                fd, address, rest, ..
            } => Some((fd, address, rest)),
            other @ (Stage::Resolving | Stage::Unborn | Stage::Carrying(_)) => {
                one.stage = other;
                None
            }
        }
    }

    /// The client is cut, and the operator told why.
    fn fail(&mut self, key: Key, cause: Cause, reason: String) {
        if let Some(one) = self.connections.at(key) {
            let (what, number, target) = match one.route {
                Route::Endpoint(number) => (
                    What::Dial,
                    number,
                    self.plan
                        .endpoints
                        .get(number)
                        .map(|one| one.display.clone()),
                ),
                Route::Published(number) => {
                    let text = |one: &airtight_plan::GatePublished| {
                        format!("{} to {} inside", one.outside, one.inside)
                    };
                    (
                        What::Publish,
                        number,
                        self.plan.published.get(number).map(text),
                    )
                }
            };
            let target = target.unwrap_or_default();
            self.audit.tell(
                Topic {
                    what,
                    number,
                    cause,
                },
                || Line {
                    what,
                    target,
                    reason,
                    fix: None,
                    unwritten: 0,
                },
            );
        }
        self.cut(key);
    }
}

/// Says what would allow it, where something would.
fn refusal(endpoint: &GateEndpoint, address: IpAddr, port: u16, why: Refusal) -> Line {
    let leads = SocketAddr::new(address, port);
    let fix = match (&endpoint.upstream, why) {
        (_, Refusal::Public) => Some("--public".into()),
        (_, Refusal::NotNamed) | (Upstream::Address(_), _) => None,
        (Upstream::Name { .. }, Refusal::Kind(kind)) if kind.0.never() => None,
        (Upstream::Name { host, .. }, Refusal::HostItself | Refusal::Kind(_)) => {
            Some(format!("--connect {host}={leads}"))
        }
    };
    let reason = match &endpoint.upstream {
        Upstream::Name { host, .. } => format!("{host} leads to {address}, {why}"),
        Upstream::Address(_) => format!("{address} is {why}"),
    };
    Line {
        what: What::Dial,
        target: endpoint.display.clone(),
        reason,
        fix,
        unwritten: 0,
    }
}

#[cfg(test)]
mod tests {
    use airtight_plan::address::AddressClass;

    use super::*;
    use crate::verdict::Kind;

    #[test]
    fn a_refusal_says_what_would_allow_it() {
        let name = Upstream::Name {
            host: "db".into(),
            port: 5432,
        };
        let endpoint = |upstream| GateEndpoint {
            display: "db:5432".into(),
            inside: Vec::new(),
            upstream,
            public: false,
        };
        for (upstream, address, why, want) in [
            (
                name.clone(),
                "1.1.1.1",
                Refusal::Public,
                "db leads to 1.1.1.1, a public address; to allow it add --public",
            ),
            (
                name.clone(),
                "::1",
                Refusal::Kind(Kind(AddressClass::Loopback)),
                "db leads to ::1, a loopback address; to allow it add --connect db=[::1]:5432",
            ),
            (
                name.clone(),
                "10.0.0.1",
                Refusal::HostItself,
                "db leads to 10.0.0.1, an address of this host itself; to allow it add --connect db=10.0.0.1:5432",
            ),
            (
                name,
                "224.0.0.1",
                Refusal::Kind(Kind(AddressClass::Multicast)),
                "db leads to 224.0.0.1, a multicast address",
            ),
            (
                Upstream::Address("1.1.1.1:1".parse().unwrap()),
                "1.1.1.1",
                Refusal::Public,
                "1.1.1.1 is a public address; to allow it add --public",
            ),
        ] {
            let text = refusal(&endpoint(upstream), address.parse().unwrap(), 5432, why).text();
            assert_eq!(
                text,
                format!("airtight: refused: connect db:5432 (tcp): {want}\n")
            );
        }
    }
}
