//! An image of the store, to a registry.

use super::client::Client;
use super::document::Document;
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
        let scope = Scope {
            repository: to.repository().to_owned(),
            push: true,
            from: None,
        };
        let blobs = document.blobs();
        let mut report = Report::new(to, image);
        let send = |blobs: &[Descriptor], report: &mut Report| -> Result<()> {
            let sizes = blobs.iter().map(Descriptor::size);
            self.meter.plan(sizes.fold(0, u64::saturating_add));
            for moved in work::each(self.settings.jobs, &self.meter, blobs, |blob| {
                let from = origins::of(store, blob, client.host(), &scope.repository);
                client.give(store, &scope, blob, &from, || stored(store, blob))
            })? {
                report.blob(moved);
            }
            Ok(())
        };
        send(&blobs, &mut report)?;
        let artifacts = match refer {
            Refer::With => store.artifacts(image)?.0,
            Refer::Without => Vec::new(),
        };
        if !artifacts.is_empty() {
            // A registry may refuse what refers to nothing.
            report.manifest(client.name(&scope, &image.to_string(), &document)?);
        }
        for artifact in artifacts {
            send(&artifact.blobs(), &mut report)?;
            let (digest, document) = (artifact.digest().to_string(), artifact.document());
            report.manifest(client.name(&scope, &digest, document)?);
            referrers::announce(&client, &scope, document)?;
        }
        let name = to.tag().map_or_else(|| image.to_string(), str::to_owned);
        report.manifest(client.name(&scope, &name, &document)?);
        Ok(report)
    }
}

/// Read once before it is sent: a damaged blob goes nowhere.
fn stored(store: &Store, blob: &Descriptor) -> Result<Source> {
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
