//! The parent's loop: one [`ParentStep`] after the other, on the host's side.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use airtight_plan::{IdMap, IdMaps, MapWriter, Namespace, ParentStep, Plan};
use airtight_sys::directory::open_path_follow;
use airtight_sys::mount::{self, Attributes};
use airtight_sys::namespace::Forked;
use airtight_sys::socket::{seqpacket_pair, tcp_listen};
use airtight_sys::{SysError, directory, open, process, signal};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::audit::Sink;
use crate::bundle::Side;
use crate::cgroup::{self, Cgroups};
use crate::child::{self, Inputs};
use crate::error::Cause;
use crate::gate::Gate;
use crate::rendezvous;
use crate::seccomp::Program;
use crate::{LaunchContext, LaunchError};

/// `f_type` of procfs.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// What the steps made. Dropped in reverse of what depends on what: the child is killed and reaped first.
pub(crate) struct Parent<'a> {
    pub(crate) plan: &'a Plan,
    context: &'a LaunchContext,
    pub(crate) child: Option<Process>,
    pub(crate) gate: Option<Gate>,
    cgroups: Option<Cgroups>,
    program: Option<Program>,
    pub(crate) sink: Option<Sink>,
    ours: Option<OwnedFd>,
    theirs: Option<OwnedFd>,
    published: Vec<OwnedFd>,
    /// Layers, then volumes; a bundle's trees.
    pub(crate) mounts: Vec<OwnedFd>,
    /// What only a bundle has.
    pub(crate) bundle: Side<'a>,
}

/// How the path of a tree of the host is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The operator's to write, with links.
    AsWritten,
    /// What was decided about it was decided about the place that it led to then: a link that came on the way since would make it another.
    WithoutLinks,
}

impl Source {
    pub(crate) fn of_layers(bundle: &Side<'_>) -> Self {
        if bundle.context.is_some() {
            Self::WithoutLinks
        } else {
            Self::AsWritten
        }
    }

    pub(crate) fn open(self, path: &Path) -> Result<OwnedFd, SysError> {
        match self {
            Self::AsWritten => open_path_follow(path, OFlag::O_PATH),
            Self::WithoutLinks => open::open_without_links(path, OFlag::O_PATH),
        }
    }
}

/// A child process that does not outlive this value.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// It lives on by itself.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already where it was waited for; both then say so, and nothing is left to end.
        if signal::pidfd_send_signal(&self.pidfd, nix::libc::SIGKILL).is_ok() {
            drop(signal::reap(&self.pidfd));
        }
    }
}

impl<'a> Parent<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        context: &'a LaunchContext,
        program: Option<Program>,
        sink: Option<Sink>,
    ) -> Result<Self, SysError> {
        let (ours, theirs) = seqpacket_pair()?;
        Ok(Self {
            plan,
            context,
            child: None,
            gate: None,
            cgroups: None,
            program,
            sink,
            ours: Some(ours),
            theirs: Some(theirs),
            published: Vec::new(),
            mounts: Vec::new(),
            bundle: Side::default(),
        })
    }

    pub(crate) fn apply(&mut self, step: &ParentStep) -> Result<(), LaunchError> {
        match step {
            ParentStep::Publish { addresses } => {
                self.publish(addresses).map_err(LaunchError::at("publish"))
            }
            ParentStep::Cgroups { groups } => {
                self.cgroups =
                    Some(cgroup::make(groups, &self.plan.id).map_err(LaunchError::at("cgroups"))?);
                Ok(())
            }
            ParentStep::Gate { path } => self.start_gate(path).map_err(LaunchError::at("gate")),
            ParentStep::Clone { namespaces } => self
                .clone_child(namespaces.iter().copied())
                .map_err(LaunchError::at("clone")),
            ParentStep::IdMaps(maps) => self.map_ids(maps).map_err(LaunchError::at("id maps")),
            ParentStep::IdmapLayers { layers } => self
                .idmap(self.layers(), layers, Attributes::CODE)
                .map_err(LaunchError::at("layers")),
            ParentStep::SendLayers { layers } => self
                .send(self.layers(), layers, Attributes::CODE, None)
                .map_err(LaunchError::at("layers")),
            ParentStep::IdmapVolumes { volumes } => {
                // The child adds read-only and noexec as its own step says.
                let attributes = Attributes {
                    no_suid: true,
                    no_dev: true,
                    ..Attributes::default()
                };
                self.idmap(Source::WithoutLinks, volumes, attributes)
                    .map_err(LaunchError::at("volumes"))
            }
            ParentStep::Bundle(step) => self.bundle(step),
            ParentStep::Supervise => Ok(()),
        }
    }

    /// Lets the child go on; what is left of the rendezvous is the supervisor's.
    pub(crate) fn release(&mut self) -> Result<OwnedFd, LaunchError> {
        let missing = || LaunchError::Child {
            step: "clone".into(),
            message: "the plan clones no child".into(),
        };
        let ours = self.ours.take().ok_or_else(missing)?;
        let child = self.child.as_ref().ok_or_else(missing)?;
        if let Some(gate) = &self.gate {
            gate.watch(child.pidfd()).map_err(LaunchError::at("gate"))?;
        }
        match rendezvous::release(&ours, &self.mounts) {
            // The child failed before it waited; its message is read by the supervisor and says more.
            Ok(())
            | Err(SysError {
                errno: Errno::EPIPE | Errno::ECONNRESET,
                ..
            }) => {}
            Err(error) => return Err(LaunchError::at("rendezvous")(error)),
        }
        // Mounts and listeners are held where they are needed now.
        self.mounts.clear();
        self.published.clear();
        Ok(ours)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "three errors have words of their own, all others tell the call"
    )]
    fn publish(&mut self, addresses: &[SocketAddr]) -> Result<(), Cause> {
        for address in addresses {
            let listener = tcp_listen(address, 1024).map_err(|error| match error.errno {
                Errno::EADDRINUSE => Cause::Refused {
                    problem: format!("{address} is in use"),
                    fix: "stop what listens there (ss -ltnp), or publish another host port".into(),
                },
                Errno::EADDRNOTAVAIL => Cause::Refused {
                    problem: format!("{} is no address of this host", address.ip()),
                    fix: "publish an address of this host (ip addr)".into(),
                },
                Errno::EACCES => Cause::Refused {
                    problem: format!("port {} needs a privilege to listen on", address.port()),
                    fix: "publish a port from 1024 on".into(),
                },
                _ => Cause::Sys(error),
            })?;
            self.published.push(listener);
        }
        Ok(())
    }

    fn start_gate(&mut self, path: &Path) -> Result<(), Cause> {
        let plan = self.plan.gate.as_ref().ok_or_else(|| Cause::Refused {
            problem: "the plan starts a gate and says nothing that it should carry".into(),
            fix: "make the plan with `airtight plan`".into(),
        })?;
        let audit = self.sink.as_ref().map(|sink| sink.as_fd());
        self.gate = Some(Gate::start(path, plan, audit, &self.published)?);
        Ok(())
    }

    fn clone_child(&mut self, namespaces: impl Iterator<Item = Namespace>) -> Result<(), Cause> {
        let joins = self
            .cgroups
            .as_ref()
            .map_or(&self.bundle.groups, Cgroups::joins);
        let (forked, born) = joins.clone(flags(namespaces)).map_err(explain_clone)?;
        match forked {
            Forked::Parent { child, pidfd } => {
                self.child = Some(Process::new(child, pidfd));
                self.leave_namespaces_of_children()?;
                // Our copy of the child's end: the end of file must come when the child's own is closed.
                self.theirs = None;
                Ok(())
            }
            Forked::Child => {
                let Some(sock) = self.theirs.take() else {
                    process::exit_now(125)
                };
                // The parent's end, so that the parent's death is an end of file here.
                self.ours = None;
                child::run(Inputs {
                    plan: self.plan,
                    sock,
                    gate: self.gate.as_ref().map(Gate::control),
                    joins: self
                        .cgroups
                        .as_ref()
                        .map_or(&self.bundle.groups, Cgroups::joins),
                    born,
                    program: self.program.as_ref(),
                    timings: self.context.timings,
                    bundle: &self.bundle,
                })
            }
        }
    }

    fn map_ids(&self, maps: &IdMaps) -> Result<(), Cause> {
        let child = self.proc_of_child()?;
        match &maps.write {
            MapWriter::Direct => {}
            MapWriter::DirectDenySetgroups => write(&child, "setgroups", "deny")?,
            MapWriter::Helpers {
                newuidmap,
                newgidmap,
            } => return self.map_with_helpers(maps, newuidmap, newgidmap),
        }
        write(&child, "uid_map", &lines(&maps.uids))?;
        Ok(write(&child, "gid_map", &lines(&maps.gids))?)
    }

    /// Both at once: each takes a millisecond.
    fn map_with_helpers(
        &self,
        maps: &IdMaps,
        newuidmap: &Path,
        newgidmap: &Path,
    ) -> Result<(), Cause> {
        let pid = self.child_pid().to_string();
        let mut running = Vec::new();
        for (program, map) in [(newuidmap, &maps.uids), (newgidmap, &maps.gids)] {
            let mut command = std::process::Command::new(program);
            command.arg(&pid).args(map.iter().flat_map(|map| {
                [map.inside, map.outside, map.count].map(|number| number.to_string())
            }));
            command
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped());
            let child = command.spawn().map_err(|error| Cause::File {
                path: program.to_owned(),
                error,
            })?;
            running.push((program, child));
        }
        for (program, child) in running {
            let output = child.wait_with_output().map_err(|error| Cause::File {
                path: program.to_owned(),
                error,
            })?;
            if !output.status.success() {
                return Err(Cause::Refused {
                    problem: format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim()),
                    fix: "give the caller a range in /etc/subuid and /etc/subgid, and keep the helper set-uid root".into(),
                });
            }
        }
        Ok(())
    }

    fn layers(&self) -> Source {
        Source::of_layers(&self.bundle)
    }

    fn idmap(
        &mut self,
        kind: Source,
        paths: &[PathBuf],
        attributes: Attributes,
    ) -> Result<(), Cause> {
        let namespace = open::open_in_proc(&self.proc_of_child()?, Path::new("ns/user"))?;
        self.send(kind, paths, attributes, Some(namespace.as_fd()))
    }

    fn send(
        &mut self,
        kind: Source,
        paths: &[PathBuf],
        attributes: Attributes,
        user_namespace: Option<BorrowedFd<'_>>,
    ) -> Result<(), Cause> {
        for path in paths {
            let tree = mount::clone_tree(kind.open(path)?)?;
            mount::set_attributes(&tree, attributes, user_namespace).map_err(|error| {
                if user_namespace.is_none() || error.errno != Errno::EINVAL {
                    return Cause::Sys(error);
                }
                Cause::Refused {
                    problem: format!(
                        "{}: its file system takes no id map ({error})",
                        path.display()
                    ),
                    fix: "keep it on one that does, such as ext4, xfs, btrfs or tmpfs".into(),
                }
            })?;
            self.mounts.push(tree);
        }
        Ok(())
    }

    /// `/proc/PID` of the child, which is not reaped yet, so the number is its own; proven to be procfs (CVE-2019-16884).
    pub(crate) fn proc_of_child(&self) -> Result<OwnedFd, SysError> {
        open_proc(&self.child_pid().to_string())
    }

    /// 0 before there is one.
    pub(crate) fn child_pid(&self) -> Pid {
        self.child
            .as_ref()
            .map_or(Pid::from_raw(0), |child| child.pid)
    }
}

/// A directory of `/proc`, proven to be procfs.
pub(crate) fn open_proc(name: &str) -> Result<OwnedFd, SysError> {
    // `self` is a link.
    let proc = open_path_follow(
        &PathBuf::from(format!("/proc/{name}")),
        OFlag::O_PATH | OFlag::O_DIRECTORY,
    )?;
    if process::filesystem_type(&proc)? == PROC_SUPER_MAGIC {
        Ok(proc)
    } else {
        Err(SysError::new(
            "fstatfs",
            "/proc is not procfs",
            Errno::ENOTSUP,
        ))
    }
}

pub(crate) fn flags(namespaces: impl Iterator<Item = Namespace>) -> CloneFlags {
    namespaces.fold(CloneFlags::empty(), |flags, namespace| {
        flags | flag(namespace)
    })
}

fn flag(namespace: Namespace) -> CloneFlags {
    match namespace {
        Namespace::User => CloneFlags::CLONE_NEWUSER,
        Namespace::Pid => CloneFlags::CLONE_NEWPID,
        Namespace::Mount => CloneFlags::CLONE_NEWNS,
        Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
        Namespace::Uts => CloneFlags::CLONE_NEWUTS,
        Namespace::Net => CloneFlags::CLONE_NEWNET,
    }
}

/// The facts said that user namespaces are there; what the kernel says now is the truth.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "three errors have words of their own, all others tell the call"
)]
fn explain_clone(error: SysError) -> Cause {
    match error.errno {
        Errno::EPERM | Errno::ENOSPC | Errno::EUSERS => Cause::Refused {
            problem: format!("{error}: this host does not let this user make namespaces"),
            fix: "see `airtight doctor`; usually user.max_user_namespaces, kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns".into(),
        },
        _ => Cause::Sys(error),
    }
}

/// The form of `user_namespaces(7)`: inside, outside, count on a line each, written in one call.
pub(crate) fn lines(maps: &[IdMap]) -> String {
    maps.iter()
        .map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count))
        .collect()
}

pub(crate) fn write(proc: &OwnedFd, name: &str, value: &str) -> Result<(), SysError> {
    let file = open::open_beneath(proc, Path::new(name), OFlag::O_WRONLY)?;
    directory::write_value(&file, value.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        let map = |inside, outside, count| IdMap {
            inside,
            outside,
            count,
        };
        assert_eq!(
            lines(&[map(0, 1000, 1), map(1, 100_000, 65_535)]),
            "0 1000 1\n1 100000 65535\n"
        );
    }
}
