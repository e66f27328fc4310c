//! Starting `airtight-gate` and telling it what it may carry. What it does with that is its own.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use airtight_plan::GatePlan;
use airtight_sys::namespace::{self, Forked};
use airtight_sys::socket::{send_fds, seqpacket_pair};
use airtight_sys::{SysError, directory, process, signal};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use crate::error::Cause;
use crate::parent::Process;

/// Where the gate looks for its control socket.
const CONTROL: i32 = 3;

/// The gate's process, ended and reaped with this value, and the other end of its control socket.
#[derive(Debug)]
pub(crate) struct Gate {
    process: Process,
    control: OwnedFd,
}

impl Gate {
    /// Starts it and sends the plan with the audit descriptor, if there is one, and the published ports' listeners.
    pub(crate) fn start(
        path: &Path,
        plan: &GatePlan,
        audit: Option<BorrowedFd<'_>>,
        published: &[OwnedFd],
    ) -> Result<Self, Cause> {
        let text = serde_json::to_vec(plan).map_err(|error| Cause::Refused {
            problem: format!("the gate's plan: {error}"),
            fix: "report this".into(),
        })?;
        let program = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| SysError::new("execve", format!("{path:?}"), Errno::EINVAL))?;
        let (control, theirs) = seqpacket_pair()?;
        let process = match namespace::clone_into(CloneFlags::empty())? {
            Forked::Parent { child, pidfd } => Process::new(child, pidfd),
            Forked::Child => execute(&program, &theirs),
        };
        drop(theirs);
        let message = [b"P".as_slice(), &text].concat();
        let fds: Vec<BorrowedFd<'_>> = audit
            .into_iter()
            .chain(published.iter().map(AsFd::as_fd))
            .collect();
        send_fds(&control, &message, &fds)?;
        Ok(Self { process, control })
    }

    /// The pidfd of the sandbox: the gate goes when it does.
    pub(crate) fn watch(&self, sandbox: &OwnedFd) -> Result<(), SysError> {
        send_fds(&self.control, b"D", &[sandbox.as_fd()])
    }

    pub(crate) fn control(&self) -> &OwnedFd {
        &self.control
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        self.process.pidfd()
    }
}

/// In the forked child: standard streams to `/dev/null` but stderr, the control socket at its number, nothing else.
fn execute(program: &CString, control: &OwnedFd) -> ! {
    let prepared = || -> airtight_sys::Result<()> {
        // A key on a terminal, a time-out and a service manager signal everything at once. The payload must have its time to end, so the gate hears none of
        // them: it goes when the sandbox does. A mask stays across exec, so there is no moment before it.
        signal::Mask::all_but_faults().apply()?;
        let null = directory::open_path(Path::new("/dev/null"), OFlag::O_RDWR)?;
        process::place(&null, 0)?;
        process::place(&null, 1)?;
        // Its own number goes with the rest below, and must not be closed twice.
        drop(null);
        process::place_exactly(control, CONTROL)?;
        process::close_above(CONTROL)
    };
    let error = match prepared() {
        Ok(()) => process::exec(program, std::slice::from_ref(program), &[]),
        Err(error) => error,
    };
    // The parent sees the end of the control socket; the reason can only be told here.
    drop(std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("airtight: gate: {error}\n").as_bytes(),
    ));
    process::exit_now(125)
}
