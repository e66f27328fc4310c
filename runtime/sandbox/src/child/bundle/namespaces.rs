//! Namespaces that the parent opened, and being born again in new ones.

use std::collections::BTreeSet;

use airtight_plan::Namespace;
use airtight_sys::namespace::{self, Forked};
use airtight_sys::process;

use super::super::{Child, Result};
use crate::bundle::join_all;
use crate::parent;
use crate::rendezvous::{self, Message};

impl Child<'_> {
    pub(in crate::child) fn join_namespaces(&mut self) -> Result<()> {
        let side = self.inputs.bundle;
        Ok(join_all(&side.namespaces, side.pid_joined)?)
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
