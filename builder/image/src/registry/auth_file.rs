//! docker's `config.json` and podman's `auth.json`: which credentials belong to which registry. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::secret::Secret;
use crate::error::{Error, Result};

/// Of the names of helpers, so that none leads out of `PATH`.
const MAX_HELPER: usize = 64;

/// What is said to a registry, or to its token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    Anonymous,
    Basic {
        user: String,
        password: Secret,
    },
    /// A refresh token: it buys tokens from a token server.
    Identity(Secret),
    /// A token that is sent as it is.
    Bearer(Secret),
}

/// What a file knows of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Credentials(Credentials),
    /// `docker-credential-NAME` knows.
    Helper(String),
    Nothing,
}

/// A file, read.
#[derive(Clone, Debug, Default)]
pub struct AuthFile {
    entries: BTreeMap<String, Credentials>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl AuthFile {
    /// # Errors
    /// No JSON of that shape, or a value that is none. No value is repeated in what is said.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        // serde's message may repeat a value; line and column do not.
        let written: Written = serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            bad(path, &format!("is no file of credentials: see {place}"))
        })?;
        let mut file = Self {
            store: written.creds_store.filter(|name| !name.is_empty()),
            ..Self::default()
        };
        for (key, entry) in written.auths.unwrap_or_default() {
            if let Some(credentials) = credentials(entry)
                .ok_or_else(|| bad(path, "has an `auth` that is not USER:PASSWORD in base64"))?
            {
                file.entries.insert(normal(&key), credentials);
            }
        }
        for (key, helper) in written.cred_helpers.unwrap_or_default() {
            file.helpers.insert(normal(&key), helper);
        }
        if !file
            .helpers
            .values()
            .chain(&file.store)
            .all(|name| is_helper(name))
        {
            return Err(bad(path, "names a credential helper that is none"));
        }
        Ok(file)
    }

    /// For a repository: its own entry, that of what it lies under, or the host's. A host's own helper goes before all,
    /// the one for every host comes last.
    #[must_use]
    pub fn find(&self, host: &str, repository: &str) -> Found {
        if let Some(helper) = self.helpers.get(host) {
            return Found::Helper(helper.clone());
        }
        let mut key = format!("{host}/{repository}");
        loop {
            if let Some(found) = self.entries.get(&key) {
                return Found::Credentials(found.clone());
            }
            match key.rsplit_once('/') {
                Some((parent, _)) => key.truncate(parent.len()),
                None => break,
            }
        }
        self.store.clone().map_or(Found::Nothing, Found::Helper)
    }
}

/// `Some(None)` for an entry that is empty: a store has what belongs to it.
#[expect(
    clippy::option_option,
    reason = "wrong, empty and there are three answers"
)]
fn credentials(entry: Entry) -> Option<Option<Credentials>> {
    let there = |value: Option<String>| value.filter(|value| !value.is_empty());
    if let Some(token) = there(entry.registrytoken) {
        return legal(&token).then(|| Some(Credentials::Bearer(Secret::new(token))));
    }
    if let Some(token) = there(entry.identitytoken) {
        return Some(Some(Credentials::Identity(Secret::new(token))));
    }
    let (user, password) = match there(entry.auth) {
        Some(auth) => {
            let bytes = STANDARD.decode(auth.trim()).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (user, password) = text.split_once(':')?;
            // docker has written passwords with zeroes behind.
            (user.to_owned(), password.trim_matches('\0').to_owned())
        }
        None => match (there(entry.username), there(entry.password)) {
            (Some(user), Some(password)) => (user, password),
            _ => return Some(None),
        },
    };
    if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        return None;
    }
    Some(Some(Credentials::Basic {
        user,
        password: Secret::new(password),
    }))
}

/// What may stand in a header.
pub(crate) fn legal(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Old files have `https://HOST/v1/` for a host.
fn normal(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    match bare {
        Some(rest) => rest.split('/').next().unwrap_or_default().to_owned(),
        None => key.trim_end_matches('/').to_owned(),
    }
}

fn is_helper(name: &str) -> bool {
    (1..=MAX_HELPER).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with('.')
}

fn bad(path: &Path, problem: &str) -> Error {
    Error::refused(
        path.display(),
        problem,
        "log in again with podman or docker, or name another file with --authfile",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Found {
        Found::Credentials(Credentials::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    }

    #[test]
    fn the_most_particular_entry_is_found() {
        // YTpi is a:b, YzpkOmU= is c:d:e.
        let text = r#"{ "auths": {
            "r.example.org": { "auth": "YTpi" }, "r.example.org/team": { "auth": "YzpkOmU=" },
            "https://old.example.org/v1/": { "username": "u", "password": "p" },
            "id.example.org": { "auth": "YTpi", "identitytoken": "t1" }, "raw.example.org": { "registrytoken": "t2" },
            "kept.example.org": {} },
          "credHelpers": { "h.example.org": "own" }, "credsStore": "all", "HttpHeaders": { "X": "y" } }"#;
        let file = AuthFile::parse(text.as_bytes(), Path::new("f")).unwrap();
        for (host, repository, want) in [
            ("r.example.org", "other/app", basic("a", "b")),
            ("r.example.org", "team/app", basic("c", "d:e")),
            ("r.example.org", "teams", basic("a", "b")),
            ("old.example.org", "x", basic("u", "p")),
            (
                "id.example.org",
                "x",
                Found::Credentials(Credentials::Identity(Secret::new("t1"))),
            ),
            (
                "raw.example.org",
                "x",
                Found::Credentials(Credentials::Bearer(Secret::new("t2"))),
            ),
            ("h.example.org", "x", Found::Helper("own".to_owned())),
            ("kept.example.org", "x", Found::Helper("all".to_owned())),
            ("nowhere.example.org", "x", Found::Helper("all".to_owned())),
        ] {
            assert_eq!(file.find(host, repository), want, "{host}/{repository}");
        }
        let none = AuthFile::parse(b"{}", Path::new("f")).unwrap();
        assert_eq!(none.find("r.example.org", "a"), Found::Nothing);
    }

    #[test]
    fn no_secret_is_in_what_is_said() {
        for (name, text) in [
            ("no base64", r#"{"auths":{"r":{"auth":"hunter2!"}}}"#),
            ("no colon", r#"{"auths":{"r":{"auth":"aHVudGVyMg=="}}}"#),
            ("a number", r#"{"auths":{"r":{"auth":42}}}"#),
            ("a value for a map", r#"{"auths":"hunter2"}"#),
            ("a climbing helper", r#"{"credsStore":"../hunter2"}"#),
            (
                "a token with a line",
                "{\"auths\":{\"r\":{\"registrytoken\":\"hunter2\\nX: y\"}}}",
            ),
        ] {
            let error = AuthFile::parse(text.as_bytes(), Path::new("auth.json")).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with("auth.json: "), "{name}: {said}");
            assert!(
                !said.contains("hunter2") && !said.contains("42"),
                "{name}: {said}"
            );
        }
        let shown = format!("{:?}", basic("a", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
