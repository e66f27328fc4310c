//! A caller's own filter, right before its program, and the courier of its listener.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use airtight_plan::bundle::SeccompListener;
use airtight_sys::directory::open_path_follow;
use airtight_sys::seccomp::{self, Notify};
use airtight_sys::{process, socket};
use nix::fcntl::OFlag;
use nix::sys::uio::pread;
use serde_json::json;

use super::super::{Child, Failure, Result};
use super::lifecycle;
use crate::rendezvous::{self, Message};

/// The courier looks for the listener this often.
const LOOK: Duration = Duration::from_micros(20);

/// Between the process that loads the filter and its courier: neither makes a system call for the other, which the filter could refuse.
#[derive(Debug, Default)]
struct Handover {
    listener: OnceLock<OwnedFd>,
    delivered: AtomicBool,
}

impl Child<'_> {
    /// What comes after it is under it.
    pub(in crate::child) fn seccomp_profile(
        &mut self,
        listener: Option<&SeccompListener>,
    ) -> Result<()> {
        self.reset_signals()?;
        if self.inputs.program.is_some() {
            self.filters = Some(Filters::count()?);
        }
        let Some(program) = self.inputs.bundle.program.as_ref() else {
            return Err(Failure::Said("no program was compiled".into()));
        };
        let handover = match (program.notify(), listener) {
            (Notify::Yes, Some(listener)) => Some(self.courier(listener)?),
            (Notify::No, _) => None,
            (Notify::Yes, None) => {
                return Err(Failure::Said("the filter tells nobody".into()));
            }
        };
        let made = seccomp::install_flagged(program.insns(), program.notify(), program.flags())?;
        if let (Some(handover), Some(made)) = (handover, made) {
            // Nobody waits in it, so that setting it wakes nobody.
            drop(handover.listener.set(made));
            while !handover.delivered.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// A thread that the filter does not hold: it sends the listener to its path's other end, with the state of the container, however much the filter
    /// refuses or hands over. The exec ends it.
    fn courier(&mut self, listener: &SeccompListener) -> Result<Arc<Handover>> {
        let pid = self.host_pid()?;
        let (status, first) = match self.context()?.first {
            Some(first) => ("running", first),
            None if self.created => ("created", pid),
            None => ("creating", pid),
        };
        let state = self.context()?.document.json(status, Some(first));
        let letter = json!({
            "ociVersion": state.get("ociVersion"),
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": listener.metadata,
            "state": state,
        })
        .to_string();
        let to = self.inputs.bundle.listener.as_ref();
        let to = copy(to.ok_or_else(|| Failure::Said("nobody listens".into()))?)?;
        let parent = copy(&self.inputs.sock)?;
        let fifo = self.context()?.fifo.as_ref().map(copy).transpose()?;
        let started = self.created && fifo.is_some();
        let handover = Arc::new(Handover::default());
        let shared = Arc::clone(&handover);
        let work = move || {
            let listener = loop {
                match shared.listener.get() {
                    Some(listener) => break listener,
                    None => thread::sleep(LOOK),
                }
            };
            // One state for each connection, which ends here for every copy of it: who listens may wait for the end before it answers anything.
            let sent = socket::send_fds(&to, letter.as_bytes(), &[listener.as_fd()])
                .and_then(|()| socket::shut_down(&to));
            if let Err(error) = sent {
                // The loader may not say it any more.
                let message = Message::Failed {
                    step: "SeccompProfile".into(),
                    message: format!("sending the seccomp listener: {error}"),
                };
                if started {
                    lifecycle::tell_starter(fifo.as_ref(), &message);
                } else {
                    drop(rendezvous::tell(&parent, &message));
                }
                process::exit_now(1);
            }
            shared.delivered.store(true, Ordering::Release);
            // What a thread does at its end could wait for the loader, and the loader for it.
            loop {
                thread::park();
            }
        };
        thread::Builder::new().spawn(work).map_err(|error| {
            Failure::Said(format!("a thread for the seccomp listener: {error}"))
        })?;
        Ok(handover)
    }
}

/// How many filters this process has, by the kernel's own word. Whoever wrote the caller's filter may have it answer for a call that loads another one: with
/// 0, that is success, and nothing is loaded. Nor is it believed about any other call: the file is open before that filter is there, and what the kernel
/// writes into an empty buffer is no answer of a filter's.
#[derive(Debug)]
pub(in crate::child) struct Filters {
    status: OwnedFd,
    before: u32,
}

impl Filters {
    fn count() -> Result<Self> {
        let status = open_path_follow(Path::new("/proc/self/status"), OFlag::O_RDONLY)?;
        let before = loaded(&status).ok_or_else(|| {
            Failure::Said("/proc/self/status does not tell how many filters there are".into())
        })?;
        Ok(Self { status, before })
    }

    /// The caller's and airtight's own were loaded since.
    pub(in crate::child) fn have_both(&self) -> Result<()> {
        if loaded(&self.status) == self.before.checked_add(2) {
            return Ok(());
        }
        Err(Failure::Said(
            "the filter of linux.seccomp keeps airtight's own from being loaded after it\n  fix: let it allow seccomp and pread64".into(),
        ))
    }
}

fn loaded(status: &OwnedFd) -> Option<u32> {
    let mut text = [0_u8; 8192];
    let length = pread(status, &mut text, 0).ok()?;
    let text = str::from_utf8(text.get(..length)?).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    line?.trim().parse().ok()
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone()
        .map_err(|error| Failure::Said(format!("a copy of a descriptor: {error}")))
}
