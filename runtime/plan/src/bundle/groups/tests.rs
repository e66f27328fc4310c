use super::*;
use crate::bundle::{BlockIo, Cpu, DeviceKind, DeviceRule, Memory};

const V1: [&str; 9] = [
    "cpuset",
    "cpu,cpuacct",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "name=systemd",
];

fn v1() -> Hierarchies {
    let hierarchy = |name: &str| Hierarchy {
        name: name.to_owned(),
        mount: format!("/sys/fs/cgroup/{name}").into(),
        own: Some("own".into()),
    };
    Hierarchies {
        v1: V1.map(hierarchy).into(),
        v2: None,
        systemd: false,
    }
}

fn unified(controllers: &[&str]) -> Unified {
    Unified {
        mount: "/sys/fs/cgroup".into(),
        own: Some("user/own".into()),
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn v2() -> Hierarchies {
    Hierarchies {
        v2: Some(unified(&[
            "cpuset", "cpu", "io", "memory", "pids", "hugetlb", "rdma",
        ])),
        ..Hierarchies::default()
    }
}

fn plan(
    resources: &Resources,
    hierarchies: &Hierarchies,
) -> std::result::Result<GroupPlan, String> {
    group_plan(Some("/x"), "id", false, resources, hierarchies, false)
        .map_err(|refusal| refusal.problem)
}

/// All settings but the devices', as `file=value`; `?` for one that may lack, `~` for one that is tried again.
fn written(
    resources: &Resources,
    hierarchies: &Hierarchies,
) -> std::result::Result<String, String> {
    let plan = plan(resources, hierarchies)?;
    let shown: Vec<String> = plan
        .groups
        .iter()
        .flat_map(|group| &group.settings)
        .filter(|setting| !setting.file.starts_with("devices."))
        .map(|setting| {
            let instead = setting
                .instead
                .as_ref()
                .map(|(file, value)| format!(" or {file}={value}"))
                .unwrap_or_default();
            let lack = if setting.may_lack { "?" } else { "" };
            let again = if setting.again { "~" } else { "" };
            format!("{}={}{instead}{lack}{again}", setting.file, setting.value)
        })
        .collect();
    Ok(shown.join(", "))
}

/// One case: a name, what is asked, v1 and v2.
type Case = (
    &'static str,
    Resources,
    std::result::Result<&'static str, &'static str>,
    std::result::Result<&'static str, &'static str>,
);

fn hold(cases: Vec<Case>) {
    for (name, resources, want_v1, want_v2) in cases {
        for (version, hierarchies, want) in [("v1", v1(), want_v1), ("v2", v2(), want_v2)] {
            let got = written(&resources, &hierarchies);
            assert_eq!(
                got.as_deref().map_err(String::as_str),
                want,
                "{name}, {version}"
            );
        }
    }
}

fn memory(memory: Memory) -> Resources {
    Resources {
        memory,
        ..Resources::default()
    }
}

fn cpu(cpu: Cpu) -> Resources {
    Resources {
        cpu,
        ..Resources::default()
    }
}

#[test]
fn memory_is_said_in_the_files_of_each_version() {
    let limits = |limit, swap| {
        memory(Memory {
            limit,
            swap,
            ..Memory::default()
        })
    };
    hold(vec![
        ("nothing", limits(None, None), Ok(""), Ok("")),
        (
            "zero is not asked",
            limits(Some(0), Some(0)),
            Ok(""),
            Ok(""),
        ),
        (
            "limit",
            limits(Some(100), None),
            Ok("memory.limit_in_bytes=100~"),
            Ok("memory.max=100"),
        ),
        (
            "limit and swap",
            limits(Some(100), Some(150)),
            Ok("memory.limit_in_bytes=100~, memory.memsw.limit_in_bytes=150~"),
            Ok("memory.swap.max=50, memory.max=100"),
        ),
        (
            "no swap at all",
            limits(Some(100), Some(100)),
            Ok("memory.limit_in_bytes=100~, memory.memsw.limit_in_bytes=100~"),
            Ok("memory.swap.max=0?, memory.max=100"),
        ),
        (
            "no limit",
            limits(Some(-1), None),
            Ok("memory.limit_in_bytes=-1~, memory.memsw.limit_in_bytes=-1?~"),
            Ok("memory.swap.max=max?, memory.max=max"),
        ),
        (
            "swap without a limit",
            limits(Some(100), Some(-1)),
            Ok("memory.limit_in_bytes=100~, memory.memsw.limit_in_bytes=-1~"),
            Ok("memory.swap.max=max?, memory.max=100"),
        ),
        (
            "swap alone",
            limits(None, Some(100)),
            Ok("memory.memsw.limit_in_bytes=100~"),
            Err("unable to set swap limit without memory limit"),
        ),
        (
            "less than memory",
            limits(Some(100), Some(50)),
            Ok("memory.limit_in_bytes=100~, memory.memsw.limit_in_bytes=50~"),
            Err("memory+swap limit should be >= memory limit"),
        ),
        (
            "the rest",
            memory(Memory {
                reservation: Some(7),
                kernel: Some(8),
                kernel_tcp: Some(9),
                swappiness: Some(60),
                disable_oom_killer: Some(true),
                ..Memory::default()
            }),
            Ok(
                "memory.soft_limit_in_bytes=7, memory.kmem.tcp.limit_in_bytes=9?, memory.oom_control=1, memory.swappiness=60",
            ),
            Ok("memory.low=7"),
        ),
        (
            "swappiness out of range",
            memory(Memory {
                swappiness: Some(101),
                ..Memory::default()
            }),
            Err("invalid memory swappiness value: 101 (valid range is 0-100)"),
            Ok(""),
        ),
    ]);
}

#[test]
fn cpu_is_said_in_the_files_of_each_version() {
    hold(vec![
        (
            "all",
            cpu(Cpu {
                shares: Some(1024),
                quota: Some(5000),
                burst: Some(100),
                period: Some(10_000),
                realtime_runtime: Some(3),
                realtime_period: Some(4),
                cpus: Some("0-1".into()),
                mems: Some("0".into()),
                idle: Some(0),
            }),
            Ok(
                "cpuset.cpus=0-1, cpuset.mems=0, cpu.rt_period_us=4~, cpu.rt_runtime_us=3~, cpu.shares=1024, cpu.cfs_period_us=10000~, cpu.cfs_burst_us=100?~, cpu.cfs_quota_us=5000~, cpu.idle=0",
            ),
            Ok(
                "cpuset.cpus=0-1, cpuset.mems=0, cpu.weight=39, cpu.idle=0, cpu.max.burst=100?~, cpu.max=5000 10000~",
            ),
        ),
        (
            "quota alone",
            cpu(Cpu {
                quota: Some(5000),
                ..Cpu::default()
            }),
            Ok("cpu.cfs_quota_us=5000~"),
            Ok("cpu.max=5000 100000~"),
        ),
        (
            "period alone",
            cpu(Cpu {
                period: Some(5000),
                ..Cpu::default()
            }),
            Ok("cpu.cfs_period_us=5000~"),
            Ok("cpu.max=max 5000~"),
        ),
        (
            "no quota",
            cpu(Cpu {
                quota: Some(-1),
                ..Cpu::default()
            }),
            Ok("cpu.cfs_quota_us=-1~"),
            Ok("cpu.max=max 100000~"),
        ),
        (
            "least shares",
            cpu(Cpu {
                shares: Some(2),
                ..Cpu::default()
            }),
            Ok("cpu.shares=2"),
            Ok("cpu.weight=1"),
        ),
        (
            "most shares",
            cpu(Cpu {
                shares: Some(262_144),
                ..Cpu::default()
            }),
            Ok("cpu.shares=262144"),
            Ok("cpu.weight=10000"),
        ),
        (
            "too few",
            cpu(Cpu {
                shares: Some(1),
                ..Cpu::default()
            }),
            Err("the minimum allowed cpu-shares is 2"),
            Ok("cpu.weight=1"),
        ),
        (
            "too many",
            cpu(Cpu {
                shares: Some(262_145),
                ..Cpu::default()
            }),
            Err("the maximum allowed cpu-shares is 262144"),
            Ok("cpu.weight=10000"),
        ),
        (
            "empty lists",
            cpu(Cpu {
                cpus: Some(String::new()),
                ..Cpu::default()
            }),
            Ok(""),
            Ok(""),
        ),
    ]);
}

#[test]
fn block_io_is_said_in_the_files_of_each_version() {
    let io = |block_io| Resources {
        block_io,
        ..Resources::default()
    };
    hold(vec![
        (
            "weights",
            io(BlockIo {
                weight: Some(500),
                weight_device: vec![(8, 0, Some(10), None)],
                ..BlockIo::default()
            }),
            Ok(
                "blkio.weight=500 or blkio.bfq.weight=500, blkio.weight_device=8:0 10 or blkio.bfq.weight_device=8:0 10",
            ),
            Ok("io.bfq.weight=500 or io.weight=4950, io.bfq.weight=8:0 10 or io.weight=8:0 1?"),
        ),
        (
            "leaf weights",
            io(BlockIo {
                leaf_weight: Some(20),
                weight_device: vec![(8, 0, None, Some(30))],
                ..BlockIo::default()
            }),
            Ok("blkio.leaf_weight=20, blkio.leaf_weight_device=8:0 30"),
            Ok(""),
        ),
        (
            "rates",
            io(BlockIo {
                read_bps: vec![(8, 0, 1), (8, 1, 0)],
                write_bps: vec![(8, 0, 2)],
                read_iops: vec![(8, 0, 3)],
                write_iops: vec![(8, 0, 4)],
                ..BlockIo::default()
            }),
            Ok(
                "blkio.throttle.read_bps_device=8:0 1, blkio.throttle.read_bps_device=8:1 0, blkio.throttle.write_bps_device=8:0 2, blkio.throttle.read_iops_device=8:0 3, blkio.throttle.write_iops_device=8:0 4",
            ),
            Ok(
                "io.max=8:0 rbps=1, io.max=8:1 rbps=max, io.max=8:0 wbps=2, io.max=8:0 riops=3, io.max=8:0 wiops=4",
            ),
        ),
    ]);
}

#[test]
fn the_other_limits_are_said_in_the_files_of_each_version() {
    let pids = |limit| Resources {
        pids: Some(limit),
        ..Resources::default()
    };
    let hugepages = |size: &str| Resources {
        hugepages: vec![(size.into(), 5)],
        ..Resources::default()
    };
    hold(vec![
        ("pids", pids(7), Ok("pids.max=7"), Ok("pids.max=7")),
        ("all pids", pids(-1), Ok("pids.max=max"), Ok("pids.max=max")),
        ("zero pids", pids(0), Ok("pids.max=max"), Ok("pids.max=max")),
        (
            "hugepages",
            hugepages("2MB"),
            Ok("hugetlb.2MB.limit_in_bytes=5, hugetlb.2MB.rsvd.limit_in_bytes=5?"),
            Ok("hugetlb.2MB.max=5, hugetlb.2MB.rsvd.max=5?"),
        ),
        (
            "no page size",
            hugepages("../2MB"),
            Err("\"../2MB\" is no page size"),
            Err("\"../2MB\" is no page size"),
        ),
        (
            "no page size either",
            hugepages("MB"),
            Err("\"MB\" is no page size"),
            Err("\"MB\" is no page size"),
        ),
        (
            "rdma, which this v1 host lacks",
            Resources {
                rdma: vec![
                    ("mlx5_0".into(), Some(3), None),
                    ("mlx5_1".into(), None, Some(4)),
                ],
                ..Resources::default()
            },
            Err("cannot set rdma limit: container could not join or create cgroup"),
            Ok("rdma.max=mlx5_0 hca_handle=3, rdma.max=mlx5_1 hca_object=4"),
        ),
        (
            "network, which v2 has no files for",
            Resources {
                network_class: Some(9),
                network_priorities: vec![("eth0".into(), 1)],
                ..Resources::default()
            },
            Err("cannot set net_cls limit: container could not join or create cgroup"),
            Ok(""),
        ),
        (
            "unified",
            Resources {
                unified: [
                    ("memory.high".into(), "9".into()),
                    ("io.max".into(), "8:0 rbps=1\n8:1 rbps=2".into()),
                ]
                .into(),
                ..Resources::default()
            },
            Err("invalid configuration: cannot use unified on cgroup v1"),
            Ok("io.max=8:0 rbps=1, io.max=8:1 rbps=2, memory.high=9"),
        ),
    ]);
    let mut host = v1();
    host.v1.push(Hierarchy {
        name: "net_cls,net_prio".into(),
        mount: "/n".into(),
        own: None,
    });
    let network = Resources {
        network_class: Some(9),
        network_priorities: vec![("eth0".into(), 1)],
        ..Resources::default()
    };
    assert_eq!(
        written(&network, &host).as_deref(),
        Ok("net_cls.classid=9, net_prio.ifpriomap=eth0 1")
    );
    let twice = Resources {
        network_priorities: vec![("a\nb".into(), 1)],
        ..network
    };
    assert_eq!(
        written(&twice, &host).unwrap_err(),
        "\"a\\nb\" is no device's name"
    );
}

#[test]
fn unified_keys_are_files_of_controllers_that_are_there() {
    for (file, want) in [
        (
            "a/b",
            "unified resource \"a/b\" must be a file name (no slashes)",
        ),
        (
            "memory",
            "unified resource \"memory\" must be in the form CONTROLLER.PARAMETER",
        ),
        (
            "..",
            "unified resource \"..\" must be in the form CONTROLLER.PARAMETER",
        ),
        (
            "memory.\0",
            "unified resource \"memory.\\0\" must be in the form CONTROLLER.PARAMETER",
        ),
        (
            "misc.max",
            "unified resource \"misc.max\" can't be set: controller \"misc\" not available",
        ),
        (
            "cgroup.procs",
            "unified resource \"cgroup.procs\" is no limit",
        ),
        (
            "cgroup.freeze",
            "unified resource \"cgroup.freeze\" is no limit",
        ),
    ] {
        let resources = Resources {
            unified: [(file.to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        assert_eq!(written(&resources, &v2()).unwrap_err(), want);
    }
}

#[test]
fn what_no_group_keeps_is_told() {
    let asked = memory(Memory {
        kernel: Some(1),
        swappiness: Some(1),
        ..Memory::default()
    });
    let told = |hierarchies: &Hierarchies| plan(&asked, hierarchies).unwrap().warnings.join("; ");
    assert!(told(&v1()).starts_with("linux.resources.memory.kernel: kernel memory has no limit"));
    assert_eq!(
        told(&v2()),
        "linux.resources.memory.kernel: cgroup v2 has no such limit, so none is set; linux.resources.memory.swappiness: cgroup v2 has no such limit, so none is set"
    );
}

/// hierarchy, directory, controllers to turn on.
fn groups(plan: &GroupPlan) -> Vec<(String, String, String)> {
    plan.groups
        .iter()
        .map(|group| {
            let dir = group
                .place
                .mount
                .join(&group.place.dir)
                .display()
                .to_string();
            (
                group.place.hierarchy.clone(),
                dir,
                group.controllers.join(" "),
            )
        })
        .collect()
}

#[test]
fn a_group_is_made_in_every_hierarchy_of_resources() {
    let mut host = v1();
    host.v1.push(Hierarchy {
        name: "name=elogind".into(),
        mount: "/e".into(),
        own: None,
    });
    host.v2 = Some(Unified {
        mount: "/sys/fs/cgroup/unified".into(),
        ..unified(&["hugetlb"])
    });
    let made = groups(&group_plan(None, "id", false, &Resources::default(), &host, false).unwrap());
    let names: Vec<&str> = made.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, [V1.as_slice(), &[""]].concat());
    assert_eq!(made[0].1, "/sys/fs/cgroup/cpuset/own/id");
    // Beside v1 nothing is turned on that nobody asked for, and the own group is the place there too.
    assert_eq!(
        made[9],
        (
            String::new(),
            "/sys/fs/cgroup/unified/user/own/id".into(),
            String::new()
        )
    );
    let inherit: Vec<&str> = plan(&Resources::default(), &host)
        .unwrap()
        .groups
        .iter()
        .filter(|group| !group.inherit.is_empty())
        .map(|group| group.place.hierarchy.clone())
        .map(|name| if name == "cpuset" { "cpuset" } else { "?" })
        .collect();
    assert_eq!(inherit, ["cpuset"]);

    let made = groups(&group_plan(None, "id", false, &Resources::default(), &v2(), false).unwrap());
    let want = (
        String::new(),
        "/sys/fs/cgroup/user/id".to_owned(),
        "cpuset cpu io memory pids hugetlb rdma".to_owned(),
    );
    assert_eq!(made, [want]);
}

#[test]
fn a_limit_goes_to_the_v2_tree_where_only_that_has_its_controller() {
    let mut host = v1();
    host.v1.retain(|hierarchy| hierarchy.name != "hugetlb");
    let asked = Resources {
        hugepages: vec![("2MB".into(), 5)],
        ..Resources::default()
    };
    assert_eq!(
        written(&asked, &host).unwrap_err(),
        "cannot set hugetlb limit: container could not join or create cgroup"
    );
    host.v2 = Some(unified(&["hugetlb"]));
    let plan = plan(&asked, &host).unwrap();
    let group = plan.groups.last().unwrap();
    assert_eq!(group.controllers, ["hugetlb"]);
    assert_eq!(group.settings[0], Setting::new("hugetlb.2MB.max", 5));
}

#[test]
fn device_rules_go_to_the_controller_or_to_the_program_and_are_never_left_out() {
    let asked = Resources {
        devices: vec![DeviceRule {
            allow: false,
            kind: DeviceKind::Any,
            major: None,
            minor: None,
            read: true,
            write: true,
            mknod: true,
        }],
        ..Resources::default()
    };
    let made = plan(&asked, &v1()).unwrap();
    let devices = made
        .groups
        .iter()
        .find(|group| group.place.has("devices"))
        .unwrap();
    assert_eq!(devices.settings[0], Setting::new("devices.deny", "a"));
    assert!(
        devices
            .settings
            .contains(&Setting::new("devices.allow", "c 1:3 rwm"))
    );
    assert!(made.groups.iter().all(|group| group.devices.is_none()));

    let made = plan(&asked, &v2()).unwrap();
    assert!(!made.groups[0].devices.as_ref().unwrap().allow);

    let mut host = v1();
    host.v1.retain(|hierarchy| hierarchy.name != "devices");
    assert_eq!(
        plan(&asked, &host).unwrap_err(),
        "mountpoint for devices not found"
    );
    host.v2 = Some(unified(&[]));
    assert!(
        plan(&asked, &host)
            .unwrap()
            .groups
            .last()
            .unwrap()
            .devices
            .is_some()
    );
}

#[test]
fn systemd_is_asked_for_by_name_only_where_it_runs() {
    let mut host = v2();
    let path = Some("machine.slice:libpod:abc");
    let refusal = group_plan(path, "id", true, &Resources::default(), &host, false).unwrap_err();
    assert_eq!(
        refusal.problem,
        "systemd not running on this host, cannot use systemd cgroups manager"
    );
    host.systemd = true;
    let made = group_plan(path, "id", true, &Resources::default(), &host, false).unwrap();
    assert_eq!(
        groups(&made)[0].1,
        "/sys/fs/cgroup/machine.slice/libpod-abc.scope"
    );
}

#[test]
fn an_update_says_the_new_limits_and_nothing_of_devices() {
    let made = plan(&Resources::default(), &v1()).unwrap();
    let asked = memory(Memory {
        limit: Some(5),
        ..Memory::default()
    });
    let places: Vec<GroupPlace> = made
        .groups
        .iter()
        .map(|group| group.place.clone())
        .collect();
    let update = update_plan(&places, &asked, &v1()).unwrap();
    let changed: Vec<&BundleGroup> = update
        .groups
        .iter()
        .filter(|group| !group.settings.is_empty())
        .collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].place, made.groups[2].place);
    assert_eq!(
        changed[0].settings,
        [Setting::new("memory.limit_in_bytes", 5).again()]
    );
}

#[test]
fn only_a_rootless_caller_without_a_path_goes_on_without_groups() {
    for (path, rootless, want) in [
        (None, true, true),
        (Some(""), true, true),
        (Some("/x"), true, false),
        (None, false, false),
    ] {
        let made = group_plan(path, "id", false, &Resources::default(), &v1(), rootless).unwrap();
        assert!(
            made.groups.iter().all(|group| group.optional == want),
            "{path:?} {rootless}"
        );
    }
}
