//! CVE-2019-5736: the runtime's own file on the host, overwritten from a container through `/proc/PID/exe`.
//!
//! A thief in the container takes hold of every program that is not the container's own and writes to it as soon as it may. What it is after is a copy of the
//! runtime, which a case may lose.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use airtight_tests::{Ran, binary};
use serde_json::{Value, json};

use crate::harness::{Container, Place, add, copy_program, must};

/// What the thief spares: without it the cases could not go on.
const SPARED: &str = "/bin/busybox";
/// How often each way is tried.
const TRIES: usize = 25;

fn thief(place: &Place, edit: impl FnOnce(&mut Value)) -> Container<'_> {
    let container = place.container(|config| {
        config["process"]["args"] = json!(["/bin/prober", "steal", SPARED]);
        // As podman and docker have it, and without no_new_privs.
        let capabilities = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_KILL",
            "CAP_SETUID",
            "CAP_SETGID"
        ]);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = capabilities.clone();
        }
        config["process"]["noNewPrivileges"] = json!(false);
        edit(config);
    });
    arm(&container);
    let container = container.started();
    container.says("ready");
    container
}

/// The programs that lead back to whoever executes them.
fn arm(container: &Container<'_>) {
    copy_program(binary("airtight-prober"), container.rootfs("bin/prober"));
    symlink("/proc/self/exe", container.rootfs("bin/link")).unwrap();
    for (name, text) in [
        ("script", "#!/proc/self/exe\n"),
        ("version", "#!/proc/self/exe --version\n"),
        ("thread", "#!/proc/thread-self/exe\n"),
        ("nested", "#!/bin/script\n"),
    ] {
        let path = container.rootfs("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

const PROGRAMS: [&[&str]; 8] = [
    &["/bin/true"],
    &["/proc/self/exe", "--version"],
    &["/bin/link", "features"],
    &["/bin/script"],
    &["/bin/version"],
    &["/bin/thread"],
    &["/bin/nested"],
    // The container's own first process, for the sake of the table: its program is the thief's.
    &["/proc/1/exe", "exit", "0"],
];

/// What the host has there is what was put there.
fn is_whole(copy: &Path, before: &[u8], thief: &Container<'_>) {
    let now = fs::read(copy).unwrap();
    assert!(
        now == before,
        "the runtime was overwritten: {}",
        thief.said()
    );
}

fn with_ptrace(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        add(
            &mut config["process"]["capabilities"][set],
            json!("CAP_SYS_PTRACE"),
        );
    }
}

/// The host's number of the root of [`with_all_of_a_user_namespace`].
const MAPPED: u32 = 100_000;

const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST \
    NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME \
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF \
    CHECKPOINT_RESTORE";

/// Every capability, of a user namespace: as much as a process has that has just joined it.
fn with_all_of_a_user_namespace(config: &mut Value) {
    add(
        &mut config["linux"]["namespaces"],
        json!({ "type": "user" }),
    );
    let maps = json!([{ "containerID": 0, "hostID": MAPPED, "size": 65536 }]);
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
    for set in ["bounding", "effective", "permitted"] {
        let all: Vec<String> = CAPABILITIES
            .split_whitespace()
            .map(|name| format!("CAP_{name}"))
            .collect();
        config["process"]["capabilities"][set] = json!(all);
    }
}

#[test]
fn privileged_the_thief_is_a_good_one() {
    must("(the trap) a program of the host that a container runs is overwritten by it").holds(
        |place| {
            let victim = place.path("victim");
            copy_program(binary("airtight-prober"), &victim);
            let container = thief(place, |config| {
                let bind = json!({ "destination": "/bin/victim", "type": "bind", "source": victim, "options": ["bind"] });
                add(&mut config["mounts"], bind);
            });
            let ran = container.exec(&[], &["/bin/victim", "sleep", "1"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            container.says("overwrote");
            assert!(fs::read(&victim).unwrap().starts_with(b"stolen"));
        },
    );
}

#[test]
fn privileged_exec_does_not_lend_the_runtime_to_a_container() {
    must("whatever a container calls its programs, `exec` gives it no way to write the runtime's own file (CVE-2019-5736)").holds(|place| {
        for who in ["root", "who may trace", "root of a user namespace"] {
            let (place, copy) = place.with_own_copy();
            let before = fs::read(&copy).unwrap();
            if who == "root of a user namespace" {
                // As the file of a user who runs containers is that of their root.
                chown(&copy, Some(MAPPED), Some(MAPPED)).unwrap();
            }
            let container = thief(&place, |config| match who {
                "who may trace" => with_ptrace(config),
                "root of a user namespace" => with_all_of_a_user_namespace(config),
                _ => {}
            });
            for program in PROGRAMS {
                for _ in 0..TRIES {
                    // What it says and how it ends is the program's.
                    drop(container.exec(&[], program));
                    is_whole(&copy, &before, &container);
                }
            }
            // Whatever the thief still holds.
            std::thread::sleep(std::time::Duration::from_millis(200));
            is_whole(&copy, &before, &container);
        }
    });
}

/// To open a file for writing makes it busy for a moment even where its mount then refuses, and a busy program is executed by nobody.
#[test]
fn privileged_not_even_a_tracer_can_make_the_runtime_busy() {
    let must = must(
        "a container that may trace gets hold of a copy of the runtime at most: a handle on its own file, on whatever mount, would make it busy for everyone (ETXTBSY)",
    );
    must.differs("runc", "its own file on a read-only mount")
        .holds(|place| {
            let (place, copy) = place.with_own_copy();
            let container = thief(&place, with_ptrace);
            for program in PROGRAMS {
                drop(container.exec(&[], program));
            }
            let slow = container.exec(&[], &["/bin/sleep", "1"]);
            assert_eq!(slow.code, Some(0), "{slow:?}");
            container.says("took");
            let meta = fs::metadata(&copy).unwrap();
            let own = format!("took {}:{} ", meta.dev(), meta.ino());
            let said = container.said();
            assert!(!said.contains(&own), "{own}: {said}");
        });
}

#[test]
fn privileged_a_container_among_others_does_not_lend_the_runtime_to_them() {
    must("a container that joins the pid namespace of another gives that one no way to write the runtime's own file (CVE-2019-5736)").holds(|place| {
        let (place, copy) = place.with_own_copy();
        let before = fs::read(&copy).unwrap();
        let first = thief(&place, with_ptrace);
        let path = format!("/proc/{}/ns/pid", first.pid());
        for program in PROGRAMS {
            for waits in [false, true] {
                let container = place.container(|config| {
                    config["process"]["args"] = json!(program);
                    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                    namespaces.retain(|entry| entry["type"] != "pid");
                    namespaces.push(json!({ "type": "pid", "path": path }));
                });
                arm(&container);
                if waits {
                    // Some are refused here already.
                    drop(container.create(&[]));
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    drop(container.verb("start", &[]));
                } else {
                    drop(container.run(&[]));
                }
                is_whole(&copy, &before, &first);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        is_whole(&copy, &before, &first);
    });
}

/// The container's only program says what it is.
fn what_runs(place: &Place, args: &[&str], edit: impl FnOnce(&mut Value)) -> Ran {
    let container = place.container(|config| {
        config["process"]["args"] = json!(args);
        edit(config);
    });
    arm(&container);
    container.run(&[])
}

#[test]
fn privileged_the_runtime_is_no_program_of_a_container() {
    let must = must(
        "a container whose program is /proc/self/exe does not run the runtime's own file: neither as its program, nor as the interpreter of a script or of a hook (CVE-2019-5736)",
    );
    must.differs("runc", "it runs a copy of itself there")
        .differs("crun", "likewise")
        .holds(|place| {
            let (place, _) = place.with_own_copy();
            for program in &PROGRAMS[1..] {
                let ran = what_runs(&place, program, |_| {});
                assert!(
                    !ran.stdout.contains("version") && !ran.stdout.contains("oci"),
                    "{program:?}: {ran:?}"
                );
                assert_ne!(ran.code, Some(0), "{program:?}: {ran:?}");
            }
        });
}

/// Where the springboard cannot be used the file is fixed instead: its program runs all the same.
#[test]
fn privileged_filters_and_hooks_leave_the_runtime_alone() {
    must("a filter that refuses execveat, and a hook of the container's own, cost nothing but time, and lend nothing (CVE-2019-5736)").holds(|place| {
        let (place, copy) = place.with_own_copy();
        let before = fs::read(&copy).unwrap();
        let filter = |config: &mut Value| {
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["execveat"], "action": "SCMP_ACT_KILL_PROCESS" }] });
        };
        let ran = what_runs(&place, &["/bin/echo", "it runs"], filter);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "it runs\n"), "{ran:?}");
        let first = thief(&place, filter);
        for program in PROGRAMS {
            for _ in 0..TRIES {
                drop(first.exec(&[], program));
            }
        }
        for program in ["/bin/true", "/bin/script", "/bin/link"] {
            let hook = |config: &mut Value| add(&mut config["hooks"]["startContainer"], json!({ "path": program }));
            let ran = what_runs(&place, &["/bin/echo", "it runs"], hook);
            assert_eq!(ran.code == Some(0), program == "/bin/true", "{program}: {ran:?}");
        }
        is_whole(&copy, &before, &first);
    });
}
