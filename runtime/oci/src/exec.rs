//! `exec`: one more process in a container that is there.

use std::cell::RefCell;
use std::io;
use std::path::{Component, Path};
use std::process::ExitCode;

use airtight_plan::bundle::{
    Capabilities, Config, ExecOptions, GroupPlace, NamespaceKind, ProcessConfig, capability_bit,
    exec as plan_exec, exec_needs_fixed_file, inherit,
};
use airtight_sandbox::{
    BundleContext, Created, LaunchContext, create as launch, process_facts, run as launch_and_wait,
    run_from_fixed_file,
};

use crate::args::{ExecArgs, Global};
use crate::bundles::{Stays, pass_listeners, preserved};
use crate::config;
use crate::confined::{self, Further};
use crate::create::{console, pidfd_socket, tell, write_pid};
use crate::record::{Mode, Process, Record};
use crate::report::{self, Failure};
use crate::state::{CONFIG, Home, Root, Status};

pub(crate) fn exec(global: &Global, args: &ExecArgs) -> Result<ExitCode, Failure> {
    let (preserve_fds, listen) = preserved(args.preserve_fds)?;
    let root = Root::find(global.root.as_deref())?;
    let home = root.home(&args.id)?;
    let record = home.known()?;
    let container_process = running(&home, &record, args.ignore_paused)?;
    let container = container(global, &home)?;
    let process = inherit(process(global, args, &container)?, &container);
    let groups = groups(&record.groups, &args.cgroup)?;
    let plan = match &record.mode {
        Mode::Airtight {
            profile,
            narrow,
            accepted,
        } => {
            if preserve_fds > 0 {
                return Err(Failure::said(
                    "--preserve-fds, LISTEN_FDS: no descriptor of the caller's is handed to a sandbox",
                ));
            }
            let further = Further {
                container: &container,
                process: &process,
                rootfs: &record.rootfs,
                id: &args.id,
                profile: profile.as_deref(),
                narrow: *narrow,
                accepted,
                pid: container_process.pid,
                groups: &groups,
                stays: if args.detach { Stays::No } else { Stays::Yes },
            };
            confined::exec(global, &home.dir().join(CONFIG), &further)?
        }
        Mode::Compat => {
            let mut facts = process_facts(&process);
            if !facts.fixed_file && exec_needs_fixed_file(&process, &container) {
                return Err(run_from_fixed_file().into());
            }
            if has_user_namespace(&container) {
                facts.setgroups = may_set_groups(container_process.pid);
            }
            let how = ExecOptions {
                id: args.id.clone(),
                pid: container_process.pid,
                groups,
                named_groups: !args.cgroup.is_empty(),
                new_keyring: true,
                preserve_fds,
            };
            let mut plan = plan_exec(&process, &container, &facts, &how)?;
            if let Some(count) = listen {
                pass_listeners(&mut plan, count);
            }
            plan
        }
    };
    let context = BundleContext {
        launch: LaunchContext {
            cache_dir: root.cache(),
            timings: global.debug,
        },
        document: record.document.clone(),
        first: Some(container_process.pid),
        host_root: record.rootfs == Path::new("/"),
        fifo: None,
        console: console(
            args.console_socket.as_deref(),
            process.terminal,
            args.detach,
        )?,
        pidfd_socket: pidfd_socket(args.pidfd_socket.as_deref())?,
        warnings: RefCell::default(),
        stamps: RefCell::default(),
    };
    // The namespaces were opened by the number of the container's process: that it lives shows that they were its own. The child waits for this.
    let mut known = |created: Created| {
        if !container_process.is_alive() {
            return Err(io::Error::other("the container has stopped"));
        }
        write_pid(args.pid_file.as_deref(), created.pid)
            .map_err(|failure| io::Error::other(failure.to_string()))
    };
    report::steps(global, &plan);
    if args.detach {
        let launched = launch(&plan, &context, &mut known).map_err(Failure::Exec);
        tell(global, &context);
        return launched.map(|_| ExitCode::SUCCESS);
    }
    let outcome = launch_and_wait(&plan, &context, &mut known, |_| tell(global, &context))
        .map_err(Failure::Exec)?;
    Ok(report::outcome(outcome))
}

fn running(home: &Home, record: &Record, ignore_paused: bool) -> Result<Process, Failure> {
    match (home.status(record), record.process) {
        (Status::Paused, _) if !ignore_paused => Err(Failure::said(
            "cannot exec in a paused container (use --ignore-paused to override)",
        )),
        (Status::Created | Status::Running | Status::Paused, Some(process)) => Ok(process),
        _ => Err(Failure::said("cannot exec in a stopped container")),
    }
}

/// As it was when the container was created.
fn container(global: &Global, home: &Home) -> Result<Config, Failure> {
    let path = home.dir().join(CONFIG);
    let parsed = config::config(config::document(&path)?)
        .map_err(|problems| Failure::Config { path, problems })?;
    // Its warnings were told by `create`.
    if global.debug {
        for warning in &parsed.warnings {
            report::debug(global, warning);
        }
    }
    Ok(parsed.value)
}

/// From a file as it is; else the container's own with what the options change.
fn process(global: &Global, args: &ExecArgs, container: &Config) -> Result<ProcessConfig, Failure> {
    if let Some(path) = &args.process {
        let parsed =
            config::process(config::document(path)?).map_err(|problems| Failure::Config {
                path: path.clone(),
                problems,
            })?;
        for warning in &parsed.warnings {
            report::warn(global, warning);
        }
        return Ok(parsed.value);
    }
    if args.command.is_empty() {
        return Err(Failure::said("process args cannot be empty"));
    }
    let mut process = container.process.clone().unwrap_or_default();
    process.args.clone_from(&args.command);
    process.terminal = args.tty;
    process.env.extend(args.env.iter().cloned());
    if let Some(cwd) = &args.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(label) = &args.process_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &args.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    if args.no_new_privs {
        process.no_new_privileges = Some(true);
    }
    if let Some(user) = &args.user {
        let (uid, gid) = ids(user)?;
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&args.additional_gids);
    capabilities(global, &mut process, &args.cap);
    Ok(process)
}

/// `UID` or `UID:GID`.
fn ids(text: &str) -> Result<(u32, Option<u32>), Failure> {
    let (uid, gid) = text
        .split_once(':')
        .map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| {
            Failure::Said(format!(
                "--user {text:?}: is not the number of a user or group"
            ))
        })
    };
    Ok((number(uid)?, gid.map(number).transpose()?))
}

/// Into every set but the inheritable one, through which a program that is no one's would pass them on (CVE-2022-29162).
fn capabilities(global: &Global, process: &mut ProcessConfig, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let mut bits = 0;
    for name in names {
        match capability_bit(&name.to_ascii_uppercase()) {
            Some(bit) => bits |= bit,
            None => report::warn(
                global,
                &format!("ignoring unknown or unavailable capabilities: [{name}]"),
            ),
        }
    }
    let sets = process.capabilities.unwrap_or_default();
    process.capabilities = Some(Capabilities {
        bounding: sets.bounding | bits,
        effective: sets.effective | bits,
        permitted: sets.permitted | bits,
        ambient: sets.ambient | bits,
        ..sets
    });
}

fn has_user_namespace(container: &Config) -> bool {
    container
        .linux
        .namespaces
        .iter()
        .any(|entry| entry.kind == NamespaceKind::User)
}

/// What cannot be read is no denial: the call itself then tells.
fn may_set_groups(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/setgroups"))
        .map_or(true, |text| text.trim() != "deny")
}

/// The container's groups, or those below them that `--cgroup` names: `PATH` in all, `CONTROLLER[,CONTROLLER]:PATH` in those of v1.
fn groups(places: &[GroupPlace], asked: &[String]) -> Result<Vec<GroupPlace>, Failure> {
    let mut places = places.to_vec();
    for entry in asked {
        let (controllers, path) = entry
            .split_once(':')
            .map_or((None, entry.as_str()), |(controllers, path)| {
                (Some(controllers), path)
            });
        let below = Path::new(path.trim_start_matches('/'));
        if !below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(Failure::Said(format!(
                "bad sub cgroup path: {path} is not a sub cgroup path"
            )));
        }
        let unknown = |name: &&str| !places.iter().any(|place| place.has(name));
        if let Some(name) = controllers
            .into_iter()
            .flat_map(|names| names.split(','))
            .find(unknown)
        {
            return Err(Failure::Said(format!(
                "unknown controller {name} in --cgroup {entry}"
            )));
        }
        for place in &mut places {
            let named =
                controllers.is_none_or(|names| names.split(',').any(|name| place.has(name)));
            if named {
                place.dir.push(below);
            }
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_below_the_containers_are_read() {
        for (text, want) in [
            ("7", Some((7, None))),
            ("7:8", Some((7, Some(8)))),
            ("", None),
            ("root", None),
            ("7:", None),
            ("-1", None),
        ] {
            assert_eq!(ids(text).ok(), want, "{text}");
        }
        let place = |hierarchy: &str, dir: &str| GroupPlace {
            hierarchy: hierarchy.into(),
            mount: "/m".into(),
            dir: dir.into(),
        };
        let own = [place("cpu,cpuacct", "c"), place("", "c")];
        for (asked, want) in [
            (vec![], Some(["c", "c"])),
            (vec!["/x".to_owned()], Some(["c/x", "c/x"])),
            (vec!["cpuacct:x/y".to_owned()], Some(["c/x/y", "c"])),
            (vec!["../x".to_owned()], None),
            (vec!["cpux:x".to_owned()], None),
        ] {
            let got = groups(&own, &asked).ok();
            let dirs = got.as_ref().map(|places| {
                places
                    .iter()
                    .map(|place| place.dir.to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
            });
            assert_eq!(
                dirs,
                want.map(|dirs| dirs.map(str::to_owned).to_vec()),
                "{asked:?}"
            );
        }
    }
}
