//! Completions and man pages, made from the command line's own description.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::report::{self, Failure};

/// The completions of one shell, on stdout.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "airtight", &mut script);
    report::print(&String::from_utf8_lossy(&script))
}

/// A man page for each command, into `dir`.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|error| Failure::File {
            path: dir.to_owned(),
            problem: error.to_string(),
            fix: "name a directory that can be written",
        })
}
