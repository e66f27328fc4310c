//! Invariant 7: the network, and what crosses beside it.

use airtight_tests::{Need, Server, Without, has};

use super::{CANARY, LANDLOCK, bites, denied};
use crate::errno::{EACCES, ECONNREFUSED, ENETUNREACH, EPERM, ESRCH};
use crate::every_caller;

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
