//! The payload's terminal.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use airtight_sys::directory::{Kind, kind};
use airtight_sys::terminal::{self, Size};
use airtight_sys::{SysError, mount, open, pty};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::super::{Child, Result};
use crate::rendezvous::{self, Message};

impl Child<'_> {
    /// Of the container's own devpts: below the root that is being made, or of the root that this process is in.
    pub(in crate::child) fn console(&mut self, size: Option<(u16, u16)>, bind: bool) -> Result<()> {
        let (master, peer) = match &self.rootfs {
            Some(root) => pty::open_pair_below(root)?,
            None => pty::open_pair()?,
        };
        if let Some((columns, rows)) = size {
            terminal::set_size(&master, Size { rows, columns })?;
        }
        if bind && let Some(root) = &self.rootfs {
            bind_console(root, &peer)?;
        }
        pty::take(&peer)?;
        Ok(rendezvous::tell(
            &self.inputs.sock,
            &Message::Terminal(master),
        )?)
    }
}

/// By descriptor on both sides: neither a link in the place of `/dev/console` nor another file under the peer's name is mounted (CVE-2025-52565).
fn bind_console(root: &OwnedFd, peer: &OwnedFd) -> Result<()> {
    let dev = open::open_in_root(root, Path::new("dev"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    match open::create(&dev, OsStr::new("console"), 0o620) {
        Err(error) if error.errno != Errno::EEXIST => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    let target = open::open_beneath(
        &dev,
        Path::new("console"),
        OFlag::O_PATH | OFlag::O_NOFOLLOW,
    )?;
    match kind(&target)? {
        Kind::File | Kind::Character(..) => {}
        Kind::Directory | Kind::Block | Kind::Socket | Kind::Other => {
            return Err(SysError::new("open", "/dev/console is no file", Errno::ENOTSUP).into());
        }
    }
    Ok(mount::attach(mount::clone_tree(peer)?, &target)?)
}
