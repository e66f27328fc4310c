//! `airtight-runtime`: an OCI bundle through the one door. It knows nothing of images, stores or registries: the bundle is its border.
//!
//! This release has the foreground verb `run`, and `spec` and `features`; the life-cycle verbs are not there, and are not listed.

#![forbid(unsafe_code)]

mod args;
mod bundle;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the verbs of a life cycle read it")
)]
mod config;
mod document;
mod features;
mod linux;
mod mounts;
mod policy;
mod report;
mod run;
mod template;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use report::Failure;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return report::usage(&error),
    };
    command(&args).unwrap_or_else(|failure| report::failure(&failure, &args))
}

fn command(args: &Args) -> Result<ExitCode, Failure> {
    if args.systemd_cgroup {
        return Err(Failure::SystemdCgroup);
    }
    match &args.command {
        Command::Run { bundle, id } => return run::run(args, bundle, id),
        Command::Spec { bundle, rootless } => {
            template::write(bundle, template::which(args.compat, *rootless))?;
        }
        Command::Features => report::print_json(&features::features())?,
    }
    Ok(ExitCode::SUCCESS)
}
