//! Packages unpacked, so that a build reads their files as it reads any other. By the package's digest; gc may take them, since they are made again from
//! the blob.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Store, sync_directory};
use crate::digest::Digest;
use crate::error::Error;

/// Below the store.
pub(super) const PACKAGES: &str = "packages/sha256";

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
        if home.is_dir() {
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
        let again = store.package(&digest, |_| {
            Err(Error::refused("the test", "ran twice", ""))
        });
        assert_eq!(again.unwrap(), home);
    }
}
