//! What a transfer did, for people and for `--json`.

use serde::Serialize;

use crate::digest::Digest;

/// What became of a blob or manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Sent, all of it or what was missing.
    Sent,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was there.
    Skipped,
    /// Fetched, all of it or what was missing.
    Received,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
    pub state: State,
    /// That went over the wire in this run, more than `size` if some of them went in vain.
    pub bytes: u64,
}

/// All of it, in the order in which it was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where the image is now: in a registry, or in the store.
    pub reference: String,
    /// Of the manifest or index.
    pub digest: Digest,
    pub blobs: Vec<Moved>,
    pub manifests: Vec<Moved>,
    /// Blobs and manifests of what refers to the image and goes with it.
    pub referrers: Vec<Moved>,
    /// Bytes over the wire.
    pub sent: u64,
    pub received: u64,
    /// Bytes that need not go over it.
    pub mounted: u64,
    pub skipped: u64,
}

impl Report {
    pub(crate) fn new(reference: impl ToString, digest: &Digest) -> Self {
        Self {
            reference: reference.to_string(),
            digest: digest.clone(),
            blobs: Vec::new(),
            manifests: Vec::new(),
            referrers: Vec::new(),
            sent: 0,
            received: 0,
            mounted: 0,
            skipped: 0,
        }
    }

    fn count(&mut self, moved: &Moved) {
        match moved.state {
            State::Sent => self.sent += moved.bytes,
            State::Received => self.received += moved.bytes,
            State::Mounted => self.mounted += moved.size,
            State::Skipped => self.skipped += moved.size,
        }
    }

    pub(crate) fn blob(&mut self, moved: Moved) {
        self.count(&moved);
        self.blobs.push(moved);
    }

    pub(crate) fn referrer(&mut self, moved: Moved) {
        self.count(&moved);
        self.referrers.push(moved);
    }

    pub(crate) fn manifest(&mut self, moved: Moved) {
        self.count(&moved);
        self.manifests.push(moved);
    }
}
