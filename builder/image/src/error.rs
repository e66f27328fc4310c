//! One error for the crate: what was being read or written, what is wrong with it, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use airtight_sys::SysError;

/// A failure of the store, or of an image that came from outside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {}", one_line(&path.to_string_lossy()), told(error))]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {}", one_line(&path.to_string_lossy()), one_line(&error.to_string()))]
    Sys { path: PathBuf, error: SysError },
    /// The bytes are not what they should be, or not what airtight takes.
    #[error("{what}: {problem}\n  fix: {fix}")]
    Refused {
        what: String,
        problem: String,
        fix: String,
    },
}

/// Before what to do, in every message.
const FIX: &str = "\n  fix: ";

/// Text that somebody else may have written (a name in an archive, a field of a manifest), as it may stand in a message: what would
/// steer a terminal, begin a line or turn one around is escaped. Twice is as once.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            // Line and paragraph separators and what changes the direction, which is no control character to Unicode.
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                line.extend(char.escape_unicode());
            }
            _ if char.is_control() => line.extend(char.escape_debug()),
            _ => line.push(char),
        }
    }
    line
}

/// A whole message: one line, and one for what to do, which is the last that says so.
#[must_use]
pub fn with_fix(message: &str) -> String {
    match message.rsplit_once(FIX) {
        Some((said, fix)) => format!("{}{FIX}{}", one_line(said), one_line(fix)),
        None => one_line(message),
    }
}

/// The error, and what to do where its kind alone says so.
fn told(error: &io::Error) -> String {
    let text = with_fix(&error.to_string());
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    if !full || text.contains(FIX) {
        return text;
    }
    format!(
        "{text}{FIX}make room on that file system; in the store `airtight gc` and `airtight gc --cache` do"
    )
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn sys(path: &Path) -> impl FnOnce(SysError) -> Self {
        move |error| Self::Sys {
            path: path.to_owned(),
            error,
        }
    }

    pub fn refused(
        what: impl ToString,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::Refused {
            what: one_line(&what.to_string()),
            // It may be another error's words, which have a line for their fix: here they are part of one.
            problem: one_line(&problem.into().replace(FIX, "; fix: ")),
            fix: one_line(&fix.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\r\nairtight: all is well\n  fix: none\u{9b}31m\u{202e}";

    #[test]
    fn a_value_can_neither_steer_the_terminal_nor_begin_a_line() {
        let shown = r"a\u{1b}[2J\r\nairtight: all is well\n  fix: none\u{9b}31m\u{202e}";
        assert_eq!(one_line(HOSTILE), shown);
        assert_eq!(one_line(shown), shown);
        assert_eq!(
            one_line("plain `n\u{e4}me` \\ 'x'"),
            "plain `n\u{e4}me` \\ 'x'"
        );
        let path = Path::new(HOSTILE);
        let os = || io::Error::from_raw_os_error(2);
        let folded = shown.replace(r"\n  fix", "; fix");
        for (name, error, want) in [
            (
                "refused",
                Error::refused(path.display(), HOSTILE, "do it"),
                format!("{shown}: {folded}\n  fix: do it"),
            ),
            (
                "a file",
                Error::io(path)(os()),
                format!("{shown}: {}", os()),
            ),
            (
                "a file for which there is no room",
                Error::io(path)(io::Error::from_raw_os_error(28)),
                format!(
                    "{shown}: {}\n  fix: make room on that file system; in the store `airtight gc` and `airtight gc --cache` do",
                    io::Error::from_raw_os_error(28)
                ),
            ),
            (
                "a file whose error says what to do",
                Error::io(path)(io::Error::other("is bad\n  fix: mend it")),
                format!("{shown}: is bad\n  fix: mend it"),
            ),
            (
                "a system call",
                Error::sys(path)(SysError::new("openat", HOSTILE, nix::errno::Errno::ENOENT)),
                format!("{shown}: openat({shown}): ENOENT (No such file or directory)"),
            ),
        ] {
            assert_eq!(error.to_string(), want, "{name}");
        }
    }
}
