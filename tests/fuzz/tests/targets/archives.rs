//! What is imported and unpacked.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use airtight_build::{BuildRequest, build};
use airtight_fuzz::fuzz;
use airtight_image::layer::{Limits, unpack};
use airtight_image::{Digest, Store, bundle, parse_index, parse_manifest};

use crate::{answer, text};

const BLOCK: usize = 512;
const BYTES_MAX: u64 = 1 << 20;

/// A layer of every kind of entry, as other tools write them.
pub(crate) fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, path: &str, link: Option<&str>, content: &[u8], mode| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, path, content).unwrap();
    };
    use tar::EntryType as Kind;
    add(Kind::Directory, "etc", None, b"", 0o755);
    add(Kind::Regular, "etc/passwd", None, b"a:x:1:1::/:\n", 0o644);
    add(Kind::Symlink, "link", Some("etc"), b"", 0o777);
    add(Kind::Link, "hard", Some("etc/passwd"), b"", 0o644);
    add(Kind::Regular, "bin/tool", None, b"x", 0o4755);
    add(Kind::Regular, "etc/.wh.gone", None, b"", 0);
    add(Kind::Regular, "etc/.wh..wh..opq", None, b"", 0);
    add(Kind::XHeader, "pax", None, b"20 path=etc/renamed\n", 0o644);
    add(Kind::Regular, "short", None, b"y", 0o644);
    add(
        Kind::GNULongName,
        "long",
        None,
        b"etc/a/very/long/name\0",
        0o644,
    );
    add(Kind::Regular, "cut", None, b"z", 0o644);
    // Of the form that stays the same when a mutated archive gets its sums.
    with_checksums(&tar.into_inner().unwrap())
}

/// Headers whose checksums are right again, or no mutation of one would be looked at.
pub(crate) fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut tar = input.to_vec();
    for block in tar.chunks_exact_mut(BLOCK) {
        if &block[257..262] != b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}

/// Nothing below `root` is more than a layer may hold, and nothing but `root` is in the directory around it.
fn hold(around: &Path, root: &Path) {
    let beside: Vec<_> = fs::read_dir(around)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(beside, ["root"]);
    let mut bytes = 0;
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        // The archive's own modes may forbid it to anyone but root.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(meta.permissions().mode() & 0o6000, 0, "{:?}", entry.path());
            if meta.is_dir() {
                directories.push(entry.path());
            } else if meta.is_file() {
                bytes += meta.len();
            } else {
                // A whiteout is the only device that there can be.
                assert!(meta.is_symlink() || meta.rdev() == 0, "{:?}", entry.path());
            }
        }
    }
    // Hard links count once for each name.
    assert!(bytes <= BYTES_MAX * 64, "{bytes}");
}

#[test]
fn layer_unpack() {
    let limits = Limits {
        bytes: BYTES_MAX,
        entries: 64,
        owners: false,
        whiteouts: true,
    };
    let words = [
        "../",
        "/",
        "etc/",
        ".wh.",
        ".wh..wh..opq",
        "ustar\u{0}00",
        "ustar  \u{0}",
        "link/",
        "\u{0}",
        "77777777777\u{0}",
        "12 path=../x\n",
        "SCHILY.xattr.security.capability=",
    ];
    let done = fuzz("layer-unpack", &[layer()], &words, |input| {
        let told = [with_checksums(input), input.to_vec()].map(|tar| {
            let around = tempfile::tempdir().unwrap();
            let root = around.path().join("root");
            fs::create_dir(&root).unwrap();
            let unpacked = unpack(tar.as_slice(), File::open(&root).unwrap(), &limits);
            hold(around.path(), &root);
            if let Ok(unpacked) = &unpacked {
                assert!(unpacked.bytes <= limits.bytes && unpacked.entries <= limits.entries);
            }
            answer(unpacked)
        });
        told.concat()
    });
    assert!(done.answers > 5, "{done:?}");
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_slice())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

const LAYOUT_PARTS: [&str; 4] = ["INDEX", "MANIFEST", "CONFIG", "LAYER"];
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"MANIFEST","size":MANIFEST_SIZE,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}"#;
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"CONFIG","size":CONFIG_SIZE},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"LAYER","size":LAYER_SIZE}],"annotations":{"a":"b"}}"#;
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/a"],"User":"7","Env":["A=b"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["LAYER"]}}"#;
/// Between the documents of one input.
const CUT: &[u8] = b"\n---\n";

#[test]
fn documents() {
    let digest = Digest::of(b"x");
    let parts = seed_layout();
    let words = [
        "\"mediaType\"",
        "null",
        "-1",
        "[",
        "{",
        "\"urls\":[\"http://a\"]",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "sha512:",
        "../",
    ];
    fuzz("documents", &parts[..2], &words, |input| {
        let told = [
            answer(parse_manifest(input, &digest)),
            answer(parse_index(input, Path::new("index.json"))),
        ];
        told.concat()
    });
}

/// The parts of `input`, with the digests and sizes of the later ones in the place of their names in the earlier ones, so that only what they say is hostile.
fn parts(input: &[u8], names: &[&str]) -> Vec<Vec<u8>> {
    let mut rest = text(input);
    let cut = String::from_utf8_lossy(CUT).into_owned();
    let mut written: Vec<String> = Vec::new();
    for _ in 1..names.len() {
        let (part, after) = rest
            .split_once(&cut)
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap_or((rest.clone(), String::new()));
        written.push(part);
        rest = after;
    }
    let mut done: Vec<Vec<u8>> = vec![layer()];
    for part in written.iter().rev() {
        let mut part = part.clone();
        for (name, bytes) in names.iter().rev().zip(&done) {
            part = part
                .replace(&format!("{name}_SIZE"), &bytes.len().to_string())
                .replace(name, &Digest::of(bytes).to_string());
        }
        done.push(part.into_bytes());
    }
    done.reverse();
    done
}

/// Index, manifest, configuration and layer, all right.
fn seed_layout() -> Vec<Vec<u8>> {
    let written = [INDEX, MANIFEST, CONFIG, ""].join("\n---\n");
    parts(written.as_bytes(), &LAYOUT_PARTS)
}

/// An import that fails leaves no name; one that is taken leaves a whole store.
fn imported(store: &Path, from: &Path) -> String {
    let store = Store::open(store).unwrap();
    let listed = store.import(from, None);
    let report = store.verify().unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    if listed.is_err() {
        assert!(store.images().unwrap().is_empty(), "{listed:?}");
    }
    answer(listed).replace(&from.display().to_string(), "")
}

#[test]
fn import_layout() {
    let seed = [
        INDEX.as_bytes(),
        CUT,
        MANIFEST.as_bytes(),
        CUT,
        CONFIG.as_bytes(),
        CUT,
    ]
    .concat();
    let words = [
        "MANIFEST", "LAYER", "CONFIG", "_SIZE", "\n---\n", "tar+gzip", "sha256:", "\"..\"",
        "arm64", "null", ",",
    ];
    let done = fuzz("import-layout", &[seed], &words, |input| {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        fs::write(layout.join("oci-layout"), LAYOUT).unwrap();
        let mut parts = parts(input, &LAYOUT_PARTS);
        fs::write(layout.join("index.json"), parts.remove(0)).unwrap();
        for blob in parts {
            fs::write(
                layout.join("blobs/sha256").join(Digest::of(&blob).hex()),
                blob,
            )
            .unwrap();
        }
        imported(&dir.path().join("store"), &layout)
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn import_docker_archive() {
    let saved = r#"[{"Config":"config.json","RepoTags":["a/b:1"],"Layers":["layer.tar"]}]"#;
    let seed = [saved.as_bytes(), CUT, CONFIG.as_bytes(), CUT].concat();
    let words = [
        "../",
        "layer.tar",
        "config.json",
        "manifest.json",
        "\"RepoTags\"",
        "null",
        "[",
        "\n---\n",
        "LAYER",
        ",",
    ];
    let done = fuzz("import-docker-archive", &[seed], &words, |input| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let parts = parts(input, &["SAVED", "CONFIG", "LAYER"]);
        let names = ["manifest.json", "config.json", "layer.tar"].map(str::to_owned);
        let files: Vec<_> = names.into_iter().zip(parts).collect();
        fs::write(&path, tar_of(&files)).unwrap();
        imported(&dir.path().join("store"), &path)
    });
    assert!(done.answers > 3, "{done:?}");
}

/// The archive around a layout is hostile too.
#[test]
fn import_archive() {
    let written = [INDEX, MANIFEST, CONFIG, ""].join("\n---\n");
    let parts = parts(written.as_bytes(), &LAYOUT_PARTS);
    let mut files = vec![("index.json".to_owned(), parts[0].clone())];
    files.push(("oci-layout".to_owned(), LAYOUT.as_bytes().to_vec()));
    for blob in &parts[1..] {
        files.push((
            format!("blobs/sha256/{}", Digest::of(blob).hex()),
            blob.clone(),
        ));
    }
    let words = ["../", "/", "oci-layout", "blobs/", "ustar\u{0}00"];
    fuzz("import-archive", &[tar_of(&files)], &words, |input| {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar");
        fs::write(&archive, with_checksums(input)).unwrap();
        imported(&dir.path().join("store"), &archive)
    });
}

#[test]
fn accounts() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    let seed = [
        b"root:x:0:0::/:\nweb:x:33:33::/:\n".as_slice(),
        CUT,
        b"web:x:33:\nlogs:x:40:web,other\n",
    ]
    .concat();
    fuzz(
        "accounts",
        &[seed],
        &["web", ":", "\n", ",", "\n---\n"],
        |input| {
            let input = text(input);
            let (passwd, group) = input.split_once("\n---\n").unwrap_or((&input, ""));
            fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
            fs::write(dir.path().join("etc/group"), group).unwrap();
            let ids = bundle::resolve_user(&[dir.path().to_owned()], "web");
            if let Ok((_, _, more)) = &ids {
                assert!(more.len() <= 64);
            }
            answer(ids)
        },
    );
}

/// A program that needs `libx.so`, which is its interpreter too, with a run path and one loaded segment; or that library.
fn program(library: bool) -> Vec<u8> {
    const STRINGS: &[u8] = b"\0libx.so\0$ORIGIN/../lib\0";
    const INTERPRETER: &[u8] = b"/lib/libx.so\0";
    let (headers, dynamic) = (64_u64, 64 + 3 * 56_u64);
    let strings = dynamic + 5 * 16;
    let interpreter = strings + STRINGS.len() as u64;
    let end = interpreter + INTERPRETER.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, headers, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 64, 0, 0, 0, 0, 0]);
    for (kind, start, size) in [
        (1_u32, 0, end),
        (3, interpreter, INTERPRETER.len() as u64),
        (2, dynamic, 5 * 16),
    ] {
        elf.extend(kind.to_le_bytes());
        elf.extend(4_u32.to_le_bytes());
        for word in [start, start, start, size, size, 1_u64] {
            elf.extend(word.to_le_bytes());
        }
    }
    // DT_NEEDED, or DT_DEBUG, which says nothing.
    let needed = if library { 21 } else { 1 };
    for (tag, value) in [
        (needed, 1),
        (29, 9),
        (5, strings),
        (10, STRINGS.len() as u64),
        (0, 0),
    ] {
        elf.extend(u64::to_le_bytes(tag));
        elf.extend(value.to_le_bytes());
    }
    elf.extend(STRINGS);
    elf.extend(INTERPRETER);
    elf
}

#[test]
fn elf_closure() {
    let file = "format = 1\nname = \"a\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"prog\", to = \"/bin/prog\" }, { from = \"libx.so\", to = \"/lib/libx.so\" }]\nclosure = [\"/bin/prog\"]\n[config]\nentrypoint = [\"/bin/prog\"]\n";
    let done = fuzz(
        "elf-closure",
        &[program(false)],
        &[
            "/lib64/ld-linux-x86-64.so.2",
            "libc.so.6",
            "$ORIGIN",
            "../",
            "\u{0}",
            "\u{7f}ELF",
        ],
        |input| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("airtight.toml"), file).unwrap();
            fs::write(dir.path().join("prog"), input).unwrap();
            fs::write(dir.path().join("libx.so"), program(true)).unwrap();
            for program in ["prog", "libx.so"] {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(dir.path().join(program), mode).unwrap();
            }
            let request = BuildRequest {
                file: dir.path().join("airtight.toml"),
                tag: None,
                outputs: Vec::new(),
                source_date_epoch: None,
                ..BuildRequest::default()
            };
            let store = Store::open(&dir.path().join("store")).unwrap();
            answer(build(&request, &store)).replace(&dir.path().display().to_string(), "")
        },
    );
    assert!(done.answers > 3, "{done:?}");
}
