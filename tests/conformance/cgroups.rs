//! Groups: where they are, what they limit, and the verbs that change and read them. Values are read back from the group's own files.

use std::fs;
use std::path::Path;

use airtight_tests::{Need, wait_until};
use serde_json::{Value, json};

use crate::harness::{Container, PATIENCE, Place, add, group_name, must, sleeps, sweep};

fn read(container: &Container<'_>, file: &str) -> String {
    let (controller, _) = file.split_once('.').unwrap();
    let path = container.group(controller).join(file);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

fn limited<'a>(place: &'a Place, name: &str, value: &Value) -> Container<'a> {
    let container = place.container(|config| {
        sleeps(config);
        config["linux"]["resources"][name] = value.clone();
    });
    container.ok("create", &[]);
    container
}

/// The hierarchies of version 1 that the host has.
fn controllers() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .flat_map(|names| names.split(','));
    names
        .map(|name| name.trim_start_matches("name=").to_owned())
        .filter(|name| !name.is_empty() && Path::new("/sys/fs/cgroup").join(name).is_dir())
        .collect()
}

#[test]
fn privileged_the_groups_are_at_the_path() {
    must("config-linux.md: cgroupsPath absolute: the runtime MUST take the path to be relative to the cgroups mount point, the same for the same value").holds(|place| {
        let container = limited(place, "pids", &json!({ "limit": 10 }));
        for controller in controllers() {
            let members = fs::read_to_string(container.group(&controller).join("cgroup.procs")).unwrap_or_else(|error| panic!("{controller}: {error}"));
            assert_eq!(members.trim(), container.pid().to_string(), "{controller}");
        }
        container.ok("delete", &["--force"]);
        assert_eq!(container.groups().len(), 0);
    });
}

#[test]
fn privileged_a_relative_path_is_below_the_runtimes() {
    must("config-linux.md: cgroupsPath relative: the runtime MAY interpret the path relative to a runtime-determined location").holds(|place| {
        let container = place.container(|config| {
            sleeps(config);
            let path = config["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/').to_owned();
            config["linux"]["cgroupsPath"] = json!(path);
        });
        container.ok("create", &[]);
        let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
        let path = text.lines().find(|line| line.contains(":pids:")).unwrap();
        assert!(path.ends_with(&format!("/{}", group_name(&container.id))), "{text}");
        container.ok("delete", &["--force"]);
        assert_eq!(container.groups().len(), 0);
    });
}

#[test]
fn privileged_a_path_of_several_parts_is_made_and_its_parents_stay() {
    must("config-linux.md: cgroupsPath: groups above the container's are made where missing")
        .holds(|place| {
            let container = place.container(|config| {
                sleeps(config);
                let path = format!(
                    "{}/inner/most",
                    config["linux"]["cgroupsPath"].as_str().unwrap()
                );
                config["linux"]["cgroupsPath"] = json!(path);
                config["linux"]["resources"]["pids"] = json!({ "limit": 9 });
            });
            container.ok("create", &[]);
            let inner = container.group("pids").join("inner/most");
            assert_eq!(fs::read_to_string(inner.join("pids.max")).unwrap(), "9\n");
            assert!(
                !fs::read_to_string(container.group("pids").join("pids.max"))
                    .unwrap()
                    .starts_with('9')
            );
            container.ok("delete", &["--force"]);
            assert!(!inner.exists());
        });
}

#[test]
fn privileged_a_path_cannot_climb() {
    must("a cgroupsPath with .. stays below the mount point").holds(|place| {
        let container = place.container(|config| {
            sleeps(config);
            let path = config["linux"]["cgroupsPath"].as_str().unwrap();
            config["linux"]["cgroupsPath"] = json!(format!("/../../..{path}"));
        });
        if container.create(&[]).code == Some(0) {
            assert!(container.group("pids").is_dir());
        }
        let outside = Path::new("/sys/fs").join(group_name(&container.id));
        assert!(!outside.exists());
    });
}

#[test]
fn privileged_memory_is_limited() {
    must("config-linux.md: memory: limit, reservation, swap, swappiness, disableOOMKiller, checkBeforeUpdate").needs(Need::Cgroups).holds(|place| {
        let container = limited(place, "memory", &json!({ "limit": 64 << 20, "reservation": 32 << 20, "swappiness": 10, "disableOOMKiller": true, "useHierarchy": true }));
        assert_eq!(read(&container, "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read(&container, "memory.soft_limit_in_bytes"), (32 << 20).to_string());
        assert_eq!(read(&container, "memory.swappiness"), "10");
        assert!(read(&container, "memory.oom_control").contains("oom_kill_disable 1"));
        let plain = limited(place, "memory", &json!({ "limit": -1 }));
        assert!(read(&plain, "memory.limit_in_bytes").len() > 15);
        if container.group("memory").join("memory.memsw.limit_in_bytes").exists() {
            let swapping = limited(place, "memory", &json!({ "limit": 64 << 20, "swap": 128 << 20 }));
            assert_eq!(read(&swapping, "memory.memsw.limit_in_bytes"), (128 << 20).to_string());
        }
        place.refused(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 1 << 20, "reservation": 1 << 20, "swappiness": 1000 }));
    });
    must("config-linux.md: memory.limit is what the kernel ends a process at")
        .needs(Need::Cgroups)
        .holds(|place| {
            let ran = place.sh(
                "sh -c 'head -c 200m /dev/zero | tail -c 150m | wc -c'; echo $?",
                |config| {
                    config["linux"]["resources"]["memory"] =
                        json!({ "limit": 32 << 20, "swap": 32 << 20 })
                },
            );
            assert!(!ran.stdout.contains("157286400"), "{ran:?}");
        });
}

#[test]
fn privileged_the_cpu_is_limited() {
    must("config-linux.md: cpu: shares, quota, period, burst, cpus, mems, idle").needs(Need::Cgroups).holds(|place| {
        let container = limited(place, "cpu", &json!({ "shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0-1", "mems": "0" }));
        for (file, wanted) in [("cpu.shares", "512"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "200000"), ("cpuset.cpus", "0-1"), ("cpuset.mems", "0")] {
            assert_eq!(read(&container, file), wanted, "{file}");
        }
        let one = limited(place, "cpu", &json!({ "cpus": "1" }));
        let status = fs::read_to_string(format!("/proc/{}/status", one.pid())).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t1\n"), "{status}");
        let period = limited(place, "cpu", &json!({ "period": 1000, "quota": -1 }));
        assert_eq!((read(&period, "cpu.cfs_period_us"), read(&period, "cpu.cfs_quota_us")), ("1000".to_owned(), "-1".to_owned()));
        for wrong in [json!({ "quota": 1 }), json!({ "cpus": "999" }), json!({ "mems": "77" }), json!({ "period": 1 })] {
            place.refused(|config| config["linux"]["resources"]["cpu"] = wrong.clone());
        }
    });
    must("config-linux.md: cpu: shares that the kernel takes otherwise than asked are an error")
        .needs(Need::Cgroups)
        .holds(|place| {
            place.refused(|config| config["linux"]["resources"]["cpu"] = json!({ "shares": 1 }));
        });
    must("config-linux.md: cpu: burst, idle")
        .needs(Need::Cgroups)
        .differs("runc", "burst since 1.2, idle on v1 since 1.1.10")
        .holds(|place| {
            let container = limited(
                place,
                "cpu",
                &json!({ "quota": 50_000, "period": 100_000, "burst": 20_000 }),
            );
            assert_eq!(read(&container, "cpu.cfs_burst_us"), "20000");
            let idle = limited(place, "cpu", &json!({ "idle": 1 }));
            assert_eq!(read(&idle, "cpu.idle"), "1");
        });
}

#[test]
fn privileged_the_number_of_processes_is_limited() {
    must("config-linux.md: pids: limit: 0 or less means unlimited in some versions; fork fails beyond").needs(Need::Cgroups).holds(|place| {
        let container = limited(place, "pids", &json!({ "limit": 7 }));
        assert_eq!(read(&container, "pids.max"), "7");
        let none = limited(place, "pids", &json!({ "limit": -1 }));
        assert_eq!(read(&none, "pids.max"), "max");
        let ran = place.sh("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 100 & done; echo all", |config| config["linux"]["resources"]["pids"] = json!({ "limit": 5 }));
        assert!(!ran.stdout.contains("all") && ran.stderr.contains("fork"), "{ran:?}");
    });
}

#[test]
fn privileged_block_devices_are_limited() {
    must("config-linux.md: blockIO: weight, weightDevice, leafWeight, throttle rates by device").needs(Need::File("/sys/fs/cgroup/blkio")).holds(|place| {
        let disk = fs::read_to_string("/proc/partitions").unwrap();
        let mut words = disk.lines().nth(2).unwrap().split_whitespace();
        let (major, minor) = (words.next().unwrap(), words.next().unwrap());
        let rate = |rate: u64| json!([{ "major": major.parse::<u64>().unwrap(), "minor": minor.parse::<u64>().unwrap(), "rate": rate }]);
        let container = limited(place, "blockIO", &json!({ "throttleReadBpsDevice": rate(1_000_001), "throttleWriteBpsDevice": rate(1_000_002), "throttleReadIOPSDevice": rate(1003), "throttleWriteIOPSDevice": rate(1004) }));
        for (file, wanted) in [("read_bps", 1_000_001), ("write_bps", 1_000_002), ("read_iops", 1003), ("write_iops", 1004)] {
            assert_eq!(read(&container, &format!("blkio.throttle.{file}_device")), format!("{major}:{minor} {wanted}"));
        }
        let weights = ["blkio.weight", "blkio.bfq.weight"];
        if let Some(file) = weights.iter().find(|file| container.group("blkio").join(file).exists()) {
            let weighted = limited(place, "blockIO", &json!({ "weight": 300 }));
            assert_eq!(read(&weighted, file).trim_start_matches("default "), "300");
        }
        place.refused(|config| config["linux"]["resources"]["blockIO"] = json!({ "throttleReadBpsDevice": [{ "major": 4000, "minor": 1, "rate": 1 }] }));
    });
}

#[test]
fn privileged_what_the_host_has_no_controller_for_is_an_error() {
    must("config-linux.md: the runtime MUST generate an error for a limit that it cannot set: hugepageLimits, rdma, network without their controller").holds(|place| {
        let lacks = |name: &str| !Path::new("/sys/fs/cgroup").join(name).exists();
        if lacks("net_cls") && lacks("net_cls,net_prio") {
            place.refused(|config| config["linux"]["resources"]["network"] = json!({ "classID": 1_048_577 }));
        }
        if lacks("net_prio") && lacks("net_cls,net_prio") {
            place.refused(|config| config["linux"]["resources"]["network"] = json!({ "priorities": [{ "name": "lo", "priority": 5 }] }));
        }
        place.refused(|config| config["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "3KB", "limit": 4096 }]));
        place.refused(|config| config["linux"]["intelRdt"] = json!({ "closID": "guaranteed", "l3CacheSchema": "L3:0=7f0;1=1f" }));
    });
}

#[test]
fn privileged_unified_is_for_the_second_version() {
    must("config-linux.md: unified on a host of version 1: the runtime MUST generate an error")
        .needs(Need::File("/sys/fs/cgroup/pids"))
        .holds(|place| {
            place.refused(|config| {
                config["linux"]["resources"]["unified"] = json!({ "memory.max": "100000000" })
            });
        });
}

#[test]
fn privileged_update_changes_the_limits() {
    must("runc's update: by flags, by --resources FILE and by - for standard input").needs(Need::Cgroups).holds(|place| {
        let container = limited(place, "memory", &json!({ "limit": 64 << 20 }));
        container.ok("update", &["--memory", "33554432", "--pids-limit", "20", "--cpu-share", "100", "--cpu-quota", "20000", "--cpu-period", "50000", "--cpuset-cpus", "0", "--memory-reservation", "16777216"]);
        for (file, wanted) in [("memory.limit_in_bytes", "33554432"), ("memory.soft_limit_in_bytes", "16777216"), ("pids.max", "20"), ("cpu.shares", "100"), ("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "50000"), ("cpuset.cpus", "0")] {
            assert_eq!(read(&container, file), wanted, "{file}");
        }
        let file = place.path("resources.json");
        fs::write(&file, json!({ "memory": { "limit": 50 << 20 }, "pids": { "limit": 30 }, "cpu": { "shares": 200 } }).to_string()).unwrap();
        container.ok("update", &["--resources", file.to_str().unwrap()]);
        for (file, wanted) in [("memory.limit_in_bytes", (50 << 20).to_string()), ("pids.max", "30".to_owned()), ("cpu.shares", "200".to_owned()), ("cpu.cfs_quota_us", "20000".to_owned())] {
            assert_eq!(read(&container, file), wanted, "{file}");
        }
        fs::write(&file, json!({ "pids": { "limit": 40 } }).to_string()).unwrap();
        let mut command = container.command("update", &["--resources", "-"]);
        command.stdin(fs::File::open(&file).unwrap());
        let ran = place.finish(command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(read(&container, "pids.max"), "40");
        // What cannot be is refused, and units are understood.
        assert_ne!(container.verb("update", &["--cpu-quota", "1"]).code, Some(0));
        container.ok("update", &["--memory", "40M"]);
        assert_eq!(read(&container, "memory.limit_in_bytes"), (40 << 20).to_string());
        container.ok("start", &[]);
        container.ok("update", &["--pids-limit", "50"]);
        assert_eq!((read(&container, "pids.max"), container.status()), ("50".to_owned(), "running".to_owned()));
        assert_ne!(place.call(&["update", "--pids-limit", "5", "nobody"]).code, Some(0));
    });
}

#[test]
fn privileged_pause_and_resume_freeze() {
    must("runc's pause and resume: status paused, and what is not in that state is an error")
        .needs(Need::Cgroups)
        .holds(|place| {
            let container = place
                .container(|config| {
                    config["process"]["args"] = json!([
                        "/bin/sh",
                        "-c",
                        "i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.01; done"
                    ])
                })
                .started();
            assert_ne!(container.verb("resume", &[]).code, Some(0));
            let count = || fs::read_to_string(container.rootfs("count")).unwrap_or_default();
            assert!(wait_until(PATIENCE, || count()
                .trim()
                .parse::<u32>()
                .is_ok_and(|count| count > 3)));
            container.ok("pause", &[]);
            assert_eq!(container.status(), "paused");
            assert_eq!(read(&container, "freezer.state"), "FROZEN");
            let still = count();
            assert!(!wait_until(
                std::time::Duration::from_millis(100),
                || count() != still
            ));
            assert_ne!(container.verb("pause", &[]).code, Some(0));
            assert_ne!(
                container.exec(&[], &["/bin/true"]).code,
                Some(0),
                "exec in a paused one"
            );
            container.ok("resume", &[]);
            assert_eq!(container.status(), "running");
            assert!(wait_until(PATIENCE, || count() != still));
            assert_ne!(place.call(&["pause", "nobody"]).code, Some(0));
        });
    must("delete --force and kill reach a paused container")
        .needs(Need::Cgroups)
        .holds(|place| {
            let container = place.container(sleeps).started();
            container.ok("pause", &[]);
            container.ok("delete", &["--force"]);
            assert_eq!(container.groups().len(), 0);
        });
}

#[test]
fn privileged_events_tell_the_use() {
    must("runc's events --stats: one object of type stats with cpu, memory and pids, as callers read it").needs(Need::Cgroups).holds(|place| {
        let container = place.container(|config| {
            config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
            config["linux"]["resources"]["pids"] = json!({ "limit": 12 });
            config["process"]["args"] = json!(["/bin/sh", "-c", "sleep 1000 & head -c 3m /dev/zero > /dev/shm/some; echo ready; wait"]);
        }).started();
        container.says("ready");
        let ran = container.ok("events", &["--stats"]);
        let event: Value = serde_json::from_str(ran.stdout.trim()).unwrap();
        assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(container.id.as_str())));
        let number = |pointer: &str| event["data"].pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {event}"));
        assert_eq!(number("/pids/current"), 2);
        assert_eq!(number("/pids/limit"), 12);
        assert_eq!(number("/memory/usage/limit"), 64 << 20);
        assert!(number("/memory/usage/usage") > 3 << 20);
        assert!(number("/memory/usage/max") >= number("/memory/usage/usage"));
        // Those by ticks may be none yet.
            assert!(number("/cpu/usage/total") > number("/cpu/usage/kernel") / 2);
            number("/cpu/usage/user");
        assert!(number("/memory/raw/cache") > 0);
        assert!(event["data"]["blkio"].is_object() && event["data"]["hugetlb"].is_null() | event["data"]["hugetlb"].is_object());
        assert_ne!(place.call(&["events", "--stats", "nobody"]).code, Some(0));
    });
}

#[test]
fn privileged_events_go_on_until_the_end() {
    must("runc's events --interval: an object each interval, until the container ends")
        .needs(Need::Cgroups)
        .holds(|place| {
            let container = place.container(sleeps).started();
            let running = place.start(container.command("events", &["--interval", "50ms"]));
            assert!(wait_until(PATIENCE, || running.said().lines().count() >= 2));
            assert!(
                running
                    .said()
                    .lines()
                    .take(2)
                    .all(|line| serde_json::from_str::<Value>(line).is_ok()),
                "{}",
                running.said()
            );
            // runc goes on until it is deleted, or is killed here.
            if !place.is("runc") {
                assert_eq!(container.kill("KILL").code, Some(0));
                let ran = running.wait();
                assert_eq!(ran.code, Some(0), "{ran:?}");
            }
        });
}

#[test]
fn privileged_ps_lists_the_processes() {
    must("runc's ps: ps's table of the container's processes, or their pids with --format json")
        .needs(Need::Cgroups)
        .holds(|place| {
            let container = place
                .container(|config| {
                    config["process"]["args"] =
                        json!(["/bin/sh", "-c", "sleep 1000 & echo ready; wait"])
                })
                .started();
            container.says("ready");
            let ran = container.ok("ps", &["--format", "json"]);
            let pids: Vec<i32> = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(pids.len(), 2);
            assert!(pids.contains(&container.pid()));
            let table = container.ok("ps", &[]);
            assert_eq!(table.stdout.lines().count(), 3, "{table:?}");
            assert!(
                table.stdout.contains("PID") && table.stdout.contains("sleep 1000"),
                "{table:?}"
            );
        });
}

#[test]
fn privileged_processes_of_exec_are_in_the_groups() {
    must("runc's exec puts its process into the container's groups")
        .needs(Need::Cgroups)
        .holds(|place| {
            let container = place.container(sleeps).started();
            let ran = container.exec(&[], &["/bin/cat", "/proc/self/cgroup"]);
            let wanted = format!("/{}", group_name(&container.id));
            let lines: Vec<&str> = ran
                .stdout
                .lines()
                .filter(|line| {
                    controllers().iter().any(|name| {
                        line.contains(&format!(":{name}:")) || line.contains(&format!("={name}:"))
                    })
                })
                .collect();
            assert!(!lines.is_empty(), "{ran:?}");
            for line in lines {
                assert!(line.ends_with(&wanted), "{line}");
            }
        });
}

#[test]
fn privileged_a_group_that_is_there_is_used() {
    must(
        "config-linux.md: cgroupsPath: a group that is there already is used; what is in it stays",
    )
    .needs(Need::Cgroups)
    .holds(|place| {
        let container = place.container(sleeps);
        let pod = container.group("pids");
        fs::create_dir(&pod).unwrap();
        fs::create_dir(pod.join("other")).unwrap();
        container.ok("create", &[]);
        container.ok("start", &[]);
        assert_eq!(container.kill("KILL").code, Some(0));
        container.becomes("stopped");
        drop(container.verb("delete", &[]));
        sweep(&pod);
    });
}

#[test]
fn privileged_a_namespace_of_groups_hides_what_is_above() {
    must("config-linux.md: a cgroup namespace shows the container's group as the root").holds(
        |place| {
            let told = place.told("cat /proc/self/cgroup", |config| {
                add(
                    &mut config["linux"]["namespaces"],
                    json!({ "type": "cgroup" }),
                )
            });
            let named = controllers();
            for line in told
                .lines()
                .filter(|line| named.iter().any(|name| line.contains(&format!(":{name}:"))))
            {
                assert!(line.ends_with(":/"), "{line}: {told}");
            }
        },
    );
}
