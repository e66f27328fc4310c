//! Packages on a base that has some, and locks whose list answers something else than the build file asks.

use std::fs;

use airtight_tests::debian::{Deb, Publish};
use airtight_tests::has;

use super::{LIBRARY, NEEDS, PROGRAM, Place};

impl Place {
    /// Makes an image of what the build file says by now the base of what it says next.
    fn on_base(&self, packages: &str) {
        let layout = self.world.path("work/base").display().to_string();
        let exported = self
            .world
            .airtight(["export", "test/packages", &format!("oci:{layout}")])
            .unwrap();
        assert_eq!(exported.code, Some(0), "{exported:?}");
        let removed = self.world.airtight(["rm", "test/packages"]).unwrap();
        assert_eq!(removed.code, Some(0), "{removed:?}");
        let file = self.world.path("work/airtight.toml");
        let text = fs::read_to_string(&file).unwrap();
        let (head, _) = text.split_once("packages = [").unwrap();
        let text = head.replace(
            "name = \"test/packages\"\n",
            "name = \"test/packages\"\nbase = \"oci:base\"\n",
        );
        fs::write(&file, format!("{text}packages = [{packages}]\n")).unwrap();
        fs::remove_file(self.lock()).unwrap();
    }

    fn lock(&self) -> std::path::PathBuf {
        self.world.path("work/airtight.lock")
    }

    /// Packages that the lock pins.
    fn pinned(&self) -> Vec<String> {
        let lock = fs::read_to_string(self.lock()).unwrap();
        let names = lock.lines().filter_map(|line| line.strip_prefix("name = "));
        names
            .map(|name| name.trim_matches('"').to_owned())
            .collect()
    }
}

#[test]
fn what_a_base_has_is_not_taken_again() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"libthing1\"", "");
    place.repository.add(&LIBRARY).unwrap();
    place.repository.add(&PROGRAM).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let base = place.build(&[]);
    assert_eq!(base.code, Some(0), "{base:?}");
    // A later one is in the mirror by now: the base's is good enough.
    let newer = Deb {
        version: "1:1.9-1",
        ..LIBRARY
    };
    place.repository.add(&newer).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    place.on_base("\"thing\", \"libthing1\"");
    let built = place.build(&[]);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert_eq!(place.pinned(), ["thing"]);
    let locked = place.build(&["--locked", "--no-cache"]);
    assert_eq!(
        (locked.code, &locked.stdout),
        (Some(0), &built.stdout),
        "{locked:?}"
    );
    let entries = place.entries();
    let times = |name: &str| entries.matches(name).count();
    assert_eq!(times(" var/lib/dpkg/status.d/thing\n"), 1, "{entries}");
    // Once: in the base's layer.
    assert_eq!(times(" usr/lib/libthing.so.1.2\n"), 1, "{entries}");
}

#[test]
fn another_version_than_the_base_has_is_refused_by_name() {
    if !has(&NEEDS) {
        return;
    }
    for (name, fields, want) in [
        (
            "needed",
            [("Depends", "libthing1 (>= 1:1.9)")],
            "`layer[0].packages[0]`: `libthing1 (>= 1:1.9)` is needed by wants 1, and the base has libthing1 1:1.2-3, which stays as it is",
        ),
        (
            "in conflict",
            [("Breaks", "libthing1 (<< 1:1.9)")],
            "wants 1 cannot be together with libthing1 1:1.2-3, by `libthing1 (<< 1:1.9)` (the one is needed by the build file, the other is the base's)",
        ),
    ] {
        let mut place = Place::new("\"libthing1\"", "");
        place.repository.add(&LIBRARY).unwrap();
        place.repository.publish(&Publish::default()).unwrap();
        assert_eq!(place.build(&[]).code, Some(0), "{name}");
        let newer = Deb {
            version: "1:1.9-1",
            ..LIBRARY
        };
        let wants = Deb {
            name: "wants",
            version: "1",
            fields: &fields,
            ..Deb::default()
        };
        place.repository.add(&newer).unwrap();
        place.repository.add(&wants).unwrap();
        place.repository.publish(&Publish::default()).unwrap();
        place.on_base("\"wants\"");
        let told = place.refused();
        assert!(told.contains(want), "{name}: {told}");
    }
}

#[test]
fn a_list_that_is_no_answer_is_drift_and_named() {
    if !has(&NEEDS) {
        return;
    }
    let mut place = Place::new("\"thing\"", "");
    place.repository.add(&LIBRARY).unwrap();
    place.repository.add(&PROGRAM).unwrap();
    let extra = Deb {
        name: "extra",
        version: "7",
        ..Deb::default()
    };
    place.repository.add(&extra).unwrap();
    place.repository.publish(&Publish::default()).unwrap();
    let first = place.build(&[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let (file, lock) = (place.world.path("work/airtight.toml"), place.lock());
    let honest = fs::read_to_string(&lock).unwrap();
    let build_file = fs::read_to_string(&file).unwrap();
    // The old lock, and a build file that asks for one more.
    let more = build_file.replace("\"thing\"", "\"thing\", \"extra (>= 7)\"");
    fs::write(&file, &more).unwrap();
    let told = place.build(&["--locked"]);
    assert_eq!(told.code, Some(125), "{told:?}");
    assert!(
        told.stderr
            .contains("it pins no extra (>= 7) (layer[0].packages[1])"),
        "{told:?}"
    );
    assert_eq!(place.build(&[]).code, Some(0));
    let with_extra = fs::read_to_string(&lock).unwrap();
    let table = |lock: &str, name: &str| {
        let tables = lock.split("\n[[package]]\n").skip(1);
        let mut tables = tables.filter(|table| table.contains(&format!("name = \"{name}\"\n")));
        format!("\n[[package]]\n{}", tables.next().unwrap())
    };
    fs::write(&file, &build_file).unwrap();
    for (name, lock_text, want) in [
        (
            "what was asked for is not in the list",
            honest.replace(&table(&honest, "thing"), ""),
            "pins nothing for `thing`, which layer[0].packages[0] asks for",
        ),
        (
            "what it needs is not",
            honest.replace(&table(&honest, "libthing1"), ""),
            "pins thing 2.0, and nothing for `libthing1 (>= 1:1.1)`, which it needs",
        ),
        (
            "one more is",
            format!("{honest}{}", table(&with_extra, "extra")),
            "pins extra 7, which nothing that the build file asks for needs",
        ),
    ] {
        assert_ne!(lock_text, honest, "{name}");
        fs::write(&lock, &lock_text).unwrap();
        let told = place.build(&["--locked"]);
        assert_eq!(told.code, Some(125), "{name}: {told:?}");
        assert!(
            told.stderr.contains(&format!("`airtight.lock`: {want}")),
            "{name}: {told:?}"
        );
        // Without --locked it is made anew, as one that answers another question.
        let built = place.build(&[]);
        assert_eq!(
            (built.code, &built.stdout),
            (Some(0), &first.stdout),
            "{name}: {built:?}"
        );
        assert_eq!(fs::read_to_string(&lock).unwrap(), honest, "{name}");
    }
}
