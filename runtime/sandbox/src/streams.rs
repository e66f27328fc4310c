//! Standard streams that are files or network sockets of the caller's: what the child put pipes in the place of is carried between the two here.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use airtight_sys::poll::{Watch, poll};
use airtight_sys::signal::{self, SignalFd};
use airtight_sys::{Result, SysError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::flow::{Flow, duplicate};
use crate::rendezvous::Stream;

/// Two watches for each of three streams.
pub(crate) const WATCHES: usize = 6;

/// How long a peer that takes nothing delays the end of a launch, and of one that ran out of time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const NO_PATIENCE: Duration = Duration::from_secs(1);

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

    /// Passes on what the payload wrote before it ended. A file takes it at once; a peer on a network has its time, until a signal says otherwise.
    pub(crate) fn finish(mut self, patience: Duration, signals: &mut SignalFd) -> Result<()> {
        // Nobody is left to read it.
        let [input, ..] = &mut self.0;
        *input = None;
        while self.0.iter().flatten().any(Flow::is_open) {
            let [s0, s1, s2, s3, s4, s5] = self.watches();
            let mut watches = [s0, s1, s2, s3, s4, s5, Watch::readable(signals.as_fd())];
            if !poll(&mut watches, Some(patience))? {
                break;
            }
            let [ready @ .., signal] = watches.map(|watch| watch.is_ready());
            if signal
                && let Some(number) = signals.receive()?
                && number != signal::SIGPIPE
                && signal::ends_a_process(number)
            {
                break;
            }
            self.carry(ready);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use airtight_sys::signal::Mask;

    use super::*;

    #[test]
    fn a_peer_that_rests_for_a_while_misses_nothing() {
        let (from, mut payload) = std::io::pipe().unwrap();
        let (mut peer, to) = std::io::pipe().unwrap();
        // Both are full: what is in the first fits nowhere until the peer reads.
        let full = [b'x'; 64 << 10];
        (&to).write_all(&full).unwrap();
        payload.write_all(&full).unwrap();
        drop(payload);
        let flow = Flow::new(
            File::from(OwnedFd::from(from)),
            File::from(OwnedFd::from(to)),
            None,
        );
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            let mut got = Vec::new();
            peer.read_to_end(&mut got).map(|_| got.len())
        });
        let mut signals = SignalFd::new(&Mask::all_but_faults()).unwrap();
        Streams([None, Some(flow), None])
            .finish(PATIENCE, &mut signals)
            .unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 2 * full.len());
    }
}
