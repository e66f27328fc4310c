//! TCP and UDP sockets, non-blocking and close-on-exec from birth, and what there is to ask of one.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, accept4, bind,
    connect, getsockname, getsockopt, listen, recv, send, setsockopt, shutdown, socket, sockopt,
};

use super::failed;
use crate::error::Result;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connecting {
    Done,
    /// Writable when decided; then [`take_error`] tells which way.
    InProgress,
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn new_socket(address: &SocketAddr, kind: SockType) -> Result<OwnedFd> {
    socket(
        family(address),
        kind,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(|errno| failed("socket", &format!("{:?}, {kind:?}", family(address)), errno))
}

/// A TCP socket of `address`'s family.
///
/// # Errors
/// `socket(2)`'s.
pub fn tcp_socket(address: &SocketAddr) -> Result<OwnedFd> {
    new_socket(address, SockType::Stream)
}

/// Starts to connect.
///
/// # Errors
/// `connect(2)`'s, when it fails at once.
pub fn tcp_connect(fd: impl AsFd, address: &SocketAddr) -> Result<Connecting> {
    match connect(fd.as_fd().as_raw_fd(), &SockaddrStorage::from(*address)) {
        Ok(()) => Ok(Connecting::Done),
        Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(Connecting::InProgress),
        Err(errno) => Err(failed("connect", &address.to_string(), errno)),
    }
}

/// A UDP socket that receives from `peer` only.
///
/// # Errors
/// `socket(2)`'s and `connect(2)`'s.
pub fn udp_connected(peer: &SocketAddr) -> Result<OwnedFd> {
    let fd = new_socket(peer, SockType::Datagram)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(*peer))
        .map_err(|errno| failed("connect", &format!("{peer} (udp)"), errno))?;
    Ok(fd)
}

/// A listening TCP socket at exactly `address`: an IPv6 one takes no IPv4 connection.
///
/// # Errors
/// `bind(2)`'s (`EADDRINUSE`) and the others'.
pub fn tcp_listen(address: &SocketAddr, backlog: i32) -> Result<OwnedFd> {
    let fd = tcp_socket(address)?;
    let fail = |call| move |errno| failed(call, &address.to_string(), errno);
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(fail("setsockopt(SO_REUSEADDR)"))?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(fail("setsockopt(IPV6_V6ONLY)"))?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(*address)).map_err(fail("bind"))?;
    let backlog = Backlog::new(backlog).map_err(fail("listen"))?;
    listen(&fd, backlog).map_err(fail("listen"))?;
    Ok(fd)
}

/// The next connection, or `None` when there is none now or it is gone again.
///
/// # Errors
/// `accept4(2)`'s; `EMFILE` and `ENFILE` leave the connection in the queue.
pub fn tcp_accept(listener: impl AsFd) -> Result<Option<OwnedFd>> {
    loop {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        match accept4(listener.as_fd().as_raw_fd(), flags) {
            Ok(raw) => {
                // SAFETY: accept4 returned this number just now, so the descriptor is open and nobody else owns it.
                return Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }));
            }
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EPROTO) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("accept4", "", errno)),
        }
    }
}

/// Copies what has arrived without taking it: `None` when nothing has yet, 0 at the end of the stream.
///
/// # Errors
/// `recv(2)`'s, `ECONNRESET` among them.
pub fn peek(fd: impl AsFd, buf: &mut [u8]) -> Result<Option<usize>> {
    receive(fd, buf, MsgFlags::MSG_PEEK)
}

/// Takes what has arrived: `None` when nothing has yet, 0 at the end of the stream.
///
/// # Errors
/// `recv(2)`'s.
pub fn take(fd: impl AsFd, buf: &mut [u8]) -> Result<Option<usize>> {
    receive(fd, buf, MsgFlags::empty())
}

/// Drops the next `peeked.len()` bytes of a TCP stream, seen before by [`peek`], without copying them again. What is in
/// `peeked` afterwards is not said.
///
/// # Errors
/// `recv(2)`'s, `EPROTO` if the stream no longer holds them.
pub fn discard(fd: impl AsFd, peeked: &mut [u8]) -> Result<()> {
    let length = peeked.len();
    match receive(fd, peeked, MsgFlags::MSG_TRUNC)? {
        Some(taken) if taken == length => Ok(()),
        _ => Err(failed("recv", "MSG_TRUNC", Errno::EPROTO)),
    }
}

fn receive(fd: impl AsFd, buf: &mut [u8], flags: MsgFlags) -> Result<Option<usize>> {
    loop {
        match recv(fd.as_fd().as_raw_fd(), buf, flags | MsgFlags::MSG_DONTWAIT) {
            Ok(length) => return Ok(Some(length)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("recv", "", errno)),
        }
    }
}

/// Sends as much as there is room for; `None` when there is none. A closed peer is `EPIPE`, never a signal.
///
/// # Errors
/// `send(2)`'s.
pub fn give(fd: impl AsFd, bytes: &[u8]) -> Result<Option<usize>> {
    loop {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(fd.as_fd().as_raw_fd(), bytes, flags) {
            Ok(length) => return Ok(Some(length)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("send", "", errno)),
        }
    }
}

/// Sends FIN; what was sent before still arrives.
///
/// # Errors
/// `shutdown(2)`'s, `ENOTCONN` if the connection is gone.
pub fn shutdown_write(fd: impl AsFd) -> Result<()> {
    shutdown(fd.as_fd().as_raw_fd(), Shutdown::Write)
        .map_err(|errno| failed("shutdown", "SHUT_WR", errno))
}

/// Makes the next close send RST and drop what is unsent, whoever closes: the kernel too, for a process that was killed.
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn reset_on_close(fd: impl AsFd) -> Result<()> {
    linger(fd, 1)
}

/// Makes the next close an orderly one, after which the kernel goes on to deliver what is unsent. As a socket is born.
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn end_on_close(fd: impl AsFd) -> Result<()> {
    linger(fd, 0)
}

/// For no time at all, if `on`.
fn linger(fd: impl AsFd, on: i32) -> Result<()> {
    let how = libc::linger {
        l_onoff: on,
        l_linger: 0,
    };
    setsockopt(&fd, sockopt::Linger, &how)
        .map_err(|errno| failed("setsockopt(SO_LINGER)", &format!("{on}, 0"), errno))
}

/// Small writes leave at once.
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn no_delay(fd: impl AsFd) -> Result<()> {
    setsockopt(&fd, sockopt::TcpNoDelay, &true)
        .map_err(|errno| failed("setsockopt(TCP_NODELAY)", "1", errno))
}

/// The error that is pending on the socket, taken from it.
///
/// # Errors
/// That error as `connect`'s, or `getsockopt(2)`'s.
pub fn take_error(fd: impl AsFd) -> Result<()> {
    match getsockopt(&fd, sockopt::SocketError)
        .map_err(|errno| failed("getsockopt(SO_ERROR)", "", errno))?
    {
        0 => Ok(()),
        raw => Err(failed("connect", "", Errno::from_raw(raw))),
    }
}

/// Whether this is a TCP socket that listens (`SO_TYPE`, `SO_ACCEPTCONN`).
///
/// # Errors
/// `getsockopt(2)`'s: it is no socket at all.
pub fn is_stream_listener(fd: impl AsFd) -> Result<bool> {
    let kind = getsockopt(&fd, sockopt::SockType)
        .map_err(|errno| failed("getsockopt(SO_TYPE)", "", errno))?;
    let accepts = getsockopt(&fd, sockopt::AcceptConn)
        .map_err(|errno| failed("getsockopt(SO_ACCEPTCONN)", "", errno))?;
    Ok(kind == SockType::Stream && accepts)
}

/// The socket's own IP address and port.
///
/// # Errors
/// `getsockname(2)`'s; `EAFNOSUPPORT` for one that is not of IP.
pub fn local_address(fd: impl AsFd) -> Result<SocketAddr> {
    let fail = |errno| failed("getsockname", "", errno);
    let storage: SockaddrStorage = getsockname(fd.as_fd().as_raw_fd()).map_err(fail)?;
    socket_address(&storage).ok_or_else(|| fail(Errno::EAFNOSUPPORT))
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}

/// Every address of this network namespace's interfaces.
///
/// # Errors
/// `getifaddrs(3)`'s.
pub fn host_addresses() -> Result<Vec<IpAddr>> {
    let interfaces = getifaddrs().map_err(|errno| failed("getifaddrs", "", errno))?;
    Ok(interfaces
        .filter_map(|interface| socket_address(&interface.address?))
        .map(|address| address.ip())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_other_sockets() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = tcp_listen(&any, 16).unwrap();
        let address = local_address(&listener).unwrap();
        assert!(address.port() != 0 && address.ip() == any.ip(), "{address}");
        assert!(is_stream_listener(&listener).unwrap());
        assert!(!is_stream_listener(tcp_socket(&any).unwrap()).unwrap());
        assert!(!is_stream_listener(udp_connected(&address).unwrap()).unwrap());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(
            is_stream_listener(&file).unwrap_err().errno,
            Errno::ENOTSOCK
        );
        assert_eq!(
            tcp_listen(&address, 16).unwrap_err().errno,
            Errno::EADDRINUSE
        );
    }

    #[test]
    fn what_is_peeked_stays_until_it_is_discarded() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut client, b"abcdef").unwrap();
        drop(client);
        let mut buf = [0; 16];
        while peek(&server, &mut buf).unwrap().is_none() {}
        assert_eq!(peek(&server, &mut buf).unwrap(), Some(6));
        discard(&server, &mut buf[..4]).unwrap();
        assert_eq!(take(&server, &mut buf).unwrap(), Some(2));
        assert_eq!(&buf[..2], b"ef");
        assert_eq!(peek(&server, &mut buf).unwrap(), Some(0));
        assert_eq!(
            discard(&server, &mut buf[..1]).unwrap_err().errno,
            Errno::EPROTO
        );
    }

    #[test]
    fn loopback_is_among_the_host_addresses() {
        let addresses = host_addresses().unwrap();
        assert!(
            addresses.contains(&IpAddr::from([127, 0, 0, 1])),
            "{addresses:?}"
        );
    }
}
