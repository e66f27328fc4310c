//! The gate in network namespaces that the test made: names through DNS, and ports published into a sandbox. Needs root.

#![expect(
    clippy::print_stderr,
    clippy::assertions_on_result_states,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails, its helpers too"
)]
#![forbid(unsafe_code)]

mod harness;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use airtight_plan::{GateAudit, GatePublished, Upstream};
use airtight_sys::netlink::Netlink;
use airtight_sys::socket::tcp_listen;
use harness::*;
use nix::sched::{CloneFlags, setns, unshare};

/// Runs `body` in a thread with a network of its own, `lo` up. What it spawns is there too.
fn in_new_network(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Netlink::open().unwrap().loopback_up().unwrap();
            body();
        });
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

type Table = Arc<Mutex<HashMap<&'static str, Vec<&'static str>>>>;

/// Answers A and AAAA from a table, with a time to live of 0. Names that begin with `big` only fit over TCP.
fn answer(question: &[u8], table: &Table, tcp: bool) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(std::str::from_utf8(&question[at + 1..end]).unwrap());
        at = end;
    }
    let name = labels.join(".");
    let v6 = question[at + 2] == 28;
    let known = table.lock().unwrap().get(name.as_str()).cloned();
    let truncated = name.starts_with("big") && !tcp;
    let addresses: Vec<IpAddr> = known
        .iter()
        .flatten()
        .map(|text| text.parse().unwrap())
        .collect();
    let addresses: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|one| one.is_ipv6() == v6 && !truncated)
        .collect();
    let mut message = question.to_vec();
    message[2] = 0x81 | u8::from(truncated) << 1;
    message[3] = if known.is_none() { 0x83 } else { 0x80 };
    message[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        message.extend_from_slice(&[0xc0, 12, 0, if v6 { 28 } else { 1 }, 0, 1, 0, 0, 0, 0]);
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        message.extend_from_slice(&[0, u8::try_from(octets.len()).unwrap()]);
        message.extend(octets);
    }
    message
}

/// On 127.0.0.1 of this thread's network, until the process ends.
fn name_server(table: &Table) {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    let (over_udp, over_tcp) = (table.clone(), table.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let message = answer(&buffer[..length], &over_udp, false);
            // Another's answer comes first: it must not count.
            let mut forged = message.clone();
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).unwrap();
            udp.send_to(&message, from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut prefix = [0; 2];
            stream.read_exact(&mut prefix).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(prefix))];
            stream.read_exact(&mut question).unwrap();
            let message = answer(&question, &over_tcp, true);
            stream
                .write_all(&u16::try_from(message.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(&message).unwrap();
        }
    });
}

/// Private addresses that reach this network but belong to no interface: what is not the host itself.
fn ip(words: &str) {
    assert!(
        Command::new("ip")
            .args(words.split(' '))
            .status()
            .unwrap()
            .success(),
        "ip {words}"
    );
}

fn upstream_at(address: &str) -> TcpListener {
    let listener = TcpListener::from(tcp_listen(&address.parse().unwrap(), 64).unwrap());
    listener.set_nonblocking(false).unwrap();
    let greeter = listener.try_clone().unwrap();
    let greeting = address.to_owned();
    std::thread::spawn(move || {
        for mut stream in greeter.incoming().flatten() {
            // A client may be gone; the next one may not.
            drop(stream.write_all(greeting.as_bytes()));
        }
    });
    listener
}

/// Where a connection ended up.
fn greeting(inside: &TcpListener) -> std::io::Result<String> {
    let mut text = String::new();
    patient(TcpStream::connect(inside.local_addr()?)?)
        .read_to_string(&mut text)
        .map(|_| text)
}

#[test]
fn privileged_names_are_resolved_outside_and_judged_at_each_dial() {
    if !root_or_skip() {
        return;
    }
    in_new_network(names);
}

fn names() {
    let table: Table = Arc::new(Mutex::new(HashMap::from([
        ("db.example", vec!["10.77.0.5"]),
        ("two.example", vec!["10.77.0.9", "10.77.0.5"]),
        ("six.example", vec!["fd77::5"]),
        ("big.example", vec!["10.77.0.5"]),
        ("short.corp.example", vec!["10.77.0.6"]),
        ("short", vec!["10.77.0.5"]),
        ("moved.example", vec!["10.77.0.5"]),
        ("gone.example", vec!["10.77.0.5"]),
        (
            "evil.example",
            vec![
                "127.0.0.1",
                "169.254.169.254",
                "1.1.1.1",
                "10.88.0.1",
                "::1",
                "fe80::1",
            ],
        ),
    ])));
    ip("route add local 10.77.0.0/24 dev lo");
    ip("-6 route add local fd77::/64 dev lo");
    Netlink::open()
        .unwrap()
        .loopback_address("10.88.0.1".parse().unwrap())
        .unwrap();
    name_server(&table);
    let _upstreams = [
        "10.77.0.5:5432",
        "10.77.0.6:5432",
        "[::]:5432",
        "10.88.0.1:5432",
    ]
    .map(upstream_at);

    let files = tempfile::tempdir().unwrap();
    let (hosts, resolv) = (files.path().join("hosts"), files.path().join("resolv.conf"));
    std::fs::write(&hosts, "10.77.0.5 filed\n").unwrap();
    std::fs::write(&resolv, "nameserver 127.0.0.1\nsearch corp.example\n").unwrap();
    let bind = |from: &std::path::Path, to: &str| format!("mount --bind {} {to}", from.display());
    let binds = [
        bind(&hosts, "/etc/hosts"),
        bind(&resolv, "/etc/resolv.conf"),
    ]
    .join(" && ");

    let names = [
        "db.example",
        "two.example",
        "six.example",
        "big.example",
        "short",
        "moved.example",
        "filed",
        "gone.example",
        "evil.example",
    ];
    let inside = names.map(|_| listener());
    let name = |host: &str| Upstream::Name {
        host: host.into(),
        port: 5432,
    };
    let endpoints = names
        .iter()
        .zip(&inside)
        .map(|(host, inside)| endpoint(inside, name(host)))
        .collect();
    let (mut lines, sink) = std::io::pipe().unwrap();
    let mut start = Start::new(endpoints, inside.iter().map(|one| one.as_fd()).collect())
        .audit(GateAudit::Text, sink.as_fd());
    start.wrap = format!("exec unshare -m --propagation private sh -c '{binds} && exec \"$0\"'");
    let _gate = start.ready();
    drop(sink);
    let [db, two, six, big, short, moved, filed, gone, evil] = &inside;

    for (case, inside, want) in [
        ("a name", db, "10.77.0.5:5432"),
        ("the second address", two, "10.77.0.5:5432"),
        ("IPv6 only", six, "[::]:5432"),
        ("over TCP", big, "10.77.0.5:5432"),
        ("below the search domain", short, "10.77.0.6:5432"),
        ("the hosts file", filed, "10.77.0.5:5432"),
        ("before it moves", moved, "10.77.0.5:5432"),
    ] {
        assert_eq!(greeting(inside).unwrap(), want, "{case}");
    }
    assert!(greeting(evil).is_err());
    // The kinds that its IPv6 addresses add are those of the IPv4 ones, and told once.
    let told = read_until(&mut lines, "evil.example=10.88.0.1:5432\n");
    for line in [
        "evil.example leads to 127.0.0.1, a loopback address; to allow it add --connect evil.example=127.0.0.1:5432",
        "evil.example leads to 169.254.169.254, a link-local address; to allow it add --connect evil.example=169.254.169.254:5432",
        "evil.example leads to 1.1.1.1, a public address; to allow it add --public",
        "evil.example leads to 10.88.0.1, an address of this host itself; to allow it add --connect evil.example=10.88.0.1:5432",
    ] {
        assert!(
            told.contains(&format!(
                "airtight: refused: connect evil.example:5432 (tcp): {line}\n"
            )),
            "{line}\n{told}"
        );
    }

    // Followed within the least time that an answer is kept.
    table
        .lock()
        .unwrap()
        .insert("moved.example", vec!["10.77.0.6"]);
    std::fs::write(&hosts, "10.77.0.6 filed\n").unwrap();
    let start = Instant::now();
    while greeting(moved).unwrap() != "10.77.0.6:5432" {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(greeting(filed).unwrap(), "10.77.0.6:5432");
    table.lock().unwrap().remove("gone.example");
    while greeting(gone).is_ok() {
        assert!(start.elapsed() < PATIENCE);
    }
    read_until(
        &mut lines,
        "gone.example:5432 (tcp): the name has no address\n",
    );

    // At the start it is the operator's mistake, and the end of the launch.
    let inside = listener();
    let mut start = Start::new(
        vec![endpoint(&inside, name("none.example"))],
        vec![inside.as_fd()],
    );
    start.wrap = format!("exec unshare -m --propagation private sh -c '{binds} && exec \"$0\"'");
    let (status, said) = start.unready().end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        said,
        "airtight-gate: endpoint none.example: the name has no address\n  fix: correct the name, or give its address: --connect none.example=ADDRESS:PORT\n"
    );
}

/// A process in a user and a network namespace of its own, `lo` up.
fn sandbox() -> Killed {
    let mut process = Killed(
        Command::new("unshare")
            .args(["-rn", "sh", "-c", "echo; exec sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    // It says so when it is inside.
    process
        .0
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut [0; 1])
        .unwrap();
    inside_of(&process, || Netlink::open().unwrap().loopback_up().unwrap());
    process
}

fn inside_of<T: Send>(process: &Killed, body: impl FnOnce() -> T + Send) -> T {
    let network = File::open(format!("/proc/{}/ns/net", process.0.id())).unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        });
        run.join().unwrap()
    })
}

#[test]
fn privileged_the_last_answer_through_a_published_port_arrives() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    let inside = inside_of(&sandbox, listener);
    let outside = listener();
    let published = GatePublished {
        outside: outside.local_addr().unwrap(),
        inside: inside.local_addr().unwrap(),
    };
    let mut start =
        Start::new(Vec::new(), Vec::new()).published(vec![published], vec![outside.as_fd()]);
    start.sandbox = sandbox;
    let mut gate = start.ready();
    let mut client = dial(outside.local_addr().unwrap());
    client.write_all(b"in").unwrap();
    let mut server = accept(&inside);
    server.read_exact(&mut [0; 2]).unwrap();
    let sent = fill(&mut server);
    drop((server, inside));
    gate.sandbox.0.kill().unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), sent);
    assert_eq!(gate.end().0.code(), Some(0));
}

#[test]
fn privileged_a_published_port_leads_inside_and_nowhere_else() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    let (four, six) = inside_of(&sandbox, || {
        (
            listener(),
            TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap(),
        )
    });
    let silent: SocketAddr = inside_of(&sandbox, || listener().local_addr().unwrap());
    let outside = [listener(), listener(), listener()];
    let targets = [
        four.local_addr().unwrap(),
        six.local_addr().unwrap(),
        silent,
    ];
    let published = |(outside, inside): (&TcpListener, SocketAddr)| GatePublished {
        outside: outside.local_addr().unwrap(),
        inside,
    };
    let published = outside.iter().zip(targets).map(published).collect();
    let (mut lines, sink) = std::io::pipe().unwrap();
    let mut start = Start::new(Vec::new(), Vec::new())
        .published(published, outside.iter().map(|one| one.as_fd()).collect())
        .audit(GateAudit::Json, sink.as_fd());
    start.sandbox = sandbox;
    let mut gate = start.ready();
    drop(sink);

    for (outside, inside) in outside.iter().zip([&four, &six]) {
        // More than are kept ready.
        let mut clients: Vec<TcpStream> = (0..40)
            .map(|_| dial(outside.local_addr().unwrap()))
            .collect();
        let mut servers: Vec<TcpStream> = (0..40).map(|_| accept(inside)).collect();
        for client in &mut clients {
            client.write_all(b"in").unwrap();
        }
        for server in &mut servers {
            server.read_exact(&mut [0; 2]).unwrap();
            server.write_all(b"out").unwrap();
        }
        for client in &mut clients {
            client.read_exact(&mut [0; 3]).unwrap();
        }
    }

    let nobody = TcpStream::connect(outside[2].local_addr().unwrap())
        .and_then(|stream| patient(stream).read(&mut [0; 1]));
    assert_eq!(
        nobody.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    let told = read_until(&mut lines, "\n");
    assert!(
        told.contains("\"refused\":\"publish\"") && told.contains("Connection refused"),
        "{told}"
    );

    // The child that makes the sockets is as confined, and goes too.
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", gate.pid())).unwrap();
    let nurse = children.trim().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{nurse}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    gate.sandbox.0.kill().unwrap();
    let (code, said) = gate.end();
    assert_eq!((code.code(), said.as_str()), (Some(0), ""));
    let start = Instant::now();
    while std::fs::read_to_string(format!("/proc/{nurse}/cmdline"))
        .is_ok_and(|text| !text.is_empty())
    {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn privileged_a_gate_that_cannot_enter_the_sandbox_does_not_serve() {
    if !root_or_skip() {
        return;
    }
    let outside = listener();
    let published = GatePublished {
        outside: outside.local_addr().unwrap(),
        inside: "127.0.0.1:80".parse().unwrap(),
    };
    // Not in a user namespace of its own: there is nothing to enter.
    let mut gate = Start::new(Vec::new(), Vec::new())
        .published(vec![published], vec![outside.as_fd()])
        .unready();
    let (status, said) = gate.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        said.starts_with("airtight-gate: sockets inside the sandbox: setns(")
            && said.lines().count() == 1,
        "{said}"
    );
}
