//! `docker save`'s archive: `manifest.json`, a configuration that OCI's was made from, and layers as plain tar files, which other tools may have
//! compressed. It becomes an OCI image of the same layers and the same configuration bytes.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use airtight_sys::open::open_in_root;
use nix::fcntl::OFlag;
use serde::Deserialize;

use super::import::Layout;
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::image::OCI_MANIFEST;
use crate::reference::Reference;
use crate::store::{Listed, Store};

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
    let bad = |problem: String| {
        Error::refused(
            archive.shown.display(),
            problem,
            "name an OCI layout, an oci-archive or a docker-archive",
        )
    };
    let saved: Vec<Saved> = serde_json::from_slice(&archive.document("manifest.json")?)
        .map_err(|error| bad(format!("manifest.json: {error}")))?;
    if saved.is_empty() || saved.len() > 1024 || (name.is_some() && saved.len() != 1) {
        return Err(bad(format!("has {} images", saved.len())));
    }
    let mut listed = Vec::new();
    for image in &saved {
        let manifest = convert(store, archive, image)?;
        let read = store.image(manifest.digest())?;
        read.check_platform()?;
        store.unpacked(&read)?;
        let said = image
            .repo_tags
            .iter()
            .flatten()
            .map(|tag| tag.parse())
            .collect::<Result<Vec<Reference>>>()?;
        let names = name.map_or(said, |name| vec![name.clone()]);
        for name in &names {
            store.tag(name, &manifest)?;
            listed.push(store.listed(name.to_string(), manifest.digest())?);
        }
        if names.is_empty() {
            listed.push(store.listed(String::new(), manifest.digest())?);
        }
    }
    Ok(listed)
}

fn convert(store: &Store, archive: &Layout<'_>, image: &Saved) -> Result<Descriptor> {
    let config = store.put_blob_bytes(&archive.document(&image.config)?)?;
    let mut layers = Vec::with_capacity(image.layers.len());
    for path in &image.layers {
        layers.push(layer(store, archive, path)?);
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

/// Docker links equal layers to one another inside the archive: the link resolves in it and nowhere else.
fn layer(store: &Store, archive: &Layout<'_>, path: &str) -> Result<Descriptor> {
    let shown = archive.shown.join(path);
    let file =
        open_in_root(&archive.at, Path::new(path), OFlag::O_RDONLY).map_err(Error::sys(&shown))?;
    let mut file = std::fs::File::from(file);
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
