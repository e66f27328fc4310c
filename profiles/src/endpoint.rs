//! Endpoints and port ranges as a profile writes them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `HOST:PORT`: a lower-case host name or an address in its shortest form, and a TCP port that is not 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// # Errors
    /// What is wrong with the host or the port, in words that follow the value.
    pub fn new(host: &str, port: u16) -> Result<Self, &'static str> {
        if port == 0 {
            return Err("port 0 is no destination");
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self {
                host: address.to_string(),
                port,
            });
        }
        check_name(host)?;
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// A lower-case name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, where it is an address.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("is not HOST:PORT")?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or("has `[` without `]`")?,
            None if host.contains(':') => return Err("has an IPv6 address without brackets"),
            None => host,
        };
        let port = port.parse().map_err(|_| "has no port from 1 to 65535")?;
        Self::new(host, port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The name goes into `/etc/hosts`, so nothing that could end the line or the word may pass. A last label of digits would be
/// taken for an IPv4 address by `inet_aton` (`127.1`, `0x7f000001`), which no check of addresses would see.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 253 {
        return Err("has a host name that is empty or longer than 253 bytes");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err("is not a host name: labels of letters, digits, `-` and `_`, joined by dots");
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if numeric {
        Err("ends in a number, which a libc reads as an address")
    } else {
        Ok(())
    }
}

/// TCP ports as disjoint, sorted, joined ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    /// Every port that can be listened on.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(1, u16::MAX)])
    }

    /// Adds `first..=last`; nothing if `last` is less.
    pub fn insert(&mut self, first: u16, last: u16) {
        if first > last {
            return;
        }
        self.0.push((first, last));
        self.0.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match joined.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        self.0 = joined;
    }

    /// The ports in both.
    #[must_use]
    pub fn tighten(&self, with: &Self) -> Self {
        let mut both = Self::default();
        for (first, last) in &self.0 {
            for (from, to) in &with.0 {
                both.insert(*first.max(from), *last.min(to));
            }
        }
        both
    }

    /// Whether every port from `first` to `last` is in.
    #[must_use]
    pub fn covers(&self, first: u16, last: u16) -> bool {
        self.0
            .iter()
            .any(|(from, to)| *from <= first && last <= *to)
    }

    /// How many ports.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0
            .iter()
            .map(|(first, last)| usize::from(last - first) + 1)
            .sum()
    }

    /// Each port, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// First and last of each range.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_host_and_one_port() {
        for (text, want) in [
            ("redis:6379", Ok("redis:6379")),
            ("Redis.Example:6379", Ok("redis.example:6379")),
            ("10.0.0.5:5432", Ok("10.0.0.5:5432")),
            ("[FD00::0:1]:80", Ok("[fd00::1]:80")),
            ("fd00::1:80", Err("has an IPv6 address without brackets")),
            ("redis", Err("is not HOST:PORT")),
            ("redis:0", Err("port 0 is no destination")),
            ("redis:65536", Err("has no port from 1 to 65535")),
            (
                "*:443",
                Err("is not a host name: labels of letters, digits, `-` and `_`, joined by dots"),
            ),
            (
                "a b:443",
                Err("is not a host name: labels of letters, digits, `-` and `_`, joined by dots"),
            ),
            (
                "a\n1.1.1.1 b:443",
                Err("is not a host name: labels of letters, digits, `-` and `_`, joined by dots"),
            ),
            (
                "127.1:80",
                Err("ends in a number, which a libc reads as an address"),
            ),
            (
                "0x7f000001:80",
                Err("ends in a number, which a libc reads as an address"),
            ),
            (
                "2130706433:80",
                Err("ends in a number, which a libc reads as an address"),
            ),
            (
                ":80",
                Err("has a host name that is empty or longer than 253 bytes"),
            ),
        ] {
            assert_eq!(
                text.parse::<Endpoint>()
                    .map(|endpoint| endpoint.to_string()),
                want.map(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn port_ranges_join_and_intersect() {
        let mut ports = PortSet::default();
        for (first, last) in [(80, 80), (8000, 8010), (8005, 8020), (81, 82), (9, 8)] {
            ports.insert(first, last);
        }
        assert_eq!(ports.ranges(), [(80, 82), (8000, 8020)]);
        let mut other = PortSet::default();
        other.insert(82, 8000);
        assert_eq!(ports.tighten(&other).ranges(), [(82, 82), (8000, 8000)]);
        assert!(ports.covers(8001, 8020) && !ports.covers(82, 83));
        assert_eq!(ports.count(), 24);
    }
}
