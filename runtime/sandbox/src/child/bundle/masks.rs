//! Paths that are covered, and paths that are read-only.

use std::os::fd::OwnedFd;
use std::path::Path;

use airtight_sys::directory::{self, Kind};
use airtight_sys::mount::{self, Attributes, Change};
use nix::libc;

use super::super::mounts::device;
use super::super::{Child, Result};
use super::below;
use super::root::again;

const READ_ONLY: Change = Change {
    set: libc::MOUNT_ATTR_RDONLY,
    clear: 0,
    propagation: 0,
    recursive: false,
};

impl Child<'_> {
    /// A link that took the path's place is followed inside the root only, so the cover lies over what the name leads to in there.
    pub(in crate::child) fn mask_path(&mut self, path: &Path) -> Result<()> {
        let Some(place) = below::find_existing(self.root()?, path)? else {
            return Ok(());
        };
        let cover = if directory::kind(&place.fd)? == Kind::Directory {
            self.empty_directory()?
        } else {
            // With the flags that it has on the host: as a device that works, so that what reads a masked file finds it empty.
            mount::clone_tree(self.null()?)?
        };
        Ok(mount::attach(&cover, &place.fd)?)
    }

    pub(in crate::child) fn readonly_path(&mut self, path: &Path) -> Result<()> {
        let Some(place) = below::find_existing(self.root()?, path)? else {
            return Ok(());
        };
        let tree = mount::copy_tree(&place.fd, true)?;
        mount::change(&tree, &READ_ONLY, None)?;
        Ok(mount::attach(&tree, &place.fd)?)
    }

    /// The host's `/dev/null`, proven to be it before the image's `/dev` is anywhere (CVE-2025-31133).
    fn null(&mut self) -> Result<&OwnedFd> {
        if self.held.null.is_none() {
            self.held.null = Some(device(Path::new("/dev/null"), (1, 3))?);
        }
        self.held
            .null
            .as_ref()
            .ok_or_else(|| super::super::Failure::Said("there is no /dev/null".into()))
    }

    /// One empty file system covers all directories: each cover after the first is a copy of the first, which is attached, as the kernel wants it before 6.15.
    fn empty_directory(&mut self) -> Result<OwnedFd> {
        if let Some(first) = &self.held.cover {
            return Ok(mount::clone_tree(first)?);
        }
        let options = [(c"source", Some(c"tmpfs")), (c"ro", None)];
        let read_only = Attributes {
            read_only: true,
            ..Attributes::default()
        };
        let first = mount::new_mount(c"tmpfs", &options, read_only)?;
        self.held.cover = Some(again(&first)?);
        Ok(first)
    }
}
