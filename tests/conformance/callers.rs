//! What callers count on that the specification leaves open: words, orders, and what a caller's own circumstances must not change.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use airtight_tests::{Need, Ran};
use serde_json::{Value, json};

use crate::harness::{Container, Place, add, must, sleeps};

const SCRIPT: &str = "for f in /proc/self/status; do grep Cpus_allowed_list: $f; done";

fn hooked(config: &mut Value, point: &str, script: &str) {
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    add(&mut config["hooks"][point], json!({ "path": "/bin/true" }));
    add(&mut config["hooks"][point], hook);
}

#[test]
fn privileged_a_hook_before_the_program_is_held_by_the_programs_filter() {
    must("a startContainer hook is a program of the image: what linux.seccomp refuses is refused to it too").holds(|place| {
        for (action, code) in [("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_KILL_PROCESS", 1)] {
            let container = place.container(|config| {
                hooked(config, "startContainer", "mkdir /tmp/made");
                config["process"]["args"] = json!(["/bin/true"]);
                config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": action }] });
            });
            let ran = container.run(&[]);
            assert_eq!(ran.code, Some(code), "{action}: {ran:?}");
            assert!(ran.stderr.contains("error running"), "{action}: {ran:?}");
            assert!(!container.rootfs("tmp/made").exists(), "{action}");
        }
    });
}

#[test]
fn privileged_a_hook_before_the_program_has_the_programs_environment() {
    must("a startContainer hook without env has the environment of the process, its HOME too")
        .holds(|place| {
            let told = "echo $ONE$HOME > /tmp/told";
            let container = place.container(|config| {
                hooked(config, "startContainer", told);
                config["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
                config["process"]["args"] = json!(["/bin/true"]);
                config["root"]["readonly"] = json!(false);
            });
            let ran = container.run(&[]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let told = fs::read_to_string(container.rootfs("tmp/told")).unwrap();
            assert_eq!(told, "two/\n");
        });
}

#[test]
fn privileged_a_failed_hook_is_named_by_its_point() {
    must("a message about a hook says which of the six points it was, and its number")
        .differs("runc", "1.1 tells the number alone")
        .holds(|place| {
            for point in [
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
            ] {
                let container = place.container(|config| {
                    hooked(config, point, "exit 3");
                    config["process"]["args"] = json!(["/bin/true"]);
                });
                let ran = container.run(&[]);
                let wanted = format!("error running {point} hook #1: ");
                assert!(
                    ran.code != Some(0) && ran.stderr.contains(&wanted),
                    "{ran:?}"
                );
            }
        });
}

#[test]
fn privileged_a_list_in_json_has_its_keys_in_order() {
    must("list --format json: ociVersion, id, pid, status, bundle, rootfs, created, owner, in this order").holds(|place| {
        let container = place.container(sleeps).started();
        let text = place.call(&["list", "--format", "json"]).stdout;
        let mut from = 0;
        for key in ["[{\"ociVersion\":", ",\"id\":", ",\"pid\":", ",\"status\":\"running\"", ",\"bundle\":", ",\"rootfs\":", ",\"created\":", ",\"owner\":"] {
            let at = text[from..].find(key).unwrap_or_else(|| panic!("{key} after {from}: {text}"));
            from += at;
        }
        drop(container);
    });
}

#[test]
fn privileged_a_path_that_is_masked_twice_has_one_mask() {
    must("a path that maskedPaths names twice is mounted over once")
        .differs("runc", "1.1 masks the mask")
        .holds(|place| {
            let told = place.told("grep -c ' /proc/version ' /proc/self/mountinfo", |config| {
                config["linux"]["maskedPaths"] = json!(["/proc/version", "/proc/version"]);
            });
            assert_eq!(told, "1");
        });
}

/// The same command, by a caller that is held to one CPU.
fn on_one_cpu(command: &Command) -> Command {
    let mut held = Command::new("taskset");
    held.args(["--cpu-list", "0"])
        .arg(command.get_program())
        .args(command.get_args());
    held
}

fn cpus(ran: &Ran) -> String {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let words = ran.stdout.split_whitespace().nth(1);
    words.unwrap_or_default().to_owned()
}

#[test]
fn privileged_a_caller_that_is_held_to_a_cpu_holds_no_container_to_it() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let all = line.unwrap().trim().to_owned();
    if !all.starts_with("0-") {
        eprintln!("skipped: this host has no CPU besides the first ({all})");
        return;
    }
    must("the CPUs of a container's processes are its groups', not its caller's")
        .differs("runc", "1.1 inherits them")
        .needs(Need::Program("taskset"))
        .holds(|place| {
            let container = place.container(|config| {
                config["process"]["args"] = json!(["/bin/sh", "-c", SCRIPT]);
            });
            let ran = place.finish(on_one_cpu(&container.command("run", &[])));
            assert_eq!(cpus(&ran), all);
            let container = place.container(sleeps).started();
            let mut exec = on_one_cpu(&container.command("exec", &[]));
            exec.args(["/bin/sh", "-c", SCRIPT]);
            assert_eq!(cpus(&place.finish(exec)), all);
            let container = place.container(|config| {
                sleeps(config);
                config["linux"]["resources"]["cpu"] = json!({ "cpus": "1", "mems": "0" });
            });
            let ran = place.finish(on_one_cpu(&container.command("create", &[])));
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let mut exec = on_one_cpu(&container.command("exec", &[]));
            exec.args(["/bin/sh", "-c", SCRIPT]);
            assert_eq!(cpus(&place.finish(exec)), "1");
        });
}

#[test]
fn privileged_groups_that_another_container_is_in_are_not_shared() {
    must("a container is not made in groups that have processes: its limits would be theirs, and its end their end")
        .differs("runc", "1.1 warns and goes on")
        .needs(Need::Cgroups)
        .holds(|place| {
            let first = place.container(sleeps).started();
            let second = place.container(|config| {
                sleeps(config);
                config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
            });
            let ran = second.create(&[]);
            assert!(ran.code != Some(0) && ran.stderr.contains("container's cgroup is not empty"), "{ran:?}");
            assert_eq!(first.status(), "running");
            assert!(first.group("pids").is_dir());
        });
}

#[test]
fn privileged_exec_joins_no_group_that_is_not_there() {
    must("exec --cgroup: what is named is joined, or the call fails; nothing runs outside the container's limits instead")
        .needs(Need::Cgroups)
        .holds(|place| {
            let container = place.container(sleeps).started();
            for (group, wanted) in [
                ("nowhere", "o such file or directory"),
                ("cpu:nowhere", "o such file or directory"),
                ("whatever:/", "unknown controller"),
                ("..", "sub cgroup path"),
                ("cpu:../other", "sub cgroup path"),
            ] {
                let ran = container.exec(&["--cgroup", group], &["/bin/true"]);
                assert!(ran.code != Some(0) && ran.stderr.contains(wanted), "{group}: {ran:?}");
            }
        });
}

#[test]
fn privileged_exec_follows_a_container_that_left_its_groups() {
    must("exec into a container whose group is gone, since it is in the hierarchy's own now: the process is where the container's is")
        .needs(Need::Cgroups)
        .differs("runc", "1.1 refuses it")
        .holds(|place| {
            let container = place.container(sleeps).started();
            let group = container.group("pids");
            let mount = group.ancestors().find(|at| at.parent() == Some(Path::new("/sys/fs/cgroup")));
            let tasks = mount.unwrap().join("tasks");
            fs::write(tasks, container.pid().to_string()).unwrap();
            fs::remove_dir(group).unwrap();
            let ran = container.exec(&[], &["/bin/grep", "pids", "/proc/self/cgroup"]);
            assert!(ran.code == Some(0) && ran.stdout.contains(":pids:/"), "{ran:?}");
        });
}

#[test]
fn privileged_the_last_home_counts() {
    must("HOME: the last one of the config counts; an empty one is the user's own").holds(
        |place| {
            for (env, wanted) in [
                (json!(["PATH=/bin", "HOME=/a", "HOME=/b"]), "/b"),
                (json!(["PATH=/bin", "HOME=", "HOME=/b"]), "/b"),
                (json!(["PATH=/bin", "HOME=/a", "HOME="]), "/"),
            ] {
                let told = place.told("echo $HOME", |config| config["process"]["env"] = env);
                assert_eq!(told, wanted);
            }
        },
    );
}

/// What arrives at a socket of `flag`, while `call` is made: the words, and whose process the descriptor is.
fn pidfd_of(place: &Place, call: impl FnOnce(&str) -> Ran) -> (String, i32) {
    let path = place.shown("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    let ran = call(&path);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (stream, _) = listener.accept().unwrap();
    let mut text = [0; 64];
    let (length, fds) = airtight_sys::socket::recv_fds(&stream, &mut text, 1).unwrap();
    let info = format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd());
    let info = fs::read_to_string(info).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    fs::remove_file(path).unwrap();
    let said = String::from_utf8_lossy(&text[..length]).into_owned();
    (said, pid.unwrap().trim().parse().unwrap())
}

#[test]
fn privileged_a_pidfd_is_sent_where_it_is_asked_for() {
    must("--pidfd-socket of create, run and exec: the socket gets a pidfd of the process")
        .differs("runc", "1.1 has no such option")
        .holds(|place| {
            let container: Container<'_> = place.container(sleeps);
            let sent = pidfd_of(place, |path| container.create(&["--pidfd-socket", path]));
            assert_eq!(sent, ("standard".to_owned(), container.pid()));
            let file = place.shown("pid");
            let (said, pid) = pidfd_of(place, |path| {
                let flags = ["--detach", "--pid-file", &file, "--pidfd-socket", path];
                container.exec(&flags, &["/bin/sleep", "1000"])
            });
            assert_eq!(said, "setns");
            assert_eq!(fs::read_to_string(&file).unwrap(), pid.to_string());
        });
}

#[test]
fn privileged_debug_tells_what_was_done() {
    must("--debug: lines of level debug, on stderr or in the log, in its format").holds(|place| {
        let container = place.container(|config| config["process"]["args"] = json!(["/bin/true"]));
        let log = place.path("log");
        let shown = log.display().to_string();
        for (flags, wanted) in [
            (&["--debug"][..], "level=debug"),
            (&["--debug", "--log", &shown], "level=debug"),
            (
                &["--debug", "--log-format", "json", "--log", &shown],
                "\"level\":\"debug\"",
            ),
        ] {
            let mut command = place.command();
            let call = container.command("run", &[]);
            // What follows `--root DIR` in the other.
            let words: Vec<_> = call.get_args().collect();
            let verb = words.iter().position(|word| *word == "run").unwrap();
            command.args(flags).args(&words[verb..]);
            let ran = place.finish(command);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let logged = fs::read_to_string(&log).unwrap_or_default();
            let (told, silent) = match flags.len() {
                1 => (&ran.stderr, &logged),
                _ => (&logged, &ran.stderr),
            };
            assert!(told.contains(wanted), "{flags:?}: {told}");
            assert!(!silent.contains("debug"), "{flags:?}: {silent}");
            drop(fs::remove_file(&log));
        }
    });
}
