//! The gate as the sandbox sees it: what passes, what is refused, how it ends. The built binary, over loopback.

#![expect(
    clippy::unused_io_amount,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails, its helpers too"
)]
#![forbid(unsafe_code)]

mod harness;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use airtight_plan::{GateAudit, GateEndpoint, Upstream};
use airtight_sys::socket::{raise_open_files, recv_fds, reset_on_close, send_fds};
use harness::*;

/// The kind of the error that a dead connection gives, whichever of the two calls sees it first.
fn dead(stream: &mut TcpStream) -> ErrorKind {
    match stream.read(&mut [0; 16]) {
        Ok(length) => panic!("{length} bytes from a connection that should be cut"),
        Err(error) => error.kind(),
    }
}

/// Dials what is refused beyond the gate: the reset may come before the call that dials has returned.
fn refused(address: std::net::SocketAddr) {
    let error = TcpStream::connect(address)
        .and_then(|stream| patient(stream).read(&mut [0; 16]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bytes_and_ends_pass_each_way_on_their_own() {
    let (_gate, inside, upstream) = one_endpoint();
    let mut client = dial(inside);
    client.write_all(b"ask").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server = accept(&upstream);
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ask");
    server.write_all(b"answer").unwrap();
    drop(server);
    text.clear();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
}

#[test]
fn a_reset_passes_both_ways() {
    let (_gate, inside, upstream) = one_endpoint();
    for from_client in [true, false] {
        let mut client = dial(inside);
        let mut server = accept(&upstream);
        // One round, so that both are joined.
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        let mut other = if from_client {
            reset_on_close(&client).unwrap();
            drop(client);
            server
        } else {
            reset_on_close(&server).unwrap();
            drop(server);
            client
        };
        assert_eq!(
            dead(&mut other),
            ErrorKind::ConnectionReset,
            "from client: {from_client}"
        );
    }
}

#[test]
fn a_reset_is_not_held_up_by_a_full_receiver() {
    let (_gate, inside, upstream) = one_endpoint();
    let mut client = dial(inside);
    let server = accept(&upstream);
    client.set_nonblocking(true).unwrap();
    // Until nothing is taken for a while: every buffer on the way is full, and the server never reads.
    let mut idle = 0;
    while idle < 50 {
        match client.write(&[7; 65536]) {
            Ok(_) => idle = 0,
            Err(_) => {
                idle += 1;
                std::thread::yield_now();
            }
        }
    }
    reset_on_close(&client).unwrap();
    drop(client);
    let mut server = server;
    let mut all = vec![0; 1 << 20];
    let error = loop {
        match server.read(&mut all) {
            Ok(0) => panic!("ended in order"),
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(error, ErrorKind::ConnectionReset);
}

#[test]
fn an_upstream_that_refuses_resets_the_client_and_is_told_once() {
    let inside = listener();
    let nobody = { listener().local_addr().unwrap() };
    let (mut lines, sink) = std::io::pipe().unwrap();
    let endpoints = vec![endpoint(&inside, Upstream::Address(nobody))];
    let gate = Start::new(endpoints, vec![inside.as_fd()])
        .audit(GateAudit::Text, sink.as_fd())
        .ready();
    drop(sink);
    for _ in 0..100 {
        refused(inside.local_addr().unwrap());
    }
    drop(gate);
    let mut told = String::new();
    lines.read_to_string(&mut told).unwrap();
    assert_eq!(
        told,
        format!("airtight: refused: connect {nobody} (tcp): {nobody}: Connection refused\n")
    );
}

#[test]
fn an_audit_pipe_that_nobody_reads_stops_no_traffic() {
    let (inside, upstream, refusing) = (listener(), listener(), listener());
    let nobody = { listener().local_addr().unwrap() };
    let (_lines, mut sink) = std::io::pipe().unwrap();
    let endpoints = vec![
        endpoint(&inside, Upstream::Address(upstream.local_addr().unwrap())),
        endpoint(&refusing, Upstream::Address(nobody)),
    ];
    let start = Start::new(endpoints, vec![inside.as_fd(), refusing.as_fd()]);
    sink.write_all(&[b'x'; 65536]).unwrap();
    let _gate = start.audit(GateAudit::Json, sink.as_fd()).ready();
    refused(refusing.local_addr().unwrap());
    let mut client = dial(inside.local_addr().unwrap());
    client.write_all(b"x").unwrap();
    accept(&upstream).read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn what_is_handed_over_is_held_against_the_plan() {
    let (inside, other) = (listener(), listener());
    let upstream = Upstream::Address(other.local_addr().unwrap());
    let plan = |listener: &TcpListener| -> Vec<GateEndpoint> {
        vec![endpoint(listener, upstream.clone())]
    };
    let at = inside.local_addr().unwrap();
    let elsewhere = other.local_addr().unwrap();
    let connected = TcpStream::connect(at).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for (case, fds, want) in [
        (
            "elsewhere",
            vec![other.as_fd()],
            format!("the listener for {at} is at {elsewhere}"),
        ),
        (
            "too many",
            vec![inside.as_fd(), other.as_fd()],
            "2 listeners for 1 addresses of the plan".into(),
        ),
        (
            "connected",
            vec![connected.as_fd()],
            format!("the descriptor for {at} is not a listening TCP socket"),
        ),
        (
            "a file",
            vec![file.as_fd()],
            format!("the descriptor for {at} is not a listening TCP socket"),
        ),
    ] {
        let mut gate = Start::new(plan(&inside), fds).unready();
        let (status, said) = gate.end();
        assert_eq!(
            (status.code(), said),
            (Some(1), format!("airtight-gate: {want}\n")),
            "{case}"
        );
        assert_eq!(
            recv_fds(&gate.control, &mut [0; 8], 0).unwrap().0,
            0,
            "{case}: READY"
        );
    }
}

#[test]
fn too_few_listeners_and_an_end_before_ready_are_the_end() {
    let inside = listener();
    let endpoints = vec![endpoint(
        &inside,
        Upstream::Address(inside.local_addr().unwrap()),
    )];
    let mut start = Start::new(endpoints, vec![inside.as_fd()]);
    start.inside.clear();
    let mut gate = start.unready();
    // It waits for the one that is missing; the sandbox gives up.
    gate.sandbox.0.kill().unwrap();
    let (status, said) = gate.end();
    assert_eq!(
        (status.code(), said.as_str()),
        (
            Some(1),
            "airtight-gate: the sandbox ended before it was ready\n"
        )
    );

    let (process, control) = spawn("exec");
    drop(control);
    let mut gate = Gate {
        process,
        sandbox: sleeper(),
        control: inside.into(),
    };
    let (status, said) = gate.end();
    let want = "airtight-gate: the control socket ended before the sandbox was ready\n";
    assert_eq!((status.code(), said.as_str()), (Some(1), want));
}

#[test]
fn hostile_messages_are_the_end() {
    for (case, message, want) in [
        (
            "no plan first",
            b"L".to_vec(),
            "airtight-gate: unexpected message on the control socket: the plan does not come first\n",
        ),
        (
            "no JSON",
            b"P{".to_vec(),
            "airtight-gate: the plan is not one: ",
        ),
        (
            "too long",
            vec![b'P'; 70000],
            "airtight-gate: recvmsg(65537 bytes, 253 descriptors): EMSGSIZE",
        ),
    ] {
        let (process, control) = spawn("exec");
        send_fds(&control, &message, &[]).unwrap();
        let mut gate = Gate {
            process,
            sandbox: sleeper(),
            control,
        };
        let (status, said) = gate.end();
        assert_eq!(status.code(), Some(1), "{case}");
        assert!(
            said.starts_with(want) && said.lines().count() == 1,
            "{case}: {said}"
        );
    }
}

#[test]
fn it_goes_with_the_sandbox_and_takes_every_connection_along() {
    let (mut gate, inside, upstream) = one_endpoint();
    let mut client = dial(inside);
    let mut server = accept(&upstream);
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0; 1]).unwrap();
    gate.sandbox.0.kill().unwrap();
    let (status, said) = gate.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    assert_eq!(
        TcpStream::connect(inside).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    for side in [&mut client, &mut server] {
        assert_eq!(dead(side), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_killed_gate_leaves_nothing_open() {
    let (mut gate, inside, upstream) = one_endpoint();
    let mut client = dial(inside);
    let mut server = accept(&upstream);
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0; 1]).unwrap();
    gate.process.0.kill().unwrap();
    gate.process.0.wait().unwrap();
    // What was on its way may be a part of something: its end is no end of that.
    for side in [&mut client, &mut server] {
        assert_eq!(dead(side), ErrorKind::ConnectionReset);
    }
    assert_eq!(
        TcpStream::connect(inside).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn it_is_confined_before_it_is_ready() {
    use std::os::unix::fs::MetadataExt as _;
    let (gate, ..) = one_endpoint();
    let none = "0000000000000000";
    for (key, want) in [
        ("CapEff", none),
        ("CapPrm", none),
        ("CapInh", none),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Threads", "1"),
    ] {
        assert_eq!(gate.status(key), want, "{key}");
    }
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        assert_eq!(gate.status("CapBnd"), none);
        assert_eq!(gate.status("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(gate.status("Groups"), "");
        let links = std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap();
        let names: Vec<String> = links
            .map(|link| {
                std::fs::read_link(link.unwrap().path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        let known = |name: &str| {
            [
                "socket:",
                "pipe:",
                "anon_inode:[eventpoll]",
                "anon_inode:[pidfd]",
                "pidfd:",
                "/dev/null",
            ]
            .iter()
            .any(|kind| name.starts_with(kind))
        };
        // What whoever runs the tests left open in this process too; the sandbox closes such before it starts a gate.
        let inherited: Vec<String> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|link| std::fs::read_link(link.unwrap().path()).ok())
            .map(|path| path.display().to_string())
            .collect();
        let files: Vec<_> = names
            .iter()
            .filter(|name| !known(name) && !inherited.contains(name))
            .collect();
        assert!(
            files.iter().all(|name| name.ends_with("/hosts")
                || name.ends_with("resolv.conf")
                || name.contains("/resolv")),
            "{names:?}"
        );
    }
}

#[test]
fn a_thousand_connections_are_carried_at_once() {
    raise_open_files().unwrap();
    let (gate, inside, upstream) = one_endpoint();
    let server = std::thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..1000).map(|_| accept(&upstream)).collect();
        for mut stream in streams {
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
        }
    });
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| dial(inside)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .write_all(&u32::try_from(number).unwrap().to_be_bytes())
            .unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut word = [0; 4];
        client.read_exact(&mut word).unwrap();
        assert_eq!(u32::from_be_bytes(word) as usize, number);
    }
    server.join().unwrap();
    drop(clients);
    // Each descriptor comes back: the next connection needs the others to be gone only at the limit, so look.
    let open = || std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).map_or(0, Iterator::count);
    while open() > 30 {
        std::thread::yield_now();
    }
}

/// A stream that anybody can check: bytes of a linear congruential generator.
fn stream_of(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed;
    move |buffer| {
        for word in buffer.chunks_exact_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes());
        }
    }
}

#[test]
fn large_streams_arrive_whole_both_ways_at_once() {
    const TOTAL: usize = 64 << 20;
    const CHUNK: usize = 1 << 16;
    let (_gate, inside, upstream) = one_endpoint();
    let both = |stream: TcpStream, send: u64, expect: u64| {
        let mut writer = stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let (mut fill, mut buffer) = (stream_of(send), vec![0; CHUNK]);
            for _ in 0..TOTAL / CHUNK {
                fill(&mut buffer);
                writer.write_all(&buffer).unwrap();
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let reading = std::thread::spawn(move || {
            let mut stream = stream;
            let (mut fill, mut want, mut got) = (stream_of(expect), vec![0; CHUNK], vec![0; CHUNK]);
            for chunk in 0..TOTAL / CHUNK {
                fill(&mut want);
                stream.read_exact(&mut got).unwrap();
                assert!(want == got, "chunk {chunk}");
            }
            assert_eq!(stream.read(&mut got).unwrap(), 0);
        });
        [writing, reading]
    };
    let client = both(dial(inside), 1, 2);
    let server = both(accept(&upstream), 2, 1);
    for thread in client.into_iter().chain(server) {
        thread.join().unwrap();
    }
}

#[test]
fn readers_that_do_not_read_cost_no_memory() {
    let (gate, inside, upstream) = one_endpoint();
    let mut held = Vec::new();
    for _ in 0..50 {
        let client = dial(inside);
        let server = accept(&upstream);
        client.set_nonblocking(true).unwrap();
        let mut idle = 0;
        while idle < 20 {
            match (&client).write(&[1; 65536]) {
                Ok(_) => idle = 0,
                Err(_) => {
                    idle += 1;
                    std::thread::yield_now();
                }
            }
        }
        held.push((client, server));
    }
    let kilobytes: u64 = gate
        .status("VmRSS")
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(kilobytes < 16 << 10, "{kilobytes} kB resident");
    // And the others are still served.
    let mut client = dial(inside);
    client.write_all(b"x").unwrap();
    accept(&upstream).read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn at_the_limit_of_descriptors_connections_wait_for_their_turn() {
    let (inside, upstream) = (listener(), listener());
    let endpoints = vec![endpoint(
        &inside,
        Upstream::Address(upstream.local_addr().unwrap()),
    )];
    let mut start = Start::new(endpoints, vec![inside.as_fd()]);
    // (100 - 64 - 1 listener - 2 for a name) / 2 = 16 connections.
    start.wrap = "ulimit -n 100; exec".into();
    let _gate = start.ready();
    let address = inside.local_addr().unwrap();
    let clients: Vec<TcpStream> = (0..40).map(|_| dial(address)).collect();
    let first: Vec<TcpStream> = (0..16).map(|_| accept(&upstream)).collect();
    upstream.set_nonblocking(true).unwrap();
    assert_eq!(upstream.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    upstream.set_nonblocking(false).unwrap();
    // The first ones end, the others come.
    drop(first);
    for (number, mut client) in clients.into_iter().enumerate() {
        if number >= 16 {
            client.write_all(b"x").unwrap();
            let mut server = accept(&upstream);
            server.read_exact(&mut [0; 1]).unwrap();
        }
        drop(client);
    }
}

#[test]
fn both_families_of_an_endpoint_lead_to_one_upstream() {
    let Ok(six) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: no IPv6 here");
        return;
    };
    let (four, upstream) = (listener(), listener());
    let mut both = endpoint(&four, Upstream::Address(upstream.local_addr().unwrap()));
    both.inside.push(six.local_addr().unwrap());
    let _gate = Start::new(vec![both], vec![four.as_fd(), six.as_fd()]).ready();
    for inside in [four, six] {
        let mut client = dial(inside.local_addr().unwrap());
        client.write_all(b"x").unwrap();
        accept(&upstream).read_exact(&mut [0; 1]).unwrap();
    }
}

#[test]
fn by_hand_it_says_what_it_is() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new(BINARY)
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, out, _) = run(&["--help"]);
    assert!(
        code == Some(0) && out.contains("started by airtight, not by hand"),
        "{out}"
    );
    assert_eq!(
        run(&["--version"]).1,
        format!("airtight-gate {}\n", env!("CARGO_PKG_VERSION"))
    );
    let (code, _, err) = run(&[]);
    assert!(
        code == Some(1)
            && err.contains("airtight starts this program, not a person")
            && err.lines().count() == 1,
        "{err}"
    );
    assert_eq!(run(&["--x"]).0, Some(1));
}
