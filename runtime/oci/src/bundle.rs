//! A bundle's config.json, understood: a [`Spec`], or the list of what cannot be honoured. Pure.
//!
//! What airtight gives is fixed: its own `/proc` and `/dev`, every namespace, no capability, its own filter. A config that asks for less
//! than that, or for something else, would not get it, so it is refused by key and never silently changed.

use std::path::{Path, PathBuf};

use airtight_plan::{Audit, Init, Process, Spec, Terminal};
use serde_json::{Map, Value};

use crate::document::{Object, Problems};
use crate::{linux, mounts};

/// The profile that a bundle carries.
const PROFILE: &str = "dev.airtight.profile.v1";

/// A config.json in checked types.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// `layers` holds the rootfs as written: relative to the bundle, or absolute.
    pub(crate) spec: Spec,
    /// Canonical JSON of a profile.
    pub(crate) profile: Option<String>,
    /// Below `/proc`: to be covered.
    pub(crate) masked: Vec<PathBuf>,
}

/// Reads the whole document, so that one message tells all that is wrong with it.
pub(crate) fn bundle(config: Map<String, Value>, id: &str) -> Result<Bundle, Problems> {
    let mut problems = Problems::default();
    let mut config = Object::root(config);
    version(&mut config, &mut problems);
    let root = root(&mut config, &mut problems);
    let process = process(&mut config, &mut problems);
    let hostname = config
        .text("hostname", &mut problems)
        .filter(|name| !name.is_empty());
    let tmpfs = mounts::mounts(&mut config, &mut problems);
    let linux = linux::linux(&mut config, &mut problems);
    let profile = annotation(&mut config, &mut problems);
    config.finish(&mut problems);
    match (process, root) {
        (Some(process), Some(root)) if problems.is_empty() => Ok(Bundle {
            spec: Spec {
                id: id.to_owned(),
                hostname: hostname.unwrap_or_else(|| id.to_owned()),
                layers: vec![root],
                // Nobody has read the programs of a bundle.
                write_execute: Vec::new(),
                process,
                tmpfs,
                volumes: Vec::new(),
                limits: linux.limits,
                connect: Vec::new(),
                publish: Vec::new(),
                listen: [].into(),
                public: false,
                init: Init::Payload,
                audit: Audit::Stderr,
                accepted: [].into(),
            },
            profile,
            masked: linux.masked,
        }),
        _ => Err(problems),
    }
}

fn version(config: &mut Object, problems: &mut Problems) {
    match config.text("ociVersion", problems) {
        Some(version) if version.starts_with("1.") => {}
        Some(_) => problems.add("ociVersion", "is not 1.x"),
        None => problems.add("ociVersion", "is missing"),
    }
}

fn root(config: &mut Object, problems: &mut Problems) -> Option<PathBuf> {
    let Some(mut root) = config.object("root", problems) else {
        problems.add("root", "is missing");
        return None;
    };
    if root.flag("readonly", problems) != Some(true) {
        problems.add(
            "root.readonly",
            "is not true: the rootfs is never writable here; give writable paths as tmpfs mounts",
        );
    }
    let path = root
        .path("path", problems)
        .filter(|path| path != Path::new(""));
    if path.is_none() {
        problems.add("root.path", "is missing");
    }
    root.finish(problems);
    path
}

fn process(config: &mut Object, problems: &mut Problems) -> Option<Process> {
    let Some(mut process) = config.object("process", problems) else {
        problems.add("process", "is missing");
        return None;
    };
    let terminal = match process.flag("terminal", problems) {
        Some(true) => Terminal::Own,
        Some(false) | None => Terminal::Inherit,
    };
    let args = process.texts("args", problems);
    let env = process.texts("env", problems);
    let cwd = process.path("cwd", problems);
    if args.is_empty() {
        problems.add("process.args", "is missing or empty");
    }
    if cwd.is_none() {
        problems.add("process.cwd", "is missing");
    }
    capabilities(&mut process, problems);
    if process.flag("noNewPrivileges", problems) == Some(false) {
        problems.add("process.noNewPrivileges", "is false: it is always set here");
    }
    let (uid, gid, additional_gids) = user(&mut process, problems);
    process.finish(problems);
    Some(Process {
        args,
        env,
        cwd: cwd?,
        uid,
        gid,
        additional_gids,
        terminal,
    })
}

fn user(process: &mut Object, problems: &mut Problems) -> (u32, u32, Vec<u32>) {
    // The specification has root where nothing is written; the plan refuses that by name.
    let Some(mut user) = process.object("user", problems) else {
        return (0, 0, Vec::new());
    };
    let uid = user.id("uid", problems).unwrap_or(0);
    let gid = user.id("gid", problems).unwrap_or(0);
    let mut additional = Vec::new();
    for (at, value) in user.array("additionalGids", problems).iter().enumerate() {
        match value.as_u64().and_then(|gid| u32::try_from(gid).ok()) {
            Some(gid) => additional.push(gid),
            None => problems.add(&user.key(&format!("additionalGids[{at}]")), "is not an id"),
        }
    }
    if user
        .integer("umask", problems)
        .is_some_and(|umask| umask != 0o022)
    {
        problems.add(
            "process.user.umask",
            "is not 18 (022), which is what a payload gets here",
        );
    }
    user.finish(problems);
    (uid, gid, additional)
}

fn capabilities(process: &mut Object, problems: &mut Problems) {
    let Some(mut sets) = process.object("capabilities", problems) else {
        return;
    };
    for set in [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ] {
        let names = sets.texts(set, problems);
        if !names.is_empty() {
            problems.add(
                &sets.key(set),
                "is not empty: no payload has a capability here",
            );
        }
    }
    sets.finish(problems);
}

/// Unknown annotations are no error: the specification says so.
fn annotation(config: &mut Object, problems: &mut Problems) -> Option<String> {
    config
        .object("annotations", problems)?
        .text(PROFILE, problems)
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
