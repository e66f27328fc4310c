//! The store: content-addressed blobs, names, and layers unpacked. Two builds at once, and a kill at any moment, leave it valid: what is visible was complete
//! before it got its name.
//!
//! ```text
//! blobs/sha256/HEX     verified on every read
//! refs/NAME%TAG        the descriptor of a manifest
//! referrers/HEX/HEX     which manifest the second, an artifact's, refers to
//! layers/sha256/HEX/   by diffID: `rootfs`; `lock`, which a running sandbox holds shared; `from-HEX` for each blob that was seen to unpack to it
//! packages/sha256/HEX/ of a package by its own digest: `files` and `control`, for builds to read
//! tmp/                 what is being made; its maker holds a lock on it. `p-HEX` is a blob that was cut off, `u-HEX` where an upload stands
//! cache/               compiled filters, where blobs were seen, layers that builds made (`layers`), files that they read (`files`), what build files gave (`outcomes`); may be deleted
//! lock                 held shared by a build or import from its first blob to its name, exclusive by gc
//! ```

mod blob;
mod contents;
mod gc;
mod identity;
mod index;
mod line;
mod names;
mod outcomes;
mod packages;
mod partial;
mod records;
mod referrers;
mod steady;
mod trees;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

pub use blob::{BlobWriter, VerifiedReader};
pub use contents::{Contents, Known, NewContents};
pub use gc::{GcReport, VerifyReport};
pub use identity::{Device, Identity};
pub use index::{PlatformImage, Root};
pub use names::Listed;
pub use outcomes::{OutcomeLayer, parse_outcome};
pub(crate) use partial::{Kept, Partial};
pub use records::{LayerKey, LayerRecord, parse_layer_record};
pub(crate) use referrers::{MAX_ARTIFACT, MAX_REFERRERS, OURS};
pub use steady::Steady;
pub(crate) use trees::Capped;
pub use trees::Lease;

/// A store in a directory that only its owner enters.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Held while something is being added, so that gc does not take a blob whose name is not written yet.
    adding: Mutex<Option<File>>,
    /// Blobs have got names that may not be on the disk.
    unsettled: Mutex<bool>,
}

impl Store {
    /// Opens the store at `root`, making what is missing of it.
    ///
    /// # Errors
    /// The directory cannot be made, or somebody else owns it or can write to it.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::io(root))?;
        let store = Self {
            root,
            adding: Mutex::new(None),
            unsettled: Mutex::default(),
        };
        // Before anything is made in it, and after, when it may have been made by somebody else meanwhile.
        let there = store.check()?;
        for sub in ["refs", "layers/sha256", "tmp", "cache", "blobs/sha256"] {
            let path = store.path(sub);
            // One look at each where it is there, as at every launch.
            if !path.is_dir() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&path)
                    .map_err(in_the_way(&path))?;
            }
        }
        if !there {
            store.check()?;
        }
        Ok(store)
    }

    /// Whether it is there; who else can write to it decides what runs.
    fn check(&self) -> Result<bool> {
        let found = match fs::metadata(&self.root) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io(&self.root)(error)),
        };
        if !found.is_dir() {
            let fix = "name another store with --store or AIRTIGHT_STORE";
            return Err(Error::refused(self.root.display(), "is no directory", fix));
        }
        let (owner, mode) = (found.uid(), found.mode());
        let caller = nix::unistd::geteuid().as_raw();
        if owner != caller && caller != 0 {
            let problem = format!("belongs to user {owner} and you are {caller}");
            return Err(Error::refused(
                self.root.display(),
                problem,
                "name a store of your own with --store or AIRTIGHT_STORE",
            ));
        }
        if mode & 0o022 != 0 {
            return Err(Error::refused(
                self.root.display(),
                format!(
                    "can be written by others: its mode is {:04o}",
                    mode & 0o7777
                ),
                "chmod go-w it if nobody else has written to it, or name another with --store or AIRTIGHT_STORE",
            ));
        }
        Ok(true)
    }

    /// Where the store is unless somebody says: `/var/lib/airtight` for root, `$XDG_DATA_HOME/airtight` else.
    #[must_use]
    pub fn default_root(euid: u32, env: impl Fn(&str) -> Option<std::ffi::OsString>) -> PathBuf {
        if let Some(root) = env("AIRTIGHT_STORE").filter(|value| !value.is_empty()) {
            return PathBuf::from(root);
        }
        if euid == 0 {
            return PathBuf::from("/var/lib/airtight");
        }
        let data = env("XDG_DATA_HOME")
            .filter(|value| Path::new(value).is_absolute())
            .map(PathBuf::from);
        let home = || {
            PathBuf::from(env("HOME").unwrap_or_else(|| "/nonexistent".into())).join(".local/share")
        };
        data.unwrap_or_else(home).join("airtight")
    }

    /// The directory for compiled filters.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.path("cache")
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.root.join(sub)
    }

    /// From now until this value goes, gc waits.
    pub(crate) fn add(&self) -> Result<()> {
        let mut adding = self.adding();
        if adding.is_none() {
            let lock = self.open_lock()?;
            lock.lock_shared().map_err(Error::io(&self.path("lock")))?;
            *adding = Some(lock);
        }
        Ok(())
    }

    /// What was locked for one that failed is locked still.
    fn adding(&self) -> MutexGuard<'_, Option<File>> {
        self.adding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(&self) -> MutexGuard<'_, bool> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn open_lock(&self) -> Result<File> {
        let path = self.path("lock");
        File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&path)
            .and_then(regular)
            .map_err(in_the_way(&path))
    }

    /// A directory under `tmp` that is removed with the value, or by gc when its maker was killed.
    pub(crate) fn temporary(&self) -> Result<Temporary> {
        let tmp = self.path("tmp");
        let dir = tempfile::Builder::new()
            .prefix("d-")
            .tempdir_in(&tmp)
            .map_err(Error::io(&tmp))?;
        let lock = File::open(dir.path()).map_err(Error::io(dir.path()))?;
        lock.lock_shared().map_err(Error::io(dir.path()))?;
        Ok(Temporary {
            path: dir.keep(),
            _lock: lock,
        })
    }
}

/// See [`Store::temporary`].
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    _lock: File,
}

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is gc's.
        drop(remove_tree(&self.path));
    }
}

/// Removes a tree whatever the modes of its directories: a layer's have no write bit, which stops an owner who is not root.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The entry's own type: a link to a directory is not one.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Of a file or directory of the store that is not what it should be: what lies in its place has to go first.
fn in_the_way(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        let taken = [
            io::ErrorKind::AlreadyExists,
            io::ErrorKind::NotADirectory,
            io::ErrorKind::IsADirectory,
            io::ErrorKind::InvalidInput,
        ];
        if !taken.contains(&error.kind()) {
            return Error::io(path)(error);
        }
        Error::refused(
            path.display(),
            format!("cannot be used, something else lies there: {error}"),
            "remove what lies there, or name another store with --store or AIRTIGHT_STORE",
        )
    }
}

/// Said of what lies in the store and is not the store's. It is nobody's business to remove it but its owner's.
fn stray(path: &Path) -> String {
    format!("{}: is not airtight's\n  fix: remove it", path.display())
}

/// A file to read from. What is none is refused without waiting on it: a fifo never answers and a device never ends.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    regular(file)
}

/// Of what was opened with `O_NONBLOCK`.
pub(crate) fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "is no regular file",
    ))
}

/// Makes a rename in `directory` last.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo(path: &Path) {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(path, mode).unwrap();
    }

    #[test]
    fn directories_that_are_gone_are_made_anew_and_what_is_in_their_place_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        Store::open(&root).unwrap();
        for sub in ["refs", "layers", "tmp", "cache", "blobs"] {
            let place = root.join(sub);
            fs::remove_dir_all(&place).unwrap();
            let store = Store::open(&root).unwrap();
            assert_eq!(store.gc().unwrap(), GcReport::default(), "{sub}");
            fs::remove_dir_all(&place).unwrap();
            fs::write(&place, "x").unwrap();
            let told = Store::open(&root).unwrap_err().to_string();
            assert!(told.contains("fix: remove what lies there"), "{told}");
            fs::remove_file(&place).unwrap();
        }
    }

    #[test]
    fn what_is_in_the_place_of_a_file_is_waited_for_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let store = Store::open(&root).unwrap();
        fifo(&root.join("lock"));
        let told = store.gc().unwrap_err().to_string();
        assert!(told.contains("fix: remove what lies there"), "{told}");
        fs::remove_file(root.join("lock")).unwrap();
        fs::create_dir(dir.path().join("others")).unwrap();
        fifo(&root.join("tmp/fifo"));
        for (name, to) in [
            ("loop", root.join("tmp/loop")),
            ("link", dir.path().join("others")),
        ] {
            std::os::unix::fs::symlink(to, root.join("tmp").join(name)).unwrap();
        }
        let tree = root.join("layers/sha256").join("0".repeat(64));
        fs::create_dir(&tree).unwrap();
        fifo(&tree.join("lock"));
        let report = store.gc().unwrap();
        assert_eq!((report.temporaries, report.layers), (3, 1));
        assert!(dir.path().join("others").is_dir());
    }

    #[test]
    fn the_store_is_where_the_caller_says_or_where_the_user_keeps_data() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).into())
            }
        };
        for (name, euid, pairs, want) in [
            ("root", 0, &[][..], "/var/lib/airtight"),
            ("said", 0, &[("AIRTIGHT_STORE", "/s")][..], "/s"),
            (
                "a user",
                1000,
                &[("HOME", "/home/u")][..],
                "/home/u/.local/share/airtight",
            ),
            (
                "a user with XDG",
                1000,
                &[("HOME", "/home/u"), ("XDG_DATA_HOME", "/d")][..],
                "/d/airtight",
            ),
            (
                "a relative XDG is no XDG",
                1000,
                &[("HOME", "/h"), ("XDG_DATA_HOME", "d")][..],
                "/h/.local/share/airtight",
            ),
        ] {
            assert_eq!(
                Store::default_root(euid, env(pairs)),
                PathBuf::from(want),
                "{name}"
            );
        }
    }
}
