//! What dpkg's own files in an image say: which packages, and which of them has a file. Hostile text; a line that says nothing is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::contents::Contents;
use crate::ledger::shown;

const STATUS: &str = "/var/lib/dpkg/status";
/// Of images without a package manager: a file for each package.
const STATUS_D: &str = "/var/lib/dpkg/status.d";
const INFO: &str = "/var/lib/dpkg/info";

/// The packages' versions by their names.
pub(crate) fn packages(contents: &Contents) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let lists = contents
        .below(Path::new(STATUS_D))
        .filter_map(|(_, file)| file.text.as_ref());
    let status = contents
        .files
        .get(Path::new(STATUS))
        .and_then(|file| file.text.as_ref());
    for text in status.into_iter().chain(lists) {
        read(&String::from_utf8_lossy(text), &mut found);
    }
    found
}

fn read(text: &str, found: &mut BTreeMap<String, String>) {
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::trim)
        };
        let installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
        if let (Some(package), Some(version), true) =
            (field("Package"), field("Version"), installed)
        {
            found.insert(package.to_owned(), version.to_owned());
        }
    }
}

/// Which package has each file, by the lists of the image.
#[derive(Debug, Default)]
pub(crate) struct Owners(BTreeMap<PathBuf, String>);

impl Owners {
    pub(crate) fn of(contents: &Contents) -> Self {
        let mut owners = BTreeMap::new();
        let packages = |directory: &'static str, end: &'static str| {
            contents
                .below(Path::new(directory))
                .filter_map(move |(path, file)| {
                    let name = path.file_name()?.to_str()?.strip_suffix(end)?;
                    Some((
                        name.split(':').next()?.to_owned(),
                        String::from_utf8_lossy(file.text.as_ref()?),
                    ))
                })
        };
        for (package, text) in packages(INFO, ".list") {
            owners.extend(
                text.lines()
                    .filter(|line| line.len() > 1)
                    .map(|line| (PathBuf::from(line), package.clone())),
            );
        }
        for (package, text) in packages(STATUS_D, ".md5sums") {
            let files = text.lines().filter_map(|line| line.split_once("  "));
            owners.extend(files.map(|(_, path)| (Path::new("/").join(path), package.clone())));
        }
        Self(owners)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Packages of before usr was merged name `/lib` what lies in `/usr/lib`.
    pub(crate) fn of_file(&self, path: &Path) -> Option<&str> {
        let found = self.0.get(path).or_else(|| {
            let merged = path.strip_prefix("/usr").ok()?;
            self.0.get(&Path::new("/").join(merged))
        });
        found.map(String::as_str)
    }
}

/// Which ELF files of the image need `path` by name, sorted.
pub(crate) fn needed_by(contents: &Contents, path: &Path) -> Vec<String> {
    let mut names: BTreeSet<&str> = path
        .file_name()
        .and_then(|name| name.to_str())
        .into_iter()
        .collect();
    let own = contents
        .files
        .get(path)
        .and_then(|file| file.program.as_ref());
    names.extend(own.and_then(|program| program.soname.as_deref()));
    let needs = |program: &super::contents::Program| {
        let linker = program
            .interpreter
            .as_deref()
            .and_then(|linker| contents.resolve(Path::new(linker), true));
        program
            .needed
            .iter()
            .any(|needed| names.contains(needed.as_str()))
            || linker.as_deref() == Some(path)
    };
    let users = contents
        .files
        .iter()
        .filter(|(_, file)| file.program.as_ref().is_some_and(needs));
    users.map(|(path, _)| shown(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_those_that_are_installed() {
        let mut found = BTreeMap::new();
        read(
            "Package: a\nStatus: install ok installed\nVersion: 1\nDescription: x\n Version: 9\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 2\n",
            &mut found,
        );
        read("Package: b\nVersion: 2:3-4\n", &mut found);
        read("nonsense", &mut found);
        let want = [("a", "1"), ("b", "2:3-4")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(found, BTreeMap::from(want));
    }
}
