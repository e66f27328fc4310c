//! The steps that only bundles have, inside: each one call, carried out or the end.

mod attributes;
mod below;
mod cgroup_view;
mod console;
mod copy_up;
mod filter;
mod home;
mod lifecycle;
mod masks;
mod mounts;
mod namespaces;
mod nodes;
mod root;
mod workdir;

use airtight_plan::bundle::BundleStep;

use super::{Child, Result};

pub(super) use filter::Filters;
pub(super) use root::Held;

impl Child<'_> {
    pub(super) fn bundle(&mut self, step: &BundleStep) -> Result<()> {
        match step {
            BundleStep::JoinNamespaces => self.join_namespaces(),
            BundleStep::Reborn { namespaces } => self.reborn(namespaces),
            BundleStep::RootPropagation { propagation } => root::propagation(*propagation),
            BundleStep::AttachRoot { path } => self.attach_root(path),
            BundleStep::Mount(mount) => self.bundle_mount(mount),
            BundleStep::DeviceNodes { nodes, bind } => self.device_nodes(nodes, *bind),
            BundleStep::MaskPath { path } => self.mask_path(path),
            BundleStep::ReadonlyPath { path } => self.readonly_path(path),
            BundleStep::ReadonlyRoot => root::read_only(),
            BundleStep::MakeWorkingDirectory { path } => self.make_working_directory(path),
            BundleStep::MoveRoot => self.move_root(),
            BundleStep::FinalPropagation { propagation } => root::propagation(*propagation),
            BundleStep::Domainname { name } => attributes::domainname(name),
            BundleStep::AwaitHooks => self.await_hooks(),
            BundleStep::ContainerHooks { hooks } => self.container_hooks(hooks),
            BundleStep::Home { uid } => self.look_up_home(*uid),
            BundleStep::TryWorkingDirectory { path } => self.try_working_directory(path),
            BundleStep::LastWorkingDirectory { path } => self.last_working_directory(path),
            BundleStep::LookUpProgram => self.look_up_program(),
            BundleStep::AwaitStart => self.await_start(),
            BundleStep::PreserveDescriptors { count } => self.preserve_descriptors(*count),
            BundleStep::Console { size, bind } => self.console(*size, *bind),
            BundleStep::OomScoreAdj { value } => attributes::oom_score_adj(*value),
            BundleStep::Scheduler(scheduler) => attributes::scheduler(scheduler),
            BundleStep::IoPriority(priority) => attributes::io_priority(*priority),
            BundleStep::Affinity { cpus } => attributes::affinity(cpus),
            BundleStep::EveryCpu => attributes::every_cpu(),
            BundleStep::Personality { flags } => attributes::personality(*flags),
            BundleStep::ExactRlimit {
                resource,
                soft,
                hard,
            } => attributes::rlimit(*resource, *soft, *hard),
            BundleStep::LowerRlimit {
                resource,
                soft,
                hard,
            } => attributes::lower_rlimit(*resource, *soft, *hard),
            BundleStep::RefuseFileStreams => super::streams::refuse(),
            BundleStep::OwnStreams { uid } => attributes::own_streams(*uid),
            BundleStep::BoundingSet { keep } => attributes::bounding_set(*keep),
            BundleStep::KeepCapabilities => attributes::keep_capabilities(),
            BundleStep::SetCapabilities(sets) => attributes::capabilities(sets),
            BundleStep::ExecLabel { module, label } => attributes::exec_label(*module, label),
            BundleStep::Scopes {
                abstract_unix,
                signal,
            } => attributes::scopes(*abstract_unix, *signal),
            BundleStep::SeccompProfile(profile) => self.seccomp_profile(profile.listener.as_ref()),
        }
    }
}
