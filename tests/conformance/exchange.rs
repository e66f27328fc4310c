//! What a caller hands in and gets back: the bundle and its config, descriptors, a number in a file, the output of `run` and `list`, the log.

use std::fs;

use airtight_tests::wait_until;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, must, sleeps};
use crate::lifecycle::has_failed;

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
