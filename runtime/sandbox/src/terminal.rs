//! `-t`: bytes between the caller's streams and the sandbox's own terminal. The payload never holds a descriptor of the caller's terminal,
//! so that it can neither type into it nor change it. Window sizes follow; the caller's terminal is put back at every end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use airtight_sys::poll::{Watch, poll};
use airtight_sys::terminal::{self, Raw};
use airtight_sys::{Result, SysError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Read at once; also what may wait for a slow reader before its writer is asked to wait.
const CHUNK: usize = 16 << 10;
/// What a terminal takes for the end of its input (`VEOF`, Control-D).
const END_OF_INPUT: u8 = 4;

#[derive(Debug)]
pub(crate) struct Relay {
    input: Flow,
    output: Flow,
    /// The caller's terminal is raw while this lives; `None` where its input is no terminal.
    _raw: Option<Raw>,
}

/// One direction. `None`: that side has ended.
#[derive(Debug)]
struct Flow {
    from: Option<File>,
    to: Option<File>,
    waiting: VecDeque<u8>,
    /// Written after the end of `from`.
    last: Option<u8>,
}

impl Relay {
    /// Takes the master that the child made.
    pub(crate) fn start(master: OwnedFd) -> Result<Self> {
        // Ours alone: no other process shares this open file, so that the flag disturbs nobody.
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
        )
        .map_err(|errno| SysError::new("fcntl", "F_SETFL, O_NONBLOCK", errno))?;
        let stdin = duplicate(io::stdin())?;
        let raw = if terminal::is_terminal(&stdin) {
            // A release build aborts on a panic, and then only the hook can put the terminal back.
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                terminal::restore();
                before(panic);
            }));
            Some(Raw::enter(&stdin)?)
        } else {
            None
        };
        let input = Flow::new(stdin, duplicate(&master)?, Some(END_OF_INPUT));
        let output = Flow::new(File::from(master), duplicate(io::stdout())?, None);
        let relay = Self {
            input,
            output,
            _raw: raw,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the sandbox's terminal the size of the caller's, if that has one.
    pub(crate) fn resize(&self) {
        if let (Ok(size), Some(master)) = (
            terminal::size(io::stdin()).or_else(|_| terminal::size(io::stdout())),
            &self.output.from,
        ) {
            // The other side may be gone; then there is nobody to draw for.
            drop(terminal::set_size(master, size));
        }
    }

    /// What to wait for, in the order that [`Self::relay`] takes.
    pub(crate) fn watches(&self) -> [Watch<'_>; 4] {
        let [from_caller, to_payload] = self.input.watches();
        let [from_payload, to_caller] = self.output.watches();
        [from_caller, to_payload, from_payload, to_caller]
    }

    /// Moves what can be moved; `ready` as [`Self::watches`] found.
    pub(crate) fn relay(&mut self, ready: [bool; 4]) {
        let [from_caller, to_payload, from_payload, to_caller] = ready;
        self.input.carry(from_caller, to_payload);
        self.output.carry(from_payload, to_caller);
    }

    /// Passes on what the payload wrote before it ended. A caller that reads nothing for a second loses the rest.
    pub(crate) fn finish(mut self) -> Result<()> {
        while self.output.is_open() {
            let mut watches = self.output.watches();
            if !poll(&mut watches, Some(Duration::from_secs(1)))? {
                break;
            }
            let [from, to] = watches.map(|watch| watch.is_ready());
            self.output.carry(from, to);
        }
        Ok(())
    }
}

impl Flow {
    fn new(from: File, to: File, last: Option<u8>) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            waiting: VecDeque::new(),
            last,
        }
    }

    fn is_open(&self) -> bool {
        self.to.is_some() && (self.from.is_some() || !self.waiting.is_empty())
    }

    /// Reading waits for writing: a slow side slows the other down and takes no memory.
    fn watches(&self) -> [Watch<'_>; 2] {
        match (&self.from, &self.to, self.waiting.is_empty()) {
            (Some(from), Some(_), true) => [Watch::readable(from.as_fd()), Watch::nothing()],
            (_, Some(to), false) => [Watch::nothing(), Watch::writable(to.as_fd())],
            (_, None, _) | (None, _, true) => [Watch::nothing(), Watch::nothing()],
        }
    }

    fn carry(&mut self, readable: bool, writable: bool) {
        if readable && let Some(from) = &mut self.from {
            let mut buffer = [0; CHUNK];
            match from.read(&mut buffer) {
                Ok(length) if length > 0 => self
                    .waiting
                    .extend(buffer.get(..length).unwrap_or_default()),
                Err(err) if is_passing(&err) => {}
                // EIO is how a master tells that the last user of the other side has gone.
                Ok(_) | Err(_) => {
                    self.from = None;
                    self.waiting.extend(self.last.take());
                }
            }
        }
        if writable && let Some(to) = &mut self.to {
            match to.write(self.waiting.as_slices().0) {
                Ok(length) => drop(self.waiting.drain(..length.min(self.waiting.len()))),
                Err(err) if is_passing(&err) => {}
                // Nobody reads any more: the rest is read and thrown away, so that the payload does not block for ever.
                Err(_) => {
                    self.to = None;
                    self.waiting.clear();
                }
            }
        }
    }
}

fn is_passing(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn duplicate(fd: impl AsFd) -> Result<File> {
    let failed = |err: io::Error| {
        SysError::new(
            "fcntl",
            "F_DUPFD_CLOEXEC",
            Errno::from_raw(err.raw_os_error().unwrap_or(0)),
        )
    };
    fd.as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(last: Option<u8>) -> (io::PipeWriter, Flow, io::PipeReader) {
        let ((from, writer), (reader, to)) = (io::pipe().unwrap(), io::pipe().unwrap());
        (
            writer,
            Flow::new(
                File::from(OwnedFd::from(from)),
                File::from(OwnedFd::from(to)),
                last,
            ),
            reader,
        )
    }

    fn turn(flow: &mut Flow) {
        let mut watches = flow.watches();
        poll(&mut watches, None).unwrap();
        let [from, to] = watches.map(|watch| watch.is_ready());
        flow.carry(from, to);
    }

    #[test]
    fn bytes_cross_and_the_end_is_passed_on() {
        let (mut writer, mut flow, mut reader) = flow(Some(END_OF_INPUT));
        writer.write_all(b"hello").unwrap();
        drop(writer);
        while flow.is_open() {
            turn(&mut flow);
        }
        drop(flow);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"hello\x04");
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_flow() {
        let (mut writer, mut flow, reader) = flow(None);
        drop(reader);
        writer.write_all(b"hello").unwrap();
        turn(&mut flow);
        turn(&mut flow);
        assert!(!flow.is_open() && flow.waiting.is_empty());
    }
}
