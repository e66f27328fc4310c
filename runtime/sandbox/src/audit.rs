//! Telling refusals: what the payload tried and will not get, one line each, with what to add if it was meant. Nothing here decides or
//! refuses; the kernel's other controls do, whatever is read or missed here.

mod judge;
mod line;
mod target;
mod writer;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use airtight_plan::{Audit, Plan};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::seccomp::Listener;
use airtight_sys::{Result, SysError};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::Cause;
use judge::{Refusal, Scope};
use writer::Writer;

/// A payload that is refused in a loop must not fill a disk: different lines, and then one that says so.
const LINES_MAX: usize = 256;

/// Where lines go. Shared with the gate, which writes its own: each line is one write to an appending descriptor.
#[derive(Debug)]
pub(crate) struct Sink {
    out: File,
    json: bool,
    sandbox: String,
    told: HashSet<(&'static str, String)>,
    full: bool,
    /// `out` is a pipe of ours to the caller's stderr.
    writer: Option<Writer>,
}

impl Sink {
    /// `None` when refusals are not told.
    pub(crate) fn open(audit: &Audit, sandbox: &str) -> std::result::Result<Option<Self>, Cause> {
        let (out, json, writer) = match audit {
            Audit::Off => return Ok(None),
            Audit::Stderr => {
                let (out, writer) = writer::open()?;
                (out, false, writer)
            }
            Audit::File(path) => (append(path)?, true, None),
        };
        Ok(Some(Self {
            out,
            json,
            sandbox: sandbox.to_owned(),
            told: HashSet::new(),
            full: false,
            writer,
        }))
    }

    /// What is readable when [`Self::start_writer`] has something to do.
    pub(crate) fn watch(&self) -> Watch<'_> {
        self.writer.as_ref().map_or(Watch::nothing(), Writer::watch)
    }

    /// Lines of ours or of the gate's wait in the pipe.
    pub(crate) fn start_writer(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), Writer::start)
    }

    /// Waits until all lines are out, or nobody takes them.
    pub(crate) fn finish(self) -> Result<()> {
        self.writer
            .map_or(Ok(()), |writer| writer.finish(&self.out))
    }

    /// Tells a refusal once.
    fn tell(&mut self, refusal: &Refusal) -> Result<()> {
        let key = (refusal.refused, refusal.target.clone());
        if self.full || self.told.contains(&key) {
            return Ok(());
        }
        let last = Refusal {
            refused: "more",
            target: format!("{LINES_MAX} lines"),
            reason: "what else is refused in this run is not told".into(),
            fix: None,
        };
        let full = self.told.len() >= LINES_MAX;
        let refusal = if full { &last } else { refusal };
        let line = if self.json {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or(Duration::ZERO);
            line::json(refusal, &self.sandbox, now)
        } else {
            line::text(refusal)
        };
        let failed = |err: std::io::Error| {
            SysError::new(
                "write",
                "the audit line",
                Errno::from_raw(err.raw_os_error().unwrap_or(0)),
            )
        };
        match self.out.write_all(line.as_bytes()) {
            // Whoever reads stderr is far behind: the line is lost, and may be told when the same is tried again.
            Err(err) if !self.json && err.kind() == ErrorKind::WouldBlock => return Ok(()),
            // Or has gone; the sandbox runs on. A file that cannot be written is an error: it was asked for by name.
            Err(err) if !self.json && err.kind() == ErrorKind::BrokenPipe => {}
            other => other.map_err(failed)?,
        }
        self.full = full;
        self.told.insert(key);
        Ok(())
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }
}

fn append(path: &Path) -> std::result::Result<File, Cause> {
    let failed = |error: std::io::Error| Cause::Refused {
        problem: format!("{}: {error}", path.display()),
        fix: "name a file, new or to append to, in a directory that is there".to_owned(),
    };
    // Not through a link, which may have been put there for us; and not waiting for the reader of a fifo.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        return Ok(file);
    }
    Err(Cause::Refused {
        problem: format!("{} is no regular file", path.display()),
        fix: "name a file to append to, or leave --audit out: refusals then go to stderr"
            .to_owned(),
    })
}

/// Serves the listener of the payload's filter.
#[derive(Debug)]
pub(crate) struct Auditor {
    listener: Listener,
    scope: Scope,
}

impl Auditor {
    pub(crate) fn new(listener: OwnedFd, plan: &Plan) -> Result<Self> {
        Ok(Self {
            listener: Listener::new(listener)?,
            scope: Scope::of(plan),
        })
    }

    /// Looks at one call and lets it go on. `false` when nobody is left who could make one.
    pub(crate) fn serve(&mut self, sink: &mut Sink) -> Result<bool> {
        let mut watch = [Watch::readable(self.listener.as_fd())];
        if !poll(&mut watch, Some(Duration::ZERO))? {
            return Ok(true);
        }
        if !watch.iter().any(Watch::has_data) {
            return Ok(false);
        }
        let Some(call) = self.listener.receive()? else {
            return Ok(true);
        };
        let attempt = target::attempt(&call);
        // Asked after the reading: what was read was the caller's own.
        let told = match attempt.and_then(|attempt| judge::judge(&self.scope, &attempt)) {
            Some(refusal) if self.listener.still_waits(&call) => sink.tell(&refusal),
            _ => Ok(()),
        };
        // The payload goes on first, and a full disk ends the supervisor after that.
        self.listener.go_on(&call)?;
        told.map(|()| true)
    }
}

impl AsFd for Auditor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn refusal(target: &str) -> Refusal {
        Refusal {
            refused: "write",
            target: target.into(),
            reason: "the image is read-only".into(),
            fix: None,
        }
    }

    #[test]
    fn a_line_is_told_once_and_the_file_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut sink = Sink::open(&Audit::File(path.clone()), "s1")
            .unwrap()
            .unwrap();
        for i in 0..600 {
            sink.tell(&refusal(&format!("/x{i}"))).unwrap();
            sink.tell(&refusal("/x0")).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), LINES_MAX + 1);
        assert_eq!(text.matches("\"/x0\"").count(), 1);
        assert!(
            text.lines()
                .last()
                .unwrap()
                .contains("\"refused\":\"more\""),
            "{text}"
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        // Another run adds to it.
        Sink::open(&Audit::File(path.clone()), "s2")
            .unwrap()
            .unwrap()
            .tell(&refusal("/y"))
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().lines().count(),
            LINES_MAX + 2
        );
    }

    #[test]
    fn what_is_no_file_of_the_operator_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink(dir.path().join("elsewhere"), &link).unwrap();
        for path in [
            link,
            dir.path().to_owned(),
            "/dev/null".into(),
            dir.path().join("no/such"),
        ] {
            let err = Sink::open(&Audit::File(path.clone()), "s1")
                .unwrap_err()
                .to_string();
            assert!(err.contains(path.to_str().unwrap()), "{err}");
        }
        assert!(!dir.path().join("elsewhere").exists());
    }
}
