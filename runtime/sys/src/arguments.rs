//! The memory in which the kernel put this process's arguments, which `/proc/PID/cmdline` shows to everybody.

use std::fs;

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// The kernel takes no longer argument list by default (a quarter of an 8 MiB stack, doubled).
const LONGEST: usize = 4 << 20;

/// Overwrites the arguments with zeros: a fork of ours that stays in a sandbox would show it the host's paths and the operator's flags.
/// `std::env::args` gives empty strings after it. The caller has one thread.
///
/// # Errors
/// `/proc/self/stat` cannot be read or says nothing of them.
pub fn erase() -> Result<()> {
    let failed = |errno| SysError {
        call: "open",
        args: "\"/proc/self/stat\"".to_owned(),
        errno,
    };
    let stat = fs::read("/proc/self/stat")
        .map_err(|err| failed(Errno::from_raw(err.raw_os_error().unwrap_or(0))))?;
    let (start, end) = bounds(&stat).ok_or_else(|| failed(Errno::EPROTO))?;
    // SAFETY: the kernel says that its copy of our argument strings is at `start..end`, on the stack of the first thread, which is mapped
    // and writable while the process lives. Rust reads them only through `std::env::args`, as strings that end at a zero, and no thread
    // does so meanwhile since there is one.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0, end - start) };
    Ok(())
}

/// `arg_start` and `arg_end`, fields 48 and 49. The name in field 2 may hold blanks and brackets.
fn bounds(stat: &[u8]) -> Option<(usize, usize)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let mut fields = rest
        .split_ascii_whitespace()
        .skip(48 - 3)
        .map(|field| field.parse().ok());
    let (start, end) = (fields.next()??, fields.next()??);
    (start > 0 && start <= end && end - start <= LONGEST).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_found_behind_any_name_and_nonsense_is_refused() {
        let stat = |name: &str, start: &str, end: &str| {
            format!(
                "7 ({name}) S {} {start} {end} 0 0 0",
                "0 ".repeat(44).trim_end()
            )
            .into_bytes()
        };
        for (name, stat, want) in [
            ("plain", stat("sh", "4096", "4100"), Some((4096, 4100))),
            (
                "brackets and blanks in the name",
                stat("a) S 1 (b", "4096", "4100"),
                Some((4096, 4100)),
            ),
            ("no permission", stat("sh", "0", "0"), None),
            ("backwards", stat("sh", "4100", "4096"), None),
            ("too long", stat("sh", "4096", "99999999999"), None),
            ("cut", b"7 (sh) S 1 2 3".to_vec(), None),
        ] {
            assert_eq!(bounds(&stat), want, "{name}");
        }
        assert!(bounds(&fs::read("/proc/self/stat").unwrap()).is_some());
    }
}
