//! Format 1 is bytes. A digest here never changes: what would change one gets a number of its own, beside this one.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::ffi::OsStr;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use airtight_image::Digest;
use airtight_image::layer::{Compression, FORMAT, Form, LayerEntry, LayerItem, write};

/// Of the archive: the diffID.
const ARCHIVE: &str = "sha256:3f0d992fbbe844ebf262a21759758a206af6d88ffae75e9c2ebb62444c5afabd";
const GZIP: &str = "sha256:28142cb4a2177a7fc287ac05b4d8703207955804f70142c79069e76c712002ed";
const ZSTD: &str = "sha256:a43255bfd64c542710d84f1edac47d79841d01cbbe421d735c759162d44e8213";

/// One entry of the tree that has each case of the dialect.
enum What {
    Directory,
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(PathBuf),
}

/// Of no library, so that no library changes it.
fn noise(length: usize, mask: u8) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1] & mask
    };
    (0..length).map(|_| next()).collect()
}

fn text(length: usize) -> Vec<u8> {
    let words = [
        "let ", "mut ", "return", "(self)", "\n    ", "format", "=", "0x", "layer", ";", "// ",
    ];
    let chosen = noise(length, 0xff);
    let words = chosen
        .iter()
        .map(|byte| words[usize::from(*byte) % words.len()]);
    words.flat_map(str::bytes).take(length).collect()
}

fn tree() -> Vec<(PathBuf, What)> {
    let long = |length: usize| "n".repeat(length);
    let of = |length: usize| What::File(text(length));
    let raw = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let mut all = vec![
        (PathBuf::from("a"), What::Directory),
        ("a/empty".into(), of(0)),
        ("a/one".into(), of(1)),
        ("a/block".into(), of(512)),
        ("a/over".into(), of(513)),
        ("a/program".into(), What::Program(text(3000))),
        ("a-after".into(), of(10)),
        ("a.before".into(), of(10)),
        ("link".into(), What::Link("a/one".into())),
        ("link-absolute".into(), What::Link("/a/one".into())),
        ("link-100".into(), What::Link(long(100).into())),
        ("link-101".into(), What::Link(long(101).into())),
        (long(100).into(), of(5)),
        (long(99).into(), What::Directory),
        (long(101).into(), What::Directory),
        (Path::new("split").join(long(60)).join(long(95)), of(6)),
        (
            Path::new("split").join(long(60)).join(long(96)),
            What::Directory,
        ),
        (Path::new("split").join(long(200)).join(long(101)), of(7)),
        (Path::new("split").join(long(160)).join("short"), of(8)),
        ("ü/ж/文".into(), of(9)),
        (Path::new("ü").join("é".repeat(60)), of(9)),
        (raw(b"raw \xff\xfe\n"), of(9)),
        (raw(&[&b"raw "[..], &[0xff; 120]].concat()), of(9)),
        ("large/noise".into(), What::File(noise(700_000, 0xff))),
        ("large/some-noise".into(), What::File(noise(900_000, 0x3f))),
        ("large/text".into(), of(3_000_000)),
        ("large/zeros".into(), What::File(vec![0; 1_500_000])),
        ("longest".into(), What::File(vec![b'x'; 258 * 3])),
    ];
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// The layer, and its diffID.
fn written(compression: Compression, workers: usize) -> (Vec<u8>, String) {
    let form = Form {
        epoch: 1_700_000_000,
        compression,
        workers: NonZeroUsize::new(workers).unwrap(),
    };
    let mut bytes = Vec::new();
    let tree = tree();
    let entries = tree.iter().map(|(path, what)| {
        let item = match what {
            What::Directory => LayerItem::Directory { mode: 0o555 },
            What::Link(target) => LayerItem::Symlink { target },
            What::File(content) | What::Program(content) => LayerItem::File {
                mode: if path.ends_with("program") {
                    0o555
                } else {
                    0o444
                },
                length: content.len() as u64,
                content: content.as_slice(),
            },
        };
        LayerEntry { path, item }
    });
    let sealed = write(&mut bytes, &form, entries).unwrap();
    let diff = sealed.diff_id.to_string();
    (bytes, diff)
}

#[test]
fn format_1_is_these_bytes_whatever_the_number_of_workers() {
    assert_eq!(FORMAT, 1);
    for (compression, golden) in [(Compression::Gzip, GZIP), (Compression::Zstd, ZSTD)] {
        for workers in [1, 2, 5] {
            let (bytes, diff) = written(compression, workers);
            let got = [diff, Digest::of(&bytes).to_string()];
            assert_eq!(got, [ARCHIVE, golden], "{compression:?}, {workers} workers");
        }
    }
}

/// The dialect, by another's reader: what was meant is what it sees.
#[test]
fn another_reader_sees_each_case() {
    let (bytes, _) = written(Compression::Gzip, 1);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let mut entries = archive.entries().unwrap();
    for (path, what) in tree() {
        let mut entry = entries.next().unwrap().unwrap();
        let found = entry.path().unwrap().into_owned();
        assert_eq!(found, path);
        let header = entry.header();
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 1_700_000_000),
        );
        match what {
            What::Directory => assert!(header.entry_type().is_dir(), "{path:?}"),
            What::Link(target) => {
                assert!(header.entry_type().is_symlink(), "{path:?}");
                assert_eq!(entry.link_name().unwrap().unwrap(), target);
            }
            What::File(want) | What::Program(want) => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert!(content == want, "{path:?}");
            }
        }
    }
    assert!(entries.next().is_none());
}
