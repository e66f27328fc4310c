//! Where a blob was seen: another repository of the same registry can give it to a new one, and nothing is sent. A hint in the store's cache; what is wrong in it
//! costs one answer of the registry.

use std::fs;
use std::io::{Read as _, Write as _};

use crate::descriptor::Descriptor;
use crate::store::{Store, open_regular};

const MAX_FILE: u64 = 8 << 10;
const MAX_LINES: usize = 8;

/// Repositories of `host` other than `own` that had it, latest first.
pub(crate) fn of(store: &Store, blob: &Descriptor, host: &str, own: &str) -> Vec<String> {
    read(store, blob)
        .iter()
        .filter_map(|line| line.strip_prefix(host)?.strip_prefix('/'))
        .filter(|repository| *repository != own)
        .map(str::to_owned)
        .collect()
}

/// Notes that `host/repository` has it. That this cannot be written is no fault of a transfer.
pub(crate) fn note(store: &Store, blob: &Descriptor, host: &str, repository: &str) {
    let line = format!("{host}/{repository}");
    let mut lines = read(store, blob);
    if lines.first() == Some(&line) {
        return;
    }
    lines.retain(|other| *other != line);
    lines.insert(0, line);
    lines.truncate(MAX_LINES);
    let directory = store.cache_dir().join("origins");
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&directory)?;
        let mut file = tempfile::NamedTempFile::new_in(&directory)?;
        file.write_all((lines.join("\n") + "\n").as_bytes())?;
        file.persist(directory.join(blob.digest().hex()))
            .map_err(|error| error.error)?;
        Ok(())
    };
    drop(write());
}

/// What was written by us alone; a repository's name is checked again, since the line goes into an address.
fn read(store: &Store, blob: &Descriptor) -> Vec<String> {
    let path = store.cache_dir().join("origins").join(blob.digest().hex());
    let mut text = String::new();
    let read = open_regular(&path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    text.lines()
        .filter(|line| line.parse::<super::RegistryRef>().is_ok())
        .take(MAX_LINES)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_latest_origin_comes_first_and_only_this_registry_s_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blob = Descriptor::new("x", Digest::of(b"x"), 1);
        for repository in ["a", "b/c", "a"] {
            note(&store, &blob, "r.example.org", repository);
        }
        note(&store, &blob, "other.example.org", "z");
        assert_eq!(of(&store, &blob, "r.example.org", "own"), ["a", "b/c"]);
        assert_eq!(of(&store, &blob, "r.example.org", "a"), ["b/c"]);
        fs::write(
            store.cache_dir().join("origins").join(blob.digest().hex()),
            "r.example.org/../x?y\n",
        )
        .unwrap();
        assert!(of(&store, &blob, "r.example.org", "own").is_empty());
    }
}
