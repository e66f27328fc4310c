//! `create` and `run` of a bundle: the parent's steps, then what the child says until it waits for `start` or executes. Whatever fails, the child is
//! killed; its groups and directory are the caller's, whose `delete` takes them back.

use std::os::fd::{AsFd as _, OwnedFd};

use airtight_plan::bundle::BundleStep;
use airtight_plan::{ChildStep, ParentStep, Plan};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::{SysError, namespace, process, signal, socket};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::{BundleContext, Console, Place, filter, run_hooks};
use crate::audit::Sink;
use crate::error::Cause;
use crate::parent::{Parent, Process};
use crate::rendezvous::{self, Message, Word};
use crate::supervise::{self, Running, Signals, kill_and_reap};
use crate::{LaunchError, Outcome};

/// A process of a container, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub pid: i32,
}

/// Writes down what was made, before anything of it can outlive the caller.
pub(crate) type Record<'a> = &'a mut dyn FnMut(Created) -> std::io::Result<()>;

/// Carries `plan` out up to the payload, and leaves the child waiting for `start`; without a fifo in `context`, running.
///
/// # Errors
/// The first step that failed; the child is gone then.
pub fn create(
    plan: &Plan,
    context: &BundleContext,
    record: Record<'_>,
) -> Result<Created, LaunchError> {
    let mut launched = launch(plan, context, record)?;
    match launched.serve(None) {
        Ok(()) => {
            let pid = launched.child()?.pid().as_raw();
            if let Some(child) = launched.parent.child.take() {
                child.keep();
            }
            Ok(Created { pid })
        }
        Err(error) => Err(launched.fail(error)),
    }
}

/// The same in the foreground: relays the terminal and signals, and waits for the end. `started` is called once the payload's program runs.
///
/// # Errors
/// The first step that failed, or a call of the supervisor's own; the child is gone then.
pub fn run(
    plan: &Plan,
    context: &BundleContext,
    record: Record<'_>,
    started: impl FnOnce(Created),
) -> Result<Outcome, LaunchError> {
    // Before anything exists that a signal could leave behind.
    let mut signals = Signals::hold().map_err(LaunchError::at("signals"))?;
    let mut launched = launch(plan, context, record)?;
    // A sandbox's own words are the supervisor's from the first one on: its refusals are told before its program runs.
    if !plan.parent.contains(&ParentStep::Supervise)
        && let Err(error) = launched.serve(Some(&mut signals))
    {
        return Err(launched.fail(error));
    }
    started(Created {
        pid: launched.child()?.pid().as_raw(),
    });
    let Launched {
        mut parent,
        control,
        master,
        ..
    } = launched;
    let sink = parent.sink.take();
    let ended = supervise::run(Running {
        plan,
        child: parent.child.as_ref().ok_or_else(missing)?.pidfd().as_fd(),
        control,
        gate: parent.gate.as_ref().map(|gate| gate.pidfd().as_fd()),
        signals,
        sink,
        terminal: master,
    })?;
    Ok(ended.outcome)
}

/// A child that was let go on.
struct Launched<'a> {
    parent: Parent<'a>,
    context: &'a BundleContext,
    control: OwnedFd,
    /// Of the payload's terminal, if it is ours to relay.
    master: Option<OwnedFd>,
}

fn launch<'a>(
    plan: &'a Plan,
    context: &'a BundleContext,
    record: Record<'_>,
) -> Result<Launched<'a>, LaunchError> {
    process::fill_standard_streams().map_err(LaunchError::at("standard streams"))?;
    // The child is a fork of this process.
    namespace::assert_single_threaded().map_err(LaunchError::at("clone"))?;
    let begin = ("begin".to_owned(), process::now());
    context.stamps.borrow_mut().push(begin);
    let program = filter::program(plan, &context.launch)?;
    let sink = Sink::open(&plan.audit, &plan.id).map_err(LaunchError::at("audit"))?;
    let mut parent =
        Parent::new(plan, &context.launch, program, sink).map_err(LaunchError::at("rendezvous"))?;
    parent.bundle.context = Some(context);
    parent.bundle.program = filter::callers_program(plan, &context.launch)?;
    parent.bundle.listener = filter::listener(plan)?;
    for step in &plan.parent {
        if *step != ParentStep::Supervise {
            parent.apply(step)?;
        }
    }
    let control = parent.release()?;
    let mut launched = Launched {
        parent,
        context,
        control,
        master: None,
    };
    let reborn = plan
        .child
        .iter()
        .any(|step| matches!(step, ChildStep::Bundle(BundleStep::Reborn { .. })));
    match launched.known(reborn, record) {
        Ok(()) => Ok(launched),
        Err(error) => Err(launched.fail(error)),
    }
}

impl Launched<'_> {
    fn child(&self) -> Result<&Process, LaunchError> {
        self.parent.child.as_ref().ok_or_else(missing)
    }

    /// The child's number goes to disk while the child works; it cannot outlive us before it knows that.
    fn known(&mut self, reborn: bool, record: Record<'_>) -> Result<(), LaunchError> {
        if reborn {
            match self.hear()? {
                Message::Reborn(pidfd) => self.adopt(pidfd)?,
                other => return Err(refused(other)),
            }
        }
        let pid = self.child()?.pid().as_raw();
        record(Created { pid }).map_err(|error| {
            LaunchError::at("state")(Cause::Refused {
                problem: error.to_string(),
                fix: "see whether the directory of --root can be written".into(),
            })
        })?;
        if let Some(made) = self.parent.bundle.made.take() {
            made.keep();
        }
        self.send_pidfd()?;
        self.say(Word::Recorded(pid))
    }

    /// Until the child waits for `start`, or executes where it does not wait.
    fn serve(&mut self, mut signals: Option<&mut Signals>) -> Result<(), LaunchError> {
        loop {
            if let Some(signals) = &mut signals {
                self.wait(signals)?;
            }
            match self.hear()? {
                Message::HooksReady => {
                    self.hooks()?;
                    self.say(Word::HooksDone)?;
                }
                Message::Terminal(master) => self.terminal(master)?,
                Message::Stamp { step, at } => self.context.stamps.borrow_mut().push((step, at)),
                Message::Created if self.context.fifo.is_some() => return Ok(()),
                Message::Created => {}
                Message::End if self.context.fifo.is_none() => return Ok(()),
                other => return Err(refused(other)),
            }
        }
    }

    /// For the child's next word. Signals wait for the payload, but those by which a caller gives up end the launch.
    fn wait(&self, signals: &mut Signals) -> Result<(), LaunchError> {
        loop {
            let mut watches = [
                Watch::readable(self.control.as_fd()),
                Watch::readable(signals.fd.as_fd()),
            ];
            poll(&mut watches, None).map_err(LaunchError::at("rendezvous"))?;
            let [spoken, signalled] = watches.map(|watch| watch.is_ready());
            if spoken {
                return Ok(());
            }
            if signalled
                && let Some(number @ (signal::SIGINT | signal::SIGTERM | signal::SIGQUIT)) =
                    signals.fd.receive().map_err(LaunchError::at("signals"))?
            {
                return Err(LaunchError::at("signals")(Cause::Sys(SysError::new(
                    "signal",
                    number.to_string(),
                    Errno::EINTR,
                ))));
            }
        }
    }

    fn hooks(&self) -> Result<(), LaunchError> {
        let points = [
            ("prestart", &self.parent.bundle.prestart),
            ("createRuntime", &self.parent.bundle.create_runtime),
        ];
        if self.parent.bundle.left_own && points.iter().any(|(_, hooks)| !hooks.is_empty()) {
            return Err(LaunchError::at("hooks")(Cause::Refused {
                problem: "hooks belong in the pid namespace around this user namespace, into which there is no way back".into(),
                fix: "give the container a pid namespace of its own, or no hooks".into(),
            }));
        }
        let document = &self.context.document;
        let state = document.json("creating", Some(self.child()?.pid().as_raw()));
        for (point, hooks) in points {
            let place = Place::Host(Some(&document.bundle));
            run_hooks(point, hooks, &state.to_string(), place).map_err(LaunchError::Hook)?;
        }
        Ok(())
    }

    /// As runc does it: one message, whose bytes say whether it is the container's first process or a further one.
    fn send_pidfd(&self) -> Result<(), LaunchError> {
        let Some(listener) = &self.context.pidfd_socket else {
            return Ok(());
        };
        let kind: &[u8] = match self.context.first {
            None => b"standard",
            Some(_) => b"setns",
        };
        socket::send_fds(listener, kind, &[self.child()?.pidfd().as_fd()])
            .map_err(LaunchError::at("pidfd socket"))
    }

    /// To the console socket as runc does it: one message, the name that the master was opened by as its bytes.
    fn terminal(&mut self, master: OwnedFd) -> Result<(), LaunchError> {
        match &self.context.console {
            Console::Relay => {
                self.master = Some(master);
                Ok(())
            }
            Console::Socket(listener) => {
                socket::send_fds(listener, b"/dev/ptmx", &[master.as_fd()])
                    .map_err(LaunchError::at("console socket"))
            }
        }
    }

    fn adopt(&mut self, pidfd: OwnedFd) -> Result<(), LaunchError> {
        let pid = signal::pid_of(&pidfd)
            .map_err(LaunchError::at("rendezvous"))?
            .ok_or_else(missing)?;
        let child = Process::new(Pid::from_raw(pid), pidfd);
        // The first one ends by itself, and is reaped here if it has.
        if let Some(before) = self.parent.child.replace(child) {
            drop(kill_and_reap(before.pidfd().as_fd()));
        }
        Ok(())
    }

    fn hear(&self) -> Result<Message, LaunchError> {
        rendezvous::hear(&self.control).map_err(LaunchError::at("rendezvous"))
    }

    fn say(&self, word: Word) -> Result<(), LaunchError> {
        match rendezvous::say(&self.control, word) {
            // The child has ended; its last message is read next and says more.
            Err(error) if matches!(error.errno, Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            said => said.map_err(LaunchError::at("rendezvous")),
        }
    }

    /// Nothing of the child is left when the error is told: what it holds can be removed then.
    fn fail(self, error: LaunchError) -> LaunchError {
        if let Some(child) = &self.parent.child {
            // The error that matters is returned.
            drop(kill_and_reap(child.pidfd().as_fd()));
        }
        error
    }
}

/// Why the child does not go on.
fn refused(message: Message) -> LaunchError {
    match message {
        Message::Failed { step, message } if step == "ContainerHooks" => LaunchError::Hook(message),
        Message::Failed { step, message } => LaunchError::Child { step, message },
        Message::NotServed { reason } => LaunchError::NotServed { reason },
        Message::NoExec { program, errno } => LaunchError::Exec { program, errno },
        Message::End => LaunchError::Child {
            step: "init".into(),
            message: "the process was killed".into(),
        },
        Message::Terminal(_)
        | Message::Stream(..)
        | Message::Listener(_)
        | Message::Stamp { .. }
        | Message::Reborn(_)
        | Message::HooksReady
        | Message::Created => LaunchError::Child {
            step: "rendezvous".into(),
            message: "a message out of turn".into(),
        },
    }
}

fn missing() -> LaunchError {
    LaunchError::Child {
        step: "clone".into(),
        message: "the plan clones no child".into(),
    }
}
