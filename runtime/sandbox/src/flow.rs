//! Bytes on their way from one descriptor to another.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd;

use airtight_sys::poll::Watch;
use airtight_sys::{Result, SysError};
use nix::errno::Errno;

/// Read at once; also what may wait for a slow reader before its writer is asked to wait.
const CHUNK: usize = 16 << 10;

/// What poll(2) promises to take at once when it calls a blocking pipe or socket writable: a payload's slow reader must not stop us.
const PROMISED: usize = 4096;

/// One direction. `None`: that side has ended.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) from: Option<File>,
    to: Option<File>,
    waiting: VecDeque<u8>,
    /// Written after the end of `from`.
    last: Option<u8>,
}

impl Flow {
    pub(crate) fn new(from: File, to: File, last: Option<u8>) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            waiting: VecDeque::new(),
            last,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.to.is_some() && (self.from.is_some() || !self.waiting.is_empty())
    }

    /// Reading waits for writing: a slow side slows the other down and takes no memory.
    pub(crate) fn watches(&self) -> [Watch<'_>; 2] {
        match (&self.from, &self.to, self.waiting.is_empty()) {
            (Some(from), Some(_), true) => [Watch::readable(from.as_fd()), Watch::nothing()],
            (_, Some(to), false) => [Watch::nothing(), Watch::writable(to.as_fd())],
            (_, None, _) | (None, _, true) => [Watch::nothing(), Watch::nothing()],
        }
    }

    pub(crate) fn carry(&mut self, readable: bool, writable: bool) {
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
            let (ready, _) = self.waiting.as_slices();
            match to.write(ready.get(..PROMISED).unwrap_or(ready)) {
                Ok(length) => drop(self.waiting.drain(..length.min(self.waiting.len()))),
                Err(err) if is_passing(&err) => {}
                // Nobody reads any more: the rest is read and thrown away, so that the payload does not block for ever.
                Err(_) => {
                    self.to = None;
                    self.waiting.clear();
                }
            }
        }
        // All has crossed: a pipe's reader sees the end.
        if self.from.is_none() && self.waiting.is_empty() {
            self.to = None;
        }
    }
}

fn is_passing(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

pub(crate) fn duplicate(fd: impl AsFd) -> Result<File> {
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
    use std::os::fd::OwnedFd;

    use airtight_sys::poll::poll;

    use super::*;

    const END_OF_INPUT: u8 = 4;

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
