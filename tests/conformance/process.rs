//! What the config says of the process: where it runs, as whom, with which limits and rights.

use std::fs;
use std::os::unix::net::UnixListener;

use airtight_tests::wait_until;
use serde_json::{Value, json};

use crate::harness::{Container, PATIENCE, Place, add, must, sleeps};

/// A line of `/proc/self/status`.
fn status_line(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value
        .unwrap_or_else(|| panic!("{name} is not in {text}"))
        .1
        .trim()
        .to_owned()
}

fn bits(names: &[&str]) -> String {
    let number = |name: &str| match name {
        "CAP_CHOWN" => 0,
        "CAP_KILL" => 5,
        "CAP_SETGID" => 6,
        "CAP_SETUID" => 7,
        "CAP_NET_BIND_SERVICE" => 10,
        "CAP_NET_RAW" => 13,
        "CAP_SYS_ADMIN" => 21,
        "CAP_AUDIT_WRITE" => 29,
        other => panic!("{other}"),
    };
    let mask = names
        .iter()
        .fold(0u64, |mask, name| mask | 1 << number(name));
    format!("{mask:016x}")
}

#[test]
fn privileged_the_working_directory_is_cwd() {
    must("config.md: cwd is the working directory that will be set for the executable").holds(
        |place| {
            assert_eq!(
                place.told("pwd; readlink /proc/self/cwd", |config| config["process"]
                    ["cwd"] =
                    json!("/tmp")),
                "/tmp\n/tmp"
            );
            // runc makes one that is not there.
            assert_eq!(
                place.told("pwd", |config| config["process"]["cwd"] =
                    json!("/not/there/yet")),
                "/not/there/yet"
            );
            place.refused(|config| config["process"]["cwd"] = json!("tmp"));
            place.refused(|config| config["process"]["cwd"] = json!(""));
        },
    );
}

#[test]
fn privileged_the_working_directory_is_checked_as_the_user() {
    must("callers rely on it: a cwd that only the user, or only root, may enter works").holds(
        |place| {
            for (mode, uid) in [(0o700, 0), (0o755, 1000)] {
                let container = place.container(|config| {
                    config["process"]["args"] = json!(["/bin/pwd"]);
                    config["process"]["cwd"] = json!("/home");
                    config["process"]["user"] = json!({ "uid": uid, "gid": uid });
                });
                fs::create_dir(container.rootfs("home")).unwrap();
                fs::set_permissions(
                    container.rootfs("home"),
                    std::os::unix::fs::PermissionsExt::from_mode(mode),
                )
                .unwrap();
                let ran = container.run(&[]);
                assert_eq!(
                    (ran.code, ran.stdout.as_str()),
                    (Some(0), "/home\n"),
                    "{ran:?}"
                );
            }
        },
    );
}

#[test]
fn privileged_the_environment_is_env() {
    must("config.md: env is the environment of the process, with environ's semantics").holds(
        |place| {
            let told = place.told("env | sort", |config| {
                config["process"]["env"] = json!([
                    "PATH=/bin",
                    "A=1",
                    "B=two words=and more",
                    "EMPTY=",
                    "HOME=/x"
                ])
            });
            let lines: Vec<&str> = told
                .lines()
                .filter(|line| {
                    !["PWD=", "SHLVL=", "_=", "OLDPWD="]
                        .iter()
                        .any(|own| line.starts_with(own))
                })
                .collect();
            assert_eq!(
                lines,
                [
                    "A=1",
                    "B=two words=and more",
                    "EMPTY=",
                    "HOME=/x",
                    "PATH=/bin"
                ]
            );
        },
    );
    must("runc sets HOME from the image's passwd when env lacks it, / when that does not know the user").holds(|place| {
        for (passwd, uid, home) in [("", 0, "/"), ("me:x:1000:1000::/home/me:/bin/sh\n", 1000, "/home/me"), ("root:x:0:0::/root:/bin/sh\n", 0, "/root")] {
            let container = place.container(|config| {
                config["process"]["args"] = json!(["/bin/sh", "-c", "echo $HOME"]);
                config["process"]["user"] = json!({ "uid": uid, "gid": uid });
            });
            fs::write(container.rootfs("etc/passwd"), passwd).unwrap();
            let ran = container.run(&[]);
            assert_eq!(ran.stdout.trim_end(), home, "{ran:?}");
        }
    });
    must("of a name that env has twice the last one counts").holds(|place| {
        assert_eq!(
            place.told("echo $A", |config| config["process"]["env"] =
                json!(["PATH=/bin", "A=first", "A=last"])),
            "last"
        );
    });
}

#[test]
fn privileged_the_arguments_are_args() {
    must("config.md: args has execvp's semantics: at least one entry, and the program looked up in PATH of env").holds(|place| {
        let run = |args: Value| {
            let container = place.container(|config| {
                config["process"]["args"] = args;
                config["process"]["env"] = json!(["PATH=/nowhere:/bin"]);
            });
            container.run(&[])
        };
        assert_eq!(run(json!(["echo", "", "a b", "ä", "*"])).stdout, " a b ä *\n");
        assert_eq!(run(json!(["cat", "/proc/self/cmdline", "/bin/../proc/self/cmdline"])).stdout, "cat\0/proc/self/cmdline\0/bin/../proc/self/cmdline\0".repeat(2));
        for args in [json!([]), Value::Null] {
            assert_ne!(run(args).code, Some(0));
        }
    });
}

#[test]
fn privileged_the_id_that_is_none_is_refused() {
    must("uid or gid 4294967295, which the calls that set ids take for `as it is`, is refused and does not leave the process root")
        .differs("runc", "1.1 leaves the group")
        .holds(|place| {
            for user in [json!({ "uid": u32::MAX }), json!({ "uid": 1, "gid": u32::MAX })] {
                place.refused(|config| config["process"]["user"] = user);
            }
            let container = place.container(sleeps).started();
            for user in ["4294967295", "1:4294967295"] {
                let ran = container.exec(&["--user", user], &["/bin/id", "-u"]);
                assert_ne!(ran.code, Some(0), "{user}: {ran:?}");
            }
        });
}

#[test]
fn privileged_the_user_is_the_configs() {
    must("config.md: uid, gid and additionalGids are the process's, in the container's namespace")
        .holds(|place| {
            let ids = |user: Value| {
                place.told("id -u; id -g; id -G", |config| {
                    config["process"]["user"] = user
                })
            };
            assert_eq!(ids(json!({ "uid": 0, "gid": 0 })), "0\n0\n0");
            assert_eq!(
                ids(json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 1002, 70_000] })),
                "1000\n1001\n1001 5 1002 70000"
            );
            let told = place.told("grep -E '^(Uid|Gid|Groups)' /proc/self/status", |config| {
                config["process"]["user"] = json!({ "uid": 3, "gid": 4 })
            });
            assert_eq!(status_line(&told, "Uid"), "3\t3\t3\t3");
            assert_eq!(status_line(&told, "Gid"), "4\t4\t4\t4");
            assert_eq!(status_line(&told, "Groups"), "");
        });
}

#[test]
fn privileged_ids_are_of_32_bits() {
    must("config.md: uid and gid are of 32 bits")
        .differs("runc", "takes 31 bits")
        .holds(|place| {
            let told = place.told("id -u; id -g", |config| {
                config["process"]["user"] =
                    json!({ "uid": 4_294_967_294u32, "gid": 2_147_483_648u32 })
            });
            assert_eq!(told, "4294967294\n2147483648");
        });
}

#[test]
fn privileged_the_umask_is_the_configs() {
    must("config.md: umask is the process's; if unspecified it is not changed by the runtime, which has 022").holds(|place| {
        for (umask, shown) in [(Some(0o077), "0077"), (Some(0), "0000"), (None, "0022")] {
            let told = place.told("umask; touch /tmp/a; stat -c %a /tmp/a", |config| {
                if let Some(umask) = umask {
                    config["process"]["user"]["umask"] = json!(umask);
                }
            });
            let mode = 0o666 & !umask.unwrap_or(0o022);
            assert_eq!(told, format!("{shown}\n{mode:o}"));
        }
    });
}

#[test]
fn privileged_limits_are_the_configs() {
    must("config.md: rlimits: for each entry getrlimit(3) on type MUST succeed, with soft and hard as said").holds(|place| {
        let limits = [
            ("RLIMIT_AS", "Max address space", 1u64 << 40, 1u64 << 41),
            ("RLIMIT_CORE", "Max core file size", 0, 1000),
            ("RLIMIT_CPU", "Max cpu time", 60, 120),
            ("RLIMIT_DATA", "Max data size", 1 << 30, 1 << 31),
            ("RLIMIT_FSIZE", "Max file size", 1 << 20, 1 << 21),
            ("RLIMIT_LOCKS", "Max file locks", 10, 20),
            ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
            ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
            ("RLIMIT_NICE", "Max nice priority", 0, 0),
            ("RLIMIT_NOFILE", "Max open files", 100, 200),
            ("RLIMIT_NPROC", "Max processes", 300, 400),
            ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
            ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
            ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
            ("RLIMIT_SIGPENDING", "Max pending signals", 50, 60),
            ("RLIMIT_STACK", "Max stack size", 1 << 22, 1 << 23),
        ];
        let told = place.told("cat /proc/self/limits", |config| {
            for (name, _, soft, hard) in limits {
                add(&mut config["process"]["rlimits"], json!({ "type": name, "soft": soft, "hard": hard }));
            }
        });
        for (name, shown, soft, hard) in limits {
            let line = told.lines().find(|line| line.starts_with(shown)).unwrap();
            let words: Vec<&str> = line[shown.len()..].split_whitespace().collect();
            assert_eq!(words[..2], [soft.to_string(), hard.to_string()], "{name}");
        }
    });
}

#[test]
fn privileged_wrong_limits_are_errors() {
    must("config.md: rlimits: the runtime MUST generate an error for any values which cannot be mapped to a relevant kernel interface").holds(|place| {
        place.refused(|config| config["process"]["rlimits"] = json!([{ "type": "RLIMIT_TEST", "soft": 1, "hard": 1 }]));
        place.refused(|config| config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 20, "hard": 10 }]));
    });
    must("config.md: rlimits: if it contains duplicated entries with same type, the runtime MUST generate an error")
        .holds(|place| {
            place.refused(|config| config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 10 }, { "type": "RLIMIT_NOFILE", "soft": 11, "hard": 11 }]));
        });
}

#[test]
fn privileged_capability_sets_are_the_configs() {
    must("config.md: capabilities: bounding, effective, inheritable, permitted and ambient are the process's sets").holds(|place| {
        let sets = ["bounding", "effective", "inheritable", "permitted", "ambient"];
        let lines = ["CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb"];
        let all = &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"][..];
        let told = |uid: u32, wanted: [&[&str]; 5]| {
            let text = place.told("cat /proc/self/status", |config| {
                config["process"]["user"] = json!({ "uid": uid, "gid": uid });
                config["process"]["capabilities"] = json!({});
                for (set, names) in sets.iter().zip(wanted) {
                    config["process"]["capabilities"][*set] = json!(names);
                }
            });
            lines.map(|line| status_line(&text, line))
        };
        // A user with ambient ones keeps them over execve, one without has none; root has what is bounded.
        assert_eq!(told(1000, [all, all, all, all, all]), [bits(all), bits(all), bits(all), bits(all), bits(all)]);
        assert_eq!(told(1000, [all, all, all, all, &all[1..2]]), [bits(all), bits(&all[1..2]), bits(all), bits(&all[1..2]), bits(&all[1..2])]);
        assert_eq!(told(1000, [all, all, &[], all, &[]]), [bits(all), bits(&[]), bits(&[]), bits(&[]), bits(&[])]);
        assert_eq!(told(0, [all, all, &[], all, &[]]), [bits(all), bits(all), bits(&[]), bits(all), bits(&[])]);
        assert_eq!(told(0, [&[], &[], &[], &[], &[]]), [bits(&[]), bits(&[]), bits(&[]), bits(&[]), bits(&[])]);
    });
}

#[test]
fn privileged_no_capabilities_means_none() {
    must("config.md: a config without capabilities gives the process none").holds(|place| {
        let text = place.told("cat /proc/self/status", |config| {
            drop(
                config["process"]
                    .as_object_mut()
                    .unwrap()
                    .remove("capabilities"),
            )
        });
        for line in ["CapEff", "CapInh", "CapPrm", "CapAmb", "CapBnd"] {
            let got = status_line(&text, line);
            // runc leaves its own in place, which it calls the default.
            assert!(got == bits(&[]) || place.is("runc"), "{line} {got}");
        }
    });
}

#[test]
fn privileged_an_unknown_capability_is_a_warning() {
    must("config.md: any value which cannot be mapped to a relevant kernel interface, or cannot be granted, MUST be logged as a warning by the runtime").holds(|place| {
        let container = place.container(|config| {
            config["process"]["args"] = json!(["/bin/sh", "-c", "grep CapEff /proc/self/status"]);
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_NO_SUCH", "kill"]);
            }
        });
        let ran = container.run(&[]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(status_line(&ran.stdout, "CapEff"), bits(&["CAP_KILL"]));
        assert!(ran.stderr.contains("warn") && ran.stderr.contains("CAP_NO_SUCH"), "{ran:?}");
    });
}

#[test]
fn privileged_no_new_privileges_is_the_configs() {
    must("config.md: noNewPrivileges true prevents the process from gaining additional privileges")
        .holds(|place| {
            for value in [true, false] {
                let text = place.told("cat /proc/self/status", |config| {
                    config["process"]["noNewPrivileges"] = json!(value)
                });
                assert_eq!(
                    status_line(&text, "NoNewPrivs"),
                    u8::from(value).to_string()
                );
            }
            let text = place.told("cat /proc/self/status", |config| {
                drop(
                    config["process"]
                        .as_object_mut()
                        .unwrap()
                        .remove("noNewPrivileges"),
                )
            });
            assert_eq!(status_line(&text, "NoNewPrivs"), "0");
        });
}

#[test]
fn privileged_the_oom_score_is_the_configs() {
    must("config.md: oomScoreAdj adjusts the oom-killer score in /proc/pid/oom_score_adj; if not set, the runtime MUST NOT change it").holds(|place| {
        for score in [500, 0, 1000] {
            assert_eq!(place.told("cat /proc/self/oom_score_adj", |config| config["process"]["oomScoreAdj"] = json!(score)), score.to_string());
        }
        let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        assert_eq!(place.told("cat /proc/self/oom_score_adj", |_| {}), own.trim());
        place.refused(|config| config["process"]["oomScoreAdj"] = json!(1001));
    });
}

#[test]
fn privileged_the_scheduler_is_the_configs() {
    must("config.md: scheduler: policy, nice, priority and flags are the process's")
        .since("since 1.2")
        .differs("crun", "since 1.9")
        .holds(|place| {
            let told = |scheduler: Value| {
                // proc(5): the policy's number, then the nice value.
                place.told("awk '{ print $41, $19 }' /proc/$$/stat", |config| {
                    config["process"]["scheduler"] = scheduler
                })
            };
            for (scheduler, want) in [
                (json!({ "policy": "SCHED_BATCH", "nice": 5 }), "3 5"),
                (json!({ "policy": "SCHED_OTHER", "nice": 7 }), "0 7"),
                (json!({ "policy": "SCHED_IDLE" }), "5 0"),
            ] {
                assert_eq!(told(scheduler), want);
            }
            if !place.is("crun") {
                place.refused(|config| {
                    config["process"]["scheduler"] = json!({ "policy": "SCHED_NO_SUCH" })
                });
            }
        });
}

#[test]
fn privileged_the_io_priority_is_the_configs() {
    must("config.md: ioPriority: class and priority are the process's")
        .differs("runc", "since 1.2")
        .holds(|place| {
            for (class, priority, shown) in [
                ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
                ("IOPRIO_CLASS_IDLE", 0, "idle"),
                ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
            ] {
                let told = place.told("ionice -p $$", |config| {
                    config["process"]["ioPriority"] =
                        json!({ "class": class, "priority": priority })
                });
                assert!(told.starts_with(shown), "{told}");
            }
            place.refused(|config| {
                config["process"]["ioPriority"] =
                    json!({ "class": "IOPRIO_CLASS_NO_SUCH", "priority": 1 })
            });
            place.refused(|config| {
                config["process"]["ioPriority"] =
                    json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 })
            });
        });
}

#[test]
fn privileged_the_cpus_of_exec_are_the_configs() {
    must("config.md: execCPUAffinity: initial while moving into the group, final for the process of exec").differs("runc", "since 1.3").holds(|place| {
        let container = place.container(|config| {
            sleeps(config);
            config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "1" });
        });
        let container = container.started();
        let ran = container.exec(&[], &["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status"]);
        assert_eq!(status_line(&ran.stdout, "Cpus_allowed_list"), "1", "{ran:?}");
        let file = place.shown("process.json");
        let mut process = container.config["process"].clone();
        process["args"] = json!(["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status"]);
        process["execCPUAffinity"] = json!({ "final": "0-0" });
        fs::write(&file, process.to_string()).unwrap();
        let ran = container.verb("exec", &["--process", &file]);
        assert_eq!(status_line(&ran.stdout, "Cpus_allowed_list"), "0", "{ran:?}");
        place.refused(|config| config["process"]["execCPUAffinity"] = json!({ "final": "1-0" }));
    });
}

#[test]
fn privileged_the_personality_is_the_configs() {
    must("config-linux.md: personality: domain LINUX or LINUX32 sets the execution domain")
        .since("since 1.2")
        .holds(|place| {
            assert_eq!(
                place.told("uname -m", |config| config["linux"]["personality"] =
                    json!({ "domain": "LINUX" })),
                "x86_64"
            );
            assert_eq!(
                place.told("uname -m", |config| config["linux"]["personality"] =
                    json!({ "domain": "LINUX32" })),
                "i686"
            );
            place.refused(|config| config["linux"]["personality"] = json!({ "domain": "BSD" }));
        });
}

/// Receives the terminal's master that a runtime sends.
pub(crate) fn master(listener: &UnixListener) -> std::os::fd::OwnedFd {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until(PATIENCE, || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("nobody connects to the console socket");
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut name = [0; 4096];
    let (length, mut fds) = airtight_sys::socket::recv_fds(&stream, &mut name, 4).unwrap();
    assert_eq!(fds.len(), 1, "{:?}", &name[..length]);
    fds.remove(0)
}

/// Reads a terminal up to a text.
fn until(master: &std::os::fd::OwnedFd, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // The other side's end is EIO.
    while let Ok(count) = nix::unistd::read(master, &mut buffer) {
        seen.extend(&buffer[..count]);
        if String::from_utf8_lossy(&seen).contains(text) || count == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn with_terminal<'a>(
    place: &'a Place,
    script: &str,
    edit: impl FnOnce(&mut Value),
) -> (Container<'a>, UnixListener, String) {
    let container = place.container(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        edit(config);
    });
    let path = container.bundle.join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.display().to_string();
    (container, listener, socket)
}

#[test]
fn privileged_a_terminal_goes_to_the_console_socket() {
    must("config.md: terminal true: a pseudo-terminal of the container is its standard streams; its master is sent to --console-socket").holds(|place| {
        let script = "tty; stat -c %t:%T /dev/console; test -t 0 && test -t 1 && test -t 2 && echo streams; read line; echo got $line; stty -a | head -1; echo end";
        let (container, listener, socket) = with_terminal(place, script, |config| config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 }));
        container.ok("create", &["--console-socket", &socket]);
        let master = master(&listener);
        container.ok("start", &[]);
        let seen = until(&master, "streams\r\n");
        assert!(seen.starts_with("/dev/pts/0\r\n") || seen.starts_with("/dev/console\r\n"), "{seen}");
        nix::unistd::write(&master, b"hello\n").unwrap();
        let seen = until(&master, "end\r\n");
        assert!(seen.contains("got hello\r\n"), "{seen}");
        assert!(seen.contains("rows 33") && seen.contains("columns 77"), "{seen}");
        container.becomes("stopped");
    });
}

#[test]
fn privileged_a_terminal_controls_its_session() {
    must("a terminal is the controlling one of the process's session, owned by its user, so that ^C arrives").holds(|place| {
        let script = "trap 'echo interrupted; exit 0' INT; stat -L -c %u /proc/self/fd/0; echo ready; while true; do sleep 0.01; done";
        let (container, listener, socket) = with_terminal(place, script, |config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
        container.ok("create", &["--console-socket", &socket]);
        let master = master(&listener);
        container.ok("start", &[]);
        let seen = until(&master, "ready");
        assert!(seen.starts_with("1000\r\n"), "{seen}");
        nix::unistd::write(&master, b"\x03").unwrap();
        assert!(until(&master, "interrupted").contains("interrupted"));
    });
}

#[test]
fn privileged_a_terminal_needs_its_socket() {
    must("runc's command line: a terminal without --console-socket cannot be created detached, and a socket needs a terminal").holds(|place| {
        let (container, _listener, socket) = with_terminal(place, "true", |_| {});
        assert_ne!(container.create(&[]).code, Some(0));
        assert_ne!(container.create(&["--console-socket", "/nowhere/socket"]).code, Some(0));
        let plain = place.container(|_| {});
        assert_ne!(plain.create(&["--console-socket", &socket]).code, Some(0));
        assert!(container.groups().is_empty() && plain.groups().is_empty());
    });
}

#[test]
fn privileged_run_in_the_foreground_relays_a_terminal() {
    must("runc's run in the foreground gives the container a terminal of its own and relays it to the caller's").needs(airtight_tests::Need::Program("script")).holds(|place| {
        let container = place.container(|config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["args"] = json!(["/bin/sh", "-c", "tty; while ! stty size 2>/dev/null | grep '21 55'; do sleep 0.01; done; exit 9"]);
        });
        let inner = container.command("run", &[]);
        let words: Vec<String> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("stty rows 21 cols 55; {}", words.join(" ")), "/dev/null"]).stdin(std::process::Stdio::null());
        let ran = place.finish(command);
        assert_eq!(ran.code, Some(9), "{ran:?}");
        assert!(ran.stdout.contains("/dev/pts/0") || ran.stdout.contains("/dev/console"), "{ran:?}");
        assert!(ran.stdout.contains("21 55"), "{ran:?}");
    });
}

#[test]
fn privileged_standard_streams_are_the_callers() {
    must("config.md: terminal false: the process has the standard streams that the runtime was given").holds(|place| {
        let container = place.container(|config| config["process"]["args"] = json!(["/bin/sh", "-c", "read line; echo out $line; echo err >&2"]));
        fs::write(place.path("in"), "hello\n").unwrap();
        let mut command = container.command("run", &[]);
        command.stdin(fs::File::open(place.path("in")).unwrap());
        let ran = place.finish(command);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "out hello\n", "err\n"));
    });
}

#[test]
fn privileged_the_process_leads_a_session() {
    must("a container's process leads a session of its own, is pid 1 of its namespace, and cannot be traced by death of the runtime").holds(|place| {
        let told = place.told("echo $$; cut -d' ' -f5,6 /proc/self/stat; grep -E '^(SigBlk|TracerPid|Seccomp):' /proc/self/status", |_| {});
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "1");
        assert_eq!(lines[1], "1 1");
        assert_eq!(status_line(&told, "TracerPid"), "0");
        assert_eq!(status_line(&told, "Seccomp"), "0");
        assert_eq!(status_line(&told, "SigBlk"), "0000000000000000");
    });
}

#[test]
fn privileged_labels_need_their_module() {
    must("a mount label is ignored where the host has SELinux off")
        .differs("runc", "asks the kernel for it, which knows no label")
        .holds(|place| {
            let off = !std::path::Path::new("/sys/fs/selinux/enforce").exists();
            assert!(off, "this case is for hosts without");
            place.told("true", |config| {
                config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2")
            });
        });
    must("config.md: apparmorProfile and selinuxLabel that cannot be applied MUST be an error")
        .holds(|place| {
            if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
                place.refused(|config| {
                    config["process"]["apparmorProfile"] = json!("no-such-profile")
                });
            }
            place.refused(|config| {
                config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2")
            });
        });
}
