//! Invariant 8: descriptors, standard streams and the working directory.

use std::io::{Read as _, Write as _};

use airtight_tests::{Without, parse};

use super::denied;
use crate::errno::{EACCES, ENOTSOCK, EPERM, EROFS};
use crate::every_caller;

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
