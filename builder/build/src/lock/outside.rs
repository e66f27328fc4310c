//! What a build takes from outside, by the lock where there is one: the base and the packages.

use std::path::Path;

use airtight_image::{Digest, Image, ImageRef, Platform, Store};

use super::change::{LockChanges, changes};
use super::{ANEW, Lock, LockMode, PinnedBase, PinnedPackages, asked, lock_problem};
use crate::build::BuildRequest;
use crate::error::{BuildError, Problem};
use crate::packages::{self, Candidate, PackageLayer};
use crate::spec::{Base, BuildSpec};

/// In one message.
const MAX_NAMED: usize = 5;

/// All that is not in the build file's directory or on the host.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) base: Option<Image>,
    /// Of each layer; none where no layer has any.
    pub(crate) packages: Vec<PackageLayer>,
}

/// Brings it into the store, by the lock where that answers the build file, and writes the lock where it did not.
pub(crate) fn outside(
    spec: &BuildSpec,
    context: &Path,
    request: &BuildRequest,
    store: &Store,
) -> Result<Outside, BuildError> {
    let in_file = |problem: Problem| BuildError::from(problem.in_file(&request.file));
    let path = Lock::path(&request.file);
    let old = match request.lock {
        LockMode::Keep | LockMode::Locked if Lock::is_wanted(spec) => {
            Lock::read(&path, spec).map_err(in_file)?
        }
        LockMode::Keep | LockMode::Locked | LockMode::Update | LockMode::Off => None,
    };
    if request.lock == LockMode::Locked {
        check_locked(spec, request, &path, old.as_ref()).map_err(in_file)?;
    }
    let old = old.unwrap_or_default();
    let base = base(
        spec,
        &request.file,
        context,
        &old,
        &request.platform(),
        store,
    )?;
    let mut lock = Lock {
        base: base
            .as_ref()
            .and_then(|image| pin(spec, image, request, old.base.as_ref())),
        packages: old.packages.clone(),
    };
    let packages = if has_packages(spec) {
        let asking = Asking::above(base.as_ref(), spec, context, request, store)?;
        let (pinned, layers) = asking.packages(&old, &path)?;
        let architecture = request.platform().architecture().to_owned();
        lock.packages.insert(architecture, pinned);
        // What was chosen for another question is no answer to this one.
        let now = asked(spec);
        lock.packages.retain(|_, packages| packages.asked == now);
        layers
    } else {
        lock.packages.clear();
        Vec::new()
    };
    let writes = matches!(request.lock, LockMode::Keep | LockMode::Update);
    if writes && Lock::is_wanted(spec) && lock != old {
        lock.write(&path, spec).map_err(in_file)?;
    }
    Ok(Outside { base, packages })
}

/// Makes the lock anew and builds nothing; what is pinned otherwise than before.
pub(crate) fn update(
    spec: &BuildSpec,
    context: &Path,
    request: &BuildRequest,
    store: &Store,
) -> Result<LockChanges, BuildError> {
    let in_file = |problem: Problem| BuildError::from(problem.in_file(&request.file));
    let path = Lock::path(&request.file);
    // A lock that cannot be read is replaced: that is what is asked for.
    let old = Lock::read(&path, spec)
        .unwrap_or_default()
        .unwrap_or_default();
    if !Lock::is_wanted(spec) {
        return Ok(Vec::new());
    }
    let none = Lock::default();
    let base = base(
        spec,
        &request.file,
        context,
        &none,
        &request.platform(),
        store,
    )?;
    let mut lock = Lock {
        base: base
            .as_ref()
            .and_then(|image| pin(spec, image, request, None)),
        ..Lock::default()
    };
    if has_packages(spec) {
        let asking = Asking::above(base.as_ref(), spec, context, request, store)?;
        let pinned = asking.choose(&none)?;
        let architecture = request.platform().architecture().to_owned();
        let before = old.packages.get(&architecture);
        not_older(before, &pinned, request).map_err(in_file)?;
        lock.packages.insert(architecture, pinned);
    }
    lock.write(&path, spec).map_err(in_file)?;
    Ok(changes(&old, &lock))
}

fn has_packages(spec: &BuildSpec) -> bool {
    spec.layers.iter().any(|layer| !layer.packages.is_empty())
}

fn check_locked(
    spec: &BuildSpec,
    request: &BuildRequest,
    path: &Path,
    lock: Option<&Lock>,
) -> Result<(), Problem> {
    if !Lock::is_wanted(spec) {
        return Ok(());
    }
    let bad = |problem: &str| Err(lock_problem(path, problem, ANEW));
    let Some(lock) = lock else {
        return bad("is not there, and --locked takes nothing that is not pinned");
    };
    let named = reference(spec);
    if named.as_ref() != lock.base.as_ref().map(|base| &base.reference) {
        return bad("pins another base than the build file names");
    }
    let platform = request.platform();
    if let Some(PinnedBase { digests, .. }) = &lock.base
        && !digests.contains_key(&platform.to_string())
    {
        let pinned: Vec<&str> = digests.keys().map(String::as_str).collect();
        let problem = format!(
            "pins the base for {}, and the build is for {platform}",
            pinned.join(", ")
        );
        let fix = format!("pin it too: airtight build --platform {platform}");
        return Err(lock_problem(path, problem, &fix));
    }
    let architecture = platform.architecture();
    if has_packages(spec) && lock.packages_for(spec, architecture).is_none() {
        let missing = not_named(spec, lock, architecture);
        let problem =
            format!("has no answer to what the build file asks for on {architecture}{missing}");
        return bad(&problem);
    }
    Ok(())
}

/// What the lock pins nothing of that name for, as the end of a sentence.
fn not_named(spec: &BuildSpec, lock: &Lock, architecture: &str) -> String {
    let Some(pinned) = lock.packages.get(architecture) else {
        return String::new();
    };
    let has = |name: &str| pinned.pinned.iter().any(|pin| pin.name == name);
    let missing = packages::requests(spec)
        .filter(|(_, _, relation)| !has(&relation.name))
        .map(|(_, key, relation)| format!("{relation} ({key})"));
    let missing: Vec<String> = missing.take(MAX_NAMED).collect();
    if missing.is_empty() {
        return String::new();
    }
    format!(": it pins no {}", missing.join(", no "))
}

/// The packages that a base has.
fn in_base(
    spec: &BuildSpec,
    base: Option<&Image>,
    request: &BuildRequest,
    store: &Store,
) -> Result<Vec<Candidate>, BuildError> {
    let Some(image) = base.filter(|_| has_packages(spec)) else {
        return Ok(Vec::new());
    };
    let trees = store.unpacked(image)?;
    packages::installed(trees, request.platform().architecture())
        .map_err(|problem| problem.in_file(&request.file).into())
}

/// What a choice of packages is made for.
struct Asking<'a> {
    spec: &'a BuildSpec,
    context: &'a Path,
    request: &'a BuildRequest,
    store: &'a Store,
    /// By the base.
    installed: Vec<Candidate>,
}

impl<'a> Asking<'a> {
    fn above(
        base: Option<&Image>,
        spec: &'a BuildSpec,
        context: &'a Path,
        request: &'a BuildRequest,
        store: &'a Store,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            spec,
            context,
            request,
            store,
            installed: in_base(spec, base, request, store)?,
        })
    }

    /// Those that the lock pins, if they answer what is asked for; else a choice of now.
    fn packages(
        &self,
        old: &Lock,
        path: &Path,
    ) -> Result<(PinnedPackages, Vec<PackageLayer>), BuildError> {
        let file = &self.request.file;
        let platform = self.request.platform();
        let architecture = platform.architecture();
        if let Some(pinned) = old.packages_for(self.spec, architecture) {
            let layers = self.obtain(pinned)?;
            let answered = packages::answers(self.spec, architecture, &layers, &self.installed);
            match answered {
                Ok(()) => return Ok((pinned.clone(), layers)),
                Err(problem) if self.request.lock == LockMode::Locked => {
                    return Err(lock_problem(path, problem, ANEW).in_file(file).into());
                }
                // Made anew, as one that answers another question.
                Err(_) => {}
            }
        }
        let pinned = self.choose(old)?;
        let layers = self.obtain(&pinned)?;
        Ok((pinned, layers))
    }

    fn obtain(&self, pinned: &PinnedPackages) -> Result<Vec<PackageLayer>, BuildError> {
        packages::obtain(
            self.spec,
            self.context,
            &pinned.pinned,
            self.store,
            &self.request.packages,
        )
        .map_err(|stopped| stopped.in_file(&self.request.file))
    }

    fn choose(&self, old: &Lock) -> Result<PinnedPackages, BuildError> {
        let platform = self.request.platform();
        let architecture = platform.architecture();
        let (releases, pinned) = packages::resolve(
            self.spec,
            self.context,
            architecture,
            &self.installed,
            self.store,
            &self.request.packages,
        )
        .map_err(|stopped| stopped.in_file(&self.request.file))?;
        let pinned = PinnedPackages {
            asked: asked(self.spec),
            releases,
            pinned,
        };
        not_older(old.packages.get(architecture), &pinned, self.request)
            .map_err(|problem| problem.in_file(&self.request.file))?;
        Ok(pinned)
    }
}

/// An old release is signed as well as a new one: whoever stands before a mirror could bring back what was mended since. As apt has it, time goes one way.
fn not_older(
    before: Option<&PinnedPackages>,
    now: &PinnedPackages,
    request: &BuildRequest,
) -> Result<(), Problem> {
    let newest = |of: &PinnedPackages, suite: &str| -> Option<(u64, String)> {
        let releases = of.releases.iter().filter(|release| release.suite == suite);
        releases
            .filter_map(|release| Some((release.made()?, release.date.clone())))
            .max()
    };
    let suites = before.iter().flat_map(|before| &before.releases);
    for suite in suites.map(|release| release.suite.as_str()) {
        let was = before.and_then(|before| newest(before, suite));
        if let Some(((was, from), (is, to))) = was.zip(newest(now, suite))
            && is < was
            && !request.packages.allow_expired
        {
            let problem = format!("has the release `{suite}` of {to}; the lock is of {from}");
            let fix = "name a mirror that is up to date; for an archive that is meant to be old: --allow-expired-release";
            return Err(Problem::new("debian.mirror", problem, fix));
        }
    }
    Ok(())
}

/// `oci:PATH[:TAG]`, as the build file has it.
fn reference(spec: &BuildSpec) -> Option<String> {
    let Base::Layout { path, tag } = &spec.base else {
        return None;
    };
    let tag = tag.as_ref().map(|tag| format!(":{tag}"));
    Some(format!("oci:{}{}", path.display(), tag.unwrap_or_default()))
}

/// Beside what is pinned of that base for other platforms.
fn pin(
    spec: &BuildSpec,
    image: &Image,
    request: &BuildRequest,
    old: Option<&PinnedBase>,
) -> Option<PinnedBase> {
    let reference = reference(spec)?;
    let mut digests = old
        .filter(|old| old.reference == reference)
        .map(|old| old.digests.clone())
        .unwrap_or_default();
    digests.insert(request.platform().to_string(), image.digest.clone());
    Some(PinnedBase { reference, digests })
}

/// The pinned manifest from the store; else what the layout has now, which must be the pinned one if there is any.
fn base(
    spec: &BuildSpec,
    file: &Path,
    context: &Path,
    lock: &Lock,
    platform: &Platform,
    store: &Store,
) -> Result<Option<Image>, BuildError> {
    let Base::Layout { path, tag } = &spec.base else {
        return Ok(None);
    };
    let named = reference(spec);
    let pinned = lock
        .base
        .as_ref()
        .filter(|base| Some(&base.reference) == named.as_ref())
        .and_then(|base| base.digests.get(&platform.to_string()));
    let layout = ImageRef::Layout {
        path: context.join(path),
        tag: tag.clone(),
    };
    // By its own word for that platform, whatever the lock says it is for.
    let there = |digest: &Digest| {
        let image = ImageRef::Digest(digest.clone());
        store.image(&store.resolve_for(&image, Some(platform))?)
    };
    let image = match pinned.map(there) {
        Some(Ok(image)) => image,
        Some(Err(_)) | None => {
            let found = store
                .resolve_for(&layout, Some(platform))
                .map_err(|error| match error {
                    // Not there, or not to be read; what is wrong inside an image is told with its place there.
                    airtight_image::Error::Io { path, error } => Problem::new(
                        "base",
                        format!("{}: {error}", path.display()),
                        "name an OCI layout that is there; a relative path starts at the build file's directory",
                    )
                    .in_file(file)
                    .into(),
                    other => BuildError::from(other),
                })?;
            if let Some(pinned) = pinned.filter(|pinned| **pinned != found) {
                return Err(BuildError::BaseMoved {
                    base: named.unwrap_or_default(),
                    pinned: pinned.clone(),
                    found,
                });
            }
            store.image(&found)?
        }
    };
    Ok(Some(image))
}
