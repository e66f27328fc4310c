//! Mounts on the new root, each made detached and moved onto a target that was opened below the root's descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use airtight_sys::directory::{self, Kind};
use airtight_sys::mount::{self, Attributes};
use airtight_sys::{SysError, open, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::rootfs::own_tree;
use super::{Child, Failure, Result};
use crate::parent::Source;

/// `f_type` of `statfs(2)`, from the kernel's `magic.h`.
pub(super) const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const TMPFS_MAGIC: i64 = 0x0102_1994;
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

impl Child<'_> {
    pub(super) fn root(&self) -> Result<&OwnedFd> {
        self.rootfs
            .as_ref()
            .ok_or_else(|| Failure::Said("there is no root yet".into()))
    }

    /// Attaches over a directory of `top`, which an image cannot have made a link.
    pub(super) fn attach_fixed(&self, mount: &OwnedFd, path: &str) -> Result<()> {
        let target = open::open_beneath(self.root()?, Path::new(path), DIRECTORY)?;
        Ok(mount::attach(mount, &target)?)
    }

    pub(super) fn proc(&mut self) -> Result<()> {
        let proc = mount::new_mount(c"proc", &[], Attributes::FIXED)?;
        self.attach_fixed(&proc, "proc")?;
        self.proc = Some(proc);
        Ok(())
    }

    pub(super) fn mask(&self, path: &Path, directory: bool) -> Result<()> {
        let proc = self
            .proc
            .as_ref()
            .ok_or_else(|| Failure::Said("there is no /proc yet".into()))?;
        let target = match open::open_beneath(proc, path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            // What this procfs does not have needs no cover: it is a new one, and the probe read the host's.
            Err(SysError {
                errno: Errno::ENOENT,
                ..
            }) => return Ok(()),
            other => other?,
        };
        let cover = if directory {
            let empty = self
                .empty
                .as_ref()
                .ok_or_else(|| Failure::Said("there is no empty directory".into()))?;
            mount::clone_tree(empty)?
        } else {
            mount::clone_tree(device(Path::new("/dev/null"), (1, 3))?)?
        };
        mount::set_attributes(&cover, Attributes::FIXED, None)?;
        Ok(mount::attach(&cover, &target)?)
    }

    pub(super) fn tmpfs(&self, path: &Path, bytes: u64, mode: u32) -> Result<()> {
        let made = new_tmpfs(bytes, mode, Attributes::DATA)?;
        let target = self.open_destination(path, DIRECTORY)?;
        Ok(mount::attach(&made, &target)?)
    }

    pub(super) fn volume(
        &mut self,
        source: Option<&Path>,
        destination: &Path,
        read_only: bool,
    ) -> Result<()> {
        let attributes = if read_only {
            Attributes::FIXED
        } else {
            Attributes::DATA
        };
        let tree = match source {
            Some(path) => own_tree(Source::WithoutLinks, path, attributes)?,
            None => {
                let sent = self
                    .sent
                    .next()
                    .ok_or_else(|| Failure::Said("a volume did not come".into()))?;
                mount::set_attributes(&sent, attributes, None)?;
                sent
            }
        };
        let target = self.open_destination(destination, OFlag::O_PATH)?;
        let (from, to) = (
            directory::kind(&tree)? == Kind::Directory,
            directory::kind(&target)? == Kind::Directory,
        );
        if from != to {
            let kind = |directory| if directory { "a directory" } else { "a file" };
            return Err(Failure::Said(format!(
                "{} is {} in the image and {} on the host\n  fix: name another place in the image, or {} of the host",
                destination.display(),
                kind(to),
                kind(from),
                kind(to)
            )));
        }
        Ok(mount::attach(&tree, &target)?)
    }

    /// A destination that the operator chose. A link of the image on the way would move the mount to a place that nobody chose, and Landlock's
    /// rules and the audit, which go by the name, would be about another one.
    fn open_destination(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        open::open_beneath(self.root()?, inside, flags).map_err(|error| match error.errno {
            Errno::ELOOP => Failure::Said(format!(
                "{} is a link in the image, or leads through one\n  fix: name the place that it leads to",
                path.display()
            )),
            Errno::ENOTDIR => Failure::Said(format!(
                "{} is no directory in the image, or leads through a file\n  fix: name a directory, or a place that is not in the image",
                path.display()
            )),
            _ => Failure::Sys(error),
        })
    }
}

/// A memory file system with a cap on its bytes and, since each inode costs kernel memory too, on their number.
pub(super) fn new_tmpfs(bytes: u64, mode: u32, attributes: Attributes) -> Result<OwnedFd> {
    let (size, mode) = (
        mount::option(&bytes.to_string())?,
        mount::option(&format!("{mode:o}"))?,
    );
    let inodes = mount::option(&(bytes / 4096).clamp(64, 1 << 20).to_string())?;
    let options = [
        (c"size", Some(size.as_c_str())),
        (c"mode", Some(mode.as_c_str())),
        (c"nr_inodes", Some(inodes.as_c_str())),
    ];
    Ok(mount::new_mount(c"tmpfs", &options, attributes)?)
}

/// A device node of the host, proven to be the one it claims: a planted file or another device is refused (CVE-2025-31133).
pub(super) fn device(path: &Path, number: (u64, u64)) -> Result<OwnedFd> {
    let node = directory::open_path(path, OFlag::O_PATH)?;
    match directory::kind(&node)? {
        Kind::Character(major, minor) if (major, minor) == number => Ok(node),
        other @ (Kind::Directory
        | Kind::File
        | Kind::Character(..)
        | Kind::Block
        | Kind::Socket
        | Kind::Other) => Err(Failure::Said(format!(
            "{} is {other:?} and not the device {}:{}",
            path.display(),
            number.0,
            number.1
        ))),
    }
}

/// Writes below the `/proc/sys` of a descriptor proven to be procfs (CVE-2019-16884): the value acts on this process's own namespaces.
pub(super) fn sysctl(path: &Path, value: &str) -> Result<()> {
    let proc = directory::open_path(Path::new("/proc"), DIRECTORY)?;
    if process::filesystem_type(&proc)? != PROC_SUPER_MAGIC {
        return Err(Failure::Said("/proc is not procfs".into()));
    }
    let file = open::open_beneath(&proc, &Path::new("sys").join(path), OFlag::O_WRONLY)?;
    if process::filesystem_type(&file)? != PROC_SUPER_MAGIC {
        return Err(Failure::Said(format!(
            "/proc/sys/{} is not procfs",
            path.display()
        )));
    }
    Ok(directory::write_value(
        file.as_fd(),
        value.as_bytes(),
        &path.display().to_string(),
    )?)
}

/// What is in place now is what was planned, and the root takes no write.
pub(super) fn verify() -> Result<()> {
    for (path, magic, name) in [
        ("/", OVERLAYFS_SUPER_MAGIC, "overlay"),
        ("/proc", PROC_SUPER_MAGIC, "proc"),
        ("/dev", TMPFS_MAGIC, "tmpfs"),
    ] {
        let found = process::filesystem_type(directory::open_path(Path::new(path), DIRECTORY)?)?;
        if found != magic {
            return Err(Failure::Said(format!(
                "{path} should be {name} and is of type {found:#x}"
            )));
        }
    }
    let root = directory::open_path(Path::new("/"), DIRECTORY)?;
    match directory::make_file(&root, Path::new(".airtight-verify"), b"", 0o600) {
        Err(SysError {
            errno: Errno::EROFS,
            ..
        }) => Ok(()),
        Err(error) => Err(Failure::Said(format!(
            "a write to / should be refused as read-only: {error}"
        ))),
        Ok(()) => Err(Failure::Said("/ takes writes".into())),
    }
}
