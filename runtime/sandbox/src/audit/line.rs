//! A refusal as a line, for people or for programs. The payload chose the names in it: they cannot end the line, forge another or speak to
//! a terminal.

use std::time::Duration;

use serde::Serialize;

use super::judge::Refusal;

/// Longer names are cut; the kernel's own limit for a path is 4096 bytes.
const NAME_MAX: usize = 1024;

pub(super) fn text(refusal: &Refusal) -> String {
    let Refusal {
        refused,
        target,
        reason,
        fix,
    } = refusal;
    let fix = fix
        .as_ref()
        .map(|fix| format!("; to allow it add {fix}"))
        .unwrap_or_default();
    format!("airtight: refused: {refused} {target}: {reason}{fix}\n")
}

pub(super) fn json(refusal: &Refusal, sandbox: &str, since_epoch: Duration) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        sandbox: &'a str,
        refused: &'a str,
        target: &'a str,
        reason: &'a str,
        fix: Option<&'a str>,
    }
    let Refusal {
        refused,
        target,
        reason,
        fix,
    } = refusal;
    let line = Line {
        time: time(since_epoch),
        sandbox,
        refused,
        target,
        reason,
        fix: fix.as_deref(),
    };
    // Strings only: nothing here can fail to serialise.
    let mut json = serde_json::to_string(&line).unwrap_or_default();
    json.push('\n');
    json
}

/// Printable as it is; anything else, and what is not UTF-8, as an escape.
pub(super) fn escape(name: &[u8]) -> String {
    let mut escaped = String::new();
    for chunk in name.get(..NAME_MAX).unwrap_or(name).utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => escaped.push(c),
                // Escapes controls, marks that join what precedes them, and the ones that turn the direction of writing.
                _ => escaped.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if name.len() > NAME_MAX {
        escaped.push('…');
    }
    escaped
}

/// RFC 3339, in UTC, with milliseconds.
fn time(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years from March, so that the leap day is the last; eras of 400 years from 0000-03-01.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_era_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_years + of_era_years / 4 - of_era_years / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + of_era_years + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since_epoch.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_line() {
        for (name, raw, want) in [
            ("plain", &b"/tmp/caf\xc3\xa9 x"[..], "/tmp/caf\u{e9} x"),
            (
                "newline",
                b"/tmp/a\nairtight: refused: connect",
                "/tmp/a\\nairtight: refused: connect",
            ),
            ("terminal", b"\x1b]0;owned\x07", "\\u{1b}]0;owned\\u{7}"),
            ("c1 control", "\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            ("direction", "a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            ("line separator", "a\u{2028}b".as_bytes(), "a\\u{2028}b"),
            ("not UTF-8", b"a\xff\xfeb", "a\\xff\\xfeb"),
            ("an escape of its own", b"a\\nb", "a\\\\nb"),
        ] {
            assert_eq!(escape(raw), want, "{name}");
        }
        let long = escape(&[b'x'; 5000]);
        assert_eq!(
            (long.chars().count(), long.ends_with('…')),
            (NAME_MAX + 1, true)
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_795_494_312, "2026-11-24T04:25:12.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(
                time(Duration::from_secs(seconds) + Duration::from_millis(7)),
                want,
                "{seconds}"
            );
        }
    }

    #[test]
    fn both_forms_say_what_who_why_and_what_to_add() {
        let refusal = Refusal {
            refused: "connect",
            target: "10.0.0.5:5432 (tcp)".into(),
            reason: "not an allowed endpoint".into(),
            fix: Some("--connect 10.0.0.5:5432".into()),
        };
        let want = "airtight: refused: connect 10.0.0.5:5432 (tcp): not an allowed endpoint; to allow it add --connect 10.0.0.5:5432\n";
        assert_eq!(text(&refusal), want);
        let want = concat!(
            r#"{"time":"1970-01-01T00:00:01.000Z","sandbox":"s1","refused":"connect","target":"10.0.0.5:5432 (tcp)","#,
            r#""reason":"not an allowed endpoint","fix":"--connect 10.0.0.5:5432"}"#,
            "\n"
        );
        assert_eq!(json(&refusal, "s1", Duration::from_secs(1)), want);
    }
}
