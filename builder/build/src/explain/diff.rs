//! How two images differ: files, configuration, profile, packages, sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use airtight_image::{Digest, Image, Store};
use serde::Serialize;
use serde_json::Value;

use super::contents::{Contents, File, Want};
use super::dpkg::packages;
use super::reasons::Reasons;
use super::{ExplainError, kept};
use crate::ledger::shown;

/// The profile that an image asks for.
const PROFILE: &str = "dev.airtight.profile.v1";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

/// A file as one of the two images has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileState {
    /// `directory`, `file` or `symlink`.
    pub kind: &'static str,
    /// Bytes.
    pub size: u64,
    /// Four octal digits.
    pub mode: String,
    pub uid: u64,
    pub gid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    pub path: String,
    pub change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<FileState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<FileState>,
}

/// Changes of files that are there for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub reason: String,
    /// Bytes more, or fewer if negative.
    pub grew: i64,
    pub files: Vec<FileChange>,
}

/// Of the configuration, of annotations, of the profile: what is at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// `config.Env.LANG`, `annotations.NAME`, `profile.limits.memory`.
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Bytes and layers of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Of the layers' blobs.
    pub before: u64,
    pub after: u64,
    /// Of all files.
    pub files_before: u64,
    pub files_after: u64,
    pub layers_before: usize,
    pub layers_after: usize,
    /// Blobs that both have.
    pub layers_shared: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Of the manifests.
    pub before: Digest,
    pub after: Digest,
    pub sizes: Sizes,
    pub config: Vec<ConfigChange>,
    pub profile: Vec<ConfigChange>,
    pub packages: Vec<PackageChange>,
    /// By reason, most bytes first.
    pub files: Vec<Group>,
    /// What stood in the way and did not stop it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Diff {
    /// Nothing that a user of the image could see differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.config.is_empty()
            && self.profile.is_empty()
            && self.packages.is_empty()
            && self.files.is_empty()
    }
}

/// Compares two images of the store, file by file.
///
/// # Errors
/// An image that is damaged.
pub fn diff(store: &Store, before: &Image, after: &Image) -> Result<Diff, ExplainError> {
    let want = Want {
        digests: true,
        ..Want::default()
    };
    let (old, new) = (
        Contents::read(store, before, want)?,
        Contents::read(store, after, want)?,
    );
    let (old_kept, new_kept) = (kept(store, before), kept(store, after));
    let (old_reasons, new_reasons) = (
        Reasons::of(old_kept.ledger.as_ref(), before),
        Reasons::of(new_kept.ledger.as_ref(), after),
    );
    let mut warnings: Vec<String> = [&old_kept, &new_kept]
        .into_iter()
        .filter_map(|kept| kept.warning.clone())
        .collect();
    // An image beside itself has one.
    warnings.dedup();
    Ok(Diff {
        before: before.digest.clone(),
        after: after.digest.clone(),
        sizes: sizes(before, after, &old, &new),
        config: config(before, after),
        profile: profile(before, after),
        packages: package_changes(&old, &new),
        files: groups((&old, &old_reasons), (&new, &new_reasons)),
        warnings,
    })
}

fn sizes(before: &Image, after: &Image, old: &Contents, new: &Contents) -> Sizes {
    let blobs = |image: &Image| image.layers().iter().map(|(blob, _)| blob.size()).sum();
    let files = |contents: &Contents| contents.files.values().map(|file| file.size).sum();
    let has: BTreeSet<&Digest> = before
        .layers()
        .iter()
        .map(|(blob, _)| blob.digest())
        .collect();
    Sizes {
        before: blobs(before),
        after: blobs(after),
        files_before: files(old),
        files_after: files(new),
        layers_before: before.layers().len(),
        layers_after: after.layers().len(),
        layers_shared: after
            .layers()
            .iter()
            .filter(|(blob, _)| has.contains(blob.digest()))
            .count(),
    }
}

fn groups(
    (old, old_reasons): (&Contents, &Reasons<'_>),
    (new, new_reasons): (&Contents, &Reasons<'_>),
) -> Vec<Group> {
    let mut groups: BTreeMap<String, (i64, Vec<FileChange>)> = BTreeMap::new();
    let paths: BTreeSet<&PathBuf> = old.files.keys().chain(new.files.keys()).collect();
    for path in paths {
        let (before, after) = (old.files.get(path), new.files.get(path));
        let change = match (before, after) {
            (Some(before), Some(after)) if state(before) == state(after) => continue,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        let reason = match (before, after) {
            (_, Some(file)) => new_reasons.group(path, file),
            (Some(file), None) => old_reasons.group(path, file),
            (None, None) => continue,
        };
        let size = |file: Option<&File>| {
            i64::try_from(file.map_or(0, |file| file.size)).unwrap_or(i64::MAX)
        };
        let (grew, files) = groups.entry(reason).or_default();
        *grew = grew
            .saturating_add(size(after))
            .saturating_sub(size(before));
        files.push(FileChange {
            path: shown(path),
            change,
            before: before.map(state),
            after: after.map(state),
        });
    }
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|(reason, (grew, files))| Group {
            reason,
            grew,
            files,
        })
        .collect();
    groups.sort_by(|one, other| {
        other
            .grew
            .unsigned_abs()
            .cmp(&one.grew.unsigned_abs())
            .then_with(|| one.reason.cmp(&other.reason))
    });
    groups
}

fn state(file: &File) -> FileState {
    let (kind, target) = file.said();
    // Of a link the kernel keeps no mode.
    let mode = if kind == "symlink" { 0o777 } else { file.mode };
    FileState {
        kind,
        size: file.size,
        mode: format!("{mode:04o}"),
        uid: file.uid,
        gid: file.gid,
        target,
        digest: file.digest.clone(),
    }
}

fn package_changes(old: &Contents, new: &Contents) -> Vec<PackageChange> {
    let (old, new) = (packages(old), packages(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| PackageChange {
            name: name.clone(),
            before: old.get(name).cloned(),
            after: new.get(name).cloned(),
        })
        .collect()
}

/// What a runtime starts the payload by, the platform, and annotations; not times, history and digests.
fn config(before: &Image, after: &Image) -> Vec<ConfigChange> {
    let of = |image: &Image| {
        let mut flat = BTreeMap::new();
        let config = serde_json::to_value(&image.config).unwrap_or_default();
        for key in ["architecture", "config", "os", "variant"] {
            if let Some(value) = config.get(key) {
                flatten(key, value, &mut flat);
            }
        }
        for (name, value) in image
            .manifest
            .annotations()
            .iter()
            .flatten()
            .filter(|(name, _)| *name != PROFILE)
        {
            flat.insert(format!("annotations.{name}"), Value::String(value.clone()));
        }
        flat
    };
    changes(&of(before), &of(after))
}

fn profile(before: &Image, after: &Image) -> Vec<ConfigChange> {
    let of = |image: &Image| {
        let mut flat = BTreeMap::new();
        let text = image
            .manifest
            .annotations()
            .as_ref()
            .and_then(|annotations| annotations.get(PROFILE));
        if let Some(value) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            flatten("profile", &value, &mut flat);
        }
        flat
    };
    changes(&of(before), &of(after))
}

fn changes(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<ConfigChange> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key));
    changed
        .map(|key| ConfigChange {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

/// Tables by their keys, variables by their names; lists stay whole, since their order counts.
fn flatten(key: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                flatten(&format!("{key}.{name}"), value, into);
            }
        }
        Value::Array(items) if key == "config.Env" => {
            for variable in items.iter().filter_map(Value::as_str) {
                let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                into.insert(format!("{key}.{name}"), Value::String(value.to_owned()));
            }
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => {
            into.insert(key.to_owned(), value.clone());
        }
    }
}
