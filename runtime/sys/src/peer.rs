//! A look at another process: its memory and its descriptors. Nothing is changed there, and nothing of its is ever held: a descriptor that was duplicated
//! from it could keep the looker waiting when it is closed (`SO_LINGER`).

use std::ffi::CString;
use std::fs::File;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, pipe2};

use crate::error::{Result, SysError};
use crate::poll::{Watch, poll};
use crate::signal::reap;
use crate::socket::fork_run;

/// Reading stops at this boundary where what follows is not mapped.
const PAGE: usize = 4096;
/// A link's target and a protocol's name; the kernel's own limits are `PATH_MAX` and 32.
const DESCRIPTION_MAX: u64 = 4096 + 64;

/// Up to `length` bytes of the memory of `pid`, fewer where it ends (process_vm_readv(2)). `/proc/PID/mem` would need the process's own uid besides the right
/// to trace it, which the owner of a user namespace does not have.
///
/// # Errors
/// `EFAULT` where nothing is mapped, `EPERM` without the right to trace, `ESRCH` when it is gone.
pub fn read_memory(pid: Pid, address: u64, length: usize) -> Result<Vec<u8>> {
    let failed = |errno| {
        SysError::new(
            "process_vm_readv",
            format!("{pid}, {address:#x}, {length}"),
            errno,
        )
    };
    let start = usize::try_from(address).map_err(|_| failed(Errno::EFAULT))?;
    // The kernel promises whole pieces: one for each page, so that all of what is mapped is had.
    let mut pieces = Vec::new();
    let mut at = start;
    let end = start
        .checked_add(length)
        .ok_or_else(|| failed(Errno::EFAULT))?;
    while at < end {
        let next = (at - at % PAGE).saturating_add(PAGE).min(end);
        pieces.push(RemoteIoVec {
            base: at,
            len: next - at,
        });
        at = next;
    }
    let mut bytes = vec![0; length];
    let read =
        process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &pieces).map_err(failed)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// What a descriptor of another process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The target of its link in `/proc`.
    pub link: PathBuf,
    /// A socket's protocol, as the kernel names it: `TCP`, `TCPv6`, `UDP`, `UNIX-STREAM`.
    pub protocol: Option<String>,
}

/// What descriptor `fd` of the process whose directory in `/proc` is `process` is. Where that directory is closed to us, as to the owner of a user namespace
/// whose processes have other ids, a child enters the namespace, looks and ends.
///
/// # Errors
/// `ENOENT` when it is not open, `EACCES` and `EPERM` without the right to look.
pub fn describe(process: &Path, fd: i32) -> Result<Described> {
    match look(process, fd) {
        Err(error) if error.errno == Errno::EACCES => look_from_inside(process, fd),
        other => other,
    }
}

fn failed(call: &'static str, path: &Path, error: &std::io::Error) -> SysError {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    SysError::new(call, path.display().to_string(), errno)
}

fn look(process: &Path, fd: i32) -> Result<Described> {
    let link = process.join(format!("fd/{fd}"));
    Ok(Described {
        link: std::fs::read_link(&link).map_err(|error| failed("readlink", &link, &error))?,
        protocol: socket_protocol(&link),
    })
}

fn look_from_inside(process: &Path, fd: i32) -> Result<Described> {
    let namespace = process.join("ns/user");
    let namespace = File::open(&namespace).map_err(|error| failed("open", &namespace, &error))?;
    let (ours, theirs) =
        pipe2(OFlag::O_CLOEXEC).map_err(|errno| SysError::new("pipe2", "", errno))?;
    let child = fork_run(|| {
        let told = setns(&namespace, CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| SysError::new("setns", "CLONE_NEWUSER", errno))
            .and_then(|()| look(process, fd))
            .and_then(|described| tell(&theirs, &described));
        told.map_or_else(
            |error| u8::try_from(error.errno as i32).unwrap_or(u8::MAX),
            |()| 0,
        )
    })?;
    drop(theirs);
    let mut told = Vec::new();
    let read = File::from(ours)
        .take(DESCRIPTION_MAX)
        .read_to_end(&mut told);
    poll(
        &mut [Watch::readable(std::os::fd::AsFd::as_fd(&child))],
        None,
    )?;
    reap(&child)?;
    read.map_err(|error| failed("read", process, &error))?;
    let cut = told.iter().position(|byte| *byte == 0);
    let Some((link, protocol)) = cut.and_then(|cut| Some((told.get(..cut)?, told.get(cut + 1..)?)))
    else {
        return Err(SysError::new(
            "setns",
            format!("{}, CLONE_NEWUSER", process.display()),
            Errno::EACCES,
        ));
    };
    Ok(Described {
        link: PathBuf::from(std::ffi::OsString::from_vec(link.to_vec())),
        protocol: (!protocol.is_empty()).then(|| String::from_utf8_lossy(protocol).into_owned()),
    })
}

/// The link, a zero, the protocol.
fn tell(pipe: &OwnedFd, described: &Described) -> Result<()> {
    let mut bytes = described.link.as_os_str().as_bytes().to_vec();
    bytes.push(0);
    bytes.extend(described.protocol.iter().flat_map(|name| name.bytes()));
    let pipe = pipe
        .try_clone()
        .map_err(|error| failed("dup", Path::new("the pipe"), &error))?;
    File::from(pipe)
        .write_all(&bytes)
        .map_err(|error| failed("write", Path::new("the pipe"), &error))
}

/// `None` for what is no socket.
fn socket_protocol(link: &Path) -> Option<String> {
    let path = CString::new(link.as_os_str().as_bytes()).ok()?;
    let mut name = [0_u8; 32];
    let space = name.as_mut_ptr().cast::<libc::c_void>();
    // SAFETY: both strings end at a zero; the kernel writes at most the 32 bytes that it is given.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"system.sockprotoname".as_ptr(),
            space,
            name.len(),
        )
    };
    let name = name.get(..usize::try_from(length).ok()?)?;
    Some(
        String::from_utf8_lossy(name)
            .trim_end_matches('\0')
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_descriptor_is_described_by_its_link_and_protocol() {
        let (tcp, udp) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let null = File::open("/dev/null").unwrap();
        let own = Path::new("/proc/self");
        for (fd, want) in [
            (tcp.as_raw_fd(), Some("TCP")),
            (udp.as_raw_fd(), Some("UDP")),
            (null.as_raw_fd(), None),
        ] {
            assert_eq!(describe(own, fd).unwrap().protocol.as_deref(), want);
        }
        assert_eq!(
            describe(own, null.as_raw_fd()).unwrap().link,
            Path::new("/dev/null")
        );
        assert_eq!(describe(own, 1 << 20).unwrap_err().errno, Errno::ENOENT);
    }

    #[test]
    fn memory_is_read_up_to_where_it_ends() {
        let text = vec![7_u8; 3 * PAGE];
        let address = u64::try_from(text.as_ptr().addr()).unwrap() + 1;
        assert_eq!(
            read_memory(Pid::this(), address, PAGE).unwrap(),
            vec![7; PAGE]
        );
        assert_eq!(
            read_memory(Pid::this(), 8, 8).unwrap_err().errno,
            Errno::EFAULT
        );
        assert_eq!(
            read_memory(Pid::this(), u64::MAX, 8).unwrap_err().errno,
            Errno::EFAULT
        );
        assert_eq!(
            read_memory(Pid::this(), address, 0).unwrap(),
            Vec::<u8>::new()
        );
    }
}
