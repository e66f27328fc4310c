//! Manifests and indexes as a registry gives them: bounded, of one kind that they and the registry agree on, their bytes kept as they are.

use serde::Deserialize;

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST, is_index, is_manifest};
use crate::platform::Platform;

/// What is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
const OLD_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v1+";
/// Of manifests in an index, and of blobs in a manifest that is only copied.
const MAX_ENTRIES: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<WrittenEntry>>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
struct WrittenEntry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    platform: Option<WrittenPlatform>,
}

#[derive(Deserialize)]
struct WrittenPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// A manifest of an index.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) descriptor: Descriptor,
    /// Of what is no image.
    pub(crate) artifact_type: Option<String>,
    pub(crate) platform: Option<Platform>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    Index(Vec<Entry>),
}

/// One of them, and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) subject: Option<Descriptor>,
    pub(crate) artifact_type: Option<String>,
}

impl Document {
    /// Of hostile bytes, which the caller has bounded; `said` is what they were said to be.
    pub(crate) fn read(bytes: Vec<u8>, said: &str, what: impl ToString) -> Result<Self> {
        let what = what.to_string();
        let bad = |problem: String| {
            Error::refused(
                &what,
                problem,
                "use another image, or push it anew with a tool of today",
            )
        };
        let said = said.split(';').next().unwrap_or_default().trim();
        if said.starts_with(OLD_MANIFEST) {
            return Err(bad(
                "is a manifest of docker's schema version 1, which is not taken".to_owned(),
            ));
        }
        let written: Written = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("is no manifest: {error}")))?;
        if written.schema_version != 2 {
            return Err(bad(format!(
                "is of schema version {}, and 2 is taken",
                written.schema_version
            )));
        }
        let known = |kind: &str| is_manifest(kind) || is_index(kind);
        let media_type = match (&written.media_type, known(said)) {
            // What is one thing to one reader and another to the next is neither: CVE-2021-41190.
            (Some(own), true) if own != said => {
                return Err(bad(format!(
                    "is said to be {said} and says that it is {own}"
                )));
            }
            (Some(own), _) => own.clone(),
            (None, true) => said.to_owned(),
            (None, false) => return Err(bad(format!("is of type `{said}`, which is not taken"))),
        };
        let kind = match (written.config, written.layers, written.manifests) {
            (Some(config), Some(layers), None) if is_manifest(&media_type) => {
                check_entries(layers.len(), &bad)?;
                Kind::Manifest { config, layers }
            }
            (None, None, Some(manifests)) if is_index(&media_type) => {
                check_entries(manifests.len(), &bad)?;
                Kind::Index(manifests.into_iter().map(entry).collect())
            }
            _ => {
                return Err(bad(format!(
                    "is of type {media_type} and does not look like it"
                )));
            }
        };
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        Ok(Self {
            descriptor,
            bytes,
            kind,
            subject: written.subject,
            artifact_type: written.artifact_type,
        })
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub(crate) fn digest(&self) -> &Digest {
        self.descriptor.digest()
    }

    pub(crate) fn media_type(&self) -> &str {
        self.descriptor.media_type()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One that is in the store, where it was verified. Old ones say no type of their own.
    pub(crate) fn stored(bytes: Vec<u8>, digest: &Digest) -> Result<Self> {
        Self::read(bytes.clone(), "", digest)
            .or_else(|_| Self::read(bytes.clone(), OCI_MANIFEST, digest))
            .or_else(|error| Self::read(bytes, OCI_INDEX, digest).map_err(|_| error))
    }

    /// Configuration and layers, each once; empty for an index. A layer that may not be distributed stays where it is.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        let Kind::Manifest { config, layers } = &self.kind else {
            return Vec::new();
        };
        let mut blobs: Vec<Descriptor> = Vec::with_capacity(layers.len() + 1);
        for blob in std::iter::once(config).chain(layers) {
            let foreign = ["foreign", "nondistributable"]
                .iter()
                .any(|word| blob.media_type().contains(word));
            if !foreign && !blobs.iter().any(|there| there.digest() == blob.digest()) {
                blobs.push(blob.clone());
            }
        }
        blobs
    }

    /// The one for `platform`, of an index.
    pub(crate) fn choose(&self, platform: &Platform, what: impl ToString) -> Result<Descriptor> {
        let Kind::Index(entries) = &self.kind else {
            return Ok(self.descriptor.clone());
        };
        let manifests = || {
            entries
                .iter()
                .filter(|entry| is_manifest(entry.descriptor.media_type()))
        };
        let found = manifests()
            .find(|entry| entry.platform.as_ref() == Some(platform))
            .or_else(|| {
                let fits = |found: &Platform| found.fits(platform);
                manifests().find(|entry| entry.platform.as_ref().is_some_and(fits))
            });
        if let Some(entry) = found {
            entry.descriptor.at_most(MAX_DOCUMENT)?;
            return Ok(entry.descriptor.clone());
        }
        let mut has: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref().map(ToString::to_string))
            .filter(|shown| !shown.starts_with("unknown/"))
            .take(16)
            .collect();
        has.sort();
        has.dedup();
        Err(Error::refused(
            what,
            format!("has no image for {platform}; it has: {}", has.join(", ")),
            "name one of these with --platform, or use another image",
        ))
    }
}

fn check_entries(count: usize, bad: &impl Fn(String) -> Error) -> Result<()> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    Err(bad(format!(
        "lists {count} entries; at most {MAX_ENTRIES} are taken"
    )))
}

fn entry(written: WrittenEntry) -> Entry {
    let platform = written
        .platform
        .map(|platform| Platform::said(&platform.os, &platform.architecture, platform.variant));
    Entry {
        descriptor: written.descriptor,
        artifact_type: written.artifact_type,
        platform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn descriptor(kind: &str, of: &[u8], platform: Option<&str>) -> serde_json::Value {
        let mut value = serde_json::json!({ "mediaType": kind, "digest": Digest::of(of).to_string(), "size": of.len() });
        if let Some(platform) = platform {
            value["platform"] = platform.parse::<Platform>().unwrap().json();
        }
        value
    }

    #[test]
    fn a_document_is_one_thing_to_every_reader() {
        let config = descriptor("application/vnd.oci.image.config.v1+json", b"c", None);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", b"l", None);
        let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer, layer] });
        let read = |value: &serde_json::Value, said: &str| {
            Document::read(value.to_string().into_bytes(), said, "x")
        };
        let whole = read(&manifest, &format!("{OCI_MANIFEST}; charset=utf-8")).unwrap();
        assert_eq!(whole.blobs().len(), 2, "a blob that is named twice is one");
        let change = |key: &str, value: serde_json::Value| {
            let mut changed = manifest.clone();
            changed[key] = value;
            changed
        };
        for (name, value, said, want) in [
            (
                "the type is its own to say",
                manifest.clone(),
                "application/octet-stream",
                None,
            ),
            (
                "or the registry's",
                change("mediaType", serde_json::Value::Null),
                OCI_MANIFEST,
                None,
            ),
            (
                "nobody says it",
                change("mediaType", serde_json::Value::Null),
                "text/plain",
                Some("which is not taken"),
            ),
            (
                "they differ",
                manifest.clone(),
                INDEX,
                Some("and says that it is"),
            ),
            (
                "both at once",
                change("manifests", serde_json::json!([])),
                OCI_MANIFEST,
                Some("does not look like it"),
            ),
            (
                "an old one",
                manifest.clone(),
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                Some("schema version 1"),
            ),
            (
                "another version",
                change("schemaVersion", 1.into()),
                OCI_MANIFEST,
                Some("of schema version 1"),
            ),
            (
                "a negative size",
                change(
                    "config",
                    serde_json::json!({ "mediaType": "x", "digest": Digest::of(b"").to_string(), "size": -1 }),
                ),
                OCI_MANIFEST,
                Some("is no manifest"),
            ),
            (
                "too many",
                change("layers", vec![layer; 1025].into()),
                OCI_MANIFEST,
                Some("at most 1024"),
            ),
        ] {
            match (read(&value, said), want) {
                (Ok(_), None) => {}
                (told, want) => {
                    let told = told.unwrap_err().to_string();
                    assert!(
                        want.is_some_and(|want| told.contains(want)),
                        "{name}: {told}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_index_gives_the_manifest_of_a_platform() {
        let entries = [
            descriptor(OCI_MANIFEST, b"1", Some("linux/arm/v6")),
            descriptor(OCI_MANIFEST, b"2", Some("linux/arm/v7")),
            descriptor(OCI_MANIFEST, b"3", Some("linux/amd64")),
            descriptor(OCI_MANIFEST, b"4", Some("unknown/unknown")),
            descriptor(INDEX, b"5", Some("linux/s390x")),
        ];
        let index =
            serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let index = Document::read(index.to_string().into_bytes(), INDEX, "x").unwrap();
        for (platform, want) in [
            ("linux/amd64", Some(&b"3"[..])),
            ("linux/arm", Some(b"1")),
            ("linux/arm/v7", Some(b"2")),
            ("linux/arm/v8", None),
            ("linux/s390x", None),
        ] {
            let chosen = index.choose(&platform.parse().unwrap(), "x");
            match want {
                Some(of) => assert_eq!(*chosen.unwrap().digest(), Digest::of(of), "{platform}"),
                None => {
                    let told = chosen.unwrap_err().to_string();
                    let want = format!(
                        "x: has no image for {platform}; it has: linux/amd64, linux/arm/v6, linux/arm/v7, linux/s390x\n"
                    );
                    assert!(told.starts_with(&want), "{told}");
                }
            }
        }
    }
}
