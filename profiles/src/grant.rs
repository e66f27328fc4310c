//! The grants of a profile other than system calls, as written and checked.

use std::path::PathBuf;

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::section::{ProfileError, Section};

/// Whose word is read: it says what may be extended and which system calls may be named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Compiled in: defines which calls there are to grant.
    Trusted,
    Payload,
    Ceiling,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ConnectGrant {
    #[serde(serialize_with = "as_text")]
    pub(crate) endpoint: Endpoint,
    pub(crate) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ListenGrant {
    #[serde(serialize_with = "as_range")]
    pub(crate) port: (u16, u16),
    pub(crate) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CountGrant {
    pub(crate) limit: u64,
    pub(crate) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BareGrant {
    pub(crate) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TmpfsWish {
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) why: String,
}

pub(crate) fn each<T>(
    sections: Vec<Section<'_>>,
    read: impl Fn(Section<'_>) -> Result<T, ProfileError>,
) -> Result<Vec<T>, ProfileError> {
    sections.into_iter().map(read).collect()
}

pub(crate) fn bare(mut grant: Section<'_>) -> Result<BareGrant, ProfileError> {
    let why = grant.why()?;
    grant.finish()?;
    Ok(BareGrant { why })
}

pub(crate) fn count(mut grant: Section<'_>, most: u64) -> Result<CountGrant, ProfileError> {
    let limit = grant.integer("limit")?;
    let limit = grant.required("limit", limit, "write a whole number")?;
    if limit == 0 || limit > most {
        return Err(grant.error(
            "limit",
            format!("{limit} is not from 1 to {most}"),
            "write a number in that range",
        ));
    }
    let why = grant.why()?;
    grant.finish()?;
    Ok(CountGrant { limit, why })
}

pub(crate) fn connect(mut grant: Section<'_>) -> Result<ConnectGrant, ProfileError> {
    let text = grant.text("endpoint")?;
    let text = grant.required(
        "endpoint",
        text,
        "name one host and one port, like `redis:6379`",
    )?;
    let endpoint = text.parse().map_err(|problem| {
        grant.error(
            "endpoint",
            format!("`{text}` {problem}"),
            "name one host and one port, like `redis:6379`",
        )
    })?;
    let why = grant.why()?;
    grant.finish()?;
    Ok(ConnectGrant { endpoint, why })
}

pub(crate) fn listen(mut grant: Section<'_>) -> Result<ListenGrant, ProfileError> {
    const FIX: &str = "write a port from 1 to 65535, or a range like \"8000-8009\"";
    let value = grant.value("port");
    let value = grant.required("port", value, FIX)?;
    let port = match value.as_str() {
        None => value
            .as_integer()
            .and_then(|port| u16::try_from(port).ok())
            .map(|port| (port, port)),
        Some(range) => range
            .split_once('-')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?))),
    };
    let port = port
        .filter(|(first, last)| *first > 0 && first <= last)
        .ok_or_else(|| {
            grant.error(
                "port",
                format!("{value} is not a port or a range of ports"),
                FIX,
            )
        })?;
    let why = grant.why()?;
    grant.finish()?;
    Ok(ListenGrant { port, why })
}

pub(crate) fn tmpfs(mut wish: Section<'_>, source: Source) -> Result<TmpfsWish, ProfileError> {
    let path = wish.text("path")?;
    let path = wish.required("path", path, "write an absolute path")?;
    let anywhere = source == Source::Ceiling && path == "*";
    if !anywhere
        && (!path.starts_with('/')
            || path.split('/').any(|part| part == "..")
            || path.chars().any(char::is_control))
    {
        return Err(wish.error(
            "path",
            format!("`{path}` is not an absolute path without `..`"),
            "write one like `/var/cache/app`",
        ));
    }
    const FIX: &str = "write bytes, or a number with K, M or G, like \"64M\"";
    let value = wish.value("size");
    let value = wish.required("size", value, FIX)?;
    let size = match value.as_str() {
        None => value
            .as_integer()
            .and_then(|bytes| u64::try_from(bytes).ok()),
        Some(text) => bytes(text),
    };
    let size = size
        .filter(|size| *size > 0)
        .ok_or_else(|| wish.error("size", format!("{value} is not a size"), FIX))?;
    let why = wish.why()?;
    wish.finish()?;
    Ok(TmpfsWish {
        path: PathBuf::from(path),
        size,
        why,
    })
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, text.get(number.len()..)?),
        None => (text, ""),
    };
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
}

fn as_text<S: serde::Serializer>(endpoint: &Endpoint, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(endpoint)
}

fn as_range<S: serde::Serializer>(port: &(u16, u16), serializer: S) -> Result<S::Ok, S::Error> {
    let (first, last) = port;
    if first == last {
        serializer.serialize_u16(*first)
    } else {
        serializer.collect_str(&format_args!("{first}-{last}"))
    }
}
