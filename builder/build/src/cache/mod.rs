//! Layers that need not be made again. A layer is known by what it is made from: how it is written, its entries and the digests of
//! what its files hold, never by times. Times only say whether a file must be read again to know its digest, and only where they
//! prove it ([`airtight_image::Identity`]).

mod content;
mod key;
mod remote;

use std::collections::HashMap;
use std::time::SystemTime;

use airtight_image::layer::Form;
use airtight_image::registry::{CachedLayer, Report};
use airtight_image::{Contents, Device, Digest, Known, LayerKey, LayerRecord, NewContents, Store};

use crate::build::{BuildRequest, BuiltLayer, LayerState};
use crate::entries::{Content, Entries, EntryKind};
use crate::source::Source;
use crate::write::{Held, WriteError, Written, write_layer};

use remote::Remote;
pub use remote::RemoteCache;

/// What one build knows of files and layers from earlier ones, and leaves to later ones.
pub(crate) struct Cache<'a> {
    store: &'a Store,
    /// Of the build file's path.
    of: Digest,
    /// Whether what is known is used.
    used: bool,
    form: Form,
    started: SystemTime,
    contents: Contents,
    devices: HashMap<u64, Option<Device>>,
    /// What the files of each layer so far hold.
    held: Vec<(&'a Entries, Vec<Option<Held>>)>,
    /// Whether a file was read.
    read: bool,
    /// How many were found in `contents`.
    found: usize,
    remote: Remote<'a>,
    /// So far.
    layers: Vec<CachedLayer>,
}

impl<'a> Cache<'a> {
    /// Before the sources are looked at: what changes from now on is not taken for known later. A build that makes everything anew
    /// leaves records all the same.
    pub(crate) fn open(store: &'a Store, request: &'a BuildRequest, form: Form) -> Self {
        let (file, used) = (&request.file, request.cache);
        let started = SystemTime::now();
        let real = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
        let of = Digest::of(real.as_os_str().as_encoded_bytes());
        let contents = if used {
            store.contents(&of)
        } else {
            Contents::default()
        };
        Self {
            store,
            of,
            used,
            form,
            started,
            contents,
            devices: HashMap::new(),
            held: Vec::new(),
            read: false,
            found: 0,
            remote: Remote::new(store, &request.remote, request.progress),
            layers: Vec::new(),
        }
    }

    /// The layer of `entries`: one that is there, or written now.
    pub(crate) fn layer(
        &mut self,
        name: &str,
        entries: &'a Entries,
    ) -> Result<BuiltLayer, WriteError> {
        let shape = key::shape(entries, &self.form);
        // Where no layer of this shape was ever made, a look into files could find none.
        if self.used && (self.store.knows_shape(&shape) || self.remote.knows_shape(&shape)) {
            let held = self.read(entries);
            if let Some((layer, state)) = self.find(&shape, entries, &held)? {
                self.held.push((entries, held));
                let built = built(name, &layer.layer, &self.form, state);
                self.layers.push(layer);
                return Ok(built);
            }
        }
        self.write(name, entries, shape)
    }

    fn find(
        &mut self,
        shape: &Digest,
        entries: &Entries,
        held: &[Option<Held>],
    ) -> Result<Option<(CachedLayer, LayerState)>, WriteError> {
        let Some(digests) = content::digests(entries, held) else {
            return Ok(None);
        };
        let key = LayerKey {
            key: key::key(shape, digests),
            shape: shape.clone(),
        };
        if let Some(record) = self.store.layer_record(&key)? {
            return Ok(Some((self.cached(key, record), LayerState::Cached)));
        }
        let Some(record) = self.remote.layer(&key, entries, held, &self.form) else {
            return Ok(None);
        };
        self.store.put_layer_record(&key, &record)?;
        Ok(Some((self.cached(key, record), LayerState::Pulled)))
    }

    fn cached(&self, of: LayerKey, layer: LayerRecord) -> CachedLayer {
        CachedLayer {
            of,
            layer,
            media_type: self.form.compression.media_type().to_owned(),
        }
    }

    fn write(
        &mut self,
        name: &str,
        entries: &'a Entries,
        shape: Digest,
    ) -> Result<BuiltLayer, WriteError> {
        let Written { layer, contents } = write_layer(name, entries, &self.form, self.store)?;
        let key = key::key(&shape, contents.iter().map(|held| held.digest));
        let record = LayerRecord {
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            size: layer.size,
            uncompressed: layer.uncompressed,
            entries: layer.entries as u64,
        };
        let key = LayerKey { shape, key };
        self.store.put_layer_record(&key, &record)?;
        self.layers.push(self.cached(key, record));
        let held: Vec<_> = contents.into_iter().map(Some).collect();
        self.read = true;
        self.held.push((entries, held));
        Ok(layer)
    }

    /// What each file holds: from what is known, or read now. `None` for one that cannot be read as it was planned: whoever writes
    /// it says why.
    fn read(&mut self, entries: &Entries) -> Vec<Option<Held>> {
        let mut held: Vec<_> = files(entries)
            .map(|content| match content {
                Content::Generated(bytes) => Some(Held {
                    digest: Digest::of(bytes).to_bytes(),
                    steady: true,
                }),
                Content::Host(source) => self.known(source).map(|known| {
                    self.found += 1;
                    Held {
                        digest: known.digest,
                        steady: true,
                    }
                }),
            })
            .collect();
        self.read |= content::fill(entries, &mut held);
        held
    }

    fn known(&mut self, source: &Source) -> Option<Known> {
        let Self {
            contents, devices, ..
        } = self;
        let identity = source.identity();
        contents.find(identity, || device(devices, source))
    }

    /// Keeps what was learned, and sends the layers where they are asked for. The image is whole by now, so nothing is lost if this is.
    pub(crate) fn keep(mut self) -> airtight_image::Result<Option<Report>> {
        let sent = self.remote.keep(&self.layers);
        self.keep_contents()?;
        sent
    }

    fn keep_contents(&mut self) -> airtight_image::Result<()> {
        let held = std::mem::take(&mut self.held);
        // The same files as before, and no other: what is kept says it all.
        if !self.read && self.found == self.contents.len() {
            self.store.used_contents(&self.of);
            return Ok(());
        }
        let mut new = NewContents::default();
        for (entries, held) in &held {
            for (content, held) in files(entries).zip(held) {
                if let (Content::Host(source), Some(held)) = (content, held) {
                    self.learn(source, held, &mut new);
                }
            }
        }
        self.store.put_contents(&self.of, &new)
    }

    /// Leaves what was read of a file to later builds, where it is proven.
    fn learn(&mut self, source: &Source, held: &Held, new: &mut NewContents) {
        let known = self
            .known(source)
            .filter(|known| known.digest == held.digest);
        let identity = source.identity();
        let proven = known.is_some() || (held.steady && identity.settled_at(self.started));
        if let Some(device) = device(&mut self.devices, source).filter(|_| proven) {
            let note = known.and_then(|known| known.note);
            let digest = held.digest;
            new.add(device, identity, &Known { digest, note });
        }
    }
}

/// In the order of the entries.
fn files(entries: &Entries) -> impl Iterator<Item = &Content> {
    entries.iter().filter_map(|(_, entry)| match &entry.kind {
        EntryKind::File { content, .. } => Some(content),
        EntryKind::Directory | EntryKind::Symlink(_) => None,
    })
}

/// Asked once for each.
fn device(devices: &mut HashMap<u64, Option<Device>>, source: &Source) -> Option<Device> {
    let number = source.identity().device;
    *devices
        .entry(number)
        .or_insert_with(|| Device::of(source.look().ok()?, number))
}

fn built(name: &str, record: &LayerRecord, form: &Form, state: LayerState) -> BuiltLayer {
    BuiltLayer {
        name: name.to_owned(),
        digest: record.digest.clone(),
        compression: form.compression,
        diff_id: record.diff_id.clone(),
        size: record.size,
        uncompressed: record.uncompressed,
        entries: usize::try_from(record.entries).unwrap_or(0),
        state,
    }
}
