//! A process beside the supervisor that outlives even its SIGKILL, to remove the sandbox's groups. The sandbox dies with its supervisor by
//! the kernel's hand; directories do not. Forked before the sandbox exists, it holds their descriptors and nothing else.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use airtight_sys::landlock::{Restriction, Rights, Rule};
use airtight_sys::namespace::{self, Forked};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::process::{self, exit_now};
use airtight_sys::seccomp::{Insn, Notify, install};
use airtight_sys::signal::Status;
use airtight_sys::{Result, SysError, credentials, landlock, signal};
use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;

use crate::cgroup::Group;
use crate::error::Cause;
use crate::seccomp::{stub, stub_length};

/// Of the file rights that are asked for; newer ones are not needed.
const LANDLOCK_ABI: u32 = 5;
/// How long the supervisor waits for the janitor's end; it goes on by itself after that.
const PATIENCE: Duration = Duration::from_secs(5);

/// What poll(2) of the C library makes.
#[cfg(target_arch = "x86_64")]
const POLL: libc::c_long = libc::SYS_poll;
#[cfg(not(target_arch = "x86_64"))]
const POLL: libc::c_long = libc::SYS_ppoll;

/// Waiting, reading lists, signals, removing, and what the allocator needs.
const CALLS: [libc::c_long; 19] = [
    POLL,
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_unlinkat,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

static PROGRAM: [Insn; stub_length(CALLS.len())] = stub(&CALLS);

/// The supervisor's hold on it.
#[derive(Debug)]
pub(crate) struct Janitor {
    pidfd: OwnedFd,
    /// Its end of file says that the sandbox has ended.
    alive: PipeWriter,
}

impl Janitor {
    /// Forks it. The caller has one thread and its signals held.
    pub(crate) fn start(groups: &[Group]) -> std::result::Result<Self, Cause> {
        let pipe = std::io::pipe();
        let (watch, alive) = pipe.map_err(|err| {
            SysError::new(
                "pipe2",
                "",
                Errno::from_raw(err.raw_os_error().unwrap_or(0)),
            )
        })?;
        let supervisor = signal::pidfd_open(nix::unistd::getpid().as_raw())?;
        match namespace::clone_into(CloneFlags::empty())? {
            Forked::Parent { pidfd, .. } => Ok(Self { pidfd, alive }),
            Forked::Child => {
                drop(alive);
                // Nobody is there to tell: what stays behind is taken away by the next launch of that id.
                exit_now(i32::from(serve(groups, &watch, &supervisor).is_err()))
            }
        }
    }

    /// The sandbox has ended: waits until its groups are gone. `false`: it was killed, or could not do its work.
    pub(crate) fn finish(self) -> bool {
        let Self { pidfd, alive } = self;
        drop(alive);
        match poll(&mut [Watch::readable(pidfd.as_fd())], Some(PATIENCE)) {
            Ok(true) => matches!(signal::reap(&pidfd), Ok(Some(Status::Exited(0)))),
            // A janitor that hangs is left to itself; it needs nothing of ours.
            Ok(false) | Err(_) => true,
        }
    }
}

fn serve(groups: &[Group], watch: &PipeReader, supervisor: &OwnedFd) -> Result<()> {
    // A session of its own: a signal to the caller's terminal or process group must not end it first.
    process::new_session()?;
    signal::close_streams()?;
    let mut keep: Vec<BorrowedFd<'_>> = vec![watch.as_fd(), supervisor.as_fd()];
    keep.extend(
        groups
            .iter()
            .flat_map(|group| [group.parent.as_fd(), group.dir.as_fd()]),
    );
    process::close_all_but(&keep)?;
    confine(groups)?;
    // The pipe ends when the supervisor says so; its pidfd when it is killed while a copy of the pipe is still open in the child.
    poll(
        &mut [
            Watch::readable(watch.as_fd()),
            Watch::readable(supervisor.as_fd()),
        ],
        None,
    )?;
    groups.iter().try_for_each(Group::remove)
}

/// As root the top directory of a hierarchy has no write bit, hence the one capability; killing takes none, since the caller owns the user
/// namespace of what is inside. Landlock leaves it the hierarchies alone, where the kernel has Landlock.
fn confine(groups: &[Group]) -> Result<()> {
    process::set_not_dumpable()?;
    process::set_no_new_privs()?;
    let abi = landlock::abi()?.min(LANDLOCK_ABI);
    if abi > 0 {
        let rule = |group: &Group| {
            Ok(Rule {
                at: group.parent.try_clone()?.into(),
                directory: true,
                rights: Rights::Write,
            })
        };
        let rules = groups.iter().map(rule).collect::<std::io::Result<Vec<_>>>();
        let rules = rules.map_err(|err| {
            SysError::new(
                "fcntl",
                "F_DUPFD_CLOEXEC",
                Errno::from_raw(err.raw_os_error().unwrap_or(0)),
            )
        })?;
        landlock::restrict(&Restriction {
            abi,
            rules: &rules,
            bind_tcp: None,
            connect_tcp: None,
            scopes: false,
        })?;
    }
    credentials::keep_dac_override()?;
    install(&PROGRAM, Notify::No).map(drop)
}
