//! The sources of a build: which mirrors are asked, and what of their releases and indices is taken. Here is the only look at the clock and the host's apt; what is
//! believed is decided in [`super::release`].

use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airtight_image::mirror::{Mirror, Wanted};
use airtight_image::registry::Settings;
use airtight_image::{Descriptor, Digest, Store};

use crate::error::Problem;
use crate::spec::BuildSpec;

use super::Debian;
use super::compression::Compression;
use super::index::Index;
use super::obtain::{PackageOptions, ReleasePin};
use super::openpgp::{Clock, Keyring, MAX_KEYRING};
use super::release::{MAX_RELEASE, Release};
use super::sources::{Host, Source, default_keyrings};

/// Bytes of one index, unpacked; Debian's largest has a twentieth.
const MAX_INDEX: u64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const JOBS: usize = 4;

/// The sources of a build and what they are read with.
pub(super) struct Mirrors<'a> {
    debian: &'a Debian,
    context: &'a Path,
    options: &'a PackageOptions,
    host: Host,
    pub(super) sources: Vec<Source>,
}

impl<'a> Mirrors<'a> {
    pub(super) fn open(
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

    pub(super) fn mirror(&self, source: &Source) -> Result<Mirror, Problem> {
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
    pub(super) fn read(
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
