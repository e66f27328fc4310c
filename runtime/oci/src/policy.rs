//! Finds the profile and the ceiling of a bundle. What they allow together is `airtight-profiles`'.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use airtight_plan::{HostFacts, Spec};
use airtight_profiles::{Ceiling, Excess, OnExcess, Policy, Profile, narrow, shipped};

use crate::report::Failure;

/// Bytes of a profile or ceiling that are read before anything looks at them.
const MAX_FILE: u64 = 1 << 20;
/// The host's own ceiling, before the caller's.
const CEILING: &str = "/etc/airtight/ceiling.toml";

/// What a bundle may do, what of its profile lies beyond, and what becomes of what does.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) policy: Policy,
    pub(crate) excess: Vec<Excess>,
    pub(crate) on_excess: OnExcess,
}

/// What the bundle may do. `named` is `--profile`, `carried` the annotation's canonical JSON.
///
/// # Errors
/// A profile or ceiling that cannot be read.
pub(crate) fn policy(
    spec: &Spec,
    named: Option<&str>,
    carried: Option<&str>,
    facts: &HostFacts,
) -> Result<Judged, Failure> {
    let profile = match (named, carried) {
        (Some(name), _) => profile(name)?,
        (None, Some(json)) => Profile::from_canonical_json(json)?,
        (None, None) => profile("base")?,
    };
    let ceiling = ceiling(facts)?;
    let (policy, excess) = narrow(&profile, &ceiling, &spec.additions()?);
    Ok(Judged {
        policy,
        excess,
        on_excess: ceiling.on_excess(),
    })
}

fn profile(name: &str) -> Result<Profile, Failure> {
    if let Some(profile) = shipped(name) {
        return Ok(profile);
    }
    let path = Path::new(name);
    let fail = |problem: String| Failure::File {
        path: path.into(),
        problem,
        fix: "name one of base, service, jit, build, or a file that can be read",
    };
    if !name.contains('/') && !name.ends_with(".toml") {
        return Err(fail("is neither a shipped profile nor a path".into()));
    }
    let text = read(path, MAX_FILE)
        .map_err(|problem| fail(problem.unwrap_or_else(|| "is not there".into())))?;
    Ok(Profile::parse(&text, path)?)
}

/// The host's ceiling, else the caller's, else the built-in one. One that is there and cannot be read stops the launch.
fn ceiling(facts: &HostFacts) -> Result<Ceiling, Failure> {
    for path in ceilings(facts) {
        match read(&path, MAX_FILE) {
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

/// A whole file of text, of at most `limit` bytes. `Err(None)`: there is no such file.
pub(crate) fn read(path: &Path, limit: u64) -> Result<String, Option<String>> {
    let problem = |error| problem(&error);
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_string(&mut text))
        .map_err(problem)?;
    if read as u64 > limit {
        return Err(Some(format!("is longer than {limit} bytes")));
    }
    Ok(text)
}

/// Why a file was not read. `None`: there is none.
pub(crate) fn problem(error: &std::io::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => None,
        ErrorKind::PermissionDenied => Some("may not be read".to_owned()),
        ErrorKind::InvalidData => Some("is not UTF-8 text".to_owned()),
        _ => Some(error.to_string()),
    }
}
