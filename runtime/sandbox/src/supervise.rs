//! The host's side of a running sandbox, in one thread and one poll: signals, the child's messages and its end, the gate's end, refusals to
//! tell, the terminal, the time-out. It decides nothing but what to do next; that the sandbox dies with it is the kernel's work
//! (`PR_SET_PDEATHSIG` of pid 1).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use airtight_plan::{GateDeath, Plan};
use airtight_sys::poll::{Timer, Watch, poll};
use airtight_sys::signal::{self, Mask, SignalFd, Status};
use airtight_sys::{Result, SysError};
use nix::errno::Errno;

use crate::audit::{Auditor, Sink};
use crate::rendezvous::{self, Message};
use crate::streams::{NO_PATIENCE, PATIENCE, Streams, WATCHES};
use crate::terminal::Relay;
use crate::{LaunchError, Outcome};

/// After the time-out's SIGTERM the payload has this long before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long the gate may take to pass on what the payload left on the way: longer than it allows itself.
const GATE_PATIENCE: Duration = Duration::from_secs(12);

/// Signals held back and read one by one, until this is dropped.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) fd: SignalFd,
    before: Mask,
}

impl Signals {
    /// To be called before the child exists, so that no signal falls between. The child must undo it (`signal::reset_for_exec`).
    pub(crate) fn hold() -> Result<Self> {
        let mask = Mask::all_but_faults();
        let before = mask.apply()?;
        Ok(Self {
            fd: SignalFd::new(&mask)?,
            before,
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Fails for a mask that is no mask only, and this one came from the kernel.
        drop(self.before.apply());
    }
}

/// A sandbox whose child has been released.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    pub(crate) plan: &'a Plan,
    /// pidfd of the sandbox's pid 1, our child.
    pub(crate) child: BorrowedFd<'a>,
    /// The rendezvous: its end of file is the payload's exec.
    pub(crate) control: OwnedFd,
    /// pidfd of the gate, if there is one.
    pub(crate) gate: Option<BorrowedFd<'a>>,
    pub(crate) signals: Signals,
    pub(crate) sink: Option<Sink>,
    /// The master of the payload's terminal, where it was received before.
    pub(crate) terminal: Option<OwnedFd>,
}

/// How it ended, and when the child had done each step (since boot).
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) stamps: Vec<(String, Duration)>,
}

/// Serves the sandbox until its pid 1 has ended and is reaped. On an error the sandbox is killed first.
///
/// # Errors
/// What the child reported, the gate's death, or a call of the supervisor's own.
pub(crate) fn run(running: Running<'_>) -> std::result::Result<Ended, LaunchError> {
    let child = running.child;
    let mut supervisor = Supervisor::new(running).map_err(LaunchError::at("supervise"))?;
    let status = supervisor.serve().map_err(LaunchError::at("supervise"));
    let status = match status {
        Ok(status) => status,
        Err(err) => {
            // The error that matters is returned; what the sandbox then ended with is not.
            drop(kill_and_reap(child));
            return Err(err);
        }
    };
    if let Some(relay) = supervisor.relay.take() {
        relay.finish().map_err(LaunchError::at("supervise"))?;
    }
    let (patience, gate_patience) = if supervisor.timed_out {
        (NO_PATIENCE, NO_PATIENCE)
    } else {
        (PATIENCE, GATE_PATIENCE)
    };
    std::mem::take(&mut supervisor.streams)
        .finish(patience, &mut supervisor.signals.fd)
        .map_err(LaunchError::at("supervise"))?;
    supervisor
        .await_gate(gate_patience)
        .map_err(LaunchError::at("supervise"))?;
    if let Some(sink) = supervisor.sink.take() {
        sink.finish().map_err(LaunchError::at("audit"))?;
    }
    if let Some(failure) = supervisor.failure {
        return Err(failure);
    }
    let outcome = match status {
        _ if supervisor.timed_out => Outcome::TimedOut,
        Status::Exited(code) => Outcome::Exited(code),
        Status::Signaled(signal) => Outcome::Signaled(signal),
    };
    Ok(Ended {
        outcome,
        stamps: supervisor.stamps,
    })
}

#[derive(Debug)]
struct Supervisor<'a> {
    plan: &'a Plan,
    child: BorrowedFd<'a>,
    control: Option<OwnedFd>,
    gate: Option<BorrowedFd<'a>>,
    signals: Signals,
    sink: Option<Sink>,
    auditor: Option<Auditor>,
    relay: Option<Relay>,
    streams: Streams,
    timer: Timer,
    timed_out: bool,
    /// The gate ended before the payload executed.
    gate_ended: bool,
    /// Why the launch failed; the child's end is still waited for.
    failure: Option<LaunchError>,
    stamps: Vec<(String, Duration)>,
}

/// What is ready, by name.
#[derive(Clone, Copy, Debug)]
struct Ready {
    child: bool,
    signals: bool,
    control: bool,
    gate: bool,
    timer: bool,
    auditor: bool,
    relay: [bool; 4],
    lines: bool,
    streams: [bool; WATCHES],
}

impl<'a> Supervisor<'a> {
    fn new(running: Running<'a>) -> Result<Self> {
        let Running {
            plan,
            child,
            control,
            gate,
            signals,
            sink,
            terminal,
        } = running;
        let relay = terminal.map(Relay::start).transpose()?;
        let mut timer = Timer::new()?;
        if let Some(millis) = plan.timeout_millis {
            timer.start(Duration::from_millis(millis))?;
        }
        let control = Some(control);
        Ok(Self {
            plan,
            child,
            control,
            gate,
            signals,
            sink,
            auditor: None,
            relay,
            streams: Streams::default(),
            timer,
            timed_out: false,
            gate_ended: false,
            failure: None,
            stamps: Vec::new(),
        })
    }

    fn serve(&mut self) -> Result<Status> {
        loop {
            let ready = self.wait()?;
            // Refusals first: the payload waits for each, and its last ones may come with its end.
            if ready.auditor {
                self.audit()?;
            }
            if ready.relay.contains(&true)
                && let Some(relay) = &mut self.relay
            {
                relay.relay(ready.relay);
            }
            self.streams.carry(ready.streams);
            if ready.lines
                && let Some(sink) = &mut self.sink
            {
                sink.start_writer()?;
            }
            if ready.control {
                self.hear()?;
            }
            if ready.child
                && let Some(status) = signal::reap(self.child)?
            {
                self.hear_the_rest()?;
                return Ok(status);
            }
            if ready.signals {
                self.forward()?;
            }
            if ready.gate {
                self.gate_died()?;
            }
            if ready.timer {
                self.time_is_up()?;
            }
        }
    }

    fn wait(&self) -> Result<Ready> {
        let optional = |fd: Option<BorrowedFd<'a>>| fd.map_or(Watch::nothing(), Watch::readable);
        let [r0, r1, r2, r3] = self
            .relay
            .as_ref()
            .map_or([Watch::nothing(); 4], Relay::watches);
        let [s0, s1, s2, s3, s4, s5] = self.streams.watches();
        let mut watches = [
            Watch::readable(self.child),
            Watch::readable(self.signals.fd.as_fd()),
            self.control
                .as_ref()
                .map_or(Watch::nothing(), |fd| Watch::readable(fd.as_fd())),
            optional(self.gate),
            Watch::readable(self.timer.as_fd()),
            self.auditor
                .as_ref()
                .map_or(Watch::nothing(), |auditor| Watch::readable(auditor.as_fd())),
            self.sink.as_ref().map_or(Watch::nothing(), Sink::watch),
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            r0,
            r1,
            r2,
            r3,
        ];
        poll(&mut watches, None)?;
        let [
            child,
            signals,
            control,
            gate,
            timer,
            auditor,
            lines,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            relay @ ..,
        ] = watches.map(|watch| watch.is_ready());
        Ok(Ready {
            child,
            signals,
            control,
            gate,
            timer,
            auditor,
            relay,
            lines,
            streams: [s0, s1, s2, s3, s4, s5],
        })
    }

    fn audit(&mut self) -> Result<()> {
        let (Some(auditor), Some(sink)) = (&mut self.auditor, &mut self.sink) else {
            return Ok(());
        };
        if !auditor.serve(sink)? {
            // Nobody is left under the filter.
            self.auditor = None;
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<()> {
        let Some(control) = &self.control else {
            return Ok(());
        };
        match rendezvous::hear(control)? {
            Message::Failed { step, message } => self.fail(LaunchError::Child { step, message }),
            Message::NotServed { reason } => self.fail(LaunchError::NotServed { reason }),
            Message::NoExec { program, errno } => self.fail(LaunchError::Exec { program, errno }),
            Message::Terminal(master) => self.relay = Some(Relay::start(master)?),
            Message::Stream(stream, pipe) => self.streams.add(stream, pipe)?,
            Message::Listener(fd) => self.auditor = Some(Auditor::new(fd, self.plan)?),
            Message::Stamp { step, at } => self.stamps.push((step, at)),
            // Only `create` and its like serve a bundle's child, and it is past these words when it gets here.
            Message::Reborn(_) | Message::HooksReady | Message::Created => {
                return Err(SysError::new("recvmsg", "a bundle's word", Errno::EBADMSG));
            }
            Message::End => {
                self.control = None;
                // It executed without noticing, or ended, with a word of its own that goes first.
                if self.gate_ended {
                    self.end_with_gate()?;
                }
            }
        }
        Ok(())
    }

    /// The child is gone, so that its end of the socket is closed: what it said last is not lost.
    fn hear_the_rest(&mut self) -> Result<()> {
        while let Some(control) = &self.control {
            if !poll(
                &mut [Watch::readable(control.as_fd())],
                Some(Duration::ZERO),
            )? {
                break;
            }
            self.hear()?;
        }
        Ok(())
    }

    fn fail(&mut self, failure: LaunchError) {
        // The first is the cause of the others.
        self.failure.get_or_insert(failure);
    }

    fn forward(&mut self) -> Result<()> {
        while let Some(number) = self.signals.fd.receive()? {
            match number {
                // Ours: children other than the sandbox are looked after by who made them; a closed pipe is an error of write(2);
                // the terminal asks us, not the payload, which has another or none.
                signal::SIGCHLD | signal::SIGPIPE | signal::SIGTTIN | signal::SIGTTOU => {}
                signal::SIGWINCH if self.relay.is_some() => {
                    if let Some(relay) = &self.relay {
                        relay.resize();
                    }
                }
                signal::SIGTSTP => {
                    // Our pid 1 stops everything in its namespace; then we stop too, as the shell expects, until its SIGCONT,
                    // which is passed on.
                    self.send(signal::SIGTSTP)?;
                    signal::stop_self()?;
                }
                other => self.send(other)?,
            }
        }
        Ok(())
    }

    /// To pid 1. That it has just ended is no error: its status says the rest.
    fn send(&self, number: i32) -> Result<()> {
        send(self.child, number)
    }

    fn gate_died(&mut self) -> Result<()> {
        // The gate also ends because the sandbox did; then the next turn sees the child's end.
        if poll(&mut [Watch::readable(self.child)], Some(Duration::ZERO))? {
            return Ok(());
        }
        self.gate = None;
        // Until the payload executes the child is told by the gate why it does not serve, and says so itself.
        if self.control.is_some() {
            self.gate_ended = true;
            return Ok(());
        }
        self.end_with_gate()
    }

    fn end_with_gate(&mut self) -> Result<()> {
        match self.plan.gate.as_ref().map(|gate| gate.on_death) {
            Some(GateDeath::Kill) => {
                self.fail(LaunchError::GateDied);
                self.send(signal::SIGKILL)
            }
            Some(GateDeath::Stay) | None => Ok(()),
        }
    }

    /// The gate goes by itself when it has passed on what the payload sent; it is not waited for after a signal that would end this process.
    fn await_gate(&mut self, patience: Duration) -> Result<()> {
        let Some(gate) = self.gate else {
            return Ok(());
        };
        self.timer.start(patience)?;
        loop {
            let mut watches = [
                Watch::readable(gate),
                Watch::readable(self.timer.as_fd()),
                Watch::readable(self.signals.fd.as_fd()),
            ];
            poll(&mut watches, None)?;
            let [gone, late, _] = watches.map(|watch| watch.is_ready());
            if gone || late {
                return Ok(());
            }
            while let Some(number) = self.signals.fd.receive()? {
                if number != signal::SIGPIPE && signal::ends_a_process(number) {
                    return Ok(());
                }
            }
        }
    }

    fn time_is_up(&mut self) -> Result<()> {
        self.timer.clear();
        if self.timed_out {
            return self.send(signal::SIGKILL);
        }
        self.timed_out = true;
        self.timer.start(GRACE)?;
        self.send(signal::SIGTERM)
    }
}

fn send(child: BorrowedFd<'_>, number: i32) -> Result<()> {
    match signal::pidfd_send_signal(child, number) {
        Err(SysError {
            errno: Errno::ESRCH,
            ..
        }) => Ok(()),
        other => other,
    }
}

/// For every way out that is not the child's own end.
pub(crate) fn kill_and_reap(child: BorrowedFd<'_>) -> Result<Status> {
    send(child, signal::SIGKILL)?;
    loop {
        poll(&mut [Watch::readable(child)], None)?;
        if let Some(status) = signal::reap(child)? {
            return Ok(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use airtight_plan::{Audit, GateAudit, GatePlan, Terminal};
    use airtight_sys::socket::seqpacket_pair;

    use super::*;

    fn plan(timeout_millis: Option<u64>) -> Plan {
        Plan {
            id: "t".into(),
            parent: vec![],
            child: vec![],
            gate: Some(GatePlan {
                sandbox: "t".into(),
                endpoints: vec![],
                published: vec![],
                on_death: GateDeath::Kill,
                audit: GateAudit::Off,
                landlock_abi: 0,
            }),
            audit: Audit::Off,
            terminal: Terminal::Inherit,
            timeout_millis,
            shortfalls: vec![],
        }
    }

    /// A shell in the place of the sandbox's pid 1.
    #[expect(clippy::zombie_processes, reason = "the supervisor reaps it")]
    fn shell(script: &str) -> OwnedFd {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        signal::pidfd_open(i32::try_from(child.id()).unwrap()).unwrap()
    }

    fn supervise(
        script: &str,
        timeout_millis: Option<u64>,
        say: &[Message],
        gate: Option<&OwnedFd>,
    ) -> String {
        let (control, theirs) = seqpacket_pair().unwrap();
        for message in say {
            rendezvous::tell(&theirs, message).unwrap();
        }
        drop(theirs);
        let child = shell(script);
        let ended = run(Running {
            plan: &plan(timeout_millis),
            child: child.as_fd(),
            control,
            gate: gate.map(AsFd::as_fd),
            signals: Signals::hold().unwrap(),
            sink: None,
            terminal: None,
        });
        assert_eq!(
            signal::reap(&child).unwrap_err().errno,
            Errno::ECHILD,
            "{script}: it is reaped"
        );
        match ended {
            Ok(ended) => format!("{:?} {}", ended.outcome, ended.stamps.len()),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn each_end_of_a_sandbox_is_told_as_what_it_was() {
        let failed = Message::Failed {
            step: "rootfs".into(),
            message: "mount(): EPERM".into(),
        };
        let missing = Message::NoExec {
            program: "/bin/x".into(),
            errno: Errno::ENOENT,
        };
        let stamp = Message::Stamp {
            step: "Proc".into(),
            at: Duration::from_millis(1),
        };
        for (name, script, timeout, say, want) in [
            ("its code", "exit 7", None, vec![stamp], "Exited(7) 1"),
            ("a signal", "kill -9 $$", None, vec![], "Signaled(9) 0"),
            (
                "the time-out",
                "exec sleep 1000",
                Some(50),
                vec![],
                "TimedOut 0",
            ),
            ("in time", "exit 0", Some(60_000), vec![], "Exited(0) 0"),
            (
                "a failed step",
                "exit 125",
                None,
                vec![failed],
                "inside the sandbox, rootfs: mount(): EPERM",
            ),
            (
                "no program",
                "exit 125",
                None,
                vec![missing],
                "cannot execute /bin/x: No such file or directory",
            ),
        ] {
            assert_eq!(supervise(script, timeout, &say, None), want, "{name}");
        }
    }

    #[test]
    fn the_sandbox_does_not_outlive_its_gate() {
        let gate = shell("exit 1");
        let told = supervise("exec sleep 1000", None, &[], Some(&gate));
        assert!(told.starts_with("the gate died"), "{told}");
        assert_eq!(signal::reap(&gate).unwrap(), Some(Status::Exited(1)));
    }
}
