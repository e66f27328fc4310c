//! `copy`: sources of this host become entries. What an immutable layer cannot hold is refused by name.

use std::fs::{DirEntry, File, FileType, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::entries::{Content, EntryKind, Origin};
use crate::error::Problem;
use crate::path::ImagePath;
use crate::source::{Root, Roots};
use crate::spec::{Copy, CopyFrom};
use crate::tree::Tree;

/// Adds what one `copy` names.
pub(crate) fn copy(asked: &Copy, key: &str, roots: &Roots, tree: &mut Tree) -> Result<(), Problem> {
    let from_key = format!("{key}.from");
    let Located {
        root,
        way,
        named,
        metadata,
    } = locate(&asked.from, &from_key, roots)?;
    let shown = match &asked.from {
        CopyFrom::Host(path) | CopyFrom::Context(path) => path,
    };
    let mut walk = Walk {
        key: key.into(),
        asked,
        root,
        tree,
    };
    if metadata.is_dir() {
        return walk.directory(&way, &named, shown);
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
    let found = Found {
        way,
        named,
        shown,
        metadata: &metadata,
        held: Path::new(""),
    };
    walk.entry(found, &to).map(|_| ())
}

/// Where a source lies, and what it was when it was looked at.
struct Located<'a> {
    root: &'a Root,
    /// Below `root`, without links.
    way: PathBuf,
    /// On this host, for messages and the linker's rules.
    named: PathBuf,
    metadata: Metadata,
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
    let metadata = root
        .look(way)
        .and_then(|file| file.metadata())
        .map_err(|err| unreadable(key, shown, &err))?;
    Ok(Located {
        root,
        way: way.to_path_buf(),
        named: named.unwrap_or(real),
        metadata,
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

/// One thing on this host that becomes an entry.
struct Found<'a> {
    /// Below the root.
    way: PathBuf,
    named: PathBuf,
    shown: &'a Path,
    metadata: &'a Metadata,
    /// Its name in the directory that is held open: there it is read if it is a link.
    held: &'a Path,
}

impl Walk<'_> {
    /// Adds the contents of the directory at `way`. The order of `readdir` does not show: entries are sorted by where they go.
    fn directory(&mut self, way: &Path, named: &Path, shown: &Path) -> Result<(), Problem> {
        let origin = self.origin(shown);
        self.tree
            .add(&self.asked.to, EntryKind::Directory, &origin)?;
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let failed = |err| unreadable(&format!("{}.from", self.key), &shown.join(&below), &err);
            let held = self.root.look(&way.join(&below)).map_err(failed)?;
            let mut found = read_dir(&held).map_err(failed)?;
            found.sort_by_cached_key(DirEntry::file_name);
            for entry in found {
                let below = below.join(entry.file_name());
                if self
                    .asked
                    .exclude
                    .iter()
                    .any(|pattern| pattern.matches(&below))
                {
                    continue;
                }
                let shown = shown.join(&below);
                // Of the name itself, in the directory that is held open.
                let metadata = entry
                    .metadata()
                    .map_err(|err| self.unreadable(&shown, &err))?;
                let to = below
                    .iter()
                    .fold(self.asked.to.clone(), |to, name| to.child(name));
                let found = Found {
                    way: way.join(&below),
                    named: named.join(&below),
                    shown: &shown,
                    metadata: &metadata,
                    held: &entry.path(),
                };
                if self.entry(found, &to)? {
                    waiting.push(below);
                }
            }
        }
        Ok(())
    }

    /// Adds one entry; true for a directory.
    fn entry(&mut self, found: Found<'_>, to: &ImagePath) -> Result<bool, Problem> {
        let Found {
            way,
            named,
            shown,
            metadata,
            held,
        } = found;
        let kind = metadata.file_type();
        let kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            EntryKind::Symlink(
                held.read_link()
                    .map_err(|err| self.unreadable(shown, &err))?,
            )
        } else if kind.is_file() {
            EntryKind::File {
                content: Content::Host(self.root.source(way, named, metadata)),
                length: metadata.len(),
                executable: metadata.permissions().mode() & 0o111 != 0,
            }
        } else {
            let problem = format!(
                "`{}` is {}, which a layer of an app cannot hold",
                shown.display(),
                describe(kind)
            );
            return Err(Problem::new(
                self.source_key(),
                problem,
                "remove it, or name it in `exclude`",
            ));
        };
        let is_directory = kind == EntryKind::Directory;
        let origin = self.origin(shown);
        self.tree.add(to, kind, &origin)?;
        Ok(is_directory)
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

/// By the descriptor, so that it is this directory that is read, whatever its name means by now.
fn read_dir(held: &File) -> io::Result<Vec<DirEntry>> {
    Path::new("/proc/self/fd")
        .join(held.as_raw_fd().to_string())
        .read_dir()?
        .collect()
}

fn describe(kind: FileType) -> &'static str {
    match () {
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_block_device() => "a block device",
        () if kind.is_char_device() => "a character device",
        () => "of an unknown type",
    }
}
