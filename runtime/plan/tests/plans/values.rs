//! Single values of a plan that a table shows better than a whole file.

use std::net::SocketAddr;

use airtight_plan::{
    ChildStep, Control, GateAudit, HostFacts, Init, ParentStep, Plan, Probe, Spec, SubIds, Tmpfs,
    Upstream, Volume,
};

use crate::fixture::{connect, planned, publish, root, spec, user, user_with_range};

fn maps(plan: &Plan) -> String {
    let step = plan.parent.iter().find_map(|step| match step {
        ParentStep::IdMaps(maps) => Some(maps),
        _ => None,
    });
    let maps = step.unwrap();
    let one = |maps: &[airtight_plan::IdMap]| {
        maps.iter()
            .map(|map| format!("{}:{}:{}", map.inside, map.outside, map.count))
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!("{} / {}", one(&maps.uids), one(&maps.gids))
}

#[test]
fn ids_follow_the_caller() {
    let short = SubIds {
        uids: (100_000, 1000),
        ..user_with_range().subids.unwrap()
    };
    let zero = SubIds {
        uids: (0, 65_536),
        ..user_with_range().subids.unwrap()
    };
    for (name, facts, want) in [
        ("one id", user(), "65532:1000:1 / 65532:1000:1"),
        (
            "a range",
            user_with_range(),
            "0:1000:1 1:100000:65535 / 0:1000:1 1:100000:65535",
        ),
        (
            "a range that lacks the payload's id",
            HostFacts {
                subids: Some(short),
                ..user()
            },
            "65532:1000:1 / 65532:1000:1",
        ),
        (
            "a range with the host's root",
            HostFacts {
                subids: Some(zero),
                ..user()
            },
            "65532:1000:1 / 65532:1000:1",
        ),
    ] {
        assert_eq!(maps(&planned("", &spec(), &facts).unwrap()), want, "{name}");
    }
}

#[test]
fn as_root_each_sandbox_has_a_range_of_its_own() {
    let plan = |id: &str| {
        maps(
            &planned(
                "",
                &Spec {
                    id: id.into(),
                    ..spec()
                },
                &root(),
            )
            .unwrap(),
        )
    };
    assert_eq!(plan("a"), plan("a"));
    assert_ne!(plan("a"), plan("b"));
    let outside: u32 = plan("a").split(':').nth(1).unwrap().parse().unwrap();
    assert!(
        outside >= 524_288 && outside.is_multiple_of(65_536) && outside < 1 << 31,
        "{outside}"
    );
}

#[test]
fn names_get_addresses_in_order_and_literals_keep_theirs() {
    let asked = Spec {
        connect: vec![
            connect("redis", None, 6379),
            connect("redis", None, 6380),
            connect("db", Some("127.0.0.1"), 5432),
            connect("10.0.0.9", None, 80),
            connect("127.0.0.1", None, 9000),
        ],
        ..spec()
    };
    let plan = planned("", &asked, &root()).unwrap();
    let gate = plan.gate.unwrap();
    let inside: Vec<String> = gate
        .endpoints
        .iter()
        .map(|endpoint| {
            endpoint
                .inside
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        inside,
        [
            "198.18.0.1:6379 [fd61:6972::1]:6379",
            "198.18.0.1:6380 [fd61:6972::1]:6380",
            "198.18.0.2:5432 [fd61:6972::2]:5432",
            "10.0.0.9:80",
            "127.0.0.1:9000",
        ]
    );
    assert_eq!(
        gate.endpoints[0].upstream,
        Upstream::Name {
            host: "redis".into(),
            port: 6379
        }
    );
    assert_eq!(
        gate.endpoints[2].upstream,
        Upstream::Address("127.0.0.1:5432".parse().unwrap())
    );
    assert_eq!(gate.audit, GateAudit::Off);
    let lo: Vec<String> = plan
        .child
        .iter()
        .find_map(|step| match step {
            ChildStep::Loopback { addresses } => {
                Some(addresses.iter().map(ToString::to_string).collect())
            }
            _ => None,
        })
        .unwrap();
    assert_eq!(
        lo,
        [
            "198.18.0.1",
            "fd61:6972::1",
            "198.18.0.2",
            "fd61:6972::2",
            "10.0.0.9"
        ]
    );
}

#[test]
fn an_endpoint_of_the_profile_is_planned_once_the_operator_names_it() {
    let asked = Spec {
        connect: vec![connect("redis", Some("10.0.0.5"), 6379)],
        ..spec()
    };
    let plan = planned(
        "connect = [{ endpoint = 'redis:6379', why = 'visits' }]",
        &asked,
        &root(),
    )
    .unwrap();
    let gate = plan.gate.unwrap();
    assert_eq!(gate.endpoints.len(), 1);
    assert_eq!(gate.endpoints[0].display, "redis=10.0.0.5:6379");
    assert_eq!(
        gate.endpoints[0].upstream,
        Upstream::Address("10.0.0.5:6379".parse::<SocketAddr>().unwrap())
    );
}

#[test]
fn a_probe_that_an_endpoint_would_answer_is_left_out() {
    let probes = |spec: &Spec| {
        let plan = planned("", spec, &root()).unwrap();
        plan.child
            .into_iter()
            .find_map(|step| match step {
                ChildStep::Canary { probes } => Some(probes),
                _ => None,
            })
            .unwrap()
    };
    assert_eq!(probes(&spec()).len(), 5);
    let metadata = Spec {
        connect: vec![connect("169.254.169.254", None, 80)],
        ..spec()
    };
    assert!(!probes(&metadata).contains(&Probe::MetadataAddress));
    let other_port = Spec {
        connect: vec![connect("169.254.169.254", None, 81)],
        ..spec()
    };
    assert!(probes(&other_port).contains(&Probe::MetadataAddress));
    let public = Spec {
        connect: vec![connect("1.1.1.1", None, 443)],
        public: true,
        ..spec()
    };
    assert!(!probes(&public).contains(&Probe::PublicAddress));
}

fn calls(plan: &Plan) -> Vec<String> {
    plan.child
        .iter()
        .find_map(|step| match step {
            ChildStep::Seccomp(filter) => Some(
                filter
                    .allow
                    .iter()
                    .map(|rule| format!("{} {:?}", rule.name, rule.when))
                    .collect(),
            ),
            _ => None,
        })
        .unwrap()
}

#[test]
fn memfd_is_sealed_by_the_kernel_or_refused_by_the_filter_or_accepted_open() {
    let old = HostFacts {
        memfd_noexec: false,
        ..root()
    };
    let accepting = Spec {
        accepted: [Control::MemfdNoexec].into(),
        ..spec()
    };
    for (name, profile, spec, facts, allowed, shortfalls) in [
        ("sealed", "extends = 'jit'", &spec(), &root(), true, 0),
        ("refused", "extends = 'jit'", &spec(), &old, false, 0),
        (
            "accepted open",
            "extends = 'jit'",
            &accepting,
            &old,
            true,
            1,
        ),
        (
            "accepted, but there",
            "extends = 'jit'",
            &accepting,
            &root(),
            true,
            0,
        ),
        (
            "not asked for",
            "extends = 'service'",
            &accepting,
            &old,
            false,
            0,
        ),
    ] {
        let plan = planned(profile, spec, facts).unwrap();
        assert_eq!(
            calls(&plan)
                .iter()
                .any(|call| call.starts_with("memfd_create")),
            allowed,
            "{name}"
        );
        assert_eq!(plan.shortfalls.len(), shortfalls, "{name}");
    }
}

#[test]
fn a_payload_that_is_pid_1_cannot_outlive_its_supervisor() {
    let death = |init| {
        let plan = planned("", &Spec { init, ..spec() }, &root()).unwrap();
        calls(&plan)
            .iter()
            .any(|call| call.starts_with("prctl") && call.contains("value: 1 }"))
    };
    assert!(death(Init::Ours));
    assert!(!death(Init::Payload));
}

#[test]
fn mounts_come_parent_first_and_their_points_are_made() {
    let asked = Spec {
        tmpfs: vec![
            Tmpfs {
                path: "/var/cache/nginx".into(),
                size: 1 << 20,
            },
            Tmpfs {
                path: "/run".into(),
                size: 1 << 20,
            },
        ],
        volumes: vec![
            Volume {
                source: "/srv/b".into(),
                destination: "/data/sub".into(),
                read_only: false,
            },
            Volume {
                source: "/srv/a".into(),
                destination: "/data".into(),
                read_only: true,
            },
        ],
        ..spec()
    };
    let plan = planned(
        "tmpfs = [{ path = '/run', size = '8M', why = 'pid file' }]",
        &asked,
        &root(),
    )
    .unwrap();
    let mounted: Vec<String> = plan
        .child
        .iter()
        .filter_map(|step| match step {
            ChildStep::Tmpfs { path, bytes, .. } => Some(format!("{} {bytes}", path.display())),
            ChildStep::Volume {
                source: None,
                destination,
                read_only,
            } => Some(format!("{} {read_only}", destination.display())),
            _ => None,
        })
        .collect();
    assert_eq!(
        mounted,
        [
            "/data true",
            "/data/sub false",
            "/run 1048576",
            "/tmp 67108864",
            "/var/cache/nginx 1048576"
        ]
    );
    let volumes = plan.parent.iter().find_map(|step| match step {
        ParentStep::IdmapVolumes { volumes } => Some(volumes.clone()),
        _ => None,
    });
    assert_eq!(
        volumes.unwrap(),
        ["/srv/a", "/srv/b"].map(std::path::PathBuf::from)
    );
    let json = serde_json::to_value(&plan).unwrap();
    let rootfs = json["child"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["step"] == "rootfs")
        .unwrap()
        .clone();
    let points: Vec<&str> = rootfs["bottom"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        points,
        ["/run", "/var", "/var/cache", "/var/cache/nginx", "/data"]
    );
}

#[test]
fn bound_ports_are_the_published_the_listed_and_any() {
    let asked = Spec {
        publish: vec![publish("127.0.0.1", 8080, 80)],
        listen: [9000].into(),
        ..spec()
    };
    let plan = planned(
        "listen = [{ port = '7000-7001', why = 'peers' }]",
        &asked,
        &root(),
    )
    .unwrap();
    let ports = plan.child.iter().find_map(|step| match step {
        ChildStep::Landlock(rules) => Some(rules.bind_tcp.iter().copied().collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(ports.unwrap(), [0, 80, 7000, 7001, 9000]);
}

#[test]
fn the_table_shows_no_value_of_the_environment() {
    let mut asked = spec();
    asked.process.env.push("TOKEN=hunter2".into());
    let table = airtight_plan::table(&planned("", &asked, &root()).unwrap());
    assert!(
        table.contains("TOKEN") && !table.contains("hunter2"),
        "{table}"
    );
}
