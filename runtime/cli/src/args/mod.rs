//! The command line as typed: names, help and nothing else. What the words mean is [`crate::ask`]'s.

mod build;
mod examples;
mod explain;
mod launch;
mod registry;
mod store;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

pub(crate) use build::{BuildArgs, PackageArgs, UpdateArgs};
pub(crate) use explain::{DiffArgs, FailOn, LintArgs, WhyArgs};
pub(crate) use launch::{LaunchArgs, PlanArgs, RunArgs};
pub(crate) use registry::{ConnectArgs, CopyArgs, PullArgs, PushArgs, RegistryArgs};
pub(crate) use store::{
    DoctorArgs, ExportArgs, GcArgs, ImagesArgs, ImportArgs, IndexCommand, IndexCreateArgs,
    InspectArgs, RmArgs, VerifyArgs,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Build minimal OCI images and launch them airtight
///
/// airtight builds minimal, reproducible OCI images with immutable app layers, and launches them so that nothing on their file system can
/// change, nothing outside a short list of system calls and paths can be used, and no network exists except the endpoints that you name.
#[derive(Debug, Parser)]
#[command(
    name = "airtight", version, styles = STYLES, max_term_width = 100, after_help = examples::TOP,
    subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// Where images are kept [env: AIRTIGHT_STORE] [default: /var/lib/airtight as root, else $XDG_DATA_HOME/airtight]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) store: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(BuildArgs),
    Update(UpdateArgs),
    Run(Box<RunArgs>),
    Plan(Box<PlanArgs>),
    Images(ImagesArgs),
    Inspect(InspectArgs),
    Why(WhyArgs),
    Diff(DiffArgs),
    Lint(LintArgs),
    Rm(RmArgs),
    Gc(GcArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Push(PushArgs),
    Pull(PullArgs),
    Copy(CopyArgs),
    /// Images for several platforms
    #[command(subcommand, after_help = examples::INDEX, arg_required_else_help = true, disable_help_subcommand = true)]
    Index(IndexCommand),
    Verify(VerifyArgs),
    /// The profiles that come with airtight
    #[command(subcommand, after_help = examples::PROFILE, arg_required_else_help = true, disable_help_subcommand = true)]
    Profile(ProfileCommand),
    Doctor(DoctorArgs),
    /// Print the completions of a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Where the output belongs is in the shell's own manual; `make install` puts it there
        shell: clap_complete::Shell,
        /// Of this program
        #[arg(long, value_enum, default_value_t = Program::Airtight)]
        program: Program,
    },
    /// Write the man pages into a directory
    #[command(hide = true, after_help = examples::MAN)]
    Man {
        /// Made if it is not there
        dir: PathBuf,
    },
}

/// Those with completions.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Program {
    Airtight,
    AirtightRuntime,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Print the names of the shipped profiles
    #[command(after_help = examples::PROFILE_LIST)]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what a profile grants: a shipped name, or a file
    #[command(after_help = examples::PROFILE_SHOW)]
    Show {
        /// A shipped profile, or a path of a *.profile.toml
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_every_argument_has_help() {
        fn walk(command: &clap::Command) {
            let name = command.get_name();
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(after.contains("Examples:"), "{name} has no examples");
            assert!(command.get_about().is_some(), "{name} has no description");
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{name}: {} has no help",
                    arg.get_id()
                );
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
