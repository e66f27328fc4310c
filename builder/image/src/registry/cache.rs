//! Layers that builds have made, in a registry: an artifact whose configuration lists what each was made from, and whose layers are the blobs. All of it is hostile: a
//! record can only name a blob of its own artifact, a blob is believed when its digest is right, and what is in it is the caller's to hold against what a build would
//! have written.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::document::{Document, Kind};
use super::pull::take;
use super::push::stored;
use super::report::{Moved, Report};
use super::token::Scope;
use super::{Registries, RegistryRef, origins, work};
use crate::canonical_json;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{OCI_MANIFEST, encoding};
use crate::store::{LayerKey, LayerRecord, Store};

/// Of the artifact.
const CACHE: &str = "application/vnd.airtight.cache.v1";
/// Of its configuration.
const RECORDS: &str = "application/vnd.airtight.cache.records.v1+json";
const VERSION: u32 = 1;
const MAX_RECORDS_BYTES: u64 = 1 << 20;
/// Those that were used last stay.
const MAX_RECORDS: usize = 256;
/// Of all blobs of one artifact.
const MAX_BYTES: u64 = 10 << 30;

/// A layer, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CachedLayer {
    pub of: LayerKey,
    pub layer: LayerRecord,
    /// Of the blob, as a manifest has it.
    pub media_type: String,
}

impl CachedLayer {
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let LayerRecord { digest, size, .. } = &self.layer;
        Descriptor::new(&self.media_type, digest.clone(), *size)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    layers: Vec<CachedLayer>,
}

/// Reads the list of a cache in a registry; the bytes are hostile.
///
/// # Errors
/// Anything but such a list, with at most 256 layers of types that an image may have, each known by another key.
pub fn parse_cache(bytes: &[u8]) -> Result<Vec<CachedLayer>> {
    let bad = |problem: String| {
        let fix = "write it anew with --cache-to, or use another";
        Error::refused("the list of a cache", problem, fix)
    };
    if bytes.len() as u64 > MAX_RECORDS_BYTES {
        return Err(bad("is longer than 1 MiB".to_owned()));
    }
    let written: Written =
        serde_json::from_slice(bytes).map_err(|error| bad(format!("is none: {error}")))?;
    if written.version != VERSION {
        return Err(bad(format!("is of version {}", written.version)));
    }
    let layers = written.layers;
    if layers.len() > MAX_RECORDS {
        return Err(bad(format!("has {} layers", layers.len())));
    }
    if let Some(layer) = layers
        .iter()
        .find(|layer| encoding(&layer.media_type).is_none())
    {
        return Err(bad(format!("has a layer of type {}", layer.media_type)));
    }
    let keys: BTreeSet<_> = layers.iter().map(|layer| &layer.of).collect();
    if keys.len() != layers.len() {
        return Err(bad("has two layers for one key".to_owned()));
    }
    Ok(layers)
}

impl Registries {
    /// What a cache lists; nothing where there is none. No layer is fetched.
    ///
    /// # Errors
    /// A registry that does not answer, or what is no cache.
    pub fn cached(&self, store: &Store, from: &RegistryRef) -> Result<Vec<CachedLayer>> {
        let client = self.client(from.host())?;
        let scope = scope(from, false);
        let Some(document) = client.document(&scope, &from.wanted())? else {
            return Ok(Vec::new());
        };
        let bad = |problem: &str| {
            let fix = "name a cache that --cache-to wrote, or a name of its own to write one";
            Error::refused(from, problem, fix)
        };
        let Kind::Manifest { config, layers } = &document.kind else {
            return Err(bad("is an index, and no cache of layers"));
        };
        if document.artifact_type.as_deref() != Some(CACHE) || config.media_type() != RECORDS {
            return Err(bad("is no cache of layers"));
        }
        config.at_most(MAX_RECORDS_BYTES)?;
        store.add()?;
        take(store, &client, &scope, config)?;
        let mut cached = parse_cache(&store.read_blob(config, MAX_RECORDS_BYTES)?)?;
        // A registry keeps what a manifest names, so another blob may be gone by now.
        cached.retain(|cached| layers.contains(&cached.descriptor()));
        Ok(cached)
    }

    /// Fetches a layer of a cache into the store, its digest and size verified.
    ///
    /// # Errors
    /// A registry that does not give it.
    pub fn fetch_cached(
        &self,
        store: &Store,
        from: &RegistryRef,
        layer: &CachedLayer,
    ) -> Result<Moved> {
        store.add()?;
        let client = self.client(from.host())?;
        let blob = layer.descriptor();
        self.meter.plan(blob.size());
        take(store, &client, &scope(from, false), &blob)
    }

    /// Writes a cache: `layers`, all in the store, and then what the name holds of others, so that builds of several branches can share one.
    ///
    /// # Errors
    /// A registry that does not take it, or a layer that is damaged in the store.
    pub fn keep_cached(
        &self,
        store: &Store,
        to: &RegistryRef,
        layers: &[CachedLayer],
    ) -> Result<Report> {
        if to.tag().is_none() || to.digest().is_some() {
            let fix = "name it like registry.example.org/shop/api:cache";
            return Err(Error::refused(to, "is a digest, not a name", fix));
        }
        store.add()?;
        let client = self.client(to.host())?;
        let scope = scope(to, true);
        // What is there and is no cache is somebody's image: it is not written over.
        let mut all = layers.to_vec();
        for other in self.cached(store, to)? {
            let blob = other.descriptor();
            let own = all.iter().any(|layer| layer.of == other.of);
            if !own && client.has_blob(&scope, &blob)? {
                all.push(other);
            }
        }
        bound(&mut all);
        let list = Written {
            version: VERSION,
            layers: all.clone(),
        };
        let list = canonical(&list)?;
        let (digest, size) = store.put_blob_bytes(list.as_bytes())?;
        let config = Descriptor::new(RECORDS, digest, size);
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in all.iter().map(CachedLayer::descriptor) {
            if !blobs.contains(&blob) {
                blobs.push(blob);
            }
        }
        let manifest = canonical(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": CACHE, "config": config, "layers": blobs,
        }))?;
        let document = Document::read(manifest.into_bytes(), OCI_MANIFEST, to)?;
        let mut sent = vec![config];
        sent.extend(blobs);
        self.meter.plan(
            sent.iter()
                .map(Descriptor::size)
                .fold(0, u64::saturating_add),
        );
        let mut report = Report::new(to, document.digest());
        for moved in work::each(self.settings.jobs, &self.meter, &sent, |blob| {
            let from = origins::of(store, blob, client.host(), &scope.repository);
            client.give(store, &scope, blob, &from, || stored(store, blob))
        })? {
            report.blob(moved);
        }
        let name = to.tag().unwrap_or_default();
        report.manifest(client.name(&scope, name, &document)?);
        Ok(report)
    }
}

/// The first, which are the newest, as many as there may be.
fn bound(layers: &mut Vec<CachedLayer>) {
    let mut bytes = 0_u64;
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    layers.truncate(MAX_RECORDS);
    layers.retain(|layer| {
        let LayerRecord { digest, size, .. } = &layer.layer;
        if !seen.contains(digest) {
            if bytes.saturating_add(*size) > MAX_BYTES {
                return false;
            }
            bytes += size;
            seen.insert(digest.clone());
        }
        true
    });
}

fn canonical(value: &impl Serialize) -> Result<String> {
    serde_json::to_value(value)
        .map(canonical_json)
        .map_err(|error| Error::refused("a cache", error.to_string(), "report this"))
}

fn scope(at: &RegistryRef, push: bool) -> Scope {
    Scope {
        repository: at.repository().to_owned(),
        push,
        from: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DiffId;

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn layer(key: u32, size: u64) -> CachedLayer {
        let of = |what: &str| Digest::of(format!("{what} {key}").as_bytes());
        CachedLayer {
            of: LayerKey {
                shape: Digest::of(b"shape"),
                key: of("key"),
            },
            layer: LayerRecord {
                digest: of("blob"),
                diff_id: DiffId(of("tar")),
                size,
                uncompressed: 10_240,
                entries: 1,
                foreign: false,
            },
            media_type: GZIP.to_owned(),
        }
    }

    fn written(layers: &[CachedLayer]) -> serde_json::Value {
        json!({ "version": 1, "layers": layers })
    }

    #[test]
    fn a_list_comes_back_as_it_was_written_and_nothing_else_is_one() {
        let layers = [layer(1, 10), layer(2, 20)];
        let whole = written(&layers);
        assert_eq!(parse_cache(whole.to_string().as_bytes()).unwrap(), layers);
        let change = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = whole.clone();
            change(&mut value);
            let told = parse_cache(value.to_string().as_bytes()).unwrap_err();
            told.to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        for (name, told, want) in [
            (
                "version",
                change(&|v| v["version"] = json!(2)),
                "is of version 2",
            ),
            (
                "more",
                change(&|v| v["more"] = json!(1)),
                "unknown field `more`",
            ),
            (
                "a digest that is none",
                change(&|v| v["layers"][0]["layer"]["digest"] = json!("sha256:../../x")),
                "is not `sha256:`",
            ),
            (
                "a size below nothing",
                change(&|v| v["layers"][0]["layer"]["size"] = json!(-1)),
                "invalid value",
            ),
            (
                "another kind of blob",
                change(&|v| v["layers"][0]["mediaType"] = json!("text/html")),
                "has a layer of type text/html",
            ),
            (
                "one key twice",
                change(&|v| v["layers"][1] = v["layers"][0].clone()),
                "has two layers for one key",
            ),
        ] {
            assert!(told.contains(want), "{name}: {told}");
        }
        let many: Vec<_> = (0..257).map(|key| layer(key, 1)).collect();
        let told = parse_cache(written(&many).to_string().as_bytes()).unwrap_err();
        assert!(told.to_string().contains("has 257 layers"), "{told}");
        let told = parse_cache(&vec![b' '; (1 << 20) + 1]).unwrap_err();
        assert!(told.to_string().contains("longer than 1 MiB"), "{told}");
    }

    #[test]
    fn a_cache_is_bounded_and_the_first_stay() {
        let mut many: Vec<_> = (0..400).map(|key| layer(key, 1)).collect();
        bound(&mut many);
        assert_eq!(many, (0..256).map(|key| layer(key, 1)).collect::<Vec<_>>());
        let mut large: Vec<_> = [(1, 6 << 30), (2, 6 << 30), (3, 1 << 30)]
            .map(|(key, size)| layer(key, size))
            .into();
        bound(&mut large);
        assert_eq!(large, [layer(1, 6 << 30), layer(3, 1 << 30)]);
    }
}
