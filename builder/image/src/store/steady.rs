//! Whether what is read of a file may be known by its times later. They have to lie well before the build's start, and each store from the reading on has to change
//! them. A store through a shared mapping need not: the kernel notes the times when a page of it becomes dirty, and as long as that page waits to be written to the
//! disk (half a minute, or longer) further stores to it leave no trace. Written out, it is clean: the next store faults, and is noted.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use airtight_sys::writeback::finish_writeback;

use super::Identity;

/// What one build waits for the disk on behalf of later ones. A tree that was written just now is read again by the next build instead.
const PATIENCE: Duration = Duration::from_millis(100);
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
        identity.settled_at(self.started)
            && (0..identity.length.div_ceil(PIECE)).all(|piece| self.write_out(file, piece * PIECE))
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
        self.waited.fetch_add(took, Ordering::Relaxed);
        done.is_ok()
    }
}
