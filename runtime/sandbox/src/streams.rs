//! Standard streams that are files of the caller's: what the child put pipes in the place of is carried between the two here.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use airtight_sys::poll::{Watch, poll};
use airtight_sys::{Result, SysError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::flow::{Flow, duplicate};
use crate::rendezvous::Stream;

/// Two watches for each of three streams.
pub(crate) const WATCHES: usize = 6;

#[derive(Debug, Default)]
pub(crate) struct Streams([Option<Flow>; 3]);

impl Streams {
    /// Takes the parent's end of a pipe.
    pub(crate) fn add(&mut self, stream: Stream, pipe: OwnedFd) -> Result<()> {
        // Ours alone, so that the flag disturbs nobody: a payload that does not read its input must not stop us.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| SysError::new("fcntl", "F_SETFL, O_NONBLOCK", errno))?;
        let pipe = File::from(pipe);
        let (Stream::From(number) | Stream::To(number)) = stream;
        let own = match number {
            0 => duplicate(std::io::stdin()),
            1 => duplicate(std::io::stdout()),
            _ => duplicate(std::io::stderr()),
        }?;
        let flow = match stream {
            Stream::From(_) => Flow::new(own, pipe, None),
            Stream::To(_) => Flow::new(pipe, own, None),
        };
        if let Some(place) = self.0.get_mut(usize::from(number)) {
            *place = Some(flow);
        }
        Ok(())
    }

    /// What to wait for, in the order that [`Self::carry`] takes.
    pub(crate) fn watches(&self) -> [Watch<'_>; WATCHES] {
        let mut watches = [Watch::nothing(); WATCHES];
        for (at, flow) in self.0.iter().enumerate() {
            let Some(flow) = flow else { continue };
            for (place, watch) in watches.iter_mut().skip(at * 2).zip(flow.watches()) {
                *place = watch;
            }
        }
        watches
    }

    /// Moves what can be moved; `ready` as [`Self::watches`] found.
    pub(crate) fn carry(&mut self, ready: [bool; WATCHES]) {
        for (flow, ready) in self.0.iter_mut().zip(ready.chunks(2)) {
            if let (Some(flow), [from, to]) = (flow, ready) {
                flow.carry(*from, *to);
            }
        }
    }

    /// Passes on what the payload wrote before it ended; a file takes it at once.
    pub(crate) fn finish(mut self) -> Result<()> {
        // Nobody is left to read it.
        let [input, ..] = &mut self.0;
        *input = None;
        while self.0.iter().flatten().any(Flow::is_open) {
            let mut watches = self.watches();
            if !poll(&mut watches, Some(Duration::from_secs(1)))? {
                break;
            }
            let ready = watches.map(|watch| watch.is_ready());
            self.carry(ready);
        }
        Ok(())
    }
}
