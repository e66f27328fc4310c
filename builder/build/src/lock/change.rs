//! What an update changed.

use std::collections::BTreeMap;
use std::fmt;

use super::Lock;
use crate::packages::Pinned;

/// One thing that is pinned otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockChange {
    /// `base`, `release` or `package`.
    pub kind: &'static str,
    pub name: String,
    /// What was built for: of a package its architecture, of a base the platform.
    pub architecture: Option<String>,
    /// Version, date or digest; `None`: it was not there.
    pub from: Option<String>,
    /// `None`: it is there no more.
    pub to: Option<String>,
}

/// All of them, in the order base, releases, packages.
pub type LockChanges = Vec<LockChange>;

impl fmt::Display for LockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, text) = match (&self.from, &self.to) {
            (None, Some(to)) => ("+", to.clone()),
            (Some(from), None) => ("-", from.clone()),
            (Some(from), Some(to)) => ("~", format!("{from} -> {to}")),
            (None, None) => (" ", String::new()),
        };
        write!(f, "{sign} {:<8} {:<32} {text}", self.kind, self.name)
    }
}

/// From one lock to another.
pub(crate) fn changes(from: &Lock, to: &Lock) -> LockChanges {
    let mut all = Vec::new();
    let digests = |lock: &Lock| {
        lock.base
            .iter()
            .flat_map(|base| base.digests.keys().cloned())
            .collect::<Vec<_>>()
    };
    let platforms: std::collections::BTreeSet<String> =
        digests(from).into_iter().chain(digests(to)).collect();
    for platform in platforms {
        let base = |lock: &Lock| -> BTreeMap<String, String> {
            let pinned = lock.base.iter();
            let pinned = pinned.filter_map(|base| Some((base, base.digests.get(&platform)?)));
            pinned
                .map(|(base, digest)| (base.reference.clone(), digest.to_string()))
                .collect()
        };
        compare("base", Some(&platform), &base(from), &base(to), &mut all);
    }
    let architectures: std::collections::BTreeSet<&String> =
        from.packages.keys().chain(to.packages.keys()).collect();
    for architecture in architectures {
        let releases = |lock: &Lock| -> BTreeMap<String, String> {
            let packages = lock.packages.get(architecture);
            let releases = packages.into_iter().flat_map(|packages| &packages.releases);
            releases
                .map(|release| (release.suite.clone(), release.date.clone()))
                .collect()
        };
        let named = Some(architecture.as_str());
        compare("release", named, &releases(from), &releases(to), &mut all);
    }
    let architectures: std::collections::BTreeSet<&String> =
        from.packages.keys().chain(to.packages.keys()).collect();
    for architecture in architectures {
        let packages = |lock: &Lock| -> BTreeMap<String, String> {
            let packages = lock.packages.get(architecture);
            let pinned = packages.into_iter().flat_map(|packages| &packages.pinned);
            pinned.map(|pin| (pin.name.clone(), shown(pin))).collect()
        };
        let named = Some(architecture.as_str());
        let (before, after) = (packages(from), packages(to));
        compare("package", named, &before, &after, &mut all);
    }
    all
}

/// Two builds of one version differ in the digest alone, which then is what is shown.
fn shown(pin: &Pinned) -> String {
    let digest = pin.digest.hex().get(..12).unwrap_or_default();
    format!("{} ({digest})", pin.version)
}

fn compare(
    kind: &'static str,
    architecture: Option<&str>,
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
    all: &mut LockChanges,
) {
    let names: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for name in names {
        let (before, after) = (from.get(name), to.get(name));
        if before != after {
            all.push(LockChange {
                kind,
                name: name.clone(),
                architecture: architecture.map(str::to_owned),
                from: before.cloned(),
                to: after.cloned(),
            });
        }
    }
}
