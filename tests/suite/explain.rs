//! Why a file is there, how two images differ, what should not be in one.

use airtight_tests::registry::{Access, REGISTRY, Registry};
use airtight_tests::{Need, Ran, World, has, repository};
use serde_json::Value;

mod ledger;
mod platforms;

const APP: &str = r#"format = 1
name = "test/app"
[[layer]]
name = "data"
copy = [{ from = "tree", to = "/srv/data" }]
[[layer]]
name = "app"
copy = [{ from = "run", to = "/bin/run" }]
generate = ["passwd", "group"]
[config]
entrypoint = ["/bin/run"]
env = { LANG = "C.UTF-8" }
"#;

fn done(world: &World, args: &[&str]) -> Ran {
    let ran = world.airtight(args.iter().copied()).unwrap();
    assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
    ran
}

fn json(world: &World, args: &[&str]) -> Value {
    serde_json::from_str(&done(world, args).stdout).unwrap()
}

fn program(world: &World, sub: &str, text: &str) {
    let path = world.write(sub, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// The build file, and what it names.
fn context(world: &World, sub: &str, run: &str) -> String {
    world
        .write(&format!("work/{sub}/airtight.toml"), APP)
        .unwrap();
    program(world, &format!("work/{sub}/run"), run);
    for (name, text) in [("a", "a"), ("deep/b", "bb")] {
        world
            .write(&format!("work/{sub}/tree/{name}"), text)
            .unwrap();
    }
    world.shown(&format!("work/{sub}"))
}

/// The file in `tests/golden/explain`; `BLESS=1` writes it. Digests have golden files of their own.
fn golden(name: &str, text: &str) {
    let mut pieces = text.split("sha256:");
    let mut text = pieces.next().unwrap().to_owned();
    for piece in pieces {
        text.push_str("sha256:DIGEST");
        text.push_str(piece.get(64..).unwrap());
    }
    let path = repository().join("tests/golden/explain").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        want,
        "{} differs; BLESS=1 writes it anew",
        path.display()
    );
}

#[test]
fn every_file_says_why_it_is_there_and_what_it_says_is_the_same_everywhere() {
    let world = World::new().unwrap();
    done(&world, &["build", &context(&world, "one", "#!/bin/none\n")]);
    let mut text = String::new();
    for path in ["/", "/bin/run", "/etc/passwd", "/srv", "/srv/data/deep/b"] {
        text.push_str(&done(&world, &["why", "test/app", path]).stdout);
    }
    golden("why.txt", &text);
    let told = done(&world, &["why", "test/app", "/srv/data/deep/b", "--json"]).stdout;
    golden("why.json", &told);
    let told = world.airtight(["why", "test/app", "/srv/none"]).unwrap();
    let want = "airtight: /srv/none: is not in the image\n  fix: see what is there: airtight why IMAGE /srv\n";
    assert_eq!((told.code, told.stderr.as_str()), (Some(125), want));

    // Another directory and store: the same image, and the same ledger.
    let other = World::new().unwrap();
    done(
        &other,
        &["build", &context(&other, "elsewhere/two", "#!/bin/none\n")],
    );
    let attached = |world: &World| {
        let image = json(world, &["inspect", "test/app", "--json"])["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        let directory = world.path("home/store/referrers").join(&image[7..]);
        let names = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        (image, names.collect::<Vec<_>>())
    };
    let (one, two) = (attached(&world), attached(&other));
    assert_eq!(one.1.len(), 1);
    assert_eq!(one, two);
    // Beside the image, not in it: without its ledger it has the same digest.
    assert_eq!(
        done(&world, &["verify"]).stdout,
        "2 images, 12 blobs, 0 problems\n"
    );
}

#[test]
fn a_library_says_who_needs_it_and_the_program_who_named_it() {
    let program = ["/usr/bin/openssl", "/usr/bin/curl", "/bin/ls"];
    let Some(program) = program
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
    else {
        return;
    };
    let world = World::new().unwrap();
    let text = format!(
        "format = 1\nname = \"test/lib\"\n[[layer]]\nname = \"bin\"\ncopy = [{{ from = \"{program}\", to = \"/bin/it\" }}]\nclosure = [\"/bin/it\"]\n"
    );
    world.write("work/lib/airtight.toml", text).unwrap();
    done(&world, &["build", &world.shown("work/lib")]);
    let linker = json(
        &world,
        &["why", "test/lib", "/lib64/ld-linux-x86-64.so.2", "--json"],
    );
    assert_eq!(linker["chain"][0]["kind"], "interpreter", "{linker}");
    assert_eq!(linker["chain"][0]["program"], "/bin/it");
    let libc = json(
        &world,
        &[
            "why",
            "test/lib",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "--json",
        ],
    );
    let chain = libc["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 2, "{libc}");
    let by = chain[0]["by"].as_array().unwrap();
    assert_eq!(by.last().unwrap(), "/bin/it");
    assert_eq!(
        (&chain[1]["kind"], &chain[1]["key"]),
        (&"declared".into(), &"layer[0].copy[0]".into())
    );
}

#[test]
fn the_ledger_goes_where_the_image_goes() {
    let world = World::new().unwrap();
    done(
        &world,
        &[
            "build",
            &context(&world, "app", "#!/bin/none\n"),
            "-t",
            "test/app:1",
        ],
    );
    let want = done(&world, &["why", "test/app:1", "/bin/run"]).stdout;
    let (layout, archive) = (world.shown("work/out"), world.shown("work/out.tar"));
    done(
        &world,
        &["export", "test/app:1", &format!("oci:{layout}:1")],
    );
    done(
        &world,
        &["export", "test/app:1", &format!("oci-archive:{archive}:1")],
    );
    for from in [&layout, &archive] {
        let other = World::new().unwrap();
        done(&other, &["import", from, "--name", "test/app:1"]);
        assert_eq!(
            done(&other, &["why", "test/app:1", "/bin/run"]).stdout,
            want,
            "{from}"
        );
    }
    let direct = done(
        &World::new().unwrap(),
        &["why", &format!("oci:{layout}:1"), "/bin/run"],
    );
    assert_eq!(direct.stdout, want);
    // Other tools take the image from a layout without being told a tag: it lists one manifest.
    let index = std::fs::read_to_string(world.path("work/out/index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
    if !has(REGISTRY) {
        return;
    }
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let name = registry.name("test/app:1");
    let pushed = json(&world, &["push", "test/app:1", &name, "--json"]);
    let states: Vec<_> = pushed["referrers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states, ["sent"; 4],
        "the manifest, an empty configuration, the ledger, the ledger's manifest"
    );
    let again = json(&world, &["push", "test/app:1", &name, "--json"]);
    assert_eq!(again["sent"], 0, "{again}");
    for (flags, known) in [(&["--no-referrers"][..], false), (&[], true)] {
        let other = World::new().unwrap();
        done(
            &other,
            &[&["pull", &name, "--name", "test/app:1"], flags].concat(),
        );
        let told = json(&other, &["why", "test/app:1", "/bin/run", "--json"]);
        assert_eq!(told["explained"], known, "{told}");
        if known {
            assert_eq!(
                done(&other, &["why", "test/app:1", "/bin/run"]).stdout,
                want
            );
        }
    }
}

#[test]
fn a_base_s_reasons_are_taken_over() {
    let world = World::new().unwrap();
    let base = world.shown("work/base");
    done(
        &world,
        &[
            "build",
            &context(&world, "app", "#!/bin/none\n"),
            "-o",
            &format!("oci:{base}:1"),
        ],
    );
    let text = format!(
        "format = 1\nname = \"test/over\"\nbase = \"oci:{base}:1\"\n[[layer]]\nname = \"more\"\ncopy = [{{ from = \"x\", to = \"/x\" }}]\n"
    );
    let text = text.replace(&base, "../base");
    world.write("work/over/airtight.toml", &text).unwrap();
    world.write("work/over/x", "x").unwrap();
    let ran = world
        .airtight(["build", &world.shown("work/over")])
        .unwrap();
    if ran.code != Some(0) {
        // Relative bases stay below the build file's directory: then by its full path.
        world
            .write("work/over/airtight.toml", text.replace("../base", &base))
            .unwrap();
        done(&world, &["build", &world.shown("work/over")]);
    }
    let own = json(&world, &["why", "test/over", "/x", "--json"]);
    assert_eq!(own["chain"][0].get("inherited"), None, "{own}");
    let below = json(&world, &["why", "test/over", "/bin/run", "--json"]);
    assert_eq!(
        (&below["chain"][0]["inherited"], &below["layer"]["name"]),
        (&true.into(), &"app".into()),
        "{below}"
    );
}

#[test]
fn two_images_differ_by_files_and_settings() {
    let world = World::new().unwrap();
    let directory = context(&world, "app", "#!/bin/none\n");
    done(&world, &["build", &directory, "-t", "test/app:1"]);
    program(&world, "work/app/run", "#!/bin/nothing\n");
    world.write("work/app/tree/new", "new").unwrap();
    std::fs::remove_file(world.path("work/app/tree/a")).unwrap();
    world
        .write(
            "work/app/airtight.toml",
            APP.replace("C.UTF-8", "C") + "[profile]\nextends = \"service\"\n",
        )
        .unwrap();
    done(&world, &["build", &directory, "-t", "test/app:2"]);
    let ran = world
        .airtight(["diff", "--exit-code", "test/app:1", "test/app:2"])
        .unwrap();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let (sizes, rest) = ran.stdout.split_once('\n').unwrap();
    assert!(
        sizes.ends_with("in layers, 112 B -> 117 B in files; 0 of 2 layers are shared"),
        "{sizes}"
    );
    golden("diff.txt", rest);
    let same = world
        .airtight(["diff", "--exit-code", "test/app:1", "test/app:1"])
        .unwrap();
    assert_eq!(same.code, Some(0));
    assert!(
        same.stdout
            .ends_with("nothing differs that a payload could see\n"),
        "{}",
        same.stdout
    );
    let told = json(&world, &["diff", "test/app:1", "test/app:2", "--json"]);
    assert_eq!(told["sizes"]["layers_shared"], 0, "{told}");
}

/// A docker archive of one layer, by Python's own writer: what `airtight build` never makes.
const FOREIGN: &str = r#"
import hashlib, io, json, sys, tarfile
def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode, uid, text, pax in files:
            info = tarfile.TarInfo(name)
            data = text.encode()
            info.mode, info.uid, info.gid, info.size, info.pax_headers = mode, uid, uid, len(data), pax
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
key = "-----BEGIN " + "PRIVATE KEY-----\n" + line + "\n-----END PRIVATE KEY-----\n"
status = "Package: base-files\nStatus: install ok installed\nVersion: 12.4\n"
low = layer([
    ("bin/sh", 0o755, 0, "shell", {}), ("usr/bin/apt", 0o755, 0, "apt", {}), ("usr/bin/su", 0o4755, 0, "su", {}),
    ("usr/bin/wall", 0o2755, 0, "wall", {}), ("usr/bin/ping", 0o755, 0, "ping", {"SCHILY.xattr.security.capability": "x"}),
    ("srv/open", 0o666, 0, "open", {}), ("srv/own", 0o644, 1000, "own", {}), ("srv/key.pem", 0o600, 0, key, {}),
    ("etc/passwd", 0o644, 0, "root:x:0:0::/:\napp:x:1000:1000::/:\n", {}), ("root/.netrc", 0o600, 0, "machine x", {}),
    ("var/lib/dpkg/status", 0o644, 0, status, {}), ("var/lib/dpkg/info/base-files.list", 0o644, 0, "/bin/sh\n/etc/passwd\n", {}),
])
high = layer([("srv/.wh.key.pem", 0o644, 0, "", {})])
config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"User": "app", "Env": ["TZ=Europe/Berlin", "DB_PASSWORD=x"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in (low, high)]}}).encode()
manifest = json.dumps([{"Config": "config.json", "RepoTags": ["foreign:1"], "Layers": ["low.tar", "high.tar"]}]).encode()
with tarfile.open(sys.argv[1], "w") as tar:
    for name, data in (("config.json", config), ("low.tar", low), ("high.tar", high), ("manifest.json", manifest)):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
"#;

#[test]
fn a_foreign_image_is_explained_by_what_is_in_it_and_its_faults_are_told() {
    if !has(&[Need::Program("python3")]) {
        return;
    }
    let world = World::new().unwrap();
    let archive = world.shown("work/foreign.tar");
    let made = world
        .command("python3")
        .args(["-c", FOREIGN, &archive])
        .status()
        .unwrap();
    assert!(made.success());
    done(&world, &["import", &archive]);
    golden(
        "why-foreign.txt",
        &done(&world, &["why", "foreign:1", "/bin/sh"]).stdout,
    );
    let ran = world.airtight(["lint", "foreign:1"]).unwrap();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    golden("lint.txt", &ran.stdout);
    for (flags, code) in [
        (&["--fail-on", "never"][..], 0),
        (
            &[
                "--ignore",
                "secret",
                "--ignore",
                "setuid",
                "--ignore",
                "setgid",
                "--ignore",
                "file-capabilities",
                "--ignore",
                "world-writable:/srv",
            ],
            0,
        ),
        (&["--ignore", "secret:/etc"], 1),
        (&["--ignore", "no-such-rule"], 125),
    ] {
        let ran = world
            .airtight([&["lint", "foreign:1"], flags].concat())
            .unwrap();
        assert_eq!(ran.code, Some(code), "{flags:?}: {ran:?}");
    }
    let sarif = done(
        &world,
        &["lint", "--sarif", "--fail-on", "never", "foreign:1"],
    )
    .stdout;
    golden("lint.sarif", &sarif);
    sarif_is_of_its_schema(&serde_json::from_str(&sarif).unwrap());
}

/// What the schema of SARIF 2.1.0 requires of the parts that are used here: `required`, `enum`, types and the references between them.
fn sarif_is_of_its_schema(log: &Value) {
    let keys = |value: &Value, required: &[&str], known: &[&str]| {
        let table = value.as_object().unwrap();
        for key in required {
            assert!(table.contains_key(*key), "{key} is missing: {value}");
        }
        for key in table.keys() {
            assert!(known.contains(&key.as_str()), "{key} is unknown: {value}");
        }
    };
    keys(log, &["version", "runs"], &["$schema", "version", "runs"]);
    assert_eq!(log["version"], "2.1.0");
    for run in log["runs"].as_array().unwrap() {
        keys(run, &["tool"], &["tool", "results", "properties"]);
        let driver = &run["tool"]["driver"];
        keys(driver, &["name"], &["name", "version", "rules"]);
        let rules = driver["rules"].as_array().unwrap();
        let level =
            |value: &Value| ["none", "note", "warning", "error"].contains(&value.as_str().unwrap());
        for rule in rules {
            keys(
                rule,
                &["id"],
                &["id", "shortDescription", "help", "defaultConfiguration"],
            );
            assert!(
                rule["shortDescription"]["text"].is_string() && rule["help"]["text"].is_string()
            );
            assert!(level(&rule["defaultConfiguration"]["level"]));
        }
        for result in run["results"].as_array().unwrap() {
            let known = [
                "ruleId",
                "ruleIndex",
                "level",
                "message",
                "locations",
                "partialFingerprints",
            ];
            keys(result, &["message"], &known);
            assert!(level(&result["level"]) && result["message"]["text"].is_string());
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            for location in result["locations"].as_array().unwrap() {
                keys(location, &[], &["physicalLocation", "logicalLocations"]);
                let uri = location["physicalLocation"]["artifactLocation"]["uri"]
                    .as_str()
                    .unwrap();
                assert!(
                    !uri.is_empty()
                        && uri
                            .bytes()
                            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'),
                    "{uri}"
                );
            }
            assert!(
                result["partialFingerprints"]
                    .as_object()
                    .unwrap()
                    .values()
                    .all(Value::is_string)
            );
        }
    }
}

#[test]
fn the_rules_are_those_of_the_documentation() {
    let world = World::new().unwrap();
    let told = done(&world, &["lint", "--rules"]).stdout;
    let said = std::fs::read_to_string(repository().join("docs/lint.md")).unwrap();
    let said: Vec<(&str, &str)> = said
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        })
        .collect();
    let told: Vec<(&str, &str)> = told
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    assert_eq!(told, said);
}
