//! Namespaces that the parent opened, and being born again in new ones.

use std::collections::BTreeSet;
use std::path::Path;

use airtight_plan::Namespace;
use airtight_plan::bundle::NamespaceKind;
use airtight_sys::namespace::{self, Forked};
use airtight_sys::{directory, process};
use nix::fcntl::OFlag;

use super::super::{Child, Failure, Result};
use crate::bundle::join_all;
use crate::parent;
use crate::rendezvous::{self, Message};

impl Child<'_> {
    pub(in crate::child) fn join_namespaces(&mut self) -> Result<()> {
        let side = self.inputs.bundle;
        let before = root()?;
        join_all(&side.namespaces, side.pid_joined)?;
        let joins_mounts = side
            .namespaces
            .iter()
            .any(|(kind, _)| *kind == NamespaceKind::Mount);
        let further = side
            .context
            .is_some_and(|context| context.first.is_some() && !context.host_root);
        // Until its first process has changed its root, what is added would run in the host's, and lead the container there by `/proc/PID/root`.
        if joins_mounts && further && root()? == before {
            return Err(Failure::Said(
                "the container is still being created: its root is the host's".into(),
            ));
        }
        Ok(())
    }

    /// The process that goes on is a child of the parent's: so that is told of its end, and its number there is the one that counts.
    pub(in crate::child) fn reborn(&mut self, namespaces: &BTreeSet<Namespace>) -> Result<()> {
        match namespace::clone_sibling(parent::flags(namespaces.iter().copied()))? {
            Forked::Child => Ok(()),
            Forked::Parent { pidfd, .. } => {
                rendezvous::tell(&self.inputs.sock, &Message::Reborn(pidfd))?;
                process::exit_now(0)
            }
        }
    }
}

/// Device and inode of our root.
fn root() -> Result<(u64, u64)> {
    let root = directory::open_path(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    Ok(directory::identity(root)?)
}
