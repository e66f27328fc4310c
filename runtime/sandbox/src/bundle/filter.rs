//! A launch's system-call filter, on the host's side.

use std::os::fd::OwnedFd;

use airtight_plan::bundle::BundleStep;
use airtight_plan::{ChildStep, Plan};
use airtight_sys::socket;

use crate::error::Cause;
use crate::seccomp::{self, Program};
use crate::{LaunchContext, LaunchError};

/// Ahead of the clone: compiling takes longer than all the rest, and what is compiled is kept.
///
/// # Errors
/// The filter is none that the kernel takes.
pub(super) fn program(
    plan: &Plan,
    context: &LaunchContext,
) -> Result<Option<Program>, LaunchError> {
    plan.child
        .iter()
        .find_map(|step| match step {
            ChildStep::Seccomp(filter) => Some(seccomp::program(filter, &context.cache_dir)),
            _ => None,
        })
        .transpose()
        .map_err(LaunchError::at("seccomp"))
}

/// The caller's own, which may be loaded besides airtight's.
///
/// # Errors
/// As [`program`].
pub(super) fn callers_program(
    plan: &Plan,
    context: &LaunchContext,
) -> Result<Option<Program>, LaunchError> {
    plan.child
        .iter()
        .find_map(|step| match step {
            ChildStep::Bundle(BundleStep::SeccompProfile(profile)) => {
                Some(seccomp::profile_program(profile, &context.cache_dir))
            }
            _ => None,
        })
        .transpose()
        .map_err(LaunchError::at("seccomp"))
}

/// While the host's paths are in view, and so that nobody who listens is told before there is anything to leave behind.
///
/// # Errors
/// `connect(2)`'s.
pub(super) fn listener(plan: &Plan) -> Result<Option<OwnedFd>, LaunchError> {
    let listener = plan.child.iter().find_map(|step| match step {
        ChildStep::Bundle(BundleStep::SeccompProfile(profile)) => profile.listener.as_ref(),
        _ => None,
    });
    listener
        .map(|listener| {
            socket::connect_unix(&listener.path).map_err(|error| Cause::Refused {
                problem: format!("failed to connect with seccomp agent: {error}"),
                fix: "name a listening socket in `linux.seccomp.listenerPath`".into(),
            })
        })
        .transpose()
        .map_err(LaunchError::at("seccomp"))
}
