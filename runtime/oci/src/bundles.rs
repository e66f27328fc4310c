//! A bundle and the way it is asked for become a plan, and the record of the container to be.

use std::path::{Path, PathBuf};

use airtight_plan::bundle::{CompatOptions, compat, group_plan, needs_fixed_file, warnings};
use airtight_plan::{ChildStep, Plan};
use airtight_sandbox::groups::hierarchies;
use airtight_sandbox::{compat_facts, run_from_fixed_file};
use airtight_sys::process;

use crate::args::{CreateArgs, Global, Rootless};
use crate::record::{Mode, Record};
use crate::report::{self, Failure};
use crate::{config, confined};

/// What the process does once everything is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Waits for `start`.
    Wait,
    /// Runs at once.
    Run,
}

/// A container to be.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    /// The config.json that the plan was made of.
    pub(crate) config: String,
    pub(crate) terminal: bool,
}

/// Who serves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stays {
    /// The command, until the end.
    Yes,
    /// Nobody: the command returns.
    No,
}

/// What is made of a bundle, by the operator's word alone.
pub(crate) fn prepare(
    global: &Global,
    args: &CreateArgs,
    then: Then,
    stays: Stays,
) -> Result<Prepared, Failure> {
    if global.compat {
        honoured(global, args, then)
    } else {
        confined::prepare(global, args, then, stays)
    }
}

/// `--compat`.
fn honoured(global: &Global, args: &CreateArgs, then: Then) -> Result<Prepared, Failure> {
    let (preserve_fds, listen) = preserved(args.preserve_fds)?;
    let bundle = directory(&args.bundle)?;
    let config::Loaded { parsed, text } = config::load(&bundle)?;
    let config::Parsed {
        value: config,
        warnings: told,
        unknown: _,
    } = parsed;
    let facts = compat_facts(&config);
    if !facts.fixed_file && needs_fixed_file(&config) {
        return Err(run_from_fixed_file().into());
    }
    let linux = &config.linux;
    let path = Some(linux.cgroups_path.as_str());
    let groups = group_plan(
        path,
        &args.id,
        global.systemd_cgroup,
        &linux.resources,
        &hierarchies().map_err(Failure::Groups)?,
        is_rootless(global, facts.euid != 0 || facts.in_user_namespace),
    )?;
    for warning in told
        .iter()
        .chain(&warnings(&config))
        .chain(&groups.warnings)
    {
        report::warn(global, warning);
    }
    let how = CompatOptions {
        id: args.id.clone(),
        bundle,
        groups,
        no_pivot: args.no_pivot,
        new_keyring: !args.no_new_keyring,
        preserve_fds,
        await_start: then == Then::Wait,
    };
    let mut plan = compat(&config, &facts, &how)?;
    if let Some(count) = listen {
        pass_listeners(&mut plan, count);
    }
    report::steps(global, &plan);
    Ok(Prepared {
        plan,
        config: text,
        terminal: config
            .process
            .as_ref()
            .is_some_and(|process| process.terminal),
        record: Record::new(&config, how.id, how.bundle, &how.groups, Mode::Compat),
    })
}

/// As `--rootless` says, else as it looks.
pub(crate) fn is_rootless(global: &Global, looks: bool) -> bool {
    match global.rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Auto => looks,
    }
}

/// Without links, as the state document tells it.
pub(crate) fn directory(bundle: &Path) -> Result<PathBuf, Failure> {
    bundle
        .canonicalize()
        .map_err(|error| Failure::io(&format!("chdir {}", bundle.display()), &error))
}

/// How many descriptors from 3 on go to the container, and how many of them are listeners of `$LISTEN_FDS`. Each must be open: else one of our own would
/// take its number.
pub(crate) fn preserved(asked: u32) -> Result<(u32, Option<u32>), Failure> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let ours = number("LISTEN_PID") == Some(std::process::id());
    let listen = number("LISTEN_FDS").filter(|count| ours && *count > 0);
    let count = asked.saturating_add(listen.unwrap_or(0));
    for number in (3..).take(usize::try_from(count).unwrap_or(0)) {
        if !process::is_open(number) {
            return Err(Failure::Said(format!(
                "please check that preserved-fd {number} (of {count}) is present"
            )));
        }
    }
    Ok((count, listen))
}

/// As sd_listen_fds(3) has it: for the process that is pid 1 inside.
pub(crate) fn pass_listeners(plan: &mut Plan, count: u32) {
    for step in &mut plan.child {
        if let ChildStep::Exec { env, .. } = step {
            env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        }
    }
}
