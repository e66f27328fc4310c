//! What is not made again: a layer whose inputs are those of an earlier build, whoever built it and where; and what is, whatever the times of files say.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::fs::{self, File, FileTimes};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use airtight_build::{BuildRequest, Built, LayerState, build};
use airtight_image::{Descriptor, Digest, Store};

const FILE: &str = r#"
format = 1
name = "cache/app:1"
[[layer]]
name = "system"
generate = ["passwd", "group"]
[[layer]]
name = "lib"
copy = [{ from = "lib", to = "/srv/lib" }]
[[layer]]
name = "app"
copy = [{ from = "app", to = "/srv/app" }]
"#;

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let bench = Self { dir, store };
        bench.fill("one");
        bench
    }

    fn fill(&self, project: &str) -> PathBuf {
        let context = self.dir.path().join(project);
        for tree in ["lib", "app"] {
            fs::create_dir_all(context.join(tree).join("deep")).unwrap();
            for number in 0..20 {
                let text = format!("{tree} {number}\n").repeat(50);
                fs::write(context.join(tree).join(format!("deep/{number}")), text).unwrap();
            }
        }
        fs::write(context.join("airtight.toml"), FILE).unwrap();
        context
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn built(&self, project: &str, cache: bool) -> Built {
        let request = BuildRequest {
            file: self.path(project).join("airtight.toml"),
            cache,
            ..BuildRequest::default()
        };
        build(&request, &self.store).unwrap()
    }

    /// The states of the layers, `b` or `c` for each.
    fn states(&self, project: &str) -> String {
        told(&self.built(project, true))
    }

    /// All files of one kind that the store's cache has.
    fn kept(&self, kind: &str) -> Vec<PathBuf> {
        let mut waiting = vec![self.path("store/cache").join(kind)];
        let mut found = Vec::new();
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            } else if path.exists() {
                found.push(path);
            }
        }
        found.sort();
        found
    }
}

fn told(built: &Built) -> String {
    let state = |layer: &airtight_build::BuiltLayer| match layer.state {
        LayerState::Built => 'b',
        LayerState::Cached => 'c',
        LayerState::Pulled => 'p',
    };
    built.layers.iter().map(state).collect()
}

/// Puts other bytes into a file and sets its modification time back, as an archiver or a careless script does.
fn rewrite(path: &Path, content: &str) {
    let old = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, content).unwrap();
    let times = FileTimes::new().set_modified(old);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_times(times)
        .unwrap();
}

#[test]
fn what_did_not_change_is_not_made_again_and_the_image_is_the_same() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    assert_eq!(told(&first), "bbb");
    let second = bench.built("one", true);
    assert_eq!(
        (told(&second).as_str(), &second.digest),
        ("ccc", &first.digest)
    );
    // Another store, no cache: the very same image.
    let third = bench.built("one", false);
    assert_eq!(
        (told(&third).as_str(), &third.digest),
        ("bbb", &first.digest)
    );
    for (one, other) in first.layers.iter().zip(&second.layers) {
        let facts = |layer: &airtight_build::BuiltLayer| {
            let numbers = (layer.size, layer.uncompressed, layer.entries);
            (
                layer.name.clone(),
                layer.digest.clone(),
                layer.diff_id.clone(),
                numbers,
            )
        };
        assert_eq!(facts(one), facts(other));
    }
}

#[test]
fn only_the_layer_of_a_changed_file_is_made_again() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    fs::write(bench.path("one/app/deep/7"), "new").unwrap();
    let second = bench.built("one", true);
    assert_eq!(told(&second), "ccb");
    let same = |at: usize| first.layers[at].digest == second.layers[at].digest;
    assert_eq!([same(0), same(1), same(2)], [true, true, false]);
    // And back: that layer is still there.
    let text = "app 7\n".repeat(50);
    fs::write(bench.path("one/app/deep/7"), text).unwrap();
    let third = bench.built("one", true);
    assert_eq!(
        (told(&third).as_str(), &third.digest),
        ("ccc", &first.digest)
    );
}

#[test]
fn a_change_of_the_same_length_with_the_time_set_back_is_noticed() {
    let bench = Bench::new();
    bench.states("one");
    for (round, character) in ["x", "y", "z"].into_iter().enumerate() {
        let path = bench.path("one/app/deep/7");
        let length = fs::metadata(&path).unwrap().len();
        rewrite(&path, &character.repeat(usize::try_from(length).unwrap()));
        let built = bench.built("one", true);
        assert_eq!(told(&built), "ccb", "round {round}");
        assert_eq!(bench.built("one", false).digest, built.digest, "{round}");
    }
}

#[test]
fn what_was_only_touched_copied_or_moved_is_a_hit() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    let path = bench.path("one/app/deep/7");
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    File::open(&path).unwrap().set_times(times).unwrap();
    assert_eq!(bench.states("one"), "ccc", "touched");
    fs::copy(&path, bench.path("copy")).unwrap();
    fs::rename(bench.path("copy"), &path).unwrap();
    assert_eq!(bench.states("one"), "ccc", "another inode");
    // Another project in another directory with the same trees.
    bench.fill("two/deeper");
    let other = bench.built("two/deeper", true);
    assert_eq!(
        (told(&other).as_str(), &other.digest),
        ("ccc", &first.digest)
    );
    fs::rename(bench.path("one"), bench.path("moved")).unwrap();
    assert_eq!(bench.states("moved"), "ccc", "moved");
}

#[test]
fn another_mode_name_or_epoch_is_another_layer() {
    let bench = Bench::new();
    bench.states("one");
    let path = bench.path("one/app/deep/7");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&path, mode(0o755)).unwrap();
    assert_eq!(bench.states("one"), "ccb", "executable");
    fs::set_permissions(&path, mode(0o600)).unwrap();
    assert_eq!(
        bench.states("one"),
        "ccc",
        "which modes are left is the same"
    );
    fs::rename(&path, bench.path("one/app/deep/seven")).unwrap();
    assert_eq!(bench.states("one"), "ccb", "renamed");
    let request = BuildRequest {
        file: bench.path("one/airtight.toml"),
        platform: None,
        source_date_epoch: Some(1),
        ..BuildRequest::default()
    };
    assert_eq!(told(&build(&request, &bench.store).unwrap()), "bbb");
}

/// Bytes that this thread has read.
fn read_so_far() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn what_is_known_by_its_times_is_not_read() {
    let bench = Bench::new();
    // What the host was installed with; few enough that no other thread reads any of it.
    let file = bench.path("one/airtight.toml");
    let text = "format = 1\nname = \"a\"\n[[layer]]\nname = \"a\"\ncopy = [{ from = \"/bin/bash\", to = \"/bin/\" }, { from = \"/bin/tar\", to = \"/bin/\" }]\n";
    fs::write(&file, text).unwrap();
    let sizes = ["/bin/bash", "/bin/tar"].map(|path| fs::metadata(path).unwrap().len());
    let all: u64 = sizes.iter().sum();
    // Others read what they compress.
    let request = BuildRequest {
        file: bench.path("one/airtight.toml"),
        workers: Some(NonZeroUsize::MIN),
        ..BuildRequest::default()
    };
    let read = || {
        let before = read_so_far();
        let built = build(&request, &bench.store).unwrap();
        (told(&built), read_so_far() - before)
    };
    let (state, bytes) = read();
    assert_eq!(state, "b");
    assert!(bytes >= all, "{bytes} of {all}");
    // A first build reads each file once.
    assert!(bytes < all + all / 2, "{bytes} of {all}");
    let (state, bytes) = read();
    assert_eq!(state, "c");
    if bench.kept("files").is_empty() {
        // The file system of this host's programs proves nothing by its times.
        return;
    }
    assert!(bytes < 64 << 10, "{bytes}");
    // What proves it is gone: everything is read, and found.
    for kind in ["files", "outcomes"] {
        for path in bench.kept(kind) {
            fs::write(path, "damaged").unwrap();
        }
    }
    let (state, bytes) = read();
    assert_eq!(state, "c");
    assert!(bytes >= all, "{bytes} of {all}");
    let (_, bytes) = read();
    assert!(bytes < 64 << 10, "{bytes}");
}

#[test]
fn damaged_records_and_blobs_that_are_gone_cost_a_build_and_nothing_else() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    let damage = |kind: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        for path in bench.kept(kind) {
            fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
        }
    };
    for (name, kind, change) in [
        (
            "cut records",
            "layers",
            &(|bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec()) as &dyn Fn(Vec<u8>) -> Vec<u8>,
        ),
        ("empty records", "layers", &|_| Vec::new()),
        ("records of zeros", "layers", &|bytes: Vec<u8>| {
            vec![0; bytes.len()]
        }),
        ("a flipped bit", "layers", &|mut bytes: Vec<u8>| {
            bytes[300] ^= 1;
            bytes
        }),
    ] {
        damage(kind, change);
        let built = bench.built("one", true);
        assert_eq!(
            (told(&built).as_str(), &built.digest),
            ("bbb", &first.digest),
            "{name}"
        );
        assert_eq!(bench.states("one"), "ccc", "{name}");
    }
    // One layer's record in the place of another's.
    let records = bench.kept("layers");
    let bytes = fs::read(&records[0]).unwrap();
    records
        .iter()
        .for_each(|path| fs::write(path, &bytes).unwrap());
    let built = bench.built("one", true);
    assert_eq!(told(&built).matches('b').count(), 2);
    assert_eq!(built.digest, first.digest);
    for layer in &first.layers {
        fs::remove_file(bench.path("store/blobs/sha256").join(layer.digest.hex())).unwrap();
    }
    let built = bench.built("one", true);
    assert_eq!(
        (told(&built).as_str(), &built.digest),
        ("bbb", &first.digest)
    );
}

#[test]
fn a_place_for_what_is_kept_that_is_none_costs_time_and_nothing_else() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    for kind in ["layers", "files", "outcomes"] {
        let place = bench.path("store/cache").join(kind);
        // What a build file gave is kept only where all that it names is older than the build.
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        fs::write(&place, "x").unwrap();
        assert_eq!(bench.built("one", true).digest, first.digest, "{kind}");
        let told = bench.store.gc().unwrap_err().to_string();
        assert!(
            told.contains(kind) && told.contains("fix: remove what lies there"),
            "{told}"
        );
        fs::remove_file(&place).unwrap();
        assert_eq!(bench.built("one", true).digest, first.digest, "{kind}");
    }
}

#[test]
fn a_blob_that_was_changed_is_not_used() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    let layer = &first.layers[2];
    let blob = bench.path("store/blobs/sha256").join(layer.digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[50] ^= 1;
    rewrite(&blob, "");
    fs::write(&blob, bytes).unwrap();
    assert_eq!(bench.states("one"), "ccb");
    let whole = Descriptor::new("x", layer.digest.clone(), layer.size);
    let bytes = bench.store.read_blob(&whole, 1 << 20).unwrap();
    assert_eq!(Digest::of(&bytes), layer.digest);
}

#[test]
fn two_builds_at_once_are_both_right() {
    let bench = Bench::new();
    bench.fill("two");
    fs::write(bench.path("two/app/deep/7"), "other").unwrap();
    let digests: Vec<_> = std::thread::scope(|scope| {
        let bench = &bench;
        let projects = ["one", "two", "one", "two"];
        let work = projects.map(|project| {
            scope.spawn(move || {
                let store = Store::open(&bench.path("store")).unwrap();
                let request = BuildRequest {
                    file: bench.path(project).join("airtight.toml"),
                    ..BuildRequest::default()
                };
                build(&request, &store).unwrap().digest
            })
        });
        work.map(|one| one.join().unwrap()).into()
    });
    assert_eq!(digests[0], digests[2]);
    assert_eq!(digests[1], digests[3]);
    assert_ne!(digests[0], digests[1]);
    assert_eq!(bench.states("one"), "ccc");
    assert_eq!(bench.states("two"), "ccc");
    assert_eq!(bench.store.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn nothing_is_written_where_nothing_changed() {
    let bench = Bench::new();
    let file = bench.path("one/airtight.toml");
    let text = "format = 1\nname = \"a\"\n[[layer]]\nname = \"a\"\ncopy = [{ from = \"/bin/bash\", to = \"/bin/\" }]\n";
    fs::write(&file, text).unwrap();
    bench.states("one");
    let kept = || {
        let of = |path: PathBuf| path.metadata().unwrap().ino();
        let all = bench.kept("layers").into_iter().chain(bench.kept("files"));
        all.map(of).collect::<Vec<_>>()
    };
    let before = kept();
    assert_eq!(bench.states("one"), "c");
    assert_eq!(kept(), before);
}

#[test]
fn a_build_that_sees_the_same_plans_nothing_anew_and_sees_every_change() {
    let bench = Bench::new();
    let first = bench.built("one", true);
    // Times prove something when they lie well before.
    std::thread::sleep(Duration::from_millis(1100));
    bench.states("one");
    let known = bench.kept("outcomes");
    if known.is_empty() {
        // The file system of the tests proves nothing by its times.
        return;
    }
    let again = bench.built("one", true);
    assert_eq!(
        (told(&again).as_str(), &again.digest),
        ("ccc", &first.digest)
    );
    assert_eq!(again.explained, first.explained);
    let change = |what: &str, done: &dyn Fn()| {
        done();
        let (with, without) = (bench.built("one", true), bench.built("one", false));
        assert_eq!(with.digest, without.digest, "{what}");
        assert_ne!(with.digest, first.digest, "{what}");
    };
    let path = bench.path("one/app/deep/7");
    let text = fs::read_to_string(&path).unwrap();
    change("a content of the same length, its time set back", &|| {
        rewrite(&path, &text.replace('7', "8"));
    });
    fs::write(&path, &text).unwrap();
    change("a new file", &|| {
        fs::write(bench.path("one/app/new"), "x").unwrap()
    });
    fs::remove_file(bench.path("one/app/new")).unwrap();
    change("a new directory", &|| {
        fs::create_dir(bench.path("one/app/new")).unwrap()
    });
    fs::remove_dir(bench.path("one/app/new")).unwrap();
    change("a new link", &|| {
        std::os::unix::fs::symlink("7", bench.path("one/app/deep/link")).unwrap();
    });
    change("another link", &|| {
        fs::remove_file(bench.path("one/app/deep/link")).unwrap();
        std::os::unix::fs::symlink("8", bench.path("one/app/deep/link")).unwrap();
    });
    fs::remove_file(bench.path("one/app/deep/link")).unwrap();
    change("a file that went", &|| fs::remove_file(&path).unwrap());
    fs::write(&path, &text).unwrap();
    let file = bench.path("one/airtight.toml");
    change("another build file", &|| {
        fs::write(&file, FILE.replace("/srv/lib", "/srv/other")).unwrap();
    });
    fs::write(&file, FILE).unwrap();
    assert_eq!(bench.built("one", true).digest, first.digest);
    // An outcome that is damaged, or whose layers are gone, is none.
    std::thread::sleep(Duration::from_millis(1100));
    bench.states("one");
    bench
        .kept("outcomes")
        .iter()
        .for_each(|path| fs::write(path, "x").unwrap());
    assert_eq!(bench.built("one", true).digest, first.digest);
    bench
        .kept("layers")
        .iter()
        .for_each(|path| fs::write(path, "x").unwrap());
    let built = bench.built("one", true);
    assert_eq!(
        (told(&built).as_str(), &built.digest),
        ("bbb", &first.digest)
    );
}
