//! An artifact: a manifest that refers to another by `subject` (image-spec 1.1).

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::registry::{Document, Kind};

/// One that says itself whom it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Artifact(Document);

impl Artifact {
    /// Of bytes that were held against `digest`.
    pub(crate) fn read(bytes: Vec<u8>, digest: &Digest, subject: &Digest) -> Result<Self> {
        let document = Document::stored(bytes, digest)?;
        let refers = document
            .subject
            .as_ref()
            .is_some_and(|said| said.digest() == subject);
        if refers && matches!(document.kind, Kind::Manifest { .. }) {
            return Ok(Self(document));
        }
        Err(Error::refused(
            digest,
            format!("is no artifact that refers to {subject}"),
            "build or pull the image again",
        ))
    }

    pub(crate) fn document(&self) -> &Document {
        &self.0
    }

    pub(crate) fn digest(&self) -> &Digest {
        self.0.digest()
    }

    /// Configuration, then content.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        self.0.blobs()
    }

    /// Without a type of its own it is of its configuration's.
    pub(crate) fn kind(&self) -> &str {
        match (&self.0.artifact_type, &self.0.kind) {
            (Some(kind), _) => kind,
            (None, Kind::Manifest { config, .. }) => config.media_type(),
            (None, Kind::Index(_)) => "",
        }
    }
}
