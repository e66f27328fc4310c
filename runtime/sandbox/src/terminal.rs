//! `-t`: bytes between the caller's streams and the sandbox's own terminal. The payload never holds a descriptor of the caller's terminal,
//! so that it can neither type into it nor change it. Window sizes follow; the caller's terminal is put back at every end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use airtight_sys::poll::{Watch, poll};
use airtight_sys::terminal::{self, Raw};
use airtight_sys::{Result, SysError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::flow::{Flow, duplicate};

/// What a terminal takes for the end of its input (`VEOF`, Control-D).
const END_OF_INPUT: u8 = 4;

#[derive(Debug)]
pub(crate) struct Relay {
    input: Flow,
    output: Flow,
    /// The caller's terminal is raw while this lives; `None` where its input is no terminal.
    _raw: Option<Raw>,
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
