//! Registries, over distribution-spec 1.1: push, pull, copy. TLS, tokens and credentials; uploads and downloads that go on where they were cut.
//!
//! A registry is hostile, and so is what stands between: every document is bounded before it is read and checked before it is believed, a blob gets its name in
//! the store when its digest is right, a manifest is sent when everything it names was seen to be there. Credentials go to the registry and its token server only.

mod auth_file;
mod cache;
mod challenge;
mod client;
mod copy;
mod credentials;
mod document;
mod download;
pub(crate) mod http;
mod name;
mod origins;
pub(crate) mod pace;
mod pull;
mod push;
mod referrers;
mod report;
mod secret;
mod tls;
mod token;
mod upload;
pub(crate) mod url;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use crate::platform::Platform;
pub use auth_file::{AuthFile, Credentials, Found};
pub use cache::{CachedLayer, parse_cache};
pub use challenge::{Challenge, parse_challenges};
pub use copy::Platforms;
pub(crate) use document::{Document, Kind};
pub use name::RegistryRef;
pub use pace::{Meter, retry_after};
pub use report::{Moved, Report, State};
pub use url::next_page;

use crate::error::{Error, Result};
use client::Client;

/// Whether what refers to an image goes where the image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refer {
    With,
    Without,
}

/// What the operator says about registries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// More certificates to trust, and one to be known by.
    pub cert_dir: Option<PathBuf>,
    /// The only file of credentials.
    pub authfile: Option<PathBuf>,
    /// Hosts that may be spoken to without TLS, as `HOST[:PORT]`. Loopback may anyway.
    pub insecure: Vec<String>,
    /// How long a peer may be silent, or slower than 1 kB a second.
    pub patience: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// Blobs at once.
    pub jobs: usize,
    /// The environment, which says where credentials and certificates are.
    pub env: fn(&str) -> Option<OsString>,
}

impl Settings {
    /// # Errors
    /// A host that is none.
    pub fn check(&self) -> Result<()> {
        match self.insecure.iter().find(|host| !name::is_host(host)) {
            None => Ok(()),
            Some(host) => Err(Error::refused(
                format!("--insecure-registry {host}"),
                "is no host",
                "write it like registry.internal:5000",
            )),
        }
    }

    /// Whether it may be spoken to without TLS.
    fn plain(&self, host: &str) -> bool {
        let bare = name::split_host(host).map_or(host, |(bare, _)| bare);
        let named = |insecure: &String| {
            insecure.eq_ignore_ascii_case(host) || insecure.eq_ignore_ascii_case(bare)
        };
        name::is_loopback(bare) || self.insecure.iter().any(named)
    }
}

/// The registries that one command speaks to.
#[derive(Debug)]
pub struct Registries {
    settings: Settings,
    meter: Arc<Meter>,
    clients: Mutex<BTreeMap<String, Arc<Client>>>,
}

impl Registries {
    /// # Errors
    /// Settings that cannot be.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            settings,
            meter: Arc::default(),
            clients: Mutex::default(),
        })
    }

    /// What a transfer has done so far; for another thread to look at.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    fn client(&self, host: &str) -> Result<Arc<Client>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(host) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::open(
            self.settings.clone(),
            Arc::clone(&self.meter),
            host,
        )?);
        clients.insert(host.to_owned(), Arc::clone(&client));
        Ok(client)
    }
}

/// Where a `Location`, said in an answer of `base`, leads.
///
/// # Errors
/// An address that is none, or one with a user in it.
pub fn join_location(base: &str, location: &str) -> Result<String> {
    Ok(url::Url::parse(base)?.join(location)?.whole())
}

/// Reads a manifest or index of hostile bytes, which the registry says to be of the type `said`; its digest.
///
/// # Errors
/// What is neither, or not what it is said to be.
pub fn parse_document(bytes: &[u8], said: &str) -> Result<crate::Digest> {
    Ok(
        document::Document::read(bytes.to_vec(), said, "a document")?
            .digest()
            .clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_for_whom_the_operator_names() {
        let settings = Settings {
            cert_dir: None,
            authfile: None,
            insecure: vec!["a.example.org:5000".to_owned(), "b.example.org".to_owned()],
            patience: Duration::from_secs(1),
            retries: 0,
            jobs: 1,
            env: |_| None,
        };
        for (host, want) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("[::1]:5000", true),
            ("a.example.org:5000", true),
            ("A.example.org:5000", true),
            ("a.example.org", false),
            ("b.example.org:1", true),
            ("c.example.org", false),
        ] {
            assert_eq!(settings.plain(host), want, "{host}");
        }
        let wrong = Settings {
            insecure: vec!["http://a".to_owned()],
            ..settings
        };
        assert!(wrong.check().is_err());
    }
}
