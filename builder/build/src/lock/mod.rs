//! `airtight.lock`: what a build took from outside, pinned by digest. The same lock and build file give the same image, from the store alone where it has all.
//!
//! It lies beside the build file under its name with `.lock` in the place of `.toml`, is TOML, and is written by nobody but airtight. Bases and packages have their
//! digests in it; the release that packages were chosen from is there to tell what it was. No mirror is: where the files come from is the host's to say.

mod change;
mod file;
mod outside;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use airtight_image::Digest;

use crate::error::Problem;
use crate::packages::{Pinned, ReleasePin};
use crate::spec::{Base, BuildSpec};

pub use change::{LockChange, LockChanges};
pub(crate) use outside::{Outside, outside, update};

/// Bytes that are looked at; a lock of a thousand packages has a quarter of a million.
const MAX_LOCK: u64 = 8 << 20;
/// Platforms of a base.
const MAX_PLATFORMS: usize = 64;
/// Packages of one lock.
const MAX_PINNED: usize = 20_000;

/// What is done with a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// Taken where it answers the build file, else made anew and written.
    #[default]
    Keep,
    /// Taken, or the build fails; nothing is asked of a mirror but files by digest.
    Locked,
    /// Made anew and written.
    Update,
    /// Neither read nor written.
    Off,
}

/// What is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) base: Option<PinnedBase>,
    /// For each architecture that was built for.
    pub(crate) packages: BTreeMap<String, PinnedPackages>,
}

/// What a base is: its manifests, one for each platform that was built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinnedBase {
    /// As the build file has it.
    pub(crate) reference: String,
    pub(crate) digests: BTreeMap<String, Digest>,
}

/// The packages of one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinnedPackages {
    /// Of what the build file asked for: with another one the choice is another.
    pub(crate) asked: Digest,
    pub(crate) releases: Vec<ReleasePin>,
    pub(crate) pinned: Vec<Pinned>,
}

impl Lock {
    /// Beside the build file.
    pub(crate) fn path(file: &Path) -> PathBuf {
        file.with_extension("lock")
    }

    /// `None`: there is no lock.
    pub(crate) fn read(path: &Path, spec: &BuildSpec) -> Result<Option<Self>, Problem> {
        let bad = |problem: String| lock_problem(path, problem, ANEW);
        let bytes = match content(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(bad(format!("cannot be read: {error}"))),
        };
        if bytes.len() as u64 > MAX_LOCK {
            return Err(bad(format!("is larger than {MAX_LOCK} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| bad("is not UTF-8 text".to_owned()))?;
        file::read(&text, &layer_names(spec)).map(Some).map_err(bad)
    }

    /// Replaces what lies there in one step.
    pub(crate) fn write(&self, path: &Path, spec: &BuildSpec) -> Result<(), Problem> {
        let text = file::write(self, &layer_names(spec));
        // The same again is no change, and a directory that cannot be written to is none then.
        if content(path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        replace(path, &text).map_err(|error| {
            lock_problem(
                path,
                format!("cannot be written: {error}"),
                "let the user who builds write to its directory",
            )
        })
    }

    /// Whether there is anything from outside that a build would pin.
    pub(crate) fn is_wanted(spec: &BuildSpec) -> bool {
        spec.base != Base::Scratch || spec.layers.iter().any(|layer| !layer.packages.is_empty())
    }

    /// The pinned packages for an architecture, if they answer what the build file asks for now.
    pub(crate) fn packages_for(
        &self,
        spec: &BuildSpec,
        architecture: &str,
    ) -> Option<&PinnedPackages> {
        self.packages
            .get(architecture)
            .filter(|packages| packages.asked == asked(spec))
    }
}

/// What lies there, and a byte more than is taken. A pipe or a device in its place is not waited for.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        let problem = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let mut bytes = Vec::new();
    file.take(MAX_LOCK + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a text in the place of a file in one step. Others may write to the directory: what they put there in the temporary file's place is never written through.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = fs::File::create_new(&temporary)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    let done = written.and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        // What cannot be removed is seen by whoever looks; the failure itself is told.
        drop(fs::remove_file(&temporary));
    }
    done
}

pub(crate) const ANEW: &str = "make it anew: airtight update";

pub(crate) fn lock_problem(path: &Path, problem: impl AsRef<str>, fix: &str) -> Problem {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Problem::new(name, problem.as_ref(), fix)
}

fn layer_names(spec: &BuildSpec) -> Vec<&str> {
    spec.layers
        .iter()
        .map(|layer| layer.name.as_str())
        .collect()
}

/// A digest of all that a choice of packages depends on in the build file.
pub(crate) fn asked(spec: &BuildSpec) -> Digest {
    let debian = &spec.debian;
    let mut text = format!(
        "suite {:?}\ncomponents {:?}\n",
        debian.suite, debian.components
    );
    for name in &debian.without {
        text += &format!("without {name}\n");
    }
    for layer in &spec.layers {
        for relation in &layer.packages {
            text += &format!("{} {relation}\n", layer.name);
        }
    }
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_temporary_files_place_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, other) = (dir.path().join("airtight.lock"), dir.path().join("other"));
        fs::write(&other, "somebody's").unwrap();
        let name = format!(".airtight.lock.{}", std::process::id());
        std::os::unix::fs::symlink(&other, dir.path().join(name)).unwrap();
        replace(&lock, "new").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "somebody's");
        assert_eq!(fs::read_to_string(&lock).unwrap(), "new");
        assert!(lock.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
