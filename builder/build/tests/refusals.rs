//! What cannot be built from: each one clear error, and no image.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use airtight_build::{BuildRequest, Progress, build};
use airtight_image::Store;

/// Builds `layers` in a directory that `prepare` fills; the error without the directory's own name.
fn refused(layers: &str, prepare: impl Fn(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("context");
    fs::create_dir(&context).unwrap();
    prepare(&context);
    let file = context.join("airtight.toml");
    fs::write(&file, format!("format = 1\nname = \"a\"\n{layers}")).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let request = BuildRequest {
        file,
        tag: None,
        outputs: vec![],
        platform: None,
        source_date_epoch: None,
        ..BuildRequest::default()
    };
    let told = build(&request, &store)
        .map(|built| built.digest.to_string())
        .unwrap_err()
        .to_string();
    assert!(store.images().unwrap().is_empty(), "{told}");
    let context = format!("{}/", context.canonicalize().unwrap().display());
    told.replace(&context, "")
}

fn layer(copy: &str) -> String {
    format!("[[layer]]\nname = \"app\"\ncopy = [{copy}]\n")
}

#[test]
fn a_source_that_cannot_be_held_is_refused_by_name() {
    const TREE: &str = "{ from = \"tree\", to = \"/srv\" }";
    let in_tree = |make: fn(&Path)| {
        move |context: &Path| {
            fs::create_dir(context.join("tree")).unwrap();
            make(&context.join("tree"));
        }
    };
    let hold = "which a layer of an app cannot hold\n  fix: remove it, or name it in `exclude`";
    let deletes = "which deletes: a layer's names that begin with `.wh.` are whiteouts\n  \
                   fix: rename it, `exclude` it, or choose another place";
    for (name, copy, prepare, want) in [
        (
            "absent",
            "{ from = \"api\", to = \"/bin/api\" }",
            Box::new(|_: &Path| ()) as Box<dyn Fn(&Path)>,
            "airtight.toml: `layer[0].copy[0].from`: `api` does not exist\n  \
             fix: build or install it first, or correct the path; a relative one starts at the build file's directory"
                .to_owned(),
        ),
        (
            "a socket",
            TREE,
            Box::new(in_tree(|tree| drop(UnixListener::bind(tree.join("s")).unwrap()))),
            format!("airtight.toml: `layer[0].copy[0].from`: `tree/s` is a socket, {hold}"),
        ),
        (
            "a FIFO",
            TREE,
            Box::new(in_tree(|tree| {
                let made = std::process::Command::new("mkfifo").arg(tree.join("f")).status().unwrap();
                assert!(made.success());
            })),
            format!("airtight.toml: `layer[0].copy[0].from`: `tree/f` is a FIFO, {hold}"),
        ),
        (
            "a device",
            "{ from = \"/dev/null\", to = \"/srv/null\" }",
            Box::new(|_: &Path| ()),
            format!("airtight.toml: `layer[0].copy[0].from`: `/dev/null` is a character device, {hold}"),
        ),
        (
            "a whiteout",
            TREE,
            Box::new(in_tree(|tree| fs::write(tree.join(".wh.x"), "").unwrap())),
            format!("airtight.toml: `layer[0].copy[0]`: tree/.wh.x would lie at /srv/.wh.x, {deletes}"),
        ),
        (
            "a whiteout above the file",
            "{ from = \"a\", to = \"/.wh.etc/x\" }",
            Box::new(|context: &Path| fs::write(context.join("a"), "a").unwrap()),
            format!("airtight.toml: `layer[0].copy[0]`: the directory of /.wh.etc/x would lie at /.wh.etc, {deletes}"),
        ),
        (
            "too deep",
            TREE,
            Box::new(in_tree(|tree| fs::create_dir_all(tree.join("d/".repeat(140))).unwrap())),
            format!(
                "airtight.toml: `layer[0].copy[0]`: tree{0} would lie at /srv{0}, which is more than 128 directories deep\n  \
                 fix: choose a shorter `to`, or `exclude` it",
                "/d".repeat(128)
            ),
        ),
        (
            "a link out of the context",
            "{ from = \"passwd\", to = \"/etc/passwd\" }",
            Box::new(|context: &Path| symlink("/etc/passwd", context.join("passwd")).unwrap()),
            "airtight.toml: `layer[0].copy[0].from`: `passwd` is a link out of the build file's directory, to /etc/passwd\n  \
             fix: copy what it leads to into the directory, or name the host path in full"
                .to_owned(),
        ),
        (
            "two sources",
            "{ from = \"a\", to = \"/x\" }, { from = \"b\", to = \"/x\" }",
            Box::new(|context: &Path| {
                fs::write(context.join("a"), "a").unwrap();
                fs::write(context.join("b"), "b").unwrap();
            }),
            "airtight.toml: `layer[0].copy[1]`: /x has two different sources: a (`layer[0].copy[0]`) and b (`layer[0].copy[1]`)\n  \
             fix: take one out, or put it into a later layer, which overrides"
                .to_owned(),
        ),
        (
            "a file where a directory is",
            "{ from = \"tree\", to = \"/x\" }, { from = \"a\", to = \"/x\" }",
            Box::new(|context: &Path| {
                fs::create_dir(context.join("tree")).unwrap();
                fs::write(context.join("a"), "a").unwrap();
            }),
            "airtight.toml: `layer[0].copy[1]`: /x has two different sources: tree (`layer[0].copy[0]`) and a (`layer[0].copy[1]`)\n  \
             fix: end `to` with a slash to copy into /x, or take one out"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(&layer(copy), prepare), want, "{name}");
    }
}

#[test]
fn an_image_that_could_not_start_is_refused() {
    let program = |context: &Path| {
        fs::write(context.join("api"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(context.join("api"), fs::Permissions::from_mode(0o644)).unwrap();
    };
    let copied = layer("{ from = \"api\", to = \"/bin/\" }");
    for (more, want) in [
        (
            "[config]\nentrypoint = [\"/bin/app\"]",
            "airtight.toml: `config.entrypoint[0]`: /bin/app is in no layer\n  fix: add it with `copy`, or correct the path",
        ),
        (
            "[config]\nentrypoint = [\"/bin/api\"]",
            "airtight.toml: `config.entrypoint[0]`: /bin/api may not be executed\n  fix: chmod +x its source",
        ),
        (
            "[config]\nuser = \"web\"",
            "airtight.toml: `config.user`: `web` is a name, and the image has no /etc/passwd to look it up in\n  \
             fix: add `generate = [\"passwd\", \"group\"]` to a layer, or write UID:GID",
        ),
    ] {
        assert_eq!(refused(&format!("{copied}{more}"), program), want);
    }
}

/// Where [`swap`] works.
static SWAPPED: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

/// Between plan and layers, as somebody would who writes to the build's directory: a link out of it in a directory's place.
fn swap(step: &Progress<'_>) {
    if let (Progress::Planned { .. }, Some(context)) = (step, SWAPPED.get()) {
        fs::rename(context.join("tree"), context.join("away")).unwrap();
        symlink("../secret", context.join("tree")).unwrap();
    }
}

#[test]
fn a_link_that_is_put_there_during_the_build_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().canonicalize().unwrap().join("context");
    for (path, content) in [("context/tree/f", "innocent1"), ("secret/f", "TOPSECRET")] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let file = context.join("airtight.toml");
    let layers = layer("{ from = \"tree\", to = \"/srv\" }");
    fs::write(&file, format!("format = 1\nname = \"a\"\n{layers}")).unwrap();
    SWAPPED.set(context.clone()).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let request = BuildRequest {
        file: file.clone(),
        tag: None,
        outputs: vec![],
        platform: None,
        source_date_epoch: None,
        progress: swap,
        ..BuildRequest::default()
    };
    let told = build(&request, &store).map(|_| ()).unwrap_err().to_string();
    let want = format!(
        "{}: `layer[0].copy[0]`: `{}` was replaced by a link during the build\n  fix: build again when nothing writes to it",
        file.display(),
        context.join("tree/f").display()
    );
    assert_eq!(told, want);
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn the_build_file_itself_may_be_absent_or_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let file = dir.path().join("airtight.toml");
    let request = BuildRequest {
        file: file.clone(),
        tag: None,
        outputs: vec![],
        platform: None,
        source_date_epoch: None,
        ..BuildRequest::default()
    };
    let told = || build(&request, &store).map(|_| ()).unwrap_err().to_string();
    let shown = file.display();
    assert_eq!(
        told(),
        format!(
            "{shown}: `the file`: cannot be read: No such file or directory (os error 2)\n  \
             fix: name a build file with -f, or a directory that holds an airtight.toml"
        )
    );
    fs::write(&file, [0xff, 0xfe]).unwrap();
    assert_eq!(
        told(),
        format!("{shown}: `the file`: is not UTF-8 text\n  fix: save it as UTF-8")
    );
}
