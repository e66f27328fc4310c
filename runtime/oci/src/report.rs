//! What went wrong: on stderr, and in the file of `--log` in the form that callers of OCI runtimes read. The only place for either, and for
//! exit codes: as runc's, 1 for every fault that is not the payload's.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airtight_plan::{ChildStep, Plan};
use airtight_profiles::{Excess, ProfileError};
use airtight_sandbox::{Cause, LaunchError, Outcome};
use airtight_sys::SysError;
use serde_json::json;

use crate::args::{Global, LogFormat};
use crate::document::Problems;

const FAULT: u8 = 1;
/// Of `exec`, whose other codes are its process's own.
const EXEC_FAULT: u8 = 255;
/// As timeout(1). A bundle cannot ask for a time-out, so only a later way of asking could lead here.
const TIMED_OUT: u8 = 124;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    // runc's words from here on, which its callers look for.
    #[error("container does not exist")]
    NotThere,
    #[error("container with given ID already exists")]
    Exists,
    #[error("invalid container ID format")]
    Id,
    #[error("container not running")]
    NotRunning,
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: &'static str },
    #[error("{0}")]
    Said(String),
    #[error("another command works on the container")]
    Busy,
    #[error("{0}")]
    Sys(#[from] SysError),
    #[error("cgroups: {0}")]
    Groups(Cause),
    #[error("{}: {problem}\n  fix: {fix}", path.display())]
    File {
        path: PathBuf,
        problem: String,
        fix: &'static str,
    },
    #[error("{}: asks for what is not given here{problems}\n  fix: mend the file; `airtight-runtime spec` writes one that is taken", path.display())]
    Config { path: PathBuf, problems: Problems },
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("{}", beyond(.0))]
    Beyond(Vec<Excess>),
    #[error(transparent)]
    Refused(#[from] airtight_plan::Refusal),
    #[error("unable to start container process: {}", launch(.0))]
    Launch(#[from] LaunchError),
    /// The same of a process that `exec` adds.
    #[error("exec failed: unable to start container process: {}", launch(.0))]
    Exec(LaunchError),
    #[error("cannot write to stdout: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn said(text: &str) -> Self {
        Self::Said(text.to_owned())
    }

    /// As Go's programs, and so those that read their messages, have it: without the error's number.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        let text = error.to_string();
        let plain = text.split(" (os error").next().unwrap_or(&text);
        Self::Said(format!("{what}: {}", plain.to_lowercase()))
    }
}

/// What podman and others look for to tell a missing program (127) from one that cannot be executed (126).
fn launch(error: &LaunchError) -> String {
    let LaunchError::Exec { program, errno } = error else {
        return error.to_string();
    };
    match errno.desc().to_lowercase() {
        missing if missing == "no such file or directory" && !program.contains('/') => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        missing if missing == "no such file or directory" => {
            format!("exec: {program:?}: stat {program}: {missing}")
        }
        directory if directory == "is a directory" => {
            format!("exec: {program:?}: {directory}: permission denied")
        }
        other => format!("exec: {program:?}: {other}"),
    }
}

pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(FAULT)
        };
    }
    let text = error.to_string();
    say(text.strip_prefix("error: ").unwrap_or(&text));
    ExitCode::from(FAULT)
}

pub(crate) fn failure(failure: &Failure, args: &Global, exec: bool) -> ExitCode {
    let message = failure.to_string();
    say(&message);
    log(args, "error", &message);
    ExitCode::from(match failure {
        // A shell's codes for a program that is not there, or cannot be executed; runc's for all else.
        Failure::Exec(error @ LaunchError::Exec { .. }) => error.exit_code(),
        _ if exec => EXEC_FAULT,
        _ => FAULT,
    })
}

pub(crate) fn outcome(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Exited(code) => ExitCode::from(code),
        Outcome::Signaled(signal) => {
            ExitCode::from(u8::try_from(signal).unwrap_or(0).saturating_add(128))
        }
        Outcome::TimedOut => ExitCode::from(TIMED_OUT),
    }
}

/// For `--debug`: into the log, else on stderr.
pub(crate) fn debug(args: &Global, message: &str) {
    match (&args.log, args.debug) {
        (_, false) => {}
        (Some(_), true) => log(args, "debug", message),
        (None, true) => {
            airtight_sandbox::tell_caller(&format!("{}\n", line(args, "debug", message)));
        }
    }
}

/// The whole of a plan is what `airtight plan` is for: its table would be a tenth of this binary.
pub(crate) fn steps(args: &Global, plan: &Plan) {
    if args.debug {
        let steps: Vec<_> = plan.child.iter().map(ChildStep::name).collect();
        debug(args, &format!("the child's steps: {}", steps.join(" ")));
    }
}

/// Worth a word and no refusal.
pub(crate) fn warn(args: &Global, message: &str) {
    match &args.log {
        Some(_) => log(args, "warning", message),
        None => say(&format!("warning: {message}")),
    }
}

pub(crate) fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::Output)
}

pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
    print(&format!("{text}\n"))
}

fn say(message: &str) {
    let text = format!("airtight-runtime: {}\n", message.trim_end());
    airtight_sandbox::tell_caller(&text);
}

/// One line, appended. A log that cannot be written is no reason to hide the error that stderr has, nor to give another.
fn log(args: &Global, level: &str, message: &str) {
    let Some(path) = &args.log else { return };
    let line = line(args, level, message);
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        say(&format!("--log {}: {error}", path.display()));
    }
}

fn line(args: &Global, level: &str, message: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    match args.log_format {
        LogFormat::Json => json!({ "level": level, "msg": message, "time": time(now) }).to_string(),
        LogFormat::Text => format!("time=\"{}\" level={level} msg={message:?}", time(now)),
    }
}

/// This moment, to the nanosecond.
pub(crate) fn now() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = time(now);
    format!(
        "{}.{:09}Z",
        seconds.trim_end_matches('Z'),
        now.subsec_nanos()
    )
}

/// RFC 3339 in UTC, by the calendar of days since 1970 (Howard Hinnant's civil_from_days).
fn time(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, clock) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}

fn beyond(excess: &[Excess]) -> String {
    let mut text = "the bundle asks for more than this host's ceiling allows".to_owned();
    for Excess { key, item, fix } in excess {
        text.push_str(&format!("\n  `{key}`: {item}\n    fix: {fix}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), want);
        }
    }
}
