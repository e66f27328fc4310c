//! One layer of a build file as several of the image, so that a change ships a part. Where a path goes is decided by the path, and how finely a place is
//! cut by how much lies there and nowhere else: an edit, a new file or one that goes changes the one part that it lies in. Pure, and part of format 1.

use airtight_image::Digest;

use crate::entries::{Entries, Entry, EntryKind};
use crate::error::Problem;
use crate::path::ImagePath;

const MIB: u64 = 1 << 20;
/// Of `auto`: small enough to ship again, large enough that an image of a gigabyte has not a hundred layers.
const AUTO: u64 = 16 * MIB;
/// A part is halved at most so often: 32 parts of a layer.
const DEPTH: u32 = 5;
/// A file of this size has a place of its own. Smaller ones stay with those of their directory, which are like them and change with them.
const LARGE: u64 = MIB;
/// What an entry takes in an archive beside its content.
const HEADER: u64 = 1024;

/// A part's bytes, beyond which it is cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split(u64);

impl Split {
    /// `auto`, or `NMiB`.
    pub(crate) fn parse(text: &str, key: &str) -> Result<Self, Problem> {
        let size = match text {
            "auto" => Some(AUTO),
            _ => text
                .strip_suffix("MiB")
                .and_then(|number| number.parse::<u16>().ok())
                .filter(|number| (1..=4096).contains(number))
                .map(|number| u64::from(number) * MIB),
        };
        size.map(Self).ok_or_else(|| {
            Problem::new(
                key,
                format!("`{}` is no size of parts", text.escape_debug()),
                "write `auto`, or 1MiB to 4096MiB",
            )
        })
    }
}

/// The parts of a layer called `name`, each with the directories that lead to what it holds. A layer that is small enough stays whole, with its name.
pub(crate) fn split(
    name: &str,
    entries: Entries,
    size: Option<Split>,
) -> Result<Vec<(String, Entries)>, Problem> {
    let Some(Split(most)) = size else {
        return Ok(vec![(name.to_owned(), entries)]);
    };
    let mut parts = Vec::new();
    cut(items(&entries), most, String::new(), &mut parts);
    if parts.len() < 2 {
        return Ok(vec![(name.to_owned(), entries)]);
    }
    let part = |(place, items): (String, Vec<Item<'_>>)| {
        let mut part = Entries::default();
        for item in items {
            lead(item.path, &entries, &mut part)?;
            part.insert(item.path.clone(), item.entry.clone())?;
        }
        // No layer of a build file has a slash in its name.
        Ok((format!("{name}/{place}"), part))
    };
    parts.into_iter().map(part).collect()
}

struct Item<'a> {
    place: u32,
    weight: u64,
    path: &'a ImagePath,
    entry: &'a Entry,
}

/// What must lie somewhere; a directory that holds something comes with that.
fn items(entries: &Entries) -> Vec<Item<'_>> {
    let mut items = Vec::with_capacity(entries.len());
    let mut all = entries.iter().peekable();
    let mut of_directory: Option<(ImagePath, u32)> = None;
    while let Some((path, entry)) = all.next() {
        let length = match entry.kind {
            EntryKind::Directory if all.peek().is_some_and(|(next, _)| next.is_in(path)) => {
                continue;
            }
            EntryKind::Directory | EntryKind::Symlink(_) => 0,
            EntryKind::File { length, .. } => length,
        };
        let place = if length >= LARGE {
            place(path)
        } else {
            let parent = path.parent().unwrap_or_else(ImagePath::root);
            match &of_directory {
                Some((directory, known)) if *directory == parent => *known,
                _ => of_directory.insert((parent.clone(), place(&parent))).1,
            }
        };
        items.push(Item {
            place,
            weight: length.saturating_add(HEADER),
            path,
            entry,
        });
    }
    items
}

/// Where a path goes: the first bits of its digest.
fn place(path: &ImagePath) -> u32 {
    let digest = Digest::of(path.as_path().as_os_str().as_encoded_bytes()).to_bytes();
    digest
        .first_chunk::<4>()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Halves what is too large by the next bit. `prefix` is the bits so far.
fn cut<'a>(
    items: Vec<Item<'a>>,
    most: u64,
    prefix: String,
    parts: &mut Vec<(String, Vec<Item<'a>>)>,
) {
    let weight = items
        .iter()
        .fold(0_u64, |sum, item| sum.saturating_add(item.weight));
    let depth = u32::try_from(prefix.len()).unwrap_or(DEPTH);
    if weight <= most || depth >= DEPTH {
        if !items.is_empty() {
            parts.push((prefix, items));
        }
        return;
    }
    let (ones, zeros): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| item.place >> (31 - depth) & 1 == 1);
    cut(zeros, most, format!("{prefix}0"), parts);
    cut(ones, most, format!("{prefix}1"), parts);
}

/// The directories that lead to `path`, as the whole layer has them.
fn lead(path: &ImagePath, all: &Entries, part: &mut Entries) -> Result<(), Problem> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    if part.get(&parent).is_some() {
        return Ok(());
    }
    lead(&parent, all, part)?;
    match all.get(&parent) {
        Some(entry) => part.insert(parent, entry.clone()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::entries::{Content, Origin};

    fn insert(entries: &mut Entries, path: &str, kind: EntryKind) {
        let path = ImagePath::parse(path).unwrap();
        if let Some(parent) = path.parent().filter(|parent| *parent != ImagePath::root()) {
            let parent = parent.to_string();
            insert(entries, &parent, EntryKind::Directory);
        }
        let origin = Origin::declared(&"k".into(), Path::new("the test"));
        entries.insert(path, Entry { kind, origin }).unwrap();
    }

    fn file(length: u64) -> EntryKind {
        let content = Content::Generated(Arc::from(&b""[..]));
        EntryKind::File {
            content,
            length,
            executable: false,
        }
    }

    /// 100 directories of 20 files of 50 KB, 100 MB; and what the test adds.
    fn tree(more: &[(&str, EntryKind)]) -> Entries {
        let mut entries = Entries::default();
        for number in 0..2000 {
            let path = format!("/srv/d{:02}/sub/f{number}", number % 100);
            insert(&mut entries, &path, file(50_000));
        }
        insert(&mut entries, "/srv/empty", EntryKind::Directory);
        for (path, kind) in more {
            insert(&mut entries, path, kind.clone());
        }
        entries
    }

    fn parts(entries: Entries, size: &str) -> Vec<(String, Vec<(String, EntryKind)>)> {
        let size = Split::parse(size, "k").unwrap();
        let parts = split("app", entries, Some(size)).unwrap();
        let list = |entries: Entries| {
            let list = entries.iter();
            list.map(|(path, entry)| (path.to_string(), entry.kind.clone()))
                .collect()
        };
        parts
            .into_iter()
            .map(|(name, entries)| (name, list(entries)))
            .collect()
    }

    #[test]
    fn every_entry_is_in_one_part_with_the_directories_that_lead_there() {
        let whole = tree(&[]);
        let parts = parts(tree(&[]), "auto");
        assert!((7..=16).contains(&parts.len()), "{} parts", parts.len());
        let mut seen: Vec<&String> = Vec::new();
        for (name, list) in &parts {
            let bytes: usize = list.len() * 50_000;
            assert!(bytes < 17 << 20, "{name}: {bytes}");
            for (path, kind) in list {
                let parent = Path::new(path).parent().unwrap().display().to_string();
                let there = parent == "/" || list.iter().any(|(path, _)| *path == parent);
                assert!(there, "{name}: {parent} of {path}");
                if *kind != EntryKind::Directory || path == "/srv/empty" {
                    seen.push(path);
                }
            }
        }
        seen.sort();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(seen.len(), 2001);
        assert_eq!(whole.len(), 2000 + 200 + 2);
    }

    #[test]
    fn a_change_changes_the_part_that_it_lies_in() {
        let before = parts(tree(&[]), "auto");
        for (change, entries) in [
            ("a new file", tree(&[("/srv/d07/sub/new", file(10))])),
            ("a new directory", tree(&[("/srv/a/b/c", file(10))])),
            ("a large file", tree(&[("/srv/d07/sub/large", file(LARGE))])),
            (
                "an empty directory",
                tree(&[("/srv/d08/sub/empty", EntryKind::Directory)]),
            ),
        ] {
            let after = parts(entries, "auto");
            let changed = after.iter().filter(|part| !before.contains(part));
            let names: Vec<_> = changed.map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.len(), 1, "{change}: {names:?}");
            assert_eq!(after.len(), before.len(), "{change}");
        }
    }

    #[test]
    fn a_small_layer_stays_whole_and_a_huge_one_has_32_parts() {
        let whole = parts(tree(&[]), "200MiB");
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].0, "app");
        assert!(parts(tree(&[]), "1MiB").len() <= 32);
        // One directory of small files has one place.
        let mut flat = Entries::default();
        for number in 0..500 {
            insert(&mut flat, &format!("/d/{number}"), file(500_000));
        }
        assert_eq!(parts(flat, "auto").len(), 1);
    }

    #[test]
    fn a_size_is_auto_or_mebibytes() {
        for (text, want) in [
            ("auto", Some(16)),
            ("1MiB", Some(1)),
            ("4096MiB", Some(4096)),
            ("0MiB", None),
            ("4097MiB", None),
            ("16", None),
            ("16MB", None),
            ("", None),
        ] {
            let got = Split::parse(text, "layer[0].split");
            match want {
                Some(size) => assert_eq!(got, Ok(Split(size * MIB)), "{text}"),
                None => assert_eq!(
                    got.map_err(|problem| problem.key),
                    Err("layer[0].split".to_owned()),
                    "{text}"
                ),
            }
        }
    }
}
