//! Exec: another process in a running container; its options, its codes and the words that callers look for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use airtight_tests::wait_until;
use serde_json::json;

use crate::harness::{Container, PATIENCE, Place, must, sleeps};
use crate::process::master;

fn running(place: &Place) -> Container<'_> {
    place.container(sleeps).started()
}

#[test]
fn privileged_exec_gives_the_code_of_its_process() {
    must("runc's exec ends with the code of the process, 128 and the number for a signal").holds(
        |place| {
            let container = running(place);
            for (script, code) in [
                ("exit 0", 0),
                ("exit 42", 42),
                ("kill -9 $$", 137),
                ("kill -TERM $$", 143),
            ] {
                let ran = container.exec(&[], &["/bin/sh", "-c", script]);
                assert_eq!(ran.code, Some(code), "{script}: {ran:?}");
            }
            let ran = container.exec(&[], &["/bin/sh", "-c", "echo out; echo err >&2"]);
            assert_eq!(
                (ran.stdout.as_str(), ran.stderr.as_str()),
                ("out\n", "err\n")
            );
        },
    );
}

#[test]
fn privileged_exec_is_in_the_containers_namespaces() {
    must("runc's exec joins all namespaces of the container").holds(|place| {
        let container = running(place);
        let pid = container.pid();
        let ran = container.exec(
            &[],
            &[
                "/bin/sh",
                "-c",
                "for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done; hostname",
            ],
        );
        let wanted: String = ["pid", "net", "ipc", "uts", "mnt"]
            .iter()
            .map(|kind| {
                format!(
                    "{}\n",
                    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
                        .unwrap()
                        .display()
                )
            })
            .collect();
        assert_eq!(ran.stdout, format!("{wanted}box\n"), "{ran:?}");
    });
}

#[test]
fn privileged_exec_has_what_the_containers_process_has() {
    must("runc's exec takes environment, directory, user, limits and rights from the config unless it is told otherwise").differs("runc", "1.1 built with Go 1.19 may raise its own limit of files meanwhile").holds(|place| {
        let container = place.container(|config| {
            sleeps(config);
            config["process"]["env"] = json!(["PATH=/bin", "OF=the config"]);
            config["process"]["cwd"] = json!("/tmp");
            config["process"]["user"] = json!({ "uid": 12, "gid": 34, "additionalGids": [56] });
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 111, "hard": 222 }]);
            config["process"]["oomScoreAdj"] = json!(77);
        }).started();
        let ran = container.exec(&[], &["/bin/sh", "-c", "pwd; id -u; id -g; id -G; echo $OF; ulimit -n; grep -E 'NoNewPrivs|CapBnd' /proc/self/status"]);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines[..3], ["/tmp", "12", "34"], "{ran:?}");
        assert!(lines[3].starts_with("34"), "{ran:?}");
        assert_eq!(lines[4], "the config");
            // The language of runc raises its own soft limit, which its exec may hand on.
            assert!(lines[5] == "111" || place.is("runc"), "{ran:?}");
        let of_init = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        for line in &lines[6..] {
            assert!(of_init.contains(line), "{line}");
        }
    });
}

#[test]
fn privileged_exec_takes_its_options() {
    must(
        "runc's command line: exec --cwd, --env, --user, --additional-gids, --cap, --no-new-privs",
    )
    .holds(|place| {
        let container = place
            .container(|config| {
                sleeps(config);
                config["process"]["noNewPrivileges"] = json!(false);
            })
            .started();
        let flags = [
            "--cwd",
            "/tmp",
            "--env",
            "A=1",
            "--env",
            "B=two words",
            "--user",
            "1000:1001",
            "--additional-gids",
            "5",
            "--additional-gids",
            "6",
            "--no-new-privs",
        ];
        let ran = container.exec(
            &flags,
            &[
                "/bin/sh",
                "-c",
                "pwd; echo $A-$B; id -u; id -g; id -G; grep NoNewPrivs /proc/self/status",
            ],
        );
        assert_eq!(
            ran.stdout, "/tmp\n1-two words\n1000\n1001\n1001 5 6\nNoNewPrivs:\t1\n",
            "{ran:?}"
        );
        let ran = container.exec(
            &["--cap", "CAP_NET_RAW"],
            &["/bin/grep", "CapEff", "/proc/self/status"],
        );
        let mask = u64::from_str_radix(ran.stdout.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert!(mask & (1 << 13) != 0 && mask & (1 << 5) != 0, "{ran:?}");
        let ran = container.exec(&["--user", "1000"], &["/bin/id", "-u"]);
        assert_eq!(ran.stdout, "1000\n");
    });
}

#[test]
fn privileged_exec_takes_a_process_file() {
    must("runc's command line: exec --process FILE has the whole process").holds(|place| {
        let container = running(place);
        let file = place.path("process.json");
        let process = json!({ "terminal": false, "user": { "uid": 5, "gid": 6 }, "args": ["/bin/sh", "-c", "pwd; id -u; echo $A; umask; exit 3"], "env": ["PATH=/bin", "A=b"], "cwd": "/tmp" });
        fs::write(&file, process.to_string()).unwrap();
        let ran = container.verb("exec", &["--process", file.to_str().unwrap()]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "/tmp\n5\nb\n0022\n"), "{ran:?}");
        assert_ne!(container.verb("exec", &["--process", "/nowhere"]).code, Some(0));
    });
}

#[test]
fn privileged_exec_can_detach() {
    must("runc's command line: exec --detach returns when the process runs, and it goes on").holds(
        |place| {
            let container = running(place);
            let file = place.shown("pid");
            let ran = container.exec(
                &["--detach", "--pid-file", &file],
                &[
                    "/bin/sh",
                    "-c",
                    "while ! test -e /go; do sleep 0.01; done; echo done > /done",
                ],
            );
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let pid = fs::read_to_string(&file).unwrap();
            // runc returns a little before the program is there.
            let command = || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
            assert!(wait_until(PATIENCE, || command().contains("/go")));
            fs::write(container.rootfs("go"), "").unwrap();
            assert!(wait_until(PATIENCE, || container.rootfs("done").exists()));
            assert_eq!(container.status(), "running");
        },
    );
}

#[test]
fn privileged_what_cannot_be_executed_is_told() {
    must("callers look for these words and codes of exec: a missing program, a directory, a file without the right").holds(|place| {
        let container = running(place);
        fs::write(container.rootfs("plain"), "x").unwrap();
        fs::write(container.rootfs("wrong"), "no program").unwrap();
        fs::set_permissions(container.rootfs("wrong"), fs::Permissions::from_mode(0o755)).unwrap();
        for (program, codes, words) in [
            ("/nowhere", &[127, 255][..], &["no such file or directory"][..]),
            ("nowhere", &[127, 255], &["executable file not found in $PATH"]),
            ("/tmp", &[126, 255], &["permission denied", "is a directory"]),
            ("/plain", &[126, 255], &["permission denied"]),
            ("/wrong", if place.is("runc") { &[1, 255] } else { &[126, 255] }, &["exec format error"]),
        ] {
            let ran = container.exec(&[], &[program]);
            // runc 1.1 has 255 for all, later ones as shells.
            assert!(ran.code.is_some_and(|code| codes.contains(&code)), "{program}: {ran:?}");
            assert!(words.iter().any(|word| ran.stderr.to_lowercase().contains(&word.to_lowercase())), "{program}: {ran:?}");
        }
        let ran = container.exec(&[], &["/bin/true"]);
        assert_eq!(ran.code, Some(0));
    });
    must("callers look for these words of run, too").holds(|place| {
        for (program, words) in [
            ("/nowhere", &["no such file or directory"][..]),
            ("nowhere", &["executable file not found in $PATH"]),
            ("/tmp", &["permission denied", "is a directory"]),
        ] {
            let container = place.container(|config| config["process"]["args"] = json!([program]));
            let ran = container.run(&[]);
            assert!(
                ran.code != Some(0) && words.iter().any(|word| ran.stderr.contains(word)),
                "{program}: {ran:?}"
            );
        }
    });
}

#[test]
fn privileged_exec_needs_a_container_that_runs() {
    must("runc's exec refuses a container that is not there or stopped").holds(|place| {
        assert_ne!(place.call(&["exec", "nobody", "/bin/true"]).code, Some(0));
        let container = place.container(|_| {}).started();
        container.becomes("stopped");
        let ran = container.exec(&[], &["/bin/true"]);
        assert!(
            ran.code != Some(0) && ran.stderr.contains("stopped"),
            "{ran:?}"
        );
        let container = running(place);
        assert_ne!(container.exec(&[], &[]).code, Some(0));
        assert_ne!(
            container.exec(&["--user", "-1"], &["/bin/true"]).code,
            Some(0)
        );
    });
}

#[test]
fn privileged_exec_in_a_created_container_works() {
    must("runc's exec into a created container: callers prepare it so").holds(|place| {
        let container = place.container(sleeps);
        container.ok("create", &[]);
        let ran = container.exec(&[], &["/bin/echo", "in"]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), "in\n"),
            "{ran:?}"
        );
        assert_eq!(container.status(), "created");
    });
}

#[test]
fn privileged_exec_has_a_terminal_when_asked() {
    must("runc's command line: exec --tty --console-socket, detached, sends the master").holds(
        |place| {
            let container = running(place);
            let path = place.path("console.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let ran = container.exec(
                &[
                    "--tty",
                    "--detach",
                    "--console-socket",
                    path.to_str().unwrap(),
                ],
                &[
                    "/bin/sh",
                    "-c",
                    "tty > /said; test -t 0 && echo terminal >> /said",
                ],
            );
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let master = master(&listener);
            let said = || fs::read_to_string(container.rootfs("said")).unwrap_or_default();
            assert!(
                wait_until(PATIENCE, || said().contains("terminal")),
                "{}",
                said()
            );
            assert!(said().starts_with("/dev/"), "{}", said());
            drop(master);
        },
    );
}

#[test]
fn privileged_exec_in_a_user_namespace_is_root_there() {
    must("runc's exec in a container with a user namespace").holds(|place| {
        let container = place.container(|config| {
            sleeps(config);
            crate::namespaces::in_user_namespace(config);
        });
        crate::namespaces::owned(&container);
        let container = container.started();
        let ran = container.exec(
            &[],
            &[
                "/bin/sh",
                "-c",
                "id -u; cat /proc/self/uid_map | tr -s ' '; touch /tmp/x && stat -c %u /tmp/x",
            ],
        );
        assert_eq!(ran.stdout, "0\n 0 1800000000 65536\n0\n", "{ran:?}");
    });
}

#[test]
fn privileged_exec_cannot_start_outside() {
    must("the working directory of exec lies inside the root, whatever the container makes of it (CVE-2024-21626)").holds(|place| {
        for cwd in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/fd/8", "/proc/self/fd/9"] {
            let container = running(place);
            let ran = container.exec(&["--cwd", cwd], &["/bin/sh", "-c", "cat /proc/self/cwd/../../../../../../etc/debian_version; ls ../../../../../../../"]);
            assert!(!ran.stdout.contains("boot") && ran.stdout.is_empty() | (ran.code == Some(0)), "{cwd}: {ran:?}");
            let created = place.container(|config| {
                config["process"]["cwd"] = json!(cwd);
                config["process"]["args"] = json!(["/bin/sh", "-c", "ls ../../../../../../../"]);
            });
            let ran = created.run(&[]);
            assert!(!ran.stdout.contains("boot"), "{cwd}: {ran:?}");
        }
    });
}
