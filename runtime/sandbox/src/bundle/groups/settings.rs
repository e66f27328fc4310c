//! Writing limits.

use std::os::fd::OwnedFd;

use airtight_plan::bundle::Setting;
use airtight_sys::SysError;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::dir::Dir;
use crate::error::Cause;

/// All of them, or the first that the kernel refuses.
pub(super) fn write(
    dir: &Dir,
    settings: &[Setting],
    warnings: &mut Vec<String>,
) -> Result<(), Cause> {
    let mut waiting: Vec<&Setting> = settings.iter().collect();
    let mut file = LastFile(None);
    loop {
        let mut later = Vec::new();
        let mut refused = None;
        for setting in &waiting {
            match one(dir, setting, &mut file) {
                Ok(None) => {}
                Ok(Some(warning)) => warnings.push(warning),
                Err(error) if setting.again && error.errno == Errno::EINVAL => {
                    later.push(*setting);
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(explain(dir, setting, error)),
            }
        }
        match refused {
            // Nothing of this round fitted, and nothing will.
            Some(error) if later.len() == waiting.len() => return Err(error.into()),
            Some(_) => waiting = later,
            None => return Ok(()),
        }
    }
}

/// The file of the last setting, open: rules of devices are a dozen writes to one.
struct LastFile(Option<(String, OwnedFd)>);

impl LastFile {
    fn write(&mut self, dir: &Dir, name: &str, value: &str) -> Result<(), SysError> {
        let file = match self.0.take() {
            Some((of, file)) if of == name => file,
            _ => dir.file(name, OFlag::O_WRONLY)?,
        };
        let done = dir.write_to(&file, name, value);
        self.0 = Some((name.to_owned(), file));
        done
    }
}

/// A warning for what this kernel has no file for.
fn one(dir: &Dir, setting: &Setting, last: &mut LastFile) -> Result<Option<String>, SysError> {
    let error = match last.write(dir, &setting.file, &setting.value) {
        Err(error) if error.errno == Errno::ENOENT => error,
        done => return done.map(|()| None),
    };
    let error = match &setting.instead {
        Some((file, value)) => match dir.write(file, value) {
            Err(error) if error.errno == Errno::ENOENT => error,
            done => return done.map(|()| None),
        },
        None => error,
    };
    if setting.may_lack {
        return Ok(Some(format!(
            "this kernel has no {}, so {} is not set",
            setting.file, setting.value
        )));
    }
    Err(error)
}

fn explain(dir: &Dir, setting: &Setting, error: SysError) -> Cause {
    let Setting { file, value, .. } = setting;
    if error.errno == Errno::ENOENT {
        // Not by its own words: callers take them for those of a program that is missing.
        return Cause::Refused {
            problem: format!("cannot set {file}: this host has no such limit"),
            fix: "leave it out, or turn its controller on".into(),
        };
    }
    let v1_memory = file == "memory.limit_in_bytes" && error.errno == Errno::EBUSY;
    if !v1_memory {
        return error.into();
    }
    // What it is and what it was at most, which says what would do.
    let shown = |name| {
        dir.number(name)
            .ok()
            .flatten()
            .map_or("unknown".to_owned(), |it| it.to_string())
    };
    Cause::Refused {
        problem: format!(
            "unable to set memory limit to {value} (current usage: {}, peak usage: {})",
            shown("memory.usage_in_bytes"),
            shown("memory.max_usage_in_bytes")
        ),
        fix: "give a larger one".into(),
    }
}
