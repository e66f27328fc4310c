//! Unpacking a layer below a directory descriptor. Nothing is followed: parents are opened with `openat2` without links, and what a name held
//! before is taken away, not written through.
//!
//! The tree is in overlayfs's own form: a whiteout is a 0:0 character device (any user may make one since 5.8), an opaque directory
//! carries `user.overlay.opaque`. Set-user-ID and set-group-ID bits and file capabilities are left out: the launch ignores them anyhow (`nosuid`,
//! `no_new_privs`), and they have no place at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use airtight_sys::SysError;
use airtight_sys::open::{self, open_beneath};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::archive::{self, Entry, Kind};
use super::{AUFS, OPAQUE, WHITEOUT, program};
use crate::error::{Error, Result};

/// Caps on one layer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files.
    pub bytes: u64,
    pub entries: u64,
    /// Ids are set as the archive says (root); else everything belongs to the caller, who can always read and remove it.
    pub owners: bool,
    /// Names that hide what lower layers have mean that; else they are refused, as there are none.
    pub whiteouts: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 8 << 30,
            entries: 1_000_000,
            owners: false,
            whiteouts: true,
        }
    }
}

/// How much there was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub bytes: u64,
    pub entries: u64,
    /// Programs that the kernel would give memory that is both written and executed, by their headers; the first few.
    pub write_execute: Vec<PathBuf>,
}

/// Programs that are told by name; one is enough to refuse.
const MAX_TOLD: usize = 8;
/// An image's ids, as the id map of a launch has them.
const MAX_ID: u64 = 65_535;
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// Unpacks an uncompressed archive below `root`, which must be empty.
///
/// # Errors
/// The first entry that is not to be had, by name; what was unpacked before it is the caller's to remove.
pub fn unpack(reader: impl Read, root: impl AsFd, limits: &Limits) -> Result<Unpacked> {
    let mut tree = Tree {
        root: root.as_fd(),
        limits: *limits,
        done: Unpacked::default(),
        directories: BTreeMap::new(),
        hidden: BTreeSet::new(),
    };
    archive::read(reader, |entry, content| tree.make(&entry, content))?;
    tree.finish()
}

struct Tree<'a> {
    root: std::os::fd::BorrowedFd<'a>,
    limits: Limits,
    done: Unpacked,
    /// Mode and time of directories, set when nothing is made in them any more.
    directories: BTreeMap<PathBuf, (u32, i64)>,
    /// What whiteouts of this layer name, wherever they stand in it: a directory of that name starts empty.
    hidden: BTreeSet<PathBuf>,
}

impl Tree<'_> {
    fn make(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.count(entry.size)?;
        if !self.limits.whiteouts {
            refuse_whiteouts(&entry.path)?;
        }
        if is_aufs(&entry.path) {
            return Ok(());
        }
        let fail = |error: SysError| {
            Error::refused(
                format!("layer: {}", entry.path.display()),
                error.to_string(),
                "remove the entry from the image",
            )
        };
        let Some(name) = entry.path.file_name() else {
            // The root itself: always a directory of ours, of which only the mode is taken.
            self.directories
                .insert(PathBuf::new(), (entry.mode, entry.mtime));
            return Ok(());
        };
        let parent = self.parent(&entry.path)?;
        let text = name.as_encoded_bytes();
        if text == OPAQUE.as_bytes() {
            // Also for a directory that is replaced later by a file, and again by a directory.
            self.hidden
                .insert(entry.path.parent().unwrap_or(Path::new("")).to_owned());
            return open::set_opaque(&parent).map_err(fail);
        }
        if let Some(hidden) = text.strip_prefix(WHITEOUT.as_bytes()) {
            return self.whiteout(entry, hidden, &parent);
        }
        match &entry.kind {
            Kind::Directory => self.directory(entry, name, &parent)?,
            Kind::File => {
                self.remove_old(&entry.path, &parent, name)?;
                let file =
                    open::create(&parent, name, self.mode(entry.mode, 0o400)).map_err(fail)?;
                let mut file = std::fs::File::from(file);
                let copied = io::copy(&mut content.take(entry.size), &mut file)
                    .map_err(Error::io(&entry.path))?;
                if copied != entry.size {
                    return Err(Error::refused(
                        format!("layer: {}", entry.path.display()),
                        "is cut short",
                        "pull or import the image again",
                    ));
                }
                let runs = entry.mode & 0o111 != 0;
                if runs
                    && self.done.write_execute.len() < MAX_TOLD
                    && program::writes_and_executes(&file).map_err(Error::io(&entry.path))?
                {
                    self.done.write_execute.push(entry.path.clone());
                }
            }
            Kind::Symlink(target) => {
                self.remove_old(&entry.path, &parent, name)?;
                open::symlink(target, &parent, name).map_err(fail)?;
            }
            Kind::Hardlink(target) => return self.hardlink(entry, name, target, &parent),
        }
        self.own(entry, name, &parent).map_err(fail)
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.done.entries += 1;
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        if self.done.entries > self.limits.entries {
            return Err(Error::refused(
                "layer",
                format!("has more than {} entries", self.limits.entries),
                "split or rebuild the image",
            ));
        }
        if self.done.bytes > self.limits.bytes {
            return Err(Error::refused(
                "layer",
                format!("unpacks to more than {} bytes", self.limits.bytes),
                "split or rebuild the image",
            ));
        }
        Ok(())
    }

    /// The directory that holds `path`; missing ones are made, as every unpacker does. A link on the way is refused: an entry
    /// that needs one names its place wrongly.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let at = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let error = match open_beneath(self.root, at, DIRECTORY) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        // A whiteout that came first is not in the way: what follows is what this layer has in its place.
        let missing = error.errno == Errno::ENOENT
            || (error.errno == Errno::ENOTDIR
                && parent.ancestors().any(|above| self.is_whiteout(above)));
        if !missing {
            return Err(Error::refused(
                format!("layer: {}", path.display()),
                format!(
                    "passes through {}, which is a link or no directory",
                    parent.display()
                ),
                "rebuild the image: an entry must name its real place",
            ));
        }
        // It takes its place on the disk as an entry does.
        self.count(0)?;
        let above = self.parent(parent)?;
        let name = parent.file_name().unwrap_or_default();
        self.remove_old(parent, &above, name)?;
        self.make_directory(parent, &above, name)?;
        self.directories.insert(parent.to_owned(), (0o755, 0));
        open_beneath(self.root, parent, DIRECTORY).map_err(Error::sys(parent))
    }

    /// The only device that there can be is one.
    fn is_whiteout(&self, path: &Path) -> bool {
        use std::os::unix::fs::FileTypeExt as _;
        open_beneath(self.root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW)
            .and_then(|found| {
                std::fs::File::from(found)
                    .metadata()
                    .map_err(|_| SysError::last("fstat", ""))
            })
            .is_ok_and(|found| found.file_type().is_char_device())
    }

    /// A new one. Without the mark, what this layer has hidden would show through it.
    fn make_directory(&self, path: &Path, parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<()> {
        open::make_directory(parent, name).map_err(Error::sys(path))?;
        if self.hidden.contains(path) {
            self.hide_below(path)?;
        }
        Ok(())
    }

    fn hide_below(&self, path: &Path) -> Result<()> {
        open_beneath(self.root, path, DIRECTORY)
            .and_then(|directory| open::set_opaque(&directory))
            .map_err(Error::sys(path))
    }

    /// A later entry of the same name replaces the earlier one; a directory with something in it stays, and that is an error.
    fn remove_old(&mut self, path: &Path, parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<()> {
        open::remove_if_there(parent, name).map_err(|error| {
            Error::refused(
                format!("layer: {}", path.display()),
                format!("replaces a directory that is not empty: {error}"),
                "rebuild the image",
            )
        })?;
        // Its mode and time are nobody's any more.
        self.directories.remove(path);
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, name: &std::ffi::OsStr, parent: &OwnedFd) -> Result<()> {
        match open_beneath(parent, Path::new(name), DIRECTORY) {
            Ok(_) => {}
            Err(_) => {
                self.remove_old(&entry.path, parent, name)?;
                self.make_directory(&entry.path, parent, name)?;
            }
        }
        self.directories
            .insert(entry.path.clone(), (entry.mode, entry.mtime));
        Ok(())
    }

    fn hardlink(
        &mut self,
        entry: &Entry,
        name: &std::ffi::OsStr,
        target: &Path,
        parent: &OwnedFd,
    ) -> Result<()> {
        let fail = |_| {
            Error::refused(
                format!("layer: {}", entry.path.display()),
                format!(
                    "is a hard link to {}, which is no earlier file of this layer",
                    target.display()
                ),
                "rebuild the image",
            )
        };
        // Without links on the way, so that it cannot be a file outside; a link itself may be linked to.
        let from = open_beneath(
            self.root,
            target
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
            DIRECTORY,
        )
        .map_err(fail)?;
        let from_name = target.file_name().unwrap_or_default();
        if entry.path == target {
            return Ok(());
        }
        // A second name of a whiteout would hide something else.
        if self.is_whiteout(target) {
            return Err(fail(SysError::new("linkat", "", Errno::ENOENT)));
        }
        self.remove_old(&entry.path, parent, name)?;
        open::hardlink(&from, from_name, parent, name).map_err(fail)
    }

    fn whiteout(&mut self, entry: &Entry, hidden: &[u8], parent: &OwnedFd) -> Result<()> {
        let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(hidden);
        if hidden.is_empty()
            || hidden == b"."
            || hidden == b".."
            || hidden.starts_with(WHITEOUT.as_bytes())
        {
            return Err(Error::refused(
                format!("layer: {}", entry.path.display()),
                "is a whiteout of nothing",
                "rebuild the image",
            ));
        }
        let place = entry.path.with_file_name(name);
        let made = open::make_whiteout(parent, name);
        self.hidden.insert(place.clone());
        match made {
            Ok(()) => Ok(()),
            // What this layer itself has there stays, and hides all that is below: a file by being one, a directory when it says so.
            Err(SysError {
                errno: Errno::EEXIST,
                ..
            }) => match open_beneath(parent, Path::new(name), DIRECTORY) {
                Ok(directory) => open::set_opaque(&directory).map_err(Error::sys(&place)),
                Err(_) => Ok(()),
            },
            Err(error) => Err(Error::sys(&entry.path)(error)),
        }
    }

    fn own(
        &self,
        entry: &Entry,
        name: &std::ffi::OsStr,
        parent: &OwnedFd,
    ) -> airtight_sys::Result<()> {
        if self.limits.owners {
            let id = |id: u64| {
                let fits = u32::try_from(id).ok().filter(|_| id <= MAX_ID);
                fits.ok_or_else(|| {
                    SysError::new(
                        "fchownat",
                        format!("id {id} is above {MAX_ID}"),
                        Errno::EOVERFLOW,
                    )
                })
            };
            open::own(parent, name, id(entry.uid)?, id(entry.gid)?)?;
        }
        if entry.kind == Kind::File {
            // After the owner, since chown clears bits.
            open::set_mode(parent, name, self.mode(entry.mode, 0o400))?;
        }
        if entry.kind == Kind::Directory {
            Ok(())
        } else {
            open::set_time(parent, name, entry.mtime)
        }
    }

    /// Without the owner's own rights an unprivileged caller could neither mount nor remove what it unpacked.
    fn mode(&self, mode: u32, needed: u32) -> u32 {
        let plain = mode & 0o1777;
        if self.limits.owners {
            plain
        } else {
            plain | needed
        }
    }

    /// Deepest first, so that a directory without a write bit is done when its content is.
    fn finish(self) -> Result<Unpacked> {
        for (path, (mode, mtime)) in self.directories.iter().rev() {
            let bits = self.mode(*mode, 0o500);
            let at = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            let parent = open_beneath(self.root, at, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
                .map_err(Error::sys(path))?;
            open::set_directory(&parent, bits, *mtime).map_err(Error::sys(path))?;
        }
        Ok(self.done)
    }
}

fn refuse_whiteouts(path: &Path) -> Result<()> {
    let hides = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(WHITEOUT.as_bytes());
    if path.iter().any(hides) {
        return Err(Error::refused(
            format!("layer: {}", path.display()),
            "has a name that deletes, once it is in a layer",
            "leave it out",
        ));
    }
    Ok(())
}

/// aufs's own notes, which old images carry: every tool passes over them. Only `.wh..wh..opq` of that form means something.
fn is_aufs(path: &Path) -> bool {
    let aufs = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(AUFS.as_bytes());
    path.iter().any(|name| aufs(name) && name != OPAQUE)
}
