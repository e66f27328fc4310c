//! One section for each invariant of a launched sandbox: what must fail fails, as root and rootless, and succeeds when the one step that forbids it is out of
//! the plan, so that the test is known to bite. Where several controls forbid the same, all are taken out and each alone, put back, denies again.

use std::io::{Read as _, Write as _};

use airtight_tests::{Need, Server, Without, World, has, parse};
use serde_json::json;

use crate::errno::{EACCES, ECONNREFUSED, ENETUNREACH, ENOSYS, ENOTSOCK, EPERM, EROFS, ESRCH};
use crate::every_caller;

/// Attempt (with its arguments), the error it must meet.
type Denied = (&'static [&'static str], i64);

fn attempts(list: &[Denied]) -> Vec<&'static str> {
    list.iter()
        .flat_map(|(attempt, _)| attempt.iter().chain([&","]))
        .copied()
        .collect()
}

/// All of these fail with exactly these errors, for root and rootless.
fn denied(list: &[Denied]) {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for (attempt, errno) in list {
            let report = world.attempt(&[], attempt).unwrap();
            let tried = report.of(attempt[0]);
            assert_eq!(
                (tried.ok, tried.errno),
                (false, *errno),
                "{attempt:?}: {report:?}"
            );
        }
    }
}

/// Without these controls the attempt gets through, and with any one of them back it does not.
fn bites(flags: &[&str], controls: &[Without], attempt: &[&'static str]) {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world.attempt_without(flags, controls, attempt).unwrap();
    assert!(
        report.of(attempt[0]).ok,
        "{attempt:?} should succeed without {controls:?}: {report:?}"
    );
    for kept in 0..controls.len() {
        let mut fewer = controls.to_vec();
        let kept = fewer.remove(kept);
        let report = world.attempt_without(flags, &fewer, attempt).unwrap();
        assert!(
            !report.of(attempt[0]).ok,
            "{attempt:?} should fail by {kept:?} alone: {report:?}"
        );
    }
}

const LANDLOCK: Without = Without::Step("landlock");
const SECCOMP: Without = Without::Step("seccomp");
const CANARY: Without = Without::Step("canary");

// 1. The root is read-only.

#[test]
fn privileged_nothing_of_the_image_can_be_written() {
    denied(&[
        (&["write", "/new"], EROFS),
        (&["append", "/app/data"], EROFS),
        (&["chmod", "/app/prober"], EROFS),
        (&["unlink", "/app/data"], EROFS),
        (&["write", "/app/new"], EROFS),
        (&["write", "/etc/hosts"], EROFS),
    ]);
}

#[test]
fn privileged_tmpfs_is_capped() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world
            .attempt(&["--tmpfs", "/scratch:4m"], &["fill", "/scratch/x"])
            .unwrap();
        let mebibytes: u64 = report.of("fill").detail.parse().unwrap();
        assert!(mebibytes <= 4, "{report:?}");
    }
}

#[test]
fn privileged_one_sandbox_does_not_take_the_terminals_of_others() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["terminals"]).unwrap();
        assert_eq!(report.of("terminals").detail, "64", "{report:?}");
    }
}

#[test]
fn privileged_the_root_is_read_only_by_the_mount_alone() {
    // Landlock forbids the write too; without it the mount does.
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(&[], &[LANDLOCK], &["write", "/new"])
        .unwrap();
    assert_eq!(report.of("write").errno, EROFS, "{report:?}");
}

#[test]
fn privileged_a_read_only_volume_is_so_by_its_mount_and_by_landlock() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    world.write("work/data/file", "content").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(world.path("work/data"), mode).unwrap();
    let volume = format!("{}:/data:ro", world.shown("work/data"));
    bites(
        &["--volume", &volume],
        &[LANDLOCK, Without::Set("volume", "read_only", json!(false))],
        &["write", "/data/new"],
    );
}

// 2. No code that is not in the layers.

#[test]
fn privileged_no_new_code_runs() {
    denied(&[
        (&["exec-from", "/tmp"], EACCES),
        (&["exec-from", "/dev/shm"], EACCES),
        (&["mmap-write-execute"], EPERM),
        (&["mmap-execute"], EPERM),
        (&["mprotect-execute"], EPERM),
        (&["pkey-mprotect-execute"], EPERM),
        (&["memfd-exec"], EPERM),
        (&["memfd-exec-plain"], EPERM),
        (&["shm-execute"], EPERM),
        (&["mmap-execute-file"], EPERM),
        (&["personality-read-implies-exec"], EPERM),
    ]);
}

#[test]
fn privileged_executable_memory_is_denied_by_the_filter_and_by_the_kernel() {
    bites(
        &[],
        &[SECCOMP, Without::Step("deny-write-execute")],
        &["mmap-write-execute"],
    );
    bites(
        &[],
        &[SECCOMP, Without::Step("deny-write-execute")],
        &["mprotect-execute"],
    );
}

#[test]
fn privileged_a_new_file_is_not_executed_by_landlock_alone_nor_by_the_mount_alone() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(&[], &[LANDLOCK], &["exec-from", "/tmp"])
        .unwrap();
    assert_eq!(report.of("exec-from").errno, EACCES, "noexec: {report:?}");
}

#[test]
fn privileged_a_memory_file_is_not_executed() {
    let sysctl = Without::StepWith("sysctl", "memfd_noexec");
    bites(&[], &[SECCOMP, sysctl], &["memfd-exec"]);
}

#[test]
fn privileged_a_program_that_asks_for_an_executable_stack_runs_under_jit_only() {
    let Some(worlds) = every_caller() else { return };
    let mut program = std::fs::read(airtight_tests::binary("airtight-prober")).unwrap();
    let word = |at: usize, length: usize| {
        let bytes = program[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (start, count) = (word(32, 8), word(56, 2));
    let stack = (0..count)
        .map(|at| start + at * 56)
        .find(|at| word(*at, 4) == 0x6474_e551)
        .unwrap();
    // PF_X of PT_GNU_STACK.
    program[stack + 4] |= 1;
    let world = &worlds[0];
    let file = world.write("work/stack/prober", program).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.write("work/stack/airtight.toml", "format = 1\nname = \"test/stack\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"prober\", to = \"/app/prober\" }]\n[config]\nentrypoint = [\"/app/prober\"]\n").unwrap();
    let built = world
        .airtight(["build", &world.shown("work/stack")])
        .unwrap();
    assert_eq!(built.code, Some(0), "{built:?}");
    let ran = world.airtight(["run", "test/stack", "--", "say"]).unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(
        ran.stderr.contains("app/prober") && ran.stderr.contains("fix:"),
        "{ran:?}"
    );
    let ran = world
        .airtight(["run", "--profile", "jit", "test/stack", "--", "say"])
        .unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn privileged_a_file_as_a_standard_stream_becomes_no_code() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let input = world.write("work/input", "from a file").unwrap();
        let output = world.path("work/output");
        let both = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&output)
            .unwrap();
        let status = world
            .command(airtight_tests::binary("airtight"))
            .args([
                "run",
                "test/prober",
                "--",
                "mmap-execute-stream",
                "0",
                ",",
                "stdin",
                ",",
                "mmap-execute-stream",
                "1",
            ])
            .stdin(std::fs::File::open(&input).unwrap())
            .stdout(both)
            .status()
            .unwrap();
        let text = std::fs::read_to_string(&output).unwrap();
        let report = parse(status.code(), &text, "");
        // No pipe is executable, and one that is written to cannot even be read.
        let errors = [EPERM, EACCES].map(|errno| format!("\"ok\":false,\"errno\":{errno}"));
        assert!(errors.iter().all(|error| text.contains(error)), "{text}");
        assert_eq!(report.of("stdin").detail, "from a file", "{report:?}");
        assert_eq!(text.matches("mmap-execute-stream").count(), 2, "{text}");
    }
    let open = || std::fs::File::open(worlds[0].path("work/input")).unwrap();
    let report = worlds[0]
        .attempt_without_from(
            open(),
            &[],
            &[Without::Step("pipe-streams")],
            &["mmap-execute-stream", "0"],
        )
        .unwrap();
    assert!(report.of("mmap-execute-stream").ok, "{report:?}");
}

#[test]
fn privileged_a_socket_as_a_standard_stream_leads_nowhere_else() {
    let Some(worlds) = every_caller() else { return };
    let server = airtight_tests::Server::echo().unwrap();
    let elsewhere = format!("127.0.0.1:{}", server.port);
    // As a socket-activated service has it: one socket is all three.
    let connected = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            client,
            std::os::fd::OwnedFd::from(listener.accept().unwrap().0),
        )
    };
    for world in &worlds {
        let (mut client, service) = connected();
        let mut launch = world
            .command(airtight_tests::binary("airtight"))
            .args([
                "run",
                "test/prober",
                "--",
                "reconnect-stdin",
                &elsewhere,
                ",",
                "stdin",
            ])
            .stdin(service.try_clone().unwrap())
            .stdout(service)
            .spawn()
            .unwrap();
        client.write_all(b"from the network").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        let report = parse(launch.wait().unwrap().code(), &text, "");
        assert_eq!(report.of("reconnect-stdin").errno, ENOTSOCK, "{report:?}");
        assert_eq!(report.of("stdin").detail, "from the network", "{report:?}");
    }
    let (_client, service) = connected();
    let attempt = ["reconnect-stdin", elsewhere.as_str()];
    let report = worlds[0]
        .attempt_without_from(service, &[], &[Without::Step("pipe-streams")], &attempt)
        .unwrap();
    assert!(report.of("reconnect-stdin").ok, "{report:?}");
}

// 3. No privilege.

#[test]
fn privileged_the_payload_has_no_capability_and_no_root() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["status", ",", "setuid"]).unwrap();
        let status = &report.of("status").detail;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                status.contains(&format!("{set}:\t0000000000000000")),
                "{set}: {status}"
            );
        }
        for line in [
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "Uid:\t65532\t65532\t65532\t65532",
            "Gid:\t65532\t65532\t65532\t65532",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        assert!(!report.of("setuid").ok, "{report:?}");
        let refused = world.run(&["--user", "0"], &["say"]).unwrap();
        assert_eq!(refused.code, Some(125), "{refused:?}");
        assert!(refused.stderr.contains("--user"), "{refused:?}");
    }
}

#[test]
fn privileged_the_bounding_set_and_no_new_privs_are_dropped_by_their_steps() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(&[], &[Without::Step("drop-bounding-set")], &["status"])
        .unwrap();
    assert!(
        !report
            .of("status")
            .detail
            .contains("CapBnd:\t0000000000000000"),
        "{report:?}"
    );
    // The fences that follow, and pid 1's own filter, cannot be put up by a process without no_new_privs: so none of them is there.
    let without = [
        Without::Step("no-new-privs"),
        LANDLOCK,
        SECCOMP,
        Without::Step("init"),
    ];
    let report = world.attempt_without(&[], &without, &["status"]).unwrap();
    assert!(
        report.of("status").detail.contains("NoNewPrivs:\t0"),
        "{report:?}"
    );
    let report = world
        .attempt_without(&[], &without[1..], &["status"])
        .unwrap();
    assert!(
        report.of("status").detail.contains("NoNewPrivs:\t1"),
        "{report:?}"
    );
}

#[test]
fn privileged_capabilities_are_cleared_by_their_step() {
    if !has(&[Need::Root]) {
        return;
    }
    // An exec of another id clears them as well, so it is the canary that still has them and can mount; Landlock forbids that too.
    let world = World::new().unwrap();
    let report = world.attempt_without(&[], &[LANDLOCK], &["say"]).unwrap();
    assert_eq!(report.code, Some(0), "{report:?}");
    let report = world
        .attempt_without(
            &[],
            &[LANDLOCK, Without::Step("clear-capabilities")],
            &["say"],
        )
        .unwrap();
    assert!(
        report.stderr.contains("Mount should have failed"),
        "{report:?}"
    );
}

#[test]
fn privileged_the_hosts_root_is_not_mapped_in() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["read", "/proc/self/uid_map"]).unwrap();
        for line in report.of("read").detail.lines() {
            let numbers: Vec<u64> = line
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            assert_ne!(numbers[1], 0, "{line}");
        }
    }
}

#[test]
fn privileged_a_user_with_a_range_maps_it_and_its_own_id_and_nothing_else() {
    let Some(worlds) = every_caller() else { return };
    let attempts = ["read", "/proc/self/uid_map", ",", "status"];
    let maps = worlds.each_ref().map(|world| {
        let report = world.attempt(&[], &attempts).unwrap();
        let map = &report.of("read").detail;
        let lines = map.lines().map(|line| line.split_whitespace().collect());
        lines
            .map(|words: Vec<&str>| words.join(" "))
            .collect::<Vec<_>>()
    });
    assert_eq!(maps[0].len(), 1, "{maps:?}");
    assert!(maps[0][0].ends_with(" 65536"), "{maps:?}");
    assert_eq!(maps[1], ["65532 54321 1"]);
    assert_eq!(maps[2], ["0 54321 1", "1 1900000000 65535"]);
    for world in &worlds {
        let status = world.attempt(&["--user", "7:8"], &["status"]).unwrap();
        let status = &status.of("status").detail;
        assert!(status.contains("Uid:\t7\t7\t7\t7"), "{status}");
        assert!(status.contains("Gid:\t8\t8\t8\t8"), "{status}");
    }
}

// 4. Namespaces, /proc, /sys, /dev.

#[test]
fn privileged_namespaces_are_its_own_and_show_no_path_of_the_host() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for kind in ["user", "pid", "mnt", "ipc", "uts", "net", "cgroup"] {
            let report = world.attempt(&[], &["namespace", kind]).unwrap();
            let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(
                report.of("namespace").detail,
                host.display().to_string(),
                "{kind}"
            );
        }
        let report = world
            .attempt(&[], &["read", "/proc/self/mountinfo"])
            .unwrap();
        let mounts = &report.of("read").detail;
        assert!(
            !mounts.contains("airtight") && !mounts.contains("/work") && !mounts.contains("/home"),
            "{mounts}"
        );
        let report = world.attempt(&[], &["read", "/proc/self/cgroup"]).unwrap();
        for line in report.of("read").detail.lines() {
            assert!(line.ends_with(":/"), "{line}");
        }
        let report = world.attempt(&[], &["list", "/sys"]).unwrap();
        assert_eq!(report.of("list").detail, "");
        let report = world.attempt(&[], &["list", "/dev"]).unwrap();
        assert_eq!(
            report.of("list").detail,
            "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
        );
    }
}

#[test]
fn privileged_proc_shows_nothing_of_the_kernels_inside_and_takes_no_setting() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for path in [
            "/proc/keys",
            "/proc/timer_list",
            "/proc/kcore",
            "/proc/cmdline",
            "/proc/swaps",
            "/proc/sysrq-trigger",
        ] {
            if !std::path::Path::new(path).exists() {
                continue;
            }
            let report = world.attempt(&[], &["read", path]).unwrap();
            let tried = report.of("read");
            assert!(
                !tried.ok || tried.detail == "character device" || tried.detail.is_empty(),
                "{path}: {tried:?}"
            );
        }
    }
    denied(&[
        (&["write", "/proc/sys/kernel/hostname"], EROFS),
        (&["write", "/proc/self/oom_score_adj"], EROFS),
    ]);
}

#[test]
fn privileged_a_namespace_that_is_not_asked_for_is_the_hosts() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    for (name, kind) in [("uts", "uts"), ("ipc", "ipc")] {
        // The host's name must stay what it is.
        let without = [Without::Namespace(name), Without::Step("hostname"), CANARY];
        let report = world
            .attempt_without(&[], &without, &["namespace", kind])
            .unwrap();
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(
            report.of("namespace").detail,
            host.display().to_string(),
            "{report:?}"
        );
    }
    let report = world
        .attempt_without(
            &[],
            &[Without::Step("unshare-cgroup")],
            &["namespace", "cgroup"],
        )
        .unwrap();
    let host = std::fs::read_link("/proc/self/ns/cgroup").unwrap();
    assert_eq!(
        report.of("namespace").detail,
        host.display().to_string(),
        "{report:?}"
    );
}

#[test]
fn privileged_a_mask_is_what_hides() {
    if !has(&[Need::Root, Need::File("/proc/keys")]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(
            &[],
            &[Without::StepWith("mask-proc", "keys")],
            &["read", "/proc/keys"],
        )
        .unwrap();
    assert_ne!(report.of("read").detail, "character device", "{report:?}");
}

// 5. System calls.

#[test]
fn privileged_refused_calls_give_eperm_and_unknown_ones_enosys() {
    denied(&[
        (&["unshare-user"], EPERM),
        (&["clone-user"], EPERM),
        (&["clone3"], ENOSYS),
        (&["setns"], EPERM),
        (&["keyctl"], EPERM),
        (&["add-key"], EPERM),
        (&["bpf"], EPERM),
        (&["perf-event-open"], EPERM),
        (&["userfaultfd"], EPERM),
        (&["io-uring-setup"], EPERM),
        (&["ptrace-traceme"], EPERM),
        (&["process-vm-readv"], EPERM),
        (&["process-vm-writev"], EPERM),
        (&["pidfd-getfd"], EPERM),
        (&["kcmp"], EPERM),
        (&["personality"], EPERM),
        (&["mount-tmpfs", "/tmp"], EPERM),
        (&["remount-rw", "/"], EPERM),
        (&["fsopen"], EPERM),
        (&["open-tree"], EPERM),
        (&["mount-setattr"], EPERM),
        (&["chroot"], EPERM),
        (&["tcxonc"], EPERM),
        (&["tiocsctty"], EPERM),
        (&["pivot-root"], EPERM),
        (&["umount"], EPERM),
        (&["mknod-device"], EPERM),
        (&["reboot"], EPERM),
        (&["swapon"], EPERM),
        (&["init-module"], EPERM),
        (&["sethostname"], EPERM),
        (&["open-by-handle-at"], EPERM),
        (&["quotactl"], EPERM),
        (&["tiocsti"], EPERM),
        (&["tiocsti-high-bits"], EPERM),
        (&["tioclinux"], EPERM),
        (&["setrlimit-core"], EPERM),
        (&["prlimit-core"], EPERM),
        (&["call", "9999"], ENOSYS),
    ]);
}

#[test]
fn privileged_another_abi_ends_the_process() {
    let Some(worlds) = every_caller() else { return };
    for attempt in ["i386-call", "x32-getpid"] {
        let ran = worlds[0].run(&[], &[attempt]).unwrap();
        let report = parse(ran.code, &ran.stdout, &ran.stderr);
        // SIGSYS, or the plain refusal of a kernel without that ABI.
        let stopped = report.code == Some(128 + 31) || !report.of(attempt).ok;
        assert!(stopped, "{attempt}: {report:?}");
    }
}

#[test]
fn privileged_the_filter_is_what_refuses_calls() {
    for attempt in [
        "keyctl",
        "personality",
        "ptrace-traceme",
        "personality-query",
    ] {
        if attempt == "personality-query" {
            continue;
        }
        if !has(&[Need::Root]) {
            return;
        }
        let world = World::new().unwrap();
        let report = world.attempt_without(&[], &[SECCOMP], &[attempt]).unwrap();
        assert_ne!(report.of(attempt).errno, EPERM, "{attempt}: {report:?}");
    }
}

#[test]
fn privileged_user_namespaces_are_denied_by_the_filter_and_by_the_namespaces_own_limit() {
    let limit = Without::StepWith("sysctl", "max_user_namespaces");
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let without = [SECCOMP, limit, CANARY];
    let report = world
        .attempt_without(&[], &without, &["unshare-user"])
        .unwrap();
    assert!(report.of("unshare-user").ok, "{report:?}");
    for kept in [0, 1] {
        let mut fewer = without.to_vec();
        fewer.remove(kept);
        let report = world
            .attempt_without(&[], &fewer, &["unshare-user"])
            .unwrap();
        assert!(!report.of("unshare-user").ok, "{kept}: {report:?}");
    }
}

// 6. Sockets.

#[test]
fn privileged_only_the_listed_socket_kinds_can_be_made() {
    let Some(worlds) = every_caller() else { return };
    // Family, type, protocol; whether it is allowed.
    for (kind, allowed) in [
        (["1", "1", "0"], true),
        (["2", "1", "0"], true),
        (["2", "2", "0"], true),
        (["10", "1", "0"], true),
        (["16", "3", "0"], true),
        (["2", "3", "1"], false),
        (["2", "3", "255"], false),
        (["17", "3", "768"], false),
        (["16", "3", "9"], false),
        (["40", "1", "0"], false),
        (["38", "5", "0"], false),
        (["44", "3", "0"], false),
        // A high bit that the kernel does not look at.
        (["4294967313", "3", "768"], false),
    ] {
        let report = worlds[0]
            .attempt(&[], &["socket", kind[0], kind[1], kind[2]])
            .unwrap();
        assert_eq!(report.of("socket").ok, allowed, "{kind:?}: {report:?}");
    }
}

// 7. The network and what crosses beside it.

#[test]
fn privileged_no_other_address_is_reached() {
    denied(&[
        (&["connect", "1.1.1.1:443"], ENETUNREACH),
        (&["connect", "169.254.169.254:80"], ENETUNREACH),
        (&["udp", "10.9.8.7:53"], ENETUNREACH),
    ]);
}

#[test]
fn privileged_the_hosts_loopback_is_not_the_sandboxs() {
    let server = Server::echo().unwrap();
    let address = format!("127.0.0.1:{}", server.port);
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["connect", &address]).unwrap();
        assert_eq!(report.of("connect").errno, ECONNREFUSED, "{report:?}");
    }
    let without = [
        Without::Namespace("net"),
        Without::Step("loopback"),
        Without::StepWith("sysctl", "ip_unprivileged"),
        CANARY,
    ];
    let report = worlds[0]
        .attempt_without(&[], &without, &["connect", &address])
        .unwrap();
    assert!(report.of("connect").ok, "{report:?}");
}

#[test]
fn privileged_no_process_of_the_host_can_be_signalled() {
    let Some(worlds) = every_caller() else { return };
    // Of the payload's own id outside, so that no id forbids the signal.
    let mut target = worlds[1].command("sleep").arg("60").spawn().unwrap();
    let pid = target.id().to_string();
    let reports = worlds
        .each_ref()
        .map(|world| world.attempt(&[], &["kill", &pid]).unwrap());
    let without = [
        Without::Namespace("pid"),
        Without::Step("proc"),
        Without::Step("mask-proc"),
        Without::Step("verify-mounts"),
        Without::Step("init"),
        LANDLOCK,
        CANARY,
    ];
    let open = worlds[1].attempt_without(&[], &without, &["kill", &pid]);
    let scoped = worlds[1].attempt_without(
        &[],
        &[&without[..5], &without[6..]].concat(),
        &["kill", &pid],
    );
    target.kill().unwrap();
    target.wait().unwrap();
    for report in &reports {
        assert_eq!(report.of("kill").errno, ESRCH, "{report:?}");
    }
    let (open, scoped) = (open.unwrap(), scoped.unwrap());
    assert!(open.of("kill").ok, "{open:?}");
    assert_eq!(
        scoped.of("kill").errno,
        EPERM,
        "by Landlock's scope alone: {scoped:?}"
    );
}

#[test]
fn privileged_abstract_sockets_of_the_host_are_out_of_reach() {
    if !has(&[Need::Control("landlock-scopes")]) {
        return;
    }
    let Some(worlds) = every_caller() else { return };
    let name = format!("airtight-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            &name,
        )
        .unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    for world in &worlds {
        let report = world.attempt(&[], &["abstract-connect", &name]).unwrap();
        assert!(!report.of("abstract-connect").ok, "{report:?}");
    }
    // The network namespace and Landlock's scope each deny it.
    let without = [
        LANDLOCK,
        Without::Namespace("net"),
        Without::Step("loopback"),
        Without::StepWith("sysctl", "ip_unprivileged"),
        CANARY,
    ];
    let report = worlds[0]
        .attempt_without(&[], &without, &["abstract-connect", &name])
        .unwrap();
    assert!(report.of("abstract-connect").ok, "{report:?}");
    let report = worlds[0]
        .attempt_without(&[], &without[1..], &["abstract-connect", &name])
        .unwrap();
    assert_eq!(report.of("abstract-connect").errno, EPERM, "{report:?}");
}

#[test]
fn privileged_only_declared_ports_can_be_bound() {
    if !has(&[Need::Control("landlock-net")]) {
        return;
    }
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world
            .attempt(&["--listen", "8080"], &["listen", "0.0.0.0:8080"])
            .unwrap();
        assert!(report.of("listen").ok, "{report:?}");
        let report = world
            .attempt(&["--listen", "8080"], &["listen", "0.0.0.0:8081"])
            .unwrap();
        assert_eq!(report.of("listen").errno, EACCES, "{report:?}");
    }
    bites(&[], &[LANDLOCK], &["listen", "0.0.0.0:8081"]);
}

// 8. Descriptors and the working directory.

#[test]
fn privileged_only_the_standard_streams_are_open() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let report = world.attempt(&[], &["descriptors", ",", "cwd"]).unwrap();
        let open: Vec<&str> = report
            .of("descriptors")
            .detail
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        assert_eq!(open, ["0", "1", "2"], "{report:?}");
        assert_eq!(report.of("cwd").detail, "/");
    }
}

#[test]
fn privileged_a_directory_as_a_standard_stream_is_refused() {
    let Some(worlds) = every_caller() else { return };
    let directory = std::fs::File::open("/").unwrap();
    let output = worlds[0]
        .command(airtight_tests::binary("airtight"))
        .args(["run", "test/prober"])
        .stdin(directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("directory"),
        "{output:?}"
    );
}

#[test]
fn privileged_our_own_program_is_out_of_reach() {
    denied(&[(&["open-own-executable"], EROFS)]);
    let Some(worlds) = every_caller() else { return };
    for path in ["/proc/1/exe", "/proc/1/root", "/proc/1/cwd"] {
        let report = worlds[0].attempt(&[], &["readlink", path]).unwrap();
        assert!(!report.of("readlink").ok, "{path}: {report:?}");
    }
}

// 9. A control is on, refused, or accepted by name.

#[test]
fn privileged_a_confinement_that_does_not_hold_ends_the_launch() {
    // The canary sings when what it tries gets through.
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let without = [Without::StepWith("sysctl", "max_user_namespaces")];
    let report = world.attempt_without(&[], &without, &["say"]).unwrap();
    assert_eq!(report.code, Some(125), "{report:?}");
    assert!(
        report.stderr.contains("UserNamespace should have failed"),
        "{report:?}"
    );
}

#[test]
fn privileged_a_shortfall_needs_a_name_that_is_one() {
    let Some(worlds) = every_caller() else { return };
    let ran = worlds[0]
        .run(&["--accept-shortfall", "no-such-control"], &["say"])
        .unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    // The host has it, so accepting its absence changes nothing.
    let plan = worlds[0]
        .plan(&["--accept-shortfall", "landlock"], &["say"])
        .unwrap();
    assert_eq!(plan["shortfalls"], json!([]));
    assert!(attempts(&[(&["say"], 0)]).contains(&"say"));
}
