//! What nobody names is removed; what is there is checked.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::trees::Budget;
use super::{Store, open_regular, remove_tree, stray};
use crate::descriptor::Descriptor;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{Image, MAX_DOCUMENT};
use crate::reference::Reference;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    pub blobs: u64,
    /// Of those blobs.
    pub bytes: u64,
    pub layers: u64,
    /// Left because a sandbox runs from them.
    pub layers_in_use: u64,
    /// What killed builds and imports had left.
    pub temporaries: u64,
    /// Of layers that builds made, and of files that they read.
    pub records: u64,
    /// Left for the next build, though no name leads to them.
    pub cached_blobs: u64,
    /// Of those blobs.
    pub cached_bytes: u64,
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub images: u64,
    pub blobs: u64,
    /// One line each; empty for a store that is whole.
    pub problems: Vec<String>,
}

/// Of what later builds could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// What was used lately.
    Recent,
    Nothing,
}

/// What lies in a directory of digests, sorted.
struct Entries {
    found: Vec<(PathBuf, Digest)>,
    /// What has no digest for its name, one line each.
    strays: Vec<String>,
}

impl Store {
    /// Removes blobs and trees that no name leads to, and what killed processes left. Waits for builds and imports that run. The layers that builds of the
    /// last seven days used stay, up to 10 GiB of them, and so do the packages that they were made of.
    ///
    /// # Errors
    /// The file system's, or a damaged image: its name must go first.
    pub fn gc(&self) -> Result<GcReport> {
        self.collect(Keep::Recent)
    }

    /// As [`Store::gc`], and what is kept for later builds goes too.
    ///
    /// # Errors
    /// As those of [`Store::gc`].
    pub fn gc_cache(&self) -> Result<GcReport> {
        self.collect(Keep::Nothing)
    }

    fn collect(&self, keep: Keep) -> Result<GcReport> {
        *self.adding() = None;
        let lock = self.open_lock()?;
        lock.lock().map_err(Error::io(&self.path("lock")))?;
        let mut report = GcReport {
            temporaries: self.collect_temporaries()?,
            ..GcReport::default()
        };
        let (blobs, trees) = self.reachable()?;
        self.collect_referrers(&blobs)?;
        let (records, mut cached) = self.collect_records(&blobs, keep)?;
        let (packages, archives) = self.collect_packages(keep)?;
        cached.extend(archives);
        report.records = records + packages + self.collect_contents(keep)?;
        for (path, digest) in self.entries("blobs/sha256")?.found {
            if blobs.contains(&digest) {
                continue;
            }
            let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
            if cached.contains(&digest) {
                report.cached_blobs += 1;
                report.cached_bytes += bytes;
            } else {
                report.bytes += bytes;
                report.blobs += 1;
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        for (path, digest) in self.entries("layers/sha256")?.found {
            if trees.contains(&digest) {
                continue;
            }
            if self.collect_tree(&path)? {
                report.layers += 1;
            } else {
                report.layers_in_use += 1;
            }
        }
        Ok(report)
    }

    /// Reads every blob and every image that has a name, and holds its layers against their diffIDs. gc waits for it.
    ///
    /// # Errors
    /// The file system's; damage is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let lock = self.open_lock()?;
        lock.lock_shared().map_err(Error::io(&self.path("lock")))?;
        let blobs = self.entries("blobs/sha256")?;
        let names = self.names()?;
        let mut report = VerifyReport {
            problems: blobs.strays,
            ..VerifyReport::default()
        };
        report
            .problems
            .extend(self.entries("layers/sha256")?.strays);
        report.problems.extend(names.problems());
        report.problems.extend(self.referrer_problems()?);
        for (path, digest) in blobs.found {
            report.blobs += 1;
            let size = fs::metadata(&path).map_err(Error::io(&path))?.len();
            let checked = self
                .open_blob(&Descriptor::new("", digest, size))
                .and_then(|reader| reader.finish().map_err(Error::io(&path)));
            report
                .problems
                .extend(checked.err().map(|error| error.to_string()));
        }
        let mut proven = BTreeSet::new();
        for (name, descriptor) in names.found {
            report.images += 1;
            let whole = self.prove_root(descriptor.digest(), &mut proven);
            report
                .problems
                .extend(whole.err().map(|error| format!("{name}: {error}")));
        }
        Ok(report)
    }

    fn prove_root(&self, root: &Digest, proven: &mut BTreeSet<(Digest, DiffId)>) -> Result<()> {
        let root = self.root(root)?;
        if !root.is_index() {
            return self.prove_layers(&self.image(root.descriptor.digest())?, proven);
        }
        for image in &root.images {
            // What is no image, such as an attestation, has no layers to prove; its blobs were read above.
            let digest = image.descriptor.digest();
            self.read_blob(&image.descriptor, MAX_DOCUMENT)?;
            if let Ok(image) = self.image(digest) {
                self.prove_layers(&image, proven)?;
            }
        }
        Ok(())
    }

    /// Once for each pair of a blob and a diffID, however many images share it.
    fn prove_layers(&self, image: &Image, proven: &mut BTreeSet<(Digest, DiffId)>) -> Result<()> {
        let mut budget = Budget::default();
        for (layer, diff) in image.layers() {
            let pair = (layer.digest().clone(), diff.clone());
            if !proven.contains(&pair) {
                self.prove(layer, diff, &mut budget)?;
                proven.insert(pair);
            }
        }
        Ok(())
    }

    fn reachable(&self) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>)> {
        let (mut blobs, mut trees) = (BTreeSet::new(), BTreeSet::new());
        let damaged = |name: &Reference, error: &Error| {
            Error::refused(
                format!("image {name}"),
                format!("is damaged, so what it needs is not known: {error}"),
                format!("airtight rm {name}, then build or import it again"),
            )
        };
        let names = self.names()?;
        if let Some((name, error)) = names.damaged.first() {
            return Err(damaged(name, error));
        }
        for (name, descriptor) in names.found {
            let needs = self
                .needs(descriptor.digest())
                .map_err(|error| damaged(&name, &error))?;
            blobs.extend(needs.blobs.iter().map(|blob| blob.digest().clone()));
            trees.extend(needs.trees.into_iter().map(|diff| diff.0));
        }
        self.reach_referrers(&mut blobs)?;
        Ok((blobs, trees))
    }

    /// Whether it could be: a sandbox that runs from it holds its lock.
    fn collect_tree(&self, path: &Path) -> Result<bool> {
        let lock = match open_regular(&path.join("lock")) {
            Ok(lock) => Some(lock),
            Err(error) if is_no_lock(&error) => None,
            // It may be held, so the tree stays.
            Err(error) => return Err(Error::io(&path.join("lock"))(error)),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(false),
            Err(fs::TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
        // Out of sight in one step, so that a kill leaves no half of a tree where it looks whole.
        let away = self.temporary()?;
        fs::rename(path, away.path().join("home")).map_err(Error::io(path))?;
        Ok(true)
    }

    fn collect_temporaries(&self) -> Result<u64> {
        let tmp = self.path("tmp");
        let mut count = 0;
        for entry in fs::read_dir(&tmp).map_err(Error::io(&tmp))? {
            let path = entry.map_err(Error::io(&tmp))?.path();
            // What is made here is a file or a directory: of anything else nobody is the maker, and nobody waits for it.
            let opened = File::options()
                .read(true)
                .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
                .open(&path);
            let held = opened.and_then(|file| match file.try_lock() {
                Ok(()) => Ok(false),
                Err(fs::TryLockError::WouldBlock) => Ok(true),
                Err(fs::TryLockError::Error(error)) => Err(error),
            });
            match held {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {}
                Err(error) => return Err(Error::io(&path)(error)),
            }
            let removed = if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                remove_tree(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(Error::io(&path))?;
            count += 1;
        }
        Ok(count)
    }

    fn entries(&self, sub: &str) -> Result<Entries> {
        let directory = self.path(sub);
        let (mut found, mut strays) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&directory).map_err(Error::io(&directory))? {
            let path = entry.map_err(Error::io(&directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match format!("sha256:{name}").parse() {
                Ok(digest) => found.push((path, digest)),
                Err(_) => strays.push(stray(&path)),
            }
        }
        found.sort();
        strays.sort();
        Ok(Entries { found, strays })
    }
}

/// Whether there is no lock that somebody could hold: the tree is damaged, or something else lies in the place of one of the two.
fn is_no_lock(error: &io::Error) -> bool {
    use nix::libc::{ELOOP, ENOENT, ENOTDIR, ENXIO};
    // The kind is open_regular's own, of what is no regular file.
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
        || matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR | ELOOP | ENXIO))
}

#[cfg(test)]
mod lock_tests {
    use super::*;

    #[test]
    fn only_a_lock_that_is_none_is_passed_over() {
        let os = io::Error::from_raw_os_error;
        let own = io::Error::new(io::ErrorKind::InvalidInput, "is no regular file");
        assert!(is_no_lock(&own));
        for code in [
            nix::libc::ENOENT,
            nix::libc::ENOTDIR,
            nix::libc::ELOOP,
            nix::libc::ENXIO,
        ] {
            assert!(is_no_lock(&os(code)), "{code}");
        }
        // A sandbox may run from that tree.
        for code in [
            nix::libc::EMFILE,
            nix::libc::ENFILE,
            nix::libc::EACCES,
            nix::libc::EIO,
            nix::libc::EINVAL,
            nix::libc::ENOMEM,
        ] {
            assert!(!is_no_lock(&os(code)), "{code}");
        }
    }
}
