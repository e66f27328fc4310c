//! Layers of other builds, by way of a registry: what is the same is not made again, and what a cache claims is believed of nothing that is not the same.

use airtight_tests::registry::{Access, Fault, Proxy, REGISTRY, Registry};
use airtight_tests::{Need, Ran, World, has};
use serde_json::{Value, json};

use super::done;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const CACHE: &str = "application/vnd.airtight.cache.v1";
const RECORDS: &str = "application/vnd.airtight.cache.records.v1+json";

/// A machine of its own with a project of two layers, the second with `content`; nothing is built.
fn machine(content: &str) -> World {
    let world = World::new().unwrap();
    let text = "format = 1\nname = \"test/cached\"\n[[layer]]\nname = \"lib\"\ncopy = [{ from = \"lib\", to = \"/lib\" }]\n\
        [[layer]]\nname = \"app\"\ncopy = [{ from = \"app\", to = \"/app\" }]\n";
    world.write("work/c/airtight.toml", text).unwrap();
    for number in 0..30 {
        let text = format!("library {number}\n").repeat(200);
        world.write(&format!("work/c/lib/{number}"), text).unwrap();
    }
    world.write("work/c/app/main", content).unwrap();
    world
}

fn build(world: &World, args: &[&str]) -> (Value, Ran) {
    let directory = world.shown("work/c");
    let ran = done(world, &[&["build", &directory, "--json"], args].concat());
    (serde_json::from_str(&ran.stdout).unwrap(), ran)
}

fn states(built: &Value) -> Vec<&str> {
    let layers = built["layers"].as_array().unwrap();
    let state = |layer: &Value| -> String { layer["state"].as_str().unwrap().to_owned() };
    layers
        .iter()
        .map(|layer| match state(layer).as_str() {
            "built" => "built",
            "cached" => "cached",
            "pulled" => "pulled",
            _ => "unknown",
        })
        .collect()
}

/// The manifest of a cache, as the registry keeps it, and its list.
fn cache_of(registry: &Registry, told: &Value) -> (Value, Value) {
    let read = |digest: &str| -> Value {
        serde_json::from_slice(&std::fs::read(registry.blob(digest)).unwrap()).unwrap()
    };
    let manifest = read(told["cache"]["digest"].as_str().unwrap());
    let list = read(manifest["config"]["digest"].as_str().unwrap());
    (manifest, list)
}

fn sha256(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    let ran = std::process::Command::new("sha256sum")
        .arg(file.path())
        .output();
    let told = String::from_utf8(ran.unwrap().stdout).unwrap();
    format!("sha256:{}", told.split(' ').next().unwrap())
}

/// Puts a cache there that says what somebody else wants it to.
fn forge(registry: &Registry, tag: &str, list: &Value, layers: &Value) {
    let config = list.to_string();
    let digest = sha256(config.as_bytes());
    registry
        .put_blob("cache", &digest, config.as_bytes())
        .unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI, "artifactType": CACHE, "layers": layers,
        "config": { "mediaType": RECORDS, "digest": digest, "size": config.len() },
    });
    registry
        .put_manifest("cache", tag, OCI, &manifest.to_string())
        .unwrap();
}

#[test]
fn another_machine_takes_what_one_has_made_and_sends_nothing_twice() {
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let name = registry.name("cache:main");
    let (first, _) = build(&machine("one"), &["--cache-to", &name]);
    assert_eq!(states(&first), ["built", "built"]);
    assert!(first["cache"]["sent"].as_u64().unwrap() > 0, "{first}");

    let world = machine("one");
    let (second, ran) = build(&world, &["--cache-from", &name, "--cache-to", &name]);
    assert_eq!(states(&second), ["pulled", "pulled"], "{ran:?}");
    assert_eq!(second["digest"], first["digest"]);
    assert_eq!(second["cache"]["sent"], 0);
    assert_eq!(ran.stderr, "");
    assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0));
    let (third, _) = build(&world, &["--cache-from", &name]);
    assert_eq!(states(&third), ["cached", "cached"]);

    // A change takes what stayed, and the cache has both for the next one.
    let (changed, _) = build(
        &machine("two"),
        &["--cache-from", &name, "--cache-to", &name],
    );
    assert_eq!(states(&changed), ["pulled", "built"]);
    for (content, digest) in [("one", &first["digest"]), ("two", &changed["digest"])] {
        let (built, _) = build(&machine(content), &["--cache-from", &name]);
        assert_eq!(
            (states(&built), &built["digest"]),
            (vec!["pulled"; 2], digest)
        );
    }
    let (without, _) = build(&machine("one"), &["--no-cache"]);
    assert_eq!(without["digest"], first["digest"]);
}

#[test]
fn a_layer_under_another_s_key_is_not_believed() {
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let (good, _) = build(
        &machine("good"),
        &["--cache-to", &registry.name("cache:good")],
    );
    let (evil, _) = build(
        &machine("evil"),
        &["--cache-to", &registry.name("cache:evil")],
    );
    let (_, good_list) = cache_of(&registry, &good);
    let (evil_manifest, evil_list) = cache_of(&registry, &evil);
    let record = |list: &Value, of: &Value| -> Value {
        let layers = list["layers"].as_array().unwrap();
        let digest = &of["layers"][1]["digest"];
        let found = layers
            .iter()
            .find(|layer| layer["layer"]["digest"] == *digest);
        found.unwrap().clone()
    };
    let wanted = record(&good_list, &good)["of"].clone();
    let theirs = record(&evil_list, &evil);
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut record = theirs.clone();
        record["of"] = wanted.clone();
        change(&mut record);
        json!({ "version": 1, "layers": [record] })
    };
    let layers = &evil_manifest["layers"];
    let own = "is not what its key says: it has another content at app/main";
    for (name, list, layers, told) in [
        ("another content", forged(&|_| {}), layers.clone(), own),
        (
            "another content under the right diffID",
            forged(&|record| {
                record["layer"]["diffId"] = record_diff(&good).into();
            }),
            layers.clone(),
            own,
        ),
        (
            "a size that is not the blob's",
            forged(&|record| record["layer"]["size"] = json!(1_u64 << 60)),
            json!([{ "mediaType": theirs["mediaType"], "digest": theirs["layer"]["digest"], "size": 1_u64 << 60 }]),
            "is not what its key says",
        ),
        (
            "a blob that the manifest does not name",
            forged(&|_| {}),
            json!([]),
            "",
        ),
        (
            "a list that is none",
            json!({ "version": 9 }),
            layers.clone(),
            "the list of a cache: is none",
        ),
    ] {
        let tag = format!("forged-{}", name.len());
        forge(&registry, &tag, &list, &layers);
        let world = machine("good");
        let from = registry.name(&format!("cache:{tag}"));
        let (built, ran) = build(&world, &["--cache-from", &from]);
        assert_eq!(states(&built), ["built", "built"], "{name}: {ran:?}");
        assert_eq!(built["digest"], good["digest"], "{name}");
        assert!(ran.stderr.contains(told), "{name}: {ran:?}");
        assert_eq!(ran.stderr.is_empty(), told.is_empty(), "{name}: {ran:?}");
        // Nor later: the store holds no record of it.
        assert_eq!(
            states(&build(&world, &[]).0),
            ["cached", "cached"],
            "{name}"
        );
        assert_eq!(world.airtight(["verify"]).unwrap().code, Some(0), "{name}");
    }
}

#[test]
fn what_others_compressed_is_taken_by_who_asks_for_it_and_by_nobody_else() {
    if !has(&[REGISTRY, &[Need::Program("gzip")]].concat()) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let (good, _) = build(
        &machine("good"),
        &["--cache-to", &registry.name("cache:good")],
    );
    let (manifest, list) = cache_of(&registry, &good);
    // The same archives, compressed by somebody else with the header that ours have.
    let (mut list, mut layers) = (list, manifest["layers"].clone());
    for at in 0..2 {
        let digest = layers[at]["digest"].as_str().unwrap().to_owned();
        let script = "gzip -dc \"$0\" | gzip -nc1";
        let shell = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(registry.blob(&digest))
            .output();
        let mut other = shell.unwrap().stdout;
        other[8..10].copy_from_slice(&std::fs::read(registry.blob(&digest)).unwrap()[8..10]);
        let new = sha256(&other);
        assert_ne!(new, digest);
        registry.put_blob("cache", &new, &other).unwrap();
        layers[at]["digest"] = new.clone().into();
        layers[at]["size"] = other.len().into();
        for record in list["layers"].as_array_mut().unwrap() {
            if record["layer"]["digest"] == digest {
                record["layer"]["digest"] = new.clone().into();
                record["layer"]["size"] = other.len().into();
            }
        }
    }
    forge(&registry, "other", &list, &layers);
    let world = machine("good");
    let from = ["--cache-from", &registry.name("cache:other")];
    let (theirs, ran) = build(&world, &from);
    assert_eq!(states(&theirs), ["pulled"; 2], "{ran:?}");
    assert_ne!(theirs["digest"], good["digest"]);
    for at in 0..2 {
        let diff = |built: &Value| built["layers"][at]["diff_id"].clone();
        assert_eq!(diff(&theirs), diff(&good), "the same content");
    }
    // Long enough that times prove, so that the last build's outcome is looked at too.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (again, _) = build(&world, &from);
    assert_eq!(
        (states(&again), &again["digest"]),
        (vec!["cached"; 2], &theirs["digest"])
    );
    let (own, _) = build(&world, &[]);
    assert_eq!(
        (states(&own), &own["digest"]),
        (vec!["built"; 2], &good["digest"])
    );
    // Ours by now, whoever asks.
    let (own, _) = build(&world, &from);
    assert_eq!(
        (states(&own), &own["digest"]),
        (vec!["cached"; 2], &good["digest"])
    );
}

fn record_diff(built: &Value) -> &str {
    built["layers"][1]["diff_id"].as_str().unwrap()
}

#[test]
fn a_cache_that_cannot_be_had_costs_work_and_no_build() {
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let name = registry.name("cache:main");
    let (absent, ran) = build(&machine("one"), &["--cache-from", &name]);
    assert_eq!(
        (states(&absent), ran.stderr.as_str()),
        (vec!["built"; 2], "")
    );
    build(&machine("one"), &["--cache-to", &name]);

    let proxy = Proxy::before(registry.port).unwrap();
    let through = proxy.name("cache:main");
    proxy.fault("GET", "/blobs/", 100, Fault::Corrupt);
    let (built, ran) = build(&machine("one"), &["--cache-from", &through, "--retry", "1"]);
    assert_eq!(states(&built), ["built", "built"]);
    assert!(
        ran.stderr.contains("airtight: warning: --cache-from"),
        "{ran:?}"
    );
    let (quiet, ran) = build(
        &machine("one"),
        &["--cache-from", &through, "--retry", "1", "-q"],
    );
    assert_eq!(
        (states(&quiet), ran.stderr.as_str()),
        (vec!["built"; 2], "")
    );

    // An image is no cache, and is not written over.
    let world = machine("one");
    build(&world, &[]);
    let image = registry.name("test/image:1");
    let pushed = done(&world, &["push", "test/cached", &image]).stdout;
    let (built, ran) = build(&machine("two"), &["--cache-from", &image]);
    assert_eq!(states(&built), ["built", "built"]);
    assert!(ran.stderr.contains("is no cache of layers"), "{ran:?}");
    let directory = world.shown("work/c");
    let ran = world
        .airtight(["build", &directory, "--cache-to", &image])
        .unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("is no cache of layers"), "{ran:?}");
    assert_eq!(
        done(&world, &["push", "test/cached", &image]).stdout,
        pushed
    );
}
