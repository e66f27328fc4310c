//! Finds this host's ceiling. What a profile may do within it is `airtight-profiles`'.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use airtight_plan::{HostFacts, Spec};
use airtight_profiles::{Ceiling, Policy, Profile, effective, narrow};

use crate::report::Failure;

/// Bytes of a text file that are read before anything looks at them.
const MAX_FILE: u64 = 1 << 20;
/// The host's own ceiling, before the caller's.
const CEILING: &str = "/etc/airtight/ceiling.toml";

/// What a launch may do: the profile and the operator's flags within the ceiling.
///
/// # Errors
/// A ceiling or profile that cannot be read, or an ask beyond the ceiling unless it is to be narrowed.
pub(crate) fn policy(
    spec: &Spec,
    profile: &Profile,
    narrowed: bool,
    facts: &HostFacts,
) -> Result<Policy, Failure> {
    let (ceiling, additions) = (ceiling(facts)?, spec.additions()?);
    if narrowed {
        return Ok(narrow(profile, &ceiling, &additions).0);
    }
    effective(profile, &ceiling, &additions).map_err(Failure::Beyond)
}

/// A whole file of text, if it is not too large.
pub(crate) fn text(path: &Path, fix: &'static str) -> Result<String, Failure> {
    read(path).map_err(|problem| Failure::File {
        path: path.to_owned(),
        problem: problem.unwrap_or_else(|| "is not there".into()),
        fix,
    })
}

/// The host's ceiling, else the caller's, else the built-in one. One that is there and cannot be read stops the launch.
fn ceiling(facts: &HostFacts) -> Result<Ceiling, Failure> {
    for path in ceilings(facts) {
        match read(&path) {
            Ok(text) => return Ok(Ceiling::parse(&text, &path)?),
            Err(None) => {}
            Err(Some(problem)) => {
                return Err(Failure::File {
                    path,
                    problem,
                    fix: "let it be read, or take it away",
                });
            }
        }
    }
    Ok(Ceiling::built_in())
}

fn ceilings(facts: &HostFacts) -> impl Iterator<Item = PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // Root's policy does not hang on whose environment it was started from.
    let own = (facts.euid != 0)
        .then(|| set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config"))))
        .flatten();
    [
        Some(PathBuf::from(CEILING)),
        own.map(|dir| dir.join("airtight/ceiling.toml")),
    ]
    .into_iter()
    .flatten()
}

/// `Err(None)`: there is no such file.
fn read(path: &Path) -> Result<String, Option<String>> {
    let problem = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => None,
        _ => Some(plain(&error)),
    };
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(problem)?;
    if read as u64 > MAX_FILE {
        return Err(Some(format!("is longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// What the kernel said, without the number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "is not there".to_owned(),
        ErrorKind::PermissionDenied => "may not be read".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}
