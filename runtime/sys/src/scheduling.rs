//! How this process is scheduled, and what it pretends to be: CPU policy, CPUs, disk priority, personality.

use crate::error::{Result, SysError};

/// What `sched_setattr(2)` sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The kernel's `struct sched_attr`, as far as its first version goes.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SCHED_ATTR_SIZE_VER0: u32 = 48;
const _: () = assert!(size_of::<SchedAttr>() == SCHED_ATTR_SIZE_VER0 as usize);

/// No kernel has more CPUs (`CONFIG_NR_CPUS`).
const CPUS: u32 = 8192;

/// `sched_setattr(2)` of the calling thread.
///
/// # Errors
/// The call's.
pub fn set_scheduler(attributes: &Attributes) -> Result<()> {
    let own: libc::pid_t = 0;
    let flags: libc::c_uint = 0;
    let Attributes {
        policy,
        flags: policy_flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    } = *attributes;
    let raw = SchedAttr {
        size: SCHED_ATTR_SIZE_VER0,
        policy,
        flags: policy_flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    };
    // SAFETY: the kernel reads `size` bytes at the pointer, which is a live structure of that size.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            own,
            std::ptr::from_ref(&raw),
            flags,
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last("sched_setattr", format!("{attributes:?}")))
    }
}

/// `ioprio_set(2)` of the calling thread. `class` is `IOPRIO_CLASS_*`.
///
/// # Errors
/// The call's.
pub fn set_io_priority(class: u16, priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let own: libc::c_int = 0;
    let word = libc::c_int::from(priority) | libc::c_int::from(class) << CLASS_SHIFT;
    // SAFETY: the call takes three integers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, own, word) };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last(
            "ioprio_set",
            format!("IOPRIO_WHO_PROCESS, class {class}, {priority}"),
        ))
    }
}

/// The calling thread may use every CPU that its groups allow: the kernel takes away the others of a mask that has them all.
///
/// # Errors
/// `sched_setaffinity(2)`'s.
pub fn every_cpu() -> Result<()> {
    let mask = [u64::MAX; CPUS as usize / 64];
    set_mask(&mask, || "every CPU".to_owned())
}

/// `sched_setaffinity(2)` of the calling thread.
///
/// # Errors
/// `EINVAL` when none of the CPUs is there.
pub fn set_affinity(cpus: &[u32]) -> Result<()> {
    let highest = cpus.iter().copied().max().unwrap_or(0);
    if highest >= CPUS {
        let args = format!("{cpus:?}");
        return Err(SysError::new(
            "sched_setaffinity",
            args,
            nix::errno::Errno::EINVAL,
        ));
    }
    let mut mask = vec![0_u64; (highest as usize / 64) + 1];
    for cpu in cpus {
        if let Some(word) = mask.get_mut(*cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    set_mask(&mask, || format!("{cpus:?}"))
}

fn set_mask(mask: &[u64], args: impl Fn() -> String) -> Result<()> {
    let own: libc::pid_t = 0;
    // SAFETY: the kernel reads as many bytes at the pointer as the second argument says, which are those of the live slice.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            own,
            size_of_val(mask),
            mask.as_ptr(),
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last("sched_setaffinity", args()))
    }
}

/// `personality(2)`.
///
/// # Errors
/// The call's.
pub fn set_personality(flags: u64) -> Result<()> {
    // SAFETY: the call takes an integer.
    let ret = unsafe { libc::syscall(libc::SYS_personality, flags) };
    if ret >= 0 {
        Ok(())
    } else {
        Err(SysError::last("personality", format!("{flags:#x}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In threads of their own: scheduling is a thread's.
    fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn what_is_set_is_what_the_kernel_shows() {
        let allowed = apart(|| {
            set_affinity(&[0]).unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        assert!(allowed.contains("Cpus_allowed_list:\t0\n"), "{allowed}");
        let nice = apart(|| {
            let batch = Attributes {
                policy: libc::SCHED_BATCH.cast_unsigned(),
                nice: 7,
                ..Attributes::default()
            };
            set_scheduler(&batch).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<String> = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            // Fields 19 (nice) and 41 (policy) of proc(5), counted from the third.
            (fields[16].clone(), fields[38].clone())
        });
        assert_eq!(nice, ("7".into(), "3".into()));
        apart(|| set_io_priority(3, 0)).unwrap();
    }

    #[test]
    fn what_cannot_be_is_an_error_that_reads_like_the_call() {
        assert_eq!(
            set_affinity(&[8192]).unwrap_err().to_string(),
            "sched_setaffinity([8192]): EINVAL (Invalid argument)"
        );
        assert_eq!(
            set_io_priority(7, 0).unwrap_err().to_string(),
            "ioprio_set(IOPRIO_WHO_PROCESS, class 7, 0): EINVAL (Invalid argument)"
        );
        let text = set_scheduler(&Attributes {
            policy: 99,
            ..Attributes::default()
        });
        assert!(
            text.unwrap_err()
                .to_string()
                .starts_with("sched_setattr(Attributes { policy: 99")
        );
    }
}
