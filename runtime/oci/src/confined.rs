//! What a bundle is by default: its asks narrowed to the profile and the host's ceiling. What lies beyond them is refused with the list, or left out and
//! told where the operator says so, by `--on-excess` or in the ceiling.

use std::collections::BTreeSet;
use std::path::Path;

use airtight_plan::bundle::airtight::{
    Beyond, Lifecycle, Wish, create, exec_airtight, further_process, wish,
};
use airtight_plan::bundle::{Config, GroupPlace, ProcessConfig, group_plan};
use airtight_plan::{Audit, Control, HostFacts, Plan};
use airtight_profiles::{OnExcess, Policy};
use airtight_sandbox::groups::hierarchies;
use airtight_sandbox::{ProbeInput, plain_layers, probe};

use crate::args::{CreateArgs, Global, OnExcess as Asked};
use crate::bundles::{Prepared, Stays, Then, directory, is_rootless, preserved};
use crate::config;
use crate::document::Problems;
use crate::policy::{self, Judged};
use crate::record::{Mode, Record};
use crate::report::{self, Failure};

/// `create` and `run`.
pub(crate) fn prepare(
    global: &Global,
    args: &CreateArgs,
    then: Then,
    stays: Stays,
) -> Result<Prepared, Failure> {
    let bundle = directory(&args.bundle)?;
    let config::Loaded { mut parsed, text } = config::load_confined(&bundle)?;
    for warning in &parsed.warnings {
        report::warn(global, warning);
    }
    let config = &mut parsed.value;
    sources(config, &bundle)?;
    let mut wish = wish(config, &parsed.unknown, &args.id);
    let facts = look(&wish);
    wish.spec.accepted = global.accept_shortfall.iter().copied().collect();
    options(args, &mut wish.beyond)?;
    let (policy, narrow) = judge(
        global,
        &bundle.join("config.json"),
        &facts,
        &mut wish,
        global.profile.as_deref(),
        false,
    )?;
    wish.extras.masked.retain(|path| !is_masked(path, &facts));
    if stays == Stays::Yes {
        wish.spec.audit = Audit::Stderr;
    }
    let path = Some(config.linux.cgroups_path.as_str());
    let rootless = is_rootless(global, facts.euid != 0);
    let mut groups = group_plan(
        path,
        &args.id,
        global.systemd_cgroup,
        &wish.resources,
        &hierarchies().map_err(Failure::Groups)?,
        rootless,
    )?;
    // Whoever wrote the config chose the path.
    groups.exclusive = true;
    for warning in &groups.warnings {
        report::warn(global, warning);
    }
    let plan = airtight_plan::plan(&wish.spec, &policy, &facts)?;
    let how = Lifecycle {
        groups,
        await_start: then == Then::Wait,
        foreground: stays == Stays::Yes,
    };
    let plan = create(plan, &wish.extras, &how)?;
    report::steps(global, &plan);
    let mode = Mode::Airtight {
        profile: global.profile.clone(),
        narrow,
        accepted: wish.spec.accepted.clone(),
    };
    Ok(Prepared {
        config: text,
        terminal: config
            .process
            .as_ref()
            .is_some_and(|process| process.terminal),
        record: Record::new(config, args.id.clone(), bundle, &how.groups, mode),
        plan,
    })
}

/// A process that `exec` adds.
#[derive(Debug)]
pub(crate) struct Further<'a> {
    pub(crate) container: &'a Config,
    pub(crate) process: &'a ProcessConfig,
    pub(crate) rootfs: &'a Path,
    pub(crate) id: &'a str,
    /// `--profile` of the container.
    pub(crate) profile: Option<&'a str>,
    /// What lay beyond was left out of the container, and so it is of this.
    pub(crate) narrow: bool,
    /// `--accept-shortfall` of the container.
    pub(crate) accepted: &'a BTreeSet<Control>,
    pub(crate) pid: i32,
    pub(crate) groups: &'a [GroupPlace],
    pub(crate) stays: Stays,
}

/// `exec`: one more process under the same rules, whatever the container's config or the caller says.
pub(crate) fn exec(global: &Global, path: &Path, further: &Further<'_>) -> Result<Plan, Failure> {
    // Its own asks were told when it was created.
    let mut wish = wish(further.container, &[], further.id);
    wish.spec.layers = vec![further.rootfs.to_owned()];
    wish.spec.accepted.clone_from(further.accepted);
    let facts = look(&wish);
    let (process, mut extras, beyond) = further_process(further.process);
    extras.seccomp = wish.extras.seccomp.take();
    wish.spec.process = process;
    wish.beyond = beyond;
    let (policy, _) = judge(
        global,
        path,
        &facts,
        &mut wish,
        further.profile,
        further.narrow,
    )?;
    let plan = airtight_plan::plan(&wish.spec, &policy, &facts)?;
    Ok(exec_airtight(
        plan,
        &extras,
        further.stays == Stays::Yes,
        further.pid,
        further.groups,
        facts.privileged,
    ))
}

/// At the host, and at what the container's root is on.
fn look(wish: &Wish) -> HostFacts {
    HostFacts {
        plain_layers: plain_layers(&wish.spec.layers),
        ..probe(&ProbeInput::default())
    }
}

/// The policy, and whether what lies beyond it is left out. All of it is told at once.
fn judge(
    global: &Global,
    path: &Path,
    facts: &HostFacts,
    wish: &mut Wish,
    profile: Option<&str>,
    narrowed_before: bool,
) -> Result<(Policy, bool), Failure> {
    let Judged {
        policy,
        excess,
        on_excess,
    } = policy::policy(&wish.spec, profile, wish.profile.as_deref(), facts)?;
    let narrow = match global.on_excess {
        Some(asked) => asked == Asked::Narrow,
        None => narrowed_before || on_excess == OnExcess::Narrow,
    };
    if !narrow && !wish.beyond.is_empty() {
        let mut problems = Problems::default();
        for beyond in &wish.beyond {
            problems.add(&beyond.key, &beyond.problem);
        }
        return Err(Failure::Config {
            path: path.to_owned(),
            problems,
        });
    }
    if !narrow && !excess.is_empty() {
        return Err(Failure::Beyond(excess));
    }
    for Beyond {
        key,
        problem,
        narrowed,
    } in &wish.beyond
    {
        report::warn(
            global,
            &format!("`{key}`: {problem}; narrowed to: {narrowed}"),
        );
    }
    for excess in &excess {
        report::warn(
            global,
            &format!(
                "`{}`: {}: beyond this host's ceiling; left out",
                excess.key, excess.item
            ),
        );
    }
    // What the policy left out is not asked for any more.
    wish.spec
        .tmpfs
        .retain(|tmpfs| tmpfs.size <= policy.tmpfs.allowed(&tmpfs.path));
    Ok((policy, narrow))
}

/// Without links, while it can be seen which of them lead where.
fn sources(config: &mut Config, bundle: &Path) -> Result<(), Failure> {
    for mount in &mut config.mounts {
        let bind = mount.kind == "bind"
            || mount
                .options
                .iter()
                .any(|option| option == "bind" || option == "rbind");
        if !bind {
            continue;
        }
        let source = bundle.join(&mount.source);
        let real = source
            .canonicalize()
            .map_err(|error| Failure::io(&source.display().to_string(), &error))?;
        mount.source = real
            .to_str()
            .ok_or_else(|| Failure::Said(format!("{}: is not UTF-8", real.display())))?
            .to_owned();
    }
    Ok(())
}

/// Options of the verb that ask for more than a config can.
fn options(args: &CreateArgs, beyond: &mut Vec<Beyond>) -> Result<(), Failure> {
    let mut add = |key: &str, problem: &str, narrowed: &str| {
        beyond.push(Beyond {
            key: key.into(),
            problem: problem.into(),
            narrowed: narrowed.into(),
        });
    };
    let (count, listen) = preserved(args.preserve_fds)?;
    if count > 0 {
        let key = if listen.is_some() {
            "LISTEN_FDS"
        } else {
            "--preserve-fds"
        };
        add(
            key,
            "descriptors of the caller's would lead out",
            "none are handed on",
        );
    }
    if args.no_new_keyring {
        add(
            "--no-new-keyring",
            "the caller's keys would be in reach",
            "a keyring of its own",
        );
    }
    if args.no_pivot {
        add(
            "--no-pivot",
            "the host's root would stay in reach",
            "the root is changed",
        );
    }
    Ok(())
}

/// It is covered in every sandbox.
fn is_masked(path: &Path, facts: &HostFacts) -> bool {
    path.strip_prefix("/proc").is_ok_and(|inner| {
        facts
            .proc_to_mask
            .iter()
            .any(|mask| inner.starts_with(&mask.path))
    })
}
