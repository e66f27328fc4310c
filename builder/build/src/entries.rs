//! The plan of a layer: what will lie where, and why. Sorted; every entry knows its origin. Nothing is read here but,
//! where two sources claim one path, the two.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use airtight_image::layer::{Limits, MAX_DEPTH, MAX_PATH, WHITEOUT};

use crate::error::Problem;
pub(crate) use crate::origin::Origin;
use crate::origin::Reason;
use crate::path::ImagePath;
use crate::source::Source;

/// A file system's own.
const MAX_NAME: usize = 255;

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

/// A layer's entries by path; parents come before what lies in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    /// Those that came in their order: nearly all, since a tree is added in it, and then each costs one comparison.
    sorted: Vec<(ImagePath, Entry)>,
    /// The others, each before the last of those.
    late: BTreeMap<ImagePath, Entry>,
    /// Of all files.
    bytes: u64,
}

impl Entries {
    pub(crate) fn get(&self, path: &ImagePath) -> Option<&Entry> {
        match self.find(path) {
            Place::After => None,
            Place::At(at) => self.sorted.get(at).map(|(_, entry)| entry),
            Place::Among => self.late.get(path),
        }
    }

    fn find(&self, path: &ImagePath) -> Place {
        match self.sorted.last() {
            Some((last, _)) if path <= last => {}
            Some(_) | None => return Place::After,
        }
        let at = self.sorted.binary_search_by(|(known, _)| known.cmp(path));
        at.map_or(Place::Among, Place::At)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Entry)> {
        let mut sorted = self
            .sorted
            .iter()
            .map(|(path, entry)| (path, entry))
            .peekable();
        let mut late = self.late.iter().peekable();
        std::iter::from_fn(move || match (sorted.peek(), late.peek()) {
            (Some((one, _)), Some((other, _))) if other < one => late.next(),
            (Some(_), _) => sorted.next(),
            (None, _) => late.next(),
        })
    }

    /// Of all files' contents.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len() + self.late.len()
    }

    /// Adds one entry whose directory is already there. The same thing twice is no fault; two things at one path are.
    pub(crate) fn insert(&mut self, path: ImagePath, entry: Entry) -> Result<(), Problem> {
        let place = self.find(&path);
        let there = match place {
            Place::After => None,
            Place::At(at) => self.sorted.get_mut(at).map(|(_, there)| there),
            Place::Among => self.late.get_mut(&path),
        };
        if let Some(there) = there {
            return again(&path, there, entry);
        }
        let bytes = self.bytes.saturating_add(length(&entry.kind));
        check(&path, &entry, self.len() as u64 + 1, bytes)?;
        self.bytes = bytes;
        if matches!(place, Place::After) {
            self.sorted.push((path, entry));
        } else {
            self.late.insert(path, entry);
        }
        Ok(())
    }
}

/// Where a path is, or would be, among those that came in their order.
enum Place {
    After,
    At(usize),
    Among,
}

/// A second entry at one path.
fn again(path: &ImagePath, there: &mut Entry, entry: Entry) -> Result<(), Problem> {
    match same(&there.kind, &entry.kind) {
        Ok(true) => {
            // A directory that was only on the way is asked for itself by now.
            if matches!(there.origin.reason, Reason::LeadsTo { .. }) {
                there.origin = entry.origin;
            }
            Ok(())
        }
        Ok(false) => Err(conflict(path, there, &entry)),
        Err(err) => Err(Problem::new(
            entry.origin.key.as_ref(),
            format!(
                "{path} has two sources, {} and {}, which cannot be compared: {err}",
                there.origin, entry.origin
            ),
            "make both readable, or take one out",
        )),
    }
}

fn length(kind: &EntryKind) -> u64 {
    match kind {
        EntryKind::File { length, .. } => *length,
        EntryKind::Directory | EntryKind::Symlink(_) => 0,
    }
}

/// What a launch would refuse to unpack is not built, and no name may mean something else in a layer.
fn check(path: &ImagePath, entry: &Entry, entries: u64, bytes: u64) -> Result<(), Problem> {
    let bad = |problem: String, fix: &str| {
        let problem = format!("{} would lie at {path}, {problem}", entry.origin.source());
        Err(Problem::new(entry.origin.key.as_ref(), problem, fix))
    };
    let limits = Limits::default();
    let (mut depth, mut longest, mut deletes) = (0, 0, false);
    let whole = path.relative().as_os_str().as_encoded_bytes();
    for name in whole.split(|byte| *byte == b'/') {
        depth += 1;
        longest = longest.max(name.len());
        deletes |= name.starts_with(WHITEOUT.as_bytes());
    }
    if deletes {
        return bad(
            "which deletes: a layer's names that begin with `.wh.` are whiteouts".to_owned(),
            "rename it, `exclude` it, or choose another place",
        );
    }
    let nearer = "choose a shorter `to`, or `exclude` it";
    if depth > MAX_DEPTH {
        return bad(
            format!("which is more than {MAX_DEPTH} directories deep"),
            nearer,
        );
    }
    // A directory's name has a slash at its end in a layer.
    if whole.len() >= MAX_PATH {
        return bad(format!("which is {MAX_PATH} bytes long or more"), nearer);
    }
    if longest > MAX_NAME {
        return bad(
            format!("which has a name of more than {MAX_NAME} bytes"),
            nearer,
        );
    }
    let smaller = "`exclude` some of it, or put a part into a layer of its own";
    if entries > limits.entries {
        return bad(
            format!("and a layer may hold {} entries", limits.entries),
            smaller,
        );
    }
    if bytes > limits.bytes {
        return bad(
            format!(
                "and a layer may hold {} bytes; with it there are {bytes}",
                limits.bytes
            ),
            smaller,
        );
    }
    Ok(())
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
            origin: Origin::declared(&key.into(), format!("source of {key}").as_ref()),
        }
    }

    #[test]
    fn entries_are_in_their_order_whatever_the_order_in_which_they_came() {
        let names = ["/a", "/a/b", "/a-", "/a0", "/b", "/c", "/c/d", "/c/e"];
        for step in [1, 3, 5, 7] {
            let mut entries = Entries::default();
            for at in 0..names.len() {
                let name = names[at * step % names.len()];
                let path = ImagePath::parse(name).unwrap();
                assert!(entries.get(&path).is_none(), "{name}");
                entries
                    .insert(path.clone(), file(name, name, false))
                    .unwrap();
                assert_eq!(entries.get(&path).unwrap().origin.key.as_ref(), name);
                // Once more, and another there.
                entries
                    .insert(path.clone(), file(name, "again", false))
                    .unwrap();
                let told = entries.insert(path, file("other", "k", false)).unwrap_err();
                assert_eq!(told.key, "k");
            }
            let found: Vec<_> = entries.iter().map(|(path, _)| path.to_string()).collect();
            assert_eq!(found, names);
            assert_eq!((entries.len(), entries.bytes()), (8, 24));
        }
    }

    #[test]
    fn what_no_launch_would_unpack_is_not_planned() {
        let long = |length: u64| {
            let mut entry = file("", "a", false);
            if let EntryKind::File {
                length: planned, ..
            } = &mut entry.kind
            {
                *planned = length;
            }
            entry
        };
        let deep = |depth: usize| "/d".repeat(depth);
        let small = "choose a shorter `to`, or `exclude` it";
        for (name, path, length, want) in [
            ("as deep as may be", deep(128), 0, None),
            (
                "deeper",
                deep(129),
                0,
                Some(("which is more than 128 directories deep", small)),
            ),
            ("a long name", format!("/{}", "n".repeat(255)), 0, None),
            (
                "a longer name",
                format!("/{}", "n".repeat(256)),
                0,
                Some(("which has a name of more than 255 bytes", small)),
            ),
            (
                "a long path",
                format!("/{}", "n".repeat(200)).repeat(21),
                0,
                Some(("which is 4096 bytes long or more", small)),
            ),
            (
                "a whiteout above it",
                "/usr/.wh.lib/y".to_owned(),
                0,
                Some((
                    "which deletes: a layer's names that begin with `.wh.` are whiteouts",
                    "rename it, `exclude` it, or choose another place",
                )),
            ),
            ("as large as may be", "/x".to_owned(), 8 << 30, None),
            (
                "larger",
                "/x".to_owned(),
                (8 << 30) + 1,
                Some((
                    "and a layer may hold 8589934592 bytes; with it there are 8589934593",
                    "`exclude` some of it, or put a part into a layer of its own",
                )),
            ),
        ] {
            let names = path.split('/').skip(1);
            let path = names.fold(ImagePath::root(), |path, name| path.child(name.as_ref()));
            let got = Entries::default().insert(path.clone(), long(length));
            let want = want.map(|(problem, fix)| {
                let problem = format!("source of a would lie at {path}, {problem}");
                Problem::new("a", problem, fix)
            });
            assert_eq!(got.err(), want, "{name}");
        }
    }

    #[test]
    fn one_path_has_one_content() {
        let other = |kind| Entry {
            kind,
            origin: Origin::declared(&"b".into(), "source of b".as_ref()),
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
