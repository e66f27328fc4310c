//! What went wrong, in one message on stderr, and the exit code: the only place for either.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use airtight_image::{one_line, with_fix};
use airtight_profiles::{Excess, ProfileError};
use airtight_sandbox::{LaunchError, Outcome};

use crate::ask::Wrong;

/// The fault is airtight's or the request's, as `docker run` and its like say it.
const OURS: u8 = 125;
/// As timeout(1).
const TIMED_OUT: u8 = 124;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("{}: {problem}\n  fix: {fix}", path.display())]
    File {
        path: PathBuf,
        problem: String,
        fix: &'static str,
    },
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("{}", beyond(.0))]
    Beyond(Vec<Excess>),
    #[error(transparent)]
    Refused(#[from] airtight_plan::Refusal),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Image(#[from] airtight_image::Error),
    #[error(transparent)]
    Build(#[from] airtight_build::BuildError),
    #[error(transparent)]
    Explain(#[from] airtight_build::ExplainError),
    #[error("cannot write to stdout")]
    Output(#[source] io::Error),
}

/// Says it on stderr, once.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    match failure {
        // `--help` and `--version` are no faults: clap prints them on stdout.
        Failure::Usage(error) if !error.use_stderr() => match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(OURS),
        },
        // The reader has what it wanted.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => {
            say(&text(failure));
            ExitCode::from(code(failure))
        }
    }
}

/// How `airtight run` ends after a launch.
pub(crate) fn outcome(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Exited(code) => ExitCode::from(code),
        Outcome::Signaled(signal) => {
            ExitCode::from(u8::try_from(signal).unwrap_or(0).saturating_add(128))
        }
        Outcome::TimedOut => {
            say("airtight: the sandbox ran into its --timeout and was ended");
            ExitCode::from(TIMED_OUT)
        }
    }
}

/// A finding that is no failure of the command, with the exit code of one.
pub(crate) fn finding(text: &str) -> ExitCode {
    say(&format!("airtight: {text}"));
    ExitCode::from(OURS)
}

/// One line for people.
pub(crate) fn say(line: &str) {
    let text = format!("{}\n", line.trim_end());
    airtight_sandbox::tell_caller(&text);
}

/// Data for the caller.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// A value as JSON, stable and readable.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
    print(&format!("{text}\n"))
}

fn code(failure: &Failure) -> u8 {
    match failure {
        Failure::Launch(error) => error.exit_code(),
        _ => OURS,
    }
}

/// The message with its causes, outermost first: one line, and one for what to do. Whatever an image or a host put into it, no other
/// line of ours is forged and no terminal steered.
fn text(failure: &Failure) -> String {
    if let Failure::Usage(error) = failure {
        let text = error.to_string();
        return format!(
            "airtight: {}",
            text.strip_prefix("error: ").unwrap_or(&text)
        );
    }
    let mut text = format!("airtight: {failure}");
    let mut cause = failure.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Many an error names its cause itself.
        if !text.contains(&words) {
            text.push_str(&format!(": {words}"));
        }
        cause = error.source();
    }
    match failure {
        // Each value was made one line as it came in.
        Failure::Beyond(_) => text,
        // It has no fix; what looks like one is in the program's name, which is the image's.
        Failure::Launch(LaunchError::Exec { .. }) => one_line(&text),
        _ => with_fix(&text),
    }
}

fn beyond(excess: &[Excess]) -> String {
    let mut text = "the launch asks for more than this host's ceiling allows".to_owned();
    for Excess { key, item, fix } in excess {
        let [key, item, fix] = [key, item.as_str(), fix].map(one_line);
        text.push_str(&format!("\n  `{key}`: {item}\n    fix: {fix}"));
    }
    text.push_str("\n  fix: as said for each, or go on without them all: --narrow");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_name_its_causes_and_a_fix() {
        let excess = |key, item: &str, fix: &str| Excess {
            key,
            item: item.into(),
            fix: fix.into(),
        };
        for (name, failure, want) in [
            (
                "a flag",
                Failure::Wrong(Wrong::new("--memory x", "is not a size", "write bytes")),
                "airtight: `--memory x`: is not a size\n  fix: write bytes",
            ),
            (
                "a file",
                Failure::File {
                    path: "a.env".into(),
                    problem: "is not there".into(),
                    fix: "name one",
                },
                "airtight: a.env: is not there\n  fix: name one",
            ),
            (
                "a ceiling",
                Failure::Beyond(vec![
                    excess(
                        "connect",
                        "redis:6379",
                        "name it yourself: --connect redis:6379",
                    ),
                    excess("public", "all", "--public"),
                ]),
                "airtight: the launch asks for more than this host's ceiling allows\n  `connect`: redis:6379\n    fix: name it yourself: --connect \
                 redis:6379\n  `public`: all\n    fix: --public\n  fix: as said for each, or go on without them all: --narrow",
            ),
            (
                "a cause",
                Failure::Output(io::Error::other("the disk is full")),
                "airtight: cannot write to stdout: the disk is full",
            ),
        ] {
            assert_eq!(text(&failure), want, "{name}");
            assert_eq!(code(&failure), 125, "{name}");
        }
    }

    #[test]
    fn no_value_forges_a_line_or_steers_the_terminal() {
        const HOSTILE: &str = "\u{1b}[2Jx\nairtight: all is well\n  fix: none";
        let shown = r"\u{1b}[2Jx\nairtight: all is well\n  fix: none";
        for (name, failure, want) in [
            (
                "a file",
                Failure::File {
                    path: HOSTILE.into(),
                    problem: "is not there".into(),
                    fix: "name one",
                },
                format!("airtight: {shown}: is not there\n  fix: name one"),
            ),
            (
                "a ceiling",
                Failure::Beyond(vec![Excess {
                    key: "connect",
                    item: HOSTILE.into(),
                    fix: "name it".into(),
                }]),
                format!(
                    "airtight: the launch asks for more than this host's ceiling allows\n  `connect`: {shown}\n    fix: name it\n  fix: as said for \
                     each, or go on without them all: --narrow"
                ),
            ),
        ] {
            assert_eq!(text(&failure), want, "{name}");
        }
    }

    #[test]
    fn the_exit_code_is_the_payloads_unless_it_is_ours() {
        for (name, ended, want) in [
            ("its own", Outcome::Exited(3), 3),
            ("a signal", Outcome::Signaled(9), 137),
            ("a time-out", Outcome::TimedOut, 124),
        ] {
            assert_eq!(
                format!("{:?}", outcome(ended)),
                format!("{:?}", ExitCode::from(want)),
                "{name}"
            );
        }
    }
}
