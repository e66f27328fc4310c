//! Create, start, state, kill and delete: what each refuses, and what it leaves.

use std::fs;
use std::path::Path;

use airtight_tests::wait_until;
use serde_json::{Value, json};

use crate::harness::{Must, PATIENCE, Place, must, sleeps};

fn has_failed(ran: &airtight_tests::Ran) {
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
fn privileged_the_bundle_defaults_to_the_working_directory() {
    must("runc's command line: --bundle defaults to the current directory, and may be relative")
        .holds(|place| {
            for (bundle, down) in [(None, ""), (Some("."), ""), (Some("rootfs/.."), "")] {
                let container = place.container(|_| {});
                let mut command = place.command();
                command.arg("run").current_dir(container.bundle.join(down));
                if let Some(bundle) = bundle {
                    command.args(["--bundle", bundle]);
                }
                command.arg(&container.id);
                let ran = place.finish(command);
                assert_eq!(ran.code, Some(0), "{bundle:?}: {ran:?}");
            }
        });
}

#[test]
fn privileged_options_may_follow_the_id() {
    must("callers put options after the container id: create ID --bundle DIR, delete ID --force, kill ID KILL").holds(|place| {
        let container = place.container(sleeps);
        let bundle = container.bundle.to_str().unwrap();
        let ran = place.call(&["create", &container.id, "--bundle", bundle]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(container.status(), "created");
        let ran = place.call(&["delete", &container.id, "--force"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
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
fn privileged_a_config_without_a_process_can_be_created() {
    must("config.md: process is REQUIRED when start is called; create must not need it")
        .differs("runc", "1.1 refuses it at create")
        .holds(|place| {
            let container =
                place.container(|config| drop(config.as_object_mut().unwrap().remove("process")));
            container.ok("create", &[]);
            assert_eq!(container.status(), "created");
            has_failed(&container.verb("start", &[]));
            container.ok("delete", &["--force"]);
        });
}

#[test]
fn privileged_the_config_counts_as_it_was_at_create() {
    must("runtime.md: any updates to config.json after create MUST NOT affect the container")
        .holds(|place| {
            let mut container =
                place.container(|config| config["process"]["args"] = json!(["/bin/echo", "first"]));
            container.ok("create", &[]);
            container.edit(|config| config["process"]["args"] = json!(["/bin/echo", "second"]));
            container.ok("start", &[]);
            container.becomes("stopped");
            assert_eq!(container.said(), "first\n");
            container.ok("delete", &[]);
        });
}

#[test]
fn privileged_create_does_not_look_the_program_up_in_vain() {
    must("runtime.md: the user-specified program MUST NOT be run by create; runc tells at create what cannot be executed").holds(|place| {
        let container = place.container(|config| config["process"]["args"] = json!(["/nowhere/program"]));
        let ran = container.create(&[]);
        let ran = if ran.code == Some(0) { container.verb("start", &[]) } else { ran };
        has_failed(&ran);
        assert!(ran.stderr.contains("/nowhere/program") && ran.stderr.contains("no such file or directory"), "{ran:?}");
    });
}

#[test]
fn privileged_versions_are_one_dot_something() {
    must("config.md: ociVersion MUST be in SemVer v2.0.0 format; a runtime takes those that it knows").holds(|place| {
        for version in ["1.0.0", "1.0.2", "1.0.2-dev", "1.1.0", "1.2.0", "1.2.1", "1.3.0"] {
            place.told("true", |config| config["ociVersion"] = json!(version));
        }
    });
    must("config.md, Extensibility: runtimes MUST generate an error when invalid or unsupported values are encountered")
        .differs("runc", "1.1 takes any version")
        .holds(|place| {
            for version in [json!("invalid"), json!(""), json!("1.0"), json!("2.0.0"), json!("0.9.0")] {
                place.refused(|config| config["ociVersion"] = version.clone());
            }
        });
}

#[test]
fn privileged_unknown_properties_are_ignored() {
    must("config.md, Extensibility: runtimes MUST NOT generate an error if they encounter an unknown property, instead they MUST ignore unknown properties").holds(|place| {
        place.told("true", |config| {
            for pointer in ["", "/process", "/process/user", "/root", "/mounts/0", "/linux", "/linux/resources", "/linux/namespaces/0"] {
                config.pointer_mut(pointer).unwrap()["org.example.unknown"] = json!({ "a": [1, null] });
            }
        });
    });
}

#[test]
fn privileged_annotations_are_taken_and_told() {
    must("config.md: implementations MUST NOT generate an error if they encounter an unknown annotation key; values may be empty").holds(|place| {
        let annotations = json!({ "org.example.unknown": "", "com.example.gpu-cores": "2", "a b": "ä" });
        let container = place.container(|config| {
            sleeps(config);
            config["annotations"] = annotations.clone();
        });
        container.ok("create", &[]);
        assert_eq!(container.state()["annotations"], annotations);
    });
}

#[test]
fn privileged_a_pid_file_has_the_pid() {
    must("runc's command line: --pid-file gets the container process's pid in the caller's namespace").holds(|place| {
        let container = place.container(sleeps);
        let file = place.shown("pid");
        container.ok("create", &["--pid-file", &file]);
        let pid = container.pid().to_string();
        assert_eq!(fs::read_to_string(&file).unwrap(), pid);
        container.ok("start", &[]);
        let ran = container.exec(&["--detach", "--pid-file", &file], &["/bin/sleep", "1000"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let second = fs::read_to_string(&file).unwrap();
        assert_ne!(second, pid);
        // runc returns a little before the program is there.
            let command = || fs::read_to_string(format!("/proc/{second}/cmdline")).unwrap();
            assert!(
                wait_until(PATIENCE, || command().starts_with("/bin/sleep")),
                "{}",
                command()
            );
    });
}

#[test]
fn privileged_descriptors_of_the_caller_do_not_leak() {
    must("no descriptor of the caller but the three standard ones reaches the container: through create, run or exec").holds(|place| {
        let list = json!(["/bin/sh", "-c", "ls -l /proc/self/fd | grep -v 'proc/' ; echo end"]);
        let container = place.container(|config| config["process"]["args"] = list.clone());
        let spoilt = |verb: &str, flags: &[&str]| {
            let inner = container.command(verb, flags);
            // The shell gives the runtime descriptors that do not close on exec.
            let mut command = std::process::Command::new("sh");
            command.args(["-c", "exec 7</etc/hostname 8</etc 9</etc/passwd; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
            command
        };
        let ran = place.finish(spoilt("run", &[]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let leaked = |text: &str| {
            text.lines().filter(|line| line.contains(" -> ") && ["/etc", "/run", "/sys", "state"].iter().any(|part| line.contains(part))).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(ran.stdout.ends_with("end\n"), "{ran:?}");
        assert_eq!(leaked(&ran.stdout), [""; 0], "run");
        let names = |text: &str| text.lines().filter(|line| line.contains(" -> ")).count();
        assert!(names(&ran.stdout) <= 4, "{ran:?}");
        let container = place.container(sleeps);
        let inner = container.command("create", &[]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "exec 7</etc/hostname 8</etc 9</etc/passwd; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
        let ran = place.finish(command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        container.ok("start", &[]);
        let pid = container.pid();
        let open = |pid: i32| {
            let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let mut numbers: Vec<i32> = entries.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect();
            numbers.sort_unstable();
            numbers
        };
        // Before the exec there may be ours, which close on it.
        let settled = wait_until(PATIENCE, || open(pid) == [0, 1, 2]);
        assert!(settled, "{:?}", open(pid));
    });
}

#[test]
fn privileged_preserved_descriptors_arrive() {
    must("runc's command line: --preserve-fds N passes descriptors 3 to 2+N, and no other").holds(
        |place| {
            for (verb, count) in [("run", "2"), ("create", "2"), ("exec", "1")] {
                let container = place.container(|config| {
                    if verb == "exec" {
                        sleeps(config);
                    } else {
                        config["process"]["args"] = json!([
                            "/bin/sh",
                            "-c",
                            "cat <&3; cat <&4; test -e /proc/self/fd/5 || echo no more"
                        ]);
                    }
                });
                if verb == "exec" {
                    container.ok("create", &[]);
                    container.ok("start", &[]);
                }
                fs::write(place.path("three"), "three\n").unwrap();
                fs::write(place.path("four"), "four\n").unwrap();
                let mut inner = container.command(verb, &["--preserve-fds", count]);
                if verb == "exec" {
                    inner.args([
                        "/bin/sh",
                        "-c",
                        "cat <&3; test -e /proc/self/fd/4 || echo no more",
                    ]);
                }
                let mut command = std::process::Command::new("sh");
                command
                    .args(["-c", "exec 3<three 4<four 5</etc/passwd; exec \"$@\"", "sh"])
                    .arg(inner.get_program())
                    .args(inner.get_args())
                    .current_dir(place.path(""));
                command.stdin(std::process::Stdio::null());
                let running = place.start(command);
                let wanted = if verb == "exec" {
                    "three\nno more\n"
                } else {
                    "three\nfour\nno more\n"
                };
                if verb == "create" {
                    let told = |running: &crate::harness::Running| running.said();
                    assert!(wait_until(PATIENCE, || container.verb("state", &[]).code == Some(0)));
                    assert!(wait_until(PATIENCE, || container.status() == "created"));
                    container.ok("start", &[]);
                    assert!(
                        wait_until(PATIENCE, || told(&running) == wanted),
                        "{verb}: {}",
                        told(&running)
                    );
                    running.wait();
                } else {
                    let ran = running.wait();
                    assert_eq!(
                        (ran.code, ran.stdout.as_str()),
                        (Some(0), wanted),
                        "{verb}: {ran:?}"
                    );
                }
            }
        },
    );
}

#[test]
fn privileged_run_gives_the_code_of_the_program() {
    must("runc's run ends with the program's code, 128 and the number for a signal, and deletes the container").holds(|place| {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("trap - TERM; kill -TERM $$; sleep 9", 143)] {
            let container = place.container(|config| config["process"]["args"] = json!(["/bin/sh", "-c", format!("sh -c '{script}'; exit $?")]));
            let ran = container.run(&[]);
            assert_eq!(ran.code, Some(code), "{script}: {ran:?}");
            has_failed(&container.verb("state", &[]));
            assert_eq!(container.groups().len(), 0, "{script}");
        }
    });
}

#[test]
fn privileged_run_can_detach_and_keep() {
    must("runc's command line: run --detach returns when the program runs").holds(|place| {
        let container = place.container(sleeps);
        container.ok("run", &["--detach"]);
        assert_eq!(container.status(), "running");
        assert_eq!(container.kill("KILL").code, Some(0));
        container.becomes("stopped");
        container.ok("delete", &[]);
    });
}

#[test]
fn privileged_signals_of_run_reach_the_program() {
    must("runc's run forwards the signals that it gets").holds(|place| {
        let container = place.container(|config| config["process"]["args"] = json!(["/bin/sh", "-c", "trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; echo ready; while true; do sleep 0.01; done"]));
        let running = place.start(container.command("run", &[]));
        assert!(wait_until(PATIENCE, || running.said().contains("ready")));
        let pid = nix::unistd::Pid::from_raw(running.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
        assert!(wait_until(PATIENCE, || running.said().contains("usr1")));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ran = running.wait();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), "ready\nusr1\nterm\n"), "{ran:?}");
    });
}

#[test]
fn privileged_list_has_what_is_there() {
    must("runc's list: a table, --quiet and --format json").holds(|place| {
        assert_eq!(place.call(&["list", "--quiet"]).stdout, "");
        let first = place.container(sleeps);
        let second = place.container(sleeps).started();
        first.ok("create", &[]);
        let quiet = place.call(&["list", "--quiet"]);
        let mut ids: Vec<&str> = quiet.stdout.lines().collect();
        ids.sort_unstable();
        let mut wanted = [first.id.as_str(), second.id.as_str()];
        wanted.sort_unstable();
        assert_eq!(ids, wanted);
        let table = place.call(&["list"]);
        let head: Vec<&str> = table
            .stdout
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        assert!(
            table.stdout.contains("running") && table.stdout.contains("created"),
            "{table:?}"
        );
        let list = place.call(&["list", "--format", "json"]);
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 2);
        for item in list.as_array().unwrap() {
            let container = if item["id"] == json!(first.id) {
                &first
            } else {
                &second
            };
            let state = container.state();
            for key in [
                "ociVersion",
                "id",
                "pid",
                "status",
                "bundle",
                "rootfs",
                "created",
            ] {
                assert_eq!(item[key], state[key], "{key}");
            }
        }
        assert_ne!(place.call(&["list", "--format", "xml"]).code, Some(0));
    });
}

#[test]
fn privileged_errors_are_told_in_the_log_too() {
    must("runc's --log FILE gets the error, with --log-format json one object a line: callers read its msg").holds(|place| {
        let log = place.shown("log");
        let ran = place.call(&["--log", &log, "--log-format", "json", "state", "nobody"]);
        has_failed(&ran);
        let text = fs::read_to_string(&log).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "error", "{text}");
        assert!(line["msg"].as_str().unwrap().contains("does not exist"), "{text}");
        assert!(line["time"].as_str().unwrap().contains('T'), "{text}");
        let log = place.shown("plain");
        has_failed(&place.call(&["--log", &log, "state", "nobody"]));
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("level=error") && text.contains("does not exist"), "{text}");
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
