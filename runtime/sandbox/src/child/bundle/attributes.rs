//! What a bundle's process carries: limits, priorities, capabilities, labels. Each as the plan has it, or the end.

use airtight_plan::bundle::{Capabilities, IoPriority, LabelModule, Scheduler};
use airtight_sys::capability::{self, Sets};
use airtight_sys::{SysError, attribute, credentials, landlock, namespace, process, scheduling};
use nix::errno::Errno;

use super::super::{Failure, Result};

pub(super) fn domainname(name: &str) -> Result<()> {
    Ok(namespace::set_domainname(name)?)
}

/// Lowering takes `CAP_SYS_RESOURCE` on the host: a caller that lacks it gets what it asked for only if that is what it has already.
pub(super) fn oom_score_adj(value: i32) -> Result<()> {
    const NAME: &str = "oom_score_adj";
    match attribute::write(NAME, &value.to_string()) {
        Err(error) if error.errno == Errno::EACCES => {
            if attribute::read(NAME)?.trim() == value.to_string() {
                return Ok(());
            }
            Err(error.into())
        }
        other => Ok(other?),
    }
}

pub(super) fn scheduler(scheduler: &Scheduler) -> Result<()> {
    let Scheduler {
        policy,
        nice,
        priority,
        flags,
        runtime,
        deadline,
        period,
    } = *scheduler;
    let attributes = scheduling::Attributes {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    };
    Ok(scheduling::set_scheduler(&attributes)?)
}

pub(super) fn io_priority(priority: IoPriority) -> Result<()> {
    Ok(scheduling::set_io_priority(
        priority.class,
        priority.priority,
    )?)
}

/// Where a filter around all of us refuses the call, the caller's CPUs stay: fewer of them give the payload nothing.
pub(super) fn every_cpu() -> Result<()> {
    match scheduling::every_cpu() {
        Err(SysError {
            errno: Errno::EPERM | Errno::ENOSYS,
            ..
        }) => Ok(()),
        done => Ok(done?),
    }
}

pub(super) fn affinity(cpus: &[u32]) -> Result<()> {
    Ok(scheduling::set_affinity(cpus)?)
}

pub(super) fn personality(flags: u64) -> Result<()> {
    Ok(scheduling::set_personality(flags)?)
}

pub(super) fn rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    Ok(process::set_rlimit_number(resource, soft, hard)?)
}

pub(super) fn lower_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    Ok(process::lower_rlimit_number(resource, soft, hard)?)
}

pub(super) fn own_streams(uid: u32) -> Result<()> {
    Ok(credentials::own_streams(uid)?)
}

pub(super) fn bounding_set(keep: u64) -> Result<()> {
    Ok(capability::bound(keep)?)
}

pub(super) fn keep_capabilities() -> Result<()> {
    Ok(capability::keep_over_ids()?)
}

pub(super) fn capabilities(sets: &Capabilities) -> Result<()> {
    let Capabilities {
        // Set by its own step, while `CAP_SETPCAP` is still there.
        bounding: _,
        effective,
        inheritable,
        permitted,
        ambient,
    } = *sets;
    let three = Sets {
        effective,
        permitted,
        inheritable,
    };
    Ok(capability::set(three, ambient)?)
}

/// The label that the next exec gets. Two modules can have a say in `attr/exec`; AppArmor has a file of its own since 5.8.
pub(super) fn exec_label(module: LabelModule, label: &str) -> Result<()> {
    let (name, value) = match module {
        LabelModule::AppArmor => ("AppArmor", format!("exec {label}")),
        LabelModule::SeLinux => ("SELinux", label.to_owned()),
    };
    let written = match module {
        LabelModule::AppArmor => match attribute::write("attr/apparmor/exec", &value) {
            Err(SysError {
                call: "openat2",
                errno: Errno::ENOENT,
                ..
            }) => attribute::write("attr/exec", &value),
            other => other,
        },
        LabelModule::SeLinux => attribute::write("attr/exec", &value),
    };
    written.map_err(|error| {
        // EINVAL is what a kernel answers whose module is built in and off.
        let absent = (error.call == "openat2" && error.errno == Errno::ENOENT)
            || (error.call == "write" && error.errno == Errno::EINVAL);
        if absent {
            Failure::Said(format!(
                "the process asks for the {name} label `{label}`, and {name} is not enabled on this host ({error})"
            ))
        } else {
            error.into()
        }
    })
}

pub(super) fn scopes(abstract_unix: bool, signal: bool) -> Result<()> {
    Ok(landlock::restrict_scopes(abstract_unix, signal)?)
}
