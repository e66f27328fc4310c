//! One launch: the parent's steps in order, the child's beside them, then supervision. Whatever fails, nothing of it stays: each thing made is owned by
//! a value that takes it back.

use std::os::fd::AsFd as _;

use airtight_plan::{ChildStep, ParentStep, Plan};
use airtight_sys::{namespace, process};

use crate::audit::Sink;
use crate::parent::Parent;
use crate::supervise::{self, Running, Signals};
use crate::{LaunchContext, LaunchError, Launched, seccomp};

/// Carries `plan` out and waits for its end.
///
/// # Errors
/// The first step that failed; the payload has not run then, unless the error is the supervisor's own.
pub fn launch(plan: &Plan, context: &LaunchContext) -> Result<Launched, LaunchError> {
    let started = process::now();
    process::fill_standard_streams().map_err(LaunchError::at("standard streams"))?;
    process::refuse_directory_streams().map_err(LaunchError::at("standard streams"))?;
    // The child is a fork of this process.
    namespace::assert_single_threaded().map_err(LaunchError::at("clone"))?;
    let filter = plan.child.iter().find_map(|step| {
        if let ChildStep::Seccomp(filter) = step {
            Some(filter)
        } else {
            None
        }
    });
    // Ahead of the clone: compiling takes longer than all the rest, and what is compiled is kept.
    let program = filter
        .map(|filter| seccomp::program(filter, &context.cache_dir))
        .transpose()
        .map_err(LaunchError::at("seccomp"))?;
    let sink = Sink::open(&plan.audit, &plan.id).map_err(LaunchError::at("audit"))?;
    // Before anything exists that a signal could leave behind.
    let signals = Signals::hold().map_err(LaunchError::at("signals"))?;

    let mut parent =
        Parent::new(plan, context, program, sink).map_err(LaunchError::at("rendezvous"))?;
    for step in &plan.parent {
        if *step != ParentStep::Supervise {
            parent.apply(step)?;
        }
    }
    let control = parent.release()?;
    let gate = parent.gate.as_ref().map(|gate| gate.pidfd().as_fd());
    let Some(child) = &parent.child else {
        return Err(LaunchError::Child {
            step: "clone".into(),
            message: "the plan clones no child".into(),
        });
    };
    let sink = parent.sink.take();
    let ended = supervise::run(Running {
        plan,
        child: child.pidfd().as_fd(),
        control,
        gate,
        signals,
        sink,
        terminal: None,
    })?;
    let timings = ended
        .stamps
        .into_iter()
        .map(|(step, at)| (step, at.saturating_sub(started)))
        .collect();
    Ok(Launched {
        outcome: ended.outcome,
        timings,
    })
}
