//! One thread reads and hashes, others compress, and the pieces come out in their order. Where a piece ends is decided by the format alone, so that the
//! number of threads shows nowhere. Buffers are few and of one size: memory does not grow with the layer.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::Crc;
use sha2::{Digest as _, Sha256};

use super::encode::{Compression, Encoder, Frame};
use crate::digest::{DiffId, Digest};

/// More threads than one reader can feed, and their buffers, would only take memory.
pub(super) const MAX_WORKERS: usize = 6;

/// A stream being compressed.
pub(super) struct Pipeline<W: Write> {
    out: W,
    compression: Compression,
    frame: Frame,
    hasher: Sha256,
    /// Bytes that went in.
    length: u64,
    /// Reach, then a piece; all of one size.
    buffer: Vec<u8>,
    /// Where the piece begins, and what is filled up to.
    start: usize,
    filled: usize,
    ours: Option<Encoder>,
    workers: Workers,
    /// Of the next piece to go in, and of the next to come out.
    next_in: u64,
    next_out: u64,
    /// Came before their turn.
    early: BTreeMap<u64, Done>,
    spare_in: Vec<Vec<u8>>,
    spare_out: Vec<Vec<u8>>,
    /// Of each file, in the order that they were announced.
    digests: Vec<[u8; 32]>,
    /// Files that lie in this piece alone.
    spans: Vec<Span>,
}

/// A file of one piece. Its digest is taken by whoever compresses that: the thread that reads has the archive's to take.
struct Span {
    /// Among the digests.
    file: usize,
    start: usize,
    end: usize,
}

impl Span {
    fn digest(&self, piece: &[u8]) -> (usize, [u8; 32]) {
        let content = piece.get(self.start..self.end).unwrap_or_default();
        (self.file, Sha256::digest(content).into())
    }
}

/// What went through.
pub(super) struct Sealed {
    pub(super) diff_id: DiffId,
    pub(super) length: u64,
    pub(super) digests: Vec<[u8; 32]>,
}

impl<W: Write> Pipeline<W> {
    pub(super) fn begin(
        mut out: W,
        compression: Compression,
        workers: NonZeroUsize,
    ) -> io::Result<Self> {
        let frame = Frame::begin(compression, &mut out)?;
        Ok(Self {
            out,
            compression,
            frame,
            hasher: Sha256::new(),
            length: 0,
            buffer: vec![0; compression.reach() + compression.piece()],
            start: 0,
            filled: 0,
            ours: None,
            workers: Workers::new(compression, workers.get().min(MAX_WORKERS)),
            next_in: 0,
            next_out: 0,
            early: BTreeMap::new(),
            spare_in: Vec::new(),
            spare_out: Vec::new(),
            digests: Vec::new(),
            spans: Vec::new(),
        })
    }

    /// Where the next bytes go; never empty. What is put there counts once [`Pipeline::advance`] is told.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let end = self.start + self.compression.piece();
        &mut self.buffer[self.filled..end]
    }

    /// A file's content of this length comes next. `None` if its digest is taken here, else the number that it has in [`Pipeline::digest`].
    pub(super) fn file(&mut self, length: u64) -> Option<usize> {
        let file = self.digests.len();
        self.digests.push([0; 32]);
        let room = self.room().len();
        match usize::try_from(length) {
            Ok(length) if length <= room => {
                self.spans.push(Span {
                    file,
                    start: self.filled,
                    end: self.filled + length,
                });
                None
            }
            _ => Some(file),
        }
    }

    /// Of a file that is too long for its piece.
    pub(super) fn digest(&mut self, file: usize, digest: [u8; 32]) {
        if let Some(slot) = self.digests.get_mut(file) {
            *slot = digest;
        }
    }

    /// The first `count` bytes of the room are part of the stream.
    pub(super) fn advance(&mut self, count: usize) -> io::Result<()> {
        self.filled += count;
        if self.filled - self.start == self.compression.piece() {
            self.piece()?;
        }
        Ok(())
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.advance(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    /// Ends the stream; `out` has all of it.
    pub(super) fn finish(mut self) -> io::Result<Sealed> {
        if self.filled > self.start {
            self.last_piece()?;
        }
        while self.next_out < self.next_in {
            self.collect()?;
        }
        self.frame.end(&mut self.out)?;
        self.out.flush()?;
        Ok(Sealed {
            diff_id: DiffId(Digest::from_hasher(self.hasher)),
            length: self.length,
            digests: self.digests,
        })
    }

    /// Sends the piece off, and begins the next with what it may reach into.
    fn piece(&mut self) -> io::Result<()> {
        self.count();
        if !self.workers.ready() {
            self.compress_here()?;
            let kept = self.compression.reach().min(self.filled);
            self.buffer.copy_within(self.filled - kept..self.filled, 0);
            (self.start, self.filled) = (kept, kept);
            return Ok(());
        }
        // One more than there are threads, so that none waits for this one.
        while self.next_in - self.next_out > self.workers.threads.len() as u64 {
            self.collect()?;
        }
        let size = self.buffer.len();
        let mut next = self.spare_in.pop().unwrap_or_else(|| vec![0; size]);
        let kept = self.compression.reach().min(self.filled);
        next[..kept].copy_from_slice(&self.buffer[self.filled - kept..self.filled]);
        let input = std::mem::replace(&mut self.buffer, next);
        self.send(input);
        (self.start, self.filled) = (kept, kept);
        Ok(())
    }

    /// What is left at the end: a layer of one piece starts no thread for it.
    fn last_piece(&mut self) -> io::Result<()> {
        self.count();
        if self.workers.threads.is_empty() {
            return self.compress_here();
        }
        let input = std::mem::take(&mut self.buffer);
        self.send(input);
        Ok(())
    }

    fn count(&mut self) {
        let piece = &self.buffer[self.start..self.filled];
        self.hasher.update(piece);
        self.length += piece.len() as u64;
    }

    fn send(&mut self, input: Vec<u8>) {
        self.workers.send(Job {
            number: self.next_in,
            input,
            start: self.start,
            end: self.filled,
            out: self.spare_out.pop().unwrap_or_default(),
            spans: std::mem::take(&mut self.spans),
        });
        self.next_in += 1;
    }

    fn compress_here(&mut self) -> io::Result<()> {
        let encoder = self
            .ours
            .get_or_insert_with(|| Encoder::new(self.compression));
        let mut out = self.spare_out.pop().unwrap_or_default();
        out.clear();
        let sum = encoder.piece(&self.buffer[..self.filled], self.start, &mut out)?;
        self.frame.piece(&sum);
        self.out.write_all(&out)?;
        self.spare_out.push(out);
        for span in std::mem::take(&mut self.spans) {
            let (file, digest) = span.digest(&self.buffer);
            self.digest(file, digest);
        }
        Ok(())
    }

    /// Waits for one piece, and writes what has its turn.
    fn collect(&mut self) -> io::Result<()> {
        let mut done = self.workers.receive()?;
        for (file, digest) in done.digests.drain(..) {
            self.digest(file, digest);
        }
        self.early.insert(done.number, done);
        while let Some(done) = self.early.remove(&self.next_out) {
            self.frame.piece(&done.sum);
            self.out.write_all(&done.out)?;
            self.spare_in.push(done.input);
            self.spare_out.push(done.out);
            self.next_out += 1;
        }
        Ok(())
    }
}

/// One piece for a thread.
struct Job {
    number: u64,
    input: Vec<u8>,
    start: usize,
    end: usize,
    out: Vec<u8>,
    spans: Vec<Span>,
}

struct Done {
    number: u64,
    input: Vec<u8>,
    out: Vec<u8>,
    sum: Crc,
    digests: Vec<(usize, [u8; 32])>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread that panicked held no half-made state: the queue changes by whole jobs.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that compress, started when there is work for them and none is idle.
struct Workers {
    compression: Compression,
    most: usize,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    sender: Sender<io::Result<Done>>,
    receiver: Receiver<io::Result<Done>>,
}

impl Workers {
    fn new(compression: Compression, most: usize) -> Self {
        let (sender, receiver) = channel();
        Self {
            compression,
            most,
            shared: Arc::default(),
            threads: Vec::new(),
            sender,
            receiver,
        }
    }

    /// Whether there is a thread to send to; false where only the caller's own may work.
    fn ready(&mut self) -> bool {
        if self.most < 2 {
            return false;
        }
        let queue = self.shared.lock();
        let busy = queue.idle <= queue.jobs.len();
        drop(queue);
        if busy && self.threads.len() < self.most {
            let (shared, sender) = (self.shared.clone(), self.sender.clone());
            let compression = self.compression;
            let started = thread::Builder::new()
                .name("compress".to_owned())
                .spawn(move || work(&shared, &sender, compression));
            match started {
                Ok(thread) => self.threads.push(thread),
                // A group's bound on processes: those that there are do the work, or the caller does.
                Err(_) => self.most = self.threads.len(),
            }
        }
        !self.threads.is_empty()
    }

    fn send(&self, job: Job) {
        self.shared.lock().jobs.push_back(job);
        self.shared.changed.notify_one();
    }

    fn receive(&self) -> io::Result<Done> {
        self.receiver
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("no thread compresses any more")))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.lock();
            queue.closed = true;
            queue.jobs.clear();
        }
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // It told of its panic when that happened.
            drop(thread.join());
        }
    }
}

/// Says that a thread ended by a panic, so that nobody waits for its piece.
struct Told<'a>(&'a Sender<io::Result<Done>>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let lost = io::Error::other("a thread that compresses has panicked");
            // Nobody hears it when the layer was given up already.
            drop(self.0.send(Err(lost)));
        }
    }
}

fn work(shared: &Shared, sender: &Sender<io::Result<Done>>, compression: Compression) {
    let told = Told(sender);
    let mut encoder = Encoder::new(compression);
    while let Some(job) = next(shared) {
        let Job {
            number,
            input,
            start,
            end,
            mut out,
            spans,
        } = job;
        out.clear();
        let sum = encoder.piece(input.get(..end).unwrap_or_default(), start, &mut out);
        let digests = spans.iter().map(|span| span.digest(&input)).collect();
        let done = sum.map(|sum| Done {
            digests,
            number,
            input,
            out,
            sum,
        });
        if sender.send(done).is_err() {
            break;
        }
    }
    drop(told);
}

fn next(shared: &Shared) -> Option<Job> {
    let mut queue = shared.lock();
    loop {
        if queue.closed {
            return None;
        }
        if let Some(job) = queue.jobs.pop_front() {
            return Some(job);
        }
        queue.idle += 1;
        queue = shared
            .changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
    }
}
