//! Waiting for several descriptors, and for time.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// One descriptor to wait for. After [`poll`] it says what there is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a>(libc::pollfd, std::marker::PhantomData<BorrowedFd<'a>>);

impl<'a> Watch<'a> {
    #[must_use]
    pub fn readable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLIN)
    }

    #[must_use]
    pub fn writable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLOUT)
    }

    /// Only the end of the other side, or an error.
    #[must_use]
    pub fn end(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), 0)
    }

    /// A change of a file of procfs or cgroupfs that tells of them (`cgroup.events`): ready when it changed since it was last read.
    #[must_use]
    pub fn changed(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLPRI)
    }

    /// Nothing to wait for now: keeps the places of the others in a list.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(-1, 0)
    }

    fn new(fd: RawFd, events: i16) -> Self {
        Self(
            libc::pollfd {
                fd,
                events,
                revents: 0,
            },
            std::marker::PhantomData,
        )
    }

    /// Something to read or write, or an end or error that the next read or write will tell.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.revents != 0
    }

    /// There is data, as opposed to only an end of file.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.0.revents & libc::POLLIN != 0
    }
}

/// Waits until one of them is ready; `None` waits without end. `false`: the time passed.
///
/// # Errors
/// `poll(2)`'s; `EINTR` is waited over.
pub fn poll(watches: &mut [Watch<'_>], limit: Option<Duration>) -> Result<bool> {
    // Rounded up, so that a wait never ends before its time.
    let millis = limit.map_or(-1, |time| {
        i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });
    let count = libc::nfds_t::try_from(watches.len()).unwrap_or(libc::nfds_t::MAX);
    loop {
        // SAFETY: `Watch` is transparent over pollfd, and the slice holds `count` of them for the kernel to read and write.
        let ready = unsafe { libc::poll(watches.as_mut_ptr().cast(), count, millis) };
        match (ready, Errno::last()) {
            (0.., _) => return Ok(ready > 0),
            (_, Errno::EINTR) => {}
            (_, errno) => {
                return Err(SysError {
                    call: "poll",
                    args: format!("{} descriptors", watches.len()),
                    errno,
                });
            }
        }
    }
}

/// A clock that cannot be set, as a readable event.
#[derive(Debug)]
pub struct Timer(File);

impl Timer {
    /// Not running yet.
    ///
    /// # Errors
    /// `timerfd_create(2)`'s.
    pub fn new() -> Result<Self> {
        // SAFETY: integers only.
        let fd = unsafe {
            libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
            )
        };
        if fd < 0 {
            return Err(SysError {
                call: "timerfd_create",
                args: "CLOCK_MONOTONIC".into(),
                errno: Errno::last(),
            });
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Readable once, `after` from now; at once for zero.
    ///
    /// # Errors
    /// `timerfd_settime(2)`'s.
    pub fn start(&mut self, after: Duration) -> Result<()> {
        // All zeros would stop the clock.
        let after = after.max(Duration::from_nanos(1));
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(after.subsec_nanos().cast_signed()),
        };
        let time = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        // SAFETY: the kernel reads one itimerspec at the pointer, which is live; a null old value is allowed.
        let ret = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const time, std::ptr::null_mut())
        };
        if ret == 0 {
            return Ok(());
        }
        Err(SysError {
            call: "timerfd_settime",
            args: format!("{after:?}"),
            errno: Errno::last(),
        })
    }

    /// Takes the event, so that the timer is readable again only at its next end.
    pub fn clear(&mut self) {
        // Nothing is lost when there was none: the read then says that it would block.
        drop(self.0.read(&mut [0; 8]));
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A counter that others add to, as a readable event.
///
/// # Errors
/// `eventfd2(2)`'s.
pub fn event_counter() -> Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(SysError::last("eventfd2", "0"));
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_ready_is_told_in_its_place() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (silent, _open) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut watches = [
            Watch::nothing(),
            Watch::readable(silent.as_fd()),
            Watch::readable(reader.as_fd()),
        ];
        assert!(poll(&mut watches, None).unwrap());
        assert_eq!(watches.map(|watch| watch.is_ready()), [false, false, true]);
        assert!(!poll(&mut watches[..2], Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_timer_is_readable_once() {
        let mut timer = Timer::new().unwrap();
        timer.start(Duration::ZERO).unwrap();
        assert!(poll(&mut [Watch::readable(timer.as_fd())], None).unwrap());
        timer.clear();
        assert!(!poll(&mut [Watch::readable(timer.as_fd())], Some(Duration::ZERO)).unwrap());
    }
}
