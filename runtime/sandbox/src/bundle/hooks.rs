//! Hooks: programs that the bundle names, run one after the other with the container's state on their standard input.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use airtight_plan::bundle::Hook;
use airtight_sys::poll::{Watch, poll};
use airtight_sys::{process, signal};
use std::os::fd::AsFd as _;

/// Of each stream, in a message.
const MOST_SHOWN: u64 = 4096;

/// Runs those of one point of the lifecycle in order; the first that fails ends it, and the message says which.
pub(crate) fn run_hooks(
    point: &str,
    hooks: &[Hook],
    state: &str,
    at: Place<'_>,
) -> Result<(), String> {
    for (number, hook) in hooks.iter().enumerate() {
        run(hook, state, at)
            .map_err(|why| format!("error running {point} hook #{number}: {why}"))?;
    }
    Ok(())
}

/// Where a hook runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// As a program of the host, in this directory.
    Host(Option<&'a Path>),
    /// In the container's root, as a program of the image, with this environment where it has none of its own: what is in the runtime's is nothing to
    /// tell it.
    Container(&'a [String]),
}

/// Runs one hook of the host's and waits for its end.
///
/// Its streams are files in memory: a hook that does not read, or leaves a child behind that holds its output open, keeps nobody waiting.
///
/// # Errors
/// What went wrong, in words: it cannot be executed, it ended with another code than 0, its time was up (it is killed then).
pub fn run_hook(hook: &Hook, state: &str, directory: Option<&Path>) -> Result<(), String> {
    run(hook, state, Place::Host(directory))
}

fn run(hook: &Hook, state: &str, at: Place<'_>) -> Result<(), String> {
    let memory = |name, content: &str| {
        process::memory_file(name, content.as_bytes()).map_err(|error| error.to_string())
    };
    let (mut out, mut err) = (memory(c"hook-out", "")?, memory(c"hook-err", "")?);
    let share = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Place::Host(Some(directory)) = at {
        command.current_dir(directory);
    }
    // A hook of the host without `env` has the runtime's, as callers that rely on PATH expect.
    let env = match at {
        Place::Container(env) if hook.env.is_empty() => Some(env),
        Place::Host(_) if hook.env.is_empty() => None,
        Place::Host(_) | Place::Container(_) => Some(&hook.env[..]),
    };
    if let Some(env) = env {
        command.env_clear();
        command.envs(env.iter().filter_map(|entry| entry.split_once('=')));
    } else {
        // Of this process, not of a runtime that the hook may call.
        command.env_remove(super::own_file::MARK);
    }
    command
        .stdin(Stdio::from(memory(c"hook-state", state)?))
        .stdout(Stdio::from(share(&out)?))
        .stderr(Stdio::from(share(&err)?));
    let mut child = command
        .spawn()
        .map_err(|error| format!("{}: {}", hook.path.display(), plain(&error)))?;
    if let Some(seconds) = hook.timeout_seconds
        && !ends_within(child.id(), Duration::from_secs(seconds))?
    {
        drop(child.kill());
        drop(child.wait());
        return Err(format!("hook ran past specified timeout of {seconds}.0s"));
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status_signal(status)) {
        (Some(code), _) => format!("exit status {code}"),
        (None, SIGSYS) => "signal: bad system call".to_owned(),
        (None, number) => format!("signal {number}"),
    };
    Err(format!(
        "error running hook: {how}, stdout: {}, stderr: {}",
        text(&mut out),
        text(&mut err)
    ))
}

/// What a filter ends a process with, by the words that callers look for.
const SIGSYS: i32 = nix::libc::SIGSYS;

fn status_signal(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().unwrap_or(0)
}

/// The process is our child and not reaped, so the number is its own.
fn ends_within(pid: u32, limit: Duration) -> Result<bool, String> {
    let pidfd = i32::try_from(pid)
        .map_err(|error| error.to_string())
        .and_then(|pid| signal::pidfd_open(pid).map_err(|error| error.to_string()))?;
    poll(&mut [Watch::readable(pidfd.as_fd())], Some(limit)).map_err(|error| error.to_string())
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(MOST_SHOWN).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("({error})"),
    }
}

/// Without the number that std adds.
fn plain(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |raw| nix::errno::Errno::from_raw(raw).desc().to_lowercase(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout_seconds: Option<u64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["X=1".into()],
            timeout_seconds,
        }
    }

    #[test]
    fn hooks_get_the_state_and_say_how_they_failed() {
        for (name, script, timeout, want) in [
            (
                "state and env",
                "read s; test \"$s$X\" = '{}1'",
                None,
                Ok(()),
            ),
            ("input unread", "true", Some(10), Ok(())),
            (
                "a child holds the output",
                "sleep 1000 & echo $! >&2; kill $!",
                Some(10),
                Ok(()),
            ),
            (
                "a code",
                "echo out; echo err >&2; exit 3",
                None,
                Err(
                    "error running poststart hook #0: error running hook: exit status 3, stdout: out\n, stderr: err\n",
                ),
            ),
            (
                "too long",
                "exec sleep 1000",
                Some(0),
                Err("error running poststart hook #0: hook ran past specified timeout of 0.0s"),
            ),
        ] {
            let ran = run_hooks(
                "poststart",
                &[hook(script, timeout)],
                "{}",
                Place::Host(None),
            );
            assert_eq!(ran, want.map_err(str::to_owned), "{name}");
        }
        let missing = Hook {
            path: "/no/such".into(),
            ..hook("", None)
        };
        assert_eq!(
            run_hook(&missing, "{}", None),
            Err("/no/such: no such file or directory".to_owned())
        );
    }
}
