//! The plan of a layer: what will lie where, and why. Sorted; every entry knows its origin. Nothing is read here but,
//! where two sources claim one path, the two.

use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Problem;
use crate::path::ImagePath;
use crate::source::Source;

/// One entry of a layer. Owner, times and write bits are not here: they are the same for all.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    /// The target as it is, relative or absolute.
    Symlink(PathBuf),
    File {
        content: Content,
        /// Bytes.
        length: u64,
        /// Some execute bit was set at the source.
        executable: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A regular file of this host.
    Host(Source),
    Generated(Arc<[u8]>),
}

/// Who put an entry there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Of the build file: `layer[0].copy[1]`.
    pub(crate) key: Arc<str>,
    /// What it was made from, or who needed it.
    pub(crate) source: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (`{}`)", self.source, self.key)
    }
}

/// A layer's entries by path; parents come before what lies in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries(BTreeMap<ImagePath, Entry>);

impl Entries {
    pub(crate) fn get(&self, path: &ImagePath) -> Option<&Entry> {
        self.0.get(path)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Entry)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one entry whose directory is already there. The same thing twice is no fault; two things at one path are.
    pub(crate) fn insert(&mut self, path: ImagePath, entry: Entry) -> Result<(), Problem> {
        match self.0.entry(path) {
            Slot::Vacant(slot) => {
                slot.insert(entry);
                Ok(())
            }
            Slot::Occupied(slot) => {
                let (old, path) = (slot.get(), slot.key());
                match same(&old.kind, &entry.kind) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(conflict(path, old, &entry)),
                    Err(err) => Err(Problem::new(
                        entry.origin.key.as_ref(),
                        format!(
                            "{path} has two sources, {} and {}, which cannot be compared: {err}",
                            old.origin, entry.origin
                        ),
                        "make both readable, or take one out",
                    )),
                }
            }
        }
    }
}

fn conflict(path: &ImagePath, old: &Entry, new: &Entry) -> Problem {
    let fix = match (&old.kind, &new.kind) {
        (EntryKind::Directory, _) => {
            format!("end `to` with a slash to copy into {path}, or take one out")
        }
        _ => "take one out, or put it into a later layer, which overrides".to_owned(),
    };
    let problem = format!(
        "{path} has two different sources: {} and {}",
        old.origin, new.origin
    );
    Problem::new(new.origin.key.as_ref(), problem, fix)
}

fn same(old: &EntryKind, new: &EntryKind) -> io::Result<bool> {
    match (old, new) {
        (EntryKind::Directory, EntryKind::Directory) => Ok(true),
        (EntryKind::Symlink(old), EntryKind::Symlink(new)) => Ok(old == new),
        (
            EntryKind::File {
                content: old,
                length: old_length,
                executable: old_executable,
            },
            EntryKind::File {
                content: new,
                length,
                executable,
            },
        ) => Ok(old_executable == executable && old_length == length && same_content(old, new)?),
        (EntryKind::Directory | EntryKind::Symlink(_) | EntryKind::File { .. }, _) => Ok(false),
    }
}

fn same_content(old: &Content, new: &Content) -> io::Result<bool> {
    if old == new {
        return Ok(true);
    }
    let (mut old, mut new) = (open(old)?, open(new)?);
    let (mut left, mut right) = ([0_u8; 8192], [0_u8; 8192]);
    loop {
        let count = old.read(&mut left)?;
        let (left, right) = (&left[..count], &mut right[..count]);
        if let Err(err) = new.read_exact(right) {
            return if err.kind() == io::ErrorKind::UnexpectedEof {
                Ok(false)
            } else {
                Err(err)
            };
        }
        if left != right {
            return Ok(false);
        }
        if count == 0 {
            return Ok(new.read(&mut [0])? == 0);
        }
    }
}

fn open(content: &Content) -> io::Result<Box<dyn Read + '_>> {
    match content {
        Content::Host(source) => Ok(Box::new(BufReader::new(source.open()?.0))),
        Content::Generated(bytes) => Ok(Box::new(bytes.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str, key: &str, executable: bool) -> Entry {
        let content: Arc<[u8]> = content.as_bytes().into();
        let length = content.len() as u64;
        let kind = EntryKind::File {
            content: Content::Generated(content),
            length,
            executable,
        };
        Entry {
            kind,
            origin: Origin {
                key: key.into(),
                source: format!("source of {key}"),
            },
        }
    }

    #[test]
    fn one_path_has_one_content() {
        let other = |kind| Entry {
            kind,
            origin: Origin {
                key: "b".into(),
                source: "source of b".to_owned(),
            },
        };
        for (name, second, want) in [
            ("same bytes", file("x", "b", false), true),
            ("other bytes", file("y", "b", false), false),
            ("longer", file("xx", "b", false), false),
            ("other mode", file("x", "b", true), false),
            ("a link", other(EntryKind::Symlink("x".into())), false),
            ("a directory", other(EntryKind::Directory), false),
        ] {
            let mut entries = Entries::default();
            let path = ImagePath::parse("/etc/x").unwrap();
            entries.insert(path.clone(), file("x", "a", false)).unwrap();
            let got = entries.insert(path, second);
            assert_eq!(got.is_ok(), want, "{name}");
            if let Err(problem) = got {
                assert_eq!(
                    problem.problem,
                    "/etc/x has two different sources: source of a (`a`) and source of b (`b`)",
                    "{name}"
                );
            }
        }
    }
}
