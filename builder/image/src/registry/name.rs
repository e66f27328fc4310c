//! `HOST[:PORT]/NAME[:TAG][@DIGEST]`: an image in a registry. The host is always said: none is built in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::{Reference, check_tag};

/// Of the name of a repository, as distribution-spec advises.
const MAX_REPOSITORY: usize = 255;
/// Of all of it.
const MAX_LENGTH: usize = 700;

/// Where an image is, or goes to, in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryRef {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl RegistryRef {
    /// With the port, if one was written.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `latest` when neither a tag nor a digest was written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest where there is one, since a tag can move.
    pub(crate) fn wanted(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag.clone().unwrap_or_default(),
        }
    }

    /// The name in the store; none for an image that is known by its digest alone.
    ///
    /// # Errors
    /// A name that the store cannot keep.
    pub fn name(&self) -> Result<Option<Reference>> {
        self.tag()
            .map(|tag| format!("{}/{}:{tag}", self.host, self.repository).parse())
            .transpose()
    }
}

impl FromStr for RegistryRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown: String = text.chars().take(300).collect();
        let bad = |problem: &str| {
            Error::refused(
                format!("registry reference `{shown}`"),
                problem,
                "write it like `registry.example.org/shop/api:1.2`; the registry is always named",
            )
        };
        if text.len() > MAX_LENGTH {
            return Err(bad("is longer than 700 bytes"));
        }
        // As skopeo has it; it says nothing more.
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (rest, None),
        };
        let Some((host, rest)) = rest.split_once('/') else {
            return Err(bad("names no registry"));
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !names_a_host(host) {
            return Err(bad(
                "does not begin with a registry: a host name with a `.`, a port, or `localhost`",
            ));
        }
        if !is_host(host) {
            return Err(bad("has a host that is not one"));
        }
        if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_component) {
            return Err(bad(
                "has a component that is not a name: lower-case letters and digits, with single `.`, `_` or `-` between them",
            ));
        }
        if tag.is_some_and(|tag| check_tag(tag).is_err()) {
            return Err(bad("has a tag that is not one"));
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            repository: repository.to_owned(),
            tag: tag
                .or(digest.is_none().then_some("latest"))
                .map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for RegistryRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(out, ":{tag}")?;
        }
        self.digest
            .as_ref()
            .map_or(Ok(()), |digest| write!(out, "@{digest}"))
    }
}

/// As every tool tells a registry from the first part of a name.
pub(crate) fn names_a_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let mut separator = String::new();
    let mut plain = false;
    for c in part.chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            let one = matches!(separator.as_str(), "" | "." | "_" | "__");
            if !one && !separator.bytes().all(|byte| byte == b'-') {
                return false;
            }
            separator.clear();
            plain = true;
        } else if "._-".contains(c) && plain {
            separator.push(c);
        } else {
            return false;
        }
    }
    plain && separator.is_empty()
}

/// A host and a port, if any.
pub(crate) fn is_host(text: &str) -> bool {
    split_host(text).is_some()
}

/// Host, without the brackets of an IPv6 address, and port.
pub(crate) fn split_host(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        if !matches!(host.parse::<IpAddr>(), Ok(IpAddr::V6(_))) {
            return None;
        }
        match rest {
            "" => (host, None),
            _ => (host, Some(rest.strip_prefix(':')?)),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return None;
        }
        (host, port)
    };
    match port {
        None => Some((host, None)),
        Some(port) => {
            let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0);
            port.map(|port| (host, Some(port)))
        }
    }
}

/// `localhost`, or an address of this machine's own.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_always_named() {
        let digest = Digest::of(b"x");
        let at = format!("r.example.org/a@{digest}");
        let both = format!("r.example.org/a:1@{digest}");
        for (text, want) in [
            (
                "registry.example.org/shop/api:1.2",
                Some("registry.example.org/shop/api:1.2"),
            ),
            ("docker://localhost:5000/a", Some("localhost:5000/a:latest")),
            ("localhost/a__b--c.d", Some("localhost/a__b--c.d:latest")),
            ("[::1]:5000/a", Some("[::1]:5000/a:latest")),
            (
                "Registry.Example.ORG/a",
                Some("registry.example.org/a:latest"),
            ),
            (at.as_str(), Some(at.as_str())),
            (both.as_str(), Some(both.as_str())),
            ("debian:12", None),
            ("shop/api", None),
            ("r.example.org/", None),
            ("r.example.org/A", None),
            ("r.example.org/a..b", None),
            ("r.example.org/a/../b", None),
            ("r.example.org/a/", None),
            ("r.example.org/a___b", None),
            ("r.example.org:0/a", None),
            ("r.example.org:65536/a", None),
            ("user@r.example.org/a", None),
            ("-r.example.org/a", None),
            ("r.example.org/a:", None),
            ("r.example.org/a:b:c", None),
            ("r.example.org/a@sha256:00", None),
            ("[::1/a", None),
            ("[127.0.0.1]:5/a", None),
        ] {
            let shown = text.parse::<RegistryRef>().ok().map(|r| r.to_string());
            assert_eq!(shown.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (host, want) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("localhost.example.org", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("127.0.0.1.example.org", false),
        ] {
            assert_eq!(is_loopback(host), want, "{host}");
        }
    }
}
