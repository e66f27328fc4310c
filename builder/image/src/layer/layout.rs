//! Where each byte of an archive lies is known before a file is read: by the lengths that were planned. So the archive is cut into pieces first, and whoever makes a
//! piece reads what lies in it.

use std::path::{Path, PathBuf};

use super::header::{self, BLOCK, Kind};
use super::write::{Content, LayerEntry, LayerItem};
use crate::error::{Error, Result};

/// Entries on their way into pieces, in their order.
pub(super) struct Layout<I, C> {
    entries: I,
    epoch: u64,
    /// The path of the entry before.
    last: PathBuf,
    /// Goes next as it is, from `taken` on: the header of an entry.
    head: Vec<u8>,
    taken: usize,
    /// Then the rest of its content, then so many zeros.
    open: Option<Part<C>>,
    zeros: usize,
    ended: bool,
    /// Bytes so far, and pieces.
    length: u64,
    pieces: u64,
}

/// What of a file lies in one piece.
#[derive(Clone, Copy)]
pub(super) struct Part<C> {
    pub(super) content: C,
    /// Of the file.
    pub(super) length: u64,
    /// Of the first byte, in the file.
    pub(super) at: u64,
    /// In the piece's buffer.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<C> Part<C> {
    pub(super) fn is_whole(&self) -> bool {
        self.at == 0 && self.is_last()
    }

    pub(super) fn is_last(&self) -> bool {
        self.at + (self.end - self.start) as u64 == self.length
    }
}

/// A piece of which all is in its buffer but what files hold.
pub(super) struct Laid<C> {
    pub(super) number: u64,
    /// Up to where the buffer is filled.
    pub(super) end: usize,
    pub(super) parts: Vec<Part<C>>,
    /// There are more.
    pub(super) more: bool,
}

impl<'a, I, C> Layout<I, C>
where
    I: Iterator<Item = LayerEntry<'a, C>>,
    C: Content,
{
    pub(super) fn of(entries: I, epoch: u64) -> Self {
        Self {
            entries,
            epoch,
            last: PathBuf::new(),
            head: Vec::new(),
            taken: 0,
            open: None,
            zeros: 0,
            ended: false,
            length: 0,
            pieces: 0,
        }
    }

    /// Of the archive, when there are no more pieces.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// So far.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The piece that is to be made next, into a buffer from `start` on; `None` after the last.
    pub(super) fn piece(&mut self, buffer: &mut [u8], start: usize) -> Result<Option<Laid<C>>> {
        let mut parts = Vec::new();
        let mut at = start;
        loop {
            let head = &self.head[self.taken..];
            let count = head.len().min(buffer.len() - at);
            buffer[at..at + count].copy_from_slice(&head[..count]);
            (at, self.taken) = (at + count, self.taken + count);
            if at == buffer.len() {
                break;
            }
            if let Some(open) = &mut self.open {
                let left = usize::try_from(open.length - open.at).unwrap_or(usize::MAX);
                let count = left.min(buffer.len() - at);
                let part = Part {
                    start: at,
                    end: at + count,
                    ..*open
                };
                (at, open.at) = (at + count, open.at + count as u64);
                if count == left {
                    self.open = None;
                }
                parts.push(part);
            }
            if self.open.is_none() {
                let count = self.zeros.min(buffer.len() - at);
                buffer[at..at + count].fill(0);
                (at, self.zeros) = (at + count, self.zeros - count);
            }
            if at == buffer.len() {
                break;
            }
            if !self.next()? {
                break;
            }
        }
        if at == start {
            return Ok(None);
        }
        self.length += (at - start) as u64;
        self.pieces += 1;
        Ok(Some(Laid {
            number: self.pieces - 1,
            end: at,
            parts,
            more: at == buffer.len(),
        }))
    }

    /// Begins the next entry, or the end; false where that was it.
    fn next(&mut self) -> Result<bool> {
        let Some(LayerEntry { path, item }) = self.entries.next() else {
            self.zeros = if self.ended { 0 } else { 2 * BLOCK };
            return Ok(!std::mem::replace(&mut self.ended, true));
        };
        match item {
            LayerItem::Directory { mode } => self.header(path, Kind::Directory, mode)?,
            LayerItem::Symlink { target } => self.header(path, Kind::Symlink(target), 0o777)?,
            LayerItem::File {
                mode,
                length,
                content,
            } => {
                self.header(path, Kind::File(length), mode)?;
                self.open = Some(Part {
                    content,
                    length,
                    at: 0,
                    start: 0,
                    end: 0,
                });
                let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
                self.zeros = (BLOCK - over) % BLOCK;
            }
        }
        Ok(true)
    }

    fn header(&mut self, path: &Path, kind: Kind<'_>, mode: u32) -> Result<()> {
        if path <= self.last.as_path() && !self.last.as_os_str().is_empty() {
            let problem = format!("comes after {}", self.last.display());
            return Err(Error::refused(
                path.display(),
                problem,
                "write a layer's entries in the order of their paths",
            ));
        }
        path.clone_into(&mut self.last);
        self.head = header::entry(path, kind, mode, self.epoch);
        self.taken = 0;
        Ok(())
    }
}
