//! `airtight`: builds images, keeps them, launches them. Glue and words only: what is built is `airtight-build`'s, what a launch may do is decided
//! in `airtight-plan`, and `airtight-sandbox` does it.

#![forbid(unsafe_code)]
#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "the comments of arguments are their help, where a bracket means that a part is optional"
)]

mod args;
mod ask;
mod build;
mod doctor;
mod explain;
mod format;
mod images;
mod launch;
mod pages;
mod policy;
mod profiles;
mod progress;
mod registry;
mod report;
mod timings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airtight_image::Store;
use airtight_plan::HostFacts;
use airtight_sandbox::{ProbeInput, probe};
use clap::Parser as _;

use args::{Cli, Command, IndexCommand};
use report::Failure;
use timings::Timings;

fn main() -> ExitCode {
    command(Timings::start()).unwrap_or_else(|failure| report::failure(&failure))
}

fn command(mut timings: Timings) -> Result<ExitCode, Failure> {
    let Cli { store, command } = Cli::try_parse()?;
    timings.mark("command line");
    // The store is opened by those that need it: help, profiles and the doctor work on any host.
    let open = || open(store.as_deref(), None);
    match command {
        Command::Run(args) => {
            let facts = probe(&ProbeInput::default());
            timings.mark("probe");
            return launch::run(
                &args,
                &self::open(store.as_deref(), Some(&facts))?,
                &facts,
                timings,
            );
        }
        Command::Plan(args) => {
            let facts = probe(&ProbeInput::default());
            launch::plan(&args, &self::open(store.as_deref(), Some(&facts))?, &facts)?;
        }
        Command::Build(args) => build::run(&args, &open()?)?,
        Command::Update(args) => build::update(&args, &open()?)?,
        Command::Images(args) => images::list(&args, &open()?)?,
        Command::Inspect(args) => images::inspect(&args, &open()?)?,
        Command::Why(args) => explain::why(&args, &open()?)?,
        Command::Diff(args) => return explain::diff(&args, &open()?),
        Command::Lint(args) => return explain::lint(&args, open),
        Command::Rm(args) => images::remove(&args, &open()?)?,
        Command::Gc(args) => images::gc(&args, &open()?)?,
        Command::Import(args) => images::import(&args, &open()?)?,
        Command::Export(args) => images::export(&args, &open()?)?,
        Command::Index(IndexCommand::Create(args)) => images::create_index(&args, &open()?)?,
        Command::Push(args) => registry::push(&args, &open()?)?,
        Command::Pull(args) => registry::pull(&args, &open()?)?,
        Command::Copy(args) => registry::copy(&args, &open()?)?,
        Command::Verify(args) => return images::verify(&args, &open()?),
        Command::Profile(command) => profiles::run(&command)?,
        Command::Doctor(args) => return doctor::run(&args),
        Command::Completions { shell, program } => pages::completions(shell, program)?,
        Command::Man { dir } => pages::man(&dir)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The store that is named, else the caller's own.
fn open(named: Option<&Path>, facts: Option<&HostFacts>) -> Result<Store, Failure> {
    let default = || {
        let euid = facts.map_or_else(|| probe(&ProbeInput::default()).euid, |facts| facts.euid);
        Store::default_root(euid, |name| std::env::var_os(name))
    };
    Ok(Store::open(&named.map_or_else(default, PathBuf::from))?)
}
