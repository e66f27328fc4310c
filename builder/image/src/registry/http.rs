//! One exchange: a request, and the answer's head. No redirect is followed here and no credential known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use super::Settings;
use super::pace::{Fault, Meter, Paced, retry_after};
use super::tls;
use super::url::{Origin, Url, encode};
use crate::error::{Error, Result};

/// Of the head of an answer.
const MAX_HEAD: usize = 32 << 10;
/// What is read of an answer that says what is wrong.
const MAX_COMPLAINT: u64 = 16 << 10;
const MAX_MESSAGE: usize = 300;
/// A registry may check or move a whole blob before it answers to the end of an upload.
const FINISHING: u32 = 10;
const AGENT: &str = concat!("airtight/", env!("CARGO_PKG_VERSION"));

/// What is sent. A part of a file is opened anew for each attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    Part {
        path: &'a Path,
        offset: u64,
        length: u64,
        /// Counts what went over the wire, in vain too.
        sent: &'a AtomicU64,
    },
}

#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    /// The answer may take long.
    pub(crate) finishing: bool,
}

impl Ask<'_> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            payload: Payload::None,
            finishing: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    body: Body,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the answer says of the length of its body.
    pub(crate) fn length(&self) -> Result<Option<u64>> {
        let mut lengths = self.headers.get_all("content-length").iter();
        let Some(first) = lengths.next() else {
            return Ok(None);
        };
        let number = first.to_str().ok().and_then(|text| text.parse().ok());
        if number.is_none() || lengths.next().is_some() {
            return Err(self.strange("says a length that is none"));
        }
        Ok(number)
    }

    #[cfg(test)]
    pub(crate) fn of(url: &str, location: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("location", location.parse().unwrap());
        Self {
            status: 307,
            headers,
            url: Url::parse(url).unwrap(),
            body: Body::builder().data(""),
        }
    }

    pub(crate) fn strange(&self, problem: impl Into<String>) -> Error {
        Error::refused(
            &self.url,
            problem,
            "the registry, or what stands before it, is broken or hostile: tell its operator",
        )
    }
}

/// Connections to a registry and to whom it points.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) settings: Settings,
    pub(crate) meter: Arc<Meter>,
    /// The registry's own `HOST[:PORT]`; only it sees a client's certificate.
    host: String,
    /// Instead of what the environment says.
    proxy: Option<Proxy>,
    agents: Mutex<BTreeMap<Origin, Agent>>,
    /// What was said to anybody and must be in no message, though it is repeated to us.
    secrets: Mutex<BTreeSet<String>>,
}

impl Http {
    pub(crate) fn new(settings: Settings, meter: Arc<Meter>, host: &str) -> Self {
        Self {
            settings,
            meter,
            host: host.to_owned(),
            proxy: None,
            agents: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// # Errors
    /// An address that is none of a proxy.
    pub(crate) fn set_proxy(&mut self, address: Option<&str>) -> Result<()> {
        let parsed = address.map(Proxy::new).transpose();
        self.proxy = parsed.map_err(|_| {
            // It may hold a password, so it is not repeated.
            Error::refused(
                "the proxy",
                "has an address that is none",
                "write it like http://HOST:PORT",
            )
        })?;
        Ok(())
    }

    /// From now on no message holds it.
    pub(crate) fn hide(&self, secret: &str) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        for form in [secret.to_owned(), encode(secret)] {
            if !form.is_empty() {
                secrets.insert(form);
            }
        }
    }

    fn agent(&self, origin: &Origin) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(origin) {
            return Ok(agent.clone());
        }
        let itself = Origin::of(&self.host, origin.https).is_ok_and(|own| own == *origin);
        let patience = Some(self.settings.patience);
        let mut config = Agent::config_builder()
            .user_agent(AGENT)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEAD)
            .max_idle_connections_per_host(self.settings.jobs.max(1))
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_send_request(patience)
            .timeout_per_read(patience)
            .timeout_per_write(patience)
            .timeout_recv_response(patience);
        if self.proxy.is_some() {
            config = config.proxy(self.proxy.clone());
        }
        // A proxy is for what is far away.
        if origin.is_loopback() {
            config = config.proxy(None);
        }
        if origin.https {
            config = config.tls_config(tls::config(&self.settings, origin, itself)?);
        }
        let agent = config.build().new_agent();
        agents.insert(origin.clone(), agent.clone());
        Ok(agent)
    }

    /// # Errors
    /// A peer that cannot be reached or does not answer with HTTP; and an answer that asks to try again.
    pub(crate) fn exchange(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> std::result::Result<Reply, Fault> {
        let reply = self
            .raw(ask, authorization)?
            .map_err(|error| self.fault(&ask.url, error))?;
        if matches!(reply.status, 408 | 429 | 500 | 502 | 503 | 504) {
            let after = reply
                .header("retry-after")
                .and_then(|header| retry_after(header, SystemTime::now()));
            let error = self.complaint(reply, "is busy");
            return Err(Fault::Again { error, after });
        }
        Ok(reply)
    }

    /// The HTTP client's own error, for whoever wants to tell what it means.
    pub(crate) fn raw(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<std::result::Result<Reply, ureq::Error>> {
        let agent = self.agent(ask.url.origin())?;
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.url.whole());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = authorization {
            let mut value = ureq::http::HeaderValue::from_str(authorization).map_err(|_| {
                Error::refused(&ask.url, "cannot be told such credentials", "log in again")
            })?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let answered = match ask.payload {
            Payload::None => self.run(&agent, request, SendBody::none(), ask),
            Payload::Bytes(bytes) => self.run(&agent, request, bytes, ask),
            Payload::Part {
                path,
                offset,
                length,
                sent,
            } => {
                let mut file = File::open(path).map_err(Error::io(path))?;
                file.seek(SeekFrom::Start(offset))
                    .map_err(Error::io(path))?;
                let inner = file.take(length);
                let counted = Counted { inner, sent };
                let mut paced = Paced::new(counted, self.settings.patience, Some(&self.meter));
                let request = request.header("content-length", length);
                self.run(&agent, request, SendBody::from_reader(&mut paced), ask)
            }
        }?;
        Ok(answered.map(|response| {
            let (parts, body) = response.into_parts();
            Reply {
                status: parts.status.as_u16(),
                headers: parts.headers,
                url: ask.url.clone(),
                body,
            }
        }))
    }

    fn run(
        &self,
        agent: &Agent,
        request: Builder,
        body: impl AsSendBody,
        ask: &Ask<'_>,
    ) -> Result<std::result::Result<Response<Body>, ureq::Error>> {
        let request = request
            .body(body)
            .map_err(|error| Error::refused(&ask.url, error.to_string(), "use another name"))?;
        if !ask.finishing {
            return Ok(agent.run(request));
        }
        let patience = self.settings.patience.saturating_mul(FINISHING);
        let request = agent
            .configure_request(request)
            .timeout_per_read(Some(patience))
            .timeout_recv_response(Some(patience))
            .build();
        Ok(agent.run(request))
    }

    pub(crate) fn fault(&self, url: &Url, error: ureq::Error) -> Fault {
        const UNREACHABLE: &str = "check the name and the network, or try again";
        let origin = url.origin();
        let again = |problem: String| Fault::Again {
            error: Error::refused(origin, problem, UNREACHABLE),
            after: None,
        };
        match error {
            ureq::Error::Io(error) => match tls_error(&error) {
                Some(error) => Fault::Final(untrusted(origin, error)),
                None => again(error.to_string()),
            },
            ureq::Error::Rustls(error) => Fault::Final(untrusted(origin, &error)),
            ureq::Error::Timeout(_) => again(format!(
                "did not answer within {} seconds",
                self.settings.patience.as_secs()
            )),
            ureq::Error::HostNotFound => again("has a name that is not found".to_owned()),
            ureq::Error::ConnectionFailed => again("cannot be connected to".to_owned()),
            ureq::Error::BodyStalled => again("stopped in the middle".to_owned()),
            other => Fault::Final(Error::refused(origin, other.to_string(), UNREACHABLE)),
        }
    }

    /// All of a body that is at most `limit` bytes.
    pub(crate) fn read(&self, reply: Reply, limit: u64) -> std::result::Result<Vec<u8>, Fault> {
        let said = reply.length()?;
        if said.is_some_and(|length| length > limit) {
            return Err(reply
                .strange(format!("is larger than {limit} bytes"))
                .into());
        }
        let url = reply.url.clone();
        let mut bytes = Vec::new();
        let read = self
            .body(reply, None)
            .take(limit + 1)
            .read_to_end(&mut bytes);
        read.map_err(|error| self.fault(&url, ureq::Error::Io(error)))?;
        if bytes.len() as u64 > limit {
            let problem = format!("is larger than {limit} bytes");
            return Err(Error::refused(&url, problem, "use another image or registry").into());
        }
        if said.is_some_and(|length| length != bytes.len() as u64) {
            return Err(self.fault(&url, ureq::Error::BodyStalled));
        }
        Ok(bytes)
    }

    /// A body that may be long.
    pub(crate) fn body<'a>(&self, reply: Reply, meter: Option<&'a Meter>) -> impl Read + use<'a> {
        let reader = reply.body.into_with_config().limit(u64::MAX).reader();
        Paced::new(reader, self.settings.patience, meter)
    }

    fn without_secrets(&self, mut words: String) -> String {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        // The longest first: one may be a part of another.
        let mut secrets: Vec<&String> = secrets.iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            words = words.replace(secret.as_str(), "(secret)");
        }
        words
    }

    /// What a refusal means, with the registry's own words and none of our secrets.
    pub(crate) fn complaint(&self, reply: Reply, what: &str) -> Error {
        let (status, url) = (reply.status, reply.url.clone());
        let words = self
            .read(reply, MAX_COMPLAINT)
            .ok()
            .and_then(|bytes| words(&bytes))
            .unwrap_or_default();
        // A secret is taken out before the end is: half of one would stay.
        let words = self.without_secrets(words);
        let words: String = words.chars().take(MAX_MESSAGE).collect();
        let separator = if words.is_empty() { "" } else { ": " };
        let problem = format!("{what} ({status}{separator}{words})");
        let fix = match status {
            401 | 403 => {
                "log in with podman or docker, or name the file of credentials: --authfile FILE"
            }
            404 => "check the name; see that the registry has it",
            413 => "the registry takes nothing as large: tell its operator",
            429 => "try again later, or with fewer --jobs",
            _ => "try again later; if it stays, tell the registry's operator",
        };
        Error::refused(url, problem, fix)
    }
}

struct Counted<'a, R> {
    inner: R,
    sent: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The registry's `CODE: message`.
fn words(bytes: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let first = document.get("errors")?.as_array()?.first()?;
    let text = |key: &str| first.get(key).and_then(serde_json::Value::as_str);
    let said = match (text("code"), text("message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(word), None) | (None, Some(word)) => word.to_owned(),
        (None, None) => return None,
    };
    Some(said)
}

/// What TLS said, if it was TLS.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn untrusted(origin: &Origin, error: &rustls::Error) -> Error {
    let (problem, fix) = match error {
        rustls::Error::InvalidCertificate(why) => (
            format!("has a certificate that is not trusted: {why}"),
            "put its CA's certificate as *.crt into a directory: --cert-dir DIR, or certs.d of podman or docker",
        ),
        rustls::Error::InvalidMessage(_) => (
            "does not speak TLS".to_owned(),
            "if it may be spoken to without: --insecure-registry HOST[:PORT]",
        ),
        other => (
            format!("cannot be spoken to by TLS: {other}"),
            "check its certificate and what stands between",
        ),
    };
    Error::refused(origin, problem, fix)
}
