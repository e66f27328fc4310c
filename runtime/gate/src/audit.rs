//! Lines about connections that were not made, for the operator: one `write(2)` each to a descriptor that others write to as well.
//! A client that hammers a refused endpoint makes a line now and then with a count, never a flood, and no line ever blocks the gate.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use airtight_plan::GateAudit;
use airtight_sys::poll::{Watch, poll};
use serde::Serialize;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// From the sandbox to an endpoint.
    Dial,
    /// From outside to a published port.
    Publish,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub what: What,
    /// The endpoint as the operator wrote it, or the published address.
    pub target: String,
    pub reason: String,
    /// The flag that would allow it, if one would.
    pub fix: Option<String>,
    /// Like ones before it that were not written.
    pub unwritten: u64,
}

/// A line is one piece for the kernel up to this (`PIPE_BUF`).
const LINE_MAX: usize = 4096;
/// Target, reason and fix are cut to this before a line is made, so that escapes cannot make it longer than [`LINE_MAX`].
const FIELD_MAX: usize = 256;

impl Line {
    /// For people, with the newline.
    #[must_use]
    pub fn text(&self) -> String {
        let what = match self.what {
            What::Dial => "connect",
            What::Publish => "publish",
        };
        let mut line = format!(
            "airtight: refused: {what} {} (tcp): {}",
            plain(&self.target),
            plain(&self.reason)
        );
        if self.unwritten > 0 {
            line.push_str(&format!(" ({} more like it)", self.unwritten));
        }
        if let Some(fix) = &self.fix {
            line.push_str(&format!("; to allow it add {}", plain(fix)));
        }
        line.push('\n');
        line
    }

    /// For programs: one JSON object, with the newline.
    #[must_use]
    pub fn json(&self, sandbox: &str, time: SystemTime) -> String {
        #[derive(Serialize)]
        struct Written<'a> {
            time: String,
            sandbox: &'a str,
            refused: What,
            target: String,
            reason: String,
            fix: String,
            #[serde(skip_serializing_if = "is_zero")]
            unwritten: u64,
        }
        let written = Written {
            time: rfc3339(time),
            sandbox,
            refused: self.what,
            target: plain(&self.target),
            reason: plain(&self.reason),
            fix: self.fix.as_deref().map(plain).unwrap_or_default(),
            unwritten: self.unwritten,
        };
        // Strings and numbers only: there is no value that JSON cannot say.
        serde_json::to_string(&written)
            .map(|line| line + "\n")
            .unwrap_or_default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Without control characters, which could forge a line or drive a terminal, and cut to a bounded length.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if out.len() >= FIELD_MAX {
            out.push_str("...");
            break;
        }
        if character.is_control() || !character.is_ascii() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// UTC, to the millisecond.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Howard Hinnant's civil_from_days, for days since 1970: years that begin in March, in eras of 400.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since.subsec_millis()
    )
}

/// What a line is about, for counting: few, whatever a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    pub what: What,
    /// Which endpoint or published port.
    pub number: usize,
    pub cause: Cause,
}

/// Why, without the details that a client could vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Verdict(crate::verdict::Refusal),
    Unresolved,
    Unreachable,
    Descriptors,
}

/// Which lines are written: the first of a topic, then one each [`QUIET`], and no more than [`BURST`] in a second of all.
#[derive(Debug)]
pub struct Ledger {
    topics: HashMap<Topic, (Instant, u64)>,
    second: Instant,
    written: u32,
}

/// How long a topic that was written stays silent.
pub const QUIET: Duration = Duration::from_secs(10);
/// Lines in a second, all topics together.
pub const BURST: u32 = 10;

impl Ledger {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            topics: HashMap::new(),
            second: now,
            written: 0,
        }
    }

    /// Whether a line about `topic` is due, and how many before it were not written.
    pub fn admit(&mut self, topic: Topic, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.written) = (now, 0);
        }
        let full = self.written >= BURST;
        match self.topics.get_mut(&topic) {
            Some((last, unwritten)) if full || now.saturating_duration_since(*last) < QUIET => {
                *unwritten += 1;
                return None;
            }
            Some((last, unwritten)) => {
                self.written += 1;
                *last = now;
                return Some(std::mem::take(unwritten));
            }
            None if full => return None,
            None => {}
        }
        self.written += 1;
        self.topics.insert(topic, (now, 0));
        Some(0)
    }
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct Audit {
    sink: Option<File>,
    form: GateAudit,
    sandbox: String,
    ledger: Ledger,
}

impl Audit {
    pub(crate) fn new(sink: Option<OwnedFd>, form: GateAudit, sandbox: String) -> Self {
        Self {
            sink: sink.map(File::from),
            form,
            sandbox,
            ledger: Ledger::new(Instant::now()),
        }
    }

    /// Writes the line that `line` makes, if one about `topic` is due.
    pub(crate) fn tell(&mut self, topic: Topic, line: impl FnOnce() -> Line) {
        let Some(sink) = &mut self.sink else { return };
        let Some(unwritten) = self.ledger.admit(topic, Instant::now()) else {
            return;
        };
        let line = Line {
            unwritten,
            ..line()
        };
        let mut text = match self.form {
            GateAudit::Off => return,
            GateAudit::Text => line.text(),
            GateAudit::Json => line.json(&self.sandbox, SystemTime::now()),
        };
        text.truncate(LINE_MAX);
        // A pipe that is writable takes PIPE_BUF bytes at once. One that nobody reads must not stop the traffic: its lines are lost.
        let mut room = [Watch::writable(sink.as_fd())];
        if poll(&mut room, Some(Duration::ZERO)).unwrap_or(false) {
            drop(sink.write(text.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str) -> Line {
        Line {
            what: What::Dial,
            target: target.into(),
            reason: "db leads to 127.0.0.1, a loopback address".into(),
            fix: Some("--connect db=127.0.0.1:5432".into()),
            unwritten: 0,
        }
    }

    #[test]
    fn lines_read_as_promised() {
        assert_eq!(
            line("db:5432").text(),
            "airtight: refused: connect db:5432 (tcp): db leads to 127.0.0.1, a loopback address; to allow it add --connect \
             db=127.0.0.1:5432\n"
        );
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(951_827_696_789);
        assert_eq!(
            Line {
                unwritten: 3,
                fix: None,
                ..line("db:5432")
            }
            .json("box-1", time),
            "{\"time\":\"2000-02-29T12:34:56.789Z\",\"sandbox\":\"box-1\",\"refused\":\"dial\",\"target\":\"db:5432\",\
             \"reason\":\"db leads to 127.0.0.1, a loopback address\",\"fix\":\"\",\"unwritten\":3}\n"
        );
    }

    #[test]
    fn nothing_in_a_line_forges_another_or_drives_a_terminal() {
        for text in [
            line("a\nairtight: all well\x1b[2J\u{202e}").text(),
            line(&"\0".repeat(9000)).text(),
        ] {
            assert_eq!(
                text.chars()
                    .filter(|character| character.is_control())
                    .count(),
                1,
                "{text:?}"
            );
            assert!(
                text.len() < LINE_MAX && text.ends_with('\n') && text.is_ascii(),
                "{text}"
            );
        }
        let json = line(&"\0\"\\".repeat(9000)).json("box", SystemTime::UNIX_EPOCH);
        assert!(json.len() < LINE_MAX, "{}", json.len());
    }

    #[test]
    fn days_become_dates() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (68_256_000, "1972-03-01T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(
                rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
                want
            );
        }
    }

    #[test]
    fn a_topic_is_written_once_in_a_while_with_a_count() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        let topic = |number| Topic {
            what: What::Dial,
            number,
            cause: Cause::Unreachable,
        };
        assert_eq!(ledger.admit(topic(0), start), Some(0));
        for _ in 0..1000 {
            assert_eq!(ledger.admit(topic(0), start), None);
        }
        assert_eq!(ledger.admit(topic(0), start + QUIET), Some(1000));
        let written = (100..200)
            .filter(|&number| ledger.admit(topic(number), start + QUIET * 2).is_some())
            .count();
        assert_eq!(written, BURST as usize);
    }
}
