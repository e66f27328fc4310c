//! What refers to the images of a layout. Its index says so in an annotation and lists images only: tools that are not told a tag take an image
//! from a layout that lists one manifest, and none from one that lists more.

use std::collections::BTreeSet;

use oci_spec::image::ImageIndex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::import::Layout;
use crate::artifact::Artifact;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{MAX_DOCUMENT, is_manifest};
use crate::store::{MAX_ARTIFACT, MAX_REFERRERS, OURS, Store};

const ANNOTATION: &str = "dev.airtight.referrers.v1";

/// An artifact, and whom it refers to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refers {
    #[serde(flatten)]
    artifact: Descriptor,
    subject: Digest,
}

impl Refers {
    pub(super) fn of(artifact: &Artifact, subject: &Digest) -> Self {
        Self {
            artifact: artifact.document().descriptor().clone(),
            subject: subject.clone(),
        }
    }
}

/// Notes in an index what refers to its images, in place of what it noted of them; what it notes of others stays.
pub(super) fn note(index: &mut Value, new: &[Refers]) {
    let annotations = index.get("annotations");
    let old = annotations.and_then(|annotations| annotations.get(ANNOTATION)?.as_str());
    let mut all: Vec<Refers> = old
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    all.retain(|refers| !new.iter().any(|new| new.subject == refers.subject));
    all.extend_from_slice(new);
    if new.is_empty() {
        return;
    }
    let Ok(text) = serde_json::to_value(&all) else {
        return;
    };
    if let Some(index) = index.as_object_mut() {
        let annotations = index
            .entry("annotations")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(
                ANNOTATION.to_owned(),
                crate::canonical::canonical_json(text).into(),
            );
        }
    }
}

/// What an index says that refers to images: in our annotation, or listed beside them with a type and without a name.
pub(super) fn said(index: &ImageIndex, layout: &Layout<'_>) -> Result<Vec<Descriptor>> {
    let text = index
        .annotations()
        .as_ref()
        .and_then(|annotations| annotations.get(ANNOTATION));
    let noted: Vec<Refers> = match text.map(|text| serde_json::from_str(text)) {
        None => Vec::new(),
        Some(Ok(noted)) => noted,
        Some(Err(error)) => {
            return Err(Error::refused(
                layout.shown.display(),
                format!("has an annotation {ANNOTATION} that is none: {error}"),
                "export the image again",
            ));
        }
    };
    let mut found: Vec<Descriptor> = noted.into_iter().map(|refers| refers.artifact).collect();
    for entry in index.manifests().iter().filter(|entry| is_artifact(entry)) {
        found.push(Descriptor::from_oci(entry)?);
    }
    Ok(found)
}

/// Listed in an index as something else than an image.
pub(super) fn is_artifact(entry: &oci_spec::image::Descriptor) -> bool {
    entry.artifact_type().is_some() && is_manifest(entry.media_type().as_ref())
}

/// Takes those of ours that refer to one of `subjects`, which are in the store. One that another tool has swept away is passed over.
pub(super) fn take(
    store: &Store,
    layout: &Layout<'_>,
    said: &[Descriptor],
    subjects: &BTreeSet<Digest>,
) -> Result<()> {
    let mut taken = 0;
    for descriptor in said {
        if !layout.has(descriptor) {
            continue;
        }
        descriptor.at_most(MAX_DOCUMENT)?;
        layout.copy(store, descriptor)?;
        let bytes = store.read_document(descriptor.digest())?;
        let read = |subject| Artifact::read(bytes.clone(), descriptor.digest(), subject).ok();
        let ours = |artifact: &Artifact| artifact.kind().starts_with(OURS);
        let found = subjects
            .iter()
            .find_map(|subject| Some((subject, read(subject).filter(ours)?)));
        let Some((subject, artifact)) = found else {
            continue;
        };
        taken += 1;
        if taken > MAX_REFERRERS * subjects.len() {
            return Err(Error::refused(
                layout.shown.display(),
                format!("has more than {MAX_REFERRERS} manifests that refer to an image"),
                "remove some of them",
            ));
        }
        for blob in artifact.blobs() {
            blob.at_most(MAX_ARTIFACT)?;
            layout.copy(store, &blob)?;
        }
        store.refer(subject, artifact.digest())?;
    }
    Ok(())
}
