//! How long a peer is waited for: back-off between attempts, and the least rate at which bytes must come or go.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::date;
use crate::error::{Error, Result};

/// Bytes a second. Whoever is slower holds us up on purpose, or the line is dead.
const LEAST_RATE: u64 = 1 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A registry may ask for more patience than we would have, up to this.
const LONGEST_REQUEST: Duration = Duration::from_secs(120);

/// Why an exchange did not succeed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may the next time; not before `after`, if the registry says so.
    Again {
        error: Error,
        after: Option<Duration>,
    },
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What is done and what is left, for whoever shows it; and whether one of several that work together has failed.
#[derive(Debug, Default)]
pub struct Meter {
    total: AtomicU64,
    done: AtomicU64,
    stopped: AtomicBool,
}

impl Meter {
    /// Bytes that are to be moved, as far as is known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn plan(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn move_on(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was moved in vain and is moved again.
    pub(crate) fn move_back(&self, bytes: u64) {
        self.done
            .fetch_sub(bytes.min(self.done()), Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Attempts that are left, and the pause before the next.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    meter: &'a Meter,
    most: u32,
    made: u32,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(most: u32, meter: &'a Meter) -> Self {
        Self {
            meter,
            most,
            made: 0,
        }
    }

    /// Something was achieved: what comes now is a new difficulty.
    pub(crate) fn progress(&mut self) {
        self.made = 0;
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// The fault's, when there is none.
    pub(crate) fn wait(&mut self, fault: Fault) -> Result<()> {
        let (error, after) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Again { error, after } => (error, after),
        };
        if self.made >= self.most || self.meter.stopped() {
            return Err(error);
        }
        if let Some(after) = after.filter(|after| *after > LONGEST_REQUEST) {
            return Err(Error::refused(
                "the registry",
                format!("asks to come back in {} seconds: {error}", after.as_secs()),
                "try again then",
            ));
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.made.min(16))
            .min(LONGEST_PAUSE);
        self.made += 1;
        // Those that failed together do not come back together.
        let pause = pause.mul_f64(0.5 + fraction() / 2.0);
        let end = Instant::now() + after.map_or(pause, |after| after + pause / 4);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.meter.stopped() {
                return Err(error);
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        Ok(())
    }
}

/// In 0 to 1. The keys of a hash map are as random as this needs.
fn fraction() -> f64 {
    let hash = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// `Retry-After`: seconds, or a date.
#[must_use]
pub fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if header.bytes().all(|byte| byte.is_ascii_digit()) {
        return header.parse().ok().map(Duration::from_secs);
    }
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(date::seconds(header)?))?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// Bytes on their way in or out: counted, stopped when another failed, and never slower than [`LEAST_RATE`] for as long as the patience lasts.
pub(crate) struct Paced<'a, R> {
    inner: R,
    meter: Option<&'a Meter>,
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl<'a, R> Paced<'a, R> {
    pub(crate) fn new(inner: R, patience: Duration, meter: Option<&'a Meter>) -> Self {
        Self {
            inner,
            meter,
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let passed = self.since.elapsed();
        if passed >= self.patience {
            if self.bytes < LEAST_RATE.saturating_mul(passed.as_secs()) {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("slower than {LEAST_RATE} bytes a second"),
                ));
            }
            self.since = Instant::now();
            self.bytes = 0;
        }
        if self.meter.is_some_and(Meter::stopped) {
            return Err(io::Error::other("stopped, since another transfer failed"));
        }
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        if let Some(meter) = self.meter {
            meter.move_on(count as u64);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_when_to_come_back() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (header, want) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("Thu, 29 Feb 1996 00:00:00 GMT", Some(41_440_223)),
            ("Sun, 06 Nov 1994 08:49:40", None),
            ("Sun, 99 Nov 1994 08:49:40 GMT", None),
            ("-1", None),
            ("99999999999999999999999", None),
            ("soon", None),
        ] {
            let told = retry_after(header, now).map(|after| after.as_secs());
            assert_eq!(told, want, "{header}");
        }
    }

    #[test]
    fn attempts_end() {
        let meter = Meter::default();
        let again = || Fault::Again {
            error: Error::refused("r", "is busy", "wait"),
            after: None,
        };
        let mut backoff = Backoff::new(1, &meter);
        backoff.wait(again()).unwrap();
        assert!(backoff.wait(again()).is_err());
        backoff.progress();
        backoff.wait(again()).unwrap();
        meter.stop();
        backoff.progress();
        assert!(backoff.wait(again()).is_err());
    }

    #[test]
    fn what_drips_is_cut_off() {
        struct Drip;
        impl Read for Drip {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(20));
                Ok(1)
            }
        }
        let mut paced = Paced::new(Drip, Duration::from_secs(1), None);
        let mut told = None;
        for _ in 0..200 {
            if let Err(error) = paced.read(&mut [0]) {
                told = Some(error.kind());
                break;
            }
        }
        assert_eq!(told, Some(io::ErrorKind::TimedOut));
    }
}
