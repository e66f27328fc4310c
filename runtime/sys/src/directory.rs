//! Making and looking at files below a descriptor.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};

use crate::error::{Result, SysError};

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
    /// Character device, major and minor.
    Character(u64, u64),
    Block,
    Socket,
    /// A fifo, a link, or what the kernel made and has no type.
    Other,
}

/// The type of what `fd` refers to (an `O_PATH` descriptor will do).
///
/// # Errors
/// `fstat(2)`'s.
pub fn kind(fd: impl AsFd) -> Result<Kind> {
    let stat = fstat(fd).map_err(|errno| SysError::new("fstat", "", errno))?;
    let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    Ok(match format {
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFCHR => Kind::Character(major(stat.st_rdev), minor(stat.st_rdev)),
        SFlag::S_IFBLK => Kind::Block,
        SFlag::S_IFSOCK => Kind::Socket,
        _ => Kind::Other,
    })
}

/// The permission bits of what `fd` refers to, set-id and sticky bits among them.
///
/// # Errors
/// `fstat(2)`'s.
pub fn mode(fd: impl AsFd) -> Result<u32> {
    fstat(fd)
        .map(|stat| stat.st_mode & 0o7777)
        .map_err(|errno| SysError::new("fstat", "", errno))
}

/// The type of what `fd` refers to, and its device number where it is a device.
///
/// # Errors
/// `fstat(2)`'s.
pub fn node(fd: impl AsFd) -> Result<(SFlag, (u64, u64))> {
    let stat = fstat(fd).map_err(|errno| SysError::new("fstat", "", errno))?;
    let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    Ok((format, (major(stat.st_rdev), minor(stat.st_rdev))))
}

/// Device and inode number: the identity of a file.
///
/// # Errors
/// `fstat(2)`'s.
pub fn identity(fd: impl AsFd) -> Result<(u64, u64)> {
    fstat(fd)
        .map(|stat| (stat.st_dev, stat.st_ino))
        .map_err(|errno| SysError::new("fstat", "", errno))
}

/// Opens a path of the host, following no link in its last component.
///
/// # Errors
/// `open(2)`'s.
pub fn open_path(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    nix::fcntl::open(
        path,
        flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
        Mode::empty(),
    )
    .map_err(|errno| SysError::new("open", format!("{path:?}, {flags:?}"), errno))
}

/// Opens a path of the host that the operator gave: links are theirs to use.
///
/// # Errors
/// `open(2)`'s.
pub fn open_path_follow(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| SysError::new("open", format!("{path:?}, {flags:?}"), errno))
}

/// The whole of a regular file of text of at most `limit` bytes: no link, and no FIFO, whose writer would be waited for.
///
/// # Errors
/// `open(2)`'s, `read(2)`'s; what it is instead.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<String> {
    match open_path(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Err(error) if error.errno == Errno::ELOOP => Err(io::Error::other("is a link")),
        opened => regular(opened, limit),
    }
}

/// As [`read_regular`], also through a link.
///
/// # Errors
/// As [`read_regular`].
pub fn read_regular_follow(path: &Path, limit: u64) -> io::Result<String> {
    let opened = open_path_follow(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    regular(opened, limit)
}

fn regular(opened: Result<OwnedFd>, limit: u64) -> io::Result<String> {
    let file = opened.map_err(|error| io::Error::from(error.errno))?;
    let stat = fstat(&file)?;
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
        return Err(io::Error::other("is no regular file"));
    }
    // A file that says what it holds is read at once. What it says is not trusted further than the limit.
    let told = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
    let mut text = String::with_capacity(usize::try_from(told).unwrap_or(0).saturating_add(64));
    let read = File::from(file)
        .take(limit.saturating_add(1))
        .read_to_string(&mut text)?;
    if read as u64 > limit {
        return Err(io::Error::other(format!("is longer than {limit} bytes")));
    }
    Ok(text)
}

/// `mkdirat(2)` with exactly `mode`, whatever the umask; opens what it made.
///
/// # Errors
/// The calls'.
pub fn make_directory(at: impl AsFd, name: &Path, mode: u32) -> Result<OwnedFd> {
    let fail = |call: &'static str| {
        move |errno| SysError::new(call, format!("{name:?}, 0o{mode:o}"), errno)
    };
    let bits = Mode::from_bits_truncate(mode);
    nix::sys::stat::mkdirat(&at, name, bits).map_err(fail("mkdirat"))?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(&at, name, flags, Mode::empty()).map_err(fail("openat"))?;
    nix::sys::stat::fchmod(&made, bits).map_err(fail("fchmod"))?;
    Ok(made)
}

/// A new file with this content.
///
/// # Errors
/// `EEXIST` when there is one, else the calls'.
pub fn make_file(at: impl AsFd, name: &Path, content: &[u8], mode: u32) -> Result<()> {
    let fail = |call: &'static str| move |errno| SysError::new(call, format!("{name:?}"), errno);
    let bits = Mode::from_bits_truncate(mode);
    let flags =
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(&at, name, flags, bits).map_err(fail("openat"))?;
    nix::sys::stat::fchmod(&made, bits).map_err(fail("fchmod"))?;
    std::fs::File::from(made)
        .write_all(content)
        .map_err(|error| {
            SysError::new(
                "write",
                format!("{name:?}"),
                Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            )
        })
}

/// A symbolic link.
///
/// # Errors
/// `symlinkat(2)`'s.
pub fn make_link(at: impl AsFd, name: &Path, target: &Path) -> Result<()> {
    nix::unistd::symlinkat(target, &at, name)
        .map_err(|errno| SysError::new("symlinkat", format!("{target:?}, {name:?}"), errno))
}

/// `fchdir(2)`.
///
/// # Errors
/// The call's.
pub fn enter(at: impl AsFd) -> Result<()> {
    nix::unistd::fchdir(at).map_err(|errno| SysError::new("fchdir", "", errno))
}

/// Opens `name` below `at` for writing and writes `value` in one call, as procfs and cgroupfs want it.
///
/// # Errors
/// The calls'.
pub fn write_value(at: impl AsFd, value: &[u8], shown: &str) -> Result<()> {
    let written =
        nix::unistd::write(at, value).map_err(|errno| SysError::new("write", shown, errno))?;
    if written == value.len() {
        Ok(())
    } else {
        Err(SysError::new("write", shown, Errno::EIO))
    }
}
