//! Locks on directories that go with their holder, and the FIFO in one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;

use crate::directory::{identity, open_path};
use crate::error::{Result, SysError};

/// How long to wait for whoever holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    None,
    Upto(Duration),
}

/// Between two looks: a lock is held for milliseconds, or until a hook has run.
const PAUSE: Duration = Duration::from_millis(2);

/// Held until this is dropped, or until its holder and the forks of it that have not closed it are gone.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not read")] Flock<OwnedFd>);

/// An exclusive lock on the directory that has this path now. `None`: another holds it.
///
/// # Errors
/// `open(2)`'s, `flock(2)`'s. `ENOENT`: it was removed, perhaps by whoever held the lock.
pub fn directory(path: &Path, patience: Patience) -> Result<Option<Lock>> {
    let open = || open_path(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
    let mut fd = open()?;
    let start = Instant::now();
    loop {
        fd = match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            // Whoever held it may have removed it, and another made it anew: a lock on what has no name any more keeps nobody out.
            Ok(lock) => {
                let now = nix::sys::stat::lstat(path)
                    .map_err(|errno| SysError::new("lstat", format!("{path:?}"), errno))?;
                if identity(&*lock)? == (now.st_dev, now.st_ino) {
                    return Ok(Some(Lock(lock)));
                }
                open()?
            }
            Err((fd, Errno::EWOULDBLOCK | Errno::EINTR)) => fd,
            Err((_, errno)) => return Err(SysError::new("flock", format!("{path:?}"), errno)),
        };
        match patience {
            Patience::Upto(limit) if start.elapsed() < limit => std::thread::sleep(PAUSE),
            Patience::None | Patience::Upto(_) => return Ok(None),
        }
    }
}

/// Makes a FIFO and opens it for reading and writing, which waits for nobody.
///
/// # Errors
/// `mkfifo(3)`'s, `open(2)`'s.
pub fn make_fifo(path: &Path) -> Result<OwnedFd> {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|errno| SysError::new("mkfifo", format!("{path:?}"), errno))?;
    open_path(path, OFlag::O_RDWR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_a_lock_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let first = directory(dir.path(), Patience::None).unwrap().unwrap();
        for patience in [Patience::None, Patience::Upto(Duration::from_millis(5))] {
            assert!(directory(dir.path(), patience).unwrap().is_none());
        }
        drop(first);
        assert!(directory(dir.path(), Patience::None).unwrap().is_some());
        assert_eq!(
            directory(&dir.path().join("none"), Patience::None)
                .unwrap_err()
                .errno,
            Errno::ENOENT
        );
    }

    #[test]
    fn a_lock_is_on_the_directory_that_has_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        std::fs::create_dir(&path).unwrap();
        let first = directory(&path, Patience::None).unwrap().unwrap();
        let waits = {
            let path = path.clone();
            std::thread::spawn(move || directory(&path, Patience::Upto(Duration::from_secs(5))))
        };
        // It has the old one open by then, or finds the new one at once.
        std::thread::sleep(Duration::from_millis(50));
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        drop(first);
        let second = waits.join().unwrap().unwrap().unwrap();
        assert!(directory(&path, Patience::None).unwrap().is_none());
        drop(second);
    }
}
