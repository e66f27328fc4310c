//! The command line as typed. Options before the verb are those that callers of OCI runtimes pass to any of them.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Launch an OCI bundle, confined by airtight
#[derive(Debug, Parser)]
#[command(
    name = "airtight-runtime",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    /// Directory for state [default: /run/airtight as root, else $XDG_RUNTIME_DIR/airtight]; compiled filters are kept in it
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// What the payload may do: base, service, jit, build, or a path of a *.profile.toml [default: the annotation
    /// dev.airtight.profile.v1, else base]
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub(crate) profile: Option<String>,
    /// Honour config.json as other runtimes do, instead of what airtight allows; the operator's word, never a bundle's
    #[arg(long, global = true)]
    pub(crate) compat: bool,
    /// Append errors to FILE too
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, help = "How --log writes them")]
    pub(crate) log_format: LogFormat,
    /// Log the plan and how long each step took
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Not offered: cgroups are made directly
    #[arg(long, global = true, hide = true)]
    pub(crate) systemd_cgroup: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Launch a bundle in the foreground and wait for its end
    Run {
        /// Where config.json is
        #[arg(short, long, default_value = ".", value_name = "DIR")]
        bundle: PathBuf,
        /// Names the sandbox: 1 to 64 of a-z, 0-9 and `-`
        id: String,
    },
    /// Write a config.json that this runtime takes, as a start
    Spec {
        /// Where to write it
        #[arg(short, long, default_value = ".", value_name = "DIR")]
        bundle: PathBuf,
        /// For a user without privileges (with --compat)
        #[arg(long)]
        rootless: bool,
    },
    /// Print what this runtime can do, as features.md of the OCI runtime specification has it
    Features,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn verbs_that_are_not_there_are_unknown() {
        for verb in [
            "create", "start", "state", "kill", "delete", "exec", "list", "ps",
        ] {
            let error = Args::try_parse_from(["airtight-runtime", verb, "id"]).unwrap_err();
            assert_eq!(
                error.kind(),
                clap::error::ErrorKind::InvalidSubcommand,
                "{verb}"
            );
        }
    }
}
