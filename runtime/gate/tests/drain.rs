//! What a sandbox left on the way when it ended. The sandbox here is one process and what it would hold is the test's: closed when that is killed.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails, its helpers too"
)]
#![forbid(unsafe_code)]

mod harness;

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use airtight_plan::Upstream;
use harness::*;

#[test]
fn what_a_slow_peer_has_not_taken_yet_arrives_whole() {
    let (mut gate, inside, upstream) = one_endpoint();
    let mut client = dial(inside);
    let mut server = accept(&upstream);
    let sent = fill(&mut client);
    drop(client);
    gate.sandbox.0.kill().unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
    assert_eq!(gate.end().0.code(), Some(0));
}

#[test]
fn a_connection_of_the_last_moment_is_still_made() {
    let (mut gate, inside, upstream) = one_endpoint();
    gate.stopped(|sandbox| {
        for text in ["first", "last"] {
            dial(inside).write_all(text.as_bytes()).unwrap();
        }
        sandbox.0.kill().unwrap();
    });
    let mut got: Vec<String> = Vec::new();
    for _ in 0..2 {
        let mut text = String::new();
        accept(&upstream).read_to_string(&mut text).unwrap();
        got.push(text);
    }
    got.sort();
    assert_eq!(got, ["first", "last"]);
    assert_eq!(gate.end().0.code(), Some(0));
}

#[test]
fn what_nobody_takes_is_cut_and_not_ended_as_if_it_were_all() {
    let (mut gate, inside, upstream) = one_endpoint();
    let mut client = dial(inside);
    let mut server = accept(&upstream);
    fill(&mut client);
    drop(client);
    gate.sandbox.0.kill().unwrap();
    assert_eq!(gate.end().0.code(), Some(0));
    let ended = server.read_to_end(&mut Vec::new());
    assert_eq!(
        ended.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn nobody_waits_for_what_has_nothing_to_say() {
    let inside = listener();
    // A test network (RFC 5737): nobody answers.
    let nowhere = Upstream::Address("192.0.2.1:9".parse().unwrap());
    let endpoints = vec![endpoint(&inside, nowhere)];
    let mut gate = Start::new(endpoints, vec![inside.as_fd()]).ready();
    // Not closed, as one that an own process of the sandbox would be.
    let held = dial(inside.local_addr().unwrap());
    gate.sandbox.0.kill().unwrap();
    assert_eq!(gate.end().0.code(), Some(0));
    drop(held);
}
