//! The flags of a launch, as typed. `run` and `plan` take the same, so that a plan shows what a run would do.

use std::path::PathBuf;

use clap::Args;

use super::examples;

/// Launch an image, confined
///
/// Without flags the payload has a read-only root, a private /tmp, no network and no capability. Every flag is the operator speaking: it may
/// add to what the image's profile asks for, within this host's ceiling.
///
/// Flags may stand before or after IMAGE; they end at `--` or at the first other word, and what follows is the payload's.
/// The exit code is the payload's; 124 if it timed out, 125 if the fault is airtight's or the request's, 126 if the program cannot be
/// executed, 127 if it is not there, 128+n if signal n ended it.
#[derive(Debug, Args)]
#[command(after_help = examples::RUN)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) launch: LaunchArgs,
    /// Print how long each phase of the start took, on stderr
    #[arg(long)]
    pub(crate) timings: bool,
    /// Accepted for habit: stdin is always passed
    #[arg(short, long, hide_short_help = true)]
    pub(crate) interactive: bool,
    /// Accepted for habit: nothing of a sandbox is ever kept
    #[arg(long, hide_short_help = true)]
    pub(crate) rm: bool,
}

/// Print what `run` would do, without doing it
///
/// Every mount, right, system call, id, endpoint and limit, in the order in which they would be set. Takes the flags of `run`.
#[derive(Debug, Args)]
#[command(after_help = examples::PLAN)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) launch: LaunchArgs,
    /// Print the plan as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Replaces the image's default arguments; its entrypoint stays
    #[arg(value_name = "ARG", trailing_var_arg = true)]
    pub(crate) args: Vec<String>,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,

    /// What the payload may do: base, service, jit, build, or a path of a *.profile.toml [default: what the image carries, else base]
    #[arg(long, value_name = "NAME|FILE", help_heading = "Policy")]
    pub(crate) profile: Option<String>,
    /// Go on without what the profile asks for beyond this host's ceiling
    #[arg(long, help_heading = "Policy")]
    pub(crate) narrow: bool,
    /// Go on without a control that this host lacks; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Policy")]
    pub(crate) accept_shortfall: Vec<String>,
    /// Append each refusal to FILE as a line of JSON, instead of a line on stderr
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Policy",
        conflicts_with = "no_audit"
    )]
    pub(crate) audit: Option<PathBuf>,
    /// Tell no refusal
    #[arg(long, help_heading = "Policy")]
    pub(crate) no_audit: bool,

    /// Let the payload reach this TCP endpoint; with =ADDR its name leads there, else it is resolved outside at each dial; may be repeated
    #[arg(long, value_name = "NAME[=ADDR]:PORT", help_heading = "Network")]
    pub(crate) connect: Vec<String>,
    /// Let endpoints lie at public addresses
    #[arg(long, help_heading = "Network")]
    pub(crate) public: bool,
    /// Lead a port of this host to a port of the payload; ADDR is 127.0.0.1 unless said; may be repeated
    #[arg(short, long, value_name = "[ADDR:]PORT:PORT", help_heading = "Network")]
    pub(crate) publish: Vec<String>,
    /// Let the payload listen at this port inside, besides published ones; may be repeated
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub(crate) listen: Vec<String>,
    /// The name that the payload sees as its host [default: the sandbox's id]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub(crate) hostname: Option<String>,

    /// Set a variable, or pass the caller's own by its name; may be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]", help_heading = "Process")]
    pub(crate) env: Vec<String>,
    /// Set variables from the lines of a file; --env wins; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Numbers, or names of the image's own /etc/passwd and /etc/group; never 0 [default: the image's, else 65532:65532]
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    pub(crate) user: Option<String>,
    /// Where the payload starts [default: the image's, else /]
    #[arg(short, long, value_name = "DIR", help_heading = "Process")]
    pub(crate) workdir: Option<String>,
    /// Replaces the image's entrypoint and its default arguments
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    pub(crate) entrypoint: Option<String>,
    /// Give the payload a terminal of its own
    #[arg(short, long, help_heading = "Process")]
    pub(crate) tty: bool,
    /// The sandbox's id, in log lines and its cgroup [default: random]
    #[arg(long, value_name = "ID", help_heading = "Process")]
    pub(crate) name: Option<String>,

    /// Writable memory at PATH, 64m unless said; never executable; may be repeated
    #[arg(long, value_name = "PATH[:SIZE]", help_heading = "Files")]
    pub(crate) tmpfs: Vec<String>,
    /// A directory or file of this host; never executable; may be repeated
    #[arg(short, long, value_name = "SRC:DST[:ro|rw]", help_heading = "Files")]
    pub(crate) volume: Vec<String>,

    /// Bytes, or a number with b, k, m or g; without swap
    #[arg(
        short,
        long,
        value_name = "SIZE",
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    pub(crate) memory: Option<String>,
    /// Processes and threads at once
    #[arg(
        long,
        visible_alias = "pids-limit",
        value_name = "NUMBER",
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    pub(crate) pids: Option<String>,
    /// CPUs, like 0.5
    #[arg(
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    pub(crate) cpus: Option<String>,
    /// End the sandbox after this time: seconds, or a number with ms, s, m or h
    #[arg(
        long,
        value_name = "SECONDS",
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    pub(crate) timeout: Option<String>,
}
