//! Who we are to a registry: credentials, and the tokens that they buy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use super::auth_file::{Credentials, legal};
use super::challenge::{Challenge, parse_challenges};
use super::credentials;
use super::http::{Ask, Http, Payload, Reply};
use super::pace::Fault;
use super::secret::Secret;
use super::url::{Url, encode};
use crate::error::Error;

/// Of what a token server answers.
const MAX_ANSWER: u64 = 256 << 10;
const MAX_SCOPE: usize = 1 << 10;
/// Said by distribution-spec's token documents for a server that does not say.
const USUAL_LIFE: u64 = 60;
/// A token is renewed while it still lives.
const MARGIN: Duration = Duration::from_secs(5);
const CLIENT: &str = "airtight";

/// What a token must allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    pub(crate) push: bool,
    /// Another repository, which blobs are mounted from.
    pub(crate) from: Option<String>,
}

impl Scope {
    fn list(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self
            .from
            .iter()
            .map(|name| format!("repository:{name}:pull"));
        std::iter::once(own).chain(from).collect()
    }
}

/// As far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    challenge: Option<Challenge>,
    credentials: BTreeMap<String, Credentials>,
    tokens: BTreeMap<Scope, Token>,
}

#[derive(Debug)]
struct Token {
    secret: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    /// The header for a request, if the registry has asked for one.
    pub(crate) fn header(
        &mut self,
        http: &Http,
        host: &str,
        scope: &Scope,
    ) -> Result<Option<String>, Fault> {
        let Some(challenge) = self.challenge.clone() else {
            return Ok(None);
        };
        let credentials = self.credentials(http, host, scope)?;
        match (challenge, credentials) {
            (_, Credentials::Bearer(token)) => Ok(Some(bearer(&token))),
            (Challenge::Basic, Credentials::Basic { user, password }) => {
                Ok(Some(basic(&user, &password)))
            }
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope: asked,
                },
                credentials,
            ) => {
                let fresh = |token: &Token| token.until > Instant::now();
                if let Some(token) = self.tokens.get(scope).filter(|token| fresh(token)) {
                    return Ok(Some(bearer(&token.secret)));
                }
                let wanted = wanted(scope, asked.as_deref());
                let realm = realm_of(http, host, &realm)?;
                let token = fetch(http, realm, service.as_deref(), &wanted, &credentials)?;
                let header = bearer(&token.secret);
                self.tokens.insert(scope.clone(), token);
                Ok(Some(header))
            }
            (Challenge::Basic | Challenge::Other, _) => Ok(None),
        }
    }

    /// Learns from a refusal of a request that `said` who we are. Whether another attempt has a chance.
    pub(crate) fn refused(
        &mut self,
        http: &Http,
        host: &str,
        scope: &Scope,
        reply: &Reply,
        said: Option<&str>,
    ) -> Result<bool, Fault> {
        // Others may have bought a new one since.
        let stale = |token: &Token| said == Some(bearer(&token.secret).as_str());
        if self.tokens.get(scope).is_some_and(stale) {
            self.tokens.remove(scope);
        }
        let mut told = reply
            .headers
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .take(8)
            .flat_map(parse_challenges)
            .collect::<Vec<_>>();
        // A token tells the registry less than a password.
        told.sort_by_key(|challenge| match challenge {
            Challenge::Bearer { .. } => 0,
            Challenge::Basic => 1,
            Challenge::Other => 2,
        });
        let Some(challenge) = told.into_iter().next() else {
            return Ok(false);
        };
        let credentials = self.credentials(http, host, scope)?;
        let chance = match (&challenge, &credentials) {
            (Challenge::Other, _) => false,
            (_, Credentials::Bearer(_)) | (Challenge::Bearer { .. }, _) => true,
            (Challenge::Basic, known) => matches!(known, Credentials::Basic { .. }),
        };
        self.challenge = Some(challenge);
        Ok(chance)
    }

    fn credentials(
        &mut self,
        http: &Http,
        host: &str,
        scope: &Scope,
    ) -> Result<Credentials, Error> {
        if let Some(known) = self.credentials.get(&scope.repository) {
            return Ok(known.clone());
        }
        let found = credentials::find(&http.settings, host, &scope.repository)?;
        match &found {
            Credentials::Basic { user, password } => {
                http.hide(password.reveal());
                http.hide(&encoded(user, password));
            }
            Credentials::Identity(token) | Credentials::Bearer(token) => http.hide(token.reveal()),
            Credentials::Anonymous => {}
        }
        self.credentials
            .insert(scope.repository.clone(), found.clone());
        Ok(found)
    }
}

fn bearer(token: &Secret) -> String {
    format!("Bearer {}", token.reveal())
}

fn basic(user: &str, password: &Secret) -> String {
    format!("Basic {}", encoded(user, password))
}

fn encoded(user: &str, password: &Secret) -> String {
    STANDARD.encode(format!("{user}:{}", password.reveal()))
}

/// What we want, and what the registry says of things that we do not know of.
fn wanted(scope: &Scope, asked: Option<&str>) -> Vec<String> {
    let mut list = scope.list();
    let resource = |scope: &str| {
        scope
            .rsplit_once(':')
            .map(|(resource, _)| resource.to_owned())
    };
    let asked = asked
        .filter(|asked| asked.len() <= MAX_SCOPE)
        .unwrap_or_default();
    for other in asked.split(' ').filter(|other| legal(other)).take(8) {
        if !list.iter().any(|own| resource(own) == resource(other)) {
            list.push(other.to_owned());
        }
    }
    list
}

/// Where tokens are bought. Without TLS only where the registry may be spoken to without, too: a far registry sends nobody to this
/// machine's own services.
fn realm_of(http: &Http, host: &str, realm: &str) -> Result<Url, Error> {
    let url = Url::parse(realm)?;
    let plain = |host: &str| http.settings.plain(host);
    if url.origin().https || (plain(host) && plain(&url.origin().authority())) {
        return Ok(url);
    }
    Err(Error::refused(
        &url,
        "is where the registry wants tokens bought, without TLS",
        "tell the registry's operator",
    ))
}

fn fetch(
    http: &Http,
    mut url: Url,
    service: Option<&str>,
    scopes: &[String],
    credentials: &Credentials,
) -> Result<Token, Fault> {
    let service = service.filter(|service| service.len() <= MAX_SCOPE);
    let form;
    let (ask, authorization) = if let Credentials::Identity(token) = credentials {
        let mut text = format!(
            "grant_type=refresh_token&client_id={CLIENT}&refresh_token={}&scope={}",
            encode(token.reveal()),
            encode(&scopes.join(" "))
        );
        if let Some(service) = service {
            text.push_str(&format!("&service={}", encode(service)));
        }
        form = text;
        let mut ask = Ask::new(Method::POST, url.clone());
        ask.headers.push((
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        ));
        ask.payload = Payload::Bytes(form.as_bytes());
        (ask, None)
    } else {
        if let Some(service) = service {
            url = url.with("service", service);
        }
        for scope in scopes {
            url = url.with("scope", scope);
        }
        let authorization = match credentials {
            Credentials::Basic { user, password } => Some(basic(user, password)),
            Credentials::Anonymous | Credentials::Identity(_) | Credentials::Bearer(_) => None,
        };
        (Ask::new(Method::GET, url), authorization)
    };
    let asked = Instant::now();
    let reply = http.exchange(&ask, authorization.as_deref())?;
    if reply.status != 200 {
        let said = match credentials {
            Credentials::Anonymous => "gives no token to one who has not logged in",
            _ => "gives no token for these credentials",
        };
        return Err(http.complaint(reply, said).into());
    }
    let shown = ask.url.clone();
    let bad = |problem: &str| Error::refused(&shown, problem, "tell the registry's operator");
    let answer: Answer = serde_json::from_slice(&http.read(reply, MAX_ANSWER)?)
        .map_err(|_| bad("does not answer with a token"))?;
    let there = |token: Option<String>| token.filter(|token| legal(token));
    let secret = there(answer.token)
        .or_else(|| there(answer.access_token))
        .ok_or_else(|| bad("does not answer with a token"))?;
    http.hide(&secret);
    let life = Duration::from_secs(answer.expires_in.unwrap_or(USUAL_LIFE).clamp(1, 86_400));
    Ok(Token {
        secret: Secret::new(secret),
        until: asked + life.saturating_sub(MARGIN.min(life / 2)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_what_is_needed() {
        let scope = Scope {
            repository: "a/b".to_owned(),
            push: true,
            from: Some("c".to_owned()),
        };
        let own = ["repository:a/b:pull,push", "repository:c:pull"];
        for (name, asked, more) in [
            ("nothing said", None, None),
            ("the same, less", Some("repository:a/b:pull"), None),
            (
                "more",
                Some("repository:a/b:pull registry:x:*"),
                Some("registry:x:*"),
            ),
            ("a line", Some("x:\u{1}:y"), None),
        ] {
            let mut want: Vec<String> = own.map(str::to_owned).to_vec();
            want.extend(more.map(str::to_owned));
            assert_eq!(wanted(&scope, asked), want, "{name}");
        }
    }
}
