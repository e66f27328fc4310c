//! Unpacked packages become entries of a layer: their files by slices, what their scripts would have left behind, and the records that scanners read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::entries::{Content, EntryKind};
use crate::error::Problem;
use crate::origin::{Origin, Reason};
use crate::path::ImagePath;
use crate::source::Source;
use crate::tree::{Node, Tree};

use super::relation;
use super::scripts::{Act, Alternative};
use super::slices::{Part, Slices};
use super::{Package, PackageLayer};

/// Directories that Debian has had below `/usr` since release 12, with links where they were. Packages still name some files by the old way.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Bytes of one certificate file.
const MAX_CERTIFICATE: u64 = 1 << 20;

/// Adds a layer's packages.
pub(crate) fn place(layer: &PackageLayer, slices: &Slices, tree: &mut Tree) -> Result<(), Problem> {
    if layer.packages.is_empty() {
        return Ok(());
    }
    merge_usr(&layer.key, tree)?;
    let mut found: BTreeMap<PathBuf, Vec<Found<'_>>> = BTreeMap::new();
    for package in &layer.packages {
        for file in walk(package, slices)? {
            found.entry(canonical(&file.path)).or_default().push(file);
        }
    }
    let mut listed: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for claims in found.into_values() {
        for claim in winners(claims) {
            if !matches!(claim.kind, EntryKind::Directory) {
                listed
                    .entry(&claim.package.name)
                    .or_default()
                    .push(claim.path.clone());
            }
            let path = image_path(&claim.path, claim.package)?;
            tree.add(
                &path,
                claim.kind,
                &origin(&layer.key, claim.package, claim.slice),
            )?;
        }
    }
    for package in &layer.packages {
        let files = listed.remove(&*package.name).unwrap_or_default();
        record(package, &files, &layer.key, tree)?;
    }
    act(layer, tree)
}

/// One entry that a package would have.
struct Found<'a> {
    package: &'a Package,
    /// Relative to the root, as the package names it.
    path: PathBuf,
    kind: EntryKind,
    slice: Option<&'static str>,
}

fn merge_usr(key: &Arc<str>, tree: &mut Tree) -> Result<(), Problem> {
    for name in MERGED {
        let path = ImagePath::root().child(name.as_ref());
        if !matches!(tree.walk(path.as_path()), Ok((_, Node::Absent))) {
            continue;
        }
        let target = Path::new("usr").join(name);
        let reason = Origin::generated(key, "merged-usr", None);
        let directory = ImagePath::root().child("usr".as_ref()).child(name.as_ref());
        tree.add(&directory, EntryKind::Directory, &reason)?;
        tree.add(&path, EntryKind::Symlink(target), &reason)?;
    }
    Ok(())
}

/// The same file is the same whichever of its two ways names it.
fn canonical(path: &Path) -> PathBuf {
    let moved = MERGED
        .iter()
        .any(|name| path.starts_with(name) && path.iter().count() > 1);
    if moved {
        Path::new("usr").join(path)
    } else {
        path.to_owned()
    }
}

fn walk<'a>(package: &'a Package, slices: &Slices) -> Result<Vec<Found<'a>>, Problem> {
    let root = &package.unpacked.files;
    let failed = |path: &Path, error: &io::Error| {
        package.problem(
            format!("`{}` cannot be read: {error}", path.display()),
            "build again; if it stays, remove the store's `packages` directory",
        )
    };
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let at = root.join(&directory);
        let entries = fs::read_dir(&at)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| failed(&at, &error))?;
        for entry in entries {
            let path = directory.join(entry.file_name());
            let at = root.join(&path);
            let metadata = at.symlink_metadata().map_err(|error| failed(&at, &error))?;
            let kind = metadata.file_type();
            let part = slices.part(&path, kind.is_symlink());
            if kind.is_dir() {
                waiting.push(path.clone());
            }
            let Part::Taken(slice) = part else { continue };
            let kind = if kind.is_dir() {
                EntryKind::Directory
            } else if kind.is_symlink() {
                let target = at.read_link().map_err(|error| failed(&at, &error))?;
                check_target(package, &path, &target)?;
                EntryKind::Symlink(target)
            } else if kind.is_file() {
                let executable =
                    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
                EntryKind::File {
                    length: metadata.len(),
                    content: Content::Host(Source::of_host(at, &metadata)),
                    executable,
                }
            } else {
                return Err(package.problem(
                    format!(
                        "has `{}`, which is neither file, directory nor link",
                        path.display()
                    ),
                    "leave it out with `exclude`, or use another package",
                ));
            };
            found.push(Found {
                package,
                path,
                kind,
                slice,
            });
        }
    }
    Ok(found)
}

/// A link may lead to what another package brings, but not out of the root, where the kernel would stop it and another reader might not.
fn check_target(package: &Package, path: &Path, target: &Path) -> Result<(), Problem> {
    let mut depth = if target.is_absolute() {
        0
    } else {
        path.iter().count() as i64 - 1
    };
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        if depth < 0 {
            return Err(package.problem(
                format!(
                    "has the link `{}` to `{}`, which climbs out of the image",
                    path.display(),
                    target.display()
                ),
                "leave it out with `exclude`, or use another package",
            ));
        }
    }
    Ok(())
}

/// Of several packages that have one path, those that none of the others says to replace. Two that are left are held against each other when they are added.
fn winners(mut claims: Vec<Found<'_>>) -> Vec<Found<'_>> {
    if claims.len() < 2 {
        return claims;
    }
    let packages: Vec<&Package> = claims.iter().map(|claim| claim.package).collect();
    claims.retain(|claim| {
        matches!(claim.kind, EntryKind::Directory)
            || !packages.iter().any(|other| replaces(other, claim.package))
    });
    claims
}

fn replaces(package: &Package, other: &Package) -> bool {
    let field = package.unpacked.stanza.text("Replaces");
    let relations = relation::parse(field).unwrap_or_default();
    package.name != other.name
        && relations
            .iter()
            .flat_map(|any| &any.0)
            .any(|relation| relation.name == *other.name && relation.takes(&other.version))
}

fn origin(key: &Arc<str>, package: &Package, slice: Option<&str>) -> Origin {
    Origin {
        key: key.clone(),
        reason: Reason::Package {
            package: package.name.clone(),
            version: package.shown_version.clone(),
            slice: slice.map(Into::into),
        },
    }
}

fn image_path(path: &Path, package: &Package) -> Result<ImagePath, Problem> {
    ImagePath::parse(Path::new("/").join(path)).map_err(|why| {
        package.problem(
            format!("has `{}`, which {why}", path.display()),
            "use another package",
        )
    })
}

fn text(content: String) -> EntryKind {
    EntryKind::File {
        length: content.len() as u64,
        content: Content::Generated(content.into_bytes().into()),
        executable: false,
    }
}

/// What dpkg would know of a package, one file for each, as scanners read it in images without dpkg: its control file, and the digests of those of its files that are here.
fn record(
    package: &Package,
    files: &[PathBuf],
    key: &Arc<str>,
    tree: &mut Tree,
) -> Result<(), Problem> {
    let origin = origin(key, package, Some("status"));
    let mut add = |name: String, content: String| {
        let path = ImagePath::parse(format!("/var/lib/dpkg/status.d/{name}"))
            .map_err(|why| package.problem(format!("has a name that {why}"), "use another"))?;
        let place = tree.add(&path, text(content), &origin)?;
        if place == path {
            return Ok(());
        }
        // A package that makes a link of the directory would hide what it is from those who look there.
        let problem =
            format!("would have its record at {place}, where no scanner looks: {path} leads there");
        Err(package.problem(
            problem,
            "use another package, or leave out the link with [debian] exclude",
        ))
    };
    let control = package.unpacked.text.trim_end();
    add(
        package.name.to_string(),
        format!("{control}\nStatus: install ok installed\n"),
    )?;
    let Some(sums) = package.unpacked.control("md5sums") else {
        return Ok(());
    };
    let here: std::collections::HashSet<&Path> = files.iter().map(PathBuf::as_path).collect();
    let kept: Vec<&str> = sums
        .lines()
        .filter(|line| {
            let path = line.split_once(' ').map(|(_, path)| path.trim_start());
            path.is_some_and(|path| here.contains(Path::new(path)))
        })
        .collect();
    add(
        format!("{}.md5sums", package.name),
        kept.iter().flat_map(|line| [*line, "\n"]).collect(),
    )
}

/// Does what scripts would have done.
fn act(layer: &PackageLayer, tree: &mut Tree) -> Result<(), Problem> {
    let mut alternatives: BTreeMap<&str, (&Package, &Alternative)> = BTreeMap::new();
    for package in &layer.packages {
        for act in &package.acts {
            match act {
                Act::Default { from, to } => default(package, from, to, &layer.key, tree)?,
                Act::CaBundle => ca_bundle(package, &layer.key, tree)?,
                Act::Alternative(alternative) => {
                    let Some(first) = alternative.links.first() else {
                        continue;
                    };
                    let best = alternatives
                        .entry(&first.name)
                        .or_insert((package, alternative));
                    if alternative.priority > best.1.priority {
                        *best = (package, alternative);
                    }
                }
            }
        }
    }
    for (package, alternative) in alternatives.into_values() {
        let origin = origin(&layer.key, package, Some("alternatives"));
        for link in &alternative.links {
            // What a slice left out needs no link.
            if !matches!(tree.walk(Path::new(&link.path)), Ok((_, Node::File { .. }))) {
                continue;
            }
            let through = PathBuf::from("/etc/alternatives").join(&link.name);
            for (at, target) in [
                (PathBuf::from(&link.link), through.clone()),
                (through, PathBuf::from(&link.path)),
            ] {
                let at = image_path(at.strip_prefix("/").unwrap_or(&at), package)?;
                tree.add(&at, EntryKind::Symlink(target), &origin)?;
            }
        }
    }
    Ok(())
}

fn default(
    package: &Package,
    from: &str,
    to: &str,
    key: &Arc<str>,
    tree: &mut Tree,
) -> Result<(), Problem> {
    let there = Path::new(from).strip_prefix("/").unwrap_or(Path::new(from));
    let source = package.unpacked.files.join(there);
    let Ok(metadata) = source.symlink_metadata() else {
        return Ok(());
    };
    let taken = !matches!(tree.walk(Path::new(to)), Ok((_, Node::Absent)));
    if taken || !metadata.is_file() {
        return Ok(());
    }
    let kind = EntryKind::File {
        length: metadata.len(),
        content: Content::Host(Source::of_host(source, &metadata)),
        executable: false,
    };
    let to = image_path(to.trim_start_matches('/').as_ref(), package)?;
    tree.add(&to, kind, &origin(key, package, Some("script")))
        .map(drop)
}

/// As `update-ca-certificates` makes it: the certificates in the order of their names.
fn ca_bundle(package: &Package, key: &Arc<str>, tree: &mut Tree) -> Result<(), Problem> {
    let root = package.unpacked.files.join("usr/share/ca-certificates");
    let failed = |error: io::Error| {
        package.problem(
            format!("has certificates that cannot be read: {error}"),
            "build again; if it stays, remove the store's `packages` directory",
        )
    };
    let mut files = Vec::new();
    let mut waiting = vec![root];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            let is_certificate = entry.path().extension().is_some_and(|end| end == "crt");
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.is_file() && is_certificate && metadata.len() <= MAX_CERTIFICATE {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut bundle = String::new();
    for file in files {
        bundle.push_str(fs::read_to_string(&file).map_err(failed)?.trim_end());
        bundle.push('\n');
    }
    let origin = Origin::generated(key, "ca-certificates", None);
    let at = |path: &str| image_path(path.trim_start_matches('/').as_ref(), package);
    tree.add(&at(CA_BUNDLE)?, text(bundle), &origin)?;
    // Where OpenSSL looks.
    let link = EntryKind::Symlink(CA_BUNDLE.into());
    tree.add(&at("/usr/lib/ssl/cert.pem")?, link, &origin)
        .map(drop)
}
