//! Manifest, index and configuration: bounded, verified, then parsed.

use std::path::Path;

use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest, Os};

use crate::descriptor::Descriptor;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::store::Store;

/// Of a manifest, an index or a configuration, in bytes.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// As many as an overlay of ours takes beside its two of our own.
const MAX_LAYERS: usize = 125;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// How a layer's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    None,
    Gzip,
    Zstd,
}

/// An image whose manifest and configuration were read whole and verified.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest.
    pub digest: Digest,
    pub manifest: ImageManifest,
    pub config: ImageConfiguration,
    layers: Vec<(Descriptor, DiffId)>,
}

impl Image {
    /// The layers' blobs and the digests of what is in them, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[(Descriptor, DiffId)] {
        &self.layers
    }

    /// # Errors
    /// An image for another operating system or CPU.
    pub fn check_platform(&self) -> Result<()> {
        let (os, arch) = (self.config.os(), self.config.architecture());
        if *os == Os::Linux && *arch == host_arch() {
            return Ok(());
        }
        let problem = format!(
            "is for {os}/{arch}, and this machine is linux/{}",
            host_arch()
        );
        Err(Error::refused(
            &self.digest,
            problem,
            "use the image for this machine, or build it here",
        ))
    }

    pub(crate) fn read(store: &Store, digest: &Digest) -> Result<Self> {
        let bytes = store.read_document(digest)?;
        let manifest = parse_manifest(&bytes, digest)?;
        let config = Descriptor::from_oci(manifest.config())?;
        let bytes = store.read_blob(&config, MAX_DOCUMENT)?;
        Self::assemble(digest.clone(), manifest, &bytes)
    }

    fn assemble(digest: Digest, manifest: ImageManifest, config: &[u8]) -> Result<Self> {
        let bad =
            |problem: String| Error::refused(&digest, problem, "rebuild or pull the image again");
        let config = serde_json::from_slice::<ImageConfiguration>(config)
            .map_err(|error| bad(format!("has a configuration that is none: {error}")))?;
        let diff_ids = config.rootfs().diff_ids();
        check_count(manifest.layers().len(), &digest)?;
        let count = manifest.layers().len();
        if diff_ids.len() != count {
            return Err(bad(format!(
                "has {count} layers and {} diffIDs",
                diff_ids.len()
            )));
        }
        let mut layers = Vec::with_capacity(count);
        for (layer, diff) in manifest.layers().iter().zip(diff_ids) {
            let layer = Descriptor::from_oci(layer)?;
            encoding(layer.media_type())
                .ok_or_else(|| bad(format!("has a layer of type {}", layer.media_type())))?;
            layers.push((layer, DiffId(diff.parse()?)));
        }
        Ok(Self {
            digest,
            manifest,
            config,
            layers,
        })
    }
}

/// Before the layers are copied, so that no long list of them is work.
pub(crate) fn check_count(layers: usize, what: impl ToString) -> Result<()> {
    if (1..=MAX_LAYERS).contains(&layers) {
        return Ok(());
    }
    Err(Error::refused(
        what,
        format!("has {layers} layers; 1 to {MAX_LAYERS} are taken"),
        "rebuild the image with fewer, or use another",
    ))
}

/// Parses a manifest of hostile bytes.
///
/// # Errors
/// Another media type or schema version, or no JSON of that shape.
pub fn parse_manifest(bytes: &[u8], digest: &Digest) -> Result<ImageManifest> {
    let bad = |problem: String| Error::refused(digest, problem, "name an image manifest");
    let manifest = serde_json::from_slice::<ImageManifest>(bytes)
        .map_err(|error| bad(format!("is no image manifest: {error}")))?;
    let kind = manifest
        .media_type()
        .as_ref()
        .map_or(OCI_MANIFEST.to_owned(), ToString::to_string);
    if manifest.schema_version() != 2 || !is_manifest(&kind) {
        return Err(bad(format!(
            "is of type {kind}, schema version {}",
            manifest.schema_version()
        )));
    }
    Ok(manifest)
}

/// Parses an index of hostile bytes.
///
/// # Errors
/// No JSON of that shape, or more than 1,024 manifests.
pub fn parse_index(bytes: &[u8], what: &Path) -> Result<ImageIndex> {
    let bad =
        |problem: String| Error::refused(what.display(), problem, "name an OCI layout or archive");
    let index = serde_json::from_slice::<ImageIndex>(bytes)
        .map_err(|error| bad(format!("is no image index: {error}")))?;
    if index.schema_version() != 2 {
        return Err(bad(format!(
            "is an image index of schema version {}, and 2 is taken",
            index.schema_version()
        )));
    }
    if index.manifests().len() > 1024 {
        return Err(bad(format!(
            "lists {} manifests; at most 1024 are taken",
            index.manifests().len()
        )));
    }
    Ok(index)
}

pub(crate) fn is_manifest(media_type: &str) -> bool {
    media_type == OCI_MANIFEST || media_type == DOCKER_MANIFEST
}

pub(crate) fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_INDEX
}

/// Of the layer types that are taken; `None` for another.
pub(crate) fn encoding(media_type: &str) -> Option<Encoding> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Some(Encoding::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Encoding::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Encoding::Zstd),
        _ => None,
    }
}

/// The CPU that this program was built for.
pub(crate) fn host_arch() -> Arch {
    if cfg!(target_arch = "aarch64") {
        Arch::ARM64
    } else {
        Arch::Amd64
    }
}
