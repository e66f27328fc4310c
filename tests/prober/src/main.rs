//! The payload of the denial tests: each subcommand attempts one thing that a sandbox must refuse, and prints how it went.
//!
//! ```text
//! airtight-prober ATTEMPT [ARG…] [, ATTEMPT [ARG…]]…
//! {"attempt":"write-root","ok":false,"errno":30,"detail":""}
//! ```
//! Static, so that an image of it is this one file. No part of the product.

#![expect(
    unsafe_code,
    reason = "attempts are raw system calls, among them ones that no library wraps"
)]
#![expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "arguments of system calls are registers"
)]

mod calls;
mod files;
mod memory;
mod network;
mod process;
mod thief;

use std::io::Write as _;
use std::process::ExitCode;

/// What an attempt that got through has to say, or the error number that stopped it.
pub(crate) type Attempt = Result<String, i32>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout();
    for attempt in args.split(|arg| arg == ",") {
        let Some((name, args)) = attempt.split_first() else {
            continue;
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        if let Some(code) = process::ends_with(name, &args) {
            return ExitCode::from(code);
        }
        let Some(outcome) = attempt_named(name, &args) else {
            drop(writeln!(
                std::io::stderr(),
                "airtight-prober: no attempt {name}"
            ));
            return ExitCode::from(99);
        };
        let line = match outcome {
            Ok(detail) => format!(
                "{{\"attempt\":\"{name}\",\"ok\":true,\"errno\":0,\"detail\":\"{}\"}}",
                escape(&detail)
            ),
            Err(errno) => {
                format!("{{\"attempt\":\"{name}\",\"ok\":false,\"errno\":{errno},\"detail\":\"\"}}")
            }
        };
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return ExitCode::from(98);
        }
    }
    ExitCode::SUCCESS
}

fn attempt_named(name: &str, args: &[&str]) -> Option<Attempt> {
    files::attempt(name, args)
        .or_else(|| memory::attempt(name, args))
        .or_else(|| network::attempt(name, args))
        .or_else(|| process::attempt(name, args))
        .or_else(|| calls::attempt(name, args))
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            c if c.is_control() => "?".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

/// The error number of an I/O error of the standard library.
pub(crate) fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Any system call, with integers or pointers to live memory as its arguments.
pub(crate) fn syscall(number: i64, args: [usize; 6]) -> Result<i64, i32> {
    // SAFETY: each caller in this program passes integers, or addresses of values that live until after the call; a call that takes over
    // the process (exec, exit) is never made through here.
    let ret =
        unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret < 0 {
        Err(std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO))
    } else {
        Ok(ret)
    }
}

/// The address of a value, as a system call takes it.
pub(crate) fn address<T: ?Sized>(value: &T) -> usize {
    (&raw const *value).cast::<u8>() as usize
}
