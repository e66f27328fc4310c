//! What refers to an image: profiles, signatures, lists of contents. By the registry's own list (OCI 1.1), or by the tag that stands for one where it has none.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::Client;
use super::document::{Document, Entry, Kind};
use super::http::Ask;
use super::token::Scope;
use super::url::next_page;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::MAX_DOCUMENT;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MAX_PAGES: usize = 16;

/// Those that are listed for a manifest. What the list says of them is the registry's word.
pub(crate) fn list(client: &Client, scope: &Scope, subject: &Digest) -> Result<Vec<Entry>> {
    let mut url = client.url(scope, &format!("referrers/{subject}"));
    let mut found = Vec::new();
    for page in 0..MAX_PAGES {
        let mut ask = Ask::new(Method::GET, url.clone());
        ask.headers.push(("accept", OCI_INDEX.to_owned()));
        let reply = client.send(&ask, scope)?;
        let kind = reply.header("content-type").unwrap_or_default().to_owned();
        // Registries of before answer with a page for people, or say that there is no such thing.
        if reply.status != 200 || !kind.starts_with(OCI_INDEX) {
            if page == 0 {
                return by_tag(client, scope, subject);
            }
            return Err(client.complaint(reply, "has no next page of referrers"));
        }
        let next = match reply.header("link").and_then(next_page) {
            Some(next) => {
                let next = url.join(next)?;
                (next.origin() == url.origin()).then_some(next)
            }
            None => None,
        };
        let bytes = match client.http.read(reply, MAX_DOCUMENT) {
            Ok(bytes) => bytes,
            Err(super::pace::Fault::Again { error, .. } | super::pace::Fault::Final(error)) => {
                return Err(error);
            }
        };
        found.extend(entries(&Document::read(bytes, &kind, &url)?));
        match next {
            Some(next) => url = next,
            None => return Ok(found),
        }
    }
    Err(Error::refused(
        url,
        format!("has more than {MAX_PAGES} pages of referrers"),
        "tell the registry's operator",
    ))
}

fn by_tag(client: &Client, scope: &Scope, subject: &Digest) -> Result<Vec<Entry>> {
    let found = client.document(scope, &tag(subject))?;
    Ok(found.as_ref().map(entries).unwrap_or_default())
}

fn entries(document: &Document) -> Vec<Entry> {
    match &document.kind {
        Kind::Index(entries) => entries.clone(),
        // A tag of that form that is an image is somebody's own.
        Kind::Manifest { .. } => Vec::new(),
    }
}

/// `sha256-HEX`, as distribution-spec has it.
fn tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Sees to it that a manifest that was put is found from its subject.
pub(crate) fn announce(client: &Client, scope: &Scope, document: &Document) -> Result<()> {
    let Some(subject) = &document.subject else {
        return Ok(());
    };
    let listed = list(client, scope, subject.digest())?;
    if listed
        .iter()
        .any(|one| one.descriptor.digest() == document.digest())
    {
        return Ok(());
    }
    let tag = tag(subject.digest());
    let index = client.document(scope, &tag)?;
    let bytes = with_entry(index.as_ref().map(Document::bytes), document)?;
    let index = Document::read(bytes, OCI_INDEX, &tag)?;
    client.put_manifest(scope, &tag, &index).map(drop)
}

/// The list with one more; whatever else it holds stays as it is.
fn with_entry(index: Option<&[u8]>, document: &Document) -> Result<Vec<u8>> {
    let bad = || {
        Error::refused(
            document.digest(),
            "refers to an image whose list of referrers is none",
            "remove the tag sha256-HEX of that image in the registry",
        )
    };
    let mut list: Value = match index {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| bad())?,
        None => json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }),
    };
    let own: Value = serde_json::from_slice(document.bytes()).map_err(|_| bad())?;
    let mut entry = serde_json::to_value(document.descriptor()).map_err(|_| bad())?;
    // Without a type of its own it is of its configuration's.
    let of_config = || {
        own.get("config")?
            .get("mediaType")?
            .as_str()
            .map(str::to_owned)
    };
    if let Some(kind) = document.artifact_type.clone().or_else(of_config) {
        entry["artifactType"] = kind.into();
    }
    if let Some(annotations) = own.get("annotations") {
        entry["annotations"] = annotations.clone();
    }
    list.get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or_else(bad)?
        .push(entry);
    serde_json::to_vec(&list).map_err(|_| bad())
}
