//! The steps that only bundles have, on the host's side, and what `create`, `exec` and the other verbs of a bundle need of the host.

mod groups;
mod hooks;
mod namespaces;
mod sources;

use airtight_plan::bundle::BundleParentStep;

use crate::LaunchError;
use crate::parent::Parent;

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
            BundleParentStep::Groups(plan) => self.groups(plan).map_err(LaunchError::at("cgroups")),
            BundleParentStep::SendMounts { mounts } => {
                self.send_mounts(mounts).map_err(LaunchError::at("mounts"))
            }
            BundleParentStep::RuntimeHooks { hooks } => self.runtime_hooks(hooks),
        }
    }
}
