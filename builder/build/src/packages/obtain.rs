//! Releases, indices and packages from mirrors into the store. Here is the only look at the clock, the host's apt and the network; what is believed is decided in
//! [`super::release`] and what is taken in [`super::solve`].

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airtight_image::mirror::{Mirror, Wanted};
use airtight_image::registry::Settings;
use airtight_image::{Descriptor, Digest, Store};

use crate::error::Problem;
use crate::spec::BuildSpec;

use super::bound::bound;
use super::compression::Compression;
use super::deb::{self, Failed};
use super::index::{Candidate, Index};
use super::openpgp::{Clock, Keyring, MAX_KEYRING};
use super::relation::Relation;
use super::release::{self, MAX_RELEASE, Release};
use super::scripts;
use super::solve::{self, Answer};
use super::sources::{Host, Source, default_keyrings};
use super::version::Version;
use super::{Debian, Package, PackageLayer, Stopped};

/// Bytes of one index, unpacked; Debian's largest has a twentieth.
const MAX_INDEX: u64 = 1 << 30;
/// Bytes of one package.
const MAX_PACKAGE: u64 = 2 << 30;
const PATIENCE: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const JOBS: usize = 4;

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
        release::seconds(&self.date)
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

/// The sources of a build and what they are read with.
struct Mirrors<'a> {
    debian: &'a Debian,
    context: &'a Path,
    options: &'a PackageOptions,
    host: Host,
    sources: Vec<Source>,
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

impl<'a> Mirrors<'a> {
    fn open(
        spec: &'a BuildSpec,
        context: &'a Path,
        options: &'a PackageOptions,
    ) -> Result<Self, Problem> {
        let host = Host::read(&options.root).map_err(|(path, why)| {
            let problem = format!("{} {why}", path.display());
            Problem::new(
                "debian.mirror",
                problem,
                "mend it, or name a mirror with --mirror ADDRESS",
            )
        })?;
        let mut mirrors = Self {
            debian: &spec.debian,
            context,
            options,
            host,
            sources: Vec::new(),
        };
        mirrors.sources = mirrors.choose()?;
        Ok(mirrors)
    }

    /// The one mirror that was named, or those of the host's apt that have the suite or what belongs to it: `SUITE-updates`, `SUITE-security`.
    fn choose(&self) -> Result<Vec<Source>, Problem> {
        let debian = self.debian;
        let suite = debian.suite.as_ref().or(self.host.codename.as_ref());
        let suite = suite.ok_or_else(|| {
            let problem = "is not said, and this host's /etc/os-release has no VERSION_CODENAME";
            Problem::new("debian.suite", problem, "name it, like `bookworm`")
        })?;
        let belongs = |source: &&Source| {
            source.suite == *suite
                || source
                    .suite
                    .strip_prefix(suite.as_str())
                    .is_some_and(|rest| rest.starts_with(['-', '/']))
        };
        let mut of_host: Vec<Source> = self.host.sources.iter().filter(belongs).cloned().collect();
        let named = self.options.mirror.as_ref().or(debian.mirror.as_ref());
        let Some(address) = named else {
            if of_host.is_empty() {
                let problem = format!("this host's apt has no source with the suite `{suite}`");
                return Err(Problem::new(
                    "debian.suite",
                    problem,
                    "name a suite that it has, or a mirror: --mirror ADDRESS",
                ));
            }
            for source in &mut of_host {
                if !debian.components.is_empty() {
                    source.components.clone_from(&debian.components);
                }
            }
            return Ok(of_host);
        };
        let components = match debian.components.as_slice() {
            [] => vec!["main".to_owned()],
            named => named.to_vec(),
        };
        // What signs the suite here signs it there too.
        let same = of_host.into_iter().find(|source| source.suite == *suite);
        let (keyrings, key) =
            same.map_or_else(Default::default, |source| (source.keyrings, source.key));
        Ok(vec![Source {
            address: address.trim_end_matches('/').to_owned(),
            suite: suite.clone(),
            components,
            keyrings,
            key,
        }])
    }

    fn mirror(&self, source: &Source) -> Result<Mirror, Problem> {
        let settings = Settings {
            cert_dir: None,
            authfile: None,
            insecure: Vec::new(),
            patience: PATIENCE,
            retries: RETRIES,
            jobs: JOBS,
            env: |name| std::env::var_os(name),
        };
        let proxy = if source.address.starts_with("https:") {
            &self.host.https_proxy
        } else {
            &self.host.http_proxy
        };
        Mirror::open(&source.address, &settings, proxy.as_deref())
            .map_err(|error| mirror_problem(&error))
    }

    /// The release of a source, and its packages into the index.
    fn read(
        &self,
        source: &Source,
        number: u16,
        architecture: &str,
        store: &Store,
        index: &mut Index,
    ) -> Result<ReleasePin, Problem> {
        let mirror = self.mirror(source)?;
        let path = format!("dists/{}/InRelease", source.suite);
        let bad = |path: &str, problem: &str, fix: &str| {
            Problem::new(
                "debian.mirror",
                format!("{path} of {mirror} {problem}"),
                fix,
            )
        };
        let bytes = mirror
            .document(&path, MAX_RELEASE)
            .map_err(|error| mirror_problem(&error))?
            .ok_or_else(|| bad(&path, "is not there", "correct the mirror or the suite"))?;
        let keyring = self.keyring(source)?;
        let clock = Clock {
            now: now(),
            allow_expired: self.options.allow_expired,
        };
        let release = Release::read(&bytes, &keyring, &source.suite, clock)
            .map_err(|(problem, fix)| bad(&path, &problem, fix))?;
        if !release.is_for(architecture) {
            let problem = format!("has nothing for {architecture}");
            return Err(bad(&path, &problem, "name another mirror"));
        }
        let mut architectures = vec![architecture];
        if !release.all_in_each {
            architectures.push("all");
        }
        for component in &source.components {
            for of in &architectures {
                let stem = format!("{component}/binary-{of}/Packages");
                // The index for all architectures may be missing where everything is for one.
                let Some(found) = find(&release, &stem) else {
                    if *of == "all" {
                        continue;
                    }
                    let problem = format!("has no component `{component}` for {of}");
                    return Err(bad(
                        &path,
                        &problem,
                        "correct `components`, or name another mirror",
                    ));
                };
                let reader = self.index(&mirror, source, &release, &found, store)?;
                index
                    .read(reader, architecture, number)
                    .map_err(|problem| {
                        bad(
                            &found.path,
                            &problem,
                            "name another mirror: this one's index is broken",
                        )
                    })?;
            }
        }
        Ok(ReleasePin {
            suite: source.suite.clone(),
            codename: release.codename,
            date: release.date,
            digest: release.digest,
            key: release.key,
        })
    }

    fn index(
        &self,
        mirror: &Mirror,
        source: &Source,
        release: &Release,
        found: &FoundIndex,
        store: &Store,
    ) -> Result<impl std::io::BufRead + use<>, Problem> {
        let blob = Descriptor::new("text/plain", found.digest.clone(), found.size);
        let directory = format!("dists/{}", source.suite);
        let plain = format!("{directory}/{}", found.path);
        let mut paths = vec![plain];
        if release.by_hash
            && let Some((component, _)) = found.path.rsplit_once('/')
        {
            paths.insert(
                0,
                format!(
                    "{directory}/{component}/by-hash/SHA256/{}",
                    found.digest.hex()
                ),
            );
        }
        let mut done = Ok(false);
        for path in paths {
            let wanted = Wanted {
                path,
                blob: blob.clone(),
            };
            done = mirror.fetch(&wanted, store);
            if done.is_ok() {
                break;
            }
        }
        done.map_err(|error| mirror_problem(&error))?;
        let stored = store
            .open_blob(&blob)
            .map_err(|error| mirror_problem(&error))?;
        let unpacked = found
            .compression
            .reader(stored, found.most)
            .map_err(|error| {
                let problem = format!("{} of {mirror} cannot be unpacked: {error}", found.path);
                Problem::new("debian.mirror", problem, "name another mirror")
            })?;
        Ok(BufReader::with_capacity(256 << 10, unpacked))
    }

    /// The build file's keyring, or the source's, or what the host trusts for any.
    fn keyring(&self, source: &Source) -> Result<Keyring, Problem> {
        let mut keyring = Keyring::default();
        let mut paths = match &self.debian.keyring {
            Some(path) => vec![self.context.join(path)],
            None => source.keyrings.clone(),
        };
        if self.debian.keyring.is_none()
            && let Some(key) = &source.key
        {
            let own = Keyring::read(key.as_bytes()).map_err(|why| {
                let problem = format!(
                    "the key that stands in the source of {} {why}",
                    source.address
                );
                Problem::new("debian.keyring", problem, "name another with `keyring`")
            })?;
            keyring.join(own);
            return Ok(keyring);
        }
        let all = paths.is_empty();
        if all {
            paths = default_keyrings(&self.options.root).map_err(|(path, why)| {
                let problem = format!("{} {why}", path.display());
                Problem::new("debian.keyring", problem, "name one with `keyring`")
            })?;
        }
        let mut last = None;
        for path in &paths {
            match read_keyring(path) {
                Ok(own) => keyring.join(own),
                // One of those that the host trusts may be of another time; one that was named may not.
                Err(problem) if all => last = Some(problem),
                Err(problem) => return Err(problem),
            }
        }
        if keyring.is_empty() {
            return Err(last.unwrap_or_else(|| {
                let problem = "is not said, and this host has none that apt trusts";
                Problem::new(
                    "debian.keyring",
                    problem,
                    "name the file of keys that the mirror is signed with",
                )
            }));
        }
        Ok(keyring)
    }
}

fn read_keyring(path: &Path) -> Result<Keyring, Problem> {
    use std::io::Read as _;
    let bad = |problem: String| {
        let problem = format!("{} {problem}", path.display());
        Problem::new(
            "debian.keyring",
            problem,
            "name a file of OpenPGP keys, as `gpg --export` writes it",
        )
    };
    let mut bytes = Vec::new();
    let most = MAX_KEYRING as u64;
    std::fs::File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| bad(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_KEYRING {
        return Err(bad(format!("is larger than {MAX_KEYRING} bytes")));
    }
    Keyring::read(&bytes).map_err(|why| bad(why.to_owned()))
}

/// An index file that the release lists.
struct FoundIndex {
    path: String,
    compression: Compression,
    size: u64,
    digest: Digest,
    /// Bytes that it may unpack to.
    most: u64,
}

fn find(release: &Release, stem: &str) -> Option<FoundIndex> {
    let most = release
        .file(stem)
        .map_or(MAX_INDEX, |(size, _)| (*size).min(MAX_INDEX));
    [
        (".xz", Compression::Xz),
        (".gz", Compression::Gzip),
        ("", Compression::None),
    ]
    .into_iter()
    .find_map(|(end, compression)| {
        let path = format!("{stem}{end}");
        let (size, digest) = release.file(&path)?.clone();
        (size <= MAX_INDEX).then_some(FoundIndex {
            path,
            compression,
            size,
            digest,
            most,
        })
    })
}

fn mirror_problem(error: &airtight_image::Error) -> Problem {
    Problem::new(
        "debian.mirror",
        error.to_string(),
        "see that the mirror can be reached and is whole, or name another with --mirror",
    )
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs())
}
