//! The way of audit lines to a stderr that the payload shares. It may stop whoever writes there (a full pipe that it fills itself, Control-S on a terminal),
//! and the supervisor must not be stopped: its time-out and its signals would stop with it. So lines go into a pipe of our own, which drops them when
//! it is full, and a process that does nothing else carries them on; it is started with the first line and killed when it does not end.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use airtight_sys::directory::{self, Kind};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::socket::fork_run;
use airtight_sys::{Result, SysError, process, signal};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// How long lines that nobody takes delay the end of a launch.
const PATIENCE: Duration = Duration::from_millis(500);
/// After the last line. No line holds it: names in them are escaped.
const END: u8 = 0;

#[derive(Debug)]
pub(super) enum Writer {
    /// The end of the pipe that it will read.
    Waiting(OwnedFd),
    /// Its pidfd.
    Running(OwnedFd),
}

/// The descriptor to write lines to. A regular file never keeps its writer waiting and needs no process.
pub(super) fn open() -> Result<(File, Option<Writer>)> {
    let stderr = std::io::stderr();
    if directory::kind(&stderr)? == Kind::File {
        let duplicate = stderr.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            SysError::new("fcntl", "stderr", errno)
        })?;
        return Ok((File::from(duplicate), None));
    }
    let (read, write) =
        pipe2(OFlag::O_CLOEXEC).map_err(|errno| SysError::new("pipe2", "O_CLOEXEC", errno))?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| SysError::new("fcntl", "F_SETFL, O_NONBLOCK", errno))?;
    Ok((File::from(write), Some(Writer::Waiting(read))))
}

impl Writer {
    /// Readable when there is a line and nobody to carry it.
    pub(super) fn watch(&self) -> Watch<'_> {
        match self {
            Self::Waiting(lines) => Watch::readable(lines.as_fd()),
            Self::Running(_) => Watch::nothing(),
        }
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let Self::Waiting(lines) = self else {
            return Ok(());
        };
        let child = fork_run(|| u8::from(carry(lines).is_err()))?;
        // Its end is closed here with this, so that a writer that has gone is seen as a closed pipe.
        *self = Self::Running(child);
        Ok(())
    }

    /// Ends it when it has written all lines; `lines` is the other end of its pipe.
    pub(super) fn finish(mut self, mut lines: &File) -> Result<()> {
        if poll(&mut [self.watch()], Some(Duration::ZERO))? {
            self.start()?;
        }
        let Self::Running(child) = &self else {
            return Ok(());
        };
        match lines.write(&[END]) {
            // It is far behind or gone, and does not need to be told.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe) => {
            }
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                return Err(SysError::new("write", "the audit pipe", errno));
            }
            Ok(_) => {}
        }
        poll(&mut [Watch::readable(child.as_fd())], Some(PATIENCE))?;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Self::Running(child) = self {
            // It has ended, or is stuck with lines that nobody takes: then it ends now.
            drop(signal::pidfd_send_signal(&*child, nix::libc::SIGKILL));
            drop(poll(&mut [Watch::readable(child.as_fd())], Some(PATIENCE)));
            drop(signal::reap(&*child));
        }
    }
}

/// The process: lines from the pipe to stderr, to the end of either.
fn carry(lines: &OwnedFd) -> Result<()> {
    // A killed supervisor leaves nobody behind.
    process::die_with_parent()?;
    let stderr = std::io::stderr();
    process::close_all_but(&[lines.as_fd(), stderr.as_fd()])?;
    let failed = |error: std::io::Error| {
        SysError::new(
            "write",
            "stderr",
            Errno::from_raw(error.raw_os_error().unwrap_or(0)),
        )
    };
    let mut lines = File::from(lines.try_clone().map_err(failed)?);
    let mut buffer = [0_u8; 4096];
    loop {
        let length = lines.read(&mut buffer).map_err(failed)?;
        let read = buffer.get(..length).unwrap_or_default();
        let ends = read.is_empty() || read.ends_with(&[END]);
        let text = read.strip_suffix(&[END]).unwrap_or(read);
        stderr.lock().write_all(text).map_err(failed)?;
        if ends {
            return Ok(());
        }
    }
}
