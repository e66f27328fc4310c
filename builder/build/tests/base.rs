//! Building upon an image that came from somewhere else: its layers stay as they are, ours go where its links lead.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use airtight_build::{BuildRequest, Built, build};
use airtight_image::{Output, Store};

/// A base with `/lib -> usr/lib`, exported to `dir/base`.
fn base(dir: &Path) -> Built {
    let context = dir.join("base-context");
    fs::create_dir_all(context.join("tree/usr/lib")).unwrap();
    fs::write(context.join("tree/usr/lib/old"), "old").unwrap();
    symlink("usr/lib", context.join("tree/lib")).unwrap();
    let text = "format = 1\nname = \"base\"\n[[layer]]\nname = \"base\"\ncopy = [{ from = \"tree\", to = \"/\" }]\n\
                [config]\ncmd = [\"/bin/sh\"]\nenv = { A = \"base\", B = \"base\" }\nworkdir = \"/usr\"";
    fs::write(context.join("airtight.toml"), text).unwrap();
    let output = Output::OciLayout {
        path: dir.join("base"),
        tag: Some("v1".to_owned()),
    };
    let store = Store::open(&dir.join("base-store")).unwrap();
    let request = BuildRequest {
        file: context.join("airtight.toml"),
        tag: None,
        outputs: vec![output],
        platform: None,
        source_date_epoch: None,
        ..BuildRequest::default()
    };
    build(&request, &store).unwrap()
}

fn on_base(dir: &Path, store: &Store) -> Result<Built, String> {
    let context = dir.join("app");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("new"), "new").unwrap();
    let text = "format = 1\nname = \"app\"\nbase = \"oci:../base:v1\"\n[[layer]]\nname = \"app\"\n\
                copy = [{ from = \"new\", to = \"/lib/\" }]\n[config]\nenv = { B = \"app\" }";
    fs::write(context.join("airtight.toml"), text).unwrap();
    let file = context.join("airtight.toml");
    let request = BuildRequest {
        file,
        tag: None,
        outputs: vec![],
        platform: None,
        source_date_epoch: None,
        ..BuildRequest::default()
    };
    build(&request, store).map_err(|err| err.to_string())
}

#[test]
fn the_base_s_layers_come_first_unchanged_and_ours_follow_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let below = base(dir.path());
    let store = Store::open(&dir.path().join("store")).unwrap();
    let built = on_base(dir.path(), &store).unwrap();
    let image = store.image(&built.digest).unwrap();
    let digests: Vec<_> = image
        .layers()
        .iter()
        .map(|(layer, diff)| (layer.digest().clone(), diff.clone()))
        .collect();
    let layers = below.layers.iter().chain(&built.layers);
    let want: Vec<_> = layers
        .map(|layer| (layer.digest.clone(), layer.diff_id.clone()))
        .collect();
    assert_eq!(digests, want);
    let trees = store.unpacked(&image).unwrap();
    assert_eq!(
        fs::read_to_string(trees[1].join("usr/lib/new")).unwrap(),
        "new"
    );
    assert!(
        !trees[1].join("lib").exists(),
        "a directory in the link's place would hide the base's libraries"
    );
    let config = serde_json::to_value(&image.config).unwrap();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        config["config"]["Env"],
        serde_json::json!(["A=base", "B=app", path])
    );
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/bin/sh"]));
    assert_eq!(config["config"]["WorkingDir"], "/usr");
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
    let names: Vec<_> = store
        .images()
        .unwrap()
        .iter()
        .map(|listed| listed.name.to_string())
        .collect();
    assert_eq!(names, ["app:latest"], "the base gets no name");
}

#[test]
fn a_base_whose_bytes_are_not_what_its_digests_say_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let below = base(dir.path());
    let blob = dir
        .path()
        .join("base/blobs/sha256")
        .join(below.layers[0].digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let told = on_base(dir.path(), &store).map(|_| ()).unwrap_err();
    assert!(told.contains(below.layers[0].digest.hex()), "{told}");
    assert!(store.images().unwrap().is_empty());
}
