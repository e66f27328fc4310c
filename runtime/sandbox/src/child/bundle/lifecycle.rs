//! Where the child waits: for hooks, for `start`; and what it carries over them.

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use airtight_plan::ChildStep;
use airtight_plan::bundle::Hook;
use airtight_sys::poll::{Watch, poll};
use airtight_sys::signal::{self, Mask, SignalFd};
use airtight_sys::{SysError, directory, process};
use nix::errno::Errno;

use super::super::{Child, Failure, Result, exec};
use crate::bundle::{BundleContext, Place, run_hooks};
use crate::rendezvous::{self, Message, Word};

impl Child<'_> {
    pub(super) fn context(&self) -> Result<&BundleContext> {
        let none = || Failure::Said("the launch is no bundle's".into());
        self.inputs.bundle.context.ok_or_else(none)
    }

    /// Our number on the host. Once it is known here it is on disk, with all that `delete` needs.
    pub(super) fn host_pid(&mut self) -> Result<i32> {
        if let Some(pid) = self.host_pid {
            return Ok(pid);
        }
        match rendezvous::await_word(&self.inputs.sock)? {
            Word::Recorded(pid) => {
                self.host_pid = Some(pid);
                Ok(pid)
            }
            Word::HooksDone => Err(Failure::Said("a word out of turn".into())),
        }
    }

    pub(in crate::child) fn await_hooks(&mut self) -> Result<()> {
        self.host_pid()?;
        rendezvous::tell(&self.inputs.sock, &Message::HooksReady)?;
        match rendezvous::await_word(&self.inputs.sock)? {
            Word::HooksDone => Ok(()),
            Word::Recorded(_) => Err(Failure::Said("a word out of turn".into())),
        }
    }

    pub(in crate::child) fn container_hooks(&mut self, hooks: &[Hook]) -> Result<()> {
        let pid = self.host_pid()?;
        // Hooks of before the root changes, or those right before the program.
        let env = self.environment();
        let (point, status, place) = if self.rootfs.is_some() {
            ("createContainer", "creating", Place::Host(None))
        } else {
            ("startContainer", "created", Place::Container(&env))
        };
        let state = self.context()?.document.json(status, Some(pid));
        run_hooks(point, hooks, &state.to_string(), place).map_err(Failure::Said)
    }

    /// Of the program to be.
    fn environment(&self) -> Vec<String> {
        let mut steps = self.inputs.plan.child.iter();
        let env = steps.find_map(|step| match step {
            ChildStep::Exec { env, .. } => Some(&env[..]),
            _ => None,
        });
        let home = self.home.iter().map(|home| format!("HOME={home}"));
        env.unwrap_or_default()
            .iter()
            .cloned()
            .chain(home)
            .collect()
    }

    /// What execve(2) will say of a missing program is said before `create` returns.
    pub(in crate::child) fn look_up_program(&mut self) -> Result<()> {
        for step in &self.inputs.plan.child {
            if let ChildStep::Exec { args, env } = step
                && let Some(program) = args.first()
            {
                exec::look_up(program, env).map_err(|errno| Failure::Exec {
                    program: program.clone(),
                    errno,
                })?;
            }
        }
        Ok(())
    }

    pub(in crate::child) fn await_start(&mut self) -> Result<()> {
        self.host_pid()?;
        rendezvous::tell(&self.inputs.sock, &Message::Created)?;
        self.created = true;
        match &self.context()?.fifo {
            Some(fifo) => Ok(wait_for_start(fifo.as_fd())?),
            None => Ok(()),
        }
    }

    pub(in crate::child) fn tell_starter(&self, message: &Message) {
        let context = self.context().ok();
        tell_starter(context.and_then(|context| context.fifo.as_ref()), message);
    }

    pub(in crate::child) fn preserve_descriptors(&mut self, count: u32) -> Result<()> {
        self.forget_descriptors();
        self.close_all_but_first(count)?;
        for number in (3..).take(usize::try_from(count).unwrap_or(0)) {
            process::keep_across_exec(number)?;
        }
        Ok(())
    }

    /// The rendezvous, the fifo, the filter's listener and the springboard stay, close-on-exec.
    pub(in crate::child) fn close_all_but_first(&mut self, count: u32) -> Result<()> {
        if self.inputs.bundle.context.is_some() {
            // Nothing of the payload's is executed before this process is on disk: the parent wrote it down meanwhile, so this rarely waits.
            self.host_pid()?;
        }
        process::refuse_directory_streams()?;
        let fifo = self
            .inputs
            .bundle
            .context
            .and_then(|context| context.fifo.as_ref());
        let keep: Vec<BorrowedFd<'_>> = [
            Some(&self.inputs.sock),
            fifo,
            self.inputs.bundle.listener.as_ref(),
            self.inputs.bundle.springboard.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(|fd| fd.as_fd())
        .collect();
        Ok(process::close_all_but_first(count, &keep)?)
    }

    /// What our own set-up blocked or ignored must not reach the payload (Rust ignores SIGPIPE). Once, and before a filter that may refuse these calls.
    pub(in crate::child) fn reset_signals(&mut self) -> Result<()> {
        if !self.signals_reset {
            signal::reset_for_exec()?;
            self.signals_reset = true;
        }
        Ok(())
    }
}

/// Whoever said `start` may wait for an answer; the payload's own stderr is where people look otherwise.
pub(super) fn tell_starter(fifo: Option<&OwnedFd>, message: &Message) {
    let text = match message {
        Message::Failed { message, .. } => message.clone(),
        Message::NoExec { program, errno } => {
            format!("exec {program}: {}", errno.desc().to_lowercase())
        }
        Message::NotServed { reason } => reason.clone(),
        Message::Terminal(_)
        | Message::Stream(..)
        | Message::Listener(_)
        | Message::Stamp { .. }
        | Message::Reborn(_)
        | Message::HooksReady
        | Message::Created
        | Message::End => return,
    };
    // Both may be closed or full; the exit code is what is left then.
    if let Some(fifo) = fifo {
        let cut = text.as_bytes().get(..4095).unwrap_or(text.as_bytes());
        drop(directory::write_value(fifo, cut, "start fifo"));
    }
    drop(std::io::stderr().write_all(format!("{text}\n").as_bytes()));
}

/// As pid 1 of a namespace it would be deaf to a signal that nobody handles: one that would end any other process ends this one, as it ends those of
/// other runtimes.
fn wait_for_start(fifo: BorrowedFd<'_>) -> std::result::Result<(), SysError> {
    let mask = Mask::all_but_faults();
    mask.apply()?;
    let mut signals = SignalFd::new(&mask)?;
    loop {
        let mut watches = [Watch::readable(fifo), Watch::readable(signals.as_fd())];
        poll(&mut watches, None)?;
        let [started, signalled] = watches.map(|watch| watch.is_ready());
        if signalled
            && let Some(number) = signals.receive()?
            && signal::ends_a_process(number)
        {
            process::exit_now(128 + number);
        }
        if started {
            return match nix::unistd::read(fifo, &mut [0]) {
                Ok(1) => Ok(()),
                Ok(_) => Err(SysError::new("read", "start fifo", Errno::EPIPE)),
                Err(errno) => Err(SysError::new("read", "start fifo", errno)),
            };
        }
    }
}
