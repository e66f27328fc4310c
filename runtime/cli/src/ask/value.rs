//! One flag's value at a time: text to a checked type. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};

use airtight_plan::{Connect, Publish, Tmpfs, Volume};

/// A flag whose value cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{flag}`: {problem}\n  fix: {fix}")]
pub(crate) struct Wrong {
    /// The flag with its value, as typed.
    pub(crate) flag: String,
    pub(crate) problem: String,
    pub(crate) fix: String,
}

impl Wrong {
    pub(crate) fn new(
        flag: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            flag: flag.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

type Result<T> = std::result::Result<T, Wrong>;

/// Of `--tmpfs PATH` without a size: 64 MiB, as `/tmp` has.
const TMPFS_BYTES: u64 = 64 << 20;

/// `NAME[=ADDR]:PORT`.
pub(super) fn connect(text: &str) -> Result<Connect> {
    let wrong = |problem: &str, fix: &str| {
        Wrong::new(format!("--connect {}", text.escape_debug()), problem, fix)
    };
    let form = "write NAME[=ADDR]:PORT, like `redis:6379` or `redis=10.0.0.7:6379`";
    let (name, address) = match text.split_once('=') {
        Some((name, address)) => (Some(name), address),
        None => (None, text),
    };
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| wrong("has no port", form))?;
    let port = port_number(port).ok_or_else(|| wrong("has no port from 1 to 65535", form))?;
    let bare = bare_host(host).ok_or_else(|| {
        wrong(
            "has an IPv6 address without brackets",
            "write it like `[fd00::7]:6379`",
        )
    })?;
    let literal = bare.parse::<IpAddr>().ok();
    match (name, literal) {
        (Some(name), Some(address)) if !name.is_empty() => Ok(Connect {
            name: name.to_owned(),
            address: Some(address),
            port,
        }),
        (Some(""), _) => Err(wrong("has no name before `=`", form)),
        (Some(_), _) => Err(wrong(
            &format!("`{bare}` is not an IP address"),
            "write an address after `=`, or the name alone: it is resolved outside at each dial",
        )),
        (None, Some(address)) => Ok(Connect {
            name: address.to_string(),
            address: Some(address),
            port,
        }),
        (None, None) if bare.is_empty() => Err(wrong("has no host", form)),
        (None, None) => Ok(Connect {
            name: bare.to_owned(),
            address: None,
            port,
        }),
    }
}

/// `[ADDR:]PORT:PORT[/tcp]`.
pub(super) fn publish(text: &str) -> Result<Publish> {
    let wrong = |problem: &str, fix: &str| {
        Wrong::new(format!("--publish {}", text.escape_debug()), problem, fix)
    };
    let form = "write [ADDR:]HOSTPORT:PORT, like `8080:8080` or `0.0.0.0:80:8080`";
    let ports = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => text.strip_suffix("/tcp").unwrap_or(text),
        Some((_, protocol)) => {
            return Err(wrong(
                &format!("`{protocol}` is not carried"),
                "publish a TCP port",
            ));
        }
    };
    let Some((rest, port)) = ports.rsplit_once(':') else {
        return Err(wrong("has one port and no port of this host", form));
    };
    let (address, host_port) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, host_port)) => (Some(address), host_port),
    };
    let address = match address {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(address) => bare_host(address)
            .and_then(|bare| bare.parse().ok())
            .ok_or_else(|| {
                wrong(
                    &format!("`{address}` is not an IP address"),
                    "write one of this host's, with brackets if it is IPv6",
                )
            })?,
    };
    let number = |text| {
        port_number(text)
            .ok_or_else(|| wrong(&format!("`{text}` is not a port from 1 to 65535"), form))
    };
    Ok(Publish {
        address,
        host_port: number(host_port)?,
        port: number(port)?,
    })
}

/// A port inside, for `--listen`.
pub(super) fn listen(text: &str) -> Result<u16> {
    port_number(text).ok_or_else(|| {
        Wrong::new(
            format!("--listen {}", text.escape_debug()),
            "is not a port from 1 to 65535",
            "write one port, like `9090`",
        )
    })
}

/// `PATH[:SIZE]`; docker's `PATH:size=SIZE` with options that hold anyway.
pub(super) fn tmpfs(text: &str) -> Result<Tmpfs> {
    let wrong = |problem: String, fix: &str| {
        Wrong::new(format!("--tmpfs {}", text.escape_debug()), problem, fix)
    };
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let path = inside(path).ok_or_else(|| {
        wrong(
            "the path is not absolute and free of `..`".into(),
            "write one like `/var/cache/app`",
        )
    })?;
    let mut bytes = TMPFS_BYTES;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            // How every tmpfs of a sandbox is.
            "rw" | "noexec" | "nosuid" | "nodev" => {}
            size => {
                let number = size.strip_prefix("size=").unwrap_or(size);
                bytes = self::bytes(number)
                    .filter(|bytes| *bytes > 0)
                    .ok_or_else(|| {
                        wrong(
                            format!("`{option}` is not a size"),
                            "write PATH[:SIZE] with b, k, m or g, like `/run:16m`",
                        )
                    })?;
            }
        }
    }
    Ok(Tmpfs { path, size: bytes })
}

/// `SRC:DST[:ro|rw]`; the source as typed: [`crate::launch`] finds what it leads to.
pub(super) fn volume(text: &str) -> Result<Volume> {
    let wrong = |problem: String, fix: &str| {
        Wrong::new(format!("--volume {}", text.escape_debug()), problem, fix)
    };
    let form = "write SRC:DST[:ro|rw], like `./data:/data:ro`";
    let mut parts = text.split(':');
    let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
        return Err(wrong("has no destination".into(), form));
    };
    let read_only = match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => false,
        (Some("ro"), None) => true,
        (Some(option), None) => {
            return Err(wrong(format!("`{option}` is neither ro nor rw"), form));
        }
        (_, Some(_)) => return Err(wrong("has more than three parts".into(), form)),
    };
    if source.is_empty() {
        return Err(wrong("has no source".into(), form));
    }
    if !source.contains('/') && source != "." && source != ".." {
        let problem = format!("`{source}` would be a named volume, and there are none");
        return Err(wrong(
            problem,
            "name a directory or file: write `./` before one that lies here",
        ));
    }
    let destination = inside(destination).ok_or_else(|| {
        wrong(
            "the destination is not absolute and free of `..`".into(),
            "write one like `/data`",
        )
    })?;
    Ok(Volume {
        source: source.into(),
        destination,
        read_only,
    })
}

/// Bytes of `--memory`.
pub(super) fn memory(text: &str) -> Result<u64> {
    bytes(text).filter(|bytes| *bytes > 0).ok_or_else(|| {
        Wrong::new(
            format!("--memory {}", text.escape_debug()),
            "is not a size",
            "write bytes, or a number with b, k, m or g, like `256m`",
        )
    })
}

pub(super) fn pids(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        Wrong::new(
            format!("--pids {}", text.escape_debug()),
            "is not a whole number",
            "write how many processes there may be, like `64`",
        )
    })
}

/// Thousandths of a CPU.
pub(super) fn cpus(text: &str) -> Result<u64> {
    thousandths(text)
        .filter(|millis| *millis > 0)
        .ok_or_else(|| {
            Wrong::new(
                format!("--cpus {}", text.escape_debug()),
                "is not a number of CPUs",
                "write a number with at most three decimals, like `0.5`",
            )
        })
}

/// Milliseconds of `--timeout`: seconds, or with `ms`, `s`, `m`, `h`.
pub(super) fn timeout(text: &str) -> Result<u64> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => Some(1000),
        "ms" => Some(1),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    factor
        .zip(thousandths(number))
        .and_then(|(factor, number)| Some(number.checked_mul(factor)? / 1000))
        .filter(|millis| *millis > 0)
        .ok_or_else(|| {
            Wrong::new(
                format!("--timeout {}", text.escape_debug()),
                "is not a time",
                "write seconds, or a number with ms, s, m or h, like `1.5` or `2m`",
            )
        })
}

fn port_number(text: &str) -> Option<u16> {
    // u16's own parser takes a `+`.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
        .filter(|port| *port != 0)
}

/// Without the brackets of an IPv6 address; `None` for one that lacks them.
fn bare_host(text: &str) -> Option<&str> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']'),
        None => (!text.contains(':')).then_some(text),
    }
}

/// An absolute path without `..`, and without an end in `/`.
fn inside(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let climbs = path
        .components()
        .any(|component| component == Component::ParentDir);
    (path.is_absolute() && !climbs).then(|| path.components().collect())
}

/// docker's sizes: a number, at most three decimals, and b, k, m, g or t, also as `kb` or `kib`; powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = u128::from(thousandths(number)?).checked_mul(1 << shift)? / 1000;
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// A decimal number, times 1000, exactly.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(part)
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
