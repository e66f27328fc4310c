//! `airtight build`, as typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{ConnectArgs, examples};

/// Build an image from an airtight.toml
///
/// Prints the digest of the manifest, alone, on stdout. The same input gives the same digest, from another directory, user and day.
#[derive(Debug, Args)]
#[command(after_help = examples::BUILD)]
pub(crate) struct BuildArgs {
    /// Where the build file is, and what its relative paths start from
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The build file [default: DIR/airtight.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The name in the store [default: the build file's `name`]
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Option<String>,
    /// OS/CPU[/VARIANT] that the image is for: `{arch}` in a `from` stands for the CPU; `closure` is for this machine's only [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Write the image there too: oci:PATH[:TAG] or oci-archive:PATH[:TAG]; may be repeated
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Make every layer anew, whatever earlier builds left
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Take layers that another build has left there, if they hold what this one would put into them; may be repeated. How they are compressed is that build's: a digest that others shall reproduce is made without a cache
    #[arg(long, value_name = "REF", conflicts_with = "no_cache")]
    pub(crate) cache_from: Vec<String>,
    /// Leave the layers there for other builds
    #[arg(long, value_name = "REF")]
    pub(crate) cache_to: Option<String>,
    #[command(flatten)]
    pub(crate) packages: PackageArgs,
    /// Take nothing from outside that airtight.lock does not pin, and ask a mirror for nothing but that
    #[arg(long, conflicts_with = "no_lock")]
    pub(crate) locked: bool,
    /// Neither read nor write airtight.lock
    #[arg(long)]
    pub(crate) no_lock: bool,
    /// Compress the layers with gzip or zstd [default: the build file's `compression`, or gzip]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) compression_format: Option<String>,
    /// Threads that compress, at most; the image is the same for any number [default: CPUs that may be used]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Print what was built as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Tell each step on stderr [default: only on a terminal, and only for a build that takes over a second]
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) progress: bool,
    /// Tell no step
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// What is said of Debian packages.
#[derive(Debug, Args)]
pub(crate) struct PackageArgs {
    /// The mirror of Debian packages: http:, https: or file: [default: the build file's, else what this host's apt uses]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mirror: Option<String>,
    /// Take a release whose time, or whose key's time, is over, as an archive of old ones has
    #[arg(long)]
    pub(crate) allow_expired_release: bool,
}

/// Pin anew what a build takes from outside, and tell what changed
///
/// Looks at what the base is now and which packages the mirrors have now, and writes airtight.lock beside the build file. Nothing is built.
#[derive(Debug, Args)]
#[command(after_help = examples::UPDATE)]
pub(crate) struct UpdateArgs {
    /// Where the build file is
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The build file [default: DIR/airtight.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) packages: PackageArgs,
    /// Print what changed as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
