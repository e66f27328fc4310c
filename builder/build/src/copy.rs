//! `copy`: sources of this host become entries. What an immutable layer cannot hold is refused by name.

use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::entries::{Content, EntryKind, Origin};
use crate::error::Problem;
use crate::path::ImagePath;
use crate::spec::{Copy, CopyFrom};
use crate::tree::Tree;

/// Entries of one tree; far above any real one, below what would fill the memory.
const MAX_ENTRIES: usize = 2_000_000;

/// Adds what one `copy` names. `context` is the build file's directory.
pub(crate) fn copy(
    asked: &Copy,
    key: &str,
    context: &Path,
    tree: &mut Tree,
) -> Result<(), Problem> {
    let from_key = format!("{key}.from");
    let source = locate(&asked.from, &from_key, context)?;
    let metadata = source
        .metadata()
        .map_err(|err| unreadable(&from_key, &source, &err))?;
    let shown = match &asked.from {
        CopyFrom::Host(path) | CopyFrom::Context(path) => path,
    };
    let mut walk = Walk {
        key: key.into(),
        asked,
        tree,
        entries: 0,
    };
    if metadata.is_dir() {
        return walk.directory(&source, shown);
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
    walk.entry(&source, shown, &metadata, &to).map(|_| ())
}

/// The named source itself is followed if it is a link (what it holds is meant), but a relative one not out of the context.
fn locate(from: &CopyFrom, key: &str, context: &Path) -> Result<PathBuf, Problem> {
    let path = match from {
        CopyFrom::Host(path) => return Ok(path.clone()),
        CopyFrom::Context(path) => path,
    };
    let context = context
        .canonicalize()
        .map_err(|err| unreadable(key, context, &err))?;
    let source = context.join(path);
    let real = source
        .canonicalize()
        .map_err(|err| unreadable(key, path, &err))?;
    if !real.starts_with(&context) {
        let problem = format!(
            "`{}` is a link out of the build file's directory, to {}",
            path.display(),
            real.display()
        );
        return Err(Problem::new(
            key,
            problem,
            "copy what it leads to into the directory, or name the host path in full",
        ));
    }
    Ok(real)
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
    tree: &'a mut Tree,
    entries: usize,
}

impl Walk<'_> {
    /// Adds the contents of `root`. The order of `readdir` does not show: entries are sorted by where they go.
    fn directory(&mut self, root: &Path, shown: &Path) -> Result<(), Problem> {
        let origin = self.origin(shown);
        self.tree
            .add(&self.asked.to, EntryKind::Directory, &origin)?;
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let directory = root.join(&below);
            let read = directory
                .read_dir()
                .map_err(|err| self.unreadable(&shown.join(&below), &err))?;
            let mut names = read
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|err| self.unreadable(&shown.join(&below), &err))?;
            names.sort();
            for name in names {
                let below = below.join(&name);
                if self
                    .asked
                    .exclude
                    .iter()
                    .any(|pattern| pattern.matches(&below))
                {
                    continue;
                }
                let (source, shown) = (root.join(&below), shown.join(&below));
                let metadata = source
                    .symlink_metadata()
                    .map_err(|err| self.unreadable(&shown, &err))?;
                let to = below
                    .iter()
                    .fold(self.asked.to.clone(), |to, name| to.child(name));
                if self.entry(&source, &shown, &metadata, &to)? {
                    waiting.push(below);
                }
            }
        }
        Ok(())
    }

    /// Adds one entry; true for a directory.
    fn entry(
        &mut self,
        source: &Path,
        shown: &Path,
        metadata: &Metadata,
        to: &ImagePath,
    ) -> Result<bool, Problem> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            let problem = format!("holds more than {MAX_ENTRIES} entries");
            return Err(Problem::new(
                self.source_key(),
                problem,
                "name a smaller tree, or `exclude` some of it",
            ));
        }
        if to
            .name()
            .is_some_and(|name| name.as_bytes().starts_with(b".wh."))
        {
            let problem = format!(
                "`{}` would be a whiteout in a layer, which deletes",
                shown.display()
            );
            return Err(Problem::new(
                self.source_key(),
                problem,
                "rename it, or `exclude` it",
            ));
        }
        let kind = metadata.file_type();
        let kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            EntryKind::Symlink(
                source
                    .read_link()
                    .map_err(|err| self.unreadable(shown, &err))?,
            )
        } else if kind.is_file() {
            EntryKind::File {
                content: Content::Host(source.to_path_buf()),
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
        Origin {
            key: self.key.clone(),
            source: shown.display().to_string(),
        }
    }

    fn source_key(&self) -> String {
        format!("{}.from", self.key)
    }

    fn unreadable(&self, path: &Path, err: &io::Error) -> Problem {
        unreadable(&self.source_key(), path, err)
    }
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
