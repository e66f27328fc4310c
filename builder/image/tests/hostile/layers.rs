//! What layers say: what they hide, how much they come to, and that they are what their image says.

use super::*;

#[test]
fn a_blob_is_held_against_its_diff_id_though_the_tree_is_there() {
    let at = Place::new();
    let (good, other) = (file("a"), file("b"));
    let claimed = (TAR, other.clone(), Digest::of(&good));
    let a = at
        .layout("a")
        .image("a:1", &[plain(good.clone())], same)
        .done();
    let b = at.layout("b").image("b:1", &[claimed], same).done();
    at.store.import(&a, None).unwrap();
    let error = said(at.store.import(&b, None));
    assert!(
        error.contains("unpacks to") && error.contains("fix:"),
        "{error}"
    );
    assert_eq!(at.names(), ["a:1"]);
    // Without the record, as a store of an earlier version has it, the tree is proven and not made again.
    let home = at.path("store/layers/sha256").join(Digest::of(&good).hex());
    let proof = home.join(format!("from-{}", Digest::of(&good).hex()));
    fs::remove_file(&proof).unwrap();
    at.trees("a:1");
    assert!(
        proof.exists()
            && !home
                .join(format!("from-{}", Digest::of(&other).hex()))
                .exists()
    );
    // A name that leads to such a pair nevertheless is found out.
    let entry: Value = serde_json::from_slice(&fs::read(b.join("index.json")).unwrap()).unwrap();
    fs::write(at.path("store/refs/b%1"), entry["manifests"][0].to_string()).unwrap();
    let problems = at.store.verify().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("unpacks to"),
        "{problems:?}"
    );
}

/// Paths of a tree: `x/` opaque directories, `x` others, `-x` whiteouts.
fn shape(root: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if meta.file_type().is_char_device() {
                all.insert(format!("-{name}"));
            } else if meta.is_dir() && hides_below(&path) {
                all.insert(format!("{name}/"));
            } else {
                all.insert(name);
            }
            if meta.is_dir() {
                directories.push(path);
            }
        }
    }
    all
}

#[test]
fn a_whiteout_hides_what_is_below_whatever_its_layer_puts_there() {
    use Kind::{Directory, Link, Regular, Symlink};
    for (name, entries, want) in [
        (
            "before",
            vec![
                (Regular, ".wh.d", ""),
                (Directory, "d", ""),
                (Regular, "d/new", ""),
            ],
            vec!["d/", "d/new"],
        ),
        (
            "after",
            vec![
                (Directory, "d", ""),
                (Regular, "d/new", ""),
                (Regular, ".wh.d", ""),
            ],
            vec!["d/", "d/new"],
        ),
        (
            "directory not said",
            vec![(Regular, ".wh.d", ""), (Regular, "d/e/new", "")],
            vec!["d/", "d/e", "d/e/new"],
        ),
        (
            "deep",
            vec![(Regular, "a/.wh.d", ""), (Directory, "a/d", "")],
            vec!["a", "a/d/"],
        ),
        (
            "a file",
            vec![(Regular, ".wh.f", ""), (Regular, "f", "")],
            vec!["f"],
        ),
        (
            "a file, first",
            vec![(Regular, "f", ""), (Regular, ".wh.f", "")],
            vec!["f"],
        ),
        ("nothing", vec![(Regular, ".wh.f", "")], vec!["-f"]),
        (
            "a file between",
            vec![
                (Regular, ".wh.d", ""),
                (Regular, "d", ""),
                (Directory, "d", ""),
            ],
            vec!["d/"],
        ),
        (
            "an opaque one that was replaced",
            vec![
                (Regular, "d/.wh..wh..opq", ""),
                (Regular, "d", ""),
                (Directory, "d", ""),
            ],
            vec!["d/"],
        ),
        (
            "a directory that becomes a file",
            vec![(Directory, "d", ""), (Regular, "d", "")],
            vec!["d"],
        ),
        (
            "a directory that becomes a link",
            vec![(Directory, "d", ""), (Symlink, "d", "/etc")],
            vec!["d"],
        ),
        (
            "aufs",
            vec![
                (Directory, ".wh..wh.plnk", ""),
                (Regular, ".wh..wh.plnk/1", ""),
                (Regular, ".wh..wh.aufs", ""),
            ],
            vec![],
        ),
        (
            "aufs and a link",
            vec![(Regular, "a", ""), (Link, "b", "a")],
            vec!["a", "b"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        unpack(
            tar(&entries).as_slice(),
            File::open(dir.path()).unwrap(),
            &Limits::default(),
        )
        .unwrap();
        let want: BTreeSet<String> = want.into_iter().map(str::to_owned).collect();
        assert_eq!(shape(dir.path()), want, "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = tar(&[(Regular, ".wh.a", ""), (Link, "b", "a")]);
    let error = said(unpack(
        archive.as_slice(),
        File::open(dir.path()).unwrap(),
        &Limits::default(),
    ));
    assert!(error.contains("hard link"), "{error}");
}

#[test]
fn a_layer_that_hides_all_leaves_out_the_layers_below() {
    let at = Place::new();
    let top = tar(&[
        (Kind::Regular, ".wh..wh..opq", ""),
        (Kind::Regular, "y", ""),
    ]);
    let layers = [
        plain(file("a")),
        plain(file("b")),
        plain(top.clone()),
        plain(file("c")),
    ];
    let layout = at.layout("a").image("a:1", &layers, same).done();
    at.store.import(&layout, None).unwrap();
    let trees = at.trees("a:1");
    assert_eq!(trees.len(), 2, "{trees:?}");
    assert!(trees[0].join("y").exists() && trees[1].join("x").exists());
}

#[test]
fn directories_that_no_entry_names_count_as_entries() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 6,
        ..Limits::default()
    };
    let archive = tar(&[(Kind::Regular, "a/b/c/d/e/f/g", "")]);
    let error = said(unpack(
        archive.as_slice(),
        File::open(dir.path()).unwrap(),
        &limits,
    ));
    assert!(error.contains("more than 6 entries"), "{error}");
}

#[test]
fn a_long_list_of_layers_is_refused_before_they_are_copied() {
    let at = Place::new();
    let many = |manifest: &mut Value| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 126].into();
    };
    let layout = at
        .layout("a")
        .image("a:1", &[plain(file("a"))], many)
        .done();
    let error = said(at.store.import(&layout, None));
    assert!(
        error.contains("126 layers") && error.contains("fix:"),
        "{error}"
    );
    let saved = json!([{ "Config": "c", "RepoTags": ["a:1"], "Layers": vec!["l"; 126] }]);
    let archive = at.path("a.tar");
    let files = tar(&[
        (Kind::Regular, "manifest.json", &saved.to_string()),
        (Kind::Regular, "c", "{}"),
        (Kind::Regular, "l", "l"),
    ]);
    fs::write(&archive, files).unwrap();
    let error = said(at.store.import(&archive, None));
    assert!(
        error.contains("126 layers") && error.contains("fix:"),
        "{error}"
    );
    let blobs = at.path("store/blobs/sha256");
    assert!(
        !blobs.join(Digest::of(&file("a")).hex()).exists()
            && !blobs.join(Digest::of(b"l").hex()).exists()
    );
}

/// A zstd frame of zeros after `head`: 4 bytes for each 128 KiB.
fn zeros(head: &[u8], length: usize) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    let block = |kind: u32, last: u32, size: usize| {
        ((u32::try_from(size).unwrap() << 3) | (kind << 1) | last).to_le_bytes()
    };
    frame.extend_from_slice(&block(0, 0, head.len())[..3]);
    frame.extend_from_slice(head);
    for _ in 0..length / BLOCK {
        frame.extend_from_slice(&block(1, 0, BLOCK)[..3]);
        frame.push(0);
    }
    frame.extend_from_slice(&block(1, 1, length % BLOCK)[..3]);
    frame.push(0);
    frame
}

/// A layer whose only file has `mib` of zeros.
fn bomb(name: &str, mib: usize) -> Layer {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_size((mib as u64) << 20);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut whole = header.as_bytes().to_vec();
    let frame = zeros(&whole, (mib << 20) + 1024);
    whole.resize(512 + (mib << 20) + 1024, 0);
    (
        "application/vnd.oci.image.layer.v1.tar+zstd",
        frame,
        Digest::of(&whole),
    )
}

#[test]
fn an_image_of_small_bombs_is_one_bomb() {
    let at = Place::new();
    let one = at.layout("one").image("a:1", &[bomb("a", 60)], same).done();
    at.store.import(&one, None).unwrap();
    let two = at
        .layout("two")
        .image("a:2", &[bomb("b", 60), bomb("c", 60)], same)
        .done();
    let error = said(at.store.import(&two, None));
    assert!(error.contains("bomb") && error.contains("fix:"), "{error}");
    // What gzip makes of zeros is not one: such a layer can be built.
    let (_, _, diff) = bomb("d", 120);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut plain =
        zstd::stream::read::Decoder::new(std::io::Cursor::new(bomb("d", 120).1)).unwrap();
    std::io::copy(&mut plain, &mut gzip).unwrap();
    let layer = (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        gzip.finish().unwrap(),
        diff,
    );
    let zeros = at.layout("zeros").image("a:3", &[layer], same).done();
    at.store.import(&zeros, None).unwrap();
}

#[test]
fn an_archive_that_expands_without_measure_is_refused() {
    let at = Place::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut plain =
        zstd::stream::read::Decoder::new(std::io::Cursor::new(bomb("oci-layout", 150).1)).unwrap();
    std::io::copy(&mut plain, &mut gzip).unwrap();
    let path = at.path("a.tar.gz");
    fs::write(&path, gzip.finish().unwrap()).unwrap();
    let error = said(at.store.import(&path, None));
    assert!(
        error.contains("bomb") && error.contains("gunzip"),
        "{error}"
    );
    assert_eq!(fs::read_dir(at.path("store/tmp")).unwrap().count(), 0);
}
