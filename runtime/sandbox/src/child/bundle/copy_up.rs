//! `tmpcopyup`: what the image has at a place is copied into the tmpfs that will cover it, before that is attached. Owners, modes, extended attributes, links, hard links,
//! devices and fifos come along; sockets do not, as nobody listens there.
//!
//! The tmpfs bounds bytes and files; [`DEPTH_MAX`] bounds how deep the walk, which holds two descriptors a level, goes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use airtight_sys::entry::{self, Entry};
use airtight_sys::{SysError, directory, open};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::super::{Failure, Result};

const DEPTH_MAX: usize = 128;

/// Copies what is in the directory `from` into the root of `to`, a mount that nobody else can reach.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let readable = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let from = open::open_beneath(from, Path::new("."), readable)?;
    let top = open::open_beneath(to, Path::new("."), readable)?;
    entry::copy_xattrs(&from, &top)?;
    let mut copier = Copier {
        top: &top,
        linked: HashMap::new(),
        at: PathBuf::new(),
    };
    copier.directory(from, &top, DEPTH_MAX)
}

struct Copier<'a> {
    top: &'a OwnedFd,
    /// Files of several names, and the name in the copy of the first of them.
    linked: HashMap<(u64, u64), PathBuf>,
    at: PathBuf,
}

impl Copier<'_> {
    fn directory(&mut self, from: OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
        if depth == 0 {
            return Err(Failure::Said(format!(
                "{:?} is deeper than {DEPTH_MAX} directories",
                self.at
            )));
        }
        let listed = open::open_beneath(&from, Path::new("."), OFlag::O_RDONLY)?;
        for name in entry::names(listed)? {
            let there = match entry::entry(&from, &name) {
                Err(error) if error.errno == Errno::ENOENT => continue,
                other => other?,
            };
            self.at.push(&name);
            self.one(&from, to, &name, &there, depth)?;
            self.at.pop();
        }
        Ok(())
    }

    fn one(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        there: &Entry,
        depth: usize,
    ) -> Result<()> {
        let kind = there.format;
        if kind != SFlag::S_IFDIR && there.links > 1 {
            if let Some(first) = self.linked.get(&there.identity) {
                return Ok(open::hardlink(self.top, first.as_os_str(), to, name)?);
            }
            self.linked.insert(there.identity, self.at.clone());
        }
        match kind {
            SFlag::S_IFDIR => {
                let inner = entry::open_entry(from, name)?;
                let made = directory::make_directory(to, Path::new(name), 0o700)?;
                entry::copy_xattrs(&inner, &made)?;
                self.directory(inner, &made, depth - 1)?;
            }
            SFlag::S_IFREG => {
                let content = entry::open_entry(from, name)?;
                let made = open::create(to, name, 0o600)?;
                fill(&content, &made)?;
                entry::copy_xattrs(&content, &made)?;
            }
            SFlag::S_IFLNK => open::symlink(Path::new(&entry::read_link(from, name)?), to, name)?,
            SFlag::S_IFCHR | SFlag::S_IFBLK | SFlag::S_IFIFO => {
                open::make_node(to, name, kind, 0o600, there.number)?;
            }
            _ => return Ok(()),
        }
        // The owner first, since a new one takes the set-id bits away.
        open::own(to, name, there.uid, there.gid)?;
        if kind != SFlag::S_IFLNK {
            open::set_mode(to, name, there.mode)?;
        }
        Ok(())
    }
}

fn fill(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let failed = |error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        SysError::new("copy_file_range", "tmpcopyup", errno)
    };
    // It was a regular file a moment ago; anything else would not end.
    if directory::kind(from)? != directory::Kind::File {
        return Err(failed(std::io::Error::from_raw_os_error(Errno::EINVAL as i32)).into());
    }
    let mut source = File::from(from.try_clone().map_err(failed)?);
    let mut target = File::from(to.try_clone().map_err(failed)?);
    std::io::copy(&mut source, &mut target).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_a_place_has_is_copied_with_its_modes_and_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/f"), "content").unwrap();
        fs::set_permissions(from.path().join("d/f"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(from.path().join("d/f"), from.path().join("second")).unwrap();
        symlink("/nowhere", from.path().join("link")).unwrap();
        fs::set_permissions(from.path().join("d"), fs::Permissions::from_mode(0o1777)).unwrap();
        let open = |at: &tempfile::TempDir| OwnedFd::from(File::open(at.path()).unwrap());
        copy(&open(&from), &open(&to)).unwrap();
        assert_eq!(
            fs::read_to_string(to.path().join("d/f")).unwrap(),
            "content"
        );
        let file = fs::metadata(to.path().join("d/f")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o4711);
        assert_eq!(
            file.ino(),
            fs::metadata(to.path().join("second")).unwrap().ino()
        );
        assert_eq!(
            fs::read_link(to.path().join("link")).unwrap(),
            Path::new("/nowhere")
        );
        assert_eq!(
            fs::metadata(to.path().join("d")).unwrap().mode() & 0o7777,
            0o1777
        );
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 1).collect();
        fs::create_dir_all(from.path().join(deep)).unwrap();
        let open = |at: &tempfile::TempDir| OwnedFd::from(File::open(at.path()).unwrap());
        let error = copy(&open(&from), &open(&to)).unwrap_err();
        assert!(
            matches!(&error, Failure::Said(text) if text.contains("deeper than 128")),
            "{error:?}"
        );
    }
}
