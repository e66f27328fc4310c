//! A blob to a registry. Small ones in one request; large ones in pieces, so that a cut or a kill costs no more than the registry lost of the last one. Where an
//! upload stands is kept in the store until it is done.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::client::Client;
use super::http::{Ask, Payload, Reply};
use super::origins;
use super::pace::Fault;
use super::report::{Moved, State};
use super::token::Scope;
use super::url::Url;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::{Kept, Partial, Store};

/// What is lost at most; and what a registry that stores in pieces takes as one.
const PIECE: u64 = 8 << 20;
/// Of what a registry may ask for as its least.
const MAX_PIECE: u64 = 512 << 20;
/// Uploads begun anew because the registry lost them.
const MAX_BEGUN: u32 = 8;

/// What is kept of one.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    location: String,
    piece: u64,
}

struct Upload<'a> {
    client: &'a Client,
    scope: &'a Scope,
    blob: &'a Descriptor,
    path: &'a Path,
    kept: Option<Kept>,
    piece: u64,
    /// Bytes over the wire.
    sent: AtomicU64,
    begun: u32,
    /// The registry takes no pieces.
    whole: bool,
}

/// Where it stands.
enum Stand {
    Done,
    At(Url, u64),
}

/// The bytes of a blob, verified.
pub(crate) enum Source {
    Stored(PathBuf),
    /// On its way from another registry.
    Spooled(Partial),
}

impl Source {
    fn path(&self) -> &Path {
        match self {
            Self::Stored(path) => path,
            Self::Spooled(partial) => partial.path(),
        }
    }

    fn done(self) {
        if let Self::Spooled(partial) = self {
            partial.discard();
        }
    }
}

impl Client {
    /// Sends a blob unless it is there or can be mounted; `from` are repositories that may have it. `source` is asked when it must be sent.
    pub(crate) fn give(
        &self,
        store: &Store,
        scope: &Scope,
        blob: &Descriptor,
        from: &[String],
        source: impl FnOnce() -> Result<Source>,
    ) -> Result<Moved> {
        let meter = &self.http.meter;
        let moved = |state, bytes| {
            origins::note(store, blob, self.host(), &scope.repository);
            Moved {
                digest: blob.digest().clone(),
                media_type: blob.media_type().to_owned(),
                size: blob.size(),
                state,
                bytes,
            }
        };
        if self.has_blob(scope, blob)? {
            meter.move_on(blob.size());
            return Ok(moved(State::Skipped, 0));
        }
        for repository in from.iter().take(2) {
            if self.mount(scope, blob, repository)? {
                meter.move_on(blob.size());
                return Ok(moved(State::Mounted, 0));
            }
        }
        let source = source()?;
        let name = Digest::of(
            format!("{}/{} {}", self.host(), scope.repository, blob.digest()).as_bytes(),
        );
        let mut upload = Upload {
            client: self,
            scope,
            blob,
            path: source.path(),
            kept: store.kept(&format!("u-{}", name.hex()))?,
            piece: PIECE,
            sent: AtomicU64::new(0),
            begun: 0,
            whole: false,
        };
        upload.run()?;
        let sent = upload.sent.load(Ordering::Relaxed);
        if let Some(kept) = upload.kept.take() {
            kept.forget();
        }
        // What it answers to the end of an upload is not yet what it has.
        if !self.has_blob(scope, blob)? {
            return Err(Error::refused(
                format!("{} in {}/{}", blob.digest(), self.host(), scope.repository),
                "was taken by the registry and is not there",
                "push again; if it stays, tell the registry's operator",
            ));
        }
        source.done();
        Ok(moved(State::Sent, sent))
    }

    /// Whether the registry took it from another repository. One that cannot begins an upload instead, which is given up.
    fn mount(&self, scope: &Scope, blob: &Descriptor, from: &str) -> Result<bool> {
        let scope = Scope {
            from: Some(from.to_owned()),
            ..scope.clone()
        };
        let url = self
            .url(&scope, "blobs/uploads/")
            .with("mount", &blob.digest().to_string())
            .with("from", from);
        let mut ask = Ask::new(Method::POST, url);
        ask.payload = Payload::Bytes(&[]);
        let reply = self.send(&ask, &scope)?;
        match reply.status {
            201 => self.has_blob(&scope, blob),
            202 => {
                let location = self.location(&reply)?;
                // An upload that nobody ends is the registry's to forget; this is a courtesy.
                drop(self.attempt(&Ask::new(Method::DELETE, location), &scope));
                Ok(false)
            }
            // Not even to be asked: what is sent will tell whether we may write.
            _ => Ok(false),
        }
    }
}

impl Upload<'_> {
    fn run(&mut self) -> Result<()> {
        let mut backoff = self.client.backoff();
        let mut stand = self.take_up()?;
        let mut shown = 0;
        while let Stand::At(location, offset) = stand {
            self.show(&mut shown, offset);
            let before = self.sent.load(Ordering::Relaxed);
            let step = self.step(&location, offset);
            shown += self.sent.load(Ordering::Relaxed) - before;
            stand = match step {
                Ok(next) => {
                    if matches!(&next, Stand::At(_, at) if *at > offset) {
                        backoff.progress();
                    }
                    next
                }
                Err(fault) => {
                    backoff.wait(fault)?;
                    // It may have come to its end all the same.
                    if self.client.has_blob(self.scope, self.blob)? {
                        break;
                    }
                    self.ask(&location)?
                }
            };
        }
        self.show(&mut shown, self.blob.size());
        Ok(())
    }

    /// The meter tells what the registry has, not what was sent in vain.
    fn show(&self, shown: &mut u64, offset: u64) {
        let meter = &self.client.http.meter;
        if *shown > offset {
            meter.move_back(*shown - offset);
        } else {
            meter.move_on(offset - *shown);
        }
        *shown = offset;
    }

    /// Goes on with an upload that was cut off by a kill, or begins one.
    fn take_up(&mut self) -> Result<Stand> {
        let kept = match &mut self.kept {
            Some(kept) => kept.read()?,
            None => Vec::new(),
        };
        let Ok(session) = serde_json::from_slice::<Session>(&kept) else {
            return self.begin();
        };
        self.piece = session.piece.clamp(PIECE, MAX_PIECE);
        match Url::parse(&session.location) {
            // Only where a location could have pointed in the first place.
            Ok(location)
                if location.origin().https
                    || self
                        .client
                        .http
                        .settings
                        .plain(&location.origin().authority()) =>
            {
                self.ask(&location)
            }
            _ => self.begin(),
        }
    }

    fn begin(&mut self) -> Result<Stand> {
        self.begun += 1;
        if self.begun > MAX_BEGUN {
            return Err(Error::refused(
                format!(
                    "{} to {}/{}",
                    self.blob.digest(),
                    self.client.host(),
                    self.scope.repository
                ),
                format!("was lost by the registry {MAX_BEGUN} times"),
                "push again later; if it stays, tell the registry's operator",
            ));
        }
        let mut ask = Ask::new(Method::POST, self.client.url(self.scope, "blobs/uploads/"));
        ask.payload = Payload::Bytes(&[]);
        let reply = self.client.send(&ask, self.scope)?;
        if reply.status != 202 {
            return Err(self.client.complaint(reply, "cannot be written to"));
        }
        if let Some(least) = reply.header("oci-chunk-min-length") {
            self.piece = least.parse().unwrap_or(PIECE).clamp(PIECE, MAX_PIECE);
        }
        let location = self.client.location(&reply)?;
        self.keep(&location)?;
        Ok(Stand::At(location, 0))
    }

    /// Where the registry says that it stands; from the start if it has lost it.
    fn ask(&mut self, location: &Url) -> Result<Stand> {
        let ask = Ask::new(Method::GET, location.clone());
        let reply = self.client.send(&ask, self.scope)?;
        let offset = match reply.status {
            204 | 202 | 200 => offset(&reply, self.blob.size()),
            _ => None,
        };
        let Some(offset) = offset else {
            return self.begin();
        };
        let location = match reply.header("location") {
            Some(_) => self.client.location(&reply)?,
            None => location.clone(),
        };
        self.keep(&location)?;
        Ok(Stand::At(location, offset))
    }

    /// The next piece, or the end.
    fn step(&mut self, location: &Url, offset: u64) -> std::result::Result<Stand, Fault> {
        let left = self.blob.size() - offset;
        if left == 0 || (offset == 0 && (left <= self.piece || self.whole)) {
            return self.end(location, offset, left);
        }
        let length = left.min(self.piece);
        let mut ask = Ask::new(Method::PATCH, location.clone());
        ask.headers
            .push(("content-type", "application/octet-stream".to_owned()));
        ask.headers
            .push(("content-range", format!("{offset}-{}", offset + length - 1)));
        ask.payload = Payload::Part {
            path: self.path,
            offset,
            length,
            sent: &self.sent,
        };
        let reply = self.client.attempt(&ask, self.scope)?;
        match reply.status {
            202 | 201 | 204 => {
                let location = self.client.location(&reply)?;
                let at = offset_after(&reply, offset + length)?;
                self.keep(&location)?;
                Ok(Stand::At(location, at))
            }
            // It stands elsewhere, or is gone.
            404 | 416 => {
                drop(reply);
                Ok(self.ask(location)?)
            }
            // Some registries take a blob only whole.
            400 | 405 | 413 | 415 | 501 if !self.whole && offset == 0 => {
                self.whole = true;
                Ok(self.begin()?)
            }
            _ => Err(self
                .client
                .complaint(reply, "does not take a piece of a blob")
                .into()),
        }
    }

    fn end(&mut self, location: &Url, offset: u64, left: u64) -> std::result::Result<Stand, Fault> {
        let mut ask = Ask::new(
            Method::PUT,
            location.with("digest", &self.blob.digest().to_string()),
        );
        ask.finishing = true;
        ask.payload = Payload::Bytes(&[]);
        if left > 0 {
            ask.headers
                .push(("content-type", "application/octet-stream".to_owned()));
            ask.payload = Payload::Part {
                path: self.path,
                offset,
                length: left,
                sent: &self.sent,
            };
        }
        let reply = self.client.attempt(&ask, self.scope)?;
        match reply.status {
            201 | 204 => {
                let said = reply.header("docker-content-digest");
                if said.is_some_and(|said| {
                    said.starts_with("sha256:") && said != self.blob.digest().to_string()
                }) {
                    return Err(reply
                        .strange(format!(
                            "was sent {} and says it is another",
                            self.blob.digest()
                        ))
                        .into());
                }
                Ok(Stand::Done)
            }
            404 | 416 => Ok(self.begin()?),
            // What it has is not what was sent: bytes were lost on the way, or an upload was taken up that was another.
            400 if self.begun < 2 => Ok(self.begin()?),
            _ => Err(self.client.complaint(reply, "does not take a blob").into()),
        }
    }

    fn keep(&mut self, location: &Url) -> Result<()> {
        let Some(kept) = &mut self.kept else {
            return Ok(());
        };
        let session = Session {
            location: location.whole(),
            piece: self.piece,
        };
        // A struct of a string and a number can be written.
        kept.write(&serde_json::to_vec(&session).unwrap_or_default())
    }
}

/// `Range: 0-LAST`: what the registry has. Nothing looks like one byte to some, so it is nothing.
fn offset(reply: &Reply, size: u64) -> Option<u64> {
    let range = reply.header("range")?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    let offset = if last == 0 { 0 } else { last.checked_add(1)? };
    (offset <= size).then_some(offset)
}

/// After a piece: all of it, or less if the registry says so.
fn offset_after(reply: &Reply, whole: u64) -> Result<u64> {
    match reply.header("range") {
        None => Ok(whole),
        Some(said) => offset(reply, whole).ok_or_else(|| {
            reply.strange(format!(
                "has taken `{}` of what ends at {whole}",
                said.chars().take(40).collect::<String>()
            ))
        }),
    }
}
