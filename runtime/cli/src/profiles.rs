//! `airtight profile`, and which profile a launch has.

use std::path::Path;

use airtight_profiles::{Profile, SHIPPED, TmpfsGrant, shipped};
use serde_json::{Value, json};

use crate::args::ProfileCommand;
use crate::report::{self, Failure};
use crate::{format, policy};

pub(crate) fn run(command: &ProfileCommand) -> Result<(), Failure> {
    match command {
        ProfileCommand::List { json: true } => report::print_json(&SHIPPED),
        ProfileCommand::List { json: false } => report::print(
            &SHIPPED
                .iter()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        ),
        ProfileCommand::Show { name, json: true } => report::print_json(&document(&named(name)?)),
        ProfileCommand::Show { name, json: false } => report::print(&text(&named(name)?)),
    }
}

/// The profile by name or file, else the image's own, else `base`.
pub(crate) fn chosen(name: Option<&str>, image: Option<&str>) -> Result<Profile, Failure> {
    match (name, image) {
        (Some(name), _) => named(name),
        (None, Some(json)) => Ok(Profile::from_canonical_json(json)?),
        (None, None) => named("base"),
    }
}

/// A shipped profile, or a file if the word looks like a path.
fn named(name: &str) -> Result<Profile, Failure> {
    if let Some(profile) = shipped(name) {
        return Ok(profile);
    }
    let path = Path::new(name);
    if !name.contains('/') && !name.ends_with(".toml") {
        let problem = "is neither a shipped profile nor a path".to_owned();
        return Err(Failure::File {
            path: path.into(),
            problem,
            fix: "name one of base, service, jit, build, or a file like ./app.profile.toml",
        });
    }
    Ok(Profile::parse(
        &policy::text(path, "name a *.profile.toml that can be read")?,
        path,
    )?)
}

/// The profile's own grants with their reasons, and the calls that it has in all.
fn document(profile: &Profile) -> Value {
    let written: Option<Value> = serde_json::from_str(&profile.canonical_json()).ok();
    let filter = profile.policy().filter();
    json!({ "profile": written, "syscalls": filter.allow, "enosys": filter.enosys })
}

fn text(profile: &Profile) -> String {
    let policy = profile.policy();
    let filter = policy.filter();
    let each = |items: Vec<String>| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(" ")
        }
    };
    let tmpfs = match &policy.tmpfs {
        TmpfsGrant::Only(paths) => each(
            paths
                .iter()
                .map(|(path, size)| format!("{} ({})", path.display(), format::bytes(*size)))
                .collect(),
        ),
        TmpfsGrant::Anywhere { each } => format!("anywhere, {} each", format::bytes(*each)),
    };
    let range = |(first, last): &(u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let rows = [
        (
            "extends",
            profile.extends().unwrap_or_else(|| "nothing".into()),
        ),
        (
            "connect",
            each(policy.connect.iter().map(ToString::to_string).collect()),
        ),
        ("public", yes(policy.public)),
        (
            "listen",
            each(policy.listen.ranges().iter().map(range).collect()),
        ),
        ("tmpfs", tmpfs),
        ("write-execute", yes(policy.write_execute)),
        ("open-files", policy.open_files.to_string()),
        ("processes", policy.processes.to_string()),
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut calls: Vec<String> = filter
        .allow
        .iter()
        .map(|rule| {
            if rule.when.is_empty() {
                rule.name.clone()
            } else {
                format!("{}(…)", rule.name)
            }
        })
        .collect();
    calls.dedup();
    format!(
        "{}\n{} system calls; (…) by argument\n{}",
        format::table(&rows),
        calls.len(),
        format::wrap(calls)
    )
}
