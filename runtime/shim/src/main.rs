//! `containerd-shim-airtight-v1`: says what it is. The task service is not in this release, and nothing here pretends that it is.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

const HELP: &str = "\
containerd-shim-airtight-v1 [-v | --version | --help]

The containerd shim of airtight. This release only tells its version: the task service is not in it.
To launch a bundle: airtight-runtime run --bundle DIR ID
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let said = match words.as_slice() {
        [word] if ["-v", "-version", "--version"].contains(&word.as_str()) => io::stdout()
            .write_all(
                concat!(
                    "containerd-shim-airtight-v1 ",
                    env!("CARGO_PKG_VERSION"),
                    "\n"
                )
                .as_bytes(),
            ),
        [word] if ["-h", "-help", "--help"].contains(&word.as_str()) => {
            io::stdout().write_all(HELP.as_bytes())
        }
        _ => {
            let line: &[u8] = b"containerd-shim-airtight-v1: the task service is not in this release; launch bundles with `airtight-runtime run`\n";
            // A closed stderr leaves nobody to tell; the exit code still says it.
            drop(io::stderr().write_all(line));
            return ExitCode::FAILURE;
        }
    };
    if said.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
