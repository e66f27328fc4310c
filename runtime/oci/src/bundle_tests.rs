//! Configs that are taken, and those that are not, with what is told.

use airtight_plan::{Limits, Tmpfs};
use serde_json::{Value, json};

use super::*;

fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": { "args": ["/bin/app", "-x"], "env": ["A=1"], "cwd": "/srv", "user": { "uid": 7, "gid": 8, "additionalGids": [9] } },
        "root": { "path": "rootfs", "readonly": true },
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }] },
    })
}

/// The config with `value` at `pointer`; a last part of `-` appends.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = config();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(values) => values.push(value),
        _ => panic!("{pointer}"),
    }
    config
}

fn read(config: Value) -> Result<Bundle, String> {
    let Value::Object(config) = config else {
        panic!("not an object")
    };
    bundle(config, "box").map_err(|problems| problems.to_string().trim().to_owned())
}

#[test]
fn a_config_becomes_a_spec() {
    let mut full = with(
        "/linux/resources",
        json!({
            "memory": { "limit": 67_108_864, "swap": 67_108_864 }, "pids": { "limit": 9 }, "cpu": { "quota": 50_000, "period": 100_000 },
            "devices": [{ "allow": false, "access": "rwm" }],
        }),
    );
    full["annotations"] = json!({ "dev.airtight.profile.v1": "{}", "org.example": "x" });
    full["hostname"] = json!("web");
    full["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"] },
        { "destination": "/var", "type": "tmpfs" },
    ]);
    full["linux"]["maskedPaths"] = json!(["/proc/kcore", "/sys/firmware"]);
    let Bundle {
        spec,
        profile,
        masked,
    } = read(full).unwrap();
    let tmpfs = |path: &str, size| Tmpfs {
        path: path.into(),
        size,
    };
    assert_eq!((spec.id.as_str(), spec.hostname.as_str()), ("box", "web"));
    assert_eq!(spec.layers, [PathBuf::from("rootfs")]);
    assert_eq!(spec.process.args, ["/bin/app", "-x"]);
    assert_eq!(
        (
            spec.process.uid,
            spec.process.gid,
            spec.process.additional_gids
        ),
        (7, 8, vec![9])
    );
    assert_eq!(
        spec.tmpfs,
        [tmpfs("/run", 1 << 20), tmpfs("/var", 64 << 20)]
    );
    let limits = Limits {
        memory: Some(64 << 20),
        pids: Some(9),
        cpu_millis: Some(500),
        timeout_millis: None,
    };
    assert_eq!(spec.limits, limits);
    assert_eq!(spec.init, Init::Payload);
    assert_eq!(profile.as_deref(), Some("{}"));
    assert_eq!(masked, [PathBuf::from("/proc/kcore")]);
}

#[test]
fn what_asks_for_nothing_is_no_matter() {
    for (pointer, value) in [
        ("/hooks", json!({ "prestart": [] })),
        (
            "/process/capabilities",
            json!({ "bounding": [], "ambient": null }),
        ),
        ("/process/apparmorProfile", json!("")),
        ("/process/rlimits", json!([])),
        ("/linux/seccomp", Value::Null),
        (
            "/linux/resources",
            json!({ "memory": { "limit": -1, "disableOOMKiller": false }, "pids": { "limit": 0 }, "cpu": { "quota": -1 } }),
        ),
        ("/linux/rootfsPropagation", json!("rprivate")),
        ("/domainname", json!("")),
    ] {
        assert_eq!(read(with(pointer, value)).map(|_| ()), Ok(()), "{pointer}");
    }
}

#[test]
fn what_cannot_be_honoured_is_told_by_its_key() {
    for (pointer, value, want) in [
        ("/ociVersion", json!("2.0.0"), "`ociVersion`: is not 1.x"),
        (
            "/root/readonly",
            json!(false),
            "`root.readonly`: is not true: the rootfs is never writable here; give writable paths as tmpfs mounts",
        ),
        ("/root/path", json!(""), "`root.path`: is missing"),
        (
            "/process/args",
            json!([]),
            "`process.args`: is missing or empty",
        ),
        ("/process/cwd", Value::Null, "`process.cwd`: is missing"),
        (
            "/process/user",
            json!({ "uid": 4_294_967_296_u64 }),
            "`process.user.uid`: is not an id",
        ),
        (
            "/process/user",
            json!({ "umask": 0 }),
            "`process.user.umask`: is not 18 (022), which is what a payload gets here",
        ),
        (
            "/process/capabilities",
            json!({ "bounding": ["CAP_KILL"] }),
            "`process.capabilities.bounding`: is not empty: no payload has a capability here",
        ),
        (
            "/process/noNewPrivileges",
            json!(false),
            "`process.noNewPrivileges`: is false: it is always set here",
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "hard": 1, "soft": 1 }]),
            "`process.rlimits`: is not honoured",
        ),
        (
            "/process/apparmorProfile",
            json!("docker-default"),
            "`process.apparmorProfile`: is not honoured",
        ),
        (
            "/process/oomScoreAdj",
            json!(-500),
            "`process.oomScoreAdj`: is not honoured",
        ),
        (
            "/hooks",
            json!({ "poststart": [{ "path": "/bin/x" }] }),
            "`hooks`: is not honoured",
        ),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW" }),
            "`linux.seccomp`: is not honoured",
        ),
        (
            "/linux/devices",
            json!([{ "path": "/dev/fuse" }]),
            "`linux.devices`: is not honoured",
        ),
        (
            "/linux/cgroupsPath",
            json!("/x"),
            "`linux.cgroupsPath`: is not honoured",
        ),
        (
            "/linux/sysctl",
            json!({ "net.core.somaxconn": "9" }),
            "`linux.sysctl`: is not honoured",
        ),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0 }]),
            "`linux.uidMappings`: is not honoured",
        ),
        (
            "/linux/rootfsPropagation",
            json!("shared"),
            "`linux.rootfsPropagation`: would let mounts be seen outside",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "time" }),
            "`linux.namespaces[5].type`: is not a namespace that is made here",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "user", "path": "/proc/1/ns/user" }),
            "`linux.namespaces[5].path`: would join a namespace: every sandbox has its own",
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]),
            "`linux.namespaces`: has no network: the host's is never shared",
        ),
        (
            "/linux/resources",
            json!({ "memory": { "limit": 9_000_000, "swap": 18_000_000 } }),
            "`linux.resources.memory.swap`: is not the memory limit: there is no swap here",
        ),
        (
            "/linux/resources",
            json!({ "cpu": { "cpus": "0-1" } }),
            "`linux.resources.cpu.cpus`: is not honoured",
        ),
        (
            "/linux/resources",
            json!({ "devices": [{ "allow": true, "access": "rwm" }] }),
            "`linux.resources.devices[0].allow`: is true: no sandbox gets a device besides null, zero, full, random, urandom and tty",
        ),
        (
            "/linux/maskedPaths",
            json!(["/etc"]),
            "`linux.maskedPaths`: /etc lies neither below /proc nor below /sys",
        ),
        (
            "/mounts",
            json!([{ "destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind"] }]),
            "`mounts[0].destination`: a bind of /srv at /data is not honoured: a mount here is a tmpfs",
        ),
        (
            "/mounts",
            json!([{ "destination": "/proc", "type": "bind", "source": "/tmp/x" }]),
            "`mounts[0].destination`: a bind of /tmp/x at /proc is not honoured: a mount here is a tmpfs",
        ),
        (
            "/mounts",
            json!([{ "destination": "../x", "type": "tmpfs" }]),
            "`mounts[0].destination`: is not absolute and free of `..`",
        ),
        (
            "/mounts",
            json!([{ "destination": "/x", "type": "tmpfs", "options": ["exec"] }]),
            "`mounts[0].options`: `exec` is not honoured: a tmpfs here is rw, nosuid, nodev, noexec, mode=1777",
        ),
        (
            "/vm",
            json!({ "kernel": { "path": "/k" } }),
            "`vm`: is not honoured",
        ),
    ] {
        let got = read(with(pointer, value)).map(|_| ()).unwrap_err();
        assert_eq!(got, want, "{pointer}");
    }
}

#[test]
fn an_empty_config_is_told_all_that_it_lacks() {
    assert_eq!(
        read(json!({})).unwrap_err().replace("\n  ", "\n"),
        "`ociVersion`: is missing\n`root`: is missing\n`process`: is missing\n`linux`: is missing: its namespaces must be asked for"
    );
}

#[test]
fn annotations_of_others_are_no_error() {
    assert_eq!(
        read(with("/annotations", json!({ "a": "b", "c": 1 })))
            .unwrap()
            .profile,
        None
    );
    let wrong = read(with(
        "/annotations",
        json!({ "dev.airtight.profile.v1": 1 }),
    ))
    .unwrap_err();
    assert_eq!(
        wrong,
        "`annotations.dev.airtight.profile.v1`: is not a string"
    );
}

#[test]
fn no_config_is_more_than_an_error() {
    let seed = config().to_string();
    let words = [
        "null",
        "-1",
        "[{",
        "\"type\":\"bind\"",
        "\"path\":\"/proc/1/ns/net\"",
        "\"../x\"",
        "\"mounts\":[{\"destination\":\"/a\",\"type\":\"tmpfs\"}],",
        "\"linux\":{\"resources\":{\"memory\":{\"limit\":1}}},",
        "\"size=99999999999999999999g\"",
        "\"annotations\":{\"dev.airtight.profile.v1\":\"{}\"},",
        "\"hooks\":{},",
    ];
    airtight_fuzz::fuzz("bundle", &[seed], &words, |input| {
        let Ok(Value::Object(config)) = serde_json::from_slice(input) else {
            return "no object".to_owned();
        };
        match bundle(config, "box") {
            Ok(bundle) => {
                // Whatever was written, the rootfs is the one and nothing of the host's is mounted.
                assert!(bundle.spec.volumes.is_empty() && bundle.spec.layers.len() == 1);
                airtight_fuzz::TAKEN.to_owned()
            }
            Err(problems) => problems.to_string(),
        }
    });
}
