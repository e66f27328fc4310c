//! A release: what it is called, when it was made, until when it is good, and the size and digest of each of its index files. Pure.

use std::collections::BTreeMap;

use airtight_image::Digest;
use airtight_image::date::seconds;

use super::control::Stanza;
use super::openpgp::{self, Clock, Keyring};

/// Bytes of an `InRelease`; the largest in use are some hundred thousand.
pub(crate) const MAX_RELEASE: u64 = 8 << 20;
/// Clocks differ a little.
const SLACK: u64 = 300;
/// Index files that one may list.
const MAX_FILES: usize = 100_000;

/// A release whose signature was good and whose time it is.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) codename: String,
    /// As it is written.
    pub(crate) date: String,
    /// Of the whole signed text.
    pub(crate) digest: Digest,
    /// Of the key that signed it.
    pub(crate) key: String,
    architectures: Vec<String>,
    /// Packages for every architecture stand in each one's index.
    pub(crate) all_in_each: bool,
    /// Index files are also had by their digest, where they stay when the release moves on.
    pub(crate) by_hash: bool,
    files: BTreeMap<String, (u64, Digest)>,
}

impl Release {
    /// Reads a signed release. `wanted` is the suite that was asked for.
    ///
    /// # Errors
    /// Why it cannot be believed, and what to do.
    pub(crate) fn read(
        bytes: &[u8],
        keyring: &Keyring,
        wanted: &str,
        clock: Clock,
    ) -> Result<Self, (String, &'static str)> {
        const UNTRUSTED: &str = "name the mirror's keyring with `keyring`, or a mirror that is signed by one of its keys";
        let clear = openpgp::clear_signed(bytes).map_err(|why| (why.to_owned(), UNTRUSTED))?;
        let signed = openpgp::verify(&clear, keyring, clock).map_err(|why| (why, UNTRUSTED))?;
        let broken = |why: String| (why, "name another mirror: this one's release is broken");
        let stanza = Stanza::only(&clear.text).map_err(broken)?;
        let text = |name: &str| stanza.text(name).to_owned();
        let (suite, codename) = (text("Suite"), text("Codename"));
        if suite != wanted && codename != wanted {
            let why = format!("is of the suite `{suite}` (`{codename}`), not of `{wanted}`");
            return Err((
                why,
                "correct `suite`, or name a mirror that has what you want",
            ));
        }
        in_time(&stanza, clock)?;
        let none = text("No-Support-for-Architecture-all");
        let architectures: Vec<String> = text("Architectures")
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        Ok(Self {
            all_in_each: none.split_whitespace().any(|word| word == "Packages")
                || !architectures.iter().any(|name| name == "all"),
            architectures,
            codename,
            date: text("Date"),
            digest: Digest::of(bytes),
            key: signed.fingerprint,
            by_hash: text("Acquire-By-Hash") == "yes",
            files: files(stanza.text("SHA256")).map_err(broken)?,
        })
    }

    pub(crate) fn is_for(&self, architecture: &str) -> bool {
        self.architectures.iter().any(|own| own == architecture)
    }

    /// Size and digest of a file, as the release says.
    pub(crate) fn file(&self, path: &str) -> Option<&(u64, Digest)> {
        self.files.get(path)
    }
}

fn in_time(stanza: &Stanza, clock: Clock) -> Result<(), (String, &'static str)> {
    let time = |name: &str| {
        stanza
            .get(name)
            .map(|text| {
                seconds(text).ok_or_else(|| {
                    let why = format!("has the {name} `{text}`, which is no date");
                    (why, "name another mirror: this one's release is broken")
                })
            })
            .transpose()
    };
    const CLOCK: &str = "set this host's clock right, or name another mirror";
    let made = time("Date")?.ok_or((
        "does not say when it was made".to_owned(),
        "name another mirror: this one's release is broken",
    ))?;
    let now = clock.now;
    if made > now.saturating_add(SLACK) {
        let why = format!(
            "was made on {}, and this host's clock says {}",
            stanza.text("Date"),
            shown(now)
        );
        return Err((why, CLOCK));
    }
    match time("Valid-Until")? {
        Some(until) if now >= until && !clock.allow_expired => {
            let why = format!(
                "was good until {}, and this host's clock says {}",
                stanza.text("Valid-Until"),
                shown(now)
            );
            Err((
                why,
                "name a mirror that is up to date; for an archive that is meant to be old: --allow-expired-release",
            ))
        }
        _ => Ok(()),
    }
}

/// Lines of `DIGEST SIZE PATH`.
fn files(text: &str) -> Result<BTreeMap<String, (u64, Digest)>, String> {
    let mut files = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let words = (words.next(), words.next(), words.next(), words.next());
        let (Some(digest), Some(size), Some(path), None) = words else {
            return Err("has a line of a file that is none".to_owned());
        };
        let digest = format!("sha256:{digest}").parse::<Digest>();
        let (Ok(digest), Ok(size)) = (digest, size.parse()) else {
            return Err(format!("has a file `{path}` without digest or size"));
        };
        if files.len() >= MAX_FILES {
            return Err(format!("lists more than {MAX_FILES} files"));
        }
        if files.insert(path.to_owned(), (size, digest)).is_some() {
            return Err(format!("lists `{path}` twice"));
        }
    }
    if files.is_empty() {
        return Err("lists no files by SHA256".to_owned());
    }
    Ok(files)
}

fn shown(now: u64) -> String {
    crate::document::timestamp(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_size_and_digest_and_stand_once() {
        let digest = "a".repeat(64);
        let all = files(&format!("\n{digest} 5 main/x\n{digest}  6  main/y\n")).unwrap();
        assert_eq!(all["main/y"].0, 6);
        for (text, want) in [
            (String::new(), "lists no files by SHA256"),
            (
                format!("{digest} x main/x"),
                "has a file `main/x` without digest or size",
            ),
            (format!("{digest} 5"), "has a line of a file that is none"),
            (format!("{digest} 5 m\n{digest} 5 m"), "lists `m` twice"),
        ] {
            assert_eq!(files(&text).unwrap_err(), want, "{text}");
        }
    }
}
