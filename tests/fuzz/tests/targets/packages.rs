//! What a mirror of packages says and what packages hold, the lock, and the host's own settings of apt.

use airtight_build::hostile;
use airtight_fuzz::{TAKEN, fuzz};

use crate::text;

const ED25519: &[u8] = include_bytes!("../../seeds/debian/ed25519.InRelease");
const RSA: &[u8] = include_bytes!("../../seeds/debian/rsa.InRelease");
const KEYRING: &[u8] = include_bytes!("../../seeds/debian/keyring.gpg");
const ARMORED: &[u8] = include_bytes!("../../seeds/debian/keyring.asc");
/// 26 November 2026.
const NOW: u64 = 1_795_651_200;

#[test]
fn release() {
    let believed = |bytes: &[u8]| hostile::signed_release(bytes, KEYRING, "stable", NOW);
    let signed = believed(ED25519).unwrap();
    assert_eq!(believed(RSA).unwrap(), signed);
    let words = [
        "-----BEGIN PGP SIGNED MESSAGE-----\n",
        "-----BEGIN PGP SIGNATURE-----\n",
        "-----END PGP SIGNATURE-----\n",
        "Hash: SHA256\n",
        "\n\n",
        "- -",
        "Suite: other\n",
        " ",
        "\r\n",
        "=abcd\n",
    ];
    let done = fuzz("release", &[ED25519, RSA], &words, |input| {
        match believed(input) {
            // Whatever was changed, what is believed is what was signed.
            Ok(text) => {
                assert_eq!(text, signed);
                TAKEN.to_owned()
            }
            Err(problem) => problem,
        }
    });
    assert!(done.answers > 5, "{done:?}");
}

#[test]
fn keyring() {
    let believed = |keyring: &[u8]| hostile::signed_release(ED25519, keyring, "stable", NOW);
    let signed = believed(KEYRING).unwrap();
    let words = [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n",
        "\u{99}",
        "\u{c2}",
    ];
    let done = fuzz(
        "keyring",
        &[KEYRING, ARMORED],
        &words,
        |input| match believed(input) {
            Ok(text) => {
                assert_eq!(text, signed);
                TAKEN.to_owned()
            }
            Err(problem) => problem,
        },
    );
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn status_of_a_base() {
    let seed = "Package: aa\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nDepends: bb (>= 1)\nProvides: ee (= 1)\n\nPackage: bb\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n";
    let words = [
        "Package: ",
        "\n\n",
        "Status: ",
        " installed",
        "Provides: ",
        "(>= ",
        "\n ",
    ];
    let done = fuzz(
        "base-status",
        &[seed],
        &words,
        |input| match hostile::status(input, "amd64") {
            Ok(0) => format!("{TAKEN} none"),
            Ok(_) => TAKEN.to_owned(),
            Err(why) => why,
        },
    );
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn package_index() {
    let digest = "0".repeat(64);
    let seed = format!(
        "Package: aa\nVersion: 1:2-3\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 5\nSHA256: {digest}\nDepends: bb (>= 1) | cc:any, dd\nProvides: ee (= 1)\nConflicts: ff (<< 2)\n\nPackage: bb\nVersion: 1\nArchitecture: all\nFilename: pool/b.deb\nSize: 5\nSHA256: {digest}\n"
    );
    let words = [
        "Package: ",
        "\n\n",
        "Depends: ",
        "(>= ",
        "|",
        ",",
        ":any",
        "\n ",
        "Breaks: ",
    ];
    let done = fuzz(
        "package-index",
        &[seed],
        &words,
        |input| match hostile::index(input, "amd64") {
            Ok(0) => format!("{TAKEN} none"),
            Ok(_) => TAKEN.to_owned(),
            Err(problem) => problem,
        },
    );
    assert!(done.answers > 5, "{done:?}");
}

#[test]
fn package() {
    let seeds: [&[u8]; 3] = [
        include_bytes!("../../seeds/debian/gzip.deb"),
        include_bytes!("../../seeds/debian/xz.deb"),
        include_bytes!("../../seeds/debian/zstd.deb"),
    ];
    let words = [
        "!<arch>\n",
        "debian-binary   ",
        "data.tar.gz/    ",
        "`\n",
        "2.0\n",
        "../",
        "\u{1f}\u{8b}",
    ];
    let done = fuzz("package", &seeds, &words, |input| {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("outer/home");
        std::fs::create_dir_all(&home).unwrap();
        let answer = hostile::package(input, &home);
        // Nothing beside it.
        let beside = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!(
            (beside(dir.path()), beside(&dir.path().join("outer"))),
            (1, 1)
        );
        answer.map_or_else(|problem| problem, |()| TAKEN.to_owned())
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn package_texts() {
    let seeds = [
        "Package: a\nVersion: 1\n",
        "libc6 (>= 2.36), a | b:any",
        "1:1.0~rc1-1\n1.0\n",
        "Types: deb\nURIs: http://m.example/d\nSuites: x\nComponents: main\nSigned-By: /k\n",
        "deb [signed-by=/k] http://m.example/d x main\n",
        "Acquire { http { Proxy \"http://p:1\"; }; };",
        "#!/bin/sh\nset -e\n# Automatically added by dh_python3\npy3compile x\n# End automatically added section\nupdate-alternatives --install /a b /c 1 --slave /d e /f\n",
    ];
    let words = [
        "(>= ",
        "|",
        "~",
        ":",
        "\n ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        ";",
        "/*",
        "#",
        "$(",
        "\\\n",
        "case \"$1\" in\n",
        "update-alternatives --install ",
    ];
    let done = fuzz("package-texts", &seeds, &words, |input| {
        let told = hostile::text(&text(input));
        assert!(!told.contains("disordered"), "{told}");
        format!("{TAKEN} {told}")
    });
    assert!(done.answers > 5, "{done:?}");
}
