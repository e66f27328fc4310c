//! Sockets: descriptors over `AF_UNIX`, TCP as the gate needs it, epoll, and sockets born in another network namespace.
//! Every descriptor made here is close-on-exec from birth. What may be connected to what is not decided here.

mod born;
mod epoll;
mod tcp;

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    SockaddrLike as _, SockaddrStorage, getsockname, recvmsg, sendmsg, socketpair,
};

use crate::error::{Result, SysError};

pub use born::{enter_network, fork_run, inherited, no_core_file, raise_open_files, random_word};
pub use epoll::{Epoll, Event, Interest, Watch};
pub use tcp::*;

/// The most descriptors that the kernel passes in one message (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

/// A connected pair of `AF_UNIX` `SOCK_SEQPACKET` sockets, close-on-exec: one message is one `recvmsg`, and the end of one
/// side is an end of file at the other.
///
/// # Errors
/// `socketpair(2)`'s.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|errno| failed("socketpair", "AF_UNIX, SOCK_SEQPACKET", errno))
}

/// Whether a socket is `AF_UNIX`, and so belongs to no network.
///
/// # Errors
/// `getsockname(2)`'s.
pub fn is_unix(fd: impl AsFd) -> Result<bool> {
    match getsockname::<SockaddrStorage>(fd.as_fd().as_raw_fd()) {
        Ok(own) => Ok(own.family() == Some(AddressFamily::Unix)),
        // Of a family that `nix` has no type for.
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(failed("getsockname", "", errno)),
    }
}

/// Connects to a listening `AF_UNIX` stream socket by its path, of any length.
///
/// # Errors
/// `connect(2)`'s.
pub fn connect_unix(path: &std::path::Path) -> Result<OwnedFd> {
    use std::os::unix::net::UnixStream;
    let fail = |error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        failed("connect", &format!("{path:?}"), errno)
    };
    // An address holds 107 bytes; a descriptor's name in /proc is short.
    if path.as_os_str().len() < 108 {
        return UnixStream::connect(path).map(OwnedFd::from).map_err(fail);
    }
    let at = crate::directory::open_path_follow(path, nix::fcntl::OFlag::O_PATH)?;
    UnixStream::connect(format!("/proc/self/fd/{}", at.as_raw_fd()))
        .map(OwnedFd::from)
        .map_err(fail)
}

/// Sends one message with these descriptors. The caller keeps its own copies.
///
/// # Errors
/// `EINVAL` for more than [`MAX_FDS`], else `sendmsg(2)`'s; a closed peer is `EPIPE`, never a signal.
pub fn send_fds(sock: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let fail = |errno| {
        failed(
            "sendmsg",
            &format!("{} bytes, {} descriptors", bytes.len(), fds.len()),
            errno,
        )
    };
    if fds.len() > MAX_FDS {
        return Err(fail(Errno::EINVAL));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = loop {
        match sendmsg::<()>(
            sock.as_fd().as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            other => break other.map_err(fail)?,
        }
    };
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(fail(Errno::EMSGSIZE))
    }
}

/// Ends a connection both ways, whoever else has a copy of it. What was sent arrives.
///
/// # Errors
/// `shutdown(2)`'s.
pub fn shut_down(sock: impl AsFd) -> Result<()> {
    nix::sys::socket::shutdown(sock.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both)
        .map_err(|errno| failed("shutdown", "SHUT_RDWR", errno))
}

/// Receives one message of at most `buf.len()` bytes and `max_fds` descriptors. A length of 0 is the end of the peer.
///
/// # Errors
/// `EMSGSIZE` when the message does not fit or carries more descriptors (all of them are closed), else `recvmsg(2)`'s.
pub fn recv_fds(sock: impl AsFd, buf: &mut [u8], max_fds: usize) -> Result<(usize, Vec<OwnedFd>)> {
    let room = buf.len();
    let fail = |errno| {
        failed(
            "recvmsg",
            &format!("{room} bytes, {max_fds} descriptors"),
            errno,
        )
    };
    // Room for as many as a message can carry, so that a sender of too many is seen and its descriptors are closed: what a
    // short buffer cuts off would leave the first ones open and unowned.
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(buf)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(
            sock.as_fd().as_raw_fd(),
            &mut slices,
            Some(&mut control),
            flags,
        ) {
            Err(Errno::EINTR) => {}
            other => break other.map_err(fail)?,
        }
    };
    let mut fds = Vec::new();
    for part in message.cmsgs().map_err(fail)? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            fds.extend(raw.into_iter().map(|fd| {
                // SAFETY: the kernel installed `fd` for this message just now, nobody else has seen its number, and each
                // number of a message is read once: we are its only owner.
                unsafe { OwnedFd::from_raw_fd(fd) }
            }));
        }
    }
    if message
        .flags
        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC)
        || fds.len() > max_fds
    {
        return Err(fail(Errno::EMSGSIZE));
    }
    Ok((message.bytes, fds))
}

fn failed(call: &'static str, args: &str, errno: Errno) -> SysError {
    SysError {
        call,
        args: args.to_owned(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_arrive_in_order_and_close_on_exec() {
        let (a, b) = seqpacket_pair().unwrap();
        let (x, y) = seqpacket_pair().unwrap();
        send_fds(&a, b"L", &[x.as_fd(), y.as_fd()]).unwrap();
        let mut buf = [0; 8];
        let (len, fds) = recv_fds(&b, &mut buf, 2).unwrap();
        assert_eq!((&buf[..len], fds.len()), (b"L".as_slice(), 2));
        send_fds(&fds[0], b"through", &[]).unwrap();
        let (len, none) = recv_fds(&y, &mut buf, 0).unwrap();
        assert_eq!((&buf[..len], none.len()), (b"through".as_slice(), 0));
        for fd in &fds {
            let info =
                std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap()
                .trim();
            assert_ne!(
                i32::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC,
                0,
                "{info}"
            );
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_and_closed() {
        let (a, b) = seqpacket_pair().unwrap();
        let (x, y) = seqpacket_pair().unwrap();
        send_fds(&a, b"L", &[x.as_fd(), x.as_fd()]).unwrap();
        drop(x);
        assert_eq!(
            recv_fds(&b, &mut [0; 8], 1).unwrap_err().errno,
            Errno::EMSGSIZE
        );
        // Each copy of the peer is closed, so this is the end of file and not a wait for ever.
        assert_eq!(recv_fds(&y, &mut [0; 8], 0).unwrap().0, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_and_a_lost_peer_is_the_end() {
        let (a, b) = seqpacket_pair().unwrap();
        send_fds(&a, b"four", &[]).unwrap();
        assert_eq!(
            recv_fds(&b, &mut [0; 3], 0).unwrap_err().errno,
            Errno::EMSGSIZE
        );
        drop(a);
        assert_eq!(recv_fds(&b, &mut [0; 3], 0).unwrap().0, 0);
        assert_eq!(send_fds(&b, b"x", &[]).unwrap_err().errno, Errno::EPIPE);
    }
}
