//! `airtight-runtime`: an OCI bundle through the one door. It knows nothing of images, stores or registries: the bundle is its border.
//!
//! The verbs, flags, outputs and exit codes are runc's, whose callers are many.

#![forbid(unsafe_code)]

mod args;
mod bundles;
mod config;
mod confined;
mod create;
mod delete;
mod document;
mod events;
mod exec;
mod features;
mod list;
mod pause;
mod plain;
mod policy;
mod ps;
mod record;
mod report;
mod state;
mod template;
mod update;
mod words;

use std::process::ExitCode;

use clap::CommandFactory as _;

use args::{Args, Command, Global};
use report::Failure;

#[global_allocator]
static MEMORY: airtight_sys::arena::Arena = airtight_sys::arena::Arena::new();

fn main() -> ExitCode {
    let args = match words::parse(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => return report::usage(&error),
    };
    let global = &args.top.global;
    let done = match &args.command {
        _ if args.top.version => features::version().map(|()| ExitCode::SUCCESS),
        Some(command) => self::command(global, command),
        None => {
            report::print(&Args::command().render_help().to_string()).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|failure| {
        let exec = matches!(args.command, Some(Command::Exec(_)));
        report::failure(&failure, global, exec)
    })
}

fn command(global: &Global, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => create::create(global, args)?,
        Command::Start { id } => create::start(global, id)?,
        Command::Run(args) => return create::run(global, args),
        Command::State { id } => list::state(global, id)?,
        Command::Kill { all, id, signal } => delete::kill(global, id, signal, *all)?,
        Command::Delete { force, id } => delete::delete(global, id, *force)?,
        Command::Exec(args) => return exec::exec(global, args),
        Command::List { format, quiet } => list::list(global, *format, *quiet)?,
        Command::Ps {
            format,
            id,
            options,
        } => ps::ps(global, id, *format, options)?,
        Command::Pause { id } => pause::pause(global, id)?,
        Command::Resume { id } => pause::resume(global, id)?,
        Command::Update(args) => update::update(global, args)?,
        Command::Events {
            interval,
            stats,
            id,
        } => events::events(global, id, interval, *stats)?,
        Command::Spec {
            bundle,
            for_rootless,
        } => template::write(bundle, template::which(global.compat, *for_rootless))?,
        Command::Features => report::print_json(&features::features())?,
    }
    Ok(ExitCode::SUCCESS)
}
