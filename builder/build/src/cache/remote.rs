//! Layers of caches in registries. What a cache says is believed after every byte of the layer was held against the plan: a cache can save work, and cannot
//! put anything into an image.

use std::sync::Arc;

use airtight_image::layer::{Form, Held, Proof};
use airtight_image::registry::{CachedLayer, Registries, RegistryRef, Report};
use airtight_image::{Digest, LayerKey, LayerRecord, Store};

use crate::build::Progress;
use crate::entries::{Entries, EntryKind};
use crate::write::{DIRECTORY_MODE, FILE_MODE, PROGRAM_MODE};

/// What a build says of caches in registries.
#[derive(Clone, Debug, Default)]
pub struct RemoteCache {
    /// Where layers may come from, looked at in this order.
    pub from: Vec<RegistryRef>,
    /// Where the layers of this build go.
    pub to: Option<RegistryRef>,
    /// How registries are spoken to; without it no cache is.
    pub registries: Option<Arc<Registries>>,
}

/// The caches of one build. Each is asked for its list when a layer is missing for the first time.
pub(super) struct Remote<'a> {
    store: &'a Store,
    asked: &'a RemoteCache,
    told: fn(&Progress<'_>),
    listed: Option<Vec<(&'a RegistryRef, CachedLayer)>>,
}

impl<'a> Remote<'a> {
    pub(super) fn new(store: &'a Store, asked: &'a RemoteCache, told: fn(&Progress<'_>)) -> Self {
        Self {
            store,
            asked,
            told,
            listed: None,
        }
    }

    /// Whether this build takes layers that others compressed.
    pub(super) fn is_asked(&self) -> bool {
        !self.asked.from.is_empty()
    }

    /// A cache that cannot be had costs the work that it would have saved, and no build.
    fn listed(&mut self) -> &[(&'a RegistryRef, CachedLayer)] {
        let Self {
            store, asked, told, ..
        } = *self;
        self.listed.get_or_insert_with(|| {
            let mut listed = Vec::new();
            let Some(registries) = &asked.registries else {
                return listed;
            };
            for from in &asked.from {
                match registries.cached(store, from) {
                    Ok(layers) => listed.extend(layers.into_iter().map(|layer| (from, layer))),
                    Err(error) => {
                        told(&Progress::Warning(&format!("--cache-from {from}: {error}")))
                    }
                }
            }
            listed
        })
    }

    /// Whether some cache has a layer of this shape.
    pub(super) fn knows_shape(&mut self, shape: &Digest) -> bool {
        self.listed()
            .iter()
            .any(|(_, cached)| cached.of.shape == *shape)
    }

    /// The layer of `key`, in the store and proven: its archive, since to prove the compressed bytes too would be to compress them, which is all that a cache saves.
    pub(super) fn layer(
        &mut self,
        key: &LayerKey,
        entries: &Entries,
        held: &[Option<Held>],
        form: &Form,
    ) -> Option<LayerRecord> {
        self.listed();
        let Self {
            store, asked, told, ..
        } = *self;
        let registries = asked.registries.as_ref()?;
        let listed = self.listed.as_deref().unwrap_or_default();
        let fitting = listed.iter().filter(|(_, cached)| cached.of == *key);
        for (from, cached) in fitting {
            let most = most(entries);
            let got =
                if cached.layer.size > most || cached.media_type != form.compression.media_type() {
                    Err(format!(
                        "a layer of {} bytes, {}, is not what its key says",
                        cached.layer.size, cached.media_type
                    ))
                } else {
                    registries
                        .fetch_cached(store, from, cached)
                        .and_then(|_| prove(store, cached, entries, held, form))
                        .map_err(|error| error.to_string())
                };
            match got {
                Ok(length) => {
                    // What was proven, not what was said.
                    return Some(LayerRecord {
                        uncompressed: length,
                        entries: entries.len() as u64,
                        foreign: true,
                        ..cached.layer.clone()
                    });
                }
                Err(why) => told(&Progress::Warning(&format!("--cache-from {from}: {why}"))),
            }
        }
        None
    }

    /// Sends the layers of this build to where they are asked for.
    pub(super) fn keep(&self, layers: &[CachedLayer]) -> airtight_image::Result<Option<Report>> {
        match (&self.asked.to, &self.asked.registries) {
            (Some(to), Some(registries)) => {
                registries.keep_cached(self.store, to, layers).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// What a layer of these entries can come to: no encoder makes it much longer than the archive is.
fn most(entries: &Entries) -> u64 {
    let archive = entries.bytes() + entries.len() as u64 * (16 << 10) + (64 << 10);
    archive + archive / 64
}

/// How long the archive is, if it is the one that these entries make.
fn prove(
    store: &Store,
    cached: &CachedLayer,
    entries: &Entries,
    held: &[Option<Held>],
    form: &Form,
) -> airtight_image::Result<u64> {
    store.prove_archive(&cached.descriptor(), &cached.layer.diff_id, |archive| {
        let mut proof = Proof::new(archive, form.epoch);
        let mut held = held.iter().flatten();
        for (path, entry) in entries.iter() {
            let place = path.relative();
            match &entry.kind {
                EntryKind::Directory => proof.directory(place, DIRECTORY_MODE)?,
                EntryKind::Symlink(target) => proof.symlink(place, target)?,
                EntryKind::File {
                    content: _,
                    length,
                    executable,
                } => {
                    let mode = if *executable { PROGRAM_MODE } else { FILE_MODE };
                    // One for each file, or there would be no key.
                    let digest = held.next().map(|held| held.digest).unwrap_or_default();
                    proof.file(place, mode, *length, &digest)?;
                }
            }
        }
        proof.finish()
    })
}
