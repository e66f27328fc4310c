//! An image of a registry, into the store.

use super::client::Client;
use super::copy::Platforms;
use super::document::{Document, Entry, Kind};
use super::report::{Moved, Report, State};
use super::token::Scope;
use super::{Refer, Registries, RegistryRef, origins, referrers, work};
use crate::artifact::Artifact;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, MAX_DOCUMENT, check_count, encoding};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{MAX_ARTIFACT, MAX_REFERRERS, OURS, Store};

/// Of an image's blobs together, as they come.
const MAX_IMAGE: u64 = 32 << 30;

impl Registries {
    /// Fetches what the store lacks of the image, or of all images of an index, verifies all of it down to the layers' diffIDs, and names it last.
    ///
    /// # Errors
    /// A registry that does not give it, or an image that is not what it should be: nothing of it is named.
    pub fn pull(
        &self,
        store: &Store,
        from: &RegistryRef,
        platforms: &Platforms,
        name: Option<&Reference>,
        refer: Refer,
    ) -> Result<Report> {
        store.add()?;
        let name = match name {
            Some(name) => Some(name.clone()),
            None => from.name()?,
        };
        let client = self.client(from.host())?;
        let scope = Scope {
            repository: from.repository().to_owned(),
            push: false,
            from: None,
        };
        let root = client.must(&scope, from)?;
        let document = match (&root.kind, platforms) {
            (Kind::Index(_), Platforms::One(platform)) => {
                client.child(&scope, &root.choose(platform, from)?)?
            }
            (Kind::Manifest { .. }, _) | (Kind::Index(_), Platforms::All) => root,
        };
        let shown = name
            .as_ref()
            .map_or_else(|| from.to_string(), ToString::to_string);
        let mut pull = Pull {
            store,
            client: &client,
            jobs: self.settings.jobs,
            scope,
            refer,
            report: Report::new(shown, document.digest()),
        };
        match &document.kind {
            Kind::Manifest { .. } => {
                check(&document, from)?;
                pull.image(&document, platforms)?;
            }
            Kind::Index(entries) => pull.index(&document, entries, from)?,
        }
        let report = pull.report;
        if let Some(name) = &name {
            store.tag(name, document.descriptor())?;
        }
        Ok(report)
    }
}

/// One pull under way.
struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    jobs: usize,
    scope: Scope,
    refer: Refer,
    report: Report,
}

impl Pull<'_> {
    /// One image, verified down to its diffIDs.
    fn image(&mut self, document: &Document, platforms: &Platforms) -> Result<()> {
        self.blobs(document)?;
        let image = self.store.image(document.digest())?;
        if let Platforms::One(platform) = platforms {
            check_platform(&image, platform)?;
        }
        if image.check_platform().is_ok() {
            self.store.unpacked(&image)?;
        } else {
            self.store.read_layers(&image, |_, _, _| Ok(()))?;
        }
        self.manifest(document);
        self.referrers(document)
    }

    /// All images of an index. What is no image, such as an attestation, comes as it is.
    fn index(&mut self, index: &Document, entries: &[Entry], from: &RegistryRef) -> Result<()> {
        for entry in entries {
            let child = self.client.child(&self.scope, &entry.descriptor)?;
            let known = entry
                .platform
                .as_ref()
                .is_none_or(|platform| platform.os() != "unknown");
            if known {
                check(&child, from)?;
                self.image(&child, &Platforms::All)?;
            } else {
                check_foreign(&child, from)?;
                self.blobs(&child)?;
                self.manifest(&child);
            }
        }
        self.store.put_blob_bytes(index.bytes())?;
        self.manifest(index);
        self.referrers(index)
    }

    fn blobs(&mut self, document: &Document) -> Result<()> {
        let blobs = document.blobs();
        let meter = &self.client.http.meter;
        let sizes = blobs.iter().map(Descriptor::size);
        meter.plan(sizes.fold(0, u64::saturating_add));
        let results = work::each(self.jobs, meter, &blobs, |blob| {
            take(self.store, self.client, &self.scope, blob)
        })?;
        results
            .into_iter()
            .for_each(|moved| self.report.blob(moved));
        self.store.put_blob_bytes(document.bytes()).map(drop)
    }

    fn manifest(&mut self, document: &Document) {
        self.report.manifest(Moved {
            digest: document.digest().clone(),
            media_type: document.media_type().to_owned(),
            size: document.descriptor().size(),
            state: State::Received,
            bytes: document.descriptor().size(),
        });
    }

    fn referrers(&mut self, subject: &Document) -> Result<()> {
        match self.refer {
            Refer::With => refer_to(
                self.store,
                self.client,
                &self.scope,
                subject.digest(),
                &mut self.report,
            ),
            Refer::Without => Ok(()),
        }
    }
}

impl Client {
    pub(crate) fn must(&self, scope: &Scope, from: &RegistryRef) -> Result<Document> {
        self.document(scope, &from.wanted())?.ok_or_else(|| {
            Error::refused(from, "is not in the registry", "check its name and its tag")
        })
    }

    /// A manifest that an index names, as long as it says.
    pub(crate) fn child(&self, scope: &Scope, wanted: &Descriptor) -> Result<Document> {
        wanted.at_most(MAX_DOCUMENT)?;
        let fix = "the image is broken in the registry: push it again";
        let document = self
            .document(scope, &wanted.digest().to_string())?
            .ok_or_else(|| {
                Error::refused(
                    wanted.digest(),
                    "is named by an index and is not in the registry",
                    fix,
                )
            })?;
        if document.descriptor() != wanted {
            let (found, said) = (document.descriptor(), wanted);
            let problem = format!(
                "is {} of {} bytes, and the index says {} of {}",
                found.media_type(),
                found.size(),
                said.media_type(),
                said.size()
            );
            return Err(Error::refused(wanted.digest(), problem, fix));
        }
        Ok(document)
    }
}

/// Fetches what is ours of that which refers to an image. The list is the registry's word, and so is the type in it; whom it refers to,
/// and what it is, is the manifest's own.
fn refer_to(
    store: &Store,
    client: &Client,
    scope: &Scope,
    subject: &Digest,
    report: &mut Report,
) -> Result<()> {
    let ours = |kind: &str| kind.starts_with(OURS);
    let listed = referrers::list(client, scope, subject)?;
    let may_be = listed
        .iter()
        .filter(|entry| entry.artifact_type.as_deref().is_none_or(ours));
    for entry in may_be.take(MAX_REFERRERS) {
        let document = client.child(scope, &entry.descriptor)?;
        let digest = document.digest().clone();
        let artifact = match Artifact::read(document.bytes().to_vec(), &digest, subject) {
            Ok(artifact) if ours(artifact.kind()) => artifact,
            Ok(_) | Err(_) => continue,
        };
        for blob in artifact.blobs() {
            blob.at_most(MAX_ARTIFACT)?;
            client.http.meter.plan(blob.size());
            report.referrer(take(store, client, scope, &blob)?);
        }
        let (digest, size) = store.put_blob_bytes(document.bytes())?;
        store.refer(subject, &digest)?;
        report.referrer(Moved {
            digest,
            media_type: document.media_type().to_owned(),
            size,
            state: State::Received,
            bytes: size,
        });
    }
    Ok(())
}

/// Before anything is fetched: an image that the store would not take costs nothing.
fn check(document: &Document, from: &RegistryRef) -> Result<()> {
    let bad = |problem: String| Error::refused(from, problem, "name an image, or use another");
    let Kind::Manifest { config, layers } = &document.kind else {
        return Err(bad("has an index in an index".to_owned()));
    };
    check_count(layers.len(), from)?;
    config.at_most(MAX_DOCUMENT)?;
    if let Some(layer) = layers
        .iter()
        .find(|layer| encoding(layer.media_type()).is_none())
    {
        return Err(bad(format!("has a layer of type {}", layer.media_type())));
    }
    let total = layers
        .iter()
        .try_fold(0u64, |total, layer| total.checked_add(layer.size()));
    match total {
        Some(total) if total <= MAX_IMAGE => Ok(()),
        _ => Err(bad("is larger than 32 GiB".to_owned())),
    }
}

/// What an index names that is no image: kept, never looked into.
fn check_foreign(document: &Document, from: &RegistryRef) -> Result<()> {
    let bad = |problem: &str| Error::refused(from, problem, "name one platform of it");
    if matches!(document.kind, Kind::Index(_)) {
        return Err(bad("has an index in an index"));
    }
    let sizes = document.blobs();
    let total = sizes
        .iter()
        .try_fold(0u64, |total, blob| total.checked_add(blob.size()));
    match total {
        Some(total) if total <= MAX_IMAGE => Ok(()),
        _ => Err(bad("has something of more than 32 GiB in it")),
    }
}

fn check_platform(image: &Image, wanted: &Platform) -> Result<()> {
    let found = format!("{}/{}", image.config.os(), image.config.architecture());
    let wanted = wanted.to_string();
    if wanted == found || wanted.starts_with(&format!("{found}/")) {
        return Ok(());
    }
    Err(Error::refused(
        &image.digest,
        format!("is for {found}, and {wanted} is wanted"),
        format!("use an image for {wanted}, or say --platform {found}"),
    ))
}

pub(super) fn take(
    store: &Store,
    client: &Client,
    scope: &Scope,
    blob: &Descriptor,
) -> Result<Moved> {
    let moved = |state, bytes| Moved {
        digest: blob.digest().clone(),
        media_type: blob.media_type().to_owned(),
        size: blob.size(),
        state,
        bytes,
    };
    let moved = if store.has_whole(blob) {
        client.http.meter.move_on(blob.size());
        moved(State::Skipped, 0)
    } else {
        let mut partial = store.partial(blob)?;
        let bytes = client.fetch(scope, &mut partial)?;
        partial.commit()?;
        moved(State::Received, bytes)
    };
    origins::note(store, blob, client.host(), &scope.repository);
    Ok(moved)
}
