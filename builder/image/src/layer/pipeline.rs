//! Threads that all do the same: take the next piece of the archive, read what files hold of it, compress it. Where a piece ends is decided by the format alone, and
//! what is about the archive as a whole is done in the order of the pieces, so that the number of threads shows nowhere. Buffers are few and of one size: memory does
//! not grow with the layer.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use flate2::Crc;
use sha2::{Digest as _, Sha256};

use super::encode::{Compression, Encoder, Frame};
use super::layout::{Laid, Layout, Part};
use super::turns::Turns;
use super::write::{Content, Held, LayerEntry, Sealed};
use crate::digest::{DiffId, Digest};
use crate::error::Error;

/// Of each the buffers are memory.
const MAX_WORKERS: usize = 6;
/// Pieces that may be in the making beside one for each thread, so that none waits for the one whose piece takes longest.
const AHEAD: usize = 2;
/// The layer in messages that are about no entry.
const SHOWN: &str = "layer";

/// Writes the archive that `layout` lays out; `out` has all of it.
pub(super) fn run<'a, W, I, C>(
    mut out: W,
    compression: Compression,
    workers: NonZeroUsize,
    layout: Layout<I, C>,
) -> Result<Sealed, C::Error>
where
    W: Write + Send,
    I: Iterator<Item = LayerEntry<'a, C>> + Send,
    C: Content,
{
    let frame = Frame::begin(compression, &mut out).map_err(unwritten)?;
    let most = workers.get().min(MAX_WORKERS);
    let line = Line {
        compression,
        most,
        layout: Mutex::new(layout),
        state: Mutex::new(State {
            inputs: Pool::of(most + AHEAD),
            outputs: Pool::of(most + AHEAD),
            threads: 1,
            tails: BTreeMap::new(),
            failed: None,
        }),
        changed: Condvar::new(),
        archive: Turns::of(Archive::default()),
        stream: Turns::of((frame, out)),
    };
    thread::scope(|scope| line.work(scope));
    line.finish()
}

fn unwritten(error: std::io::Error) -> Error {
    Error::io(Path::new(SHOWN))(error)
}

struct Line<W, I, C: Content> {
    compression: Compression,
    most: usize,
    layout: Mutex<Layout<I, C>>,
    state: Mutex<State<C::Error>>,
    changed: Condvar,
    archive: Turns<Arc<Piece>, Archive>,
    stream: Turns<Packed, (Frame, W)>,
}

struct State<E> {
    inputs: Pool,
    outputs: Pool,
    threads: usize,
    /// The end of each piece that the next may reach into.
    tails: BTreeMap<u64, Vec<u8>>,
    /// What went wrong in the first of the pieces where something did.
    failed: Option<(u64, E)>,
}

/// Buffers that are not in use, and how many more may be made.
struct Pool {
    spare: Vec<Vec<u8>>,
    more: usize,
}

impl Pool {
    fn of(most: usize) -> Self {
        Self {
            spare: Vec::with_capacity(most),
            more: most,
        }
    }

    fn is_empty(&self) -> bool {
        self.spare.is_empty() && self.more == 0
    }

    fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| {
            self.more = self.more.saturating_sub(1);
            Vec::new()
        })
    }
}

/// All bytes of a piece.
struct Piece {
    /// What matches may reach into, then the piece from `start` to `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    files: Vec<File>,
}

/// What was found out about a file while its bytes were in the cache.
enum File {
    Whole(Held),
    /// It lies in several pieces: `start` and `end` in the buffer, and whether it ends here.
    Part {
        start: usize,
        end: usize,
        steady: bool,
        last: bool,
    },
}

/// A compressed piece. The sum is for gzip's end.
struct Packed {
    bytes: Vec<u8>,
    sum: Crc,
}

/// What is known of the archive so far.
#[derive(Default)]
struct Archive {
    hasher: Sha256,
    contents: Vec<Held>,
    /// The file that the piece ended in, and whether it was steady all along.
    open: Option<(Sha256, bool)>,
}

impl Archive {
    fn add(&mut self, piece: &Piece) {
        self.hasher.update(&piece.buffer[piece.start..piece.end]);
        for file in &piece.files {
            match file {
                File::Whole(held) => self.contents.push(*held),
                File::Part {
                    start,
                    end,
                    steady,
                    last,
                } => {
                    let (mut hasher, so_far) = self.open.take().unwrap_or((Sha256::new(), true));
                    hasher.update(&piece.buffer[*start..*end]);
                    let steady = so_far && *steady;
                    if *last {
                        let digest = hasher.finalize().into();
                        self.contents.push(Held { digest, steady });
                    } else {
                        self.open = Some((hasher, steady));
                    }
                }
            }
        }
    }
}

/// Whoever waits for a piece of a thread that panics is told.
struct Told<'l, W, I, C: Content>(&'l Line<W, I, C>);

impl<W, I, C: Content> Drop for Told<'_, W, I, C> {
    fn drop(&mut self) {
        if thread::panicking() {
            let lost = std::io::Error::other("a thread that compresses has panicked");
            self.0.fail(0, unwritten(lost).into());
        }
    }
}

impl<'a, W, I, C> Line<W, I, C>
where
    W: Write + Send,
    I: Iterator<Item = LayerEntry<'a, C>> + Send,
    C: Content,
{
    /// One thread's work, which starts another when there is more than one piece to be made: until there are as many as there may be.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let told = Told(self);
        let mut encoder = Encoder::new(self.compression);
        let mut hand = C::Hand::default();
        while let Some((mut input, output)) = self.buffers() {
            let laid = match self.next(&mut input) {
                Ok(Some(laid)) => laid,
                Ok(None) => break,
                Err((number, error)) => {
                    self.fail(number, error.into());
                    break;
                }
            };
            if laid.more && self.wants_another() {
                let started = thread::Builder::new()
                    .name("compress".to_owned())
                    .spawn_scoped(scope, || self.work(scope));
                // A group's bound on processes: those that there are do the work.
                drop(started);
            }
            let number = laid.number;
            if let Err(error) = self.make(laid, (input, output), &mut encoder, &mut hand) {
                self.fail(number, error);
                break;
            }
        }
        drop(told);
    }

    /// As soon as there are some; `None` if something failed.
    fn buffers(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut state = self.state();
        while state.failed.is_none() {
            if !state.inputs.is_empty() && !state.outputs.is_empty() {
                return Some((state.inputs.take(), state.outputs.take()));
            }
            state = self.wait(state);
        }
        None
    }

    fn next(&self, input: &mut Vec<u8>) -> Result<Option<Laid<C>>, (u64, Error)> {
        let reach = self.compression.reach();
        if input.is_empty() {
            // Pages that a small layer does not fill are never touched.
            *input = vec![0; reach + self.compression.piece()];
        }
        let mut layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        let number = layout.pieces();
        layout.piece(input, reach).map_err(|error| (number, error))
    }

    fn wants_another(&self) -> bool {
        let mut state = self.state();
        let wants = state.threads < self.most;
        state.threads += usize::from(wants);
        wants
    }

    fn make(
        &self,
        laid: Laid<C>,
        (mut buffer, mut bytes): (Vec<u8>, Vec<u8>),
        encoder: &mut Encoder,
        hand: &mut C::Hand,
    ) -> Result<(), C::Error> {
        let Laid {
            number,
            end,
            parts,
            more,
        } = laid;
        let start = self.compression.reach();
        let mut files = Vec::with_capacity(parts.len());
        for part in &parts {
            files.push(read(part, &mut buffer, hand)?);
        }
        let from = if self.reach(number, &mut buffer, end, more) {
            0
        } else {
            start
        };
        let piece = Arc::new(Piece {
            buffer,
            start,
            end,
            files,
        });
        let own = piece.clone();
        let Ok(()) = self.archive.take(number, piece, |archive, piece| {
            archive.add(&piece);
            self.give_back(piece);
            Ok::<_, std::convert::Infallible>(())
        });
        bytes.clear();
        let sum = encoder
            .piece(&own.buffer[from..end], start - from, &mut bytes)
            .map_err(unwritten)?;
        self.give_back(own);
        self.stream
            .take(number, Packed { bytes, sum }, |(frame, out), packed| {
                frame.piece(&packed.sum);
                out.write_all(&packed.bytes).map_err(unwritten)?;
                self.state().outputs.spare.push(packed.bytes);
                self.changed.notify_all();
                Ok(())
            })
    }

    /// Lets the next piece know what it may reach into, and gets what this one may: false where there is nothing.
    fn reach(&self, number: u64, buffer: &mut [u8], end: usize, more: bool) -> bool {
        let reach = self.compression.reach();
        if reach == 0 {
            return false;
        }
        let mut state = self.state();
        if more {
            state
                .tails
                .insert(number, buffer[end - reach..end].to_vec());
            self.changed.notify_all();
        }
        let Some(before) = number.checked_sub(1) else {
            return false;
        };
        while state.failed.is_none() {
            if let Some(tail) = state.tails.remove(&before) {
                buffer[..reach].copy_from_slice(&tail);
                return true;
            }
            state = self.wait(state);
        }
        false
    }

    /// Of the two who need a piece's bytes the last gives the buffer to another piece.
    fn give_back(&self, piece: Arc<Piece>) {
        if let Some(piece) = Arc::into_inner(piece) {
            self.state().inputs.spare.push(piece.buffer);
            self.changed.notify_all();
        }
    }

    fn finish(self) -> Result<Sealed, C::Error> {
        let state = self.state.into_inner();
        if let Some((_, error)) = state.unwrap_or_else(PoisonError::into_inner).failed {
            return Err(error);
        }
        let layout = self.layout.into_inner();
        let uncompressed = layout.unwrap_or_else(PoisonError::into_inner).length();
        let unfinished = || unwritten(std::io::Error::other("not all of it was written"));
        let archive = self.archive.end().ok_or_else(unfinished)?;
        let (frame, mut out) = self.stream.end().ok_or_else(unfinished)?;
        frame
            .end(&mut out)
            .and_then(|()| out.flush())
            .map_err(unwritten)?;
        Ok(Sealed {
            diff_id: DiffId(Digest::from_hasher(archive.hasher)),
            uncompressed,
            contents: archive.contents,
        })
    }
}

impl<W, I, C: Content> Line<W, I, C> {
    fn state(&self) -> MutexGuard<'_, State<C::Error>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State<C::Error>>) -> MutexGuard<'g, State<C::Error>> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// No piece is begun any more. Each before this one is begun already, and its files are read, so the error that is told is the same with any number of threads.
    fn fail(&self, number: u64, error: C::Error) {
        let mut state = self.state();
        if state
            .failed
            .as_ref()
            .is_none_or(|(first, _)| number < *first)
        {
            state.failed = Some((number, error));
        }
        self.changed.notify_all();
    }
}

fn read<C: Content>(
    part: &Part<C>,
    buffer: &mut [u8],
    hand: &mut C::Hand,
) -> Result<File, C::Error> {
    let (start, end) = (part.start, part.end);
    let steady = part.content.read(hand, part.at, &mut buffer[start..end])?;
    if part.is_whole() {
        let digest = Sha256::digest(&buffer[start..end]).into();
        return Ok(File::Whole(Held { digest, steady }));
    }
    Ok(File::Part {
        start,
        end,
        steady,
        last: part.is_last(),
    })
}
