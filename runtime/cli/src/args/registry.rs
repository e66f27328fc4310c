//! The commands that speak to a registry, as typed.

use std::path::PathBuf;

use clap::Args;

use super::examples;

/// Send an image to a registry
///
/// Only what the registry lacks is sent: what it has in another repository it is asked to mount. A push that was cut off goes on where it was. The name is
/// written last, when everything that it needs was seen to be there.
#[derive(Debug, Args)]
#[command(after_help = examples::PUSH)]
pub(crate) struct PushArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    pub(crate) image: String,
    /// HOST[:PORT]/NAME[:TAG] [default: the image's own name, if it names a registry]
    #[arg(value_name = "REF")]
    pub(crate) to: Option<String>,
    /// OS/CPU[/VARIANT], of an image for several [default: all of them]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Leave behind what refers to the image, such as why each file is in it
    #[arg(long)]
    pub(crate) no_referrers: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// Fetch an image from a registry into the store
///
/// Everything is verified against its digest and size before it is kept. A pull that was cut off goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = examples::PULL)]
pub(crate) struct PullArgs {
    /// HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    pub(crate) from: String,
    /// The name in the store [default: the one it is pulled by]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
    /// All platforms of an image for several, and their index
    #[arg(short, long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Leave behind what refers to the image, such as why each file is in it
    #[arg(long)]
    pub(crate) no_referrers: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// Copy an image from one registry to another, or to another name
///
/// What refers to the image (profiles, signatures, lists of contents) is copied with it. The digest stays the same.
#[derive(Debug, Args)]
#[command(after_help = examples::COPY)]
pub(crate) struct CopyArgs {
    /// HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "SRC")]
    pub(crate) from: String,
    /// HOST[:PORT]/NAME[:TAG]
    #[arg(value_name = "DST")]
    pub(crate) to: String,
    /// All platforms of an image for several, and their index
    #[arg(short, long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// What all of them take.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Say what was sent, received, mounted and skipped, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the digest and nothing else
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Blobs at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64), help_heading = "Registry")]
    pub(crate) jobs: u8,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// How registries are spoken to.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Attempts after the first, when the network or the registry fails
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        allow_negative_numbers = true,
        help_heading = "Registry"
    )]
    pub(crate) retry: u32,
    /// How long a registry may be silent, or slower than 1 kB a second
    #[arg(long, value_name = "SECONDS", default_value_t = 60, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Registry")]
    pub(crate) timeout: u64,
    /// Credentials, as docker or podman keep them [default: $REGISTRY_AUTH_FILE, podman's auth.json, docker's config.json]
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub(crate) authfile: Option<PathBuf>,
    /// More certificates: *.crt to trust, *.cert with its *.key to be known by [default: certs.d of podman and docker]
    #[arg(long, value_name = "DIR", help_heading = "Registry")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Speak to it without TLS, if it has none; to this machine's own it may be so anyway
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Registry")]
    pub(crate) insecure_registry: Vec<String>,
}
