//! The last word to the caller.

use std::borrow::Cow;
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
        drop(stderr.write_all(visible(text).as_bytes()));
    }
}

/// `text` as a terminal may have it: a config, an image or a program of it said parts of it, and what steers a terminal is shown and not done.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        for (text, want) in [
            ("a line\n\tand a second: ü", "a line\n\tand a second: ü"),
            ("\u{1b}]0;x\u{7}\r\u{9b}2J", "\\u{1b}]0;x\\u{7}\\r\\u{9b}2J"),
        ] {
            assert_eq!(visible(text), want);
        }
    }
}
