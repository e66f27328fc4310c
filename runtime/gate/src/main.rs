//! `airtight-gate`: started by `airtight` for one sandbox, with a control socket as descriptor 3.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use airtight_gate::GateError;

const HELP: &str = "airtight-gate carries the allowed traffic of one sandbox.

It is started by airtight, not by hand: airtight hands it a control socket as descriptor 3.

Options:
  --help     print this
  --version  print the version
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (
        args.next().as_deref().and_then(std::ffi::OsStr::to_str),
        args.next(),
    ) {
        (None, None) => serve(),
        (Some("--help" | "-h"), None) => print(HELP),
        (Some("--version" | "-V"), None) => {
            print(concat!("airtight-gate ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        _ => fail("it takes no arguments; try --help"),
    }
}

fn serve() -> ExitCode {
    match airtight_gate::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(GateError::Told(_)) => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string()),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(problem: &str) -> ExitCode {
    // A closed stderr leaves nobody to tell; the code still does.
    drop(std::io::stderr().write_all(format!("airtight-gate: {problem}\n").as_bytes()));
    ExitCode::FAILURE
}
