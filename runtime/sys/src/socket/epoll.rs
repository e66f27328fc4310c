//! One epoll instance, each descriptor under a number of the caller's.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{self, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::failed;
use crate::error::Result;

/// What to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Told as long as it is readable.
    Readable,
    /// Told each time something changes, in either direction.
    Edges,
}

/// What became of one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// As given to [`Epoll::add`].
    pub key: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer has closed its sending side.
    pub peer_closed: bool,
    /// An error is pending or both directions are closed.
    pub failed: bool,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(epoll::Epoll);

/// Room for the events of one wait.
#[derive(Debug)]
pub struct Watch(Vec<EpollEvent>);

impl Watch {
    /// For at most `room` events at a time.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self(vec![EpollEvent::empty(); room.max(1)])
    }
}

impl Epoll {
    /// # Errors
    /// `epoll_create1(2)`'s.
    pub fn new() -> Result<Self> {
        epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map(Self)
            .map_err(|errno| failed("epoll_create1", "EPOLL_CLOEXEC", errno))
    }

    /// Watches `fd` until it is closed or removed.
    ///
    /// # Errors
    /// `epoll_ctl(2)`'s.
    pub fn add(&self, fd: impl AsFd, key: u64, interest: Interest) -> Result<()> {
        let flags = match interest {
            Interest::Readable => EpollFlags::EPOLLIN,
            Interest::Edges => {
                EpollFlags::EPOLLIN
                    | EpollFlags::EPOLLOUT
                    | EpollFlags::EPOLLRDHUP
                    | EpollFlags::EPOLLET
            }
        };
        self.0
            .add(fd, EpollEvent::new(flags, key))
            .map_err(|errno| failed("epoll_ctl", "EPOLL_CTL_ADD", errno))
    }

    /// Watches `fd` no more.
    ///
    /// # Errors
    /// `epoll_ctl(2)`'s.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        self.0
            .delete(fd)
            .map_err(|errno| failed("epoll_ctl", "EPOLL_CTL_DEL", errno))
    }

    /// Waits for at most `millis` milliseconds (`None`: for ever) and appends what happened to `into`.
    ///
    /// # Errors
    /// `epoll_wait(2)`'s but `EINTR`, which is no event.
    pub fn wait(
        &self,
        watch: &mut Watch,
        millis: Option<u32>,
        into: &mut Vec<Event>,
    ) -> Result<()> {
        let timeout = millis.map_or(EpollTimeout::NONE, |millis| {
            EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.0.wait(&mut watch.0, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(failed("epoll_wait", "", errno)),
        };
        into.extend(watch.0.iter().take(count).map(|event| {
            let flags = event.events();
            Event {
                key: event.data(),
                readable: flags.contains(EpollFlags::EPOLLIN),
                writable: flags.contains(EpollFlags::EPOLLOUT),
                peer_closed: flags.contains(EpollFlags::EPOLLRDHUP),
                failed: flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
            }
        }));
        Ok(())
    }
}
