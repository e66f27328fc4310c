//! How far a transfer is, for a person at a terminal, once it has taken a second.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use airtight_image::registry::Meter;

use crate::format;

/// What is over sooner needs no bar.
const QUIET: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(200);
const WIDTH: u64 = 30;

/// Does `work`, and shows how far it is.
pub(crate) fn during<T>(shown: bool, meter: Arc<Meter>, work: impl FnOnce() -> T) -> T {
    if !shown || !io::stderr().is_terminal() {
        return work();
    }
    let (ended, end) = mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || watch(&meter, &end));
    let result = work();
    drop(ended);
    // The bar is gone before anything else is said; one that could not be shown is no loss.
    drop(watcher.join());
    result
}

fn watch(meter: &Meter, end: &mpsc::Receiver<()>) {
    let start = Instant::now();
    let mut pause = QUIET;
    let mut drawn = false;
    while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = EVERY;
        let line = line(meter.done(), meter.total(), start.elapsed());
        // A terminal that is gone needs none.
        drop(io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes()));
        drawn = true;
    }
    if drawn {
        drop(io::stderr().write_all(b"\r\x1b[K"));
    }
}

/// `[=====>     ] 12.0 MB of 48.0 MB, 6.0 MB/s`
fn line(done: u64, total: u64, passed: Duration) -> String {
    let done = done.min(total);
    let filled = if total == 0 {
        0
    } else {
        u128::from(WIDTH) * u128::from(done) / u128::from(total)
    };
    let filled = usize::try_from(filled).unwrap_or(0);
    let mut bar = "=".repeat(filled);
    if done < total {
        bar.push('>');
    }
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = u128::from(done) * 1000 / u128::from(millis);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let width = usize::try_from(WIDTH).unwrap_or(0) + 1;
    format!(
        "[{bar:<width$}] {} of {}, {}/s",
        format::bytes(done),
        format::bytes(total),
        format::bytes(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        for (done, total, want) in [
            (0, 0, "[                               ] 0 B of 0 B, 0 B/s"),
            (
                12_000_000,
                48_000_000,
                "[=======>                       ] 12.0 MB of 48.0 MB, 6.0 MB/s",
            ),
            (
                50_000_000,
                48_000_000,
                "[============================== ] 48.0 MB of 48.0 MB, 24.0 MB/s",
            ),
            (
                u64::MAX,
                u64::MAX,
                "[============================== ] 18446744.0 TB of 18446744.0 TB, 9223372.0 TB/s",
            ),
        ] {
            assert_eq!(line(done, total, Duration::from_secs(2)), want);
        }
    }
}
