//! Debian packages as layers: from a mirror of one's own that is signed, and from ones that are not what they should be.

use std::process::Command;

use airtight_tests::debian::{Deb, Publish, Repository, Signer, filter};
use airtight_tests::{Need, Ran, World, has, repository};

mod base;
mod real;

const NEEDS: [Need; 3] = [
    Need::Program("gpg"),
    Need::Program("dpkg-deb"),
    Need::Program("sha256sum"),
];

/// A world with a mirror, and a build file that takes `packages` from it.
struct Place {
    world: World,
    repository: Repository,
}

impl Place {
    fn new(packages: &str, more: &str) -> Self {
        let world = World::new().unwrap();
        let repository = Repository::new(&world.path("r")).unwrap();
        let keyring = repository.keyring().display().to_string();
        let text = format!(
            "format = 1\nname = \"test/packages\"\n[debian]\nsuite = \"stable\"\nkeyring = \"{keyring}\"\n{more}\n[[layer]]\nname = \"system\"\npackages = [{packages}]\n"
        );
        world.write("work/airtight.toml", text).unwrap();
        Self { world, repository }
    }

    fn build(&self, flags: &[&str]) -> Ran {
        self.command("build", flags, &self.repository.address())
    }

    fn command(&self, command: &str, flags: &[&str], mirror: &str) -> Ran {
        let work = self.world.shown("work");
        let args = [&[command, work.as_str(), "--mirror", mirror], flags].concat();
        self.world.airtight(args).unwrap()
    }

    fn refused(&self) -> String {
        let ran = self.build(&[]);
        assert_eq!(ran.code, Some(125), "{ran:?}");
        let verified = self.world.airtight(["verify"]).unwrap();
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let images = self.world.airtight(["images", "--json"]).unwrap();
        assert!(!images.stdout.contains("test/packages"), "{images:?}");
        ran.stderr
    }

    /// The layer's entries, as `tar -tv` tells them.
    fn entries(&self) -> String {
        let out = self.world.shown("out.tar");
        let archive = format!("oci-archive:{out}");
        let exported = self
            .world
            .airtight(["export", "test/packages", &archive])
            .unwrap();
        assert_eq!(exported.code, Some(0), "{exported:?}");
        let script =
            "tar -xf out.tar; for b in blobs/sha256/*; do tar -tvzf $b 2>/dev/null || :; done";
        let shell = filter(
            Command::new("sh")
                .args(["-c", script])
                .current_dir(self.world.path(".")),
            &[],
        );
        String::from_utf8(shell.unwrap()).unwrap()
    }
}

const LIBRARY: Deb<'_> = Deb {
    name: "libthing1",
    version: "1:1.2-3",
    fields: &[("Multi-Arch", "foreign")],
    files: &[
        ("/lib/libthing.so.1", "-> libthing.so.1.2", 0),
        ("/lib/libthing.so.1.2", "a library", 0o644),
        ("/usr/share/doc/libthing1/copyright", "a licence", 0o644),
        (
            "/usr/share/doc/libthing1/changelog.gz",
            "a changelog",
            0o644,
        ),
    ],
    scripts: &[],
};

const PROGRAM: Deb<'_> = Deb {
    name: "thing",
    version: "2.0",
    fields: &[
        ("Depends", "libthing1 (>= 1:1.1), debconf | debconf-2.0"),
        ("Section", "misc"),
    ],
    files: &[
        ("/bin/thing", "a program", 0o4755),
        ("/usr/share/man/man1/thing.1", "a page", 0o644),
        ("/usr/share/thing/awk", "a program", 0o755),
    ],
    scripts: &[(
        "postinst",
        "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then\n  update-alternatives --install /usr/bin/awk awk /usr/share/thing/awk 5\nfi\n",
    )],
};

#[test]
fn an_image_is_made_of_packages_and_again_from_its_lock_alone() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"thing\"", "");
    place.repository.add(&LIBRARY).unwrap();
    place.repository.add(&PROGRAM).unwrap();
    for (signer, text) in [(Signer::Ed25519, "ed"), (Signer::Rsa, "rsa")] {
        place
            .repository
            .publish(&Publish {
                signer,
                ..Publish::default()
            })
            .unwrap();
        let updated = place.command("update", &[], &place.repository.address());
        assert_eq!(updated.code, Some(0), "{text}: {updated:?}");
    }
    let first = place.build(&[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let entries = place.entries();
    for (want, there) in [
        ("-r-xr-xr-x 0/0 ", true),
        (" usr/bin/thing\n", true),
        (" bin -> usr/bin\n", true),
        (" usr/lib/libthing.so.1.2\n", true),
        (" usr/lib/libthing.so.1 -> libthing.so.1.2\n", true),
        (" usr/share/doc/libthing1/copyright\n", true),
        (" usr/share/doc/libthing1/changelog.gz\n", false),
        ("man1", false),
        (" usr/bin/awk -> /etc/alternatives/awk\n", true),
        (" etc/alternatives/awk -> /usr/share/thing/awk\n", true),
        (" var/lib/dpkg/status.d/thing\n", true),
        (" var/lib/dpkg/status.d/libthing1\n", true),
        ("postinst", false),
        ("rwsr", false),
    ] {
        assert_eq!(entries.contains(want), there, "{want:?}: {entries}");
    }
    let why = place
        .world
        .airtight(["why", "test/packages", "/usr/bin/thing"])
        .unwrap();
    assert!(why.stdout.contains("package thing 2.0"), "{why:?}");
    // Without a mirror, from the store.
    std::fs::remove_dir_all(place.repository.mirror()).unwrap();
    let again = place.build(&["--locked", "--no-cache"]);
    assert_eq!(
        (again.code, &again.stdout),
        (Some(0), &first.stdout),
        "{again:?}"
    );
    // And when everything that nobody needs has gone.
    let collected = place.world.airtight(["gc"]).unwrap();
    assert_eq!(collected.code, Some(0), "{collected:?}");
    let again = place.build(&["--locked", "--no-cache"]);
    assert_eq!(
        (again.code, &again.stdout),
        (Some(0), &first.stdout),
        "{again:?}"
    );
}

#[test]
fn a_lock_is_kept_until_it_is_updated_and_drift_is_told() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\"", "");
    let locked = place.build(&["--locked"]);
    assert!(
        locked.stderr.contains("`airtight.lock`: is not there"),
        "{locked:?}"
    );
    place.repository.add(&LIBRARY).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let first = place.build(&[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let newer = Deb {
        version: "1:1.3-1",
        ..LIBRARY
    };
    place.repository.add(&newer).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let second = place.build(&[]);
    assert_eq!(second.stdout, first.stdout, "{second:?}");
    let updated = place.command("update", &["--json"], &place.repository.address());
    let changes: serde_json::Value = serde_json::from_str(&updated.stdout).unwrap();
    let package = changes
        .as_array()
        .unwrap()
        .iter()
        .find(|change| change["kind"] == "package")
        .unwrap()
        .clone();
    assert_eq!(package["name"], "libthing1");
    assert!(
        package["from"].as_str().unwrap().starts_with("1:1.2-3 ("),
        "{package}"
    );
    assert!(
        package["to"].as_str().unwrap().starts_with("1:1.3-1 ("),
        "{package}"
    );
    let third = place.build(&["--locked"]);
    assert_eq!(third.code, Some(0), "{third:?}");
    assert_ne!(third.stdout, first.stdout);
    // An old release comes back, as good as it was: nobody meant that.
    let old = Publish {
        date: -86_400,
        ..Publish::default()
    };
    place.repository.publish(&old).unwrap();
    let back = place.command("update", &[], &place.repository.address());
    assert_eq!(back.code, Some(125), "{back:?}");
    assert!(back.stderr.contains("; the lock is of "), "{back:?}");
    let meant = ["--allow-expired-release"];
    let meant = place.command("update", &meant, &place.repository.address());
    assert_eq!(meant.code, Some(0), "{meant:?}");
    // The build file asks for something else than what the lock answers.
    let file = place.world.path("work/airtight.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("\"libthing1\"", "\"libthing1 (>= 1:1)\""),
    )
    .unwrap();
    let drifted = place.build(&["--locked"]);
    assert_eq!(drifted.code, Some(125), "{drifted:?}");
    assert!(
        drifted
            .stderr
            .contains("`airtight.lock`: has no answer to what the build file asks for"),
        "{drifted:?}"
    );
}

#[test]
fn a_pipe_in_the_lock_s_place_is_not_waited_for() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\"", "");
    place.repository.add(&LIBRARY).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let lock = place.world.path("work/airtight.lock");
    filter(Command::new("mkfifo").arg(&lock), &[]).unwrap();
    // Nobody writes to it: a command that waits does so for ever, unless this ends it.
    let started = std::time::Instant::now();
    let opener = lock.clone();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(60));
        drop(std::fs::File::options().write(true).open(opener));
    });
    let locked = place.build(&["--locked"]);
    assert_eq!(locked.code, Some(125), "{locked:?}");
    let why = "`airtight.lock`: cannot be read: it is no regular file";
    assert!(locked.stderr.contains(why), "{locked:?}");
    let told = place.build(&[]);
    assert_eq!(told.code, Some(125), "{told:?}");
    assert!(told.stderr.contains(why), "{told:?}");
    // What cannot be read is replaced by who asks for a new one: the pipe is gone then, and was not written to.
    let updated = place.command("update", &[], &place.repository.address());
    assert_eq!(updated.code, Some(0), "{updated:?}");
    assert!(lock.symlink_metadata().unwrap().is_file());
    let built = place.build(&["--locked"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn a_release_that_cannot_be_believed_is_refused() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\"", "");
    place.repository.add(&LIBRARY).unwrap();
    let normal = Publish::default;
    for (name, publish, want) in [
        (
            "unsigned",
            Publish {
                signer: Signer::Nobody,
                ..normal()
            },
            "is not signed",
        ),
        (
            "by a stranger",
            Publish {
                signer: Signer::Stranger,
                ..normal()
            },
            "has no signature by a key of the keyring",
        ),
        (
            "expired",
            Publish {
                valid_until: Some(-10),
                date: -20,
                ..normal()
            },
            "was good until",
        ),
        (
            "of the future",
            Publish {
                date: 86_400,
                ..normal()
            },
            "and this host's clock says",
        ),
        (
            "of another suite",
            Publish {
                before: |text| text.replace("Suite: stable", "Suite: testing"),
                ..normal()
            },
            "is of the suite `testing`",
        ),
        (
            "changed",
            Publish {
                after: |text| text.replace("Codename: test", "Codename: best"),
                ..normal()
            },
            "it was changed or damaged",
        ),
        (
            "text before",
            Publish {
                after: |text| format!("Suite: stable\n{text}"),
                ..normal()
            },
            "is not signed",
        ),
        (
            "text after",
            Publish {
                after: |text| format!("{text}Suite: stable\n"),
                ..normal()
            },
            "goes on after its signature",
        ),
        (
            "cut",
            Publish {
                after: |text| text.chars().take(400).collect(),
                ..normal()
            },
            "is cut",
        ),
        (
            "without digests",
            Publish {
                before: |text| text.replace("SHA256:", "MD5Sum:"),
                ..normal()
            },
            "lists no files by SHA256",
        ),
        (
            "another index",
            Publish {
                before: |text| {
                    text.replace("SHA256:\n ", "SHA256:\n 0")
                        .replace("Packages.gz", "Packages.gz.x")
                },
                ..normal()
            },
            "has a file",
        ),
    ] {
        place.repository.publish(&publish).unwrap();
        let told = place.refused();
        assert!(told.contains(want), "{name}: {told}");
    }
    // What is over may be taken by name.
    let expired = Publish {
        valid_until: Some(-10),
        date: -20,
        ..normal()
    };
    place.repository.publish(&expired).unwrap();
    let taken = place.build(&["--allow-expired-release", "--no-lock"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
}

#[test]
fn bytes_that_are_not_those_of_the_index_get_into_no_image() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\"", "");
    let path = place.repository.add(&LIBRARY).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let deb = place.repository.mirror().join(path);
    let bytes = std::fs::read(&deb).unwrap();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let index = place
        .repository
        .mirror()
        .join(if cfg!(target_arch = "aarch64") {
            "dists/stable/main/binary-arm64/Packages.gz"
        } else {
            "dists/stable/main/binary-amd64/Packages.gz"
        });
    let packed = std::fs::read(&index).unwrap();
    for (name, file, content, want) in [
        // First: an index that was right is not asked for again.
        (
            "an index that is longer",
            &index,
            [packed.as_slice(), b"x"].concat(),
            "is longer than",
        ),
        (
            "an index that is another",
            &index,
            vec![0; packed.len()],
            "has the digest",
        ),
        ("changed", &deb, changed, "has the digest"),
        (
            "cut",
            &deb,
            bytes[..bytes.len() - 1].to_vec(),
            "bytes and should be",
        ),
        (
            "longer",
            &deb,
            [bytes.as_slice(), b"x"].concat(),
            "is longer than",
        ),
    ] {
        let right = std::fs::read(file).unwrap();
        std::fs::write(file, content).unwrap();
        let told = place.refused();
        assert!(told.contains(want), "{name}: {told}");
        std::fs::write(file, right).unwrap();
    }
    let built = place.build(&[]);
    assert_eq!(built.code, Some(0), "{built:?}");
}

#[test]
fn a_package_that_no_layer_may_hold_or_that_needs_its_script_is_refused() {
    if !has(&NEEDS) {
        return;
    }
    for (name, deb, want) in [
        (
            "a user",
            Deb {
                scripts: &[("postinst", "#!/bin/sh\nadduser --system bad\n")],
                ..LIBRARY
            },
            "libthing1 1:1.2-3 has a script (`postinst`) that would make a user or group: `adduser --system bad`",
        ),
        (
            "a diversion",
            Deb {
                scripts: &[("preinst", "#!/bin/sh\ndpkg-divert --add /bin/x\n")],
                ..LIBRARY
            },
            "would divert another package's file",
        ),
        (
            "a link that climbs",
            Deb {
                files: &[("/etc/x", "-> ../../../etc/shadow", 0)],
                ..LIBRARY
            },
            "has the link `etc/x` to `../../../etc/shadow`, which climbs out of the image",
        ),
        (
            "a whiteout",
            Deb {
                files: &[("/etc/.wh.passwd", "", 0o644)],
                ..LIBRARY
            },
            "has a name that deletes",
        ),
        (
            "what nothing satisfies",
            Deb {
                fields: &[("Depends", "nothing (>= 3)")],
                ..LIBRARY
            },
            "`layer[0].packages[0]`: `nothing (>= 3)` is needed by libthing1 1:1.2-3, and there is no such package",
        ),
    ] {
        let mut place = Place::new("\"libthing1\"", "");
        place.repository.add(&deb).unwrap();
        place.repository.publish(&Publish::default()).unwrap();
        let told = place.refused();
        assert!(told.contains(want), "{name}: {told}");
    }
    // The build file may say that it does without.
    let mut place = Place::new("\"libthing1\"", "scripts = { libthing1 = \"ignore\" }");
    place
        .repository
        .add(&Deb {
            scripts: &[("postinst", "#!/bin/sh\nadduser --system bad\n")],
            ..LIBRARY
        })
        .unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let built = place.build(&[]);
    assert_eq!(built.code, Some(0), "{built:?}");
}

#[test]
fn two_packages_that_cannot_be_together_are_both_named() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\", \"other\"", "");
    place.repository.add(&LIBRARY).unwrap();
    let other = Deb {
        name: "other",
        version: "1",
        fields: &[("Conflicts", "libthing1 (<< 1:2)")],
        ..Deb::default()
    };
    place.repository.add(&other).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let told = place.refused();
    assert!(
        told.contains("other 1 cannot be together with libthing1 1:1.2-3"),
        "{told}"
    );
    // Two that have one file, of which neither replaces the other.
    let mut place = Place::new("\"libthing1\", \"other\"", "");
    place.repository.add(&LIBRARY).unwrap();
    let other = Deb {
        files: &[("/usr/lib/libthing.so.1.2", "another", 0o644)],
        fields: &[],
        ..other
    };
    place.repository.add(&other).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let told = place.refused();
    assert!(
        told.contains(
            "/usr/lib/libthing.so.1.2 has two different sources: package libthing1 1:1.2-3"
        ),
        "{told}"
    );
    assert!(told.contains("package other 1"), "{told}");
}

/// A package made of parts that `dpkg-deb` would not put together.
fn by_hand(place: &Place, script: &str) -> Vec<u8> {
    let dir = place.world.path("hand");
    std::fs::create_dir_all(&dir).unwrap();
    let whole = format!(
        "set -e; printf 'Package: hand\\nVersion: 1\\nArchitecture: all\\n' > control; tar -czf control.tar.gz ./control; echo 2.0 > debian-binary\n{script}\nar rc x.deb debian-binary control.tar.gz data.tar.*"
    );
    filter(
        Command::new("sh").args(["-c", &whole]).current_dir(&dir),
        &[],
    )
    .unwrap();
    std::fs::read(dir.join("x.deb")).unwrap()
}

#[test]
fn an_archive_that_was_made_to_harm_does_not() {
    if !has(&NEEDS) || !has(&[Need::Program("ar"), Need::Program("zstd")]) {
        return;
    }
    for (name, script, want) in [
        (
            "climbs",
            "mkdir -p a; echo x > a/f; tar -cPzf data.tar.gz --transform 's,^a/,../../,' a/f",
            "climbs out with `..`",
        ),
        (
            "a bomb",
            "head -c 400000000 /dev/zero > z; tar -cf - z | zstd -q > data.tar.zst; rm z",
            "unpacks to more",
        ),
        (
            "a pipe",
            "mkfifo p; tar -czf data.tar.gz p",
            "is a named pipe",
        ),
        (
            "a hard link out",
            "mkdir -p a; echo x > a/f; ln a/f a/g; tar -cPzf data.tar.gz --transform 'flags=h;s,^a/f,/etc/shadow,' a/f a/g",
            "is a hard link to etc/shadow",
        ),
        (
            "a state of its own",
            "echo 'Status: deinstall ok config-files' >> control; tar -czf control.tar.gz ./control; mkdir -p a; tar -czf data.tar.gz a",
            "has a control file that says its own `Status`",
        ),
        (
            "another machine",
            "sed -i 's/^Architecture: .*/Architecture: s390x/' control; tar -czf control.tar.gz ./control; mkdir -p a; tar -czf data.tar.gz a",
            "says of itself that it is for s390x",
        ),
        (
            "a record elsewhere",
            "mkdir -p etc/zz var/lib/dpkg; ln -s /etc/zz var/lib/dpkg/status.d; tar -czf data.tar.gz etc var",
            "would have its record at /etc/zz/hand",
        ),
        (
            "no compression that is one",
            "echo x > data.tar.xz",
            "libthing",
        ),
    ] {
        let mut place = Place::new("\"hand\"", "");
        let deb = by_hand(&place, script);
        place
            .repository
            .list("Package: hand\nVersion: 1\nArchitecture: all\n", &deb)
            .unwrap();
        place.repository.publish(&Publish::default()).unwrap();
        let told = place.refused();
        let want = if want == "libthing" {
            "hand 1 layer: is no tar archive"
        } else {
            want
        };
        assert!(told.contains(want), "{name}: {told}");
    }
}

#[test]
fn a_download_that_was_cut_goes_on_and_a_second_build_asks_for_nothing() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\"", "");
    place.repository.add(&LIBRARY).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let served = place.repository.serve(".deb", 100, 2).unwrap();
    let built = place.command("build", &[], &served.address());
    assert_eq!(built.code, Some(0), "{built:?}");
    // The release, the index, and the package in three pieces.
    assert_eq!(served.asked(), 5);
    let again = place.command("build", &["--no-cache"], &served.address());
    assert_eq!((again.code, again.stdout), (Some(0), built.stdout));
    assert_eq!(served.asked(), 5);
}
