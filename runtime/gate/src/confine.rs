//! The gate gives up everything but what it serves with. A control that fails ends the gate before it has carried a byte.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use airtight_plan::{GatePlan, Upstream};
use airtight_sys::landlock::{Restriction, restrict};
use airtight_sys::{SysError, credentials, process, seccomp, socket};

use crate::error::GateError;
use crate::filter::{self, When};

/// Nobody: owns nothing, and its host's administrators know the number.
const NOBODY: u32 = 65534;

/// The ports that the gate dials: the endpoints', the published ones inside, and DNS over TCP where there is a name to resolve.
#[must_use]
pub(crate) fn dialled_ports(plan: &GatePlan) -> Vec<u16> {
    let mut ports: BTreeSet<u16> = plan
        .published
        .iter()
        .map(|published| published.inside.port())
        .collect();
    for endpoint in &plan.endpoints {
        match &endpoint.upstream {
            Upstream::Address(address) => ports.insert(address.port()),
            Upstream::Name { port, .. } => ports.insert(*port) | ports.insert(53),
        };
    }
    ports.into_iter().collect()
}

/// The order matters: what needs a capability comes before there is none, no_new_privs before Landlock and seccomp, seccomp last.
pub(crate) fn confine(
    landlock_abi: u32,
    ports: &[u16],
    calls: &[(libc::c_long, When)],
) -> Result<(), GateError> {
    let program = filter::program(calls);
    // The working directory would keep a mount busy.
    process::change_directory(Path::new("/"))?;
    socket::no_core_file()?;
    match process::drop_bounding_set() {
        // Without CAP_SETPCAP the set cannot be changed; it bounds what an exec gains, which no_new_privs makes nothing below.
        Err(SysError { errno, .. }) if errno as i32 == libc::EPERM => {}
        other => other?,
    }
    leave_root()?;
    credentials::clear_capabilities()?;
    process::set_no_new_privs()?;
    process::set_not_dumpable()?;
    match process::deny_write_execute() {
        // Before Linux 6.3; the filter below refuses executable memory as well.
        Err(SysError { errno, .. }) if errno as i32 == libc::EINVAL => {}
        other => other?,
    }
    // 0 where the operator accepted that the host has no Landlock: the plan is not made otherwise.
    if landlock_abi > 0 {
        let tcp = landlock_abi >= 4;
        restrict(&Restriction {
            abi: landlock_abi,
            rules: &[],
            bind_tcp: tcp.then_some(&[]),
            connect_tcp: tcp.then_some(ports),
            scopes: landlock_abi >= 6,
        })?;
    }
    seccomp::install(&program, seccomp::Notify::No)?;
    Ok(())
}

/// Root without a capability still owns root's files and processes. In a user namespace that does not map another id there is none to go to,
/// and root there is no root of the host.
fn leave_root() -> Result<(), GateError> {
    let read = |path: &'static str| {
        std::fs::read_to_string(path).map_err(|error| GateError::Read { path, error })
    };
    // Its owner is the effective id as long as the process is dumpable, which it is until below.
    let path = "/proc/self";
    let owner = std::fs::metadata(path)
        .map_err(|error| GateError::Read { path, error })?
        .uid();
    if owner != 0
        || !maps(&read("/proc/self/uid_map")?, NOBODY)
        || !maps(&read("/proc/self/gid_map")?, NOBODY)
    {
        return Ok(());
    }
    Ok(credentials::set_ids(NOBODY, NOBODY, Some(&[]))?)
}

/// Whether the text of an id map has `id` on its inside.
fn maps(text: &str, id: u32) -> bool {
    text.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) => id >= inside && id - inside < count,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use airtight_plan::{GateAudit, GateDeath, GateEndpoint, GatePublished};

    use super::*;

    #[test]
    fn an_id_map_maps_its_ranges() {
        for (text, want) in [
            ("         0          0 4294967295\n", true),
            ("0 1000 1\n", false),
            ("0 1000 1\n1 100000 65536\n", true),
            ("65535 1 1\n", false),
            ("", false),
        ] {
            assert_eq!(maps(text, NOBODY), want, "{text:?}");
        }
    }

    #[test]
    fn only_ports_of_the_plan_are_dialled() {
        let endpoint = |upstream| GateEndpoint {
            display: String::new(),
            inside: Vec::new(),
            upstream,
            public: false,
        };
        let mut plan = GatePlan {
            sandbox: "box".into(),
            landlock_abi: 6,
            endpoints: vec![endpoint(Upstream::Address(
                "10.0.0.1:6379".parse().unwrap(),
            ))],
            published: vec![GatePublished {
                outside: "127.0.0.1:8080".parse().unwrap(),
                inside: "127.0.0.1:80".parse().unwrap(),
            }],
            on_death: GateDeath::Kill,
            audit: GateAudit::Off,
        };
        assert_eq!(dialled_ports(&plan), [80, 6379]);
        plan.endpoints.push(endpoint(Upstream::Name {
            host: "db".into(),
            port: 5432,
        }));
        assert_eq!(dialled_ports(&plan), [53, 80, 5432, 6379]);
    }
}
