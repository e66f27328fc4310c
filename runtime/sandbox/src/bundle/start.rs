//! `start`: one byte to the child that waits.

use std::os::fd::AsFd as _;
use std::path::Path;

use airtight_sys::directory::open_path;
use airtight_sys::poll::{Watch, poll};
use airtight_sys::{SysError, directory};
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Why nothing started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It has started, or has ended.
    #[error("nobody waits to be started")]
    NobodyWaits,
    /// What the child said before it ended.
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Sys(#[from] SysError),
}

/// Lets the child behind `fifo` go on. With `wait`, until its program runs: hooks that follow may count on that, and what goes wrong before is told.
///
/// # Errors
/// See [`StartError`].
pub fn start(fifo: &Path, wait: bool) -> Result<(), StartError> {
    let open = |flags| match open_path(fifo, flags | OFlag::O_NONBLOCK) {
        Err(error) if matches!(error.errno, Errno::ENXIO | Errno::ENOENT) => {
            Err(StartError::NobodyWaits)
        }
        other => Ok(other?),
    };
    // The writing end first: it is refused where nobody holds the other.
    let line = open(OFlag::O_WRONLY)?;
    let answer = wait.then(|| open(OFlag::O_RDONLY)).transpose()?;
    directory::write_value(&line, b"s", "start fifo")?;
    drop(line);
    let Some(answer) = answer else { return Ok(()) };
    // The child holds the fifo until it executes or ends; what it said is in it then.
    poll(&mut [Watch::end(answer.as_fd())], None)?;
    let mut said = [0_u8; 4096];
    let length = nix::unistd::read(&answer, &mut said)
        .map_err(|errno| SysError::new("read", "start fifo", errno))?;
    match said.get(..length) {
        None | Some([]) => Ok(()),
        // Our own byte: the child ended before it read it.
        Some([b's']) => Err(StartError::Failed(
            "the container's process has ended".into(),
        )),
        Some(said) => Err(StartError::Failed(
            String::from_utf8_lossy(said).into_owned(),
        )),
    }
}
