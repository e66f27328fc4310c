//! The network: what is named is reached through the gate, what is not is not, and each refusal is told.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use airtight_tests::{Background, Need, Server, World, has, wait_until};
use nix::sys::signal::Signal;

use crate::errno::{ECONNREFUSED, ENETUNREACH};
use crate::every_caller;

#[test]
fn privileged_an_endpoint_is_reached_by_name_and_by_address() {
    let Some(worlds) = every_caller() else { return };
    let server = Server::echo().unwrap();
    for world in &worlds {
        let named = format!("peer=127.0.0.1:{}", server.port);
        let report = world
            .attempt(
                &["--connect", &named],
                &["echo", &format!("peer:{}", server.port), "hello"],
            )
            .unwrap();
        assert_eq!(report.of("echo").detail, "hello", "{report:?}");
        let literal = format!("127.0.0.1:{}", server.port);
        let report = world
            .attempt(&["--connect", &literal], &["echo", &literal, "hello"])
            .unwrap();
        assert_eq!(report.of("echo").detail, "hello", "{report:?}");
    }
}

#[test]
fn privileged_other_ports_and_addresses_fail_at_once_with_exact_errors() {
    let Some(worlds) = every_caller() else { return };
    let server = Server::echo().unwrap();
    let other = Server::echo().unwrap();
    for world in &worlds {
        let named = format!("peer=127.0.0.1:{}", server.port);
        for (target, errno) in [
            (format!("198.18.0.1:{}", other.port), ECONNREFUSED),
            (format!("127.0.0.1:{}", other.port), ECONNREFUSED),
            (format!("127.0.0.1:{}", server.port), ECONNREFUSED),
            (format!("10.1.2.3:{}", server.port), ENETUNREACH),
        ] {
            let report = world
                .attempt(&["--connect", &named], &["connect", &target])
                .unwrap();
            assert_eq!(report.of("connect").errno, errno, "{target}: {report:?}");
        }
    }
}

#[test]
fn privileged_large_transfers_keep_every_byte() {
    let Some(worlds) = every_caller() else { return };
    let server = Server::echo().unwrap();
    let named = format!("peer=127.0.0.1:{}", server.port);
    let text = "0123456789abcdef".repeat(6000);
    let report = worlds[0]
        .attempt(
            &["--connect", &named],
            &["echo", &format!("peer:{}", server.port), &text],
        )
        .unwrap();
    assert_eq!(report.of("echo").detail, text);
}

#[test]
fn privileged_public_and_metadata_addresses_need_the_operators_exact_word() {
    let Some(worlds) = every_caller() else { return };
    for (flags, said) in [
        (&["--connect", "8.8.8.8:53"][..], "--public"),
        (&["--connect", "dns=8.8.8.8:53"], "--public"),
        (&["--connect", "peer=0.0.0.0:80"], "0.0.0.0"),
        (&["--connect", "peer=224.0.0.1:80"], "224.0.0.1"),
        (&["--connect", "peer:0"], "port"),
        (&["--connect", "peer"], "--connect"),
    ] {
        let ran = worlds[0].run(flags, &["say"]).unwrap();
        assert_eq!(ran.code, Some(125), "{flags:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{flags:?}: {ran:?}");
    }
    let ran = worlds[0]
        .run(&["--connect", "169.254.169.254:80"], &["say"])
        .unwrap();
    assert_eq!(ran.code, Some(0), "named exactly: {ran:?}");
}

#[test]
fn privileged_refusals_are_told_as_text_and_as_json() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let ran = world
            .run(
                &[],
                &[
                    "connect",
                    "10.1.2.3:5432",
                    ",",
                    "write",
                    "/app/x",
                    ",",
                    "exec-from",
                    "/tmp",
                ],
            )
            .unwrap();
        for line in [
            "airtight: refused: connect 10.1.2.3:5432 (tcp): not an allowed endpoint; to allow it add --connect 10.1.2.3:5432",
            "airtight: refused: write /app/x",
            "airtight: refused: exec /tmp/probe-copy",
        ] {
            assert!(
                ran.stderr.lines().any(|found| found.starts_with(line)),
                "{line}: {ran:?}"
            );
        }
        let file = world.shown("work/audit.jsonl");
        world
            .run(&["--audit", &file], &["connect", "10.1.2.3:5432"])
            .unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["refused"], "connect");
        assert!(
            line["target"]
                .as_str()
                .unwrap()
                .starts_with("10.1.2.3:5432"),
            "{line}"
        );
        assert_eq!(line["fix"], "--connect 10.1.2.3:5432");
    }
}

#[test]
fn privileged_a_name_that_does_not_resolve_stops_the_launch() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let ran = world
            .run(&["--connect", "no-such-host.invalid:80"], &["say", "ran"])
            .unwrap();
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(!ran.stdout.contains("ran"), "{ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(
            matches!(lines[..], [problem, fix]
                if problem.contains("endpoint no-such-host.invalid: ")
                    && fix.contains("--connect no-such-host.invalid=ADDRESS:PORT")),
            "{ran:?}"
        );
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn privileged_a_published_port_leads_in_and_a_port_in_use_is_said() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let port = free_port();
        let published = format!("{port}:8080");
        let mut running = world
            .start(&[
                "run",
                "--publish",
                &published,
                "test/prober",
                "--",
                "serve-once",
                "0.0.0.0:8080",
            ])
            .unwrap();
        running.until("listening").unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(b"inward").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "inward");
        assert_eq!(running.wait().unwrap().code, Some(0));

        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let published = format!("{}:8080", taken.local_addr().unwrap().port());
        let ran = world.run(&["--publish", &published], &["say"]).unwrap();
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(
            ran.stderr.contains("in use") && ran.stderr.contains("fix:"),
            "{ran:?}"
        );
    }
}

/// A sandbox with one endpoint that has said that it is up, and goes on with `then`.
fn up(world: &World, named: &str, then: &[&str]) -> Background {
    let first = [
        "run",
        "--connect",
        named,
        "test/prober",
        "--",
        "say",
        "up",
        ",",
    ];
    let mut running = world.start(&[&first, then].concat()).unwrap();
    running.until("up").unwrap();
    running
}

/// Processes whose command line holds `text`.
fn pids_with(program: &str, parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let command =
                std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            status.contains(&format!("PPid:\t{parent}\n")) && command.contains(program)
        })
        .collect()
}

#[test]
fn privileged_when_the_gate_dies_the_sandbox_dies() {
    let Some(worlds) = every_caller() else { return };
    let server = Server::echo().unwrap();
    let named = format!("peer=127.0.0.1:{}", server.port);
    let running = up(&worlds[0], &named, &["sleep-forever"]);
    let gates = pids_with("airtight-gate", running.pid());
    assert_eq!(gates.len(), 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(gates[0]), Signal::SIGKILL).unwrap();
    let ran = running.wait().unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("the gate died"), "{ran:?}");
}

/// The gate stands still while the payload says its last words, so that it has them all before it when the sandbox is gone.
#[test]
fn privileged_the_last_words_of_a_payload_arrive() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let upstream = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = upstream.local_addr().unwrap();
        let named = format!("peer={address}");
        let peer = format!("peer:{}", address.port());
        let mut running = up(world, &named, &["tell-in-a-second", &peer, "last words"]);
        let gate = nix::unistd::Pid::from_raw(pids_with("airtight-gate", running.pid())[0]);
        nix::sys::signal::kill(gate, Signal::SIGSTOP).unwrap();
        running.until("tell-in-a-second").unwrap();
        // The payload ends meanwhile.
        std::thread::sleep(Duration::from_millis(200));
        nix::sys::signal::kill(gate, Signal::SIGCONT).unwrap();
        let (mut stream, _) = upstream.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        assert_eq!(running.wait().unwrap().code, Some(0));
    }
}

#[test]
fn privileged_a_signal_to_everything_at_once_leaves_the_end_to_the_payload() {
    let Some(worlds) = every_caller() else { return };
    let server = Server::echo().unwrap();
    let named = format!("peer=127.0.0.1:{}", server.port);
    for world in &worlds {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let running = up(world, &named, &["sleep-forever"]);
            let gates = pids_with("airtight-gate", running.pid());
            assert_eq!(gates.len(), 1);
            for gate in gates {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(gate), signal).unwrap();
            }
            // A gate that ends is seen at once.
            std::thread::sleep(Duration::from_millis(50));
            running.signal(signal).unwrap();
            let ran = running.wait().unwrap();
            assert_eq!(ran.code, Some(128 + signal as i32), "{ran:?}");
        }
    }
}

#[test]
fn privileged_the_gate_is_confined() {
    let Some(worlds) = every_caller() else { return };
    let server = Server::echo().unwrap();
    let named = format!("peer=127.0.0.1:{}", server.port);
    let running = up(&worlds[0], &named, &["sleep-forever"]);
    let gate = pids_with("airtight-gate", running.pid())[0];
    let status = std::fs::read_to_string(format!("/proc/{gate}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let open = std::fs::read_dir(format!("/proc/{gate}/fd"))
        .unwrap()
        .count();
    assert!(open < 16, "{open} descriptors");
}

#[test]
fn privileged_a_real_redis_is_served_and_nothing_beside_it() {
    if !has(&[Need::Root, Need::Program("redis-server")]) {
        return;
    }
    let world = World::new().unwrap();
    let port = free_port();
    let mut redis = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .arg(world.path("work"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let up = wait_until(Duration::from_secs(20), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let named = format!("redis=127.0.0.1:{port}");
    let report = world.attempt(
        &["--connect", &named],
        &["echo", &format!("redis:{port}"), "PING\r\nQUIT\r\n"],
    );
    redis.kill().unwrap();
    redis.wait().unwrap();
    assert!(up);
    assert!(report.unwrap().of("echo").detail.starts_with("+PONG"));
}
