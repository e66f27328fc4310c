//! What an image is for: an operating system and a CPU.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::ImageConfiguration;

use crate::error::{Error, Result};
use crate::image::host_arch;

/// `OS/CPU[/VARIANT]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// What this program runs on.
    #[must_use]
    pub fn host() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: host_arch().to_string(),
            variant: None,
        }
    }

    /// As a document says it, whatever that is: it is only compared and shown. CPUs whose only variant is the usual one are said without it.
    pub(crate) fn said(os: &str, architecture: &str, variant: Option<String>) -> Self {
        let usual = [("arm64", "v8"), ("amd64", "v1")];
        let variant = variant.filter(|variant| {
            !variant.is_empty() && !usual.contains(&(architecture, variant.as_str()))
        });
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant,
        }
    }

    /// What an image says that it is for.
    #[must_use]
    pub fn of(config: &ImageConfiguration) -> Self {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        Self::said(&os, &architecture, config.variant().clone())
    }

    /// As OCI calls it: `amd64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether it is what `wanted` asks for, which leaves open a variant that it does not name.
    #[must_use]
    pub fn fits(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (self.variant == wanted.variant || wanted.variant.is_none())
    }

    /// As an index has it.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut value = serde_json::json!({ "architecture": self.architecture, "os": self.os });
        if let Some(variant) = &self.variant {
            value["variant"] = variant.as_str().into();
        }
        value
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = |word: &&str| {
            (1..=32).contains(&word.len())
                && word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() <= 1 && parts.iter().all(word) => {
                Ok(Self::said(
                    os,
                    architecture,
                    variant.first().map(|variant| (*variant).to_owned()),
                ))
            }
            _ => {
                let shown: String = text.chars().take(80).collect();
                Err(Error::refused(
                    format!("platform `{shown}`"),
                    "is not OS/CPU or OS/CPU/VARIANT",
                    "write it like linux/arm64",
                ))
            }
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(out, "/{variant}"))
    }
}
