//! Packages unpacked, so that a build reads their files as it reads any other. By the package's digest, beside the package itself, which is a blob. gc takes both
//! when no build has used them for a while.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::gc::Keep;
use super::records::UNUSED_FOR;
use super::{Store, sync_directory};
use crate::digest::Digest;
use crate::error::Error;

/// Below the store.
const PACKAGES: &str = "packages/sha256";

impl Store {
    /// The directory that `make` filled for the package of this digest, now or at another time. It is seen only when it is whole.
    ///
    /// # Errors
    /// `make`'s, or the file system's.
    pub fn package<E: From<Error>>(
        &self,
        package: &Digest,
        make: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<PathBuf, E> {
        self.add()?;
        let home = self.path(PACKAGES).join(package.hex());
        if let Ok(there) = File::open(&home) {
            // Only gc reads it, for which a wrong one means that it is made again.
            drop(there.set_modified(SystemTime::now()));
            return Ok(home);
        }
        let packages = self.path(PACKAGES);
        fs::create_dir_all(&packages).map_err(Error::io(&packages))?;
        let temporary = self.temporary()?;
        let made = temporary.path().join("home");
        fs::create_dir(&made).map_err(Error::io(&made))?;
        make(&made)?;
        let directory = File::open(&made).map_err(Error::io(&made))?;
        airtight_sys::open::sync_filesystem(&directory).map_err(Error::sys(&made))?;
        match fs::rename(&made, &home) {
            // Somebody else unpacked the same package meanwhile.
            Err(_) if home.is_dir() => Ok(home),
            Err(error) => Err(Error::io(&home)(error).into()),
            Ok(()) => {
                sync_directory(&packages)?;
                Ok(home)
            }
        }
    }

    /// Removes those that no build has used lately; how many, and the digests of those that stay.
    pub(super) fn collect_packages(&self, keep: Keep) -> Result<(u64, BTreeSet<Digest>), Error> {
        let packages = self.path(PACKAGES);
        let entries = match fs::read_dir(&packages) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((0, BTreeSet::new()));
            }
            Err(error) => return Err(Error::io(&packages)(error)),
        };
        let (mut removed, mut kept) = (0, BTreeSet::new());
        let now = SystemTime::now();
        for entry in entries {
            let path = entry.map_err(Error::io(&packages))?.path();
            let used = fs::symlink_metadata(&path)
                .and_then(|found| found.modified())
                .map_err(Error::io(&path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let recent = now.duration_since(used).unwrap_or_default() < UNUSED_FOR;
            match format!("sha256:{name}").parse::<Digest>() {
                Ok(digest) if recent && keep == Keep::Recent => {
                    kept.insert(digest);
                }
                Ok(_) => {
                    // Out of sight in one step, so that a kill leaves no half of a tree where it looks whole.
                    let away = self.temporary()?;
                    fs::rename(&path, away.path().join("home")).map_err(Error::io(&path))?;
                    removed += 1;
                }
                Err(_) => {}
            }
        }
        Ok((removed, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    #[test]
    fn a_package_is_unpacked_once_and_seen_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"x");
        let failed = store.package(&digest, |home| -> Result<()> {
            fs::write(home.join("half"), "").unwrap();
            Err(Error::refused("the test", "fails", "none"))
        });
        failed.unwrap_err();
        let home = store
            .package(&digest, |home| -> Result<()> {
                assert!(!home.join("half").exists());
                fs::write(home.join("whole"), "").unwrap();
                Ok(())
            })
            .unwrap();
        assert!(home.join("whole").exists());
        assert_eq!(store.gc().unwrap().records, 0);
        let again = store.package(&digest, |_| {
            Err(Error::refused("the test", "ran twice", ""))
        });
        assert_eq!(again.unwrap(), home);
        let long_ago = SystemTime::now() - UNUSED_FOR - std::time::Duration::from_secs(60);
        File::open(&home).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(store.gc().unwrap().records, 1);
        assert!(!home.exists());
    }
}
