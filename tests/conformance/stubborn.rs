//! Containers, and bundles, that would hold up whoever runs them: each of them is told about or ended by the runtime's own verbs, in a time that is bounded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use airtight_tests::{Need, wait_until};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, add, must, sleeps};

/// Its own groups, which it may change.
fn with_groups(config: &mut Value, script: &str) {
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    add(
        &mut config["linux"]["namespaces"],
        json!({ "type": "cgroup" }),
    );
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid", "noexec", "nodev"] });
    add(&mut config["mounts"], mount);
}

#[test]
fn privileged_a_container_that_freezes_itself_can_be_ended() {
    const FREEZER: &str = "/sys/fs/cgroup/freezer";
    must("a container that froze its first process in a group of its own making is killed, and deleted with all of its groups")
        .needs(Need::File(FREEZER))
        .differs("runc", "thaws the container's own group only")
        .differs("crun", "likewise")
        .holds(|place| {
            if !place.is("airtight") {
                panic!("it would be tried for half a minute, and left");
            }
            let once = "echo FROZEN > sub/freezer.state; exec sleep 1000";
            // What is thawed is frozen again by a process that is not.
            let always = "while true; do echo FROZEN > sub/freezer.state; done";
            for then in [once, always] {
                let script = format!(
                    "cd /sys/fs/cgroup/freezer && mkdir sub && ({then}) & cd /sys/fs/cgroup/freezer; \
                     while ! echo $$ > sub/cgroup.procs; do true; done; exec sleep 1000"
                );
                let container = place.container(|config| with_groups(config, &script)).started();
                let state = container.group("freezer").join("sub/freezer.state");
                let frozen = wait_until(PATIENCE, || {
                    fs::read_to_string(&state).is_ok_and(|state| state.starts_with("FROZEN"))
                });
                assert!(frozen, "{}", container.said());
                if then == once {
                    assert_eq!(container.kill("KILL").code, Some(0));
                    container.becomes("stopped");
                }
                let ran = container.verb("delete", &["--force"]);
                assert_eq!(ran.code, Some(0), "{ran:?}");
                assert_eq!(container.groups(), Vec::<std::path::PathBuf>::new());
            }
        });
}

#[test]
fn privileged_groups_as_deep_as_they_go_are_removed() {
    must("groups that a container made one in the other, deeper than anybody counts, go with it, and the processes in them are known")
        .differs("runc", "1.1 leaves them")
        .differs("crun", "likewise")
        .holds(|place| {
            let script = "cd /sys/fs/cgroup/devices 2>/dev/null || cd /sys/fs/cgroup; \
                for i in $(seq 300); do mkdir d e || exit 1; cd d; done; \
                sleep 1000 & echo $! > cgroup.procs; echo deep; wait";
            let container = place.container(|config| with_groups(config, script)).started();
            container.says("deep");
            let all: Vec<i32> =
                serde_json::from_str(&container.ok("ps", &["--format", "json"]).stdout).unwrap();
            assert_eq!(all.len(), 2, "{all:?}");
            let ran = container.verb("delete", &["--force"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_eq!(container.groups(), Vec::<std::path::PathBuf>::new());
        });
}

#[test]
fn privileged_a_start_that_never_ends_does_not_keep_its_container() {
    must("a program of the image that `start` waits for, for ever, does not keep `delete --force` from its work")
        .holds(|place| {
            let container = place.container(|config| {
                sleeps(config);
                let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "1000"] });
                add(&mut config["hooks"]["startContainer"], hook);
            });
            container.ok("create", &[]);
            let start = place.start(container.command("start", &[]));
            std::thread::sleep(Duration::from_millis(300));
            let asked = Instant::now();
            let ran = container.verb("delete", &["--force"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert!(asked.elapsed() < Duration::from_secs(8), "{asked:?}");
            drop(start);
            assert_ne!(container.verb("state", &[]).code, Some(0));
        });
}

#[test]
fn privileged_a_paused_container_is_not_started() {
    must("a created container that is paused is not started, and can be resumed, started and deleted")
        .holds(|place| {
            let container = place.container(|config| {
                sleeps(config);
                let hook = json!({ "path": "/bin/true", "args": ["true"] });
                add(&mut config["hooks"]["poststart"], hook);
            });
            container.ok("create", &[]);
            container.ok("pause", &[]);
            let ran = container.verb("start", &[]);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            container.ok("resume", &[]);
            container.ok("start", &[]);
            assert_eq!(container.status(), "running");
            container.ok("delete", &["--force"]);
        });
}

#[test]
fn privileged_a_fifo_is_no_file_of_ours() {
    must("a FIFO or a link in the place of a bundle's config, of a container's record or of the pid file's first name keeps nobody waiting and leads nowhere")
        .differs("runc", "1.1 waits for a writer")
        .differs("crun", "likewise")
        .holds(|place| {
            if !place.is("airtight") {
                panic!("it would wait for ever");
            }
            let fifo = |at: &Path| mkfifo(at, Mode::from_bits_truncate(0o644)).unwrap();
            let container = place.container(sleeps);
            let config = container.bundle.join("config.json");
            fs::rename(&config, container.bundle.join("other")).unwrap();
            fifo(&config);
            let ran = container.create(&[]);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            assert!(ran.stderr.contains("is no regular file"), "{ran:?}");
            fs::remove_file(&config).unwrap();
            // A bundle may be made of links.
            symlink("other", &config).unwrap();

            let precious = place.path("precious");
            fs::write(&precious, "precious").unwrap();
            symlink(&precious, place.path(".pid")).unwrap();
            container.ok("create", &["--pid-file", &place.shown("pid")]);
            assert_eq!(fs::read(&precious).unwrap(), b"precious");
            assert_eq!(fs::read_to_string(place.path("pid")).unwrap(), container.pid().to_string());
            fifo(&place.path(".again"));
            let second = place.container(sleeps);
            second.ok("create", &["--pid-file", &place.shown("again")]);

            for odd in ["pipe", "link", "endless"] {
                let dir = place.path("state").join(odd);
                fs::create_dir(&dir).unwrap();
                match odd {
                    "pipe" => fifo(&dir.join("state")),
                    "link" => symlink(place.path("state").join(&second.id).join("state"), dir.join("state")).unwrap(),
                    _ => fs::File::create(dir.join("state")).unwrap().set_len(1 << 40).unwrap(),
                }
                for verb in ["state", "start", "ps", "pause", "kill"] {
                    let ran = place.call(&[verb, odd]);
                    assert_ne!(ran.code, Some(0), "{verb} {odd}: {ran:?}");
                }
            }
            let ran = place.call(&["list"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert!(ran.stdout.contains(&second.id), "{ran:?}");
            assert_eq!(second.status(), "created");
        });
}

#[test]
fn privileged_nothing_is_added_to_a_container_that_is_being_created() {
    must("`exec` into a container whose root is not changed yet is refused: the program would run in the host's root, where the container follows it")
        .holds(|place| {
            let told = place.path("told");
            let container = place.container(|config| {
                sleeps(config);
                let script = format!("touch {}; sleep 2", told.display());
                let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] });
                add(&mut config["hooks"]["createRuntime"], hook);
            });
            fs::write(container.rootfs("inside"), "").unwrap();
            let create = place.start(container.command("create", &[]));
            assert!(wait_until(PATIENCE, || told.exists()));
            let ran = container.exec(&[], &["/bin/ls", "/"]);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            assert_eq!(create.wait().code, Some(0));
            let ran = container.exec(&[], &["/bin/ls", "/inside"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
        });
}

#[test]
fn privileged_more_processes_than_descriptors_can_be_ended() {
    must("a container without a pid namespace of its own that has more processes than its runtime may have descriptors is signalled, killed and deleted, where v1 has all groups")
        .needs(Need::Program("unshare"))
        .holds(|place| {
            let script = "for i in $(seq 300); do sleep 1000 & done; echo all; exec sleep 1000";
            let container = place.container(|config| {
                config["process"]["args"] = json!(["/bin/sh", "-c", script]);
                for list in ["maskedPaths", "readonlyPaths"] {
                    config["linux"][list] = json!([]);
                }
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|entry| entry["type"] != "pid");
            });
            // One write would kill a group of v2.
            let v1 = "if test -d /sys/fs/cgroup/unified; then mount -t tmpfs none /sys/fs/cgroup/unified; fi; ulimit -n 100; exec \"$@\"";
            let limited = |verb: &str, flags: &[&str], after: &[&str]| {
                let command = container.command(verb, flags);
                let mut unshared = std::process::Command::new("unshare");
                unshared.args(["-m", "sh", "-c", v1, "sh"]).arg(command.get_program());
                unshared.args(command.get_args()).args(after);
                let ran = place.finish(unshared);
                assert_eq!(ran.code, Some(0), "{verb}: {ran:?}");
                ran
            };
            limited("run", &["--detach"], &[]);
            let processes = || {
                let list = fs::read_to_string(container.group("pids").join("cgroup.procs"));
                list.unwrap_or_default().lines().count()
            };
            assert!(wait_until(PATIENCE, || processes() == 301), "{}", processes());
            limited("kill", &["--all"], &["USR1"]);
            assert!(wait_until(PATIENCE, || processes() <= 1), "{}", processes());
            limited("delete", &["--force"], &[]);
            assert_eq!(container.groups(), Vec::<std::path::PathBuf>::new());
        });
}
