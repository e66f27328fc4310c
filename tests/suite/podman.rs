//! podman gets from airtight-runtime what it gets from runc, as root and as a user: `tests/podman/compare` says how.

use std::process::Command;

use airtight_tests::{Need, binary, has, repository};

#[test]
fn privileged_podman_gets_the_same_as_from_runc() {
    if !has(&[
        Need::Root,
        Need::Program("podman"),
        Need::Program("conmon"),
        Need::Program("runc"),
        Need::File("/bin/busybox"),
        Need::SubordinateIds,
    ]) {
        return;
    }
    let output = Command::new(repository().join("tests/podman/compare"))
        .arg("/usr/sbin/runc")
        .arg(binary("airtight-runtime"))
        .arg("compat")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
