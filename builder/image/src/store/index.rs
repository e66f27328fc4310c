//! Images for several platforms: an index that names a manifest for each. A name stands for one image or for an index; what runs or is looked into is
//! always one image.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Store;
use crate::canonical::canonical_json;
use crate::descriptor::Descriptor;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{Image, OCI_INDEX, is_manifest};
use crate::platform::Platform;
use crate::reference::ImageRef;
use crate::registry::{Document, Kind};

/// Of an index that is made here.
const MAX_PLATFORMS: usize = 128;

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Root {
    /// Of a manifest or an index.
    pub descriptor: Descriptor,
    /// Of an index; empty for one image.
    pub images: Vec<PlatformImage>,
    pub(crate) document: Document,
}

/// One image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformImage {
    /// As the index says it.
    pub platform: Option<Platform>,
    pub descriptor: Descriptor,
}

impl PlatformImage {
    /// Whether it is an image by the index's own word: what is for an unknown platform is an attestation or the like.
    pub(crate) fn is_image(&self) -> bool {
        self.platform
            .as_ref()
            .is_none_or(|platform| platform.os() != "unknown")
    }
}

/// What one or several images need.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Each once: manifests before the index that names them.
    pub(crate) blobs: Vec<Descriptor>,
    pub(crate) trees: BTreeSet<DiffId>,
}

impl Root {
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.document.kind, Kind::Index(_))
    }

    /// Its bytes, as they were verified.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.document.bytes()
    }
}

impl Store {
    /// A manifest or an index of the store, by its digest.
    ///
    /// # Errors
    /// What is not there, or neither.
    pub fn root(&self, digest: &Digest) -> Result<Root> {
        let document = Document::stored(self.read_document(digest)?, digest)?;
        let images = match &document.kind {
            Kind::Manifest { .. } => Vec::new(),
            Kind::Index(entries) => {
                let entries = entries
                    .iter()
                    .filter(|entry| is_manifest(entry.descriptor.media_type()));
                entries
                    .map(|entry| PlatformImage {
                        platform: entry.platform.clone(),
                        descriptor: entry.descriptor.clone(),
                    })
                    .collect()
            }
        };
        Ok(Root {
            descriptor: document.descriptor().clone(),
            images,
            document,
        })
    }

    /// The manifest for `platform` of what `digest` is; of an index for this machine if none is said. One image is taken as it is unless
    /// another platform is asked for.
    ///
    /// # Errors
    /// None that fits.
    pub fn choose(
        &self,
        digest: &Digest,
        platform: Option<&Platform>,
        what: impl ToString,
    ) -> Result<Digest> {
        let root = self.root(digest)?;
        let host = Platform::host();
        if root.is_index() {
            let chosen = root.document.choose(platform.unwrap_or(&host), what)?;
            return Ok(chosen.digest().clone());
        }
        if let Some(wanted) = platform {
            let found = Platform::of(&self.image(digest)?.config);
            if !found.fits(wanted) {
                return Err(Error::refused(
                    what.to_string(),
                    format!("is for {found}, and {wanted} is wanted"),
                    format!("use an image for {wanted}, or say --platform {found}"),
                ));
            }
        }
        Ok(digest.clone())
    }

    /// The manifest's digest of what a user wrote, for `platform`, or for this machine. A layout is imported first, without a name.
    ///
    /// # Errors
    /// A name or tag that is not there, no image for that platform, or what [`Store::import`] says.
    pub fn resolve_for(&self, image: &ImageRef, platform: Option<&Platform>) -> Result<Digest> {
        match image {
            ImageRef::Layout { path, tag } => self.import_layout(path, tag.as_deref(), platform),
            ImageRef::Digest(digest) => self.choose(digest, platform, digest),
            ImageRef::Name(name) => {
                let root = self.named(name)?;
                // As at every launch: one image, as it is.
                if platform.is_none() && is_manifest(root.media_type()) {
                    return Ok(root.digest().clone());
                }
                self.choose(root.digest(), platform, name)
            }
        }
    }

    /// What a user wrote, whole: the index, where there is one. A layout is imported first, without a name.
    ///
    /// # Errors
    /// As [`Store::resolve_for`].
    pub fn resolve_root(&self, image: &ImageRef) -> Result<Root> {
        let digest = match image {
            ImageRef::Layout { path, tag } => self.import_layout_whole(path, tag.as_deref())?,
            ImageRef::Name(name) => self.named(name)?.digest().clone(),
            ImageRef::Digest(digest) => digest.clone(),
        };
        self.root(&digest)
    }

    /// Makes an index of images that are in the store, each for another platform; an index among them stands for its images. The same images and
    /// annotations give the same digest, in whatever order.
    ///
    /// # Errors
    /// Two images for one platform, an image that says no platform, annotations for a platform that is not there.
    pub fn create_index(
        &self,
        images: &[(String, Digest)],
        annotations: &BTreeMap<String, String>,
        of_platforms: &BTreeMap<Platform, BTreeMap<String, String>>,
    ) -> Result<Root> {
        self.add()?;
        let mut found: BTreeMap<Platform, (String, Descriptor)> = BTreeMap::new();
        for (shown, digest) in images {
            let root = self.root(digest)?;
            let manifests = match root.images.as_slice() {
                [] if !root.is_index() => vec![root.descriptor],
                images => images
                    .iter()
                    .filter(|image| image.is_image())
                    .map(|image| image.descriptor.clone())
                    .collect(),
            };
            for manifest in manifests {
                let platform = Platform::of(&self.image(manifest.digest())?.config);
                if let Some((other, before)) = found.get(&platform) {
                    let fix = "name one image for each platform";
                    let problem = format!(
                        "{other} and {shown} are both for {platform}: {} and {}",
                        before.digest(),
                        manifest.digest()
                    );
                    return Err(Error::refused("the index", problem, fix));
                }
                found.insert(platform, (shown.clone(), manifest));
            }
        }
        if found.is_empty() || found.len() > MAX_PLATFORMS {
            let problem = format!(
                "would have {} images; 1 to {MAX_PLATFORMS} can be",
                found.len()
            );
            return Err(Error::refused(
                "the index",
                problem,
                "name an image for each platform",
            ));
        }
        if let Some(platform) = of_platforms
            .keys()
            .find(|platform| !found.contains_key(platform))
        {
            let problem = format!("has no image for {platform}, which is given an annotation");
            return Err(Error::refused(
                "the index",
                problem,
                "name its platforms as they are in its images",
            ));
        }
        let manifests: Vec<Value> = found
            .iter()
            .map(|(platform, (_, manifest))| {
                let mut entry = json!({
                    "digest": manifest.digest(), "mediaType": manifest.media_type(), "platform": platform.json(), "size": manifest.size(),
                });
                if let Some(own) = of_platforms.get(platform).filter(|own| !own.is_empty()) {
                    entry["annotations"] = json!(own);
                }
                entry
            })
            .collect();
        let mut index =
            json!({ "manifests": manifests, "mediaType": OCI_INDEX, "schemaVersion": 2 });
        if !annotations.is_empty() {
            index["annotations"] = json!(annotations);
        }
        let (digest, _) = self.put_blob_bytes(canonical_json(index).as_bytes())?;
        self.root(&digest)
    }

    /// What the manifest or index `digest` needs, itself last. What an index names that is no image, such as an attestation, is kept as it is.
    pub(crate) fn needs(&self, digest: &Digest) -> Result<Needs> {
        let root = self.root(digest)?;
        let mut needs = Needs::default();
        let mut seen = BTreeSet::new();
        let mut add = |blobs: Vec<Descriptor>, needs: &mut Needs| {
            for blob in blobs {
                if seen.insert(blob.digest().clone()) {
                    needs.blobs.push(blob);
                }
            }
        };
        if !root.is_index() {
            needs.trees = trees(&self.image(digest)?);
            add(root.document.blobs(), &mut needs);
        }
        for entry in &root.images {
            let digest = entry.descriptor.digest();
            let document = Document::stored(self.read_document(digest)?, digest)?;
            if let Ok(image) = self.image(digest) {
                needs.trees.extend(trees(&image));
            }
            add(document.blobs(), &mut needs);
            add(vec![entry.descriptor.clone()], &mut needs);
        }
        add(vec![root.descriptor], &mut needs);
        Ok(needs)
    }
}

fn trees(image: &Image) -> BTreeSet<DiffId> {
    image
        .layers()
        .iter()
        .map(|(_, diff)| diff.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::OCI_MANIFEST;

    fn image(store: &Store, architecture: &str, variant: Option<&str>) -> (String, Digest) {
        let (layer, length) = store.put_blob_bytes(b"layer").unwrap();
        let mut config = json!({ "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer] } });
        if let Some(variant) = variant {
            config["variant"] = variant.into();
        }
        let (config, size) = store.put_blob_bytes(config.to_string().as_bytes()).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor::new("application/vnd.oci.image.config.v1+json", config, size),
            "layers": [Descriptor::new("application/vnd.oci.image.layer.v1.tar", layer, length)],
        });
        let (digest, _) = store
            .put_blob_bytes(manifest.to_string().as_bytes())
            .unwrap();
        (
            format!("{architecture}{}", variant.unwrap_or_default()),
            digest,
        )
    }

    #[test]
    fn an_index_has_each_platform_once_and_the_same_bytes_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let none = BTreeMap::new();
        let (amd, arm) = (
            image(&store, "amd64", None),
            image(&store, "arm64", Some("v8")),
        );
        let own = BTreeMap::from([(
            "linux/arm64".parse().unwrap(),
            BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        )]);
        let all = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let one = store
            .create_index(&[amd.clone(), arm.clone()], &all, &own)
            .unwrap();
        let other = store
            .create_index(&[arm.clone(), amd.clone()], &all, &own)
            .unwrap();
        assert_eq!(one.descriptor, other.descriptor);
        let want = concat!(
            r#"{"annotations":{"a":"b"},"manifests":[{"digest":"AMD","mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""platform":{"architecture":"amd64","os":"linux"},"size":SIZE},{"annotations":{"k":"v"},"digest":"ARM","#,
            r#""mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"arm64","os":"linux"},"size":SIZE}],"#,
            r#""mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#
        );
        let size = one.images[0].descriptor.size().to_string();
        let want = want
            .replace("AMD", &amd.1.to_string())
            .replace("ARM", &arm.1.to_string())
            .replace("SIZE", &size);
        assert_eq!(std::str::from_utf8(one.bytes()).unwrap(), want);
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let chosen = store
            .choose(one.descriptor.digest(), Some(&platform("linux/arm64")), "x")
            .unwrap();
        assert_eq!(chosen, arm.1);
        let told = store
            .choose(one.descriptor.digest(), Some(&platform("linux/s390x")), "x")
            .unwrap_err();
        assert!(
            told.to_string()
                .starts_with("x: has no image for linux/s390x; it has: linux/amd64, linux/arm64"),
            "{told}"
        );
        let nested = store
            .create_index(
                &[("both".to_owned(), one.descriptor.digest().clone())],
                &all,
                &own,
            )
            .unwrap();
        assert_eq!(nested.descriptor, one.descriptor);
        let told = store
            .create_index(
                &[
                    amd.clone(),
                    ("both".to_owned(), one.descriptor.digest().clone()),
                ],
                &none,
                &BTreeMap::new(),
            )
            .unwrap_err();
        assert!(
            told.to_string()
                .contains("amd64 and both are both for linux/amd64"),
            "{told}"
        );
        let told = store
            .create_index(&[amd], &none, &own)
            .unwrap_err()
            .to_string();
        assert!(told.contains("has no image for linux/arm64"), "{told}");

        store
            .tag(&"both".parse().unwrap(), &one.descriptor)
            .unwrap();
        let listed = store.images().unwrap();
        assert_eq!(listed[0].platforms, ["linux/amd64", "linux/arm64"]);
        store.gc().unwrap();
        assert_eq!(
            store.needs(one.descriptor.digest()).unwrap().blobs.len(),
            6,
            "index, 2 manifests, 2 configurations, 1 layer"
        );
        assert_eq!(store.verify().unwrap().images, 1);
        store.untag(&"both".parse().unwrap()).unwrap();
        store.gc().unwrap();
        assert_eq!(
            std::fs::read_dir(store.path("blobs/sha256"))
                .unwrap()
                .count(),
            0
        );
    }
}
