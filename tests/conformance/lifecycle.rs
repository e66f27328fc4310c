//! Create, start, state, kill and delete: what each refuses, and what it leaves.

use std::fs;
use std::path::Path;

use airtight_tests::wait_until;
use serde_json::{Value, json};

use crate::harness::{Must, PATIENCE, Place, must, sleeps};

pub(crate) fn has_failed(ran: &airtight_tests::Ran) {
    assert!(
        ran.code.is_some_and(|code| code != 0) && !ran.stderr.is_empty(),
        "{ran:?}"
    );
}

#[test]
fn privileged_a_life_has_its_states() {
    must(
        "runtime.md: create, start, the process exits, delete; status is created, running, stopped",
    )
    .holds(|place| {
        let container = place.container(|config| {
            config["process"]["args"] = json!([
                "/bin/sh",
                "-c",
                "echo began; while ! test -e /go; do sleep 0.01; done; exit 3"
            ])
        });
        assert!(container.groups().is_empty());
        container.ok("create", &[]);
        assert_eq!(container.status(), "created");
        assert_eq!(
            container.said(),
            "",
            "the program must not run before start"
        );
        container.ok("start", &[]);
        assert_eq!(container.status(), "running");
        container.says("began\n");
        fs::write(container.rootfs("go"), "").unwrap();
        container.becomes("stopped");
        container.ok("delete", &[]);
        has_failed(&container.verb("state", &[]));
        assert_eq!(container.groups(), [""; 0].map(std::path::PathBuf::from));
        let left: Vec<_> = fs::read_dir(place.path("state"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert!(
            !left.iter().any(|name| name == container.id.as_str()),
            "{left:?}"
        );
    });
}

#[test]
fn privileged_the_id_may_be_used_again_after_delete() {
    must("runtime.md: once a container is deleted its ID MAY be used by a subsequent container")
        .holds(|place| {
            let container = place.container(|_| {});
            for _ in 0..2 {
                container.ok("create", &[]);
                container.ok("start", &[]);
                container.becomes("stopped");
                container.ok("delete", &[]);
            }
        });
}

#[test]
fn privileged_create_needs_an_id_that_is_unique() {
    must("runtime.md: create MUST generate an error if the ID provided is not unique; a new container MUST NOT be created").holds(|place| {
        let container = place.container(sleeps);
        container.ok("create", &[]);
        let pid = container.pid();
        let again = container.create(&[]);
        has_failed(&again);
        assert_eq!(container.status(), "created");
        assert_eq!(container.pid(), pid, "the first one is as it was");
        container.ok("start", &[]);
        assert_eq!(container.status(), "running");
    });
}

#[test]
fn privileged_an_id_is_a_name() {
    must("runtime.md: an ID is required; runc's are of letters, digits and +-_. and are no path")
        .holds(|place| {
            let container = place.container(|_| {});
            let bundle = container.bundle.to_str().unwrap();
            for id in ["", ".", "..", "a/b", "../a", "a b", "a\n", "ä", "a;b"] {
                let ran = place.call(&["create", "--bundle", bundle, id]);
                has_failed(&ran);
            }
            has_failed(&place.call(&["create", "--bundle", bundle]));
            assert!(!place.path("a").exists());
            for id in ["a.b", "A-1_2+3", "..a"] {
                let ran = place.call(&["run", "--bundle", bundle, id]);
                assert_eq!(ran.code, Some(0), "{id}: {ran:?}");
            }
        });
}

#[test]
fn privileged_create_needs_a_bundle() {
    must("runtime.md: create needs the path to the bundle with a config.json; an error otherwise")
        .holds(|place| {
            let container = place.container(|_| {});
            has_failed(&place.call(&[
                "create",
                "--bundle",
                &place.shown("nowhere"),
                &container.id,
            ]));
            let config = container.bundle.join("config.json");
            for text in ["", "{", "[]", "null", "{\"ociVersion\": 1}", "{}"] {
                fs::write(&config, text).unwrap();
                has_failed(&container.create(&[]));
                has_failed(&container.verb("state", &[]));
            }
            fs::remove_file(&config).unwrap();
            has_failed(&container.create(&[]));
            assert_eq!(container.groups().len(), 0);
        });
}

#[test]
fn privileged_start_refuses_what_is_not_created() {
    must("runtime.md: attempting to start a container that is not created MUST have no effect on the container and MUST generate an error").holds(|place| {
        has_failed(&place.call(&["start", "nobody"]));
        has_failed(&place.call(&["start"]));
        has_failed(&place.call(&["start", ""]));
        let container = place.container(|config| config["process"]["args"] = json!(["/bin/sh", "-c", "echo once; while ! test -e /go; do sleep 0.01; done"])).started();
        container.says("once");
        has_failed(&container.verb("start", &[]));
        assert_eq!(container.status(), "running");
        fs::write(container.rootfs("go"), "").unwrap();
        container.becomes("stopped");
        has_failed(&container.verb("start", &[]));
        assert_eq!(container.status(), "stopped");
        assert_eq!(container.said(), "once\n");
    });
}

#[test]
fn privileged_state_refuses_what_is_not_there() {
    must("runtime.md: state MUST generate an error if it is not provided the ID of a container; attempting to query a container that does not exist MUST generate an error").holds(|place| {
        has_failed(&place.call(&["state"]));
        has_failed(&place.call(&["state", ""]));
        let ran = place.call(&["state", "nobody"]);
        has_failed(&ran);
        assert!(ran.stderr.contains("does not exist"), "callers look for this: {ran:?}");
        has_failed(&place.call(&["state", "../state"]));
    });
}

#[test]
fn privileged_kill_refuses_what_does_not_run() {
    must("runtime.md: attempting to send a signal to a container that is neither created nor running MUST have no effect on the container and MUST generate an error").holds(|place| {
        has_failed(&place.call(&["kill"]));
        has_failed(&place.call(&["kill", "nobody", "KILL"]));
        has_failed(&place.call(&["kill", "", "KILL"]));
        let container = place.container(|_| {}).started();
        container.becomes("stopped");
        let before = container.state();
        let ran = container.kill("KILL");
        has_failed(&ran);
        assert!(ran.stderr.contains("container not running") || ran.stderr.contains("not running") || ran.stderr.contains("process already finished"), "{ran:?}");
        assert_eq!(container.state(), before);
    });
}

#[test]
fn privileged_kill_reaches_a_created_container() {
    must("runtime.md: kill MUST send the specified signal to the container process, also of a created one").holds(|place| {
        let container = place.container(sleeps);
        container.ok("create", &[]);
        assert_eq!(container.kill("KILL").code, Some(0));
        container.becomes("stopped");
        container.ok("delete", &[]);
    });
}

/// Every number and, of those that have one, every name with and without its prefix.
#[test]
fn privileged_every_signal_arrives() {
    must("runtime.md: kill sends the specified signal: by number or by name, up to 64").holds(
        |place| {
            // A shell cannot catch these: 9 and 19 nobody can, 32 and 33 are the C library's.
            let caught: Vec<u32> = (1..=64)
                .filter(|number| ![9, 17, 19, 32, 33].contains(number))
                .collect();
            let traps: String = caught
                .iter()
                .map(|number| format!("trap 'echo signal {number}.' {number}; "))
                .collect();
            let script = format!("{traps} echo ready; while true; do sleep 0.01; done");
            let container = place
                .container(|config| config["process"]["args"] = json!(["/bin/sh", "-c", script]))
                .started();
            container.says("ready");
            // Names are of those numbers that are the same everywhere; a shell's loop takes each once.
            for (signal, number) in [
                ("HUP", 1),
                ("SIGINT", 2),
                ("quit", 3),
                ("USR1", 10),
                ("SIGUSR2", 12),
                ("TERM", 15),
                ("SIGWINCH", 28),
                ("SIGRTMIN", 34),
                ("RTMAX", 64),
            ] {
                // runc has the real-time ones by number only.
                if signal.contains("RTM") && !place.is("airtight") {
                    continue;
                }
                let ran = container.kill(signal);
                assert_eq!(ran.code, Some(0), "{signal}: {ran:?}");
                container.says(&format!("signal {number}.\n"));
            }
            let before = container.said().len();
            for number in [1, 2, 3, 10, 14, 15, 34, 35, 50, 63, 64] {
                let ran = container.kill(&number.to_string());
                assert_eq!(ran.code, Some(0), "{number}: {ran:?}");
                let line = format!("signal {number}.\n");
                assert!(
                    wait_until(PATIENCE, || container.said()[before..].contains(&line)),
                    "{number}"
                );
            }
            for wrong in ["NOPE", "SIG", "65", "-1", "SIGSIGTERM"] {
                // runc 1.1 hands any number to the kernel, which refuses it.
                has_failed(&container.kill(wrong));
            }
            assert_eq!(container.status(), "running");
        },
    );
}

#[test]
fn privileged_kill_defaults_to_term() {
    must("runc's command line: the signal of kill defaults to SIGTERM").holds(|place| {
        let container = place
            .container(|config| {
                config["process"]["args"] = json!([
                    "/bin/sh",
                    "-c",
                    "trap 'echo term; exit 0' TERM; echo ready; while true; do sleep 0.01; done"
                ])
            })
            .started();
        container.says("ready");
        container.ok("kill", &[]);
        container.says("term");
        container.becomes("stopped");
    });
}

#[test]
fn privileged_delete_refuses_what_is_not_stopped() {
    must("runtime.md: attempting to delete a container that is not stopped MUST have no effect on the container and MUST generate an error")
        .holds(|place| {
            has_failed(&place.call(&["delete"]));
            has_failed(&place.call(&["delete", ""]));
            let ran = place.call(&["delete", "nobody"]);
            has_failed(&ran);
            assert!(ran.stderr.contains("does not exist"), "{ran:?}");
            let container = place.container(sleeps).started();
            has_failed(&container.verb("delete", &[]));
            assert_eq!(container.status(), "running");
        });
}

#[test]
fn privileged_delete_waits_for_what_was_killed() {
    must("callers kill a container and delete it: that its process takes a moment to end is no error")
        .differs("runc", "refuses one that has not ended yet")
        .differs("crun", "likewise")
        .holds(|place| {
            for _ in 0..15 {
                let container = place.container(sleeps).started();
                assert_eq!(container.kill("KILL").code, Some(0));
                container.ok("delete", &[]);
            }
        });
}

#[test]
fn privileged_delete_refuses_a_created_one() {
    must("runtime.md: attempting to delete a container that is not stopped MUST generate an error: a created one too")
        .differs("runc", "takes a created one away without --force")
        .holds(|place| {
            let container = place.container(sleeps);
            container.ok("create", &[]);
            has_failed(&container.verb("delete", &[]));
            assert_eq!(container.status(), "created");
            container.ok("start", &[]);
        });
}

#[test]
fn privileged_delete_by_force_takes_any() {
    must(
        "runc's command line: delete --force kills what runs, and is content when nothing is there",
    )
    .holds(|place| {
        for started in [false, true] {
            let container = place.container(sleeps);
            container.ok("create", &[]);
            let pid = container.pid();
            if started {
                container.ok("start", &[]);
            }
            container.ok("delete", &["--force"]);
            has_failed(&container.verb("state", &[]));
            let gone = wait_until(PATIENCE, || {
                fs::read_to_string(format!("/proc/{pid}/status"))
                    .map_or(true, |text| text.contains("State:\tZ"))
            });
            assert!(gone);
            assert_eq!(container.groups().len(), 0);
            container.ok("delete", &["--force"]);
        }
    });
}

#[test]
fn privileged_delete_takes_only_what_create_made() {
    must("runtime.md: resources associated with the container, but not created by this container, MUST NOT be deleted").holds(|place| {
        let container = place.container(sleeps);
        let other = Path::new("/sys/fs/cgroup/pids").join(format!("airtight-test-other-{}", container.id));
        fs::create_dir(&other).unwrap();
        container.ok("create", &[]);
        fs::write(other.join("cgroup.procs"), container.pid().to_string()).unwrap();
        container.ok("start", &[]);
        assert_eq!(container.kill("KILL").code, Some(0));
        container.becomes("stopped");
        container.ok("delete", &[]);
        let still = other.is_dir();
        let removed = wait_until(PATIENCE, || fs::remove_dir(&other).is_ok() || !other.exists());
        assert!(still && removed);
        assert!(container.bundle.join("config.json").exists() && container.rootfs("bin/busybox").exists());
    });
}

#[test]
fn privileged_a_failed_create_leaves_nothing() {
    must("runtime.md, Errors: generating an error MUST leave the state of the environment as if the operation were never attempted").holds(|place| {
        type Edit = fn(&mut Value);
        let edits: [(&str, Edit); 4] = [
            ("no such source", |config| config["mounts"].as_array_mut().unwrap().push(json!({ "destination": "/x", "type": "bind", "source": "/nowhere", "options": ["bind"] }))),
            ("no such root", |config| config["root"]["path"] = json!("nowhere")),
            ("no such namespace", |config| config["linux"]["namespaces"][1]["path"] = json!("/nowhere")),
            ("sysctl that is not the namespace's", |config| config["linux"]["sysctl"] = json!({ "vm.swappiness": "10" })),
        ];
        for (name, edit) in edits {
            let container = place.container(|config| {
                sleeps(config);
                edit(config);
            });
            let before = mounts();
            has_failed(&container.create(&[]));
            assert_eq!(container.groups().len(), 0, "{name}");
            assert!(!place.path("state").join(&container.id).exists(), "{name}");
            let left: Vec<String> = mounts().into_iter().filter(|line| !before.contains(line) && line.contains(&container.id)).collect();
            assert_eq!(left, [""; 0], "{name}");
            has_failed(&container.verb("state", &[]));
        }
    });
}

fn mounts() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Cases share no place, so their calls may overlap.
#[test]
fn privileged_of_many_creates_of_one_id_one_wins() {
    let case = |place: &Place| {
        let container = place.container(sleeps);
        let running: Vec<_> = (0..6)
            .map(|_| place.start(container.command("create", &[])))
            .collect();
        let codes: Vec<_> = running
            .into_iter()
            .map(|running| running.wait().code)
            .collect();
        assert_eq!(
            codes.iter().filter(|code| **code == Some(0)).count(),
            1,
            "{codes:?}"
        );
        assert_eq!(container.status(), "created");
        container.ok("start", &[]);
    };
    let must: Must = must("runtime.md: the ID is unique, also when several creates race for it");
    must.differs("runc", "1.1 looks first and makes the directory after, and the loser can take the winner's groups away").holds(case);
}
