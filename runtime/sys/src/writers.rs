//! Whether anyone can be writing to a file right now.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// `asm-generic/fcntl.h`, the same on all architectures.
const F_SETSIG: libc::c_int = 10;

/// Whether nobody has `file` open for writing, in any process, nor mapped so that it can be stored to: a mapping keeps the open file that it was made of. From then on
/// whoever writes has to open it first, and a store to a new mapping faults, which is when the kernel notes the file's times.
///
/// The kernel says so by what it gives a read lease for (`fcntl(2)`, `F_SETLEASE`), which is taken and handed back at once. Who opens the file for writing in
/// between waits for that, or gets `EWOULDBLOCK` where it said that it will not wait. `file` must not be open for writing itself.
///
/// # Errors
/// `fcntl(2)`'s: `EACCES` for a file of another user (without `CAP_LEASE`), `EINVAL` where there are no leases.
pub fn has_no_writer(file: impl AsFd) -> Result<bool> {
    let file = file.as_fd();
    // Told to a holder whose lease is asked back. The default, SIGIO, ends a process that does not know it; this one nobody needs to know.
    control(file, F_SETSIG, libc::SIGURG)?;
    match control(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {}
        Err(error) if error.errno == Errno::EAGAIN => return Ok(false),
        Err(error) => return Err(error),
    }
    control(file, libc::F_SETLEASE, libc::F_UNLCK)?;
    Ok(true)
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, value: libc::c_int) -> Result<()> {
    // SAFETY: these commands take an integer and touch no memory; `file` is borrowed until the call returns, so the descriptor is still that file's.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, value) };
    Errno::result(done)
        .map(drop)
        .map_err(|errno| SysError::new("fcntl", format!("{command}, {value}"), errno))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use super::*;

    #[test]
    fn a_writer_is_seen_as_long_as_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let file = File::open(&path).unwrap();
        assert!(has_no_writer(&file).unwrap());
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(!has_no_writer(&file).unwrap());
        drop(writer);
        assert!(has_no_writer(&file).unwrap(), "a lease that stayed refuses");
        let mapped = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of four bytes, placed by the kernel, which nobody touches.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4,
                protection,
                libc::MAP_SHARED,
                mapped.as_raw_fd(),
                0,
            )
        };
        assert_ne!(place, libc::MAP_FAILED);
        drop(mapped);
        assert!(!has_no_writer(&file).unwrap(), "the mapping is left");
        // SAFETY: the mapping that was made above, of which no reference is left.
        assert_eq!(unsafe { libc::munmap(place, 4) }, 0);
        assert!(has_no_writer(&file).unwrap());
        OpenOptions::new().write(true).open(&path).unwrap();
    }
}
