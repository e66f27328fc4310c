//! Whether what is read of a file may be known by its times later. They have to lie well before the build's start, and each store from the reading on has to change
//! them. A store through a shared mapping need not: the kernel notes the times when a page of it becomes dirty, and as long as that page waits to be written to the
//! disk (half a minute, or longer) further stores to it leave no trace. A file that somebody has open or mapped for writing when it is read is therefore read
//! again by each build. Where the kernel does not say whether somebody has, its pages are written out: they are clean then, the next store faults, and is noted.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use airtight_sys::writeback::finish_writeback;
use airtight_sys::writers::has_no_writer;

use super::Identity;

/// What one build waits for the disk on behalf of later ones. What cannot be proven in time is read again by the next build instead.
const PATIENCE: Duration = Duration::from_millis(100);
/// What a call takes where nothing waits to be written, in nanoseconds, with room: it does not count, or a tree of a million files at rest would be too much.
const AT_REST: u64 = 20_000;
/// Written out at once, in bytes; between two the time is looked at.
const PIECE: u64 = 16 << 20;

/// What a build takes for proven of the files that it reads.
#[derive(Debug)]
pub struct Steady {
    started: SystemTime,
    /// Nanoseconds for which the disk was waited for.
    waited: AtomicU64,
}

impl Steady {
    /// For a build that looks at no file before `started`.
    #[must_use]
    pub fn since(started: SystemTime) -> Self {
        Self {
            started,
            waited: AtomicU64::new(0),
        }
    }

    /// Asked before a byte of `file` is read, which had `identity` when the build looked: whether no change from now on can leave that as it is. The caller looks
    /// again after it has read.
    pub fn before_reading(&self, file: impl AsFd, identity: &Identity) -> bool {
        let file = file.as_fd();
        if !identity.settled_at(self.started) {
            return false;
        }
        has_no_writer(file).unwrap_or_else(|_| {
            // Another's file, without CAP_LEASE.
            (0..identity.length.div_ceil(PIECE)).all(|piece| self.write_out(file, piece * PIECE))
        })
    }

    /// One that the kernel cannot write out proves nothing.
    fn write_out(&self, file: impl AsFd, offset: u64) -> bool {
        let most = PATIENCE.as_nanos();
        if u128::from(self.waited.load(Ordering::Relaxed)) > most {
            return false;
        }
        let began = Instant::now();
        let done = finish_writeback(file, offset, PIECE);
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if took > AT_REST {
            self.waited.fetch_add(took, Ordering::Relaxed);
        }
        done.is_ok()
    }
}
