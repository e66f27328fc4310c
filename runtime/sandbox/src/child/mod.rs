//! The child's loop: one [`ChildStep`] after the other, each carried out or the end. Runs in a fork of a process with one thread.

mod bundle;
mod canary;
mod confine;
mod dev;
mod exec;
mod mounts;
mod network;
mod rootfs;
mod streams;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use airtight_plan::{ChildStep, Plan, Terminal};
use airtight_sys::{SysError, credentials, namespace, process, pty};
use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::bundle::Side;
use crate::cgroup::Joins;
use crate::init;
use crate::rendezvous::{self, Message};
use crate::seccomp::Program;

/// What the parent prepared.
pub(crate) struct Inputs<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sock: OwnedFd,
    pub(crate) gate: Option<&'a OwnedFd>,
    pub(crate) joins: &'a Joins,
    /// In the group of v2 already.
    pub(crate) born: bool,
    pub(crate) program: Option<&'a Program>,
    pub(crate) timings: bool,
    pub(crate) bundle: &'a Side<'a>,
}

/// Why a step was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    Sys(SysError),
    /// In words, where no one call failed.
    Said(String),
    /// Outside, by the gate.
    Gate(String),
    Exec {
        program: String,
        errno: Errno,
    },
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// What the steps leave for later ones.
pub(crate) struct Child<'a> {
    inputs: Inputs<'a>,
    /// Layers first, then volumes, as the parent sent them.
    sent: std::vec::IntoIter<OwnedFd>,
    /// The root, until the pivot.
    rootfs: Option<OwnedFd>,
    /// An empty directory on the scratch file system, to cover directories with.
    empty: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    /// Destinations of volumes that are files, so that their mount points are files too.
    files: Vec<PathBuf>,
    /// Our number in the host's pid namespace, once a bundle's parent has told it.
    host_pid: Option<i32>,
    /// [`airtight_plan::bundle::BundleStep::AwaitStart`] is behind us: where there is a fifo the parent is gone, and what fails is told to whoever said
    /// `start`.
    created: bool,
    signals_reset: bool,
    /// `HOME` that the environment lacks.
    home: Option<String>,
    /// The working directory is where it should be.
    entered: bool,
    held: bundle::Held,
    /// Of a bundle whose caller has one of its own.
    filters: Option<bundle::Filters>,
}

/// Carries the plan's child steps out; ends in the payload's program or in [`process::exit_now`].
pub(crate) fn run(inputs: Inputs<'_>) -> ! {
    let plan = inputs.plan;
    let mut child = Child {
        inputs,
        sent: Vec::new().into_iter(),
        rootfs: None,
        empty: None,
        proc: None,
        files: Vec::new(),
        host_pid: None,
        created: false,
        signals_reset: false,
        home: None,
        entered: false,
        held: bundle::Held::default(),
        filters: None,
    };
    for step in &plan.child {
        let done = child.apply(step).and_then(|()| child.stamp(step));
        if let Err(failure) = done {
            let message = match failure {
                Failure::Exec { program, errno } => Message::NoExec { program, errno },
                Failure::Gate(reason) => Message::NotServed { reason },
                Failure::Sys(error) => Message::Failed {
                    step: step.name().to_owned(),
                    message: error.to_string(),
                },
                Failure::Said(message) => Message::Failed {
                    step: step.name().to_owned(),
                    message,
                },
            };
            if child.created && plan_waits(&child.inputs) {
                child.tell_starter(&message);
                process::exit_now(1);
            }
            // A parent that is gone cannot be told, and its death is ours.
            drop(rendezvous::tell(&child.inputs.sock, &message));
            process::exit_now(125);
        }
    }
    // A plan that does not end in `Exec` launches nothing.
    process::exit_now(125)
}

impl Child<'_> {
    fn apply(&mut self, step: &ChildStep) -> Result<()> {
        match step {
            ChildStep::DieWithParent => process::die_with_parent()?,
            ChildStep::JoinCgroups => self.inputs.joins.enter(self.inputs.born)?,
            ChildStep::UnshareCgroup => namespace::unshare(CloneFlags::CLONE_NEWCGROUP)?,
            ChildStep::AwaitParent => {
                self.sent = rendezvous::await_release(&self.inputs.sock)?.into_iter()
            }
            ChildStep::BecomeNamespaceRoot => credentials::set_ids(0, 0, Some(&[]))?,
            ChildStep::SlavePropagation => airtight_sys::mount::slave_propagation()?,
            ChildStep::Loopback { addresses } => network::loopback(addresses)?,
            ChildStep::Sysctl { path, value } => mounts::sysctl(path, value)?,
            ChildStep::GateSockets { listen } => network::gate_sockets(self.inputs.gate, listen)?,
            ChildStep::Rootfs {
                layers,
                count,
                top,
                bottom,
            } => self.rootfs(layers.as_deref(), *count, top, bottom)?,
            ChildStep::Proc => self.proc()?,
            ChildStep::MaskProc { path, directory } => self.mask(path, *directory)?,
            ChildStep::Dev { nodes, shm_bytes } => self.dev(nodes, *shm_bytes)?,
            ChildStep::Tmpfs { path, bytes, mode } => self.tmpfs(path, *bytes, *mode)?,
            ChildStep::Volume {
                source,
                destination,
                read_only,
            } => self.volume(source.as_deref(), destination, *read_only)?,
            ChildStep::PivotRoot => self.pivot()?,
            ChildStep::VerifyMounts => mounts::verify()?,
            ChildStep::Hostname { name } => namespace::set_hostname(name)?,
            ChildStep::Rlimit {
                resource,
                soft,
                hard,
            } => confine::rlimit(*resource, *soft, *hard)?,
            ChildStep::SessionKeyring => process::new_session_keyring()?,
            ChildStep::Umask { mask } => process::set_umask(*mask),
            ChildStep::Terminal => {
                let (master, peer) = pty::open_pair()?;
                pty::take(&peer)?;
                rendezvous::tell(&self.inputs.sock, &Message::Terminal(master))?;
            }
            ChildStep::PipeStreams => streams::replace(&self.inputs.sock)?,
            ChildStep::NewSession => process::new_session()?,
            ChildStep::CloseDescriptors => self.close_descriptors()?,
            ChildStep::WorkingDirectory { path } => {
                process::change_directory(path).map_err(|error| {
                    let fix = "name a directory of the image that the payload's user may enter";
                    Failure::Said(format!("{error}\n  fix: {fix}"))
                })?
            }
            ChildStep::DropBoundingSet => process::drop_bounding_set()?,
            ChildStep::SetIds { uid, gid, groups } => {
                credentials::set_ids(*uid, *gid, groups.as_deref())?
            }
            ChildStep::ClearCapabilities => credentials::clear_capabilities()?,
            ChildStep::SecureBits => process::lock_securebits()?,
            ChildStep::NoNewPrivs => process::set_no_new_privs()?,
            ChildStep::NotDumpable => process::set_not_dumpable()?,
            ChildStep::DenyWriteExecute => process::deny_write_execute()?,
            ChildStep::Landlock(rules) => confine::landlock(rules)?,
            ChildStep::Canary { probes } => canary::sing(probes)?,
            ChildStep::Init => self.init()?,
            ChildStep::Seccomp(_) => self.seccomp()?,
            ChildStep::Bundle(step) => self.bundle(step)?,
            ChildStep::Exec { args, env } => {
                self.reset_signals()?;
                let springboard = self.inputs.bundle.springboard.as_ref();
                return Err(match &self.home {
                    None => exec::exec(args, env, springboard),
                    Some(home) => {
                        let env = [env, &[format!("HOME={home}")][..]].concat();
                        exec::exec(args, &env, springboard)
                    }
                });
            }
        }
        Ok(())
    }

    /// pid 1 stays here for ever; its child goes on to become the payload.
    fn init(&self) -> Result<()> {
        match namespace::clone_into(CloneFlags::empty())? {
            namespace::Forked::Parent { child, .. } => init::run(child),
            namespace::Forked::Child => {
                // A process group of its own, in front where there is a terminal: a key that sends a signal reaches the payload once,
                // and pid 1, which forwards what it gets from outside, not at all.
                pty::lead_group(self.inputs.plan.terminal == Terminal::Own)?;
                Ok(())
            }
        }
    }

    fn seccomp(&mut self) -> Result<()> {
        self.reset_signals()?;
        let Some(program) = self.inputs.program else {
            return Err(Failure::Said("no program was compiled".into()));
        };
        let listener = airtight_sys::seccomp::install(program.insns(), program.notify())?;
        // Before that is believed to be what the kernel made.
        if let Some(filters) = self.filters.take() {
            filters.have_both()?;
        }
        match listener {
            Some(listener) => Ok(rendezvous::tell(
                &self.inputs.sock,
                &Message::Listener(listener),
            )?),
            None => Ok(()),
        }
    }

    fn close_descriptors(&mut self) -> Result<()> {
        self.forget_descriptors();
        self.close_all_but_first(0)
    }

    /// Owned values first, so that no number is closed twice.
    fn forget_descriptors(&mut self) {
        self.sent = Vec::new().into_iter();
        (self.rootfs, self.empty, self.proc) = (None, None, None);
        self.held = bundle::Held::default();
    }

    fn stamp(&self, step: &ChildStep) -> Result<()> {
        if self.inputs.timings {
            rendezvous::tell(
                &self.inputs.sock,
                &Message::Stamp {
                    step: step.name().to_owned(),
                    at: process::now(),
                },
            )?;
        }
        Ok(())
    }
}

/// The parent goes when the child waits for `start`.
fn plan_waits(inputs: &Inputs<'_>) -> bool {
    inputs
        .bundle
        .context
        .is_some_and(|context| context.fifo.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_its_variant() {
        assert_eq!(ChildStep::PivotRoot.name(), "PivotRoot");
        assert_eq!(ChildStep::Umask { mask: 0o22 }.name(), "Umask");
        assert_eq!(ChildStep::Canary { probes: vec![] }.name(), "Canary");
        let bundle = ChildStep::Bundle(airtight_plan::bundle::BundleStep::MoveRoot);
        assert_eq!(bundle.name(), "MoveRoot");
    }
}
