//! The steps that only bundles have, on the host's side, and what `create`, `exec` and the other verbs of a bundle need of the host.

mod create;
mod facts;
mod filter;
pub mod groups;
mod hooks;
mod limits;
mod namespaces;
mod own_file;
mod sources;
mod start;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::cgroup::Joins;
use airtight_plan::bundle::{BundleParentStep, Hook, NamespaceKind};
use serde_json::{Value, json};

use crate::parent::Parent;
use crate::{LaunchContext, LaunchError};

pub use create::{Created, create, run};
pub use facts::{compat_facts, own_ids, process_facts};
pub use hooks::run_hook;
pub(crate) use hooks::{Place, run_hooks};
pub(crate) use namespaces::join_all;
pub use own_file::run_from_fixed_file;
pub use start::{StartError, start};

/// What a bundle's launch needs besides its plan.
#[derive(Debug)]
pub struct BundleContext {
    pub launch: LaunchContext,
    pub document: StateDocument,
    /// The container's first process, where this launch adds one more.
    pub first: Option<i32>,
    /// The container's root is that of the host, by its config.
    pub host_root: bool,
    /// Where `start` writes, open for reading and writing: so it is never at its end, and its path is not needed inside. `None`: the payload starts at once.
    pub fifo: Option<OwnedFd>,
    /// Who gets the master of the payload's terminal.
    pub console: Console,
    /// Who gets a pidfd of the process (`--pidfd-socket`), connected.
    pub pidfd_socket: Option<OwnedFd>,
    /// What the launch goes on with, and the caller should be told.
    pub warnings: RefCell<Vec<String>>,
    /// When each step of the child was done, after the launch's own start; filled where `launch` asks for it.
    pub stamps: RefCell<Vec<(String, Duration)>>,
}

#[derive(Debug)]
pub enum Console {
    /// The listener of `--console-socket`, connected.
    Socket(OwnedFd),
    /// The caller's own streams, which the supervisor relays.
    Relay,
}

/// What hooks and listeners are told of a container (`runtime.md`, State).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDocument {
    pub oci_version: String,
    pub id: String,
    pub bundle: PathBuf,
    pub annotations: BTreeMap<String, String>,
}

impl StateDocument {
    /// With this status, and the host's number of the container's process where there is one.
    #[must_use]
    pub fn json(&self, status: &str, pid: Option<i32>) -> Value {
        let Self {
            oci_version,
            id,
            bundle,
            annotations,
        } = self;
        let mut document = json!({ "ociVersion": oci_version, "id": id, "status": status, "bundle": bundle.to_string_lossy() });
        if let Some(pid) = pid {
            document["pid"] = pid.into();
        }
        if !annotations.is_empty() {
            document["annotations"] = json!(annotations);
        }
        document
    }
}

/// What only a bundle's launch has, on the host's side.
#[derive(Debug, Default)]
pub(crate) struct Side<'a> {
    /// `None` in a launch that is no bundle's.
    pub(crate) context: Option<&'a BundleContext>,
    /// Opened for the child to join, each with its kind.
    pub(crate) namespaces: Vec<(NamespaceKind, OwnedFd)>,
    /// Our own, which our hooks belong in, while children to come go elsewhere.
    own: Vec<OwnedFd>,
    /// There was no way back, so a hook would run elsewhere.
    pub(crate) left_own: bool,
    /// The parent joined the opened pid namespace for its children.
    pub(crate) pid_joined: bool,
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    /// Opened for the child to join.
    pub(crate) groups: Joins,
    /// Taken back with this value, unless the container's process is on record.
    made: Option<groups::Made>,
    /// Executed in the program's place, and becomes it.
    pub(crate) springboard: Option<OwnedFd>,
    /// A caller's own filter, compiled.
    pub(crate) program: Option<crate::seccomp::Program>,
    /// Connected to who answers for a caller's filter.
    pub(crate) listener: Option<OwnedFd>,
}

pub(crate) use sources::{open_source, planned};

impl Parent<'_> {
    pub(crate) fn bundle(&mut self, step: &BundleParentStep) -> Result<(), LaunchError> {
        match step {
            BundleParentStep::OpenNamespaces { namespaces } => self
                .open_namespaces(namespaces)
                .map_err(LaunchError::at("namespaces")),
            BundleParentStep::JoinPidForChildren => self
                .join_pid_for_children()
                .map_err(LaunchError::at("namespaces")),
            BundleParentStep::TimeOffsets { offsets } => self
                .time_offsets(offsets)
                .map_err(LaunchError::at("time namespace")),
            // In runc's words, which callers look for.
            BundleParentStep::Groups(plan) => self
                .groups(plan)
                .map_err(LaunchError::at("unable to apply cgroup configuration")),
            BundleParentStep::Limits {
                rlimits,
                oom_score_adj,
            } => self
                .limits(rlimits, *oom_score_adj)
                .map_err(LaunchError::at("limits")),
            BundleParentStep::JoinGroups { groups, pid, named } => self
                .join_groups(groups, *pid, *named)
                .map_err(LaunchError::at("cgroups")),
            BundleParentStep::SendMounts { mounts } => {
                self.send_mounts(mounts).map_err(LaunchError::at("mounts"))
            }
            BundleParentStep::Springboard => {
                let made = airtight_sys::springboard::springboard();
                self.bundle.springboard = Some(made.map_err(LaunchError::at("springboard"))?);
                Ok(())
            }
            BundleParentStep::RuntimeHooks {
                prestart,
                create_runtime,
            } => {
                self.bundle.create_runtime.clone_from(create_runtime);
                self.bundle.prestart.clone_from(prestart);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_document_has_the_specifications_keys() {
        let mut document = StateDocument {
            oci_version: "1.2.0".into(),
            id: "c".into(),
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
        };
        assert_eq!(
            document.json("stopped", None),
            json!({ "ociVersion": "1.2.0", "id": "c", "status": "stopped", "bundle": "/b" })
        );
        document.annotations.insert("k".into(), "v".into());
        assert_eq!(
            document.json("creating", Some(7)),
            json!({ "ociVersion": "1.2.0", "id": "c", "status": "creating", "bundle": "/b", "pid": 7, "annotations": { "k": "v" } })
        );
    }
}
