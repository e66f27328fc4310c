//! `linux.resources.unified`: files of cgroup v2 by their own names.

use super::Setting;
use crate::bundle::Resources;
use crate::control::{Refusal, Result};

const LONGEST_NAME: usize = 255;
const LONGEST_VALUE: usize = 4096;

/// These act on processes rather than limit them: whoever is named in a config would be moved, stopped or killed.
const NO_LIMITS: [&str; 4] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.freeze",
];

pub(super) fn settings(resources: &Resources, available: &[String]) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (file, value) in &resources.unified {
        check(file, available)?;
        if value.len() > LONGEST_VALUE {
            return Err(refused(
                format!("the value of {file:?} is too long"),
                "give a shorter one",
            ));
        }
        // The kernel takes one line a write.
        settings.extend(value.lines().map(|line| Setting::new(file, line)));
    }
    Ok(settings)
}

fn check(file: &str, available: &[String]) -> Result<()> {
    let fix = "name a file of cgroup v2, like `memory.high`";
    if file.contains('/') {
        let problem = format!("unified resource {file:?} must be a file name (no slashes)");
        return Err(refused(problem, fix));
    }
    let plain = file.len() <= LONGEST_NAME
        && file
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let controller = file
        .split_once('.')
        .filter(|(controller, parameter)| plain && !controller.is_empty() && !parameter.is_empty());
    let Some((controller, _)) = controller else {
        let problem = format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER");
        return Err(refused(problem, fix));
    };
    if NO_LIMITS.contains(&file) {
        return Err(refused(
            format!("unified resource {file:?} is no limit"),
            fix,
        ));
    }
    if controller == "cgroup" || available.iter().any(|name| name == controller) {
        return Ok(());
    }
    let problem =
        format!("unified resource {file:?} can't be set: controller {controller:?} not available");
    Err(refused(
        problem,
        "turn the controller on for this host or this user",
    ))
}

fn refused(problem: impl Into<String>, fix: &str) -> Refusal {
    Refusal::new("linux.resources.unified", problem, fix)
}
