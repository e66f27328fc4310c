//! The door: `(Spec, Policy, HostFacts) -> Plan`. Pure; every decision about a launch is made here and nowhere else.
//!
//! [`plan`] either returns a [`Plan`], which the loops of `airtight-sandbox` carry out without a further choice, or a [`Refusal`] that
//! says what was asked, why it cannot be, and what to do. A control that the host lacks is refused too, unless the operator accepted it
//! by name: then it is in [`Plan::shortfalls`]. Nothing here reads a file, the environment or the kernel: a test writes any host down.

#![forbid(unsafe_code)]

pub mod address;
pub mod bundle;
mod check;
mod control;
mod facts;
mod identity;
mod landlock;
mod limits;
mod mounts;
mod network;
mod order;
mod seccomp;
mod spec;
mod steps;
mod table;

use airtight_profiles::Policy;

pub use airtight_profiles::{ArgCondition, ArgOp, SeccompFilter, SyscallRule, unified_number};

pub use control::{Control, Refusal};
pub use facts::*;
pub use identity::ROOT_IDS;
pub use spec::*;
pub use steps::*;
pub use table::table;

use control::{Lacking, Result};
use order::Parts;

/// Decides one launch.
///
/// # Errors
/// What was asked that cannot or must not be, or what this host lacks.
pub fn plan(spec: &Spec, policy: &Policy, facts: &HostFacts) -> Result<Plan> {
    check::check(spec)?;
    check::code(spec, policy)?;
    let mut lacking = Lacking::default();
    for (present, name, fix) in [
        (
            facts.seccomp,
            "seccomp",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        (
            facts.overlay,
            "overlay",
            "load it (modprobe overlay), or use Linux 5.11 when rootless",
        ),
    ] {
        if !present {
            return Err(Refusal::new(
                name,
                "this kernel does not give it, and no launch goes without",
                fix,
            ));
        }
    }
    let identity = identity::identity(spec, facts)?;
    let idmap = identity.root && facts.idmapped_mounts;
    if identity.root && !idmap {
        lacking.add(
            Control::IdmappedMounts,
            "idmapped mounts below an overlay need Linux 5.19",
        );
    } else if identity.root
        && let Some(layer) = facts.plain_layers.first()
    {
        let why = format!(
            "the file system of {} takes no id map, so that its files are nobody's inside",
            layer.display()
        );
        lacking.add(Control::IdmappedMounts, &why);
    }
    let network = network::network(spec, policy, facts)?;
    let mounts = mounts::mounts(spec, policy, &network.hosts, idmap)?;
    let cgroups = limits::cgroups(spec, facts)?;
    let landlock = landlock::landlock(spec, policy, facts, &mounts, &mut lacking)?;
    let seccomp = seccomp::filter(spec, policy, facts, &mut lacking);
    let shortfalls = lacking.settle(&spec.accepted)?;
    let gate = network.gate.clone();
    let parts = Parts {
        spec,
        policy,
        facts,
        identity,
        idmap,
        network,
        mounts,
        cgroups,
        landlock,
        seccomp,
    };
    Ok(Plan {
        id: spec.id.clone(),
        parent: order::parent(&parts),
        child: order::child(parts),
        gate,
        audit: spec.audit.clone(),
        terminal: spec.process.terminal,
        timeout_millis: spec.limits.timeout_millis,
        shortfalls,
    })
}
