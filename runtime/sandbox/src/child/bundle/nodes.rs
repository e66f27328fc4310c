//! `/dev` of a bundle.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use airtight_plan::ChildStep;
use airtight_plan::bundle::{BundleStep, NodeKind, NodeStep};
use airtight_sys::directory::{self, open_path_follow};
use airtight_sys::{SysError, mount, open, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::super::{Child, Failure, Result};
use super::below::{Links, Missing};

/// Links that programs expect.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

impl Child<'_> {
    pub(in crate::child) fn device_nodes(&mut self, nodes: &[NodeStep], bind: bool) -> Result<()> {
        let dev = self
            .place(Path::new("/dev"), Links::Refuse, Missing::Directory)
            .map_err(|failure| match failure {
                Failure::Sys(SysError {
                    errno: Errno::ELOOP,
                    ..
                }) => {
                    Failure::Said("/dev is a link in the image\n  fix: make it a directory".into())
                }
                other @ (Failure::Sys(_)
                | Failure::Said(_)
                | Failure::Gate(_)
                | Failure::Exec { .. }) => other,
            })?
            .fd;
        // A node has exactly the mode that was asked for, from its first moment on: nothing is changed by name afterwards.
        process::set_umask(0);
        let made = nodes
            .iter()
            .try_for_each(|node| self.node(node, &dev, bind));
        process::set_umask(0o022);
        made?;
        // The container's own devpts; an image's node there would be a terminal of another.
        if !self.is_mounted(Path::new("/dev/ptmx")) {
            open::remove_if_there(&dev, "ptmx".as_ref())?;
            link(&dev, "ptmx", "pts/ptmx")?;
        }
        for (name, target) in LINKS {
            // Kernels without it have nothing to lead to.
            if name != "core" || Path::new(target).exists() {
                link(&dev, name, target)?;
            }
        }
        Ok(())
    }

    fn node(&self, node: &NodeStep, dev: &OwnedFd, bind: bool) -> Result<()> {
        // `/dev/ptmx` is always the link; what a mount of the config put there is what the config wants there.
        if node.path == Path::new("/dev/ptmx") || self.is_mounted(&node.path) {
            return Ok(());
        }
        let said = |failure| match failure {
            Failure::Sys(error) => Failure::Said(format!("device {:?}: {error}", node.path)),
            other @ (Failure::Said(_) | Failure::Gate(_) | Failure::Exec { .. }) => other,
        };
        if bind && node.kind != NodeKind::Fifo {
            return self.bind_node(node).map_err(said);
        }
        match self.make_node(node, dev) {
            // A user namespace that was not planned: the runtime itself runs in one.
            Err(Failure::Sys(SysError {
                errno: Errno::EPERM,
                ..
            })) if node.kind != NodeKind::Fifo => self.bind_node(node),
            other => other,
        }
        .map_err(said)
    }

    fn make_node(&self, node: &NodeStep, dev: &OwnedFd) -> Result<()> {
        let (Some(parent), Some(name)) = (node.path.parent(), node.path.file_name()) else {
            return Err(Failure::Said(format!("{:?} names no node", node.path)));
        };
        let placed;
        let parent = if parent == Path::new("/dev") {
            dev
        } else {
            placed = self.place(parent, Links::Follow, Missing::Directory)?.fd;
            &placed
        };
        match open::make_node(
            parent,
            name,
            format(node.kind),
            node.mode & 0o7777,
            (node.major, node.minor),
        ) {
            // Made as ours; another's is given by descriptor, once it is seen that it is still the node.
            Ok(()) if (node.uid, node.gid) == (0, 0) => Ok(()),
            Ok(()) => {
                let made = right_node(parent, name, node)?;
                Ok(open::own_opened(&made, node.uid, node.gid)?)
            }
            // One that is there already must be the right one, and no link to one (CVE-2025-31133).
            Err(SysError {
                errno: Errno::EEXIST,
                ..
            }) => right_node(parent, name, node).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    /// The host's own node, over a file that is made where there is nothing.
    fn bind_node(&self, node: &NodeStep) -> Result<()> {
        let source = open_path_follow(&node.path, OFlag::O_PATH)?;
        if !is(&source, node)? {
            return Err(Failure::Said(format!(
                "{:?} of the host is not the device {}:{}",
                node.path, node.major, node.minor
            )));
        }
        let tree = mount::clone_tree(&source)?;
        let place = self.place(&node.path, Links::Refuse, Missing::File)?;
        Ok(mount::attach(&tree, &place.fd)?)
    }

    fn is_mounted(&self, path: &Path) -> bool {
        self.inputs.plan.child.iter().any(|step| {
            matches!(step, ChildStep::Bundle(BundleStep::Mount(mount)) if mount.destination == path)
        })
    }
}

fn right_node(parent: &OwnedFd, name: &OsStr, node: &NodeStep) -> Result<OwnedFd> {
    let there = open::open_name(parent, name)?;
    if is(&there, node)? {
        Ok(there)
    } else {
        Err(Failure::Said(format!(
            "{:?} is in the image already, and is not the device {}:{}",
            node.path, node.major, node.minor
        )))
    }
}

fn is(fd: &OwnedFd, node: &NodeStep) -> Result<bool> {
    let (format_there, number) = directory::node(fd)?;
    Ok(format_there == format(node.kind)
        && (node.kind == NodeKind::Fifo || number == (node.major, node.minor)))
}

fn format(kind: NodeKind) -> SFlag {
    match kind {
        NodeKind::Character => SFlag::S_IFCHR,
        NodeKind::Block => SFlag::S_IFBLK,
        NodeKind::Fifo => SFlag::S_IFIFO,
    }
}

/// What is there already stays, as it may be the image's own choice; a directory or a file too.
fn link(dev: &OwnedFd, name: &str, target: &str) -> Result<()> {
    match directory::make_link(dev, Path::new(name), Path::new(target)) {
        Err(SysError {
            errno: Errno::EEXIST,
            ..
        }) => Ok(()),
        other => Ok(other?),
    }
}
