//! The commands about images at rest and about this host, as typed.

use std::path::PathBuf;

use clap::Args;

use super::examples;

/// List the images in the store
#[derive(Debug, Args)]
#[command(after_help = examples::IMAGES)]
pub(crate) struct ImagesArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what an image is made of
#[derive(Debug, Args)]
#[command(after_help = examples::INSPECT)]
pub(crate) struct InspectArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    pub(crate) image: String,
    /// OS/CPU[/VARIANT], of an image for several [default: the index of them]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Print the manifest and the configuration as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take the names of images out of the store
///
/// The bytes go with the next `airtight gc`.
#[derive(Debug, Args)]
#[command(after_help = examples::RM)]
pub(crate) struct RmArgs {
    /// NAME[:TAG], or a digest: then every name of it
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Remove what no image in the store needs
///
/// What a running sandbox uses stays, and the layers that builds of the last seven days used, up to 10 GiB of them.
#[derive(Debug, Args)]
#[command(after_help = examples::GC)]
pub(crate) struct GcArgs {
    /// Remove too what is kept for later builds
    #[arg(long)]
    pub(crate) cache: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take images into the store: an OCI layout, an oci-archive or a docker-archive
///
/// Every blob is verified against its digest and size. Prints the digest of each manifest.
#[derive(Debug, Args)]
#[command(after_help = examples::IMPORT)]
pub(crate) struct ImportArgs {
    /// A directory or a tar file; what it is shows from its content
    pub(crate) path: PathBuf,
    /// The name in the store [default: the one it carries]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
    /// All platforms of an image for several, and their index
    #[arg(short, long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// OS/CPU[/VARIANT], of an image for several [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write an image out of the store
#[derive(Debug, Args)]
#[command(after_help = examples::EXPORT)]
pub(crate) struct ExportArgs {
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    pub(crate) image: String,
    /// oci:PATH[:TAG] or oci-archive:PATH[:TAG]
    pub(crate) output: String,
    /// OS/CPU[/VARIANT], of an image for several [default: all of them]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// Make and change images for several platforms
#[derive(Debug, clap::Subcommand)]
pub(crate) enum IndexCommand {
    Create(IndexCreateArgs),
}

/// Make an index of images, each for another platform
///
/// The images are in the store or in layouts. An index among them stands for its images. The same images give the same digest, in whatever
/// order. Prints the digest of the index, alone, on stdout.
#[derive(Debug, Args)]
#[command(after_help = examples::INDEX_CREATE)]
pub(crate) struct IndexCreateArgs {
    /// The index's name in the store
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// NAME[:TAG], a digest, or oci:PATH[:TAG]
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Of the index; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Of one image's entry in the index; may be repeated
    #[arg(long, value_name = "PLATFORM:KEY=VALUE")]
    pub(crate) platform_annotation: Vec<String>,
    /// Write it there too: oci:PATH[:TAG] or oci-archive:PATH[:TAG]; may be repeated
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Read all of the store and hold every byte against its digest
#[derive(Debug, Args)]
#[command(after_help = examples::VERIFY)]
pub(crate) struct VerifyArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show which controls this host gives, what is missing and what that costs
#[derive(Debug, Args)]
#[command(after_help = examples::DOCTOR)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
