//! The caller's filter: every action, every operator, flags, architectures and the listener.

use std::fs;
use std::os::unix::net::UnixListener;

use airtight_tests::{Ran, wait_until};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Place, must};

/// A filter that allows all but what `rules` say.
fn filter(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules })
}

fn under(place: &Place, filter: &Value, script: &str) -> Ran {
    place.sh(script, |config| config["linux"]["seccomp"] = filter.clone())
}

#[test]
fn privileged_a_filter_is_loaded() {
    must("config-linux.md: seccomp: the process runs under the filter, with and without noNewPrivileges").holds(|place| {
        for no_new_privileges in [true, false] {
            let told = place.told("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status", |config| {
                config["linux"]["seccomp"] = filter(json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]));
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            });
            assert_eq!(told, format!("NoNewPrivs:\t{}\nSeccomp:\t2", u8::from(no_new_privileges)));
        }
    });
}

#[test]
fn privileged_every_action_has_its_effect() {
    must("config-linux.md: seccomp actions: ALLOW, ERRNO with errnoRet, KILL, KILL_PROCESS, KILL_THREAD, TRAP, LOG, TRACE").holds(|place| {
        let on_mkdir = |action: &str, errno: Value| {
            let mut rule = json!({ "names": ["mkdir", "mkdirat"], "action": action });
            if !errno.is_null() {
                rule["errnoRet"] = errno;
            }
            let ran = under(place, &filter(json!([rule])), "mkdir /new; echo code $?");
            format!("{}{}", ran.stdout, ran.stderr)
        };
        assert!(on_mkdir("SCMP_ACT_ALLOW", Value::Null).contains("code 0"));
        assert!(on_mkdir("SCMP_ACT_LOG", Value::Null).contains("code 0"));
        let eperm = on_mkdir("SCMP_ACT_ERRNO", Value::Null);
        assert!(eperm.contains("Operation not permitted") && eperm.contains("code 1"), "{eperm}");
        let enospc = on_mkdir("SCMP_ACT_ERRNO", json!(28));
        assert!(enospc.contains("No space left"), "{enospc}");
        // Nobody traces: the call is as unknown.
        let trace = on_mkdir("SCMP_ACT_TRACE", json!(5));
        assert!(trace.contains("not implemented") && trace.contains("code 1"), "{trace}");
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
            // SIGSYS is 31.
            let killed = on_mkdir(action, Value::Null);
            assert!(killed.contains("code 159"), "{action}: {killed}");
        }
        for wrong in ["SCMP_ACT_NO_SUCH", ""] {
            place.refused(|config| config["linux"]["seccomp"] = filter(json!([{ "names": ["mkdir"], "action": wrong }])));
        }
    });
}

#[test]
fn privileged_the_default_action_is_for_the_rest() {
    must("config-linux.md: seccomp: defaultAction and defaultErrnoRet are for calls that no rule names").holds(|place| {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        assert!(text.contains("Seccomp:"));
        let mut strict = filter(json!([{ "names": ALLOWED, "action": "SCMP_ACT_ALLOW" }]));
        strict["defaultAction"] = json!("SCMP_ACT_ERRNO");
        let ran = under(place, &strict, "echo begun; mkdir /new; echo code $?");
        assert!(ran.stdout.ends_with("begun\ncode 1\n") && ran.stderr.contains("not permitted"), "{ran:?}");
        strict["defaultErrnoRet"] = json!(28);
        let ran = under(place, &strict, "echo begun; mkdir /new; echo code $?");
        assert!(ran.stdout.ends_with("begun\ncode 1\n") && ran.stderr.contains("No space left"), "{ran:?}");
    });
}

/// Enough for a shell, and for a runtime that still has to get there.
const ALLOWED: &[&str] = &[
    "read",
    "write",
    "readv",
    "writev",
    "open",
    "openat",
    "openat2",
    "close",
    "close_range",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "poll",
    "ppoll",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "ioctl",
    "access",
    "faccessat",
    "faccessat2",
    "pipe",
    "pipe2",
    "dup",
    "dup2",
    "dup3",
    "getpid",
    "getppid",
    "gettid",
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "kill",
    "tgkill",
    "uname",
    "fcntl",
    "getcwd",
    "chdir",
    "fchdir",
    "readlink",
    "readlinkat",
    "umask",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getgroups",
    "setuid",
    "setgid",
    "setgroups",
    "setresuid",
    "setresgid",
    "getpgrp",
    "getpgid",
    "setpgid",
    "getsid",
    "setsid",
    "capget",
    "capset",
    "prctl",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "getrandom",
    "futex",
    "sched_yield",
    "sched_getaffinity",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "gettimeofday",
    "time",
    "getdents64",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "sysinfo",
    "getrlimit",
    "setrlimit",
    "getrusage",
    "times",
    "sendmsg",
    "recvmsg",
    "recvfrom",
    "sendto",
    "socketpair",
    "seccomp",
    "madvise",
    "pread64",
    "pwrite64",
    "unlink",
    "unlinkat",
    "sendfile",
];

#[test]
fn privileged_every_operator_compares() {
    must("config-linux.md: seccomp args: index, value, valueTwo, op: NE, LT, LE, EQ, GE, GT, MASKED_EQ; all of a rule's must hold").holds(|place| {
        // fchmodat's third argument, or chmod's second, is the mode.
        let refused = |args: Value, mode: &str| {
            let second = |args: &Value| -> Value {
                args.as_array().unwrap().iter().map(|arg| { let mut arg = arg.clone(); arg["index"] = json!(arg["index"].as_u64().unwrap() + 1); arg }).collect()
            };
            let rules = json!([
                { "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": args },
                { "names": ["fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "args": second(&args) }
            ]);
            let ran = under(place, &filter(rules), &format!("chmod {mode} /tmp 2>/dev/null; echo code $?"));
            ran.stdout.ends_with("code 1\n")
        };
        let arg = |op: &str, value: u64, two: u64| json!([{ "index": 1, "value": value, "valueTwo": two, "op": op }]);
        // The mode is 0o700, which is 448.
        for (op, value, two, wanted) in [
            ("SCMP_CMP_EQ", 448, 0, true), ("SCMP_CMP_EQ", 449, 0, false),
            ("SCMP_CMP_NE", 449, 0, true), ("SCMP_CMP_NE", 448, 0, false),
            ("SCMP_CMP_LT", 449, 0, true), ("SCMP_CMP_LT", 448, 0, false),
            ("SCMP_CMP_LE", 448, 0, true), ("SCMP_CMP_LE", 447, 0, false),
            ("SCMP_CMP_GE", 448, 0, true), ("SCMP_CMP_GE", 449, 0, false),
            ("SCMP_CMP_GT", 447, 0, true), ("SCMP_CMP_GT", 448, 0, false),
            ("SCMP_CMP_MASKED_EQ", 0o100, 0o100, true), ("SCMP_CMP_MASKED_EQ", 0o100, 0, false),
        ] {
            assert_eq!(refused(arg(op, value, two), "700"), wanted, "{op} {value} {two}");
        }
        let both = json!([{ "index": 1, "value": 447, "op": "SCMP_CMP_GT" }, { "index": 1, "value": 0o777, "valueTwo": 448, "op": "SCMP_CMP_MASKED_EQ" }]);
        assert!(refused(both, "700"));
        place.refused(|config| config["linux"]["seccomp"] = filter(json!([{ "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": 1, "op": "SCMP_CMP_NO_SUCH" }] }])));
        place.refused(|config| config["linux"]["seccomp"] = filter(json!([{ "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] }])));
    });
}

#[test]
fn privileged_arguments_are_of_64_bits() {
    must("config-linux.md: seccomp args: value is of 64 bits, compared whole").holds(|place| {
        // ftruncate's length, of a sparse file.
        let rules = |op: &str, value: u64| filter(json!([{ "names": ["ftruncate"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": value, "op": op }] }]));
        let script = "truncate -s 4294967296 /tmp/sparse 2>&1 | grep -c -i 'permitted'";
        for (op, value, wanted) in [("SCMP_CMP_EQ", 1 << 32, "1\n"), ("SCMP_CMP_EQ", 0, "0\n"), ("SCMP_CMP_GT", u64::from(u32::MAX), "1\n"), ("SCMP_CMP_GT", 1 << 32, "0\n")] {
            let ran = under(place, &rules(op, value), script);
            assert_eq!(ran.stdout, wanted, "{op} {value}: {ran:?}");
        }
    });
}

#[test]
fn privileged_calls_that_this_machine_has_not_are_passed_over() {
    must("config-linux.md: seccomp names: those that the machine or the library does not know are ignored: other architectures have them").holds(|place| {
        let rules = json!([{ "names": ["no_such_call", "s390_runtime_instr", "mkdir", "mkdirat", "socketcall"], "action": "SCMP_ACT_ERRNO" }]);
        let ran = under(place, &filter(rules), "mkdir /new 2>/dev/null; echo code $?");
        assert_eq!(ran.stdout, "code 1\n", "{ran:?}");
        place.refused(|config| config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_NO_SUCH"));
        place.refused(|config| config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NO_SUCH"], "syscalls": [] }));
    });
}

#[test]
fn privileged_flags_are_taken() {
    must("config-linux.md: seccomp flags: TSYNC, LOG, SPEC_ALLOW").differs("runc", "since 1.2").holds(|place| {
        let mut log =
            filter(json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]));
        log["flags"] = json!([
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_TSYNC"
        ]);
        let ran = under(
            place,
            &log,
            "mkdir /new 2>/dev/null; echo code $?; grep Speculation_Store_Bypass /proc/self/status",
        );
        assert!(ran.stdout.starts_with("code 1\n"), "{ran:?}");
        place.refused(|config| {
            config["linux"]["seccomp"] = filter(json!([]));
            config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_NO_SUCH"]);
        });
    });
}

#[test]
fn privileged_what_the_runtime_needs_before_the_program_is_not_filtered() {
    must("the filter is loaded when the working directory was verified and found: one that denies getcwd works").holds(|place| {
        let rules = json!([{ "names": ["getcwd", "chdir", "fchdir", "setgroups", "setuid", "setgid", "mount", "pivot_root", "umask", "setsid", "setrlimit", "prlimit64"], "action": "SCMP_ACT_ERRNO" }]);
        for no_new_privileges in [true, false] {
            let ran = place.sh("echo begun", |config| {
                config["linux"]["seccomp"] = filter(rules.clone());
                config["process"]["cwd"] = json!("/tmp");
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5] });
            });
            // runc sets ids after the filter when no_new_privs is not set.
            assert!(ran.stdout.contains("begun") || place.is("runc") && !no_new_privileges, "{no_new_privileges}: {ran:?}");
        }
    });
}

#[test]
fn privileged_exec_is_filtered_too() {
    must("the process of exec runs under the container's filter").holds(|place| {
        let container = place
            .container(|config| {
                crate::harness::sleeps(config);
                config["linux"]["seccomp"] =
                    filter(json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]));
            })
            .started();
        let ran = container.exec(
            &[],
            &[
                "/bin/sh",
                "-c",
                "grep ^Seccomp: /proc/self/status; mkdir /new; echo code $?",
            ],
        );
        assert_eq!(ran.stdout, "Seccomp:\t2\ncode 1\n", "{ran:?}");
    });
}

/// The listener, as an agent gets it. The agent is gone at once, so a call that it was to decide is as unknown.
#[test]
fn privileged_the_listener_goes_to_the_agent() {
    must("config-linux.md: seccomp listenerPath: the container process state is sent to the socket, with the listener among its fds, before the program runs").holds(|place| {
        let path = place.path("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let container = place.container(|config| {
            let mut with = filter(json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }]));
            with["listenerPath"] = json!(path);
            with["listenerMetadata"] = json!("of mine");
            config["linux"]["seccomp"] = with;
            config["annotations"] = json!({ "a": "b" });
            config["process"]["args"] = json!(["/bin/sh", "-c", "mkdir /new; echo code $?"]);
        });
        container.ok("create", &[]);
        let start = place.start(container.command("start", &[]));
        let mut accepted = None;
        assert!(wait_until(PATIENCE, || {
            accepted = listener.accept().ok();
            accepted.is_some()
        }));
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = vec![0; 1 << 16];
        let (length, fds) = airtight_sys::socket::recv_fds(&stream, &mut text, 4).unwrap();
        let state: Value = serde_json::from_slice(&text[..length]).unwrap();
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "of mine");
        assert!(state["ociVersion"].is_string());
        assert_eq!(state["state"]["id"], json!(container.id));
        assert_eq!(state["state"]["annotations"], json!({ "a": "b" }));
        assert_eq!(state["state"]["bundle"], json!(container.bundle.canonicalize().unwrap()));
        assert_eq!(state["pid"], json!(container.pid()));
        assert_eq!(fds.len(), 1);
        let number = std::os::fd::AsRawFd::as_raw_fd(&fds[0]);
        let link = fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(link.to_str(), Some("anon_inode:seccomp notify"));
        drop(fds);
        drop(stream);
        start.wait();
        container.says("code 1");
    });
    must("config-linux.md: seccomp listenerPath is REQUIRED for SCMP_ACT_NOTIFY; a socket that is not there is an error").holds(|place| {
        place.refused(|config| config["linux"]["seccomp"] = filter(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }])));
        let container = place.container(|config| {
            let mut with = filter(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]));
            with["listenerPath"] = json!("/nowhere/agent.sock");
            config["linux"]["seccomp"] = with;
        });
        assert_ne!(container.run(&[]).code, Some(0));
    });
}

/// Of two containers with one filter the second may have it from a cache.
#[test]
fn privileged_the_same_filter_twice_is_the_same() {
    must("a filter that was compiled for one container is right for the next, and another's is not taken for it").holds(|place| {
        let rule = |call: &str, errno: u32| filter(json!([{ "names": [call, format!("{call}at")], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }]));
        for _ in 0..2 {
            let ran = under(place, &rule("mkdir", 28), "mkdir /new; unlink /tmp/x");
            assert!(ran.stderr.contains("No space left"), "{ran:?}");
            let ran = under(place, &rule("mkdir", 1), "mkdir /new");
            assert!(ran.stderr.contains("not permitted"), "{ran:?}");
            let ran = under(place, &rule("unlink", 28), "touch /tmp/x; rm /tmp/x");
            assert!(ran.stderr.contains("No space left"), "{ran:?}");
        }
    });
}
