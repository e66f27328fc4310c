//! Being told that a container ran out of memory.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use airtight_sys::poll::{Watch, event_counter};
use airtight_sys::{Result as SysResult, SysError};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::Groups;
use super::dir::{Dir, there};
use crate::error::Cause;

/// Ready when there is something to look at ([`OomWatch::look`]).
#[derive(Debug)]
pub struct OomWatch {
    dir: Dir,
    fd: OwnedFd,
    version: Version,
}

#[derive(Debug)]
enum Version {
    V1,
    /// How many were killed when last looked.
    V2 {
        killed: u64,
    },
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oom {
    Nothing,
    Happened,
    /// The group is gone: nothing more will be told.
    Ended,
}

impl Groups {
    /// `None`: no group of this container counts memory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>, Cause> {
        if let Some(dir) = self.of("memory")? {
            return Ok(Some(watch_v1(dir)?));
        }
        let Some(dir) = self.unified()? else {
            return Ok(None);
        };
        let Some(fd) = there(dir.file("memory.events", OFlag::O_RDONLY))? else {
            return Ok(None);
        };
        let killed = killed(&fd)?;
        let version = Version::V2 { killed };
        Ok(Some(OomWatch { dir, fd, version }))
    }

    /// How often the kernel killed for memory in this container, if it is counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn oom_kills(&self) -> Result<u64, Cause> {
        let (dir, file) = match self.of("memory")? {
            Some(dir) => (Some(dir), "memory.oom_control"),
            None => (self.unified()?, "memory.events"),
        };
        let text = match dir {
            Some(dir) => dir.read_if_there(file)?.unwrap_or_default(),
            None => String::new(),
        };
        Ok(counted(&text))
    }
}

fn watch_v1(dir: Dir) -> SysResult<OomWatch> {
    let fd = event_counter()?;
    let control = dir.file("memory.oom_control", OFlag::O_RDONLY)?;
    let registration = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    dir.write("cgroup.event_control", &registration)?;
    Ok(OomWatch {
        dir,
        fd,
        version: Version::V1,
    })
}

impl OomWatch {
    #[must_use]
    pub fn watch(&self) -> Watch<'_> {
        match self.version {
            Version::V1 => Watch::readable(self.fd.as_fd()),
            Version::V2 { .. } => Watch::changed(self.fd.as_fd()),
        }
    }

    /// # Errors
    /// The kernel's.
    pub fn look(&mut self) -> Result<Oom, Cause> {
        match &mut self.version {
            Version::V1 => {
                let told = match nix::unistd::read(&self.fd, &mut [0; 8]) {
                    Ok(_) => Oom::Happened,
                    Err(Errno::EAGAIN) => Oom::Nothing,
                    Err(errno) => return Err(SysError::new("read", "eventfd", errno).into()),
                };
                // The removal of a group is told the same way.
                let there = there(self.dir.file("memory.oom_control", OFlag::O_RDONLY))?;
                Ok(if there.is_none() { Oom::Ended } else { told })
            }
            Version::V2 { killed: before } => {
                let Some(now) = there(killed(&self.fd))? else {
                    return Ok(Oom::Ended);
                };
                let told = if now > *before {
                    Oom::Happened
                } else {
                    Oom::Nothing
                };
                *before = now;
                Ok(told)
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn killed(events: &OwnedFd) -> SysResult<u64> {
    let mut text = [0_u8; 512];
    let length = nix::sys::uio::pread(events, &mut text, 0)
        .map_err(|errno| SysError::new("pread64", "memory.events", errno))?;
    Ok(counted(&String::from_utf8_lossy(
        text.get(..length).unwrap_or_default(),
    )))
}

fn counted(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}
