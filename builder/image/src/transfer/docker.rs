//! `docker save`'s archive: `manifest.json`, a configuration that OCI's was made from, and layers as plain tar files, which other tools may have
//! compressed. It becomes an OCI image of the same layers and the same configuration bytes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, Write as _};

use serde::Deserialize;

use super::import::{Layout, NAME_ONE};
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::image::{OCI_MANIFEST, check_count};
use crate::reference::Reference;
use crate::store::{Listed, Store};

/// Where `docker save` says what is in it.
pub(super) const SAVED_FILE: &str = "manifest.json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn import(
    store: &Store,
    archive: &Layout<'_>,
    name: Option<&Reference>,
) -> Result<Vec<Listed>> {
    let bad = |problem: String| Error::refused(archive.shown.display(), problem, NAME_ONE);
    let saved: Vec<Saved> = serde_json::from_slice(&archive.document(SAVED_FILE)?)
        .map_err(|error| bad(format!("{SAVED_FILE}: {error}")))?;
    if saved.is_empty() || saved.len() > 1024 || (name.is_some() && saved.len() != 1) {
        return Err(bad(format!("has {} images", saved.len())));
    }
    let mut taken = Vec::new();
    let mut blobs = BTreeMap::new();
    for image in &saved {
        check_count(image.layers.len(), archive.shown.display())?;
        let said = image
            .repo_tags
            .iter()
            .flatten()
            .map(|tag| tag.parse())
            .collect::<Result<Vec<Reference>>>()?;
        let manifest = convert(store, archive, image, &mut blobs)?;
        let read = store.image(manifest.digest())?;
        read.check_platform()?;
        store.unpacked(&read)?;
        let names = name.map_or(said, |name| vec![name.clone()]);
        if names.is_empty() {
            taken.push((None, manifest));
        } else {
            taken.extend(names.into_iter().map(|name| (Some(name), manifest.clone())));
        }
    }
    store.name_all(&taken)
}

fn convert<'a>(
    store: &Store,
    archive: &Layout<'_>,
    image: &'a Saved,
    blobs: &mut BTreeMap<&'a str, Descriptor>,
) -> Result<Descriptor> {
    let config = store.put_blob_bytes(&archive.document(&image.config)?)?;
    let mut layers = Vec::with_capacity(image.layers.len());
    for path in &image.layers {
        // Images share layers, and a hostile list may name one any number of times.
        if !blobs.contains_key(path.as_str()) {
            blobs.insert(path, layer(store, archive, path)?);
        }
        layers.extend(blobs.get(path.as_str()).cloned());
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor::new(CONFIG, config.0, config.1),
        "layers": layers,
    });
    let (digest, size) = store.put_blob_bytes(manifest.to_string().as_bytes())?;
    Ok(Descriptor::new(OCI_MANIFEST, digest, size))
}

/// Docker links equal layers to one another inside the archive.
fn layer(store: &Store, archive: &Layout<'_>, path: &str) -> Result<Descriptor> {
    let shown = archive.shown.join(path);
    let mut file = archive.open_linked(path)?;
    let mut magic = Vec::new();
    (&mut file)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(Error::io(&shown))?;
    file.rewind().map_err(Error::io(&shown))?;
    let suffix = match magic.as_slice() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    };
    let mut blob = store.put_blob()?;
    io::copy(&mut file, &mut blob)
        .and_then(|_| blob.flush())
        .map_err(Error::io(&shown))?;
    let (digest, size) = blob.commit()?;
    Ok(Descriptor::new(format!("{LAYER}{suffix}"), digest, size))
}
