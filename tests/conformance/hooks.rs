//! Hooks at all six points: when they run and where, what they are told, and what their failure means.

use std::fs;

use airtight_tests::wait_until;
use serde_json::{Value, json};

use crate::harness::{Container, PATIENCE, add, must, sleeps};

const POINTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];
/// In the container's own namespaces there is the root's shell only: after the root changed, by its path there.
const LATE: &str = "startContainer";

/// A hook of `script`: a shell that the point's namespaces have.
fn hook(point: &str, script: &str) -> Value {
    let shell = if point == LATE {
        "/bin/sh"
    } else {
        "/usr/bin/env"
    };
    let args = if point == LATE {
        json!(["sh", "-c", script])
    } else {
        json!(["env", "sh", "-c", script])
    };
    json!({ "path": shell, "args": args, "env": ["PATH=/usr/bin:/bin", "MARK=set"] })
}

/// A container whose hooks write into a directory that they all see.
fn traced<'a>(place: &'a crate::harness::Place, edit: impl FnOnce(&mut Value)) -> Container<'a> {
    let trace = place.path("trace");
    fs::create_dir_all(&trace).unwrap();
    place.container(|config| {
        // The hook of the container's namespaces sees it where the root's tree has it.
        add(
            &mut config["mounts"],
            json!({ "destination": "/trace", "type": "bind", "source": trace, "options": ["rbind"] }),
        );
        edit(config);
    })
}

fn trace_of(place: &crate::harness::Place, point: &str) -> String {
    if point == LATE {
        "/trace".to_owned()
    } else {
        place.shown("trace")
    }
}

fn lines(place: &crate::harness::Place) -> Vec<String> {
    let text = fs::read_to_string(place.path("trace/log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn privileged_hooks_run_in_their_order() {
    must("config.md, POSIX-platform Hooks: hooks MUST be called in the listed order; and runtime.md, Lifecycle: at their points").holds(|place| {
        let container = traced(place, |config| {
            for point in POINTS.into_iter().filter(|point| *point != "poststart") {
                for number in 1..=2 {
                    let trace = trace_of(place, point);
                    add(&mut config["hooks"][point], hook(point, &format!("echo {point}{number} >> {trace}/log")));
                }
            }
            config["process"]["args"] = json!(["/bin/sh", "-c", "echo program >> /trace/log"]);
        });
        let twice = |points: &[&str]| points.iter().flat_map(|point| [format!("{point}1"), format!("{point}2")]).collect::<Vec<_>>();
        container.ok("create", &[]);
        let mut wanted = twice(&["prestart", "createRuntime", "createContainer"]);
        assert_eq!(lines(place), wanted);
        container.ok("start", &[]);
        container.becomes("stopped");
        wanted.extend(twice(&["startContainer"]));
        wanted.push("program".to_owned());
        assert_eq!(lines(place), wanted);
        container.ok("delete", &[]);
        wanted.extend(twice(&["poststop"]));
        assert_eq!(lines(place), wanted);
    });
}

#[test]
fn privileged_poststart_hooks_run_after_start() {
    must("config.md: the poststart hooks MUST be called after the user-specified process is executed but before the start operation returns")
        .differs("runc", "1.1 runs them at the end of create")
        .holds(|place| {
            let container = traced(place, |config| {
                let trace = place.shown("trace");
                for number in 1..=2 {
                    add(&mut config["hooks"]["poststart"], hook("poststart", &format!("echo poststart{number} >> {trace}/log")));
                }
                sleeps(config);
            });
            container.ok("create", &[]);
            assert_eq!(lines(place), [""; 0]);
            container.ok("start", &[]);
            assert_eq!(lines(place), ["poststart1", "poststart2"]);
        });
}

#[test]
fn privileged_hooks_are_told_the_state() {
    must("config.md: the state of the container MUST be passed to hooks over stdin").holds(
        |place| {
            let container = traced(place, |config| {
                for point in POINTS {
                    let trace = trace_of(place, point);
                    add(
                        &mut config["hooks"][point],
                        hook(point, &format!("cat > {trace}/{point}")),
                    );
                }
                config["annotations"] = json!({ "a": "b" });
            });
            container.ok("create", &[]);
            let pid = container.pid();
            container.ok("start", &[]);
            container.becomes("stopped");
            container.ok("delete", &[]);
            for (point, statuses) in POINTS.into_iter().zip([
                &["creating", "created"][..],
                &["creating", "created"],
                &["creating", "created"],
                &["creating", "created"],
                &["created", "running"],
                &["stopped"],
            ]) {
                let text = fs::read_to_string(place.path("trace").join(point)).unwrap();
                let state: Value = serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("{point}: {error}: {text}"));
                assert_eq!(state["id"], json!(container.id), "{point}");
                assert_eq!(
                    state["bundle"],
                    json!(container.bundle.canonicalize().unwrap()),
                    "{point}"
                );
                assert_eq!(state["annotations"], json!({ "a": "b" }), "{point}");
                assert!(state["ociVersion"].is_string(), "{point}");
                let status = state["status"].as_str().unwrap();
                assert!(statuses.contains(&status), "{point}: {status}");
                // Inside, runc tells the pid that is seen there.
                let inside = ["createContainer", "startContainer"].contains(&point);
                assert!(
                    point == "poststop"
                        || state["pid"] == json!(pid)
                        || inside && state["pid"] == 1,
                    "{point}: {state}"
                );
            }
        },
    );
}

#[test]
fn privileged_a_hook_gets_its_arguments_and_environment() {
    must("config.md: hooks: path, args with the same semantics as execv's argv, env as environ").holds(|place| {
        let container = traced(place, |config| {
            let trace = place.shown("trace");
            let script = format!("{{ echo \"$0\" \"$1\"; echo $MARK; echo ${{HOME:-none}}; }} > {trace}/one");
            add(&mut config["hooks"]["createRuntime"], json!({ "path": "/bin/busybox", "args": ["sh", "-c", script, "zero", "o n e"], "env": ["MARK=of its own"] }));
            // Without args the path is argv's first; without env there is none.
            add(&mut config["hooks"]["createRuntime"], json!({ "path": "/bin/true" }));
        });
        container.ok("create", &[]);
        assert_eq!(fs::read_to_string(place.path("trace/one")).unwrap(), "zero o n e\nof its own\nnone\n");
    });
}

#[test]
fn privileged_hooks_run_in_their_namespaces() {
    must("config.md: prestart, createRuntime, poststart and poststop MUST be executed in the runtime namespace; createContainer and startContainer in the container namespace").holds(|place| {
        let container = traced(place, |config| {
            for point in POINTS {
                let trace = trace_of(place, point);
                let script = format!("cp /proc/self/mountinfo {trace}/{point}.mounts; {{ readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts; }} > {trace}/{point}");
                add(&mut config["hooks"][point], hook(point, &script));
            }
            config["process"]["args"] = json!(["/bin/sh", "-c", "{ readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts; } > /trace/program"]);
        });
        container.started().becomes("stopped");
        let container_namespaces = fs::read_to_string(place.path("trace/program")).unwrap();
        let ours: String = ["mnt", "uts"].iter().map(|kind| format!("{}\n", fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display())).collect();
        for point in POINTS {
            let Ok(got) = fs::read_to_string(place.path("trace").join(point)) else {
                assert_eq!(point, "poststop");
                continue;
            };
            let inside = ["createContainer", "startContainer"].contains(&point);
            let wanted = if inside { &container_namespaces } else { &ours };
            assert_eq!(&got, wanted, "{point}");
        }
    });
}

#[test]
fn privileged_a_hook_of_create_container_sees_the_mounts() {
    must("config.md: createContainer hooks are executed after the container namespaces and mounts are there, before pivot_root").holds(|place| {
        let container = traced(place, |config| {
            let trace = place.shown("trace");
            add(&mut config["mounts"], json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" }));
            let script = format!("grep -c rootfs/mnt /proc/self/mountinfo > {trace}/seen; test -e /etc/debian_version && echo host >> {trace}/seen");
            add(&mut config["hooks"]["createContainer"], hook("createContainer", &script));
        });
        container.ok("create", &[]);
        assert_eq!(fs::read_to_string(place.path("trace/seen")).unwrap(), "1\nhost\n");
    });
}

#[test]
fn privileged_a_failing_hook_of_create_ends_it() {
    must("runtime.md: if any prestart, createRuntime or createContainer hook fails, the runtime MUST generate an error, stop the container, and continue at deletion").holds(|place| {
        for point in ["prestart", "createRuntime", "createContainer"] {
            let container = traced(place, |config| {
                let trace = place.shown("trace");
                let failing = "echo of the hook >&2; exit 4";
                add(&mut config["hooks"][point], hook(point, failing));
                add(&mut config["hooks"][point], hook(point, &format!("echo second >> {trace}/log")));
                config["process"]["args"] = json!(["/bin/sh", "-c", "echo program >> /trace/log"]);
            });
            let ran = container.create(&[]);
            assert!(ran.code != Some(0), "{point}: {ran:?}");
            assert!(ran.stderr.contains("hook") && ran.stderr.contains("of the hook"), "{point}: {ran:?}");
            assert_ne!(container.verb("state", &[]).code, Some(0), "{point}");
            assert_eq!(lines(place), [""; 0], "{point}");
            assert_eq!(container.groups().len(), 0, "{point}");
        }
    });
}

#[test]
fn privileged_poststop_runs_after_a_hook_failed() {
    must("runtime.md: if a hook of create fails, the lifecycle continues at step 12: the container is destroyed and the poststop hooks are invoked")
        .holds(|place| {
            let container = traced(place, |config| {
                let trace = place.shown("trace");
                add(&mut config["hooks"]["createRuntime"], hook("createRuntime", "exit 1"));
                add(&mut config["hooks"]["poststop"], hook("poststop", &format!("echo poststop >> {trace}/log")));
            });
            assert_ne!(container.create(&[]).code, Some(0));
            assert_eq!(lines(place), ["poststop"]);
        });
}

#[test]
fn privileged_a_failing_hook_of_start_ends_it() {
    must("runtime.md: if any startContainer hook fails, the runtime MUST generate an error, stop the container, and continue at deletion").holds(|place| {
        let container = traced(place, |config| {
            add(&mut config["hooks"][LATE], hook(LATE, "exit 4"));
            config["process"]["args"] = json!(["/bin/sh", "-c", "echo program >> /trace/log"]);
        });
        container.ok("create", &[]);
        // runc learns of it by the container's end alone.
        let ran = container.verb("start", &[]);
        if !place.is("runc") {
            assert_ne!(ran.code, Some(0), "{ran:?}");
        }
        let gone = wait_until(PATIENCE, || {
            let state = container.verb("state", &[]);
            state.code != Some(0) || state.stdout.contains("stopped")
        });
        assert!(gone);
        assert_eq!(lines(place), [""; 0]);
    });
}

#[test]
fn privileged_a_failing_poststart_hook_is_a_warning() {
    must("runtime.md: if any poststart hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle continue as if the hook had succeeded")
        .differs("runc", "1.1 ends the container")
        .holds(|place| {
            let container = traced(place, |config| {
                let trace = place.shown("trace");
                add(&mut config["hooks"]["poststart"], hook("poststart", "exit 4"));
                add(&mut config["hooks"]["poststart"], hook("poststart", &format!("echo poststart >> {trace}/log")));
                sleeps(config);
            });
            container.ok("create", &[]);
            let ran = container.ok("start", &[]);
            assert!(ran.stderr.contains("warn") && ran.stderr.contains("hook"), "{ran:?}");
            assert_eq!(container.status(), "running");
            assert_eq!(lines(place), ["poststart"]);
        });
}

#[test]
fn privileged_a_failing_poststop_hook_is_a_warning() {
    must("runtime.md: if any poststop hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle continue as if the hook had succeeded").differs("runc", "stops at the first that fails").holds(|place| {
        let container = traced(place, |config| {
            let trace = place.shown("trace");
            add(&mut config["hooks"]["poststop"], hook("poststop", "exit 4"));
            add(&mut config["hooks"]["poststop"], hook("poststop", &format!("echo poststop >> {trace}/log")));
        });
        container.ok("create", &[]);
        container.ok("start", &[]);
        container.becomes("stopped");
        let ran = container.ok("delete", &[]);
        assert!(ran.stderr.contains("hook"), "{ran:?}");
        assert_eq!(lines(place), ["poststop"]);
        assert_ne!(container.verb("state", &[]).code, Some(0));
    });
}

#[test]
fn privileged_a_hook_inside_is_not_told_the_callers_environment() {
    must("a startContainer hook, a program of the image, has its own environment or the container's, and nothing of the caller's").differs("runc", "1.1 gives it none").holds(|place| {
        for (env, want) in [(json!(["OWN=1"]), "OWN=1"), (json!([]), "OF=container")] {
            let container = traced(place, |config| {
                config["process"]["env"] = json!(["PATH=/bin", "OF=container"]);
                add(
                    &mut config["hooks"]["startContainer"],
                    json!({ "path": "/bin/sh", "args": ["sh", "-c", "/bin/env > /trace/env"], "env": env }),
                );
            });
            let mut command = container.command("run", &[]);
            command.env("SECRET", "of the caller");
            let ran = place.finish(command);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let seen = fs::read_to_string(place.path("trace/env")).unwrap();
            assert!(seen.contains(want), "{seen}");
            assert!(!seen.contains("SECRET") && !seen.contains("AIRTIGHT"), "{seen}");
        }
    });
}

#[test]
fn privileged_a_hook_that_takes_too_long_fails() {
    must("config.md: hooks: timeout is the number of seconds before aborting the hook").holds(
        |place| {
            let container = traced(place, |config| {
                add(
                    &mut config["hooks"]["createRuntime"],
                    json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }),
                );
            });
            // The hook would last much longer than any command of this test is waited for.
            let ran = container.create(&[]);
            assert!(
                ran.code != Some(0) && ran.stderr.contains("hook"),
                "{ran:?}"
            );
            assert_ne!(container.verb("state", &[]).code, Some(0));
        },
    );
    must("config.md: hooks: if set, timeout MUST be greater than zero").holds(|place| {
        for timeout in [0, -1] {
            place.refused(|config| {
                config["hooks"]["createRuntime"] =
                    // One that has not ended by itself before a runtime looks at the clock.
                    json!([{ "path": "/bin/sleep", "args": ["sleep", "5"], "timeout": timeout }])
            });
        }
    });
}

#[test]
fn privileged_a_hook_needs_an_absolute_path() {
    must("config.md: hooks: path is REQUIRED and MUST be an absolute path").holds(|place| {
        place.refused(|config| {
            config["hooks"]["createRuntime"] = json!([{ "path": "nowhere/true" }])
        });
        place.refused(|config| {
            config["hooks"]["createRuntime"] = json!([{ "path": "/nowhere/true" }])
        });
    });
}

#[test]
fn privileged_poststop_runs_by_force_too() {
    must("runtime.md: the poststop hooks MUST be invoked after the container is destroyed, before the delete operation returns").holds(|place| {
        for started in [false, true] {
            let container = traced(place, |config| {
                let trace = place.shown("trace");
                let groups = format!("ls -d /sys/fs/cgroup/*/airtight-test-$MARK >/dev/null 2>&1 && echo group >> {trace}/log; echo poststop >> {trace}/log");
                add(&mut config["hooks"]["poststop"], hook("poststop", &groups));
                sleeps(config);
            });
            container.ok("create", &[]);
            if started {
                container.ok("start", &[]);
            }
            container.ok("delete", &["--force"]);
            assert_eq!(lines(place), ["poststop"]);
            fs::remove_file(place.path("trace/log")).unwrap();
        }
        let container = traced(place, |config| {
            let trace = place.shown("trace");
            add(&mut config["hooks"]["poststop"], hook("poststop", &format!("echo run >> {trace}/log")));
        });
        assert_eq!(container.run(&[]).code, Some(0));
        assert_eq!(lines(place), ["run"]);
    });
}
