//! Whole plans of configs against files, and what no plan is made of. `BLESS=1` rewrites the files.

use std::path::Path;

use airtight_plan::Plan;
use airtight_plan::bundle::{
    BundleGroup, CompatFacts, CompatOptions, ExecOptions, GroupPlace, GroupPlan, compat, exec,
    inherit,
};
use serde_json::{Value, json};

use super::{config, process};
use crate::template::{Template, template};

fn root() -> CompatFacts {
    CompatFacts {
        privileged: true,
        setgroups: true,
        idmapped_mounts: true,
        landlock_abi: 7,
        ..CompatFacts::default()
    }
}

fn user() -> CompatFacts {
    CompatFacts {
        euid: 1000,
        egid: 1000,
        privileged: false,
        map_helpers: Some(("/usr/bin/newuidmap".into(), "/usr/bin/newgidmap".into())),
        ..root()
    }
}

fn how() -> CompatOptions {
    CompatOptions {
        id: "box".into(),
        bundle: "/bundle".into(),
        groups: groups(),
        no_pivot: false,
        new_keyring: true,
        preserve_fds: 0,
        await_start: true,
    }
}

fn place() -> GroupPlace {
    GroupPlace {
        hierarchy: "pids".into(),
        mount: "/sys/fs/cgroup/pids".into(),
        dir: "box".into(),
    }
}

fn groups() -> GroupPlan {
    GroupPlan {
        groups: vec![BundleGroup {
            place: place(),
            controllers: Vec::new(),
            inherit: Vec::new(),
            settings: Vec::new(),
            devices: None,
            optional: false,
        }],
        ..GroupPlan::default()
    }
}

fn document(mut config: Value) -> Value {
    config["root"]["path"] = json!("/bundle/rootfs");
    config
}

fn planned(document: Value, facts: &CompatFacts) -> Result<Plan, String> {
    let Value::Object(document) = document else {
        panic!("not an object")
    };
    let parsed = config(document).map_err(|problems| problems.to_string().trim().to_owned())?;
    compat(&parsed.value, facts, &how())
        .map_err(|refusal| format!("{}: {}", refusal.ask, refusal.problem))
}

/// The default config with `value` at `pointer`; a last part of `-` appends, null takes away.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = document(template(Template::Compat));
    set(&mut config, pointer, value);
    config
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(values) => values.push(value),
        _ => panic!("{pointer}"),
    }
}

fn assert_golden(name: &str, plan: &Plan) {
    let text = format!("{}\n", serde_json::to_string_pretty(plan).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name);
    if std::env::var("BLESS").is_ok() {
        std::fs::write(&path, &text).unwrap();
    }
    let want = std::fs::read_to_string(&path)
        .unwrap_or_else(|err| panic!("{}: {err}; BLESS=1 writes it", path.display()));
    assert!(
        want == text,
        "{} differs; look at the diff after BLESS=1",
        path.display()
    );
}

/// As podman writes one for a container with a volume, limits, a terminal and its own network.
fn podman() -> Value {
    let mut config = document(template(Template::Compat));
    config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k", "ro"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "gid=5"] },
        { "destination": "/etc/hosts", "type": "bind", "source": "/run/box/hosts", "options": ["bind", "rprivate", "nosuid", "noexec", "nodev"] },
        { "destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "rro", "rslave"] },
        { "destination": "/cache", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m", "noatime"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"] },
    ]);
    set(
        &mut config,
        "/process/user",
        json!({ "uid": 33, "gid": 33, "umask": 63, "additionalGids": [5] }),
    );
    set(&mut config, "/process/noNewPrivileges", json!(false));
    set(&mut config, "/process/oomScoreAdj", json!(200));
    set(
        &mut config,
        "/process/env",
        json!(["PATH=/bin", "TERM=xterm", "HOME=/srv", "TERM=vt"]),
    );
    set(
        &mut config,
        "/linux/sysctl",
        json!({ "net.ipv4.ping_group_range": "0 0", "kernel/shmmax": "1" }),
    );
    set(
        &mut config,
        "/linux/devices",
        json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438 }]),
    );
    let hook = |path: &str| json!([{ "path": path, "timeout": 5 }]);
    config["hooks"] = json!({
        "prestart": hook("/hooks/a"), "createRuntime": hook("/hooks/b"), "createContainer": hook("/hooks/c"), "startContainer": hook("/hooks/d"),
        "poststart": hook("/hooks/e"), "poststop": hook("/hooks/f"),
    });
    config
}

fn user_namespace() -> Value {
    let mut config = with("/linux/namespaces/-", json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    set(&mut config, "/linux/uidMappings", map.clone());
    set(&mut config, "/linux/gidMappings", map);
    set(
        &mut config,
        "/linux/namespaces/-",
        json!({ "type": "time" }),
    );
    set(
        &mut config,
        "/linux/timeOffsets",
        json!({ "boottime": { "secs": 5, "nanosecs": 7 } }),
    );
    set(
        &mut config,
        "/mounts/-",
        json!({ "destination": "/srv", "source": "/srv", "options": ["rbind", "ridmap"] }),
    );
    config
}

/// A second container of a pod: everything but the mounts is another's.
fn joined() -> Value {
    let join =
        |kind: &str, name: &str| json!({ "type": kind, "path": format!("/proc/9/ns/{name}") });
    let mut config = with(
        "/linux/namespaces",
        json!([
            join("network", "net"), join("ipc", "ipc"), join("user", "user"), join("pid", "pid"), join("time", "time"),
            { "type": "mount" }, { "type": "cgroup" },
        ]),
    );
    set(&mut config, "/hostname", Value::Null);
    config
}

/// The host's network and processes.
fn shared() -> Value {
    let mut config = with(
        "/linux/namespaces",
        json!([{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]),
    );
    set(&mut config, "/process/noNewPrivileges", json!(false));
    set(&mut config, "/linux/rootfsPropagation", json!("shared"));
    set(&mut config, "/root/readonly", json!(false));
    set(&mut config, "/process/terminal", json!(false));
    set(
        &mut config,
        "/linux/personality",
        json!({ "domain": "LINUX32" }),
    );
    config
}

#[test]
fn the_plans_are_as_written_down() {
    let rootless = template(Template::Rootless {
        uid: 1000,
        gid: 1000,
    });
    for (name, config, facts) in [
        ("default", document(template(Template::Compat)), root()),
        ("podman", podman(), root()),
        ("rootless", document(rootless), user()),
        ("user-namespace", user_namespace(), root()),
        ("joined", joined(), root()),
        ("shared", shared(), root()),
    ] {
        let plan = planned(config, &facts).unwrap_or_else(|err| panic!("{name}: {err}"));
        assert_golden(&format!("compat-{name}.json"), &plan);
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan, "{name}");
    }
}

fn executed(container: Value, facts: &CompatFacts) -> Plan {
    let (Value::Object(container), Value::Object(asked)) = (
        container,
        json!({ "args": ["id"], "cwd": "/", "user": { "uid": 7 }, "terminal": true, "execCPUAffinity": { "initial": "0", "final": "1" } }),
    ) else {
        panic!("not objects")
    };
    let container = config(container).unwrap().value;
    let process = inherit(process(asked).unwrap().value, &container);
    let how = ExecOptions {
        id: "box".into(),
        pid: 99,
        groups: vec![place()],
        named_groups: false,
        new_keyring: true,
        preserve_fds: 2,
    };
    exec(&process, &container, facts, &how).unwrap()
}

#[test]
fn the_plans_of_exec_are_as_written_down() {
    for (name, container, facts) in [
        ("podman", podman(), root()),
        ("rootless", user_namespace(), user()),
        ("shared", shared(), root()),
    ] {
        assert_golden(&format!("exec-{name}.json"), &executed(container, &facts));
    }
}

#[test]
fn what_no_plan_is_made_of() {
    let twice = json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }]);
    for (pointer, value, want) in [
        (
            "/ociVersion",
            json!("2.0.0"),
            "ociVersion: is \"2.0.0\", not 1.0 to 1.3",
        ),
        (
            "/ociVersion",
            Value::Null,
            "ociVersion: is \"\", not 1.0 to 1.3",
        ),
        ("/root", Value::Null, "`root`: is missing"),
        ("/root/path", json!(""), "`root.path`: is missing"),
        (
            "/root/readonly",
            json!("yes"),
            "`root.readonly`: is not true or false",
        ),
        ("/process/args", json!([]), "process.args: is empty"),
        (
            "/process/args",
            json!(["a\0b"]),
            "process.args: holds a zero byte",
        ),
        (
            "/process/cwd",
            json!("srv"),
            "process.cwd: is not an absolute path",
        ),
        (
            "/process/cwd",
            Value::Null,
            "process.cwd: is not an absolute path",
        ),
        (
            "/process/env/-",
            json!("PLAIN"),
            "process.env: holds an entry without a name and `=`",
        ),
        (
            "/process/rlimits",
            twice,
            "process.rlimits: names a limit twice",
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]),
            "process.rlimits: has a soft limit above the hard one",
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_X", "soft": 2, "hard": 1 }]),
            "`process.rlimits[0].type`: is not a limit of the kernel",
        ),
        (
            "/process/apparmorProfile",
            json!("x"),
            "process.apparmorProfile: this host has no AppArmor",
        ),
        (
            "/process/selinuxLabel",
            json!("x"),
            "process.selinuxLabel: SELinux is off on this host",
        ),
        (
            "/process/oomScoreAdj",
            json!(1001),
            "`process.oomScoreAdj`: is not between -1000 and 1000",
        ),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_NONE" }),
            "`process.ioPriority.class`: is not IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_OTHER", "priority": 1 }),
            "`process.scheduler.priority`: is for SCHED_FIFO and SCHED_RR only",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_RR", "runtime": 1 }),
            "`process.scheduler.runtime`: and deadline and period are for SCHED_DEADLINE only",
        ),
        (
            "/process/execCPUAffinity",
            json!({ "initial": "3-1" }),
            "`process.execCPUAffinity.initial`: is not a list of CPUs (0-3,7)",
        ),
        (
            "/linux/intelRdt",
            json!({ "closID": "a" }),
            "linux.intelRdt: this host has no resource control mounted",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "pid" }),
            "linux.namespaces: names Pid twice",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "x" }),
            "`linux.namespaces[6].type`: is not a kind of namespace",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "time", "path": "ns/time" }),
            "linux.namespaces: the path ns/time is not absolute",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "user" }),
            "linux.uidMappings: a new user namespace has no ids without uidMappings and gidMappings",
        ),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 1, "size": 1 }]),
            "linux.uidMappings: there is no user namespace that they could be of",
        ),
        (
            "/linux/timeOffsets",
            json!({ "monotonic": {} }),
            "linux.timeOffsets: there is no new time namespace that they could be of",
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "pid" }]),
            "linux.namespaces: has no mount namespace: the container's mounts would be the host's",
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }]),
            "hostname: would be the host's: there is no uts namespace",
        ),
        (
            "/linux/rootfsPropagation",
            json!("x"),
            "`linux.rootfsPropagation`: is not [r]private, [r]slave, [r]shared or [r]unbindable",
        ),
        (
            "/linux/personality",
            json!({ "domain": "X" }),
            "`linux.personality.domain`: is not LINUX or LINUX32",
        ),
        (
            "/linux/maskedPaths",
            json!(["proc/x"]),
            "`linux.maskedPaths`: holds a path that is not absolute",
        ),
        (
            "/linux/devices",
            json!([{ "path": "fuse", "type": "c" }]),
            "linux.devices: fuse is not an absolute path",
        ),
        (
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "x" }]),
            "`linux.devices[0].type`: is not c, u, b or p",
        ),
        (
            "/mounts/-",
            json!({ "destination": "" }),
            "mounts : the destination is missing",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/a/.." }),
            "mounts /a/..: the destination is the root itself",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/x", "type": "tmpfs", "options": ["idmap"] }),
            "mounts /x: only a bind can have its ids mapped",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/x", "source": "/", "options": ["bind", "idmap"] }),
            "mounts /x: there is no user namespace to take the mappings from",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/x", "source": "/", "options": ["bind"], "uidMappings": [{ "size": 1 }] }),
            "mounts /x: has mappings of users or groups only",
        ),
        (
            "/hooks",
            json!({ "prestart": [{ "path": "x" }] }),
            "`hooks.prestart[0].path`: is not an absolute path",
        ),
        (
            "/hooks",
            json!({ "poststop": [{ "path": "/x", "timeout": 0 }] }),
            "`hooks.poststop[0].timeout`: is not greater than zero",
        ),
    ] {
        let got = planned(with(pointer, value.clone()), &root())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(got, want, "{pointer} {value}");
    }
}

#[test]
fn a_label_of_mounts_is_for_hosts_that_read_it() {
    let labelled = |facts: &CompatFacts| {
        let plan = planned(with("/linux/mountLabel", json!("a:b:c:s0")), facts).unwrap();
        serde_json::to_string(&plan)
            .unwrap()
            .matches("[\"context\",\"a:b:c:s0\"]")
            .count()
    };
    let selinux = CompatFacts {
        selinux: true,
        ..root()
    };
    // `/dev`, `/dev/pts` and `/dev/shm`; the kernel labels the others itself.
    assert_eq!((labelled(&root()), labelled(&selinux)), (0, 3));
}

#[test]
fn a_setting_of_the_kernel_is_one_of_the_containers_or_none() {
    let without = |kind: &str| {
        let mut config = document(template(Template::Compat));
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != kind);
        if kind == "uts" {
            config["hostname"] = Value::Null;
        }
        config
    };
    let ipc = "would be the host's: there is no ipc namespace";
    let net = "would be the host's: there is no network namespace";
    let none = "is in no namespace of the container's";
    let name = "is no name of a setting";
    for (key, missing, want) in [
        ("kernel.msgmax", "none", None),
        ("kernel.msgmax", "ipc", Some(ipc)),
        ("kernel/shm_rmid_forced", "none", None),
        ("fs.mqueue.msg_max", "none", None),
        ("fs.mqueue.msg_max", "ipc", Some(ipc)),
        ("net.core.somaxconn", "none", None),
        ("net/ipv4/conf/eth0.100/forwarding", "none", None),
        ("net.core.somaxconn", "network", Some(net)),
        ("kernel.domainname", "none", None),
        ("kernel.domainname", "uts", Some(none)),
        (
            "kernel.hostname",
            "none",
            Some("is what the key `hostname` is for"),
        ),
        ("kernel.sysrq", "none", Some(none)),
        ("vm.swappiness", "none", Some(none)),
        ("net", "none", None),
        ("net/../kernel/sysrq", "none", Some(name)),
        ("net..core", "none", Some(name)),
        ("", "none", Some(name)),
    ] {
        let mut config = without(missing);
        config["linux"]["sysctl"] = json!({ key: "1" });
        let want = want.map(|problem| format!("linux.sysctl {key}: {problem}"));
        assert_eq!(planned(config, &root()).err(), want, "{key} {missing}");
    }
    let mut config = document(template(Template::Compat));
    config["linux"]["sysctl"] = json!({ "net.core.somaxconn": "1" });
    let own = CompatFacts {
        joins_own_network: true,
        ..root()
    };
    assert!(planned(config, &own).unwrap_err().contains(net));
}

#[test]
fn whose_ids_a_container_has() {
    let rootless = |maps: Value| {
        let mut config = document(template(Template::Rootless {
            uid: 1000,
            gid: 1000,
        }));
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config
    };
    let map = |inside: u32, outside: u32, size: u32| json!({ "containerID": inside, "hostID": outside, "size": size });
    let own = json!([map(0, 1000, 1)]);
    let range = json!([map(0, 1000, 1), map(1, 100_000, 65_536)]);
    let writer = |plan: Result<Plan, String>| {
        plan.map(|plan| {
            plan.parent.iter().find_map(|step| match step {
                airtight_plan::ParentStep::IdMaps(maps) => Some(format!("{:?}", maps.write)),
                _ => None,
            })
        })
    };
    let helpers =
        "Helpers { newuidmap: \"/usr/bin/newuidmap\", newgidmap: \"/usr/bin/newgidmap\" }";
    for (name, maps, facts, want) in [
        (
            "own id",
            own.clone(),
            user(),
            Ok(Some("DirectDenySetgroups")),
        ),
        ("a range", range.clone(), user(), Ok(Some(helpers))),
        ("as root", range.clone(), root(), Ok(Some("Direct"))),
        (
            "no helpers",
            range,
            CompatFacts {
                map_helpers: None,
                ..user()
            },
            Err(
                "linux.uidMappings: more than this user's own id takes newuidmap and newgidmap, which are not there",
            ),
        ),
        (
            "no root",
            json!([map(1, 1000, 1)]),
            user(),
            Err("linux.uidMappings: does not map the container's 0, as whom it is set up"),
        ),
    ] {
        let want = want
            .map(|want| want.map(str::to_owned))
            .map_err(str::to_owned);
        assert_eq!(writer(planned(rootless(maps), &facts)), want, "{name}");
    }
    let none = planned(document(template(Template::Compat)), &user()).unwrap_err();
    assert_eq!(
        none,
        "linux.namespaces: this user may make a container in a user namespace only"
    );
    let mut groups = rootless(own);
    groups["process"]["user"]["additionalGids"] = json!([1]);
    assert_eq!(
        planned(groups, &user()).unwrap_err(),
        "process.user.additionalGids: cannot be set in a user namespace of one id"
    );
}

#[test]
fn no_config_is_more_than_an_error() {
    let seeds = [podman(), user_namespace(), joined(), shared()].map(|config| config.to_string());
    let words = [
        "null",
        "-1",
        "[{",
        "\"type\":\"bind\"",
        "\"path\":\"/proc/1/ns/net\"",
        "\"../x\"",
        "\"rro\"",
        "18446744073709551615",
        "1e400",
        "\"size=99999999999999999999g\"",
        "\"hooks\":{},",
        "\"net.ipv4\":\"\"",
        "\"0-8191\"",
    ];
    airtight_fuzz::fuzz("config", &seeds, &words, |input| {
        let Ok(document) = serde_json::from_slice::<Value>(input) else {
            return "no JSON".to_owned();
        };
        if !document.is_object() {
            return "no object".to_owned();
        }
        match planned(document, &root()) {
            Ok(plan) => {
                // Whatever was written, its mounts are its own, and every path is below its root.
                let made = |step: &airtight_plan::ParentStep| match step {
                    airtight_plan::ParentStep::Clone { namespaces } => {
                        namespaces.contains(&airtight_plan::Namespace::Mount)
                    }
                    airtight_plan::ParentStep::Bundle(
                        airtight_plan::bundle::BundleParentStep::OpenNamespaces { namespaces },
                    ) => !namespaces.is_empty(),
                    _ => false,
                };
                assert!(plan.parent.iter().any(made));
                airtight_fuzz::TAKEN.to_owned()
            }
            Err(problem) => problem,
        }
    });
}
