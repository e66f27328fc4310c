//! A bundle and the way it is asked for become a plan, and the record of the container to be.

use std::path::{Path, PathBuf};

use airtight_plan::bundle::{CompatOptions, Config, NamespaceKind, compat, group_plan, warnings};
use airtight_plan::{ChildStep, Plan};
use airtight_sandbox::groups::hierarchies;
use airtight_sandbox::{StateDocument, compat_facts};
use airtight_sys::process;

use crate::args::{CreateArgs, Global, Rootless};
use crate::config;
use crate::record::Record;
use crate::report::{self, Failure};

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
    pub(crate) terminal: bool,
}

/// What `--compat` makes of a bundle.
pub(crate) fn prepare(global: &Global, args: &CreateArgs, then: Then) -> Result<Prepared, Failure> {
    let (preserve_fds, listen) = preserved(args.preserve_fds)?;
    let bundle = directory(&args.bundle)?;
    let config::Parsed {
        value: config,
        warnings: told,
    } = config::load(&bundle)?;
    let facts = compat_facts(&config);
    let rootless = match global.rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Auto => facts.euid != 0 || facts.in_user_namespace,
    };
    let linux = &config.linux;
    let path = Some(linux.cgroups_path.as_str());
    let groups = group_plan(
        path,
        &args.id,
        global.systemd_cgroup,
        &linux.resources,
        &hierarchies().map_err(Failure::Groups)?,
        rootless,
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
    Ok(Prepared {
        plan,
        terminal: config
            .process
            .as_ref()
            .is_some_and(|process| process.terminal),
        record: record(&config, how),
    })
}

fn record(config: &Config, how: CompatOptions) -> Record {
    let own = |kind| {
        config
            .linux
            .namespaces
            .iter()
            .any(|entry| entry.kind == kind && entry.path.is_none())
    };
    Record {
        document: StateDocument {
            oci_version: config.oci_version.clone(),
            id: how.id,
            bundle: how.bundle,
            annotations: config.annotations.clone(),
        },
        process: None,
        rootfs: config.root.path.clone(),
        created: report::now(),
        startable: config.process.is_some(),
        own_pid_namespace: own(NamespaceKind::Pid),
        start_hooks: !config.hooks.start_container.is_empty(),
        poststart: config.hooks.poststart.clone(),
        poststop: config.hooks.poststop.clone(),
        groups: how
            .groups
            .groups
            .into_iter()
            .map(|group| group.place)
            .collect(),
    }
}

/// Without links, as the state document tells it.
fn directory(bundle: &Path) -> Result<PathBuf, Failure> {
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
