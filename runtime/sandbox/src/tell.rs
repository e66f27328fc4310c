//! The last word to the caller.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use airtight_sys::poll::{Watch, poll};

/// How long a message waits for a stderr that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes to stderr what a launch ended with. The payload, which is gone by then, may have left a stderr that stops whoever writes there (a full pipe,
/// Control-S on a terminal): then it stays unsaid, as on a closed one, and the exit code still says it.
pub fn tell_caller(text: &str) {
    let mut stderr = std::io::stderr();
    let room = poll(&mut [Watch::writable(stderr.as_fd())], Some(PATIENCE));
    if room.unwrap_or(false) {
        drop(stderr.write_all(text.as_bytes()));
    }
}
