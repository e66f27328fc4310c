//! The command line as meant: [`LaunchArgs`] in checked types, and what they make of an image's own wishes. Pure; the caller's
//! environment and the content of files come in as arguments.

mod environment;
mod value;

use std::collections::BTreeSet;
use std::path::PathBuf;

use airtight_plan::{
    Audit, Connect, Control, Init, Limits, Process, Publish, Spec, Terminal, Tmpfs, Volume,
};

pub(crate) use environment::variables;
pub(crate) use value::Wrong;

use crate::args::LaunchArgs;

/// Of an image that names none: no account of any distribution has it.
const DEFAULT_USER: &str = "65532:65532";
/// What docker gives a payload whose image sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A launch as the operator means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: String,
    pub(crate) hostname: Option<String>,
    /// Replace the image's default arguments, if there are any.
    pub(crate) args: Vec<String>,
    pub(crate) entrypoint: Option<String>,
    /// `KEY=VALUE`, later ones win.
    pub(crate) env: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) terminal: Terminal,
    pub(crate) tmpfs: Vec<Tmpfs>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) limits: Limits,
    pub(crate) connect: Vec<Connect>,
    pub(crate) publish: Vec<Publish>,
    pub(crate) listen: BTreeSet<u16>,
    pub(crate) public: bool,
    pub(crate) audit: Audit,
    pub(crate) accepted: BTreeSet<Control>,
}

/// What an image says about its process; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) workdir: String,
    pub(crate) user: String,
}

/// What the store knows of the image's layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layers {
    /// Lowest first.
    pub(crate) trees: Vec<PathBuf>,
    pub(crate) write_execute: Vec<String>,
}

/// Who the payload is, found in the image's own accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
}

impl Ask {
    /// Checks each flag. `env` holds the variables of `--env-file` and `--env`, `random` names a sandbox without `--name`.
    ///
    /// # Errors
    /// The first flag that cannot be meant, and how to write it.
    pub(crate) fn check(
        written: &LaunchArgs,
        env: Vec<String>,
        random: u64,
    ) -> Result<Self, Wrong> {
        let audit = match (&written.audit, written.no_audit) {
            (_, true) => Audit::Off,
            (None, false) => Audit::Stderr,
            (Some(file), false) => Audit::File(file.clone()),
        };
        Ok(Self {
            id: written
                .name
                .clone()
                .unwrap_or_else(|| format!("{:012x}", random >> 16)),
            hostname: written.hostname.clone(),
            args: written.args.clone(),
            entrypoint: written.entrypoint.clone(),
            env,
            user: written.user.clone(),
            workdir: written.workdir.as_ref().map(PathBuf::from),
            terminal: if written.tty {
                Terminal::Own
            } else {
                Terminal::Inherit
            },
            tmpfs: each(&written.tmpfs, value::tmpfs)?,
            volumes: each(&written.volume, value::volume)?,
            limits: Limits {
                memory: one(written.memory.as_ref(), value::memory)?,
                pids: one(written.pids.as_ref(), value::pids)?,
                cpu_millis: one(written.cpus.as_ref(), value::cpus)?,
                timeout_millis: one(written.timeout.as_ref(), value::timeout)?,
            },
            connect: each(&written.connect, value::connect)?,
            publish: each(&written.publish, value::publish)?,
            listen: each(&written.listen, value::listen)?,
            public: written.public,
            audit,
            accepted: each(&written.accept_shortfall, accepted)?,
        })
    }

    /// The user to look up in the image.
    pub(crate) fn user<'a>(&'a self, wishes: &'a Wishes) -> &'a str {
        match (&self.user, wishes.user.as_str()) {
            (Some(user), _) => user,
            (None, "") => DEFAULT_USER,
            (None, user) => user,
        }
    }

    /// The spec of this launch of an image with these wishes, layers and account.
    pub(crate) fn spec(self, wishes: Wishes, layers: Layers, account: Account) -> Spec {
        let Account {
            uid,
            gid,
            additional_gids,
        } = account;
        let hostname = self.hostname.unwrap_or_else(|| self.id.clone());
        let cwd = match (self.workdir, wishes.workdir.as_str()) {
            (Some(dir), _) => dir,
            (None, "") => "/".into(),
            (None, dir) => dir.into(),
        };
        let mut env = wishes.env;
        if !env.iter().any(|pair| pair.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
        }
        // What a program needs to know about the terminal that it gets; the caller's own is not its own.
        if self.terminal == Terminal::Own && !env.iter().any(|pair| pair.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        self.env
            .into_iter()
            .for_each(|pair| environment::set(&mut env, pair));
        Spec {
            id: self.id,
            hostname,
            layers: layers.trees,
            write_execute: layers.write_execute,
            process: Process {
                args: arguments(self.entrypoint, self.args, wishes.entrypoint, wishes.cmd),
                env,
                cwd,
                uid,
                gid,
                additional_gids,
                terminal: self.terminal,
            },
            tmpfs: self.tmpfs,
            volumes: self.volumes,
            limits: self.limits,
            connect: self.connect,
            publish: self.publish,
            listen: self.listen,
            public: self.public,
            init: Init::Ours,
            audit: self.audit,
            accepted: self.accepted,
        }
    }
}

/// docker's rule: arguments replace the image's; another entrypoint drops the image's arguments too, which were written for its own.
fn arguments(
    entrypoint: Option<String>,
    args: Vec<String>,
    image_entrypoint: Vec<String>,
    image_cmd: Vec<String>,
) -> Vec<String> {
    let (mut all, default) = match entrypoint {
        Some(program) if program.is_empty() => (Vec::new(), Vec::new()),
        Some(program) => (vec![program], Vec::new()),
        None => (image_entrypoint, image_cmd),
    };
    all.extend(if args.is_empty() { default } else { args });
    all
}

fn accepted(name: &str) -> Result<Control, Wrong> {
    name.parse().map_err(|_| {
        let names: Vec<&str> = Control::ALL.iter().map(|control| control.name()).collect();
        let flag = format!("--accept-shortfall {}", name.escape_debug());
        Wrong::new(
            flag,
            "is not a control that can be gone without",
            format!("name one of {}", names.join(", ")),
        )
    })
}

fn each<T, C: FromIterator<T>>(
    texts: &[String],
    check: impl Fn(&str) -> Result<T, Wrong>,
) -> Result<C, Wrong> {
    texts.iter().map(|text| check(text)).collect()
}

fn one<T>(
    text: Option<&String>,
    check: impl Fn(&str) -> Result<T, Wrong>,
) -> Result<Option<T>, Wrong> {
    text.map(|text| check(text)).transpose()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
