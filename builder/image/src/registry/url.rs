//! Addresses that a registry gives: of uploads, of redirected blobs, of token servers, of the next page. All of them are hostile text.

use std::fmt;

use super::name::{is_loopback, split_host};
use crate::error::{Error, Result};

/// Signed addresses are long; none is longer than servers take.
const MAX_URL: usize = 8 << 10;

/// Who answers: credentials of one are nothing to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// Lower case, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// `http` or `https`, without user or fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    origin: Origin,
    /// Path and query.
    path: String,
}

impl Origin {
    /// Of `HOST[:PORT]`.
    pub(crate) fn of(host: &str, https: bool) -> Result<Self> {
        let (host, port) = split_host(host)
            .ok_or_else(|| Error::refused(host, "is no host", "write it like HOST[:PORT]"))?;
        Ok(Self {
            https,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
        })
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url {
            origin: self.clone(),
            path: path.to_owned(),
        }
    }

    /// As it stands in a reference and as the name of a directory of certificates.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let usual = if self.https { 443 } else { 80 };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(out, "{scheme}://{}", self.authority())
    }
}

impl Url {
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = legal(text)?;
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| bad(text, "has no scheme"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad(text, "is neither http nor https")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if split_host(authority).is_none() {
            return Err(bad(text, "has no host that is one"));
        }
        let origin = Origin::of(authority, https)?;
        let rest = without_fragment(rest);
        let path = if rest.starts_with('/') {
            rest.to_owned()
        } else {
            format!("/{rest}")
        };
        Ok(Self { origin, path })
    }

    /// Where `location`, said in an answer to this, leads.
    pub(crate) fn join(&self, location: &str) -> Result<Self> {
        let location = legal(location)?;
        if location.contains("://") && !location.starts_with(['/', '?', '#']) {
            let scheme = location.split("://").next().unwrap_or_default();
            if !scheme.contains(['/', '?', '#']) {
                return Self::parse(location);
            }
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.origin.https { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let location = without_fragment(location);
        let own = self.path.split('?').next().unwrap_or("/");
        let path = if location.is_empty() {
            self.path.clone()
        } else if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{own}{location}")
        } else {
            let directory = own.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{directory}/{location}")
        };
        legal(&path)?;
        Ok(Self {
            origin: self.origin.clone(),
            path,
        })
    }

    /// With one more parameter, whose value is percent-encoded.
    pub(crate) fn with(&self, key: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        Self {
            origin: self.origin.clone(),
            path: format!("{}{separator}{key}={}", self.path, encode(value)),
        }
    }

    /// The same path of another origin.
    pub(crate) fn at(&self, origin: &Origin) -> Self {
        origin.url(&self.path)
    }

    /// All of it, for the wire and for a session that is kept; a query may be a secret.
    pub(crate) fn whole(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }
}

/// For messages: what a query holds may be a signature.
impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        let shown: String = path.chars().take(200).collect();
        write!(out, "{}{shown}", self.origin)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Url({self})")
    }
}

/// What is kept of a hostile address is bounded, printable ASCII.
fn legal(text: &str) -> Result<&str> {
    if text.len() > MAX_URL {
        return Err(bad(text, "is longer than 8 KiB"));
    }
    let strange = |byte: u8| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte);
    if text.bytes().any(strange) {
        return Err(bad(text, "has characters that no address has"));
    }
    Ok(text)
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

fn bad(text: &str, problem: &str) -> Error {
    let shown: String = text
        .split('?')
        .next()
        .unwrap_or_default()
        .chars()
        .take(120)
        .collect();
    Error::refused(
        format!("address `{shown}`"),
        problem,
        "the registry gave it: tell its operator",
    )
}

/// Of a parameter's value.
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The address of the next page in a `Link` header.
#[must_use]
pub fn next_page(header: &str) -> Option<&str> {
    if header.len() > MAX_URL {
        return None;
    }
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (address, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let next = parameters.split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(key, value)| {
                key.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
            })
        });
        if next {
            return Some(address);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_leads_where_rfc_3986_says() {
        let base = Url::parse("https://r.example.org/v2/a/blobs/uploads/1?s=2").unwrap();
        for (location, want) in [
            (
                "https://s3.example.org/b?sig=1",
                Some("https://s3.example.org/b?sig=1"),
            ),
            ("/v2/x", Some("https://r.example.org/v2/x")),
            ("2?y", Some("https://r.example.org/v2/a/blobs/uploads/2?y")),
            (
                "?z=1",
                Some("https://r.example.org/v2/a/blobs/uploads/1?z=1"),
            ),
            (
                "//other.example.org:444/p",
                Some("https://other.example.org:444/p"),
            ),
            ("HTTP://R.example.org:80", Some("http://r.example.org/")),
            ("https://[::1]:5000/a#b", Some("https://[::1]:5000/a")),
            (
                "/a?u=http://x/",
                Some("https://r.example.org/a?u=http://x/"),
            ),
            ("ftp://r.example.org/", None),
            ("https://user:pw@r.example.org/", None),
            ("https:///a", None),
            ("/a b", None),
            ("/a\r\nX: y", None),
            ("/\u{e9}", None),
            ("https://r.example.org:99999/", None),
        ] {
            let joined = base.join(location).ok().map(|url| url.whole());
            assert_eq!(joined.as_deref(), want, "{location}");
        }
        let told = base.join(&"/".repeat(9000)).unwrap_err().to_string();
        assert!(told.contains("longer than 8 KiB"), "{told}");
    }

    #[test]
    fn what_is_shown_holds_no_query() {
        let url = Url::parse("https://r.example.org/b?X-Signature=secret").unwrap();
        assert_eq!(url.to_string(), "https://r.example.org/b");
        assert_eq!(format!("{url:?}"), "Url(https://r.example.org/b)");
    }

    #[test]
    fn the_next_page_is_the_one_that_says_so() {
        for (header, want) in [
            (
                "</v2/a/tags/list?last=b&n=2>; rel=\"next\"",
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            ("</p>; rel=prev, </n>; rel=next", Some("/n")),
            ("</p>; rel=\"prev\"", None),
            ("</p", None),
            ("", None),
        ] {
            assert_eq!(next_page(header), want, "{header}");
        }
    }
}
