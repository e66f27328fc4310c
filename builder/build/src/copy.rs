//! `copy`: sources of this host become entries. What an immutable layer cannot hold is refused by name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airtight_image::Identity;
use airtight_image::source::{ItemKind, ListError};

use crate::entries::{Content, EntryKind, Origin};
use crate::error::Problem;
use crate::path::ImagePath;
use crate::scan::{Listing, scan};
use crate::source::{Root, Roots, Source};
use crate::spec::{Copy, CopyFrom};
use crate::tree::Tree;

/// What one `copy` names, as it was when it was looked at.
pub(crate) struct Looked {
    pub(crate) root: Root,
    /// Below `root`, without links.
    pub(crate) way: PathBuf,
    /// On this host, for messages and the linker's rules.
    named: PathBuf,
    pub(crate) kind: ItemKind,
    /// Of a directory, all that lies in it.
    pub(crate) listings: Vec<Listing>,
}

/// Looks at what one `copy` names; no file is opened.
pub(crate) fn look(asked: &Copy, key: &str, roots: &Roots) -> Result<Looked, Problem> {
    let Located {
        root,
        way,
        named,
        kind,
    } = locate(&asked.from, &format!("{key}.from"), roots)?;
    let listings = match kind {
        ItemKind::Directory => scan(root, &way, &asked.exclude),
        ItemKind::File(_) | ItemKind::Symlink(_) | ItemKind::Other(_) => Vec::new(),
    };
    Ok(Looked {
        root: root.clone(),
        way,
        named,
        kind,
        listings,
    })
}

/// Adds what one `copy` names.
pub(crate) fn copy(
    asked: &Copy,
    key: &str,
    looked: Looked,
    tree: &mut Tree,
) -> Result<(), Problem> {
    let Looked {
        root,
        way,
        named,
        kind,
        listings,
    } = looked;
    let shown = match &asked.from {
        CopyFrom::Host(path) | CopyFrom::Context(path) => path,
    };
    let mut walk = Walk {
        key: key.into(),
        asked,
        root: &root,
        tree,
    };
    if kind == ItemKind::Directory {
        return walk.directory(&way, &named, shown, listings);
    }
    if !asked.exclude.is_empty() {
        let problem = format!("is for trees, and `{}` is a single file", shown.display());
        return Err(Problem::new(
            format!("{key}.exclude"),
            problem,
            "take `exclude` out",
        ));
    }
    let to = match shown.file_name() {
        Some(name) if asked.into => asked.to.child(name),
        _ => asked.to.clone(),
    };
    let source = |identity| root.source(way, named, identity);
    let origin = walk.origin(shown);
    walk.entry(kind, source, origin, to)
}

/// Where a source lies, and what it was when it was looked at.
struct Located<'a> {
    root: &'a Root,
    /// Below `root`, without links.
    way: PathBuf,
    /// On this host, for messages and the linker's rules.
    named: PathBuf,
    kind: ItemKind,
}

/// The named source itself is followed if it is a link (what it holds is meant), but a relative one not out of the context. From
/// here on no link is followed, and what was named is looked at through a descriptor: what lies there now is what was checked.
fn locate<'a>(from: &CopyFrom, key: &str, roots: &'a Roots) -> Result<Located<'a>, Problem> {
    let real = |path: &Path, shown: &Path| {
        path.canonicalize()
            .map_err(|err| unreadable(key, shown, &err))
    };
    let (root, shown, real, named) = match from {
        CopyFrom::Host(path) => (&roots.host, path, real(path, path)?, Some(path.clone())),
        CopyFrom::Context(path) => {
            let real = real(&roots.context.path().join(path), path)?;
            (&roots.context, path, real, None)
        }
    };
    let Some(way) = root.way(&real) else {
        let problem = format!(
            "`{}` is a link out of the build file's directory, to {}",
            shown.display(),
            real.display()
        );
        return Err(Problem::new(
            key,
            problem,
            "copy what it leads to into the directory, or name the host path in full",
        ));
    };
    let kind = root.kind(way).map_err(|err| unreadable(key, shown, &err))?;
    Ok(Located {
        root,
        way: way.to_path_buf(),
        named: named.unwrap_or(real),
        kind,
    })
}

fn unreadable(key: &str, path: &Path, err: &io::Error) -> Problem {
    if err.kind() == io::ErrorKind::NotFound {
        let fix = "build or install it first, or correct the path; a relative one starts at the build file's directory";
        return Problem::new(key, format!("`{}` does not exist", path.display()), fix);
    }
    let problem = format!("`{}` cannot be read: {err}", path.display());
    Problem::new(key, problem, "make it readable for the user who builds")
}

struct Walk<'a> {
    key: Arc<str>,
    asked: &'a Copy,
    root: &'a Root,
    tree: &'a mut Tree,
}

impl Walk<'_> {
    /// Adds the contents of the directory at `way`, each directory's right after it: in the order in which a layer has its entries. The order of `readdir` does not
    /// show.
    fn directory(
        &mut self,
        way: &Path,
        named: &Path,
        shown: &Path,
        listings: Vec<Listing>,
    ) -> Result<(), Problem> {
        let origin = self.origin(shown);
        self.tree
            .add(&self.asked.to, EntryKind::Directory, &origin)?;
        let mut listings = listings.into_iter();
        // Directories that are being added, each in the one before it.
        let mut open = Vec::new();
        let mut text = String::new();
        let mut next = listings.next();
        loop {
            if let Some(Listing { below, items, .. }) = next.take() {
                let shown = join(shown, &below);
                let items = items.map_err(|ListError { name, error }| {
                    let named = name.map_or_else(|| shown.clone(), |name| shown.join(name));
                    self.unreadable(&named, &error)
                })?;
                let place = below
                    .iter()
                    .fold(self.asked.to.clone(), |to, name| to.child(name));
                let beneath = self.root.beneath(join(way, &below), join(named, &below));
                let shown = shown.to_string_lossy().into_owned();
                open.push((beneath, shown, place, items, 0));
            }
            let Some((beneath, shown, to, items, at)) = open.last_mut() else {
                return Ok(());
            };
            let Some((name, kind)) = items.get(*at) else {
                open.pop();
                continue;
            };
            *at += 1;
            text.clear();
            text.push_str(shown);
            if !shown.is_empty() && !shown.ends_with('/') {
                text.push('/');
            }
            text.push_str(&name.to_string_lossy());
            let (origin, to) = (Origin::declared_as(&self.key, &text), to.child(name));
            if *kind == ItemKind::Directory {
                // They were sorted so: what lies in it is the next.
                next = listings.next();
            }
            let source = |identity| beneath.source(name.to_owned(), identity);
            self.entry(kind.clone(), source, origin, to)?;
        }
    }

    fn entry(
        &mut self,
        kind: ItemKind,
        source: impl FnOnce(Identity) -> Source,
        origin: Origin,
        to: ImagePath,
    ) -> Result<(), Problem> {
        let kind = match kind {
            ItemKind::Directory => EntryKind::Directory,
            ItemKind::Symlink(target) => EntryKind::Symlink(target),
            ItemKind::File(identity) => EntryKind::File {
                length: identity.length,
                executable: identity.mode & 0o111 != 0,
                content: Content::Host(source(identity)),
            },
            ItemKind::Other(what) => {
                let problem = format!(
                    "`{}` is {what}, which a layer of an app cannot hold",
                    origin.source()
                );
                return Err(Problem::new(
                    self.source_key(),
                    problem,
                    "remove it, or name it in `exclude`",
                ));
            }
        };
        self.tree.lay(to, kind, origin)
    }

    fn origin(&self, shown: &Path) -> Origin {
        Origin::declared(&self.key, shown)
    }

    fn source_key(&self) -> String {
        format!("{}.from", self.key)
    }

    fn unreadable(&self, path: &Path, err: &io::Error) -> Problem {
        unreadable(&self.source_key(), path, err)
    }
}

/// Without a slash at its end where `below` is empty.
fn join(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        return path.to_path_buf();
    }
    path.join(below)
}
