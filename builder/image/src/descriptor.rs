//! A descriptor: what a blob is, which, and how long.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};

/// `application/vnd.oci.descriptor.v1+json`, the part that is used here; the rest is kept by the document it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
}

impl Descriptor {
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
        }
    }

    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// # Errors
    /// A digest that is none, or of another algorithm.
    pub fn from_oci(oci: &oci_spec::image::Descriptor) -> Result<Self> {
        let digest = oci.digest().to_string().parse::<Digest>()?;
        Ok(Self::new(oci.media_type().to_string(), digest, oci.size()))
    }

    /// # Errors
    /// A larger size than `limit`: refused before a byte is read.
    pub(crate) fn at_most(&self, limit: u64) -> Result<()> {
        if self.size <= limit {
            return Ok(());
        }
        Err(Error::refused(
            &self.digest,
            format!(
                "is said to be {} bytes; at most {limit} are taken",
                self.size
            ),
            "use another image",
        ))
    }
}
