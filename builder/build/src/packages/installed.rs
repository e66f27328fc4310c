//! The packages of a base, as dpkg's own files in it say: they count as there, and stay as they are. Hostile text.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::entries::Content;
use crate::error::Problem;
use crate::tree::{Node, Tree};

use super::control::{MAX_STANZA, Stanzas};
use super::index::Candidate;

const STATUS: &str = "/var/lib/dpkg/status";
/// Of images without a package manager: a file for each package.
const STATUS_D: &str = "/var/lib/dpkg/status.d";
/// Bytes of all of them.
const MAX_STATUS: u64 = 64 << 20;
/// Packages; a whole desktop has a third.
const MAX_INSTALLED: usize = 10_000;

/// Of one architecture, by name. `base` are its unpacked trees, lowest first.
///
/// # Errors
/// What dpkg's files say that no dpkg writes.
pub(crate) fn installed(base: Vec<PathBuf>, architecture: &str) -> Result<Vec<Candidate>, Problem> {
    let tree = Tree::on(base);
    let mut found = Found::of(architecture);
    let mut paths = vec![PathBuf::from(STATUS)];
    let names = tree.names_in_base(Path::new(STATUS_D));
    let records = names
        .iter()
        .filter(|name| !name.as_encoded_bytes().ends_with(b".md5sums"));
    paths.extend(records.map(|name| Path::new(STATUS_D).join(name)));
    for path in paths {
        let bad = |problem: String| {
            let problem = format!("has {}, which {problem}", path.display());
            Problem::new("base", problem, "use another base")
        };
        if let Ok((_, Node::File { content, .. })) = tree.walk(&path) {
            let reader = open(&content).map_err(|error| bad(format!("cannot be read: {error}")))?;
            found.read(reader).map_err(bad)?;
        }
    }
    Ok(found.packages.into_values().collect())
}

fn open(content: &Content) -> io::Result<Box<dyn Read + '_>> {
    Ok(match content {
        Content::Host(source) => Box::new(source.open()?.0),
        Content::Generated(bytes) => Box::new(&**bytes),
    })
}

struct Found<'a> {
    architecture: &'a str,
    /// Bytes that may still come.
    left: u64,
    packages: BTreeMap<Box<str>, Candidate>,
}

/// What one file says.
pub(super) fn read(bytes: &[u8], architecture: &str) -> Result<Vec<Candidate>, String> {
    let mut found = Found::of(architecture);
    found.read(bytes)?;
    Ok(found.packages.into_values().collect())
}

impl<'a> Found<'a> {
    fn of(architecture: &'a str) -> Self {
        Self {
            architecture,
            left: MAX_STATUS,
            packages: BTreeMap::new(),
        }
    }

    fn read(&mut self, reader: impl Read) -> Result<(), String> {
        // One byte more than is allowed, so that it is seen.
        let mut reader = BufReader::new(reader.take(self.left + 1));
        let mut stanzas = Stanzas::new(&mut reader, MAX_STANZA);
        while let Some(stanza) = stanzas.next_stanza()? {
            let status = stanza.get("Status");
            // What was removed has left its configuration at most.
            if status.is_some_and(|status| !status.ends_with(" installed")) {
                continue;
            }
            if let Some(package) = Candidate::there(&stanza, self.architecture)? {
                self.add(package)?;
            }
        }
        self.left = reader.into_inner().limit().saturating_sub(1);
        if self.left == 0 {
            return Err(format!("is larger than {MAX_STATUS} bytes"));
        }
        Ok(())
    }

    fn add(&mut self, package: Candidate) -> Result<(), String> {
        if self.packages.len() >= MAX_INSTALLED {
            return Err(format!("has more than {MAX_INSTALLED} packages"));
        }
        let name = package.name.clone();
        let other = self.packages.get(&name);
        if let Some(other) = other.filter(|other| other.version != package.version) {
            return Err(format!(
                "has {name} {}, and another one has {}",
                package.version, other.version
            ));
        }
        self.packages.insert(name, package);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<String>, String> {
        let mut found = Found {
            architecture: "amd64",
            left: MAX_STATUS,
            packages: BTreeMap::new(),
        };
        for text in texts {
            found.read(text.as_bytes())?;
        }
        let shown = |one: &Candidate| format!("{} {}", one.name, one.version);
        Ok(found.packages.values().map(shown).collect())
    }

    #[test]
    fn what_is_installed_is_what_dpkg_says() {
        let two = "Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\nPackage: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 2\n\n\nPackage: a\nVersion: 3\nArchitecture: all\n";
        let foreign = "Package: c\nVersion: 3\nArchitecture: i386\n";
        let other = "Package: b\nVersion: 2\nArchitecture: amd64\n";
        for (name, texts, want) in [
            ("none", &[""][..], Ok(vec![])),
            ("some", &[two, foreign], Ok(vec!["a 3", "b 1"])),
            ("twice the same", &[two, two], Ok(vec!["a 3", "b 1"])),
            (
                "two versions",
                &[two, other],
                Err("has b 2, and another one has 1"),
            ),
            (
                "no name",
                &["Package: ../x\nArchitecture: all\nVersion: 1\n"],
                Err("has a package `../x`, which is no name"),
            ),
            (
                "no stanza",
                &["nonsense"],
                Err("has a line that is no `Field: value`"),
            ),
        ] {
            let want = want
                .map(|all: Vec<&str>| all.into_iter().map(str::to_owned).collect())
                .map_err(str::to_owned);
            assert_eq!(read(texts), want, "{name}");
        }
    }

    #[test]
    fn a_status_without_end_is_refused() {
        let mut found = Found {
            architecture: "amd64",
            left: 30,
            packages: BTreeMap::new(),
        };
        let text = "Package: a\nVersion: 1\nArchitecture: all\n";
        found.read(text.as_bytes()).unwrap_err();
    }

    #[test]
    fn the_base_is_read_as_its_layers_lie() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, files: &[(&str, &str)]| {
            let tree = dir.path().join(name);
            for (path, package) in files {
                let path = tree.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let text = format!("Package: {package}\nVersion: 1\nArchitecture: all\n");
                std::fs::write(path, text).unwrap();
            }
            tree
        };
        let low = layer(
            "low",
            &[
                ("var/lib/dpkg/status", "hidden"),
                ("var/lib/dpkg/status.d/one", "one"),
                ("var/lib/dpkg/status.d/one.md5sums", "no"),
            ],
        );
        let high = layer(
            "high",
            &[
                ("var/lib/dpkg/status", "whole"),
                ("var/lib/dpkg/status.d/two", "two"),
            ],
        );
        let names = |base: Vec<PathBuf>| -> Vec<String> {
            let found = installed(base, "amd64").unwrap();
            found.iter().map(|one| one.name.to_string()).collect()
        };
        assert_eq!(names(vec![low, high]), ["one", "two", "whole"]);
        assert_eq!(names(Vec::new()), Vec::<String>::new());
    }
}
