//! An image from one registry to another, or to another name in the same; for one platform or all, with what refers to it. What must go through this machine lies
//! in the store's `tmp` until it was sent: it is verified before its first byte goes out.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Client;
use super::document::{Document, Kind};
use super::report::Report;
use super::token::Scope;
use super::upload::Source;
use super::{Registries, RegistryRef, origins, referrers, work};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{is_index, is_manifest};
use crate::platform::Platform;
use crate::store::Store;

/// Manifests of one image: of all its platforms, and what refers to them.
const MAX_MANIFESTS: usize = 1024;

/// What of an image for several platforms is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    One(Platform),
    All,
}

/// From where to where.
struct Copy<'a> {
    store: &'a Store,
    jobs: usize,
    from: &'a Client,
    source: Scope,
    to: &'a Client,
    target: Scope,
    seen: BTreeSet<Digest>,
    report: Report,
    received: AtomicU64,
}

impl Registries {
    /// Copies an image; its name comes last.
    ///
    /// # Errors
    /// A registry that does not give it, or one that does not take it.
    pub fn copy(
        &self,
        store: &Store,
        from: &RegistryRef,
        to: &RegistryRef,
        platforms: &Platforms,
    ) -> Result<Report> {
        store.add()?;
        let (source, target) = (self.client(from.host())?, self.client(to.host())?);
        let same = from.host() == to.host();
        let scope = Scope {
            repository: from.repository().to_owned(),
            push: false,
            from: None,
        };
        let root = source.must(&scope, from)?;
        let root = match (&root.kind, platforms) {
            (Kind::Index(_), Platforms::One(platform)) => {
                source.child(&scope, &root.choose(platform, from)?)?
            }
            _ => root,
        };
        if to.digest().is_some_and(|digest| digest != root.digest()) {
            return Err(Error::refused(
                to,
                format!("names another image than {}", root.digest()),
                "leave the digest away",
            ));
        }
        let mut copy = Copy {
            store,
            jobs: self.settings.jobs,
            from: &source,
            source: scope,
            to: &target,
            target: Scope {
                repository: to.repository().to_owned(),
                push: true,
                from: same.then(|| from.repository().to_owned()),
            },
            seen: BTreeSet::new(),
            report: Report::new(to, root.digest()),
            received: AtomicU64::new(0),
        };
        let refer = copy.under(&root)?;
        if !refer.is_empty() {
            copy.manifest(&root.digest().to_string(), &root)?;
            refer.iter().try_for_each(|one| copy.refer(one))?;
        }
        let name = to
            .tag()
            .map_or_else(|| root.digest().to_string(), str::to_owned);
        copy.manifest(&name, &root)?;
        let mut report = copy.report;
        report.received += copy.received.into_inner();
        Ok(report)
    }
}

impl Copy<'_> {
    /// Everything that `root` needs, and what refers to it or to a part of it, which is left to be sent after it.
    fn under(&mut self, root: &Document) -> Result<Vec<Document>> {
        let mut refer = Vec::new();
        if let Kind::Index(entries) = &root.kind {
            for entry in entries {
                let descriptor = &entry.descriptor;
                if !is_manifest(descriptor.media_type()) && !is_index(descriptor.media_type()) {
                    return Err(Error::refused(
                        root.digest(),
                        format!("lists something of type {}", descriptor.media_type()),
                        "copy the images in it one by one",
                    ));
                }
                if self.seen.contains(descriptor.digest()) {
                    continue;
                }
                let child = self.from.child(&self.source, descriptor)?;
                self.see(&child)?;
                refer.extend(self.under(&child)?);
                self.manifest(&child.digest().to_string(), &child)?;
            }
        }
        self.blobs(root)?;
        refer.extend(self.referrers(root)?);
        Ok(refer)
    }

    fn referrers(&mut self, subject: &Document) -> Result<Vec<Document>> {
        let mut found = Vec::new();
        for entry in referrers::list(self.from, &self.source, subject.digest())? {
            let descriptor = entry.descriptor;
            if self.seen.contains(descriptor.digest()) {
                continue;
            }
            let document = self.from.child(&self.source, &descriptor)?;
            // The list is the registry's word; whom it refers to is the manifest's own.
            if document
                .subject
                .as_ref()
                .is_some_and(|said| said.digest() == subject.digest())
            {
                self.see(&document)?;
                found.push(document);
            }
        }
        Ok(found)
    }

    /// One that refers to what is there by now, and those that refer to it.
    fn refer(&mut self, document: &Document) -> Result<()> {
        let more = self.under(document)?;
        self.manifest(&document.digest().to_string(), document)?;
        referrers::announce(self.to, &self.target, document)?;
        more.iter().try_for_each(|one| self.refer(one))
    }

    /// Bounds the whole, and with it how deep anything can lie in it: each manifest comes once.
    fn see(&mut self, document: &Document) -> Result<()> {
        self.seen.insert(document.digest().clone());
        if self.seen.len() <= MAX_MANIFESTS {
            return Ok(());
        }
        Err(Error::refused(
            document.digest(),
            format!("is one of more than {MAX_MANIFESTS} manifests"),
            "copy the images in it one by one",
        ))
    }

    fn blobs(&mut self, document: &Document) -> Result<()> {
        let blobs = document.blobs();
        let meter = &self.to.http.meter;
        meter.plan(
            blobs
                .iter()
                .map(Descriptor::size)
                .fold(0, u64::saturating_add),
        );
        let moved = work::each(self.jobs, meter, &blobs, |blob| {
            let mut from: Vec<String> = self.target.from.iter().cloned().collect();
            from.retain(|repository| *repository != self.target.repository);
            let others = origins::of(self.store, blob, self.to.host(), &self.target.repository);
            from.extend(
                others
                    .into_iter()
                    .filter(|other| !self.target.from.iter().any(|from| from == other)),
            );
            self.to
                .give(self.store, &self.target, blob, &from, || self.source(blob))
        })?;
        moved.into_iter().for_each(|one| self.report.blob(one));
        Ok(())
    }

    fn source(&self, blob: &Descriptor) -> Result<Source> {
        if self.store.has_whole(blob) {
            return Ok(Source::Stored(self.store.blob_path(blob.digest())));
        }
        self.from.http.meter.plan(blob.size());
        let mut partial = self.store.partial(blob)?;
        let received = self.from.fetch(&self.source, &mut partial)?;
        self.received.fetch_add(received, Ordering::Relaxed);
        Ok(Source::Spooled(partial))
    }

    fn manifest(&mut self, name: &str, document: &Document) -> Result<()> {
        let moved = self.to.name(&self.target, name, document)?;
        self.report.manifest(moved);
        Ok(())
    }
}
