//! One build, from the file to the tagged image. The order is what makes a kill at any moment harmless: blobs first, each
//! whole or absent; the name last. It is also what makes a power failure harmless, at the price of few waits for the disk: a blob's bytes are on it before the
//! blob has its name, all blobs' names before the first name that refers to one (the ledger's, then the image's), and of what is only a hint nothing is waited for.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use airtight_image::layer::{Compression, Form};
use airtight_image::registry::Report;
use airtight_image::{Descriptor, DiffId, Digest, Image, Output, Platform, Reference, Store};

use crate::cache::{Asked, Cache, RemoteCache};
use crate::document::{self, BaseDocuments, StoredLayer};
use crate::entries::Entries;
use crate::error::{BuildError, MAX_EPOCH, Problem, SpecError};
use crate::explain::{Kept, kept};
use crate::file::MAX_FILE;
use crate::ledger::{Drafted, LEDGER_TYPE, Ledger, MAX_LEDGER};
use crate::lock::{self, LockChanges, LockMode, Outside, outside};
use crate::packages::PackageOptions;
use crate::plan::look;
use crate::plan::plan;
use crate::spec::{BuildSpec, MAX_LAYERS, parse};
use crate::split::split;

/// What to build, and where it goes besides the store.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The build file. Relative sources start at its directory.
    pub file: PathBuf,
    /// What the image is for; this machine if absent. For another, nothing can be taken from this machine's libraries.
    pub platform: Option<Platform>,
    /// Instead of the file's `name`.
    pub tag: Option<Reference>,
    /// Written after the image is in the store.
    pub outputs: Vec<Output>,
    /// `SOURCE_DATE_EPOCH`: every time in the image. 0 if absent.
    pub source_date_epoch: Option<u64>,
    /// Whether layers and files that earlier builds left are used. What this one makes is left to later ones either way.
    pub cache: bool,
    /// Caches in registries.
    pub remote: RemoteCache,
    /// About packages.
    pub packages: PackageOptions,
    /// What is done with `airtight.lock`.
    pub lock: LockMode,
    /// Instead of the file's `compression`.
    pub compression: Option<Compression>,
    /// Threads that compress, at most; as many as this process may use CPUs if absent. No byte depends on it.
    pub workers: Option<NonZeroUsize>,
    /// Told of each step as it is done.
    pub progress: fn(&Progress<'_>),
}

impl BuildRequest {
    /// What the image is for.
    pub(crate) fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }
}

impl Default for BuildRequest {
    fn default() -> Self {
        Self {
            file: PathBuf::from("airtight.toml"),
            platform: None,
            tag: None,
            outputs: Vec::new(),
            source_date_epoch: None,
            cache: true,
            remote: RemoteCache::default(),
            packages: PackageOptions::default(),
            lock: LockMode::default(),
            compression: None,
            workers: None,
            progress: |_| {},
        }
    }
}

/// A step that is done.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// Every layer's entries are known.
    Planned {
        layers: usize,
        entries: usize,
    },
    Layer(&'a BuiltLayer),
    Exported(&'a Output),
    /// Something that cost work and no more.
    Warning(&'a str),
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct Built {
    /// Of the manifest.
    pub digest: Digest,
    pub name: Reference,
    /// Bytes of manifest, configuration and all layers, the base's included.
    pub size: u64,
    /// Without the base's.
    pub layers: Vec<BuiltLayer>,
    /// Whether it is kept why each file is there: not of millions of files.
    pub explained: bool,
    /// What went to a cache in a registry.
    pub cached: Option<Report>,
}

#[derive(Clone, Debug)]
pub struct BuiltLayer {
    pub name: String,
    pub digest: Digest,
    pub compression: Compression,
    pub diff_id: DiffId,
    /// Bytes, compressed.
    pub size: u64,
    /// Bytes of the tar archive.
    pub uncompressed: u64,
    pub entries: usize,
    pub state: LayerState,
}

/// Where a layer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Written by this build.
    Built,
    /// Made by an earlier one from the same.
    Cached,
    /// From a cache in a registry, and held against what this one would have written.
    Pulled,
}

/// Builds `request.file` into `store` and names the result.
///
/// # Errors
/// [`BuildError::Spec`] for what the user can change; the store is then as it was, but for blobs that `gc` removes.
pub fn build(request: &BuildRequest, store: &Store) -> Result<Built, BuildError> {
    let file = &request.file;
    let epoch = request.source_date_epoch.unwrap_or(0);
    if epoch > MAX_EPOCH {
        return Err(BuildError::Epoch(epoch));
    }
    let text = read(file)?;
    let spec = parse(&text, file)?;
    let context = directory(file);
    let form = Form {
        epoch,
        compression: request.compression.unwrap_or(spec.compression),
        workers: request.workers.unwrap_or_else(cpus),
    };
    let mut cache = Cache::open(store, request, form);
    let Outside { base, packages } = outside(&spec, context, request, store)?;
    check_layers(spec.layers.len(), base.as_ref()).map_err(|problem| problem.in_file(file))?;
    let platform = request.platform();
    let looked = look(&spec, context, &platform).map_err(|problem| problem.in_file(file))?;
    let asked = Asked {
        spec: &spec,
        text: &text,
        platform: &platform,
        base: base.as_ref().map(|image| &image.digest),
    };
    let witness = cache.witness(&asked, &looked);
    if let Some(built) = cache.outcome(witness.as_ref())? {
        let image = finish(&spec, base.as_ref(), &built, (epoch, &platform), store)?;
        // One that cannot be read is made anew.
        if let Ok(Some(_)) = store.attached(image.manifest.digest(), LEDGER_TYPE) {
            (request.progress)(&Progress::Planned {
                layers: built.len(),
                entries: built.iter().map(|layer| layer.entries).sum(),
            });
            built
                .iter()
                .for_each(|layer| (request.progress)(&Progress::Layer(layer)));
            let built = publish(request, &spec, store, (image, built, true), || {
                cache.keep_all()
            });
            aside(looked);
            return built;
        }
        cache.forget();
    }
    let trees = base
        .as_ref()
        .map_or(Ok(Vec::new()), |image| store.unpacked(image))?;
    let (known, layers) = beside(cache.known_files(), || {
        plan(&spec, trees, &packages, &platform, looked)
    });
    cache.knows(known);
    let layers = layers.map_err(|problem| problem.in_file(file))?;
    let layers =
        split_layers(layers, &spec, base.as_ref()).map_err(|problem| problem.in_file(file))?;
    let entries = layers.iter().map(|(_, entries)| entries.len()).sum();
    (request.progress)(&Progress::Planned {
        layers: layers.len(),
        entries,
    });

    let below = base_ledger(base.as_ref(), store, request.progress);
    let named = || {
        layers
            .iter()
            .map(|(name, entries)| (name.as_str(), entries))
    };
    let (drafted, built) = beside(
        || Drafted::of(below.as_ref(), named()),
        || {
            let write = |(name, entries)| {
                let layer = cache
                    .layer(name, entries)
                    .map_err(|err| err.in_file(file))?;
                (request.progress)(&Progress::Layer(&layer));
                Ok::<_, BuildError>(layer)
            };
            named().map(write).collect::<Result<Vec<_>, _>>()
        },
    );
    let built = built?;
    let image = finish(&spec, base.as_ref(), &built, (epoch, &platform), store)?;
    let ledger = drafted.with(built.iter().map(|layer| &layer.diff_id));
    let (explained, learned) = beside(
        || explain(&ledger, &image, store, request.progress),
        || cache.keep_contents(),
    );
    let of_layers = built.clone();
    let built = publish(request, &spec, store, (image, built, explained?), || {
        cache.keep(&of_layers, witness, learned?)
    });
    // To take apart a hundred thousand names is a tenth of a build that changes one file. Whoever ends now need not wait for it.
    aside((layers, ledger));
    built
}

/// Dropped by nobody in particular.
fn aside(value: impl Send + 'static) {
    // Where no thread can be had it is dropped here.
    drop(std::thread::Builder::new().spawn(move || drop(value)));
}

/// Names an image that is whole, and writes it where it is asked for; `keep` leaves to later builds what this one has learned.
fn publish(
    request: &BuildRequest,
    spec: &BuildSpec,
    store: &Store,
    (image, built, explained): (Stored, Vec<BuiltLayer>, bool),
    keep: impl FnOnce() -> airtight_image::Result<Option<Report>>,
) -> Result<Built, BuildError> {
    let name = request.tag.clone().unwrap_or_else(|| spec.name.clone());
    store.tag(&name, &image.manifest)?;
    let cached = keep()?;
    for output in &request.outputs {
        store.export(image.manifest.digest(), Some(name.tag()), output)?;
        (request.progress)(&Progress::Exported(output));
    }
    Ok(Built {
        digest: image.manifest.digest().clone(),
        name,
        size: image.size,
        layers: built,
        explained,
        cached,
    })
}

/// What is known of the files of a base.
fn base_ledger(base: Option<&Image>, store: &Store, told: fn(&Progress<'_>)) -> Option<Ledger> {
    let Kept { ledger, warning } = kept(store, base?);
    if let Some(warning) = warning {
        told(&Progress::Warning(&warning));
    }
    ledger
}

/// Why each file is there, beside the image. Before the name, so that who sees the name can ask.
fn explain(
    ledger: &Ledger,
    image: &Stored,
    store: &Store,
    told: fn(&Progress<'_>),
) -> Result<bool, BuildError> {
    let Some(ledger) = ledger.bounded_json() else {
        told(&Progress::Warning(&format!(
            "the reasons for this image's files come to more than {} MiB and are not kept: `why`, `diff` and `lint` will go by its layers alone",
            MAX_LEDGER >> 20
        )));
        return Ok(false);
    };
    store.attach(&image.manifest, LEDGER_TYPE, ledger.as_bytes())?;
    Ok(true)
}

/// Both, at the same time where another thread can be had.
fn beside<A: Send, B>(aside: impl Fn() -> A + Sync, here: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let other = std::thread::Builder::new().spawn_scoped(scope, &aside);
        let done = here();
        let aside = match other {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // A group's bound on processes.
            Err(_) => aside(),
        };
        (aside, done)
    })
}

/// Pins anew what `request.file` takes from outside, in the lock beside it, and builds nothing. What is pinned otherwise than before.
///
/// # Errors
/// As [`build`]'s, of what comes before the first layer; the lock is then as it was.
pub fn update(request: &BuildRequest, store: &Store) -> Result<LockChanges, BuildError> {
    let file = &request.file;
    let spec = parse(&read(file)?, file)?;
    lock::update(&spec, directory(file), request, store)
}

/// What a build file's relative paths start from.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Those that this process may use, by its affinity and its group's quota.
fn cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn read(file: &Path) -> Result<String, SpecError> {
    let bad = |problem: String, fix: &str| Problem::new("the file", problem, fix).in_file(file);
    let unreadable = |err: std::io::Error| {
        bad(
            format!("cannot be read: {err}"),
            "name a build file with -f, or a directory that holds an airtight.toml",
        )
    };
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that `parse` sees that it is too large.
    let limit = MAX_FILE as u64 + 1;
    File::open(file)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| bad("is not UTF-8 text".to_owned(), "save it as UTF-8"))
}

/// Large layers as their parts.
fn split_layers(
    layers: Vec<Entries>,
    spec: &BuildSpec,
    base: Option<&Image>,
) -> Result<Vec<(String, Entries)>, Problem> {
    let mut parts = Vec::with_capacity(layers.len());
    for (entries, layer) in layers.into_iter().zip(&spec.layers) {
        parts.extend(split(&layer.name, entries, layer.split)?);
    }
    check_layers(parts.len(), base)?;
    Ok(parts)
}

/// The base's own are not in the build file, so only here is the sum known.
fn check_layers(ours: usize, base: Option<&Image>) -> Result<(), Problem> {
    let theirs = base.map_or(0, |image| image.layers().len());
    if ours + theirs > MAX_LAYERS {
        let problem =
            format!("there are {ours}, and {theirs} of the base; an image may have {MAX_LAYERS}");
        return Err(Problem::new(
            "layer",
            problem,
            "put what changes together into one layer, or choose a larger `split`",
        ));
    }
    Ok(())
}

struct Stored {
    manifest: Descriptor,
    size: u64,
}

/// Configuration and manifest, once all layers are at rest.
fn finish(
    spec: &BuildSpec,
    base: Option<&Image>,
    layers: &[BuiltLayer],
    (epoch, platform): (u64, &Platform),
    store: &Store,
) -> Result<Stored, BuildError> {
    let base = base.map_or(Ok(BaseDocuments::default()), base_documents)?;
    let stored: Vec<_> = layers.iter().map(StoredLayer::from).collect();
    let config = document::config(spec, &base, &stored, &document::timestamp(epoch), platform);
    let config = store.stage_bytes(document::canonical(config).as_bytes())?;
    let manifest = document::manifest(spec, &base, &stored, &config);
    let manifest = document::canonical(manifest);
    let (digest, size) = store.stage_bytes(manifest.as_bytes())?;
    let base_size: u64 = base
        .layers
        .iter()
        .filter_map(|layer| layer.get("size")?.as_u64())
        .sum();
    let layer_size: u64 = layers.iter().map(|layer| layer.size).sum();
    let manifest = Descriptor::new(document::MANIFEST_TYPE, digest, size);
    Ok(Stored {
        manifest,
        size: size + config.1 + base_size + layer_size,
    })
}

fn base_documents(image: &Image) -> Result<BaseDocuments, BuildError> {
    let config = serde_json::to_value(&image.config).map_err(BuildError::BaseConfig)?;
    let layers = serde_json::to_value(image.manifest.layers()).map_err(BuildError::BaseConfig)?;
    Ok(BaseDocuments {
        config: config.as_object().cloned().unwrap_or_default(),
        layers: layers.as_array().cloned().unwrap_or_default(),
    })
}

impl From<&BuiltLayer> for StoredLayer {
    fn from(layer: &BuiltLayer) -> Self {
        let BuiltLayer {
            name,
            digest,
            compression,
            diff_id,
            size,
            ..
        } = layer;
        Self {
            name: name.clone(),
            compression: *compression,
            digest: digest.clone(),
            diff_id: diff_id.clone(),
            size: *size,
        }
    }
}
