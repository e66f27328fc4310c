//! One registry: requests with whom we are, redirects, attempts; and the end points that need no more than one request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::http::Method;

use super::Settings;
use super::document::{ACCEPT, Document};
use super::http::{Ask, Http, Payload, Reply, tls_error};
use super::pace::{Backoff, Fault, Meter};
use super::token::{Auth, Scope};
use super::url::{Origin, Url};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::MAX_DOCUMENT;

const MAX_REDIRECTS: usize = 5;

/// A registry that was found to be there.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) http: Http,
    host: String,
    origin: Origin,
    auth: Mutex<Auth>,
}

impl Client {
    /// Finds out whether the registry speaks TLS, where it need not.
    pub(crate) fn open(settings: Settings, meter: Arc<Meter>, host: &str) -> Result<Self> {
        let plain = settings.plain(host);
        let http = Http::new(settings, meter, host);
        let mut origin = Origin::of(host, true)?;
        if plain {
            let mut backoff = Backoff::new(http.settings.retries, &http.meter);
            while let Err(fault) = speaks_tls(&http, &origin).map(|https| {
                if !https {
                    origin.https = false;
                }
            }) {
                backoff.wait(fault)?;
            }
            if !origin.https {
                origin = Origin::of(host, false)?;
            }
        }
        Ok(Self {
            http,
            host: host.to_owned(),
            origin,
            auth: Mutex::default(),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.http.settings.retries, &self.http.meter)
    }

    pub(crate) fn url(&self, scope: &Scope, rest: &str) -> Url {
        self.origin.url(&format!("/v2/{}/{rest}", scope.repository))
    }

    fn auth(&self) -> MutexGuard<'_, Auth> {
        self.auth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request with whom we are, and once more when the registry wants to know it; redirects followed. Any status that does not ask for
    /// another attempt comes back.
    pub(crate) fn attempt(
        &self,
        ask: &Ask<'_>,
        scope: &Scope,
    ) -> std::result::Result<Reply, Fault> {
        let header = self.header(&ask.url, scope)?;
        let mut reply = self.http.exchange(ask, header.as_deref())?;
        if reply.status == 401 && *ask.url.origin() == self.origin {
            let chance =
                self.auth()
                    .refused(&self.http, &self.host, scope, &reply, header.as_deref())?;
            if !chance {
                return Err(self.denied(reply, header.is_some()).into());
            }
            let header = self.header(&ask.url, scope)?;
            reply = self.http.exchange(ask, header.as_deref())?;
            if reply.status == 401 {
                return Err(self.denied(reply, header.is_some()).into());
            }
        }
        if ask.method == Method::GET || ask.method == Method::HEAD {
            return self.follow(ask, scope, reply);
        }
        Ok(reply)
    }

    /// Credentials are for the registry itself, and for no other host, port or scheme.
    fn header(&self, url: &Url, scope: &Scope) -> std::result::Result<Option<String>, Fault> {
        if *url.origin() != self.origin {
            return Ok(None);
        }
        self.auth().header(&self.http, &self.host, scope)
    }

    fn follow(
        &self,
        ask: &Ask<'_>,
        scope: &Scope,
        mut reply: Reply,
    ) -> std::result::Result<Reply, Fault> {
        for _ in 0..=MAX_REDIRECTS {
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let url = self.location(&reply)?;
            let next = Ask {
                method: ask.method.clone(),
                headers: ask.headers.clone(),
                payload: Payload::None,
                finishing: false,
                url,
            };
            let header = self.header(&next.url, scope)?;
            reply = self.http.exchange(&next, header.as_deref())?;
        }
        Err(reply
            .strange(format!("redirects more than {MAX_REDIRECTS} times"))
            .into())
    }

    /// Where an answer points. Nothing leads from TLS to plain text; a registry behind a proxy that forgot to say so means itself.
    pub(crate) fn location(&self, reply: &Reply) -> Result<Url> {
        let location = reply
            .header("location")
            .ok_or_else(|| reply.strange("points elsewhere without saying where"))?;
        let url = reply.url.join(location)?;
        let (from, to) = (reply.url.origin(), url.origin());
        if to.https || !from.https && self.http.settings.plain(&to.authority()) {
            return Ok(url);
        }
        if to.host == self.origin.host
            && self.origin.https
            && (to.port == 80 || to.port == self.origin.port)
        {
            return Ok(url.at(&self.origin));
        }
        Err(reply.strange(format!("points to {to}, which has no TLS")))
    }

    /// As many attempts as there are.
    pub(crate) fn send(&self, ask: &Ask<'_>, scope: &Scope) -> Result<Reply> {
        let mut backoff = self.backoff();
        loop {
            match self.attempt(ask, scope) {
                Ok(reply) => return Ok(reply),
                Err(fault) => backoff.wait(fault)?,
            }
        }
    }

    pub(crate) fn complaint(&self, reply: Reply, what: &str) -> Error {
        self.http.complaint(reply, what)
    }

    fn denied(&self, reply: Reply, known: bool) -> Error {
        let what = if known {
            "is refused with these credentials"
        } else {
            "is for those who have logged in, and no credentials were found"
        };
        self.complaint(reply, what)
    }

    /// A manifest or index by tag or digest, its digest checked; none if it is not there.
    pub(crate) fn document(&self, scope: &Scope, wanted: &str) -> Result<Option<Document>> {
        let mut ask = Ask::new(Method::GET, self.url(scope, &format!("manifests/{wanted}")));
        ask.headers.push(("accept", ACCEPT.to_owned()));
        let mut backoff = self.backoff();
        loop {
            let read = self
                .attempt(&ask, scope)
                .and_then(|reply| match reply.status {
                    200 => {
                        let kind = reply.header("content-type").unwrap_or_default().to_owned();
                        let said = reply.header("docker-content-digest").map(str::to_owned);
                        let bytes = self.http.read(reply, MAX_DOCUMENT)?;
                        Ok(Some((bytes, kind, said)))
                    }
                    404 => Ok(None),
                    _ => Err(self.complaint(reply, "cannot be read").into()),
                });
            match read {
                Ok(None) => return Ok(None),
                Ok(Some((bytes, kind, said))) => {
                    let digest = Digest::of(&bytes);
                    check_digest(&ask.url, &digest, wanted, said.as_deref())?;
                    return Document::read(bytes, &kind, &ask.url).map(Some);
                }
                Err(fault) => backoff.wait(fault)?,
            }
        }
    }

    /// The digest under a name, as far as the registry says it without sending the manifest.
    pub(crate) fn manifest_digest(&self, scope: &Scope, wanted: &str) -> Result<Option<Digest>> {
        let mut ask = Ask::new(
            Method::HEAD,
            self.url(scope, &format!("manifests/{wanted}")),
        );
        ask.headers.push(("accept", ACCEPT.to_owned()));
        let reply = self.send(&ask, scope)?;
        match reply.status {
            200 => match reply.header("docker-content-digest") {
                Some(digest) => digest.parse().map(Some),
                None => Ok(self
                    .document(scope, wanted)?
                    .map(|document| document.digest().clone())),
            },
            404 => Ok(None),
            _ => Err(self.complaint(reply, "cannot be looked up")),
        }
    }

    /// Whether the registry has the blob, in its full length.
    pub(crate) fn has_blob(&self, scope: &Scope, blob: &Descriptor) -> Result<bool> {
        let url = self.url(scope, &format!("blobs/{}", blob.digest()));
        let reply = self.send(&Ask::new(Method::HEAD, url), scope)?;
        match reply.status {
            200 => match reply.length()? {
                Some(length) if length != blob.size() => {
                    Err(reply.strange(format!("is {length} bytes there and {} here", blob.size())))
                }
                _ => Ok(true),
            },
            404 => Ok(false),
            _ => Err(self.complaint(reply, "cannot be looked up")),
        }
    }

    /// Puts a manifest under a tag or its digest, and sees that it is there. Whether the registry lists it among its subject's referrers.
    pub(crate) fn put_manifest(
        &self,
        scope: &Scope,
        name: &str,
        document: &Document,
    ) -> Result<bool> {
        let mut ask = Ask::new(Method::PUT, self.url(scope, &format!("manifests/{name}")));
        ask.headers
            .push(("content-type", document.media_type().to_owned()));
        ask.payload = Payload::Bytes(document.bytes());
        ask.finishing = true;
        let reply = self.send(&ask, scope)?;
        if !matches!(reply.status, 200..=202) {
            return Err(self.complaint(reply, "is not taken"));
        }
        let listed = reply.header("oci-subject").is_some();
        let found = self.manifest_digest(scope, name)?;
        if found.as_ref() == Some(document.digest()) {
            return Ok(listed);
        }
        let found = found.map_or("nothing".to_owned(), |found| found.to_string());
        Err(Error::refused(
            &ask.url,
            format!("was put and holds {found}, not {}", document.digest()),
            "somebody else pushed at the same time, or the registry is broken: push again",
        ))
    }
}

/// Any answer at all says so.
fn speaks_tls(http: &Http, origin: &Origin) -> std::result::Result<bool, Fault> {
    let ask = Ask::new(Method::GET, origin.url("/v2/"));
    let error = match http.raw(&ask, None)? {
        Ok(_) => return Ok(true),
        Err(error) => error,
    };
    let no_tls = |error: &rustls::Error| matches!(error, rustls::Error::InvalidMessage(_));
    let plain = match &error {
        ureq::Error::Io(error) => {
            use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, UnexpectedEof};
            // No answer to a greeting is how some servers say that they do not speak it.
            tls_error(error).is_some_and(no_tls)
                || matches!(error.kind(), ConnectionReset | UnexpectedEof)
                || error.kind() == ConnectionRefused && origin.port == 443
        }
        ureq::Error::Rustls(error) => no_tls(error),
        _ => false,
    };
    if plain {
        Ok(false)
    } else {
        Err(http.fault(&ask.url, error))
    }
}

fn check_digest(url: &Url, found: &Digest, wanted: &str, said: Option<&str>) -> Result<()> {
    let by_digest = wanted.parse::<Digest>().ok();
    let fix = "the registry, or what stands before it, is broken or hostile: tell its operator";
    if by_digest.is_some_and(|wanted| wanted != *found) {
        return Err(Error::refused(url, format!("has the digest {found}"), fix));
    }
    match said {
        Some(said) if said.starts_with("sha256:") && said != found.to_string() => {
            Err(Error::refused(
                url,
                format!("has the digest {found} and is said to have {said}"),
                fix,
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_leads_from_tls_to_plain_text_nor_from_afar_to_this_machine() {
        let client = |host: &str, https: bool| {
            let settings = Settings {
                cert_dir: None,
                authfile: None,
                insecure: vec!["plain.example.org".to_owned()],
                patience: Duration::from_secs(1),
                retries: 0,
                jobs: 1,
                env: |_| None,
            };
            Client {
                http: Http::new(settings, Arc::default(), host),
                host: host.to_owned(),
                origin: Origin::of(host, https).unwrap(),
                auth: Mutex::default(),
            }
        };
        let far = client("r.example.org", true);
        let near = client("localhost:5000", false);
        let at = "https://r.example.org/v2/a/blobs/x";
        let here = "http://localhost:5000/v2/a/blobs/x";
        for (client, url, location, want) in [
            (
                &far,
                at,
                "https://s3.example.org/x",
                Some("https://s3.example.org/x"),
            ),
            (&far, at, "/y", Some("https://r.example.org/y")),
            (&far, at, "http://s3.example.org/x", None),
            (&far, at, "http://localhost:5000/x", None),
            (&far, at, "http://plain.example.org/x", None),
            // A registry whose proxy did not tell it of TLS.
            (
                &far,
                at,
                "http://r.example.org/y?z",
                Some("https://r.example.org/y?z"),
            ),
            (&far, at, "http://r.example.org:8080/y", None),
            (
                &near,
                here,
                "http://localhost:6000/x",
                Some("http://localhost:6000/x"),
            ),
            (
                &near,
                here,
                "http://plain.example.org/x",
                Some("http://plain.example.org/x"),
            ),
            (&near, here, "http://s3.example.org/x", None),
            (
                &near,
                here,
                "https://s3.example.org/x",
                Some("https://s3.example.org/x"),
            ),
        ] {
            let told = client.location(&Reply::of(url, location)).ok();
            assert_eq!(
                told.map(|url| url.whole()).as_deref(),
                want,
                "{url} to {location}"
            );
        }
    }
}
