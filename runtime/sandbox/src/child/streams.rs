//! Standard streams that are files or network sockets of the host, behind pipes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airtight_sys::directory::{self, Kind};
use airtight_sys::{SysError, process, socket};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::{Failure, Result};
use crate::rendezvous::{self, Message, Stream};

/// Puts a pipe in the place of each of 0, 1, 2 that may not cross; the parent gets the other end. Two that are one file get one pipe, so that the
/// order of what is written to them stays.
pub(super) fn replace(sock: &OwnedFd) -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [(0, stdin.as_fd()), (1, stdout.as_fd()), (2, stderr.as_fd())];
    let mut outputs: Vec<((u64, u64), OwnedFd)> = Vec::new();
    for (number, fd) in streams {
        let Some(access) = kept_outside(fd)? else {
            continue;
        };
        let identity = directory::identity(fd)?;
        if let Some((_, pipe)) = outputs.iter().find(|(other, _)| *other == identity)
            && access == OFlag::O_RDWR
        {
            process::place_exactly(pipe, number)?;
            continue;
        }
        let (read, write) =
            pipe2(OFlag::O_CLOEXEC).map_err(|errno| SysError::new("pipe2", "O_CLOEXEC", errno))?;
        let name = u8::try_from(number).unwrap_or(0);
        if number == 0 || access == OFlag::O_RDONLY {
            process::place_exactly(&read, number)?;
            rendezvous::tell(sock, &Message::Stream(Stream::From(name), write))?;
        } else {
            process::place_exactly(&write, number)?;
            rendezvous::tell(sock, &Message::Stream(Stream::To(name), read))?;
            outputs.push((identity, write));
        }
    }
    Ok(())
}

/// Ends the launch where [`replace`] would put a pipe that nobody would serve.
pub(super) fn refuse() -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (number, fd) in [(0, stdin.as_fd()), (1, stdout.as_fd()), (2, stderr.as_fd())] {
        if kept_outside(fd)?.is_some() {
            return Err(Failure::Said(format!(
                "standard stream {number} is a file that can be read, or a socket of the host's network: give a pipe, a terminal or /dev/null"
            )));
        }
    }
    Ok(())
}

/// How a stream is open that may not cross; `None` for a pipe, a character device, and for a file that is open for writing only.
fn kept_outside(fd: BorrowedFd<'_>) -> Result<Option<OFlag>> {
    let flags =
        fcntl(fd, FcntlArg::F_GETFL).map_err(|errno| SysError::new("fcntl", "F_GETFL", errno))?;
    let access = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
    let outside = match directory::kind(fd)? {
        // What can be read can be mapped as code.
        Kind::File | Kind::Block => access != OFlag::O_WRONLY,
        // It belongs to the caller's network for ever: connected anew, it reaches whatever the caller does. Landlock's scopes hold one of AF_UNIX.
        Kind::Socket => !socket::is_unix(fd)?,
        Kind::Directory | Kind::Character(..) | Kind::Other => false,
    };
    Ok(outside.then_some(access))
}
