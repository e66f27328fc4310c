//! Attempts to reach anything.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::Duration;

use crate::{Attempt, errno, syscall};

pub(crate) fn attempt(name: &str, args: &[&str]) -> Option<Attempt> {
    let first = args.first().copied().unwrap_or_default();
    Some(match name {
        "connect" => connect(first),
        "resolve-connect" => resolve(first),
        "echo" => echo(first, args.get(1).copied().unwrap_or("ping")),
        "tell-in-a-second" => tell(first, args.get(1).copied().unwrap_or("ping")),
        "udp" => udp(first),
        "listen" => TcpListener::bind(first)
            .map(|_| String::new())
            .map_err(|e| errno(&e)),
        "serve-once" => serve_once(first),
        "reconnect-stdin" => reconnect_stdin(first),
        "abstract-connect" => abstract_connect(first),
        "abstract-listen" => abstract_listen(first),
        "socket" => socket(args),
        _ => return None,
    })
}

fn connect(address: &str) -> Attempt {
    let address: SocketAddr = address.parse().map_err(|_| libc::EINVAL)?;
    TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .map(|_| String::new())
        .map_err(|e| errno(&e))
}

/// Standard input, if it is a connected TCP socket, is disconnected and led to `address`, in whatever network it was made.
fn reconnect_stdin(address: &str) -> Attempt {
    let Ok(SocketAddr::V4(to)) = address.parse() else {
        return Err(libc::EINVAL);
    };
    let mut name = [0_u8; 16];
    let connect = |name: &[u8; 16]| {
        syscall(
            libc::SYS_connect,
            [0, crate::address(name), name.len(), 0, 0, 0],
        )
    };
    // AF_UNSPEC is 0.
    connect(&name)?;
    name[..2].copy_from_slice(
        &libc::sa_family_t::try_from(libc::AF_INET)
            .unwrap_or(0)
            .to_ne_bytes(),
    );
    name[2..4].copy_from_slice(&to.port().to_be_bytes());
    name[4..8].copy_from_slice(&to.ip().octets());
    connect(&name).map(|_| String::new())
}

/// By name, through `/etc/hosts` as any program.
fn resolve(name: &str) -> Attempt {
    let addresses = hosts(name)?;
    for address in &addresses {
        if let Ok(stream) = TcpStream::connect(address) {
            drop(stream);
            return Ok(format!("{address}"));
        }
    }
    Err(libc::EHOSTUNREACH)
}

fn hosts(name: &str) -> Result<Vec<SocketAddr>, i32> {
    // Numbers parse without a resolver; a name is looked up in the file that the sandbox has, since a static program has no other way.
    if let Ok(found) = name.parse::<SocketAddr>() {
        return Ok(vec![found]);
    }
    let (host, port) = name.rsplit_once(':').ok_or(libc::EINVAL)?;
    let text = std::fs::read_to_string("/etc/hosts").map_err(|e| errno(&e))?;
    let found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .filter(|(_, names)| names.split_whitespace().any(|name| name == host))
        .filter_map(|(ip, _)| {
            (
                ip.parse::<std::net::IpAddr>().ok()?,
                port.parse::<u16>().ok()?,
            )
                .to_socket_addrs()
                .ok()?
                .next()
        })
        .collect();
    if found.is_empty() {
        Err(libc::ENOENT)
    } else {
        Ok(found)
    }
}

fn echo(name: &str, text: &str) -> Attempt {
    let address = *hosts(name)?.first().ok_or(libc::ENOENT)?;
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(text.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().map_err(|e| errno(&e))
}

/// A connection that is not waited for.
fn tell(name: &str, text: &str) -> Attempt {
    let address = *hosts(name)?.first().ok_or(libc::ENOENT)?;
    std::thread::sleep(Duration::from_secs(1));
    TcpStream::connect(address)
        .and_then(|mut stream| stream.write_all(text.as_bytes()))
        .map(|()| String::new())
        .map_err(|e| errno(&e))
}

fn udp(address: &str) -> Attempt {
    let address: SocketAddr = address.parse().map_err(|_| libc::EINVAL)?;
    let socket = UdpSocket::bind(if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    })
    .map_err(|e| errno(&e))?;
    socket
        .send_to(b"x", address)
        .map(|_| String::new())
        .map_err(|e| errno(&e))
}

/// Announces that it listens, answers one client with its own words, and ends.
fn serve_once(address: &str) -> Attempt {
    let serve = || -> std::io::Result<String> {
        let listener = TcpListener::bind(address)?;
        writeln!(
            std::io::stdout(),
            "{{\"attempt\":\"listening\",\"ok\":true,\"errno\":0,\"detail\":\"\"}}"
        )?;
        std::io::stdout().flush()?;
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer)?;
        stream.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(String::new())
    };
    serve().map_err(|e| errno(&e))
}

fn abstract_connect(name: &str) -> Attempt {
    UnixAddr::from_abstract_name(name)
        .and_then(|at| UnixStream::connect_addr(&at))
        .map(|_| String::new())
        .map_err(|e| errno(&e))
}

fn abstract_listen(name: &str) -> Attempt {
    UnixAddr::from_abstract_name(name)
        .and_then(|at| UnixListener::bind_addr(&at))
        .map(|_| String::new())
        .map_err(|e| errno(&e))
}

/// `socket FAMILY TYPE PROTOCOL`, as numbers.
fn socket(args: &[&str]) -> Attempt {
    let number = |at: usize| {
        args.get(at)
            .and_then(|text| text.parse::<usize>().ok())
            .ok_or(libc::EINVAL)
    };
    syscall(
        libc::SYS_socket,
        [number(0)?, number(1)?, number(2)?, 0, 0, 0],
    )
    .map(|_| String::new())
}
