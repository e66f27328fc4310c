//! The last step: find the program inside the root and become it.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;

use airtight_sys::{process, springboard as board};
use nix::errno::Errno;

use super::Failure;

/// What execvp(3) uses where `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns only when the program, or the springboard before it, cannot be executed.
pub(super) fn exec(args: &[String], env: &[String], springboard: Option<&OwnedFd>) -> Failure {
    let Some(name) = args.first() else {
        return Failure::Said("there is no program to execute".into());
    };
    let fail = |errno| Failure::Exec {
        program: name.clone(),
        errno,
    };
    let program = match find(name, env) {
        Ok(program) => program,
        Err(errno) => return fail(errno),
    };
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(text.as_str()))
            .collect::<Result<Vec<_>, _>>()
    };
    match (CString::new(program), strings(args), strings(env)) {
        (Ok(program), Ok(mut args), Ok(env)) => match springboard {
            None => fail(process::exec(&program, &args, &env).errno),
            Some(springboard) => {
                args.splice(0..0, [board::NAME.to_owned(), program]);
                Failure::Sys(process::exec_fd(springboard, &args, &env))
            }
        },
        _ => fail(Errno::EINVAL),
    }
}

/// What [`exec`] will find, as far as it can be seen before: a directory or a file without an execute bit is no program.
pub(super) fn look_up(name: &str, env: &[String]) -> Result<(), Errno> {
    let program = find(name, env)?;
    let found = std::fs::metadata(program)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if found.is_dir() {
        Err(Errno::EISDIR)
    } else if found.permissions().mode() & 0o111 == 0 {
        Err(Errno::EACCES)
    } else {
        Ok(())
    }
}

/// A name with a slash is a path; another is looked up as execvp(3) does: the first that may be executed, and EACCES only when no later one is found.
fn find(name: &str, env: &[String]) -> Result<String, Errno> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut error = Errno::ENOENT;
    for directory in path.split(':') {
        let candidate = format!(
            "{}/{name}",
            if directory.is_empty() { "." } else { directory }
        );
        match std::fs::metadata(&candidate) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
                return Ok(candidate);
            }
            Ok(_) => error = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_along_the_path_and_a_path_is_taken_as_it_is() {
        let env = |path: &str| vec![format!("PATH={path}")];
        for (name, program, env, want) in [
            ("a path", "/no/such", env("/bin"), Ok("/no/such".to_owned())),
            (
                "a name",
                "sh",
                env("/nowhere:/bin"),
                Ok("/bin/sh".to_owned()),
            ),
            (
                "missing",
                "no-such-program",
                env("/bin"),
                Err(Errno::ENOENT),
            ),
            ("not executable", "passwd", env("/etc"), Err(Errno::EACCES)),
            ("empty", "", env("/bin"), Err(Errno::ENOENT)),
        ] {
            assert_eq!(find(program, &env), want, "{name}");
        }
    }
}
