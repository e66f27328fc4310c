//! Layers that need not be made again. A layer is known by what it is made from: how it is written, its entries and the digests of
//! what its files hold, never by times. Times only say whether a file must be read again to know its digest, and only where they
//! prove it ([`airtight_image::Identity`]).

mod content;
mod key;
mod remote;
mod witness;

use std::collections::HashMap;
use std::time::SystemTime;

use airtight_image::layer::{Form, Held};
use airtight_image::registry::{CachedLayer, Report};
use airtight_image::{
    Contents, Device, Digest, Known, LayerKey, LayerRecord, NewContents, OutcomeLayer, Steady,
    Store,
};

use crate::build::{BuildRequest, BuiltLayer, LayerState, Progress};
use crate::copy::Looked;
use crate::entries::{Content, Entries, EntryKind};
use crate::source::Source;
use crate::write::{WriteError, Written, write_layer};

use remote::Remote;
pub use remote::RemoteCache;
pub(crate) use witness::{Asked, Witness, listed};

/// What one build knows of files and layers from earlier ones, and leaves to later ones.
pub(crate) struct Cache<'a> {
    store: &'a Store,
    /// Of the build file's path.
    of: Digest,
    /// Whether what is known is used.
    used: bool,
    form: Form,
    started: SystemTime,
    proof: Steady,
    /// What earlier builds knew of files.
    contents: Contents,
    devices: HashMap<u64, Option<Device>>,
    /// What the files of each layer so far hold.
    held: Vec<(&'a Entries, Vec<Option<Held>>)>,
    /// Whether a file was read.
    read: bool,
    /// How many were found in `contents`.
    found: usize,
    remote: Remote<'a>,
    told: fn(&Progress<'_>),
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
        Self {
            store,
            of,
            used,
            form,
            started,
            proof: Steady::since(started),
            contents: Contents::default(),
            devices: HashMap::new(),
            held: Vec::new(),
            read: false,
            found: 0,
            remote: Remote::new(store, &request.remote, request.progress),
            told: request.progress,
            layers: Vec::new(),
        }
    }

    /// What cannot be kept costs later builds their time, and this one nothing.
    fn hint(&self, kept: airtight_image::Result<()>) {
        if let Err(error) = kept {
            let warning = format!("what was made is not kept for later builds: {error}");
            (self.told)(&Progress::Warning(&warning));
        }
    }

    /// Reads what earlier builds knew of files: some thread may while this one plans.
    pub(crate) fn known_files(&self) -> impl Fn() -> Contents + use<'a> {
        let (store, of, used) = (self.store, self.of.clone(), self.used);
        move || {
            if used {
                store.contents(&of)
            } else {
                Contents::default()
            }
        }
    }

    /// What [`Cache::known_files`] read.
    pub(crate) fn knows(&mut self, contents: Contents) {
        self.contents = contents;
    }

    /// What the plan is made from; `None` if it is made of more.
    pub(crate) fn witness(&self, asked: &Asked<'_>, looked: &[Vec<Looked>]) -> Option<Witness> {
        witness::witness(asked, &self.form, looked, self.started)
    }

    /// The layers of an earlier build of this file that saw the same.
    pub(crate) fn outcome(
        &mut self,
        witness: Option<&Witness>,
    ) -> airtight_image::Result<Option<Vec<BuiltLayer>>> {
        let Some(witness) = witness.filter(|witness| self.used && witness.settled) else {
            return Ok(None);
        };
        let Some(outcome) = self.store.outcome(&self.of, &witness.seen)? else {
            return Ok(None);
        };
        if !outcome.iter().all(|(_, record)| self.takes(record)) {
            return Ok(None);
        }
        let mut layers = Vec::with_capacity(outcome.len());
        for (OutcomeLayer { name, of }, record) in outcome {
            layers.push(built(&name, &record, &self.form, LayerState::Cached));
            let layer = self.cached(of, record);
            self.layers.push(layer);
        }
        Ok(Some(layers))
    }

    /// After [`Cache::outcome`]: what was kept of files holds still.
    pub(crate) fn keep_all(self) -> airtight_image::Result<Option<Report>> {
        self.store.used_contents(&self.of);
        self.remote.keep(&self.layers)
    }

    /// Forgets what [`Cache::outcome`] gave, where it turned out to be of no use.
    pub(crate) fn forget(&mut self) {
        self.layers.clear();
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
        let record = self.store.layer_record(&key)?;
        if let Some(record) = record.filter(|record| self.takes(record)) {
            return Ok(Some((self.cached(key, record), LayerState::Cached)));
        }
        let Some(record) = self.remote.layer(&key, entries, held, &self.form) else {
            return Ok(None);
        };
        self.hint(self.store.put_layer_record(&key, &record));
        Ok(Some((self.cached(key, record), LayerState::Pulled)))
    }

    /// What came from a cache is only for builds that name one: whoever does not gets the bytes of the format.
    fn takes(&self, record: &LayerRecord) -> bool {
        !record.foreign || self.remote.is_asked()
    }

    fn cached(&self, of: LayerKey, layer: LayerRecord) -> CachedLayer {
        CachedLayer {
            of,
            // To others all that is sent is a cache's.
            layer: LayerRecord {
                foreign: false,
                ..layer
            },
            media_type: self.form.compression.media_type().to_owned(),
        }
    }

    fn write(
        &mut self,
        name: &str,
        entries: &'a Entries,
        shape: Digest,
    ) -> Result<BuiltLayer, WriteError> {
        let Written { layer, contents } =
            write_layer(name, entries, &self.form, self.store, &self.proof)?;
        let key = key::key(&shape, contents.iter().map(|held| held.digest));
        let record = LayerRecord {
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            size: layer.size,
            uncompressed: layer.uncompressed,
            entries: layer.entries as u64,
            foreign: false,
        };
        let key = LayerKey { shape, key };
        self.hint(self.store.put_layer_record(&key, &record));
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
        self.read |= content::fill(entries, &mut held, &self.proof);
        held
    }

    fn known(&mut self, source: &Source) -> Option<Known> {
        let identity = source.identity();
        let Self {
            contents, devices, ..
        } = self;
        contents.find(identity, || device(devices, source))
    }

    /// Keeps that this build file gave these layers, if all that they hold is `proven`, and sends them where they are asked for. The image is whole by now, so
    /// nothing is lost if this is.
    pub(crate) fn keep(
        self,
        built: &[BuiltLayer],
        witness: Option<Witness>,
        proven: bool,
    ) -> airtight_image::Result<Option<Report>> {
        match witness.filter(|witness| proven && witness.settled) {
            Some(witness) => {
                let layers = built.iter().zip(&self.layers);
                let layers = layers.map(|(built, layer)| OutcomeLayer {
                    name: built.name.clone(),
                    of: layer.of.clone(),
                });
                let layers = layers.collect();
                self.hint(self.store.put_outcome(&self.of, &witness.seen, layers));
            }
            None => self.store.forget_outcome(&self.of),
        }
        self.remote.keep(&self.layers)
    }

    /// Keeps what was read of files: whether all of it is proven. True of them whatever becomes of the image.
    pub(crate) fn keep_contents(&mut self) -> airtight_image::Result<bool> {
        let held = std::mem::take(&mut self.held);
        // The same files as before, and no other: what is kept says it all.
        if !self.read && self.found == self.contents.len() {
            self.store.used_contents(&self.of);
            return Ok(true);
        }
        let mut all = true;
        let mut new = NewContents::default();
        for (entries, held) in &held {
            for (content, held) in files(entries).zip(held) {
                if let (Content::Host(source), Some(held)) = (content, held) {
                    all &= self.learn(source, held, &mut new);
                }
            }
        }
        self.hint(self.store.put_contents(&self.of, &new));
        Ok(all)
    }

    /// Leaves what was read of a file to later builds, where it is proven; whether it was.
    fn learn(&mut self, source: &Source, held: &Held, new: &mut NewContents) -> bool {
        let known = self
            .known(source)
            .filter(|known| known.digest == held.digest);
        let identity = source.identity();
        let proven = known.is_some() || held.steady;
        let device = device(&mut self.devices, source).filter(|_| proven);
        if let Some(device) = device {
            let note = known.and_then(|known| known.note);
            let digest = held.digest;
            new.add(device, identity, &Known { digest, note });
        }
        device.is_some()
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
