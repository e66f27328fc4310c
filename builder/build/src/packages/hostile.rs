//! The parsers of what mirrors and packages say, for whoever wants to hold bytes against them. A build does not go through here.

use std::path::Path;

use super::index::Index;
use super::openpgp::{self, Clock, Keyring};
use super::release::Release;
use super::scripts;
use super::version::Version;
use super::{control, deb, installed, relation, sources};

/// The text of a release that is signed by one of the keys, if it can be believed at `now` (seconds since 1970).
///
/// # Errors
/// Why it cannot.
pub fn signed_release(
    bytes: &[u8],
    keyring: &[u8],
    suite: &str,
    now: u64,
) -> Result<String, String> {
    let keyring = Keyring::read(keyring)?;
    let clock = Clock {
        now,
        allow_expired: false,
    };
    Release::read(bytes, &keyring, suite, clock).map_err(|(problem, _)| problem)?;
    Ok(openpgp::clear_signed(bytes)?.text)
}

/// How many packages an index lists for an architecture.
///
/// # Errors
/// The first that is none.
pub fn index(bytes: &[u8], architecture: &str) -> Result<usize, String> {
    let mut index = Index::default();
    index.read(bytes, architecture, 0)?;
    index.finish();
    for candidate in &index.candidates {
        candidate.needs()?;
        candidate.refuses()?;
        candidate.provided()?;
    }
    Ok(index.candidates.len())
}

/// How many packages a base's `/var/lib/dpkg/status` says are installed.
///
/// # Errors
/// What no dpkg writes.
pub fn status(bytes: &[u8], architecture: &str) -> Result<usize, String> {
    let found = installed::read(bytes, architecture)?;
    for candidate in &found {
        candidate.needs()?;
        candidate.refuses()?;
        candidate.provided()?;
    }
    Ok(found.len())
}

/// Unpacks a package into an empty directory.
///
/// # Errors
/// Why it is none, or what no layer may hold.
pub fn package(bytes: &[u8], home: &Path) -> Result<(), String> {
    deb::extract(&mut &*bytes, home).map_err(|failed| match failed {
        deb::Failed::Package(problem) => problem,
        deb::Failed::Store(error) => error.to_string(),
    })
}

/// Reads text as each thing that text may be here: a stanza, a relation, two versions, sources and settings of apt, a script.
#[must_use]
pub fn text(text: &str) -> String {
    let said = |result: Result<String, String>| result.unwrap_or_else(|problem| problem);
    let one = |result: Result<usize, String>| said(result.map(|_| "taken".to_owned()));
    let stanza = one(control::Stanza::only(text).map(|_| 1));
    let relations = one(relation::parse(text).map(|all| all.len()));
    let mut versions = text.lines().map(Version::parse);
    let version = match (versions.next(), versions.next()) {
        (Some(Ok(left)), Some(Ok(right))) => {
            let same = left.order(&right) == right.order(&left).reverse();
            format!(
                "{:?} {}",
                left.order(&right),
                if same { "ordered" } else { "disordered" }
            )
        }
        (Some(Err(why)), _) | (_, Some(Err(why))) => why.to_owned(),
        (None, _) | (_, None) => String::new(),
    };
    let source = one(sources::deb822(text).map(|all| all.len()));
    let line = one(sources::one_line(text).map(|all| all.len()));
    let settings = if sources::settings(text).is_empty() {
        "no settings"
    } else {
        "settings"
    };
    let script = one(scripts::judge("x", None, Some(text)).map(|acts| acts.len()));
    [
        stanza,
        relations,
        version,
        source,
        line,
        settings.to_owned(),
        script,
    ]
    .join("; ")
}
