//! The caller's terminal: raw while a sandbox's own terminal is relayed, and always put back.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Mutex;

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// What [`restore`] puts back. A static, because a panic hook has no other way to it and in a release build a panic runs no destructor.
static BEFORE: Mutex<Option<(OwnedFd, libc::termios)>> = Mutex::new(None);

/// The terminal is raw until this is dropped.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes the terminal of `fd` raw: each byte is passed on, none is interpreted or echoed. One at a time in a process.
    ///
    /// # Errors
    /// `ENOTTY` when `fd` is no terminal, `EBUSY` when one is raw already.
    pub fn enter(fd: impl AsFd) -> Result<Self> {
        let before = attributes(&fd)?;
        let own = fd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|err| failed("dup", Errno::from_raw(err.raw_os_error().unwrap_or(0))))?;
        let Ok(mut slot) = BEFORE.lock() else {
            return Err(failed("tcsetattr", Errno::EBUSY));
        };
        if slot.is_some() {
            return Err(failed("tcsetattr", Errno::EBUSY));
        }
        let mut raw = before;
        // SAFETY: cfmakeraw changes the structure at the pointer, which is live and initialised.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        set_attributes(&own, &raw)?;
        *slot = Some((own, before));
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as [`Raw::enter`] found it, if it did. For panic hooks too.
pub fn restore() {
    // `try_lock`: a panic while the lock is held must not wait for itself.
    if let Ok(mut slot) = BEFORE.try_lock()
        && let Some((fd, before)) = slot.take()
    {
        // Nobody is left to tell, and a terminal that has gone needs nothing.
        drop(set_attributes(&fd, &before));
    }
}

/// Whether `fd` is a terminal.
#[must_use]
pub fn is_terminal(fd: impl AsFd) -> bool {
    attributes(fd).is_ok()
}

/// The size of the terminal's window.
///
/// # Errors
/// `ENOTTY`.
pub fn size(fd: impl AsFd) -> Result<Size> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel writes one winsize at the pointer, which is live.
    let ret = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if ret == 0 {
        Ok(Size {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    } else {
        Err(failed("ioctl(TIOCGWINSZ)", Errno::last()))
    }
}

/// Sets it, on a pty master for the slave's side, whose foreground group gets `SIGWINCH`.
///
/// # Errors
/// `ENOTTY`, `EIO` when the other side is gone.
pub fn set_size(fd: impl AsFd, size: Size) -> Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads one winsize at the pointer, which is live.
    let ret = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if ret == 0 {
        Ok(())
    } else {
        Err(failed("ioctl(TIOCSWINSZ)", Errno::last()))
    }
}

fn attributes(fd: impl AsFd) -> Result<libc::termios> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: tcgetattr writes one termios at the pointer if it succeeds.
    if unsafe { libc::tcgetattr(fd.as_fd().as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(failed("tcgetattr", Errno::last()));
    }
    // SAFETY: tcgetattr has succeeded and so has written it.
    Ok(unsafe { found.assume_init() })
}

fn set_attributes(fd: impl AsFd, to: &libc::termios) -> Result<()> {
    // SAFETY: tcsetattr reads one termios at the pointer, which is live and initialised.
    let ret = unsafe {
        libc::tcsetattr(
            fd.as_fd().as_raw_fd(),
            libc::TCSADRAIN,
            std::ptr::from_ref(to),
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(failed("tcsetattr", Errno::last()))
    }
}

fn failed(call: &'static str, errno: Errno) -> SysError {
    SysError {
        call,
        args: String::new(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn what_is_no_terminal_is_refused_and_a_terminal_is_put_back() {
        let null = OpenOptions::new().read(true).open("/dev/null").unwrap();
        assert!(!is_terminal(&null));
        assert_eq!(Raw::enter(&null).unwrap_err().errno, Errno::ENOTTY);

        let pty = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        let local = |fd: &std::fs::File| attributes(fd).unwrap().c_lflag;
        let before = local(&pty);
        let raw = Raw::enter(&pty).unwrap();
        assert_eq!(local(&pty) & (libc::ECHO | libc::ICANON | libc::ISIG), 0);
        assert_eq!(Raw::enter(&pty).unwrap_err().errno, Errno::EBUSY);
        drop(raw);
        assert_eq!(local(&pty), before);

        set_size(
            &pty,
            Size {
                rows: 7,
                columns: 99,
            },
        )
        .unwrap();
        assert_eq!(
            size(&pty).unwrap(),
            Size {
                rows: 7,
                columns: 99
            }
        );
    }
}
