//! Rights by path and port, at the ABI that this kernel has.

use std::collections::BTreeSet;
use std::path::PathBuf;

use airtight_profiles::Policy;

use crate::control::{Lacking, Refusal, Result};
use crate::mounts::Mounts;
use crate::{Control, HostFacts, LandlockRules, Spec};

/// `LANDLOCK_ACCESS_NET_BIND_TCP` (6.7).
const ABI_NET: u32 = 4;
/// `LANDLOCK_SCOPE_*` (6.12).
const ABI_SCOPES: u32 = 6;

/// The rules, or none on a kernel without Landlock, which is then lacking.
pub(crate) fn landlock(
    spec: &Spec,
    policy: &Policy,
    facts: &HostFacts,
    mounts: &Mounts,
    lacking: &mut Lacking,
) -> Result<Option<LandlockRules>> {
    let ports = bind_ports(spec, policy)?;
    let abi = facts.landlock_abi;
    if abi == 0 {
        lacking.add(
            Control::Landlock,
            "the kernel has no Landlock (5.13, and `landlock` in the boot parameter lsm=)",
        );
        return Ok(None);
    }
    if abi < ABI_NET {
        lacking.add(Control::LandlockNet, "Landlock's TCP rules need Linux 6.7");
    }
    if abi < ABI_SCOPES {
        lacking.add(Control::LandlockScopes, "Landlock's scopes need Linux 6.12");
    }
    let mut no_execute: Vec<PathBuf> = ["/dev", "/proc", "/sys"].map(PathBuf::from).to_vec();
    no_execute.extend(mounts.readable.iter().cloned());
    let mut write = mounts.writable.clone();
    write.push("/dev/shm".into());
    let devices = [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts",
    ];
    Ok(Some(LandlockRules {
        abi,
        no_execute,
        write,
        devices: devices
            .iter()
            .map(|node| PathBuf::from("/dev").join(node))
            .collect(),
        bind_tcp: if abi < ABI_NET {
            BTreeSet::new()
        } else {
            ports
        },
        scopes: abi >= ABI_SCOPES,
    }))
}

/// Published ports, those of the policy, and 0: the port that the kernel picks for a client is no service.
fn bind_ports(spec: &Spec, policy: &Policy) -> Result<BTreeSet<u16>> {
    const MAX_PORTS: usize = 1024;
    if let Some(port) = spec
        .listen
        .iter()
        .find(|port| **port != 0 && !policy.listen.covers(**port, **port))
    {
        return Err(Refusal::new(
            format!("--listen {port}"),
            "the policy does not allow this port",
            "allow it under `listen` in the ceiling",
        ));
    }
    if policy.listen.count() > MAX_PORTS {
        return Err(Refusal::new(
            "`listen`",
            format!("more than {MAX_PORTS} ports"),
            "name the ports that are bound",
        ));
    }
    let published = spec.publish.iter().map(|publish| publish.port);
    Ok(published
        .chain(spec.listen.iter().copied())
        .chain(policy.listen.iter())
        .chain([0])
        .collect())
}
