//! Completions and man pages, made from the command lines' own descriptions.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::{Cli, Program};
use crate::report::{self, Failure};

/// The runtime's command line, by its own source: its binary is kept small, so that this one describes it.
#[path = "../../oci/src/args.rs"]
mod runtime;

/// The completions of one shell, on stdout.
pub(crate) fn completions(shell: Shell, program: Program) -> Result<(), Failure> {
    let (mut command, name) = match program {
        Program::Airtight => (Cli::command(), "airtight"),
        Program::AirtightRuntime => (runtime::Args::command(), "airtight-runtime"),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    report::print(&String::from_utf8_lossy(&script))
}

/// A man page for each command of both programs, into `dir`.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .and_then(|()| clap_mangen::generate_to(runtime::Args::command(), dir))
        .map_err(|error| Failure::File {
            path: dir.to_owned(),
            problem: error.to_string(),
            fix: "name a directory that can be written",
        })
}
