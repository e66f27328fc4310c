//! What lies beyond airtight's rules, by key, what it becomes, and that narrowing only narrows.

use airtight_plan::bundle::airtight::{Lifecycle, Wish, create, wish};
use airtight_plan::bundle::{BundleParentStep, BundleStep};
use airtight_plan::{Arch, ChildStep, HostFacts, Namespace, ParentStep, Plan};
use airtight_profiles::{Ceiling, Profile, narrow, shipped};
use serde_json::{Value, json};

use super::config;
use crate::template::{Template, template};

fn read(document: Value) -> Result<Wish, String> {
    let Value::Object(document) = document else {
        return Err("no object".into());
    };
    let mut parsed = config(document).map_err(|problems| problems.to_string())?;
    parsed.value.root.path = "/bundle/rootfs".into();
    Ok(wish(&parsed.value, &parsed.unknown, "box"))
}

fn facts() -> HostFacts {
    HostFacts {
        arch: Arch::Amd64,
        kernel: (6, 18),
        euid: 0,
        egid: 0,
        privileged: true,
        user_namespaces: airtight_plan::Have::Yes,
        seccomp: true,
        seccomp_notify: true,
        landlock_abi: 7,
        overlay: true,
        idmapped_mounts: true,
        plain_layers: Vec::new(),
        memfd_noexec: true,
        mdwe: true,
        ipv6: true,
        subids: None,
        cgroup: airtight_plan::Cgroup::default(),
        proc_to_mask: vec![],
        nofile_hard: 20_000,
        gate: None,
    }
}

fn planned(wish: &Wish) -> Result<Plan, String> {
    let base: Profile = shipped("base").unwrap();
    let additions = wish.spec.additions().map_err(|err| err.to_string())?;
    let (policy, _) = narrow(&base, &Ceiling::built_in(), &additions);
    let mut spec = wish.spec.clone();
    spec.tmpfs
        .retain(|tmpfs| tmpfs.size <= policy.tmpfs.allowed(&tmpfs.path));
    let plan = airtight_plan::plan(&spec, &policy, &facts()).map_err(|err| err.to_string())?;
    let how = Lifecycle {
        await_start: true,
        ..Lifecycle::default()
    };
    create(plan, &wish.extras, &how).map_err(|err| err.to_string())
}

fn with(pointer: &str, value: Value) -> Value {
    let mut config = template(Template::Airtight);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(values) => values.push(value),
        _ => panic!("{pointer}"),
    }
    config
}

/// Pointer, value, key, what it becomes; each leaves the plan as it is without it.
fn beyond() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let all = json!(["CAP_SYS_ADMIN"]);
    vec![
        ("/ociVersion", json!("2.0.0"), "ociVersion", "1.3"),
        ("/root/readonly", json!(false), "root.readonly", "true"),
        (
            "/process/noNewPrivileges",
            json!(false),
            "process.noNewPrivileges",
            "true",
        ),
        (
            "/process/capabilities",
            json!({ "ambient": all }),
            "process.capabilities.ambient",
            "none",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_RR", "priority": 1 }),
            "process.scheduler",
            "as it is inherited",
        ),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_RT" }),
            "process.ioPriority",
            "as it is inherited",
        ),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 3 }),
            "process.ioPriority",
            "as it is inherited",
        ),
        (
            "/process/execCPUAffinity",
            json!({ "final": "0" }),
            "process.execCPUAffinity",
            "the CPUs of its group",
        ),
        (
            "/linux/netDevices",
            json!({ "eth0": {} }),
            "linux.netDevices",
            "left out",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "pid" }),
            "linux.namespaces",
            "each once",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=4k"] }),
            "mounts[5].options",
            "as every sandbox has it",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["ro"] }),
            "mounts[5].options",
            "as every sandbox has it",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["subset=pid"] }),
            "mounts[5].options",
            "as every sandbox has it",
        ),
        (
            "/hooks",
            json!({ "poststart": [{ "path": "/bin/x" }] }),
            "hooks.poststart",
            "none runs",
        ),
        (
            "/vm",
            json!({ "kernel": { "path": "/k" } }),
            "vm",
            "left out",
        ),
        ("/domainname", json!("x"), "domainname", "left out"),
        (
            "/linux/devices",
            json!([{ "path": "/dev/fuse", "type": "c" }]),
            "linux.devices",
            "none",
        ),
        (
            "/linux/sysctl",
            json!({ "net.core.somaxconn": "9" }),
            "linux.sysctl",
            "none is set",
        ),
        (
            "/linux/uidMappings",
            json!([{ "size": 1 }]),
            "linux.uidMappings",
            "ids of the sandbox's own",
        ),
        (
            "/linux/rootfsPropagation",
            json!("shared"),
            "linux.rootfsPropagation",
            "rslave",
        ),
        (
            "/linux/personality",
            json!({ "domain": "LINUX32" }),
            "linux.personality",
            "LINUX",
        ),
        (
            "/linux/intelRdt",
            json!({ "closID": "a" }),
            "linux.intelRdt",
            "left out",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "time" }),
            "linux.namespaces[7].type",
            "the host's clocks",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "net", "path": "/x" }),
            "",
            "",
        ),
        (
            "/linux/namespaces/-",
            json!({ "type": "network", "path": "/proc/1/ns/net" }),
            "linux.namespaces[7].path",
            "its own",
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]),
            "linux.namespaces",
            "its own",
        ),
        (
            "/linux/resources",
            json!({ "devices": [{ "allow": true }] }),
            "linux.resources.devices",
            "none",
        ),
        (
            "/linux/resources",
            json!({ "unified": { "cpuset.cpus.partition": "root" } }),
            "linux.resources.unified.cpuset.cpus.partition",
            "left out",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/proc", "source": "/srv", "options": ["bind"] }),
            "mounts[5].destination",
            "left out: that place is airtight's own",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/etc/hosts", "source": "/srv/hosts", "options": ["bind"] }),
            "mounts[5].destination",
            "left out: that place is airtight's own",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/data", "source": "/dev", "options": ["rbind"] }),
            "mounts[5].destination",
            "left out: nothing of that source is given to a sandbox",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/run/x", "source": "/srv", "options": ["rbind"] }),
            "mounts[5].destination",
            "left out: another mount is there",
        ),
        (
            "/mounts/-",
            json!({ "destination": "/data", "type": "ext4", "source": "/dev/sda" }),
            "mounts[5].destination",
            "left out",
        ),
    ]
}

#[test]
fn what_lies_beyond_is_told_and_leaves_nothing_in_the_plan() {
    let plain = planned(&read(template(Template::Airtight)).unwrap()).unwrap();
    for (pointer, value, key, narrowed) in beyond() {
        let read = read(with(pointer, value.clone()));
        if key.is_empty() {
            assert!(read.is_err(), "{pointer} {value}");
            continue;
        }
        let wish = read.unwrap();
        let told: Vec<(&str, &str)> = wish
            .beyond
            .iter()
            .map(|beyond| (beyond.key.as_str(), beyond.narrowed.as_str()))
            .collect();
        assert_eq!(told, [(key, narrowed)], "{pointer} {value}");
        assert_eq!(planned(&wish).unwrap(), plain, "{pointer} {value}");
        assert_eq!(wish.resources, Default::default(), "{pointer} {value}");
    }
}

#[test]
fn what_has_a_narrower_meaning_gets_it() {
    let root = read(with("/process/user", json!({ "uid": 0, "gid": 0 }))).unwrap();
    assert_eq!(
        (root.spec.process.uid, root.spec.process.gid),
        (65532, 65532)
    );
    let group = read(with(
        "/process/user",
        json!({ "uid": 0, "gid": 7, "umask": 63 }),
    ))
    .unwrap();
    assert_eq!((group.spec.process.uid, group.spec.process.gid), (65532, 7));
    let steps = planned(&group).unwrap().child;
    assert!(steps.contains(&ChildStep::Umask { mask: 0o77 }));
    let bind = json!({ "destination": "/data", "source": "/srv", "options": ["rbind", "ro", "suid", "exec"] });
    let volume = read(with("/mounts/-", bind)).unwrap();
    assert_eq!(
        volume.beyond[0].narrowed,
        "a volume: read-only, nosuid, nodev, noexec"
    );
    assert!(volume.spec.volumes[0].read_only);
    let memory = json!({ "destination": "/data", "type": "tmpfs", "options": ["ro"] });
    let empty = read(with("/mounts/-", memory)).unwrap();
    assert!(empty.extras.masked.contains(&"/data".into()));
    assert_eq!(empty.spec.tmpfs.len(), 1);
    let killed = read(with("/process/oomScoreAdj", json!(-998))).unwrap();
    assert_eq!(killed.extras.oom_score_adj, Some(0));
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 9, "hard": 9 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
    let limited = planned(&read(with("/process/rlimits", limits)).unwrap()).unwrap();
    let lowered: Vec<&ChildStep> = limited
        .child
        .iter()
        .filter(|step| matches!(step, ChildStep::Bundle(BundleStep::LowerRlimit { .. })))
        .collect();
    let nofile = ChildStep::Bundle(BundleStep::LowerRlimit {
        resource: 7,
        soft: 9,
        hard: 9,
    });
    assert_eq!(lowered, [&nofile]);
}

#[test]
fn a_callers_filter_is_loaded_below_ours_and_hands_nothing_out() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }, { "names": ["chmod"], "action": "SCMP_ACT_ERRNO" }],
    });
    let wish = read(with("/linux/seccomp", profile)).unwrap();
    assert_eq!(wish.beyond[0].key, "linux.seccomp");
    let steps = planned(&wish).unwrap().child;
    let [
        ..,
        ChildStep::Bundle(BundleStep::SeccompProfile(theirs)),
        ChildStep::Seccomp(_),
        ChildStep::Exec { .. },
    ] = &steps[..]
    else {
        panic!("{steps:?}")
    };
    assert!(theirs.listener.is_none());
    let json = serde_json::to_string(theirs).unwrap();
    assert!(!json.contains("notify"), "{json}");
}

/// What every sandbox of a life cycle is, whatever was asked.
fn assert_confined(plan: &Plan) {
    let namespaces = plan.parent.iter().find_map(|step| match step {
        ParentStep::Clone { namespaces } => Some(namespaces.len()),
        _ => None,
    });
    assert_eq!(
        namespaces,
        Some(
            [
                Namespace::User,
                Namespace::Pid,
                Namespace::Mount,
                Namespace::Ipc,
                Namespace::Uts,
                Namespace::Net
            ]
            .len()
        )
    );
    for step in &plan.parent {
        if let ParentStep::Bundle(step) = step {
            assert!(
                matches!(
                    step,
                    BundleParentStep::Groups(_) | BundleParentStep::Limits { .. }
                ),
                "{step:?}"
            );
        }
    }
    let ids = plan
        .child
        .iter()
        .any(|step| matches!(step, ChildStep::SetIds { uid, .. } if *uid != 0));
    assert!(ids);
    for needed in [
        ChildStep::UnshareCgroup,
        ChildStep::PivotRoot,
        ChildStep::VerifyMounts,
        ChildStep::SessionKeyring,
        ChildStep::DropBoundingSet,
        ChildStep::SecureBits,
        ChildStep::ClearCapabilities,
        ChildStep::NoNewPrivs,
        ChildStep::CloseDescriptors,
    ] {
        assert!(plan.child.contains(&needed), "{needed:?}");
    }
    assert!(matches!(
        plan.child[..],
        [.., ChildStep::Seccomp(_), ChildStep::Exec { .. }]
    ));
    for step in &plan.child {
        if let ChildStep::Bundle(step) = step {
            assert!(
                matches!(
                    step,
                    BundleStep::MaskPath { .. }
                        | BundleStep::ReadonlyPath { .. }
                        | BundleStep::Home { .. }
                        | BundleStep::LowerRlimit { .. }
                        | BundleStep::RefuseFileStreams
                        | BundleStep::Scheduler(_)
                        | BundleStep::IoPriority(_)
                        | BundleStep::ExecLabel { .. }
                        | BundleStep::LookUpProgram
                        | BundleStep::AwaitStart
                        | BundleStep::SeccompProfile(_)
                ),
                "{step:?}"
            );
        }
    }
}

#[test]
fn narrowing_only_narrows() {
    let mut seeds: Vec<String> = beyond()
        .into_iter()
        .filter(|(.., key, _)| !key.is_empty())
        .map(|(pointer, value, ..)| with(pointer, value).to_string())
        .collect();
    seeds.push(template(Template::Compat).to_string());
    let words = [
        "null",
        "-1",
        "\"type\":\"bind\"",
        "\"path\":\"/proc/1/ns/net\"",
        "\"../x\"",
        "\"ro\"",
        "\"uid\":0,",
        "\"CAP_SYS_ADMIN\"",
        "\"SCMP_ACT_NOTIFY\"",
        "\"hooks\":{\"prestart\":[{\"path\":\"/x\"}]},",
    ];
    airtight_fuzz::fuzz("confined", &seeds, &words, |input| {
        let Ok(document) = serde_json::from_slice(input) else {
            return "no JSON".to_owned();
        };
        match read(document).and_then(|wish| planned(&wish)) {
            Ok(plan) => {
                assert_confined(&plan);
                airtight_fuzz::TAKEN.to_owned()
            }
            Err(problem) => problem,
        }
    });
}
