//! Namespaces: new, joined and the runtime's own; ids, times, names and sysctls in them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::harness::{Container, add, must, sleeps};

const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
];

/// A user namespace of its own for the container, with host ids that nobody has.
pub(crate) fn in_user_namespace(config: &mut Value) {
    add(
        &mut config["linux"]["namespaces"],
        json!({ "type": "user" }),
    );
    for (kind, host) in [
        ("uidMappings", 1_800_000_000u32),
        ("gidMappings", 1_800_100_000),
    ] {
        config["linux"][kind] = json!([{ "containerID": 0, "hostID": host, "size": 65536 }]);
    }
}

/// The root's files belong to the container's root then, as callers make it.
pub(crate) fn owned(container: &Container<'_>) {
    let status = std::process::Command::new("chown")
        .args(["-hR", "1800000000:1800100000"])
        .arg(container.rootfs(""))
        .status()
        .unwrap();
    assert!(status.success());
}

fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}"))
        .unwrap()
        .display()
        .to_string()
}

fn of(pid: i32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .unwrap()
        .display()
        .to_string()
}

#[test]
fn privileged_namespaces_without_a_path_are_new() {
    must("config-linux.md: if path is not specified, the runtime MUST create a new container namespace of this type").holds(|place| {
        let container = place.container(|config| {
            sleeps(config);
            add(&mut config["linux"]["namespaces"], json!({ "type": "cgroup" }));
            in_user_namespace(config);
        });
        owned(&container);
        container.ok("create", &[]);
        let pid = container.pid();
        for (_, kind) in KINDS {
            assert_ne!(of(pid, kind), own(kind), "{kind}");
        }
    });
}

#[test]
fn privileged_namespaces_that_are_not_listed_are_the_runtimes() {
    must("config-linux.md: if a namespace type is not specified in the array, the container MUST inherit the runtime namespace of that type").holds(|place| {
        for (name, kind) in KINDS {
            if name == "mount" {
                continue;
            }
            let container = place.container(|config| {
                sleeps(config);
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != name);
                if name == "uts" {
                    drop(config.as_object_mut().unwrap().remove("hostname"));
                }
                if name == "ipc" {
                    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
                }
            });
            container.ok("create", &[]);
            assert_eq!(of(container.pid(), kind), own(kind), "{name}");
            // Without a pid namespace of its own the process is one of the host's.
            container.ok("start", &[]);
            assert_eq!(container.kill("KILL").code, Some(0));
            container.becomes("stopped");
            container.ok("delete", &[]);
        }
    });
}

#[test]
fn privileged_namespaces_with_a_path_are_joined() {
    must("config-linux.md: the runtime MUST place the container process in the namespace associated with that path").holds(|place| {
        let holder = place.container(|config| {
            sleeps(config);
            add(&mut config["linux"]["namespaces"], json!({ "type": "cgroup" }));
        });
        let holder = holder.started();
        let theirs = holder.pid();
        for (name, kind) in KINDS {
            if ["mount", "user"].contains(&name) {
                continue;
            }
            let container = place.container(|config| {
                sleeps(config);
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != name);
                namespaces.push(json!({ "type": name, "path": format!("/proc/{theirs}/ns/{kind}") }));
            });
            container.ok("create", &[]);
            container.ok("start", &[]);
            let pid = container.pid();
            assert_eq!(of(pid, kind), of(theirs, kind), "{name}");
            for (other, kind) in KINDS.iter().filter(|(other, _)| !["user", "cgroup", name].contains(other)) {
                assert_ne!(of(pid, kind), of(theirs, kind), "{name}: {other}");
            }
            assert_eq!(container.kill("KILL").code, Some(0));
            container.becomes("stopped");
            container.ok("delete", &[]);
        }
        assert_eq!(holder.status(), "running");
    });
}

#[test]
fn privileged_all_namespaces_of_another_can_be_joined_at_once() {
    must("config-linux.md: path: all of another container's at once, as pods do, its user namespace with them").holds(|place| {
        let holder = place.container(|config| {
            sleeps(config);
            in_user_namespace(config);
        });
        owned(&holder);
        let holder = holder.started();
        let theirs = holder.pid();
        for joined in [&["network", "ipc", "uts", "user"][..], &["network", "ipc", "uts", "user", "pid"]] {
            let container = place.container(|config| {
                sleeps(config);
                for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                    let name = namespace["type"].as_str().unwrap().to_owned();
                    if joined.contains(&name.as_str()) {
                        let kind = KINDS.iter().find(|(kind, _)| *kind == name).unwrap().1;
                        namespace["path"] = json!(format!("/proc/{theirs}/ns/{kind}"));
                    }
                }
                add(&mut config["linux"]["namespaces"], json!({ "type": "user", "path": format!("/proc/{theirs}/ns/user") }));
                // runc 1.1 wants what the namespace says to be said again.
                if place.is("runc") {
                    for kind in ["uidMappings", "gidMappings"] {
                        config["linux"][kind] = holder.config["linux"][kind].clone();
                    }
                }
                drop(config.as_object_mut().unwrap().remove("hostname"));
            });
            owned(&container);
            container.ok("create", &[]);
            container.ok("start", &[]);
            let pid = container.pid();
            for (name, kind) in KINDS.iter().filter(|(name, _)| *name != "cgroup") {
                assert_eq!(of(pid, kind) == of(theirs, kind), joined.contains(name), "{name}");
            }
            let ran = container.exec(&[], &["/bin/id", "-u"]);
            assert_eq!(ran.stdout, "0\n", "{ran:?}");
            assert_eq!(container.kill("KILL").code, Some(0));
            container.becomes("stopped");
            container.ok("delete", &[]);
        }
    });
}

#[test]
fn privileged_a_path_of_another_kind_is_an_error() {
    must("config-linux.md: the runtime MUST generate an error if path is not associated with a namespace of type type").holds(|place| {
        for (name, wrong) in [("network", "uts"), ("ipc", "net"), ("uts", "ipc"), ("pid", "mnt")] {
            place.refused(|config| {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != name);
                namespaces.push(json!({ "type": name, "path": format!("/proc/self/ns/{wrong}") }));
            });
        }
        place.refused(|config| config["linux"]["namespaces"][1]["path"] = json!("/etc/hostname"));
        place.refused(|config| config["linux"]["namespaces"][1]["path"] = json!("/nowhere"));
    });
    must("config-linux.md: path MUST be an absolute path in the runtime mount namespace").holds(
        |place| {
            place.refused(|config| {
                config["linux"]["namespaces"][1]["path"] = json!("proc/self/ns/net")
            });
        },
    );
}

#[test]
fn privileged_namespaces_are_listed_once() {
    must("config-linux.md: if a namespaces field contains duplicated namespaces with same type, the runtime MUST generate an error; an unknown type too").holds(|place| {
        place.refused(|config| add(&mut config["linux"]["namespaces"], json!({ "type": "network" })));
        place.refused(|config| add(&mut config["linux"]["namespaces"], json!({ "type": "galaxy" })));
    });
}

#[test]
fn privileged_names_are_those_of_the_config() {
    must("config.md: hostname and domainname are those of the container's uts namespace").holds(
        |place| {
            assert_eq!(
                place.told("hostname; cat /proc/sys/kernel/hostname", |config| config
                    ["hostname"] =
                    json!("a-name.of.mine")),
                "a-name.of.mine\na-name.of.mine"
            );
            place.refused(|config| {
                config["linux"]["namespaces"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|namespace| namespace["type"] != "uts")
            });
        },
    );
    must("config.md: domainname")
        .since("since 1.2")
        .holds(|place| {
            assert_eq!(
                place.told(
                    "cat /proc/sys/kernel/domainname",
                    |config| config["domainname"] = json!("example.org")
                ),
                "example.org"
            );
        });
}

#[test]
fn privileged_ids_are_mapped() {
    must("config-linux.md: uidMappings and gidMappings are the user namespace's, written before the process runs").holds(|place| {
        let container = place.container(|config| {
            in_user_namespace(config);
            add(&mut config["linux"]["uidMappings"], json!({ "containerID": 70_000, "hostID": 1_900_000_000u32, "size": 10 }));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u; stat -c %u:%g /etc; touch /tmp/new"]);
        });
        owned(&container);
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, " 0 1800000000 65536\n 70000 1900000000 10\n 0 1800100000 65536\n0\n0:0\n", "{ran:?}");
        let new = fs::metadata(container.rootfs("tmp/new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (1_800_000_000, 1_800_100_000));
    });
    must("a new user namespace needs mappings").holds(|place| {
        place.refused(|config| {
            add(
                &mut config["linux"]["namespaces"],
                json!({ "type": "user" }),
            )
        });
    });
    must("mappings need a user namespace")
        .differs("runc", "1.1 forgets them")
        .holds(|place| {
            place.refused(|config| {
                config["linux"]["uidMappings"] =
                    json!([{ "containerID": 0, "hostID": 1000, "size": 1 }])
            });
        });
}

#[test]
fn privileged_in_a_user_namespace_devices_are_there() {
    must("config-linux.md: in a user namespace the default devices are bound from the host, since nobody may make them").holds(|place| {
        let container = place.container(|config| {
            in_user_namespace(config);
            config["process"]["args"] = json!(["/bin/sh", "-c", "for d in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$d; done; echo x > /dev/null; head -c 4 /dev/zero | wc -c; mount | grep -c /dev/null"]);
            config["process"]["capabilities"] = json!({});
        });
        owned(&container);
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n/dev/urandom 1:9\n/dev/tty 5:0\n4\n1\n", "{ran:?}");
    });
}

#[test]
fn privileged_times_are_offset() {
    must("config-linux.md: timeOffsets are those of the time namespace").differs("runc", "since 1.2").holds(|place| {
        let told = place.told("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime", |config| {
            add(&mut config["linux"]["namespaces"], json!({ "type": "time" }));
            config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 172_800, "nanosecs": 5 }, "boottime": { "secs": 864_000_000 } });
        });
        let words: Vec<&str> = told.split_whitespace().collect();
        assert_eq!(words[..6], ["monotonic", "172800", "5", "boottime", "864000000", "0"], "{told}");
        assert!(words[6].parse::<u64>().unwrap() > 864_000_000, "{told}");
    });
}

#[test]
fn privileged_a_new_network_has_loopback_up() {
    must("a new network namespace has its loopback device up, as callers expect").holds(|place| {
        let told = place.told(
            "ip -o addr show dev lo; ip -o link show | wc -l; ip -o link show dev lo",
            |_| {},
        );
        assert!(told.contains("127.0.0.1/8"), "{told}");
        assert!(told.contains("UP") && told.contains("LOOPBACK"), "{told}");
    });
}

#[test]
fn privileged_sysctls_are_the_configs() {
    must("config-linux.md: sysctl allows kernel parameters to be modified at runtime for the container").holds(|place| {
        let told = place.told("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/conf/lo/accept_local /proc/sys/kernel/msgmax", |config| {
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "20", "net/ipv4/conf/lo/accept_local": "1", "kernel.msgmax": "4096" });
        });
        assert_eq!(told, "1\n1\n20\n1\n4096");
    });
    must("config-linux.md: a sysctl that is not of a namespace of the container's own MUST NOT change the host").holds(|place| {
        let before = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
        place.refused(|config| config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }));
        place.refused(|config| config["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/bin/true" }));
        assert_eq!(fs::read_to_string("/proc/sys/vm/swappiness").unwrap(), before);
        place.refused(|config| {
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
        });
        place.refused(|config| {
            config["linux"]["sysctl"] = json!({ "kernel.msgmax": "1" });
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "ipc");
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
        });
        place.refused(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.no_such_parameter": "1" }));
    });
}

#[test]
fn privileged_killing_the_first_process_ends_all() {
    must("the processes of a pid namespace end with its first, and kill reaches all where there is none: kill --all").holds(|place| {
        let container = place.container(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
            config["process"]["args"] = json!(["/bin/sh", "-c", "sleep 1000 & echo ready; wait"]);
        }).started();
        container.says("ready");
        let members = || fs::read_to_string(container.group("pids").join("cgroup.procs")).unwrap_or_default().lines().count();
        assert_eq!(members(), 2);
        let mut command = container.command("kill", &["--all"]);
        command.arg("KILL");
        assert_eq!(place.finish(command).code, Some(0));
        assert!(airtight_tests::wait_until(crate::harness::PATIENCE, || members() == 0));
        container.becomes("stopped");
        container.ok("delete", &[]);
    });
}
