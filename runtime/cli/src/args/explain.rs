//! The commands that explain images, as typed.

use clap::{Args, ValueEnum};

use super::examples;

/// Say why a file is in an image
///
/// As a chain that ends at the build file: which layer, who needs it, where it came from. Of a directory, what lies in it and why. Of an image that
/// airtight did not build there is less to say: its layer, the package that has it by dpkg's lists, the programs that ask for it by name.
#[derive(Debug, Args)]
#[command(after_help = examples::WHY)]
pub(crate) struct WhyArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    pub(crate) image: String,
    /// Of the image, absolute
    #[arg(default_value = "/")]
    pub(crate) path: String,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show how two images differ: files by their reasons, configuration, profile, packages, sizes
#[derive(Debug, Args)]
#[command(after_help = examples::DIFF)]
pub(crate) struct DiffArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    #[arg(value_name = "BEFORE")]
    pub(crate) before: String,
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    #[arg(value_name = "AFTER")]
    pub(crate) after: String,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// End with 1 if they differ
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tell what in an image should not be there, or is missing
///
/// Ends with 0 if nothing of the level of --fail-on or worse was found, with 1 if something was, with 125 if the image could not be looked at.
#[derive(Debug, Args)]
#[command(after_help = examples::LINT)]
pub(crate) struct LintArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    #[arg(required_unless_present = "rules")]
    pub(crate) image: Option<String>,
    /// From which level on the exit code is 1
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = FailOn::Error)]
    pub(crate) fail_on: FailOn,
    /// Pass over a rule, for all of the image or for a path and what lies below it; may be repeated
    #[arg(long, value_name = "RULE[:PATH]")]
    pub(crate) ignore: Vec<String>,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Print the rules and what to do for each, and look at nothing
    #[arg(long, exclusive = true)]
    pub(crate) rules: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print SARIF 2.1.0, which code hosts show
    #[arg(long, conflicts_with = "json")]
    pub(crate) sarif: bool,
}

/// The least bad that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    Note,
    Warning,
    Error,
    Never,
}
