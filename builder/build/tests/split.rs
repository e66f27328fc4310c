//! A large layer in parts: an edit ships one of them, and the image is the same as of one layer.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use airtight_build::{BuildRequest, Built, build};
use airtight_image::{Digest, ImageRef, Store};

const FILE: &str = "format = 1\nname = \"a\"\n[[layer]]\nname = \"app\"\n\
                    copy = [{ from = \"tree\", to = \"/srv\" }]\n";

/// 30 directories of 10 files of 20 KB that gzip cannot shorten.
fn fill(context: &Path) {
    let mut state = 1_u32;
    for number in 0..300 {
        let directory = context.join(format!("tree/d{}", number % 30));
        fs::create_dir_all(&directory).unwrap();
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let content: Vec<u8> = std::iter::repeat_with(next).take(20_000).collect();
        fs::write(directory.join(format!("f{number}")), content).unwrap();
    }
}

fn built(context: &Path, store: &Store, split: &str) -> Result<Built, String> {
    fs::write(context.join("airtight.toml"), format!("{FILE}{split}")).unwrap();
    let request = BuildRequest {
        file: context.join("airtight.toml"),
        ..BuildRequest::default()
    };
    build(&request, store).map_err(|err| err.to_string())
}

fn digests(built: &Built) -> BTreeSet<Digest> {
    let layers = built.layers.iter();
    layers.map(|layer| layer.digest.clone()).collect()
}

/// Everything below the unpacked trees, later over earlier.
fn merged(store: &Store, built: &Built) -> BTreeSet<(String, Vec<u8>)> {
    let digest = store
        .resolve(&ImageRef::Digest(built.digest.clone()))
        .unwrap();
    let trees = store.unpacked(&store.image(&digest).unwrap()).unwrap();
    let mut all = BTreeSet::new();
    for tree in trees {
        let mut waiting = vec![tree.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&tree).unwrap().display().to_string();
                if path.is_dir() {
                    all.insert((name, Vec::new()));
                    waiting.push(path);
                } else {
                    all.insert((name, fs::read(&path).unwrap()));
                }
            }
        }
    }
    all
}

#[test]
fn an_edit_ships_one_part_and_the_image_is_the_same_as_of_one_layer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    fill(dir.path());
    let whole = built(dir.path(), &store, "").unwrap();
    let parts = built(dir.path(), &store, "split = \"1MiB\"").unwrap();
    assert_eq!(whole.layers.len(), 1);
    assert!(parts.layers.len() >= 6, "{}", parts.layers.len());
    assert!(
        parts
            .layers
            .iter()
            .all(|part| part.name.starts_with("app/"))
    );
    assert_eq!(merged(&store, &whole), merged(&store, &parts));

    let before = digests(&parts);
    for (name, change) in [
        ("an edit", "tree/d7/f7"),
        ("a new file", "tree/d7/new"),
        ("a new directory", "tree/new/a"),
    ] {
        let path = dir.path().join(change);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let old = fs::read(&path).ok();
        fs::write(&path, name).unwrap();
        let after = built(dir.path(), &store, "split = \"1MiB\"").unwrap();
        let new: Vec<_> = after
            .layers
            .iter()
            .filter(|part| !before.contains(&part.digest))
            .collect();
        assert_eq!(new.len(), 1, "{name}");
        assert!(new[0].size < whole.layers[0].size / 5, "{name}");
        match old {
            Some(old) => fs::write(&path, old).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn a_size_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let told = built(dir.path(), &store, "split = \"many\"").unwrap_err();
    let want =
        "`layer[0].split`: `many` is no size of parts\n  fix: write `auto`, or 1MiB to 4096MiB";
    assert!(told.ends_with(want), "{told}");
}
