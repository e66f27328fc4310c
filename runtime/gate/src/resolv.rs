//! `/etc/hosts` and `/etc/resolv.conf` as text. Pure; what is malformed is skipped, as every resolver does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::dns::Name;

/// What the files may hold; the rest is not read.
pub const FILE_MAX: u64 = 1 << 20;
/// As glibc has it.
const NAMESERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
const NDOTS_MAX: usize = 15;
/// Addresses of one name in the hosts file.
const ADDRESSES_MAX: usize = 16;

/// Where and how to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    pub nameservers: Vec<SocketAddr>,
    pub search: Vec<Name>,
    pub ndots: usize,
    /// For one question to one server.
    pub timeout: Duration,
    /// Rounds over the servers.
    pub attempts: usize,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            nameservers: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53)],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 2,
        }
    }
}

impl Conf {
    /// Reads the text of a `resolv.conf`. A server that is a link-local address with a zone is not used.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self {
            nameservers: Vec::new(),
            ..Self::default()
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.nameservers.len() < NAMESERVERS_MAX => {
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.nameservers
                        .extend(ip.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search" | "domain") => {
                    conf.search = words.filter_map(Name::parse).take(SEARCH_MAX).collect()
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.nameservers.is_empty() {
            conf.nameservers = Self::default().nameservers;
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let Some((key, value)) = word.split_once(':') else {
            return;
        };
        let Ok(value) = value.parse::<u16>() else {
            return;
        };
        match key {
            "ndots" => self.ndots = usize::from(value).min(NDOTS_MAX),
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 3))),
            "attempts" => self.attempts = usize::from(value.clamp(1, 3)),
            _ => {}
        }
    }

    /// The names to ask for, in turn: a name with fewer dots than `ndots` is tried below each search domain first. One that
    /// ends in a dot is asked for as it is.
    #[must_use]
    pub fn candidates(&self, host: &str) -> Vec<Name> {
        let Some(name) = Name::parse(host) else {
            return Vec::new();
        };
        if host.ends_with('.') {
            return vec![name];
        }
        let searched = self.search.iter().filter_map(|domain| name.below(domain));
        if name.dots() >= self.ndots {
            std::iter::once(name.clone()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.clone())).collect()
        }
    }
}

/// The addresses of `host` in the text of a hosts file, in order.
#[must_use]
pub fn hosts_lookup(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        if found.len() < ADDRESSES_MAX
            && words.any(|word| word.eq_ignore_ascii_case(host))
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts
            .iter()
            .map(|text| Name::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn a_resolv_conf_is_read_and_bounded() {
        let text = "# c\nnameserver 10.0.0.1\nnameserver nonsense\nnameserver fe80::1%eth0\nnameserver fd00::1\nsearch a.b c.d\n\
                    options ndots:2 timeout:99 attempts:0 rotate\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let want = Conf {
            nameservers: ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            search: names(&["a.b", "c.d"]),
            ndots: 2,
            timeout: Duration::from_secs(3),
            attempts: 1,
        };
        assert_eq!(Conf::parse(text), want);
        assert_eq!(Conf::parse(""), Conf::default());
    }

    #[test]
    fn short_names_are_searched_first() {
        let conf = Conf {
            search: names(&["x.example", "example"]),
            ..Conf::default()
        };
        for (host, want) in [
            ("db", vec!["db.x.example", "db.example", "db"]),
            ("db.y", vec!["db.y", "db.y.x.example", "db.y.example"]),
            ("db.", vec!["db"]),
            ("no name", vec![]),
        ] {
            assert_eq!(conf.candidates(host), names(&want), "{host}");
        }
    }

    #[test]
    fn a_hosts_file_is_searched_without_case() {
        let text = "127.0.0.1 localhost\n10.0.0.5\tdb Database # cache\nbad line\nfd00::5 DB.\n10.0.0.6 db #db\n10.0.0.5 db\n";
        for (host, want) in [
            ("DB", vec!["10.0.0.5", "10.0.0.6"]),
            ("database", vec!["10.0.0.5"]),
            ("cache", vec![]),
        ] {
            let want: Vec<IpAddr> = want.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(hosts_lookup(text, host), want, "{host}");
        }
    }
}
