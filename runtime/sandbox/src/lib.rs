//! Carries a [`Plan`](airtight_plan::Plan) out and supervises what it launched. Decides nothing: each step is one call into `airtight-sys`, which
//! succeeds or ends the launch.
//!
//! [`probe`] finds the facts that the plan is made from; [`launch`] runs the two loops. The caller has one thread, since the child is a
//! fork of it. What the host must have is what [`doctor`] lists.

#![forbid(unsafe_code)]

mod audit;
mod bundle;
mod cgroup;
mod child;
pub mod doctor;
mod error;
mod flow;
mod gate;
mod init;
mod janitor;
mod launch;
mod parent;
mod probe;
mod rendezvous;
pub mod seccomp;
mod streams;
mod supervise;
mod tell;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

pub use bundle::groups;
pub use bundle::{
    BundleContext, Console, Created, StartError, StateDocument, compat_facts, create, own_ids,
    process_facts, run, run_from_fixed_file, run_hook, start,
};
pub use error::{Cause, LaunchError};
pub use launch::launch;
pub use probe::{ProbeInput, plain_layers, probe};
pub use tell::{tell_caller, visible};

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The payload's own exit code. Where pid 1 is ours, 128+n tells that signal n ended the payload.
    Exited(u8),
    Signaled(i32),
    /// The plan's time-out ended it.
    TimedOut,
}

/// What a launch needs besides its plan.
#[derive(Clone, Debug)]
pub struct LaunchContext {
    /// Compiled filters are kept below it.
    pub cache_dir: PathBuf,
    /// Measure each step.
    pub timings: bool,
}

/// The end of a launch, and when each step of the child was done (empty unless asked for), from the start of [`launch`].
#[derive(Debug)]
pub struct Launched {
    pub outcome: Outcome,
    pub timings: Vec<(String, Duration)>,
}
