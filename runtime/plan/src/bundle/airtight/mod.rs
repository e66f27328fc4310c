//! A config under airtight's own rules: what it asks for within them becomes a [`Spec`] and what narrows it further; what lies beyond is listed, each with
//! what it becomes where the operator has asks narrowed. Pure.
//!
//! What airtight gives is fixed: its own `/proc` and `/dev`, every namespace, no capability, its own filter. Each key has one narrowed meaning, and none of
//! them is wider than what was asked.

mod linux;
mod mounts;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use plan::{Lifecycle, create, exec as exec_airtight};

use super::compat::check::version;
use super::{
    Capabilities, Config, ExecAffinity, IoPriority, ProcessConfig, Resources, RlimitEntry,
    Scheduler, SeccompProfile,
};
use crate::{Audit, Init, Limits, Process, Spec, Terminal};

/// The profile that a bundle carries.
const PROFILE: &str = "dev.airtight.profile.v1";
/// Of a payload that asks for uid 0.
const NOBODY: u32 = 65532;
/// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`: no share of a CPU before others.
const MODEST: [u32; 3] = [0, 3, 5];
/// `IOPRIO_CLASS_BE`, and the first of its levels that is not before what a process without any has.
const IO_BEST_EFFORT: (u16, u16) = (2, 4);
/// `IOPRIO_CLASS_IDLE`.
const IO_IDLE: u16 = 3;

/// A key that asks for more than airtight gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    pub key: String,
    pub problem: String,
    /// What it becomes.
    pub narrowed: String,
}

impl std::fmt::Display for Beyond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.key, self.problem)
    }
}

/// What is left of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub spec: Spec,
    pub extras: Extras,
    /// For the container's groups.
    pub resources: Resources,
    /// Canonical JSON of the profile that the bundle carries.
    pub profile: Option<String>,
    pub beyond: Vec<Beyond>,
}

/// What narrows a sandbox further, and has no place in a [`Spec`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    pub rlimits: Vec<RlimitEntry>,
    pub oom_score_adj: Option<i32>,
    /// Empty: not asked for.
    pub apparmor_profile: String,
    pub selinux_label: String,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    /// Loaded below airtight's own: a call passes both.
    pub seccomp: Option<Arc<SeccompProfile>>,
    /// Covered, besides what always is.
    pub masked: Vec<PathBuf>,
    pub readonly: Vec<PathBuf>,
    /// Bits that new files lack besides 022.
    pub umask: u32,
    /// The environment has no `HOME`: that of this user.
    pub home: Option<u32>,
}

/// Reads `config`, whose binds' sources are absolute and without links. `unknown` are keys that the reader did not know and that ask for something.
#[must_use]
pub fn wish(config: &Config, unknown: &[String], id: &str) -> Wish {
    let mut beyond = Beyonds::default();
    for key in unknown {
        beyond.add(key.clone(), "is not honoured", "left out");
    }
    if !version(&config.oci_version) {
        beyond.add(
            "ociVersion",
            "is not 1.0 to 1.3: what it means by its keys is not known",
            "1.3",
        );
    }
    if !config.root.read_only {
        beyond.add(
            "root.readonly",
            "is not true: the rootfs is never writable here; give writable paths as tmpfs mounts",
            "true",
        );
    }
    hooks(config, &mut beyond);
    let mut extras = Extras::default();
    let process = process(config.process.as_ref(), &mut extras, &mut beyond);
    let (tmpfs, volumes) = mounts::mounts(config, &mut extras, &mut beyond);
    let resources = linux::linux(config, &mut extras, &mut beyond);
    Wish {
        spec: Spec {
            id: sandbox_id(id),
            hostname: hostname(config, id),
            layers: vec![config.root.path.clone()],
            // Nobody has read the programs of a bundle.
            write_execute: Vec::new(),
            process,
            tmpfs,
            volumes,
            // The container's groups keep them.
            limits: Limits::default(),
            connect: Vec::new(),
            publish: Vec::new(),
            listen: [].into(),
            public: false,
            init: Init::Payload,
            // Nothing serves it once `create` has returned.
            audit: Audit::Off,
            accepted: [].into(),
        },
        extras,
        resources,
        profile: config.annotations.get(PROFILE).cloned(),
        beyond: beyond.0,
    }
}

/// In the order of the document.
#[derive(Debug, Default)]
struct Beyonds(Vec<Beyond>);

impl Beyonds {
    fn add(
        &mut self,
        key: impl Into<String>,
        problem: impl Into<String>,
        narrowed: impl Into<String>,
    ) {
        self.0.push(Beyond {
            key: key.into(),
            problem: problem.into(),
            narrowed: narrowed.into(),
        });
    }
}

/// Container ids hold more than a sandbox's name may; another name that is as much its own.
fn sandbox_id(id: &str) -> String {
    let fits = (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        return id.to_owned();
    }
    Sha256::digest(id.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn hostname(config: &Config, id: &str) -> String {
    if config.hostname.is_empty() {
        sandbox_id(id)
    } else {
        config.hostname.clone()
    }
}

fn hooks(config: &Config, beyond: &mut Beyonds) {
    let hooks = &config.hooks;
    for (key, list) in [
        ("hooks.prestart", &hooks.prestart),
        ("hooks.createRuntime", &hooks.create_runtime),
        ("hooks.createContainer", &hooks.create_container),
        ("hooks.startContainer", &hooks.start_container),
        ("hooks.poststart", &hooks.poststart),
        ("hooks.poststop", &hooks.poststop),
    ] {
        if !list.is_empty() {
            beyond.add(key, "would run programs of the host's", "none runs");
        }
    }
}

/// Also for `exec`, whose process is one more under the same rules.
#[must_use]
pub fn further_process(process: &ProcessConfig) -> (Process, Extras, Vec<Beyond>) {
    let (mut extras, mut beyond) = (Extras::default(), Beyonds::default());
    let process = self::process(Some(process), &mut extras, &mut beyond);
    (process, extras, beyond.0)
}

fn process(asked: Option<&ProcessConfig>, extras: &mut Extras, beyond: &mut Beyonds) -> Process {
    let none = ProcessConfig::default();
    // Without one nothing can be started; the plan refuses that by name.
    let asked = asked.unwrap_or(&none);
    let user = &asked.user;
    let (mut uid, mut gid) = (user.uid, user.gid);
    if uid == 0 {
        beyond.add(
            "process.user.uid",
            "is 0: no payload is root here",
            NOBODY.to_string(),
        );
        (uid, gid) = (NOBODY, if gid == 0 { NOBODY } else { gid });
    }
    capabilities(asked.capabilities, beyond);
    if asked.no_new_privileges == Some(false) {
        beyond.add(
            "process.noNewPrivileges",
            "is false: it is always set here",
            "true",
        );
    }
    if let Some(value) = asked.oom_score_adj {
        if value < 0 {
            beyond.add(
                "process.oomScoreAdj",
                "is below 0: others would be killed in the payload's place",
                "0",
            );
        }
        extras.oom_score_adj = Some(value.max(0));
    }
    extras.scheduler = asked.scheduler.filter(|scheduler| {
        let modest = MODEST.contains(&scheduler.policy) && scheduler.nice >= 0;
        if !modest {
            beyond.add(
                "process.scheduler",
                "would go before others",
                "as it is inherited",
            );
        }
        modest
    });
    extras.io_priority = asked.io_priority.filter(|priority| {
        let (class, level) = IO_BEST_EFFORT;
        let modest =
            priority.class == IO_IDLE || (priority.class == class && priority.priority >= level);
        if !modest {
            beyond.add(
                "process.ioPriority",
                "would go before others",
                "as it is inherited",
            );
        }
        modest
    });
    if asked.exec_affinity != ExecAffinity::default() {
        beyond.add(
            "process.execCPUAffinity",
            "is not honoured",
            "the CPUs of its group",
        );
    }
    extras.rlimits.clone_from(&asked.rlimits);
    // The word for no profile.
    if asked.apparmor_profile != "unconfined" {
        extras.apparmor_profile.clone_from(&asked.apparmor_profile);
    }
    extras.selinux_label.clone_from(&asked.selinux_label);
    extras.home = (!asked.env.iter().any(|entry| entry.starts_with("HOME="))).then_some(uid);
    extras.umask = user.umask.unwrap_or(0) & 0o777;
    Process {
        args: asked.args.clone(),
        env: asked.env.clone(),
        cwd: asked.cwd.clone(),
        uid,
        gid,
        additional_gids: user.additional_gids.clone(),
        terminal: if asked.terminal {
            Terminal::Own
        } else {
            Terminal::Inherit
        },
    }
}

fn capabilities(asked: Option<Capabilities>, beyond: &mut Beyonds) {
    let Some(sets) = asked else { return };
    for (key, set) in [
        ("bounding", sets.bounding),
        ("effective", sets.effective),
        ("inheritable", sets.inheritable),
        ("permitted", sets.permitted),
        ("ambient", sets.ambient),
    ] {
        if set != 0 {
            beyond.add(
                format!("process.capabilities.{key}"),
                "is not empty: no payload has a capability here",
                "none",
            );
        }
    }
}
