//! Ledgers that are none: whoever explains an image says so and goes on.

use std::fs;
use std::path::Path;
use std::process::Command;

use airtight_tests::debian::filter;
use airtight_tests::{Need, World, has};
use serde_json::Value;

use super::{context, done, json};

fn sha256(bytes: &[u8]) -> String {
    let sum = filter(&mut Command::new("sha256sum"), bytes).unwrap();
    String::from_utf8(sum).unwrap()[..64].to_owned()
}

/// Puts `bytes` in the place of the ledger of a layout's only image, with digests that are right.
fn replace_ledger(layout: &Path, byte: u8) {
    let blobs = layout.join("blobs/sha256");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let is_artifact =
        |text: &str| text.contains("\"artifactType\":\"application/vnd.airtight.why.v1\"");
    let all = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let manifest = all
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"{")))
        .find(|path| is_artifact(&read(path)))
        .unwrap();
    let text = read(&manifest);
    let artifact: Value = serde_json::from_str(&text).unwrap();
    let old = artifact["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    // Of the same length, so that no size changes.
    let length = fs::metadata(blobs.join(&old)).unwrap().len();
    let bytes = vec![byte; usize::try_from(length).unwrap()];
    let new = sha256(&bytes);
    fs::write(blobs.join(&new), bytes).unwrap();
    let text = text.replace(&old, &new);
    let digest = sha256(text.as_bytes());
    fs::write(blobs.join(&digest), text).unwrap();
    let was = manifest.file_name().unwrap().to_str().unwrap();
    let index = layout.join("index.json");
    fs::write(&index, read(&index).replace(was, &digest)).unwrap();
}

#[test]
fn a_ledger_that_is_none_is_told_once_and_the_layers_say_the_rest() {
    if !has(&[Need::Program("sha256sum")]) {
        return;
    }
    let world = World::new().unwrap();
    let work = context(&world, "app", "#!/bin/none\n");
    let layout = world.shown("work/out");
    let output = format!("oci:{layout}:1");
    done(
        &world,
        &["build", &work, "-t", "test/app:1", "--output", &output],
    );
    replace_ledger(&world.path("work/out"), b'{');
    let other = World::new().unwrap();
    done(&other, &["import", &layout, "--name", "test/app:1"]);
    for (args, says) in [
        (&["why", "test/app:1", "/bin/run"][..], "not known: "),
        (&["diff", "test/app:1", "test/app:1"], "nothing differs"),
        (&["lint", "test/app:1", "--fail-on", "never"], " errors, "),
    ] {
        let told = done(&other, args);
        assert!(told.stdout.contains(says), "{args:?}: {told:?}");
        let warned = told.stderr.matches("airtight: warning: ").count();
        assert_eq!(
            (warned, told.stderr.lines().count()),
            (1, 1),
            "{args:?}: {told:?}"
        );
        let why = "has reasons for its files that are not taken: the ledger of the image is none that this release knows";
        assert!(told.stderr.contains(why), "{args:?}: {told:?}");
        let told = json(&other, &[args, &["--json"]].concat());
        assert_eq!(told["warnings"].as_array().unwrap().len(), 1, "{told}");
    }
    let log = json(
        &other,
        &["lint", "test/app:1", "--fail-on", "never", "--sarif"],
    );
    let told = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(told.as_array().unwrap().len(), 1, "{log}");
    // As a base of another image too.
    let file = other.path("work/next/airtight.toml");
    let text = "format = 1\nname = \"test/next\"\nbase = \"oci:base\"\n[[layer]]\nname = \"own\"\ngenerate = [\"nsswitch\"]\n";
    other.write("work/next/airtight.toml", text).unwrap();
    done(
        &other,
        &[
            "export",
            "test/app:1",
            &format!("oci:{}", file.with_file_name("base").display()),
        ],
    );
    let built = done(&other, &["build", &other.shown("work/next")]);
    assert_eq!(
        built.stderr.matches("airtight: warning: ").count(),
        1,
        "{built:?}"
    );
    let own = done(&other, &["why", "test/next", "/etc/nsswitch.conf"]);
    assert!(own.stdout.contains("layer[0].generate[0]"), "{own:?}");
}

#[test]
fn reasons_that_are_too_many_to_keep_are_told() {
    let world = World::new().unwrap();
    let file = "format = 1\nname = \"test/many\"\n[[layer]]\nname = \"tree\"\ncopy = [{ from = \"tree\", to = \"/srv\" }]\n";
    world.write("work/airtight.toml", file).unwrap();
    // Names that take five bytes for each of theirs: a thousand directories fill a ledger.
    let name = |byte: u8, length: usize| -> std::ffi::OsString {
        std::os::unix::ffi::OsStringExt::from_vec(vec![byte; length])
    };
    let mut deep = world.path("work/tree");
    deep.extend((0..12).map(|_| name(0xff, 250)));
    fs::create_dir_all(&deep).unwrap();
    for number in 0..1200 {
        let inner = deep.join(number.to_string());
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("f"), "").unwrap();
    }
    let built = done(&world, &["build", &world.shown("work")]);
    let want = "airtight: warning: the reasons for this image's files come to more than 16 MiB and are not kept";
    assert_eq!(built.stderr.matches(want).count(), 1, "{built:?}");
    let why = json(&world, &["why", "test/many", "/srv", "--json"]);
    assert_eq!(why["explained"], false, "{why}");
}
