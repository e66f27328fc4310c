//! Questions to the kernel that change nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use caps::{CapSet, Capability};

/// Whether the kernel has `PR_SET_MDWE` (6.3).
#[must_use]
pub fn has_deny_write_execute() -> bool {
    // SAFETY: PR_GET_MDWE takes four zeros and returns flags.
    unsafe { libc::prctl(libc::PR_GET_MDWE, 0, 0, 0, 0) >= 0 }
}

/// Whether this process may mount and set ids in its user namespace: `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID` are effective.
#[must_use]
pub fn is_administrator() -> bool {
    let needed = [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_SETUID,
        Capability::CAP_SETGID,
    ];
    caps::read(None, CapSet::Effective)
        .is_ok_and(|held| needed.iter().all(|one| held.contains(one)))
}

/// Whether a file carries capabilities, as an alternative to set-uid (`security.capability`).
#[must_use]
pub fn has_file_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both strings end at a zero; with size 0 the kernel writes nothing and returns the length.
    unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        ) > 0
    }
}

/// The protocol of a socket by a link to it (`/proc/PID/fd/N`), as the kernel names it: `TCP`, `TCPv6`, `UDP`, `UNIX-STREAM`. `None` for
/// what is no socket.
#[must_use]
pub fn socket_protocol(link: &Path) -> Option<String> {
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
    fn a_socket_is_named_by_its_link_and_a_file_is_not() {
        let (tcp, udp) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let name = |fd: i32| socket_protocol(Path::new(&format!("/proc/self/fd/{fd}")));
        assert_eq!(
            (
                name(tcp.as_raw_fd()).as_deref(),
                name(udp.as_raw_fd()).as_deref()
            ),
            (Some("TCP"), Some("UDP"))
        );
        assert_eq!(socket_protocol(Path::new("/dev/null")), None);
    }
}
