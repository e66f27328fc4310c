//! `hello` prints a line; `hello serve` answers HTTP on port 8080 with the same line.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const LINE: &str = "Hello from a static binary in an image of one file\n";

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        None => io::stdout().write_all(LINE.as_bytes()),
        Some("serve") => serve(),
        Some(other) => Err(io::Error::other(format!("`{other}` is no command; `serve` is"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("hello: {err}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 8080))?;
    println!("listening on port 8080");
    for client in listener.incoming() {
        // A client that goes away is its own affair.
        if let Err(err) = client.and_then(answer) {
            eprintln!("hello: {err}");
        }
    }
    Ok(())
}

/// Answers whatever is asked, once the request's head has come.
fn answer(mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 8192 {
        match client.read(&mut part)? {
            0 => break,
            count => head.extend_from_slice(&part[..count]),
        }
    }
    let length = LINE.len();
    write!(client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{LINE}")
}
