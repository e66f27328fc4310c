//! The DNS messages of a stub resolver: one question out, one answer in. Pure; an answer is hostile until it has passed here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest answer over UDP without EDNS (RFC 1035, 4.2.1); over TCP the length prefix bounds it.
pub const UDP_MAX: usize = 512;

const HEADER: usize = 12;
/// RFC 1035, 3.1, with the length octets and the root.
const NAME_MAX: usize = 255;
/// Records read from one answer; a name of more addresses is served by the first ones.
const RECORDS_MAX: usize = 128;
/// How far an alias of an alias is followed.
const CHAIN_MAX: usize = 8;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;

/// A host name in lower case: labels of 1 to 63 of `[a-z0-9_-]`, 253 in all, no dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// `None` for what is no host name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let ok = text.len() <= 253 && text.split('.').all(label_ok);
        ok.then(|| Self(text.to_ascii_lowercase()))
    }

    /// This name below `domain`.
    #[must_use]
    pub fn below(&self, domain: &Self) -> Option<Self> {
        Self::parse(&format!("{}.{}", self.0, domain.0))
    }

    /// How many dots, which `ndots` counts.
    #[must_use]
    pub fn dots(&self) -> usize {
        self.0.bytes().filter(|&byte| byte == b'.').count()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    const fn record(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Unguessable: an answer from off the path must hit it and the port.
    pub id: u16,
    pub name: Name,
    pub family: Family,
}

impl Query {
    /// The message, recursion desired.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + NAME_MAX + 4);
        for word in [self.id, 0x0100, 1, 0, 0, 0] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        for label in self.name.0.split('.') {
            // `Name` holds labels of at most 63 bytes.
            message.push(u8::try_from(label.len()).unwrap_or(0));
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&self.family.record().to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message
    }
}

/// What a server said to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// At least one address; how many seconds they hold.
    Found { addresses: Vec<IpAddr>, ttl: u32 },
    /// The name, or this family of it, does not exist.
    Nothing,
    /// Did not fit: ask again over TCP.
    Truncated,
    /// The server cannot tell (`SERVFAIL`, `REFUSED`, …); its response code.
    Failed(u8),
}

/// Why a message is not an answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("shorter than it says")]
    Short,
    #[error("not an answer to this question")]
    Unrelated,
    #[error("a name in it is malformed")]
    Name,
    #[error("a chain of aliases is too long or broken")]
    Chain,
}

/// Reads `message` as the answer to `query`. Every byte of it may be hostile: bounded in records, name length and aliases, and a
/// compressed name only ever points backwards, so that it cannot loop.
///
/// # Errors
/// It is not a well-formed answer to exactly this question.
pub fn parse_response(message: &[u8], query: &Query) -> Result<Answer, Invalid> {
    let flags = word(message, 2)?;
    let response = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if word(message, 0)? != query.id || !response || word(message, 4)? != 1 {
        return Err(Invalid::Unrelated);
    }
    let (asked, after) = read_name(message, HEADER)?;
    let (kind, class) = (word(message, after)?, word(message, after + 2)?);
    if asked != query.name.0 || kind != query.family.record() || class != CLASS_IN {
        return Err(Invalid::Unrelated);
    }
    if flags & 0x0200 != 0 {
        return Ok(Answer::Truncated);
    }
    match flags & 0x000f {
        0 => {}
        3 => return Ok(Answer::Nothing),
        code => return Ok(Answer::Failed(u8::try_from(code).unwrap_or(u8::MAX))),
    }
    let records = read_records(
        message,
        after + 4,
        usize::from(word(message, 6)?),
        query.family,
    )?;
    follow(&records, &query.name.0)
}

/// The part of a record that matters here.
struct Record {
    owner: String,
    ttl: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(String),
}

fn read_records(
    message: &[u8],
    mut at: usize,
    count: usize,
    family: Family,
) -> Result<Vec<Record>, Invalid> {
    let mut records = Vec::new();
    for _ in 0..count.min(RECORDS_MAX) {
        let (owner, after) = read_name(message, at)?;
        let (kind, class) = (word(message, after)?, word(message, after + 2)?);
        let ttl = u32::from(word(message, after + 4)?) << 16 | u32::from(word(message, after + 6)?);
        let length = usize::from(word(message, after + 8)?);
        let start = after + 10;
        let data = message.get(start..start + length).ok_or(Invalid::Short)?;
        at = start + length;
        if class != CLASS_IN {
            continue;
        }
        let data = match kind {
            TYPE_CNAME => Some(Data::Alias(read_name(message, start)?.0)),
            kind if kind == family.record() => {
                Some(Data::Address(address(data, family).ok_or(Invalid::Short)?))
            }
            _ => None,
        };
        records.extend(data.map(|data| Record { owner, ttl, data }));
    }
    Ok(records)
}

fn address(data: &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => <[u8; 4]>::try_from(data)
            .ok()
            .map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        Family::V6 => <[u8; 16]>::try_from(data)
            .ok()
            .map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
    }
}

/// From the name that was asked for, along its aliases, to addresses. Records of other names are not looked at.
fn follow(records: &[Record], asked: &str) -> Result<Answer, Invalid> {
    let mut owner = asked;
    let mut ttl = u32::MAX;
    for _ in 0..=CHAIN_MAX {
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in records.iter().filter(|record| record.owner == owner) {
            match &record.data {
                Data::Address(address) if !addresses.contains(address) => addresses.push(*address),
                Data::Address(_) => {}
                Data::Alias(to) => alias = Some(to.as_str()),
            }
            ttl = ttl.min(record.ttl);
        }
        if !addresses.is_empty() {
            return Ok(Answer::Found { addresses, ttl });
        }
        match alias {
            Some(to) => owner = to,
            None => return Ok(Answer::Nothing),
        }
    }
    Err(Invalid::Chain)
}

/// The name at `at` in lower case with dots, and the offset after it.
fn read_name(message: &[u8], at: usize) -> Result<(String, usize), Invalid> {
    let mut name = Vec::new();
    let mut cursor = at;
    // Where the run of labels that is being read began: a pointer must lead before it, so each jump goes strictly backwards.
    let mut run = at;
    let mut end = None;
    loop {
        let length = *message.get(cursor).ok_or(Invalid::Short)?;
        match length & 0xc0 {
            0xc0 => {
                let target = usize::from(word(message, cursor)? & 0x3fff);
                if target >= run {
                    return Err(Invalid::Name);
                }
                end.get_or_insert(cursor + 2);
                (cursor, run) = (target, target);
            }
            0 if length == 0 => break,
            0 => {
                let label = message
                    .get(cursor + 1..=cursor + usize::from(length))
                    .ok_or(Invalid::Short)?;
                if !name.is_empty() {
                    name.push(b'.');
                }
                // A dot within a label would make two names look like one.
                if name.len() + label.len() > NAME_MAX || label.contains(&b'.') {
                    return Err(Invalid::Name);
                }
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                cursor += 1 + usize::from(length);
            }
            _ => return Err(Invalid::Name),
        }
    }
    let name = String::from_utf8(name).map_err(|_| Invalid::Name)?;
    Ok((name, end.unwrap_or(cursor + 1)))
}

fn word(message: &[u8], at: usize) -> Result<u16, Invalid> {
    match message.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Invalid::Short),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, family: Family) -> Query {
        Query {
            id: 0x1234,
            name: Name::parse(name).unwrap(),
            family,
        }
    }

    /// A response to `query` with these records, each `(owner, type, ttl, data)`; owner and data are raw.
    fn response(query: &Query, flags: u16, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
        let mut message = query.encode();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (owner, kind, ttl, data) in records {
            message.extend_from_slice(owner);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
            message.extend_from_slice(&ttl.to_be_bytes());
            message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    const ASKED: &[u8] = &[0xc0, 12];
    const OK: u16 = 0x8180;

    #[test]
    fn a_question_is_encoded_to_the_byte() {
        let want = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x02db\x07example\0\0\x1c\0\x01";
        assert_eq!(query("DB.example.", Family::V6).encode(), want);
    }

    #[test]
    fn names_are_host_names() {
        for (text, ok) in [
            ("db", true),
            ("db.example.", true),
            ("_srv-1.x", true),
            ("", false),
            (".", false),
            ("a..b", false),
            ("a b", false),
            ("ä", false),
            ("a/b", false),
        ] {
            assert_eq!(Name::parse(text).is_some(), ok, "{text:?}");
        }
        assert_eq!(Name::parse(&"a".repeat(64)), None);
        assert_eq!(Name::parse(&vec!["a".repeat(63); 4].join(".")), None);
    }

    #[test]
    fn answers_are_read() {
        let q = query("db.example", Family::V4);
        let found = |last: u8, ttl| {
            Ok(Answer::Found {
                addresses: vec![IpAddr::from([10, 0, 0, last])],
                ttl,
            })
        };
        let alias: &[u8] = b"\x01x\xc0\x0f";
        for (case, message, want) in [
            (
                "one",
                response(&q, OK, &[(ASKED, 1, 300, &[10, 0, 0, 5])]),
                found(5, 300),
            ),
            (
                "alias",
                response(
                    &q,
                    OK,
                    &[
                        (ASKED, 5, 30, alias),
                        (b"\x01X\x07eXample\0", 1, 300, &[10, 0, 0, 6]),
                    ],
                ),
                found(6, 30),
            ),
            ("none", response(&q, OK, &[]), Ok(Answer::Nothing)),
            (
                "alias to nothing",
                response(&q, OK, &[(ASKED, 5, 30, alias)]),
                Ok(Answer::Nothing),
            ),
            (
                "of another name",
                response(&q, OK, &[(b"\x04evil\0", 1, 9, &[10, 0, 0, 5])]),
                Ok(Answer::Nothing),
            ),
            (
                "of another type",
                response(&q, OK, &[(ASKED, 28, 9, &[0; 16])]),
                Ok(Answer::Nothing),
            ),
            (
                "no such name",
                response(&q, OK | 3, &[]),
                Ok(Answer::Nothing),
            ),
            (
                "server failure",
                response(&q, OK | 2, &[]),
                Ok(Answer::Failed(2)),
            ),
            (
                "truncated",
                response(&q, OK | 0x200, &[]),
                Ok(Answer::Truncated),
            ),
            (
                "not a response",
                response(&q, 0x0180, &[]),
                Err(Invalid::Unrelated),
            ),
            (
                "wrong length of address",
                response(&q, OK, &[(ASKED, 1, 300, &[10, 0, 0])]),
                Err(Invalid::Short),
            ),
            (
                "alias of itself",
                response(&q, OK, &[(ASKED, 5, 30, ASKED)]),
                Err(Invalid::Chain),
            ),
            (
                "pointer to itself",
                response(&q, OK, &[(&[0xc0, 28], 1, 300, &[10, 0, 0, 5])]),
                Err(Invalid::Name),
            ),
            (
                "pointer forward",
                response(&q, OK, &[(&[0xc0, 60], 1, 300, &[10, 0, 0, 5])]),
                Err(Invalid::Name),
            ),
            (
                "dot in a label",
                response(&q, OK, &[(b"\x0adb.example\0", 1, 300, &[10, 0, 0, 5])]),
                Err(Invalid::Name),
            ),
            (
                "other id",
                {
                    let mut m = response(&q, OK, &[]);
                    m[0] ^= 1;
                    m
                },
                Err(Invalid::Unrelated),
            ),
            (
                "other question",
                response(&query("db.exampl3", Family::V4), OK, &[]),
                Err(Invalid::Unrelated),
            ),
            (
                "other family",
                response(&query("db.example", Family::V6), OK, &[]),
                Err(Invalid::Unrelated),
            ),
            ("empty", Vec::new(), Err(Invalid::Short)),
            (
                "records missing",
                {
                    let mut m = response(&q, OK, &[]);
                    m[7] = 1;
                    m
                },
                Err(Invalid::Short),
            ),
        ] {
            assert_eq!(parse_response(&message, &q), want, "{case}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_hang(tail in prop::collection::vec(any::<u8>(), 0..1024), count: u16) {
            let q = query("db.example", Family::V4);
            let mut message = response(&q, OK, &[]);
            message[6..8].copy_from_slice(&count.to_be_bytes());
            message.extend_from_slice(&tail);
            drop(parse_response(&message, &q));
            drop(parse_response(&tail, &q));
        }
    }
}
