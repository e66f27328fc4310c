//! Names to addresses, outside, at each dial: the hosts file first, then DNS, within the gate's own loop. Answers are kept for their time to live
//! between [`TTL_MIN`] and [`TTL_MAX`]; that a name does not resolve, for [`TTL_MIN`].
//!
//! Both files are opened before the gate loses the file system and read again by that descriptor when they change, so an edit in place is
//! followed; a file that is replaced by rename is not, and needs a new launch.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use airtight_sys::socket::Epoll;

use crate::dns::{Family, Name};
use crate::exchange::{Exchange, Outcome};
use crate::resolv::{Conf, FILE_MAX, hosts_lookup};
use crate::slab::Key;
use crate::token::Token;

pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);
pub(crate) const TTL_MAX: Duration = Duration::from_secs(60);
/// For one name, all servers and search domains together; below the time that a dial has.
const LOOKUP_MAX: Duration = Duration::from_secs(8);
/// How long the second family may take once the first has addresses.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

/// Why a name has no address, for an audit line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NoSuchName,
    NoAnswer,
}

impl Failure {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoSuchName => "the name has no address",
            Self::NoAnswer => "no name server answers",
        }
    }
}

pub(crate) type Resolved = Result<Vec<IpAddr>, Failure>;

#[derive(Debug)]
pub(crate) struct Resolver {
    hosts: Watched,
    resolv: Watched,
    conf: Conf,
    names: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    host: String,
    state: State,
    waiting: Vec<Key>,
}

#[derive(Debug)]
enum State {
    Unknown,
    Known {
        resolved: Resolved,
        until: Instant,
    },
    Asking {
        candidates: Vec<Name>,
        at: usize,
        exchanges: Box<[Exchange; 2]>,
        until: Instant,
    },
}

impl Resolver {
    /// For these names; the events of their sockets are [`Token::Name`].
    pub(crate) fn new(hosts: Vec<String>) -> Self {
        let entry = |host| Entry {
            host,
            state: State::Unknown,
            waiting: Vec::new(),
        };
        let mut resolver = Self {
            hosts: Watched::open(Path::new("/etc/hosts")),
            resolv: Watched::open(Path::new("/etc/resolv.conf")),
            conf: Conf::default(),
            names: hosts.into_iter().map(entry).collect(),
        };
        resolver.hosts.refresh();
        resolver.read_conf();
        resolver
    }

    fn read_conf(&mut self) {
        if self.resolv.refresh() {
            self.conf = Conf::parse(&self.resolv.text);
        }
    }

    /// The number of a name.
    pub(crate) fn number(&self, host: &str) -> Option<usize> {
        self.names.iter().position(|entry| entry.host == host)
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// As the plan has it.
    pub(crate) fn host(&self, number: usize) -> &str {
        self.names.get(number).map_or("", |entry| &entry.host)
    }

    /// The addresses now, or `None`: `waiter`, if there is one, is among those that [`Self::step`] gives them to.
    pub(crate) fn resolve(
        &mut self,
        number: usize,
        waiter: Option<Key>,
        epoll: &Epoll,
        now: Instant,
    ) -> Option<Resolved> {
        self.hosts.refresh();
        self.read_conf();
        let entry = self.names.get_mut(number)?;
        let listed = hosts_lookup(&self.hosts.text, &entry.host);
        if !listed.is_empty() {
            return Some(Ok(listed));
        }
        match &entry.state {
            State::Known { resolved, until } if now < *until => return Some(resolved.clone()),
            State::Asking { .. } => {
                entry.waiting.extend(waiter);
                return None;
            }
            State::Known { .. } | State::Unknown => {}
        }
        let candidates = self.conf.candidates(&entry.host);
        let Some(first) = candidates.first().cloned() else {
            return Some(Err(Failure::NoSuchName));
        };
        let exchanges = Box::new(both(&first, number, &self.conf, epoll, now));
        entry.state = State::Asking {
            candidates,
            at: 0,
            exchanges,
            until: now + LOOKUP_MAX,
        };
        entry.waiting.extend(waiter);
        None
    }

    /// Goes on with a name after an event of one of its sockets, or since time has passed. Returns the waiters when it is decided.
    pub(crate) fn step(
        &mut self,
        number: usize,
        epoll: &Epoll,
        now: Instant,
    ) -> Option<(Vec<Key>, Resolved)> {
        let entry = self.names.get_mut(number)?;
        let State::Asking {
            candidates,
            at,
            exchanges,
            until,
        } = &mut entry.state
        else {
            return None;
        };
        for exchange in exchanges.iter_mut() {
            exchange.step(&self.conf, epoll, now);
            if now >= *until {
                exchange.abandon();
            }
        }
        if exchanges
            .iter()
            .any(|exchange| exchange.outcome().is_none())
        {
            if exchanges
                .iter()
                .any(|exchange| matches!(exchange.outcome(), Some(Outcome::Found { .. })))
            {
                *until = (*until).min(now + OTHER_FAMILY);
            }
            return None;
        }
        let outcomes = exchanges
            .each_ref()
            .map(|exchange| exchange.outcome().cloned().unwrap_or(Outcome::Failed));
        let (resolved, ttl) = combine(&outcomes);
        if resolved == Err(Failure::NoSuchName)
            && let Some(next) = candidates.get(*at + 1)
            && now < *until
        {
            **exchanges = both(next, number, &self.conf, epoll, now);
            *at += 1;
            return None;
        }
        entry.state = State::Known {
            resolved: resolved.clone(),
            until: now + ttl,
        };
        Some((std::mem::take(&mut entry.waiting), resolved))
    }

    /// The names whose time has come.
    pub(crate) fn due(&self, now: Instant) -> Vec<usize> {
        (0..self.names.len())
            .filter(|&number| {
                self.deadline_of(number)
                    .is_some_and(|deadline| deadline <= now)
            })
            .collect()
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (0..self.names.len())
            .filter_map(|number| self.deadline_of(number))
            .min()
    }

    fn deadline_of(&self, number: usize) -> Option<Instant> {
        match &self.names.get(number)?.state {
            State::Asking {
                exchanges, until, ..
            } => {
                let open = exchanges
                    .iter()
                    .filter(|exchange| exchange.outcome().is_none())
                    .map(Exchange::deadline)
                    .min();
                // Without an open one, both failed to ask anybody, and no event will come of them: at once.
                let next = open.or_else(|| exchanges.iter().map(Exchange::deadline).min());
                Some(next.map_or(*until, |next| next.min(*until)))
            }
            State::Unknown | State::Known { .. } => None,
        }
    }
}

fn both(name: &Name, number: usize, conf: &Conf, epoll: &Epoll, now: Instant) -> [Exchange; 2] {
    [Family::V4, Family::V6].map(|family| {
        Exchange::start(
            name.clone(),
            family,
            Token::Name(number).pack(),
            conf,
            epoll,
            now,
        )
    })
}

/// Both families as one answer, IPv4 first: where a private network has both, it is the one that certainly works.
fn combine(outcomes: &[Outcome]) -> (Resolved, Duration) {
    let mut addresses = Vec::new();
    let mut least = u32::MAX;
    for outcome in outcomes {
        if let Outcome::Found {
            addresses: found,
            ttl,
        } = outcome
        {
            addresses.extend_from_slice(found);
            least = least.min(*ttl);
        }
    }
    if !addresses.is_empty() {
        return (
            Ok(addresses),
            Duration::from_secs(least.into()).clamp(TTL_MIN, TTL_MAX),
        );
    }
    let failed = outcomes.contains(&Outcome::Failed);
    (
        Err(if failed {
            Failure::NoAnswer
        } else {
            Failure::NoSuchName
        }),
        TTL_MIN,
    )
}

/// The text of a file, read again by the same descriptor when the file has changed.
#[derive(Debug)]
struct Watched {
    file: Option<File>,
    stamp: Option<(i64, i64, u64)>,
    text: String,
}

impl Watched {
    /// A file that is not there stays absent.
    fn open(path: &Path) -> Self {
        Self {
            file: File::open(path).ok(),
            stamp: None,
            text: String::new(),
        }
    }

    /// Whether the text is new. A file that cannot be read keeps the text it had.
    fn refresh(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        let Ok(metadata) = file.metadata() else {
            return false;
        };
        let stamp = (metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        if self.stamp == Some(stamp) {
            return false;
        }
        let length = usize::try_from(metadata.len().min(FILE_MAX)).unwrap_or(0);
        let mut bytes = vec![0; length];
        let Ok(()) = file.read_exact_at(&mut bytes, 0) else {
            return false;
        };
        self.text = String::from_utf8_lossy(&bytes).into_owned();
        self.stamp = Some(stamp);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn families_are_joined_and_their_time_is_bounded() {
        let v4: IpAddr = "10.0.0.5".parse().unwrap();
        let v6: IpAddr = "fd00::5".parse().unwrap();
        let found = |address, ttl| Outcome::Found {
            addresses: vec![address],
            ttl,
        };
        for (case, outcomes, want) in [
            (
                "both",
                [found(v4, 30), found(v6, 20)],
                (Ok(vec![v4, v6]), Duration::from_secs(20)),
            ),
            (
                "one, the other fails",
                [Outcome::Failed, found(v6, 0)],
                (Ok(vec![v6]), TTL_MIN),
            ),
            (
                "long",
                [found(v4, 86400), Outcome::Nothing],
                (Ok(vec![v4]), TTL_MAX),
            ),
            (
                "neither",
                [Outcome::Nothing, Outcome::Nothing],
                (Err(Failure::NoSuchName), TTL_MIN),
            ),
            (
                "unknown",
                [Outcome::Nothing, Outcome::Failed],
                (Err(Failure::NoAnswer), TTL_MIN),
            ),
        ] {
            assert_eq!(combine(&outcomes), want, "{case}");
        }
    }

    #[test]
    fn a_file_edited_in_place_is_read_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"10.0.0.1 db\n").unwrap();
        let mut watched = Watched::open(file.path());
        assert!(watched.refresh() && !watched.refresh());
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(b"10.0.0.22 db\n").unwrap();
        assert!(watched.refresh());
        assert_eq!(watched.text, "10.0.0.22 db\n");
        assert!(!Watched::open(Path::new("/nowhere/hosts")).refresh());
    }
}
