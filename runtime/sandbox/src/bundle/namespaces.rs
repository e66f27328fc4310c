//! Namespaces of others, opened while the host is in view.

use std::path::Path;

use airtight_plan::bundle::{JoinNamespace, NamespaceKind, TimeOffset};
use airtight_sys::directory::{open_path_follow, write_value};
use airtight_sys::{SysError, namespace, open};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use std::os::fd::OwnedFd;

use crate::error::Cause;
use crate::parent::{Parent, open_proc};

/// `CLONE_NEWTIME`, which nix has no name for.
const NEW_TIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// The kernel's flag of a kind.
pub(crate) fn flag(kind: NamespaceKind) -> CloneFlags {
    match kind {
        NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
        NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
        NamespaceKind::Net => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceKind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        NamespaceKind::Time => NEW_TIME,
        NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
    }
}

impl Parent<'_> {
    pub(super) fn open_namespaces(&mut self, namespaces: &[JoinNamespace]) -> Result<(), Cause> {
        for JoinNamespace { kind, path } in namespaces {
            // What is no namespace may be a FIFO, whose opening would wait.
            let fd = open_path_follow(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
            // The file was named by a path: what was opened says itself what it is.
            if namespace::kind(&fd).ok() != Some(flag(*kind)) {
                return Err(Cause::Refused {
                    problem: format!("{} is no {kind:?} namespace", path.display()),
                    fix: "name a file such as /proc/PID/ns/net, or one that it is bound over"
                        .into(),
                });
            }
            self.bundle.namespaces.push((*kind, fd));
        }
        Ok(())
    }

    pub(super) fn join_pid_for_children(&mut self) -> Result<(), Cause> {
        self.keep_own("ns/pid")?;
        for (kind, fd) in &self.bundle.namespaces {
            if *kind == NamespaceKind::Pid {
                namespace::join(fd, CloneFlags::CLONE_NEWPID)?;
                self.bundle.pid_joined = true;
            }
        }
        Ok(())
    }

    pub(super) fn time_offsets(&mut self, offsets: &[TimeOffset]) -> Result<(), Cause> {
        self.keep_own("ns/time")?;
        namespace::unshare(NEW_TIME)?;
        let text: String = offsets
            .iter()
            .map(|offset| {
                format!(
                    "{} {} {}\n",
                    offset.clock, offset.seconds, offset.nanoseconds
                )
            })
            .collect();
        if text.is_empty() {
            return Ok(());
        }
        let proc = open_proc("self")?;
        let file = open::open_beneath(&proc, Path::new("timens_offsets"), OFlag::O_WRONLY)?;
        Ok(write_value(&file, text.as_bytes(), "timens_offsets")?)
    }

    fn keep_own(&mut self, name: &str) -> Result<(), SysError> {
        let own = open::open_in_proc(&open_proc("self")?, Path::new(name))?;
        self.bundle.own.push(own);
        Ok(())
    }

    /// The child is there: children to come, our hooks, belong where we are. Who is root in a user namespace only has no right to the pid namespace
    /// around it and cannot come back: then there are no children to come, and a hook is refused.
    pub(crate) fn leave_namespaces_of_children(&mut self) -> Result<(), SysError> {
        for own in self.bundle.own.drain(..) {
            match namespace::join(&own, namespace::kind(&own)?) {
                Err(error) if error.errno == Errno::EPERM => self.bundle.left_own = true,
                joined => joined?,
            }
        }
        Ok(())
    }
}

/// Into each of `namespaces`. As the caller first, whose rights reach what the joined user namespace does not own; what they do not reach, after the user
/// namespace was joined, whose owner has rights that the caller lacks.
///
/// # Errors
/// `setns(2)`'s.
pub(crate) fn join_all(
    namespaces: &[(NamespaceKind, OwnedFd)],
    pid_joined: bool,
) -> Result<(), SysError> {
    let mut later = Vec::new();
    let mut user = None;
    for (kind, fd) in namespaces {
        match kind {
            NamespaceKind::User => user = Some(fd),
            NamespaceKind::Pid if pid_joined => {}
            NamespaceKind::Pid
            | NamespaceKind::Net
            | NamespaceKind::Ipc
            | NamespaceKind::Uts
            | NamespaceKind::Cgroup
            | NamespaceKind::Time
            | NamespaceKind::Mount => match namespace::join(fd, flag(*kind)) {
                Err(error) if error.errno == Errno::EPERM => later.push((flag(*kind), fd)),
                joined => joined?,
            },
        }
    }
    if let Some(fd) = user
        && !is_own_user_namespace(fd)?
    {
        namespace::join(fd, CloneFlags::CLONE_NEWUSER)?;
    }
    later
        .into_iter()
        .try_for_each(|(kind, fd)| namespace::join(fd, kind))
}

/// The kernel refuses to join the one that a process is in already.
fn is_own_user_namespace(fd: &OwnedFd) -> Result<bool, SysError> {
    let own = open_path_follow(Path::new("/proc/self/ns/user"), OFlag::O_PATH)?;
    Ok(airtight_sys::directory::identity(&own)? == airtight_sys::directory::identity(fd)?)
}
