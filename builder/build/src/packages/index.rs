//! The packages of a release, by name and by what they provide. Read as a stream: of each package only what a choice needs is kept.

use std::collections::HashMap;
use std::io::BufRead;

use airtight_image::Digest;

use super::control::{MAX_STANZA, Stanza, Stanzas};
use super::relation::{self, Alternatives, is_name};
use super::version::Version;

/// Of all indices of a build; Debian's largest has a tenth.
const MAX_PACKAGES: usize = 1_000_000;

/// One package that can be had.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: Box<str>,
    pub(crate) version: Version,
    /// Not of the architecture that was asked for, but of all.
    pub(crate) is_all: bool,
    /// Below the mirror's address.
    pub(crate) path: Box<str>,
    pub(crate) size: u64,
    digest: [u8; 32],
    /// The number of the source that it is from, as the caller counts them.
    pub(crate) source: u16,
    /// [`FIELDS`] as they are written, one after another; most packages' are never looked at.
    fields: Box<str>,
    /// Where each of them ends. A release has tens of thousands of packages: what is kept of each is as little as can be.
    ends: [u32; FIELDS.len()],
}

const FIELDS: [&str; 5] = ["Pre-Depends", "Depends", "Conflicts", "Breaks", "Provides"];
const PRE_DEPENDS: usize = 0;
const DEPENDS: usize = 1;
const CONFLICTS: usize = 2;
const BREAKS: usize = 3;
const PROVIDES: usize = 4;

impl Candidate {
    /// What it needs, `Pre-Depends` first: to us both are the same.
    pub(crate) fn needs(&self) -> Result<Vec<Alternatives>, String> {
        let mut needs = self.relations(PRE_DEPENDS)?;
        needs.extend(self.relations(DEPENDS)?);
        Ok(needs)
    }

    /// What it cannot lie beside: `Conflicts` and `Breaks`, which are the same where all is unpacked at once.
    pub(crate) fn refuses(&self) -> Result<Vec<Alternatives>, String> {
        let mut refuses = self.relations(CONFLICTS)?;
        refuses.extend(self.relations(BREAKS)?);
        Ok(refuses)
    }

    /// Names that it stands for besides its own, with the version that it says they have.
    pub(crate) fn provided(&self) -> Result<Vec<(String, Option<Version>)>, String> {
        let all = self.relations(PROVIDES)?;
        let provided = all.into_iter().flat_map(|alternatives| alternatives.0);
        Ok(provided
            .map(|relation| (relation.name, relation.version.map(|(_, version)| version)))
            .collect())
    }

    /// SHA-256 of the package.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(&self.digest)
    }

    fn field(&self, number: usize) -> &str {
        let end = |number: usize| self.ends.get(number).map_or(0, |end| *end as usize);
        let start = number.checked_sub(1).map_or(0, end);
        self.fields.get(start..end(number)).unwrap_or_default()
    }

    fn relations(&self, number: usize) -> Result<Vec<Alternatives>, String> {
        relation::parse(self.field(number)).map_err(|why| {
            let field = FIELDS.get(number).copied().unwrap_or_default();
            format!("{} {}: {field} {why}", self.name, self.version)
        })
    }
}

/// All that can be had.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) candidates: Vec<Candidate>,
    /// By name, the latest version first, then in the order of the sources.
    sorted: Vec<u32>,
    /// Those that provide a name, by their own.
    providers: HashMap<Box<str>, Vec<u32>>,
}

impl Index {
    /// Adds the packages of one index file for `architecture`.
    ///
    /// # Errors
    /// The first stanza that is none.
    pub(crate) fn read(
        &mut self,
        reader: impl BufRead,
        architecture: &str,
        source: u16,
    ) -> Result<(), String> {
        let mut stanzas = Stanzas::new(reader, MAX_STANZA);
        while let Some(stanza) = stanzas.next_stanza()? {
            let Some(candidate) = candidate(&stanza, architecture, source)? else {
                continue;
            };
            if self.candidates.len() >= MAX_PACKAGES {
                return Err(format!("has more than {MAX_PACKAGES} packages"));
            }
            self.add(candidate)?;
        }
        Ok(())
    }

    fn add(&mut self, candidate: Candidate) -> Result<(), String> {
        let number = u32::try_from(self.candidates.len()).map_err(|_| "has too many packages")?;
        self.sorted.push(number);
        if !candidate.field(PROVIDES).is_empty() {
            for (name, _) in candidate.provided()? {
                let providers = self.providers.entry(name.into()).or_default();
                if providers.last() != Some(&number) {
                    providers.push(number);
                }
            }
        }
        self.candidates.push(candidate);
        Ok(())
    }

    /// Puts them in their order, so that a choice does not depend on how the indices are sorted.
    pub(crate) fn finish(&mut self) {
        let candidates = &self.candidates;
        let get = |number: &u32| candidates.get(*number as usize);
        let order = |left: &u32, right: &u32| match (get(left), get(right)) {
            (Some(left), Some(right)) => left
                .name
                .cmp(&right.name)
                .then_with(|| right.version.order(&left.version))
                .then_with(|| left.source.cmp(&right.source))
                .then_with(|| left.digest.cmp(&right.digest)),
            _ => left.cmp(right),
        };
        self.sorted.sort_by(order);
        for numbers in self.providers.values_mut() {
            numbers.sort_by(order);
        }
    }

    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &Candidate> {
        let before = |number: &u32| self.candidate(*number).is_some_and(|one| *one.name < *name);
        let first = self.sorted.partition_point(before);
        let found = self.sorted.get(first..).unwrap_or_default();
        let found = found.iter().filter_map(|number| self.candidate(*number));
        found.take_while(move |candidate| *candidate.name == *name)
    }

    pub(crate) fn providing(&self, name: &str) -> impl Iterator<Item = &Candidate> {
        let found = self.providers.get(name);
        let numbers = found.map(Vec::as_slice).unwrap_or_default();
        numbers.iter().filter_map(|number| self.candidate(*number))
    }

    fn candidate(&self, number: u32) -> Option<&Candidate> {
        self.candidates.get(number as usize)
    }
}

/// Where the file of a package is.
struct Place {
    path: Box<str>,
    size: u64,
    digest: Digest,
    source: u16,
}

impl Candidate {
    /// A package that is there already, in a base or as a file: by what it says of itself. `None` for another architecture's.
    pub(crate) fn there(stanza: &Stanza, architecture: &str) -> Result<Option<Self>, String> {
        let place = |_: &str| {
            Ok(Place {
                path: "".into(),
                size: 0,
                digest: Digest::of(b""),
                source: u16::MAX,
            })
        };
        Self::of(stanza, architecture, place)
    }

    fn of(
        stanza: &Stanza,
        architecture: &str,
        place: impl FnOnce(&str) -> Result<Place, String>,
    ) -> Result<Option<Self>, String> {
        let name = stanza.text("Package");
        if !is_name(name) {
            let shown: String = name.chars().take(80).collect();
            return Err(format!("has a package `{shown}`, which is no name"));
        }
        let own = stanza.text("Architecture");
        if own != architecture && own != "all" {
            return Ok(None);
        }
        let version = Version::parse(stanza.text("Version"))
            .map_err(|why| format!("has the package {name} whose version {why}"))?;
        let Place {
            path,
            size,
            digest,
            source,
        } = place(name)?;
        let mut fields = String::new();
        let mut ends = [0; FIELDS.len()];
        for (field, end) in FIELDS.iter().zip(&mut ends) {
            fields += stanza.text(field);
            *end = u32::try_from(fields.len())
                .map_err(|_| format!("has the package {name} without end"))?;
        }
        Ok(Some(Self {
            name: name.into(),
            version,
            is_all: own == "all",
            path,
            size,
            digest: digest.to_bytes(),
            source,
            fields: fields.into(),
            ends,
        }))
    }
}

fn candidate(
    stanza: &Stanza,
    architecture: &str,
    source: u16,
) -> Result<Option<Candidate>, String> {
    Candidate::of(stanza, architecture, |name| {
        let bad = |what: &str| format!("has the package {name} {what}");
        let digest = format!("sha256:{}", stanza.text("SHA256"))
            .parse()
            .map_err(|_| bad("without a SHA256"))?;
        let size = stanza
            .text("Size")
            .parse()
            .map_err(|_| bad("without a size"))?;
        let path = stanza.text("Filename");
        if path.is_empty() {
            return Err(bad("without a file"));
        }
        Ok(Place {
            path: path.strip_prefix("./").unwrap_or(path).into(),
            size,
            digest,
            source,
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An index of `NAME VERSION` lines, each with fields after semicolons.
    pub(crate) fn index(packages: &[&str]) -> Index {
        let mut index = Index::default();
        let mut text = String::new();
        for package in packages {
            let mut parts = package.split(';');
            let head = parts.next().unwrap();
            let (name, version) = head.split_once(' ').unwrap();
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {}\n",
                "0".repeat(64)
            );
            for field in parts {
                text += &format!("{}\n", field.trim());
            }
            text.push('\n');
        }
        index.read(text.as_bytes(), "amd64", 0).unwrap();
        index.finish();
        index
    }

    /// A release with its updates has 65,000, and a build shall do with 64 MB.
    #[test]
    fn a_candidate_takes_no_more_than_it_must() {
        assert!(size_of::<Candidate>() <= 144, "{}", size_of::<Candidate>());
        let index = index(&["tool 1; Depends: aa (>= 1), bb; Breaks: cc; Provides: dd"]);
        let [tool] = index.candidates.as_slice() else {
            unreachable!("one package");
        };
        assert_eq!(
            &*tool.fields, "aa (>= 1), bbccdd",
            "one text for all fields"
        );
        let shown =
            |all: Vec<Alternatives>| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(tool.needs().unwrap()), ["aa (>= 1)", "bb"]);
        assert_eq!(shown(tool.refuses().unwrap()), ["cc"]);
        assert_eq!(tool.provided().unwrap(), [("dd".to_owned(), None)]);
    }

    #[test]
    fn the_latest_comes_first_and_providers_by_name() {
        let index = index(&[
            "tool 1.9",
            "tool 1.10",
            "bb 1; Provides: mail (= 3), post",
            "aa 1; Provides: mail",
        ]);
        let versions: Vec<String> = index
            .named("tool")
            .map(|one| one.version.to_string())
            .collect();
        assert_eq!(versions, ["1.10", "1.9"]);
        let names: Vec<&str> = index.providing("mail").map(|one| &*one.name).collect();
        assert_eq!(names, ["aa", "bb"]);
    }

    #[test]
    fn a_package_that_is_none_is_refused() {
        let whole = format!(
            "Package: aa\nVersion: 1\nArchitecture: amd64\nFilename: x\nSize: 1\nSHA256: {}\n",
            "0".repeat(64)
        );
        for (from, to, want) in [
            (
                "Package: aa",
                "Package: ../aa",
                "has a package `../aa`, which is no name",
            ),
            ("Size: 1", "Size: -1", "has the package aa without a size"),
            (
                "SHA256: 0",
                "SHA256: x",
                "has the package aa without a SHA256",
            ),
            (
                "Filename: x",
                "File: x",
                "has the package aa without a file",
            ),
            (
                "Version: 1",
                "Version: x",
                "has the package aa whose version has an upstream version that is none",
            ),
        ] {
            let told = Index::default().read(whole.replace(from, to).as_bytes(), "amd64", 0);
            assert_eq!(told.unwrap_err(), want);
        }
    }
}
