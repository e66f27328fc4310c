//! The root of a bundle.

use std::os::fd::OwnedFd;
use std::path::Path;

use airtight_plan::bundle::Propagation;
use airtight_sys::directory::{self, open_path, open_path_follow};
use airtight_sys::mount::{self, Change};
use airtight_sys::{SysError, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::mount::MsFlags;

use super::super::{Child, Failure, Result};
use super::below::{self, Links, Missing};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// What the steps that build a bundle's root leave for later ones.
#[derive(Debug, Default)]
pub(in crate::child) struct Held {
    /// Trees that were taken, the root among them, and whether the parent sent any.
    taken: usize,
    sent: bool,
    /// `/dev/null` of the host, proven to be it.
    pub(super) null: Option<OwnedFd>,
    /// An empty read-only tmpfs that covers a directory already.
    pub(super) cover: Option<OwnedFd>,
    /// The root lies over `/`, and not over its own path.
    stacked: bool,
}

impl Child<'_> {
    pub(in crate::child) fn attach_root(&mut self, path: &Path) -> Result<()> {
        // What is made below the root has the modes that it should have, whatever the caller's umask is.
        process::set_umask(0o022);
        let tree = self.next_tree()?;
        if directory::kind(&tree)? != directory::Kind::Directory {
            return Err(Failure::Said(format!(
                "{} is not a directory",
                path.display()
            )));
        }
        match open_path_follow(path, DIRECTORY) {
            Ok(target) => {
                mount::attach(&tree, &target)?;
            }
            // The path leads through directories of the host that ids of this user namespace may not pass.
            Err(SysError {
                errno: Errno::EACCES | Errno::ENOENT,
                ..
            }) => {
                mount::attach(&tree, open_path(Path::new("/"), DIRECTORY)?)?;
                self.held.stacked = true;
            }
            Err(error) => return Err(error.into()),
        }
        self.rootfs = Some(tree);
        Ok(())
    }

    /// The next tree of the parent's, or, where the parent may not copy trees and sent none, our own copy of it in this mount namespace.
    pub(super) fn next_tree(&mut self) -> Result<OwnedFd> {
        let number = self.held.taken;
        self.held.taken += 1;
        if let Some(tree) = self.sent.next() {
            self.held.sent = true;
            return Ok(tree);
        }
        crate::bundle::planned(self.inputs.plan)
            .nth(number)
            .filter(|_| !self.held.sent)
            .ok_or_else(|| Failure::Said(format!("mount {number} was not sent")))
            .and_then(|sent| {
                let at = crate::bundle::open_source(number, sent)?;
                if sent.idmap.is_some() {
                    return Err(Failure::Said(format!(
                        "{}: an id-mapped mount needs a caller that may mount",
                        sent.source.display()
                    )));
                }
                Ok(mount::copy_tree(&at, sent.recursive)?)
            })
    }

    pub(in crate::child) fn make_working_directory(&mut self, path: &Path) -> Result<()> {
        let root = self.root()?;
        below::find(root, path, Links::Follow, Missing::Directory).map(drop)
    }

    pub(in crate::child) fn move_root(&mut self) -> Result<()> {
        let rootfs = self
            .rootfs
            .take()
            .ok_or_else(|| Failure::Said("there is no root to change to".into()))?;
        directory::enter(&rootfs)?;
        cover_full_mounts(&rootfs)?;
        if !self.held.stacked {
            mount::attach(&rootfs, open_path(Path::new("/"), DIRECTORY)?)?;
        }
        Ok(mount::change_root_to_working_directory()?)
    }
}

/// A second descriptor of the same.
pub(super) fn again(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        SysError::new("fcntl", "F_DUPFD_CLOEXEC", errno).into()
    })
}

/// With `chroot` the host's mounts stay in this namespace, out of sight but there, and the kernel lets a user namespace mount a procfs or sysfs of its own, without the
/// masks of ours, where a whole one is visible. So those go, or are covered.
fn cover_full_mounts(rootfs: &OwnedFd) -> Result<()> {
    let ours = std::fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(rootfs)
    ))
    .map_err(|error| read_failed("rootfs", &error))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| read_failed("/proc/self/mountinfo", &error))?;
    // The last are the topmost.
    for path in table.lines().rev().filter_map(full_kernel_mount) {
        let path = Path::new(&path);
        if path.starts_with(&ours) && ours != Path::new("/") {
            continue;
        }
        let Ok(place) = open_path(path, DIRECTORY) else {
            // Below one that went already.
            continue;
        };
        if mount::detach(path).is_err() {
            // Locked by a user namespace: covered, for good.
            let cover = mount::new_mount(c"tmpfs", &[], mount::Attributes::FIXED)?;
            mount::attach(&cover, &place)?;
        }
    }
    Ok(())
}

fn read_failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::Said(format!("{what}: {error}"))
}

/// The mount point of a line of `mountinfo` that is a procfs or sysfs from its root on.
fn full_kernel_mount(line: &str) -> Option<String> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let kind = filesystem.split(' ').next()?;
    (root == "/" && matches!(kind, "proc" | "sysfs")).then(|| unescape(point))
}

/// `mountinfo` writes space, tab, newline and backslash in octal.
pub(super) fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

pub(super) fn propagation(propagation: Propagation) -> Result<()> {
    let (kind, recursive) = split(propagation);
    let flags = if recursive {
        kind | MsFlags::MS_REC
    } else {
        kind
    };
    Ok(mount::set_propagation("/", flags)?)
}

/// The kind, and whether it goes for the mounts below too.
pub(super) fn split(propagation: Propagation) -> (MsFlags, bool) {
    match propagation {
        Propagation::Private => (MsFlags::MS_PRIVATE, false),
        Propagation::RPrivate => (MsFlags::MS_PRIVATE, true),
        Propagation::Slave => (MsFlags::MS_SLAVE, false),
        Propagation::RSlave => (MsFlags::MS_SLAVE, true),
        Propagation::Shared => (MsFlags::MS_SHARED, false),
        Propagation::RShared => (MsFlags::MS_SHARED, true),
        Propagation::Unbindable => (MsFlags::MS_UNBINDABLE, false),
        Propagation::RUnbindable => (MsFlags::MS_UNBINDABLE, true),
    }
}

pub(super) fn read_only() -> Result<()> {
    let change = Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    Ok(mount::change(
        open_path(Path::new("/"), DIRECTORY)?,
        &change,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_mounts_of_the_kernels_file_systems_are_found() {
        for (line, want) in [
            ("22 27 0:21 / /proc rw - proc proc rw", Some("/proc")),
            (
                "22 27 0:21 / /a\\040b rw shared:1 - sysfs sysfs rw",
                Some("/a b"),
            ),
            ("22 27 0:21 /sys /proc/sys ro - proc proc rw", None),
            ("22 27 0:21 / / rw - ext4 /dev/vda rw", None),
            ("", None),
        ] {
            assert_eq!(full_kernel_mount(line).as_deref(), want, "{line}");
        }
    }
}
