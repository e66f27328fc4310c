//! Where packages come from: the mirrors, keyrings and proxies that this host's own apt is set up with. No mirror is known here.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::control::{MAX_STANZA, Stanzas};

/// Bytes of one file of apt's settings.
const MAX_FILE: u64 = 1 << 20;
const MAX_FILES: usize = 1000;

/// One suite of one mirror, as apt would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) address: String,
    pub(crate) suite: String,
    pub(crate) components: Vec<String>,
    /// Files of keys; none: all that the host trusts for any mirror.
    pub(crate) keyrings: Vec<PathBuf>,
    /// An armored key that stands in the source itself.
    pub(crate) key: Option<String>,
}

/// What the host's apt says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) sources: Vec<Source>,
    /// `Acquire::http::Proxy` and `Acquire::https::Proxy`.
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    /// `VERSION_CODENAME` of os-release.
    pub(crate) codename: Option<String>,
}

impl Host {
    /// Reads below `root`, which is `/` but in tests.
    ///
    /// # Errors
    /// A file and what is wrong with it.
    pub(crate) fn read(root: &Path) -> Result<Self, (PathBuf, String)> {
        let apt = root.join("etc/apt");
        let mut host = Self {
            codename: codename(root)?,
            ..Self::default()
        };
        let mut lists = vec![apt.join("sources.list")];
        lists.extend(files(&apt.join("sources.list.d"))?);
        for path in lists {
            let Some(text) = read(&path)? else { continue };
            let found = match path.extension().and_then(|end| end.to_str()) {
                Some("sources") => deb822(&text),
                Some("list") => one_line(&text),
                _ => continue,
            };
            host.sources.extend(found.map_err(|why| (path, why))?);
        }
        let mut settings = files(&apt.join("apt.conf.d"))?;
        // As apt: the one file last, which overrides.
        settings.push(apt.join("apt.conf"));
        for path in settings {
            if let Some(text) = read(&path)? {
                host.proxies(&text);
            }
        }
        Ok(host)
    }

    fn proxies(&mut self, text: &str) {
        for (name, value) in settings(text) {
            let to = match name.to_ascii_lowercase().as_str() {
                "acquire::http::proxy" => &mut self.http_proxy,
                "acquire::https::proxy" => &mut self.https_proxy,
                _ => continue,
            };
            *to = Some(value).filter(|value| !value.is_empty() && value != "DIRECT");
        }
    }
}

/// Keys that a mirror without its own is held against: what apt trusts for all, and the distribution's.
pub(crate) fn default_keyrings(root: &Path) -> Result<Vec<PathBuf>, (PathBuf, String)> {
    let mut found = files(&root.join("etc/apt/trusted.gpg.d"))?;
    found.extend([
        root.join("etc/apt/trusted.gpg"),
        root.join("usr/share/keyrings/debian-archive-keyring.gpg"),
    ]);
    found.retain(|path| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("gpg" | "asc")) && path.metadata().is_ok_and(|found| found.len() > 0)
    });
    Ok(found)
}

fn codename(root: &Path) -> Result<Option<String>, (PathBuf, String)> {
    let text = read(&root.join("etc/os-release"))?.unwrap_or_default();
    let named = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(named.map(|name| name.trim_matches(['"', '\'']).to_owned()))
}

/// Of a directory, sorted by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>, (PathBuf, String)> {
    let fail = |error: io::Error| (directory.to_owned(), format!("cannot be read: {error}"));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut found = Vec::new();
    for entry in entries.take(MAX_FILES) {
        found.push(entry.map_err(fail)?.path());
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Option<String>, (PathBuf, String)> {
    let mut bytes = Vec::new();
    let done = fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    match done {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err((path.to_owned(), format!("cannot be read: {error}"))),
    }
}

/// `*.sources`: stanzas with `Types`, `URIs`, `Suites`, `Components`, `Signed-By`.
pub(crate) fn deb822(text: &str) -> Result<Vec<Source>, String> {
    let mut stanzas = Stanzas::new(text.as_bytes(), MAX_STANZA);
    let mut found = Vec::new();
    while let Some(stanza) = stanzas.next_stanza()? {
        let words = |name: &str| -> Vec<String> {
            let text = stanza.text(name).split_whitespace();
            text.map(str::to_owned).collect()
        };
        let off = stanza.text("Enabled").eq_ignore_ascii_case("no");
        if off || !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        let signed = stanza.text("Signed-By").trim();
        let is_key = signed.contains("-----BEGIN");
        // A blank line stands as a single dot.
        let key = is_key.then(|| {
            let lines = signed.lines().map(str::trim);
            lines
                .map(|line| if line == "." { "" } else { line })
                .collect::<Vec<_>>()
                .join("\n")
        });
        let keyrings = if is_key {
            Vec::new()
        } else {
            keyrings(words("Signed-By").iter().map(String::as_str))
        };
        for address in words("URIs") {
            for suite in words("Suites") {
                found.extend(source(
                    &address,
                    &suite,
                    words("Components"),
                    keyrings.clone(),
                    key.clone(),
                ));
            }
        }
    }
    Ok(found)
}

/// `*.list`: `deb [OPTION=VALUE…] ADDRESS SUITE COMPONENT…`.
pub(crate) fn one_line(text: &str) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line
            .strip_prefix("deb")
            .filter(|rest| rest.starts_with([' ', '\t', '[']))
        else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest
                .split_once(']')
                .ok_or("has a source whose options do not end")?,
            None => ("", rest),
        };
        let signed = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .unwrap_or_default();
        let mut words = rest.split_whitespace();
        let (Some(address), Some(suite)) = (words.next(), words.next()) else {
            return Err("has a source without address or suite".to_owned());
        };
        found.extend(source(
            address,
            suite,
            words.map(str::to_owned).collect(),
            keyrings(signed.split(',')),
            None,
        ));
    }
    Ok(found)
}

/// `None`: of a kind that is not read here, as media and repositories without suites.
fn source(
    address: &str,
    suite: &str,
    components: Vec<String>,
    keyrings: Vec<PathBuf>,
    key: Option<String>,
) -> Option<Source> {
    let known = ["http:", "https:", "file:"]
        .iter()
        .any(|scheme| address.starts_with(scheme));
    (known && !suite.ends_with('/')).then(|| Source {
        address: address.trim_end_matches('/').to_owned(),
        suite: suite.to_owned(),
        components,
        keyrings,
        key,
    })
}

/// Fingerprints, which only narrow what is trusted anyhow, are passed over.
fn keyrings<'a>(names: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    names
        .filter(|name| name.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// `NAME "VALUE";` of apt's settings, with names in braces put together. What is no setting is passed over.
pub(crate) fn settings(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut scopes: Vec<String> = Vec::new();
    let mut name = String::new();
    let mut value: Option<String> = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let comment = if rest.starts_with("/*") {
            Some(rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else if rest.starts_with("//") || first == '#' {
            Some(rest.find('\n').unwrap_or(rest.len()))
        } else {
            None
        };
        let mut step = comment.unwrap_or(first.len_utf8());
        match first {
            _ if comment.is_some() => {}
            '"' => {
                let inner = rest.get(1..).unwrap_or_default();
                let end = inner.find('"').unwrap_or(inner.len());
                value = inner.get(..end).map(str::to_owned);
                step = (end + 2).min(rest.len());
            }
            '{' => scopes.push(std::mem::take(&mut name)),
            '}' => {
                scopes.pop();
                name.clear();
            }
            ';' => {
                if let Some(value) = value.take().filter(|_| !name.is_empty()) {
                    let whole = scopes.iter().map(String::as_str).chain([name.as_str()]);
                    found.push((whole.collect::<Vec<_>>().join("::"), value));
                }
                name.clear();
            }
            _ if first.is_whitespace() => {}
            _ => name.push(first),
        }
        rest = rest.get(step..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(sources: Vec<Source>) -> Vec<String> {
        let line = |source: Source| {
            let keyrings: Vec<String> = source
                .keyrings
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            format!(
                "{} {} [{}] [{}]",
                source.address,
                source.suite,
                source.components.join(" "),
                keyrings.join(" ")
            )
        };
        sources.into_iter().map(line).collect()
    }

    #[test]
    fn both_forms_of_sources_are_read() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian/\nSuites: stable stable-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://off.example\nSuites: x\n\nTypes: deb\nURIs: cdrom:disc\nSuites: x\n";
        assert_eq!(
            lines(deb822(text).unwrap()),
            [
                "http://mirror.example/debian stable [main contrib] [/k.gpg]",
                "http://mirror.example/debian stable-updates [main contrib] [/k.gpg]",
            ]
        );
        let text = "# deb http://no.example x main\ndeb [arch=amd64 signed-by=/a.gpg,/b.gpg] https://m.example/d stable main non-free # more\ndeb-src http://m.example stable main\ndeb file:/srv ./\n";
        assert_eq!(
            lines(one_line(text).unwrap()),
            ["https://m.example/d stable [main non-free] [/a.gpg /b.gpg]"]
        );
        one_line("deb [a http://x y\n").unwrap_err();
        one_line("deb http://x\n").unwrap_err();
        let key = "Types: deb\nURIs: http://m.example\nSuites: x\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abcd\n";
        let found = deb822(key).unwrap();
        assert_eq!(
            found[0].key.as_deref(),
            Some("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabcd")
        );
    }

    #[test]
    fn a_proxy_is_found_in_either_way_of_writing() {
        for text in [
            "Acquire::http::Proxy \"http://p:3142\";",
            "Acquire { http { Proxy \"http://p:3142\"; }; };",
            "// no\n/* Acquire::http::Proxy \"x\"; */ # no\nacquire::HTTP::proxy \"http://p:3142\";",
        ] {
            let mut host = Host::default();
            host.proxies(text);
            assert_eq!(host.http_proxy.as_deref(), Some("http://p:3142"), "{text}");
        }
        let mut host = Host::default();
        host.proxies(
            "Acquire::http::Proxy \"DIRECT\"; Acquire::http::Pipeline-Depth \"0\"; {};};\"",
        );
        assert_eq!(host.http_proxy, None);
    }
}
