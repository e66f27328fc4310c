//! Why one file is in an image, as a chain that ends at the build file; of a directory, why what lies in it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airtight_image::{DiffId, Digest, Image, Store};
use serde::Serialize;

use super::contents::{Contents, File, FileKind, Want};
use super::dpkg::{Owners, needed_by, packages};
use super::reasons::{Reasons, sentence};
use super::{ExplainError, Kept, kept};
use crate::ledger::{Because, ReasonKind, plain, shown};

/// Steps of a chain; a program that is itself a library of another ends it before.
const MAX_STEPS: usize = 16;
/// Of those that need a library which nobody explains.
const MAX_USERS: usize = 100;

/// Which layer of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerName {
    /// From 0, the lowest.
    pub index: usize,
    pub count: usize,
    /// As the build file calls it, if it is known.
    pub name: Option<String>,
    pub digest: Digest,
    pub diff_id: DiffId,
}

/// One step of the chain, nearest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Of the image; what this step is about.
    pub path: String,
    pub says: String,
    /// `key` is of the base's build file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inherited: bool,
    #[serde(flatten)]
    pub because: Because,
}

/// Files of a directory that are there for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub reason: String,
    pub files: u64,
    /// Of all of them.
    pub bytes: u64,
}

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Of the manifest.
    pub image: Digest,
    /// Where it lies, links on the way followed.
    pub path: String,
    /// `directory`, `file` or `symlink`.
    pub kind: &'static str,
    pub layer: LayerName,
    /// Bytes.
    pub size: u64,
    /// Four octal digits.
    pub mode: String,
    pub uid: u64,
    pub gid: u64,
    /// Of a link, as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether the builder of the image kept why its files are there. Without it there is no chain.
    pub explained: bool,
    pub chain: Vec<Step>,
    /// By dpkg's lists in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Programs and libraries of the image that ask for it by name; only where there is no chain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed_by: Vec<String>,
    /// Of a directory: what lies below it, most bytes first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Part>,
    /// What stood in the way and did not stop it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Why `path` is in an image. It may be written as [`Why::path`] is.
///
/// # Errors
/// A path that is none or not there; an image that is damaged.
pub fn why(store: &Store, image: &Image, path: &str) -> Result<Why, ExplainError> {
    let wrong = |problem| ExplainError::Path {
        path: path.to_owned(),
        problem,
    };
    let asked = plain(path).ok_or_else(|| wrong("has a backslash that escapes nothing"))?;
    if !asked.is_absolute() {
        return Err(wrong("is not absolute"));
    }
    let Kept { ledger, warning } = kept(store, image);
    let reasons = Reasons::of(ledger.as_ref(), image);
    // Where nobody explains, programs are asked.
    let want = Want {
        programs: ledger.is_none(),
        ..Want::default()
    };
    let contents = Contents::read(store, image, want)?;
    let absent = || ExplainError::Absent {
        path: shown(&asked),
        fix: nearest(&contents, &asked),
    };
    let place = contents.resolve(&asked, false).ok_or_else(absent)?;
    let (file, place) = match contents.files.get(&place) {
        Some(file) => (file.clone(), place),
        None if place == Path::new("/") => (root(), place),
        None => return Err(absent()),
    };
    let chain = chain(&reasons, &contents, &place, &file);
    let (mut package, mut users) = (None, Vec::new());
    if chain.is_empty() {
        let versions = packages(&contents);
        package = Owners::of(&contents)
            .of_file(&place)
            .map(|name| match versions.get(name) {
                Some(version) => format!("{name} {version}"),
                None => name.to_owned(),
            });
        users = needed_by(&contents, &place);
        users.truncate(MAX_USERS);
    }
    let (kind, target) = file.said();
    let holds = if kind == "directory" {
        holds(&reasons, &contents, &place)
    } else {
        Vec::new()
    };
    Ok(Why {
        image: image.digest.clone(),
        path: shown(&place),
        kind,
        layer: layer_name(image, &reasons, file.layer)?,
        size: file.size,
        mode: format!("{:04o}", file.mode),
        uid: file.uid,
        gid: file.gid,
        target,
        explained: ledger.is_some(),
        chain,
        package,
        needed_by: users,
        holds,
        warnings: warning.into_iter().collect(),
    })
}

/// The root is in no layer by itself.
fn root() -> File {
    File {
        layer: 0,
        kind: FileKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        capability: false,
        digest: None,
        program: None,
        secrets: Vec::new(),
        text: None,
    }
}

fn layer_name(
    image: &Image,
    reasons: &Reasons<'_>,
    index: usize,
) -> Result<LayerName, ExplainError> {
    let layers = image.layers();
    let Some((blob, diff)) = layers.get(index) else {
        return Err(ExplainError::Path {
            path: image.digest.to_string(),
            problem: "has no layer",
        });
    };
    Ok(LayerName {
        index,
        count: layers.len(),
        name: reasons.layer_name(index).map(str::to_owned),
        digest: blob.digest().clone(),
        diff_id: diff.clone(),
    })
}

/// What is there, of the longest part of a path that is: where to look.
fn nearest(contents: &Contents, path: &Path) -> String {
    let there = path
        .ancestors()
        .skip(1)
        .find_map(|above| contents.resolve(above, true));
    match there {
        Some(there) if there != Path::new("/") => {
            format!("see what is there: airtight why IMAGE {}", shown(&there))
        }
        Some(_) | None => "see what is there: airtight why IMAGE /".to_owned(),
    }
}

fn chain(reasons: &Reasons<'_>, contents: &Contents, path: &Path, file: &File) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut at = Some((path.to_path_buf(), file.layer));
    while let Some((path, layer)) = at.take() {
        let Some(because) = reasons.reason(layer, &path) else {
            break;
        };
        let text = shown(&path);
        if steps.len() == MAX_STEPS || steps.iter().any(|step| step.path == text) {
            break;
        }
        let mut says = sentence(because, &path);
        // Whose need it is, or what lies in it, is asked next.
        let next = match because.kind {
            ReasonKind::Needed | ReasonKind::Linked => because
                .by
                .iter()
                .flatten()
                .next_back()
                .and_then(|program| plain(program)),
            ReasonKind::Interpreter => because.program.as_deref().and_then(plain),
            ReasonKind::LeadsTo => {
                let held = contents.below(&path).find(|(held, file)| {
                    let reason = reasons.reason(file.layer, held);
                    file.layer == layer
                        && reason.is_some_and(|reason| reason.kind != ReasonKind::LeadsTo)
                });
                if let Some((held, _)) = held {
                    says = format!("the way to {}", shown(held));
                }
                held.map(|(held, _)| held.clone())
            }
            ReasonKind::Declared | ReasonKind::Package | ReasonKind::Generated => None,
        };
        steps.push(Step {
            path: text,
            says,
            inherited: reasons.inherited(layer),
            because: because.clone(),
        });
        at = next.and_then(|next| {
            let place = contents.resolve(&next, false)?;
            let layer = contents.files.get(&place)?.layer;
            Some((place, layer))
        });
    }
    steps
}

fn holds(reasons: &Reasons<'_>, contents: &Contents, directory: &Path) -> Vec<Part> {
    let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let files: Vec<(&PathBuf, &File)> = contents
        .below(directory)
        .filter(|(_, file)| file.kind != FileKind::Directory)
        .collect();
    for (path, file) in files {
        let (count, bytes) = groups.entry(reasons.group(path, file)).or_default();
        *count += 1;
        *bytes += file.size;
    }
    let mut parts: Vec<Part> = groups
        .into_iter()
        .map(|(reason, (files, bytes))| Part {
            reason,
            files,
            bytes,
        })
        .collect();
    parts.sort_by(|one, other| {
        other
            .bytes
            .cmp(&one.bytes)
            .then_with(|| one.reason.cmp(&other.reason))
    });
    parts
}
