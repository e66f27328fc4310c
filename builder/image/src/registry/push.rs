//! An image of the store, to a registry.

use super::client::Client;
use super::document::{Document, Kind};
use super::report::{Moved, Report, State};
use super::token::Scope;
use super::upload::Source;
use super::{Refer, Registries, RegistryRef, origins, referrers, work};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;

impl Registries {
    /// Sends what the registry lacks of the image and of what refers to it, and its name last: nobody sees a name whose blobs are not there.
    ///
    /// # Errors
    /// An image that is damaged, or a registry that does not take it.
    pub fn push(
        &self,
        store: &Store,
        image: &Digest,
        to: &RegistryRef,
        refer: Refer,
    ) -> Result<Report> {
        store.add()?;
        if to.digest().is_some_and(|digest| digest != image) {
            return Err(Error::refused(
                to,
                format!("names another image than {image}"),
                "leave the digest away",
            ));
        }
        let document = Document::stored(store.read_document(image)?, image)?;
        let client = self.client(to.host())?;
        let mut push = Push {
            store,
            client: &client,
            jobs: self.settings.jobs,
            scope: Scope {
                repository: to.repository().to_owned(),
                push: true,
                from: None,
            },
            refer,
            report: Report::new(to, image),
        };
        // What an index names, before the index.
        if let Kind::Index(entries) = &document.kind {
            for entry in entries {
                let digest = entry.descriptor.digest();
                let child = Document::stored(store.read_document(digest)?, digest)?;
                push.blobs(&child)?;
                push.name(&digest.to_string(), &child)?;
                push.referrers(&child, false)?;
            }
        }
        push.blobs(&document)?;
        push.referrers(&document, true)?;
        let name = to.tag().map_or_else(|| image.to_string(), str::to_owned);
        push.name(&name, &document)?;
        Ok(push.report)
    }
}

/// One push under way.
struct Push<'a> {
    store: &'a Store,
    client: &'a Client,
    jobs: usize,
    scope: Scope,
    refer: Refer,
    report: Report,
}

impl Push<'_> {
    fn send(&self, blobs: &[Descriptor]) -> Result<Vec<Moved>> {
        let meter = &self.client.http.meter;
        let sizes = blobs.iter().map(Descriptor::size);
        meter.plan(sizes.fold(0, u64::saturating_add));
        work::each(self.jobs, meter, blobs, |blob| {
            let from = origins::of(self.store, blob, self.client.host(), &self.scope.repository);
            self.client.give(self.store, &self.scope, blob, &from, || {
                stored(self.store, blob)
            })
        })
    }

    fn blobs(&mut self, document: &Document) -> Result<()> {
        for moved in self.send(&document.blobs())? {
            self.report.blob(moved);
        }
        Ok(())
    }

    fn name(&mut self, name: &str, document: &Document) -> Result<()> {
        let moved = self.client.name(&self.scope, name, document)?;
        self.report.manifest(moved);
        Ok(())
    }

    /// What refers to a manifest, which goes first where it is not there yet: a registry may refuse what refers to nothing.
    fn referrers(&mut self, subject: &Document, first: bool) -> Result<()> {
        if self.refer == Refer::Without {
            return Ok(());
        }
        let artifacts = self.store.artifacts(subject.digest())?.0;
        if first && !artifacts.is_empty() {
            let digest = subject.digest().to_string();
            let moved = self.client.name(&self.scope, &digest, subject)?;
            self.report.referrer(moved);
        }
        for artifact in artifacts {
            for moved in self.send(&artifact.blobs())? {
                self.report.referrer(moved);
            }
            let (digest, document) = (artifact.digest().to_string(), artifact.document());
            let moved = self.client.name(&self.scope, &digest, document)?;
            self.report.referrer(moved);
            referrers::announce(self.client, &self.scope, document)?;
        }
        Ok(())
    }
}

/// Read once before it is sent: a damaged blob goes nowhere.
pub(super) fn stored(store: &Store, blob: &Descriptor) -> Result<Source> {
    let path = store.blob_path(blob.digest());
    store.open_blob(blob)?.finish().map_err(Error::io(&path))?;
    Ok(Source::Stored(path))
}

impl Client {
    /// Puts a manifest whose blobs are there, unless the name holds it already.
    pub(crate) fn name(&self, scope: &Scope, name: &str, document: &Document) -> Result<Moved> {
        let there = self.manifest_digest(scope, name)?;
        let moved = |state, bytes| Moved {
            digest: document.digest().clone(),
            media_type: document.media_type().to_owned(),
            size: document.descriptor().size(),
            state,
            bytes,
        };
        if there.as_ref() == Some(document.digest()) {
            return Ok(moved(State::Skipped, 0));
        }
        self.put_manifest(scope, name, document)?;
        Ok(moved(State::Sent, document.descriptor().size()))
    }
}
