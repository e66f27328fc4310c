//! Packages of a build: the choice from what the mirrors have, and packages by digest into the store. What is taken is decided in [`super::solve`], what a mirror
//! says is read by [`super::mirrors`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airtight_image::mirror::Wanted;
use airtight_image::{Descriptor, Digest, Store};

use crate::error::Problem;
use crate::spec::BuildSpec;

use super::bound::bound;
use super::deb::{self, Failed};
use super::index::{Candidate, Index};
use super::mirrors::Mirrors;
use super::relation::Relation;
use super::scripts;
use super::solve::{self, Answer};
use super::version::Version;
use super::{Debian, Package, PackageLayer, Stopped};

/// Bytes of one package.
const MAX_PACKAGE: u64 = 2 << 30;

/// What the operator says about packages.
#[derive(Clone, Debug)]
pub struct PackageOptions {
    /// Instead of the mirrors that the build file or the host's apt names: `http:`, `https:` or `file:`.
    pub mirror: Option<String>,
    /// Take a release whose time is over, or whose key's is.
    pub allow_expired: bool,
    /// Where the host's `etc/apt` is.
    pub root: PathBuf,
}

impl Default for PackageOptions {
    fn default() -> Self {
        Self {
            mirror: None,
            allow_expired: false,
            root: PathBuf::from("/"),
        }
    }
}

/// A release that packages were chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleasePin {
    /// As the source has it.
    pub(crate) suite: String,
    pub(crate) codename: String,
    pub(crate) date: String,
    pub(crate) digest: Digest,
    /// Of the key that signed it.
    pub(crate) key: String,
}

impl ReleasePin {
    /// Seconds since 1970.
    pub(crate) fn made(&self) -> Option<u64> {
        airtight_image::date::seconds(&self.date)
    }
}

/// A package that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    /// Of the source that has it.
    pub(crate) suite: String,
    /// Below the mirror's address.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    /// The layer that it goes into, by its place in the build file.
    pub(crate) layer: usize,
}

impl Pinned {
    fn blob(&self) -> Descriptor {
        Descriptor::new(
            "application/vnd.debian.binary-package",
            self.digest.clone(),
            self.size,
        )
    }
}

/// Chooses the packages of all layers from what the mirrors have now; what `base` has is there already.
///
/// # Errors
/// A mirror that cannot be read or believed, or a choice that cannot be made.
pub(crate) fn resolve(
    spec: &BuildSpec,
    context: &Path,
    architecture: &str,
    base: &[Candidate],
    store: &Store,
    options: &PackageOptions,
) -> Result<(Vec<ReleasePin>, Vec<Pinned>), Stopped> {
    let mirrors = Mirrors::open(spec, context, options)?;
    let mut index = Index::default();
    let mut releases = Vec::new();
    for (number, source) in mirrors.sources.iter().enumerate() {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        releases.push(mirrors.read(source, number, architecture, store, &mut index)?);
    }
    index.finish();
    let (roots, keys): (Vec<Relation>, Vec<String>) = requests(spec)
        .map(|(_, key, relation)| (relation.clone(), key))
        .unzip();
    let answer = solve::solve(&index, base, architecture, &roots, &spec.debian.without).map_err(
        |unsolved| {
            let key = keys.get(unsolved.root).map_or("layer", String::as_str);
            Problem::new(key, unsolved.problem, unsolved.fix)
        },
    )?;
    let layers = layers(spec, &answer);
    let mut pinned: Vec<Pinned> = answer
        .chosen
        .iter()
        .zip(layers)
        .map(|(chosen, layer)| {
            let candidate = chosen.candidate;
            let source = mirrors.sources.get(usize::from(candidate.source));
            Pinned {
                name: candidate.name.to_string(),
                version: candidate.version.to_string(),
                architecture: if candidate.is_all {
                    "all"
                } else {
                    architecture
                }
                .to_owned(),
                suite: source.map_or_else(String::new, |source| source.suite.clone()),
                path: candidate.path.to_string(),
                size: candidate.size,
                digest: candidate.digest(),
                layer,
            }
        })
        .collect();
    pinned.sort_by(|left, right| (left.layer, &left.name).cmp(&(right.layer, &right.name)));
    Ok((releases, pinned))
}

/// Every request of the build file: its layer, its key, what is asked for.
pub(crate) fn requests(spec: &BuildSpec) -> impl Iterator<Item = (usize, String, &Relation)> {
    spec.layers.iter().enumerate().flat_map(|(layer, asked)| {
        let key = move |at| format!("layer[{layer}].packages[{at}]");
        let requests = asked.packages.iter().enumerate();
        requests.map(move |(at, relation)| (layer, key(at), relation))
    })
}

/// Each package goes into the first layer that needs it.
fn layers(spec: &BuildSpec, answer: &Answer<'_>) -> Vec<usize> {
    let mut layers = vec![None; answer.chosen.len()];
    for ((layer, _, _), root) in requests(spec).zip(&answer.roots) {
        let mut waiting: Vec<usize> = root.iter().copied().collect();
        while let Some(at) = waiting.pop() {
            let Some(slot @ None) = layers.get_mut(at) else {
                continue;
            };
            *slot = Some(layer);
            let needs = answer.chosen.get(at).map(|chosen| chosen.needs.as_slice());
            waiting.extend(needs.unwrap_or_default());
        }
    }
    layers.into_iter().map(Option::unwrap_or_default).collect()
}

/// Brings chosen packages into the store and unpacks them; what is there already is not asked for.
///
/// # Errors
/// A package that cannot be had or is not what was chosen, or that cannot be done without its scripts.
pub(crate) fn obtain(
    spec: &BuildSpec,
    context: &Path,
    pinned: &[Pinned],
    store: &Store,
    options: &PackageOptions,
) -> Result<Vec<PackageLayer>, Stopped> {
    fetch(spec, context, pinned, store, options)?;
    let mut layers: Vec<PackageLayer> = (0..spec.layers.len())
        .map(|layer| PackageLayer {
            key: format!("layer[{layer}].packages").into(),
            packages: Vec::new(),
        })
        .collect();
    for pin in pinned {
        let Some(layer) = layers.get_mut(pin.layer) else {
            let problem = format!("{} is pinned for a layer that is not there", pin.name);
            return Err(Problem::new("layer", problem, "airtight update").into());
        };
        let package = package(pin, &layer.key, &spec.debian, store)?;
        layer.packages.push(package);
    }
    Ok(layers)
}

/// Whether what was obtained answers the build file, on top of what `base` has.
///
/// # Errors
/// What the list of packages does that no answer would.
pub(crate) fn answers(
    spec: &BuildSpec,
    architecture: &str,
    layers: &[PackageLayer],
    base: &[Candidate],
) -> Result<(), String> {
    let asked: Vec<(String, &Relation)> = requests(spec)
        .map(|(_, key, relation)| (key, relation))
        .collect();
    let packages = layers.iter().flat_map(|layer| &layer.packages);
    let pinned: Vec<Candidate> = packages
        .filter_map(|package| Candidate::there(&package.unpacked.stanza, architecture).transpose())
        .collect::<Result<_, _>>()?;
    bound(&asked, architecture, &spec.debian.without, &pinned, base)
}

fn fetch(
    spec: &BuildSpec,
    context: &Path,
    pinned: &[Pinned],
    store: &Store,
    options: &PackageOptions,
) -> Result<(), Stopped> {
    let missing: Vec<&Pinned> = pinned
        .iter()
        .filter(|pin| !store.has_whole(&pin.blob()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(large) = missing.iter().find(|pin| pin.size > MAX_PACKAGE) {
        let problem = format!(
            "{} is said to be {} bytes; at most {MAX_PACKAGE} are taken",
            large.name, large.size
        );
        return Err(Problem::new("layer", problem, "use another package").into());
    }
    let mirrors = Mirrors::open(spec, context, options)?;
    let suites: BTreeSet<&str> = missing.iter().map(|pin| pin.suite.as_str()).collect();
    for suite in suites {
        let wanted: Vec<Wanted> = missing
            .iter()
            .filter(|pin| pin.suite == suite)
            .map(|pin| Wanted {
                path: pin.path.clone(),
                blob: pin.blob(),
            })
            .collect();
        let mut failed = None;
        let from = mirrors
            .sources
            .iter()
            .filter(|source| source.suite == suite);
        let mut tried = false;
        for source in from {
            tried = true;
            failed = mirrors
                .mirror(source)?
                .fetch_all(&wanted, store)
                .map_err(|error| {
                    Problem::new(
                        "debian.mirror",
                        error.to_string(),
                        "see that the mirror is whole, or name another with --mirror",
                    )
                })
                .err();
            if failed.is_none() {
                break;
            }
        }
        if let Some(problem) = failed {
            return Err(problem.into());
        }
        if !tried {
            let problem =
                format!("no source of this host has the suite `{suite}`, which is needed");
            return Err(Problem::new(
                "debian.suite",
                problem,
                "name a mirror that has it: --mirror ADDRESS",
            )
            .into());
        }
    }
    Ok(())
}

fn package(
    pin: &Pinned,
    key: &Arc<str>,
    debian: &Debian,
    store: &Store,
) -> Result<Package, Stopped> {
    let bad = |problem: String, fix: String| {
        let problem = format!("{} {} {problem}", pin.name, pin.version);
        Stopped::Problem(Problem::new(key.as_ref(), problem, fix))
    };
    let unpacked = deb::unpacked(store, &pin.blob()).map_err(|failed| match failed {
        Failed::Package(problem) => {
            bad(problem, "use another package, or another mirror".to_owned())
        }
        Failed::Store(error) => error.into(),
    })?;
    let (name, version) = (
        unpacked.stanza.text("Package"),
        unpacked.stanza.text("Version"),
    );
    if (name, version) != (&pin.name, &pin.version) {
        let problem = format!("says of itself that it is {name} {version}");
        return Err(bad(
            problem,
            "name another mirror: this one's index is wrong".to_owned(),
        ));
    }
    let architecture = unpacked.stanza.text("Architecture");
    if architecture != pin.architecture {
        let problem = format!(
            "says of itself that it is for {architecture}, and its index that it is for {}",
            pin.architecture
        );
        return Err(bad(
            problem,
            "name another mirror: this one's index is wrong".to_owned(),
        ));
    }
    let version = Version::parse(version).map_err(|why| {
        bad(
            format!("has a version that {why}"),
            "name another mirror".to_owned(),
        )
    })?;
    let acts = if debian.ignored_scripts.contains(&pin.name) {
        Vec::new()
    } else {
        let scripts = (unpacked.control("preinst"), unpacked.control("postinst"));
        scripts::judge(&pin.name, scripts.0, scripts.1).map_err(|problem| {
            let fix = format!(
                "no script is run; if the app does without what it does: [debian] scripts = {{ \"{}\" = \"ignore\" }}",
                pin.name
            );
            bad(problem, fix)
        })?
    };
    Ok(Package {
        name: pin.name.as_str().into(),
        version,
        shown_version: pin.version.as_str().into(),
        unpacked,
        acts,
        key: key.clone(),
    })
}
