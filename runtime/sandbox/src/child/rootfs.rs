//! The root: a scratch tmpfs holds `top`, the layers and `bottom`, and a read-only overlay of them is the payload's root.
//!
//! The scratch file system is attached in the child's own mount namespace, since the overlay takes its layers by path there and the paths must be short
//! (4,096 bytes for all of them). It goes with the old root at the pivot.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use airtight_plan::{BottomEntry, TopEntry};
use airtight_sys::directory::{self, Kind};
use airtight_sys::mount::{self, Attributes};
use airtight_sys::{SysError, open};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Child, Failure, Result};
use crate::parent::Source;

/// Directories that hosts have, to attach the scratch file system over; nothing below them is used after.
const SCRATCH_POINTS: [&str; 4] = ["/tmp", "/mnt", "/sys", "/var"];
/// What the entries of `top` and `bottom` may take. They are few and small.
const SCRATCH_SIZE: &std::ffi::CStr = c"1m";

impl Child<'_> {
    pub(super) fn rootfs(
        &mut self,
        layers: Option<&[PathBuf]>,
        count: usize,
        top: &[TopEntry],
        bottom: &[BottomEntry],
    ) -> Result<()> {
        // Before the scratch file system hides what may lie below its mount point.
        let trees = match layers {
            Some(paths) => paths
                .iter()
                .map(|path| {
                    own_tree(
                        Source::of_layers(self.inputs.bundle),
                        path,
                        Attributes::CODE,
                    )
                })
                .collect::<Result<Vec<_>>>()?,
            None => self.sent.by_ref().take(count).collect(),
        };
        if trees.len() != count || count == 0 {
            return Err(Failure::Said(format!(
                "{count} layers were planned and {} came",
                trees.len()
            )));
        }
        self.find_file_volumes()?;

        let scratch = scratch()?;
        directory::enter(&scratch)?;
        self.empty = Some(directory::make_directory(
            &scratch,
            Path::new("empty"),
            0o555,
        )?);
        make_top(
            &directory::make_directory(&scratch, Path::new("top"), 0o755)?,
            top,
        )?;
        self.make_bottom(
            &directory::make_directory(&scratch, Path::new("bottom"), 0o755)?,
            bottom,
        )?;
        for (number, tree) in trees.iter().enumerate() {
            let point = directory::make_directory(&scratch, Path::new(&number.to_string()), 0o755)?;
            mount::attach(tree, &point)?;
        }
        directory::make_directory(&scratch, Path::new("root"), 0o755)?;
        mount::overlay(&lower(count), "root")?;
        self.rootfs = Some(open::open_beneath(
            &scratch,
            Path::new("root"),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
        )?);
        Ok(())
    }

    /// A mount point must be of the kind of what is mounted: looked up while the host is in view.
    fn find_file_volumes(&mut self) -> Result<()> {
        let mut sent = self.sent.as_slice().iter();
        for step in &self.inputs.plan.child {
            if let airtight_plan::ChildStep::Volume {
                source,
                destination,
                ..
            } = step
            {
                let kind = match source {
                    Some(path) => directory::kind(Source::WithoutLinks.open(path)?)?,
                    None => directory::kind(
                        sent.next()
                            .ok_or_else(|| Failure::Said("a volume did not come".into()))?,
                    )?,
                };
                if kind != Kind::Directory {
                    self.files.push(destination.clone());
                }
            }
        }
        Ok(())
    }

    fn make_bottom(&self, bottom: &OwnedFd, entries: &[BottomEntry]) -> Result<()> {
        for entry in entries {
            match entry {
                BottomEntry::VolumePoint { path } if self.files.contains(path) => {
                    make_parents(bottom, path)?;
                    allow_existing(directory::make_file(bottom, relative(path), b"", 0o444))?;
                }
                BottomEntry::VolumePoint { path } | BottomEntry::Directory { path } => {
                    make_parents(bottom, path)?;
                    make_directory(bottom, relative(path), 0o755)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn pivot(&mut self) -> Result<()> {
        let rootfs = self
            .rootfs
            .take()
            .ok_or_else(|| Failure::Said("there is no root to change to".into()))?;
        directory::enter(&rootfs)?;
        mount::pivot_to_working_directory()?;
        Ok(())
    }
}

/// Highest first, as overlayfs reads it.
fn lower(count: usize) -> String {
    let mut lower = String::from("top");
    for number in (0..count).rev() {
        lower.push(':');
        lower.push_str(&number.to_string());
    }
    lower.push_str(":bottom");
    lower
}

fn scratch() -> Result<OwnedFd> {
    let attributes = Attributes {
        read_only: false,
        ..Attributes::DATA
    };
    let scratch = mount::new_mount(
        c"tmpfs",
        &[(c"size", Some(SCRATCH_SIZE)), (c"mode", Some(c"0755"))],
        attributes,
    )?;
    for point in SCRATCH_POINTS {
        let opened = directory::open_path(Path::new(point), OFlag::O_PATH | OFlag::O_DIRECTORY);
        match opened {
            Ok(target) => {
                mount::attach(&scratch, &target)?;
                return Ok(scratch);
            }
            Err(SysError {
                errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP,
                ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Said(format!(
        "none of {SCRATCH_POINTS:?} is a directory on this host"
    )))
}

/// A detached copy of a tree of the host, made in this mount namespace.
pub(super) fn own_tree(kind: Source, path: &Path, attributes: Attributes) -> Result<OwnedFd> {
    let tree = mount::clone_tree(kind.open(path)?)?;
    mount::set_attributes(&tree, attributes, None)?;
    Ok(tree)
}

fn make_top(top: &OwnedFd, entries: &[TopEntry]) -> Result<()> {
    for entry in entries {
        match entry {
            TopEntry::Directory { path, mode } => {
                make_parents(top, path)?;
                make_directory(top, relative(path), *mode)?;
            }
            TopEntry::File { path, content } => {
                make_parents(top, path)?;
                directory::make_file(top, relative(path), content.as_bytes(), 0o444)?;
            }
        }
    }
    Ok(())
}

fn make_parents(at: impl AsFd + Copy, path: &Path) -> Result<()> {
    let mut parents: Vec<&Path> = relative(path)
        .ancestors()
        .skip(1)
        .filter(|parent| !parent.as_os_str().is_empty())
        .collect();
    parents.reverse();
    for parent in parents {
        make_directory(at, parent, 0o755)?;
    }
    Ok(())
}

fn make_directory(at: impl AsFd, path: &Path, mode: u32) -> Result<()> {
    allow_existing(directory::make_directory(at, path, mode).map(drop))
}

/// Two entries may share a parent; the plan's paths are ours and this tree is fresh, so what exists is what was just made.
fn allow_existing(result: airtight_sys::Result<()>) -> Result<()> {
    match result {
        Err(SysError {
            errno: Errno::EEXIST,
            ..
        }) => Ok(()),
        other => Ok(other?),
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_directories_are_named_from_the_top_down() {
        assert_eq!(lower(1), "top:0:bottom");
        assert_eq!(lower(3), "top:2:1:0:bottom");
        // 127 layers must fit in what mount(2) takes, one page.
        assert!(lower(127).len() < 3900, "{}", lower(127).len());
    }
}
