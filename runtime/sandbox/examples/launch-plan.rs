//! Launches a plan from a JSON file, as `airtight plan --json` prints it: the denial tests take one step out and show that the attempt then succeeds.
//! No part of the product; it can do nothing that the caller could not.
//!
//! ```text
//! launch-plan PLAN.json CACHE_DIR
//! ```

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use airtight_plan::Plan;
use airtight_sandbox::{LaunchContext, Outcome, launch};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err((code, message)) => {
            // A closed stderr leaves nobody to tell.
            drop(writeln!(std::io::stderr(), "launch-plan: {message}"));
            ExitCode::from(code)
        }
    }
}

fn run() -> Result<u8, (u8, String)> {
    let ours = |message: String| (125, message);
    let mut args = std::env::args_os().skip(1);
    let (Some(file), Some(cache_dir)) = (args.next(), args.next()) else {
        return Err(ours("usage: launch-plan PLAN.json CACHE_DIR".into()));
    };
    let text =
        std::fs::read(&file).map_err(|error| ours(format!("{}: {error}", file.display())))?;
    let plan: Plan = serde_json::from_slice(&text)
        .map_err(|error| ours(format!("{}: {error}", file.display())))?;
    let context = LaunchContext {
        cache_dir: PathBuf::from(cache_dir),
        timings: false,
    };
    let launched =
        launch(&plan, &context).map_err(|error| (error.exit_code(), error.to_string()))?;
    Ok(match launched.outcome {
        Outcome::Exited(code) => code,
        Outcome::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(255),
        Outcome::TimedOut => 124,
    })
}
