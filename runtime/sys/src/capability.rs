//! The five capability sets as bits, by the system calls themselves: a set is one word, and what is there already costs no call.

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// `_LINUX_CAPABILITY_VERSION_3`: two words of each set.
const VERSION_3: u32 = 0x2008_0522;
/// No set has room for more.
const NUMBERS: u64 = 64;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`, of which there are two: the lower and the upper halves.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What `capset(2)` sets, a bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// The bounding set becomes what it shares with `keep`.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP` when there is anything to drop.
pub fn bound(keep: u64) -> Result<()> {
    // Past the last capability that this kernel has.
    let past = |error: &SysError, capability| error.errno == Errno::EINVAL && capability > 0;
    for capability in (0..NUMBERS).filter(|capability| keep >> capability & 1 == 0) {
        let refused = match prctl(libc::PR_CAPBSET_DROP, "PR_CAPBSET_DROP", capability, 0) {
            Ok(_) => continue,
            Err(error) if past(&error, capability) => return Ok(()),
            Err(error) => error,
        };
        // Whether it is there at all is asked only now: who may drop one has all of them, as a rule.
        match prctl(libc::PR_CAPBSET_READ, "PR_CAPBSET_READ", capability, 0) {
            Ok(0) => {}
            Ok(_) => return Err(refused),
            Err(error) if past(&error, capability) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Permitted capabilities survive the change of ids that comes next. An exec ends it.
///
/// # Errors
/// `EPERM` where securebits lock it.
pub fn keep_over_ids() -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS, 1", 1, 0).map(drop)
}

/// Effective, permitted and inheritable at once, then the ambient set, which the kernel takes only from what is both permitted and inheritable.
///
/// # Errors
/// `EPERM` for a capability that is not held.
pub fn set(sets: Sets, ambient: u64) -> Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: word(sets.effective, shift),
        permitted: word(sets.permitted, shift),
        inheritable: word(sets.inheritable, shift),
    };
    let data = [half(0), half(32)];
    // SAFETY: with version 3 the kernel reads one header and two data structures; both are live values of this frame with the C layout.
    let ret =
        unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) };
    if ret != 0 {
        let args = format!(
            "effective {:#x}, permitted {:#x}, inheritable {:#x}",
            sets.effective, sets.permitted, sets.inheritable
        );
        return Err(SysError::last("capset", args));
    }
    raise_ambient(ambient)
}

fn raise_ambient(ambient: u64) -> Result<()> {
    let clear = u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned());
    prctl(libc::PR_CAP_AMBIENT, "PR_CAP_AMBIENT_CLEAR_ALL", clear, 0)?;
    let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
    for capability in (0..NUMBERS).filter(|capability| ambient >> capability & 1 == 1) {
        prctl(
            libc::PR_CAP_AMBIENT,
            "PR_CAP_AMBIENT_RAISE",
            raise,
            capability,
        )?;
    }
    Ok(())
}

/// The calling thread's.
///
/// # Errors
/// `capget(2)`'s.
pub fn held() -> Result<Sets> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: with version 3 the kernel reads and may write one header, and writes two data structures; both are live values of this frame
    // with the C layout.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_capget,
            std::ptr::from_mut(&mut header),
            data.as_mut_ptr(),
        )
    };
    if ret != 0 {
        return Err(SysError::last("capget", ""));
    }
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok(Sets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

fn word(set: u64, shift: u32) -> u32 {
    u32::try_from(set >> shift & 0xffff_ffff).unwrap_or(u32::MAX)
}

fn prctl(
    option: libc::c_int,
    name: &'static str,
    first: libc::c_ulong,
    second: libc::c_ulong,
) -> Result<libc::c_int> {
    const ZERO: libc::c_ulong = 0;
    // SAFETY: every option used in this file reads its arguments as integers and touches no memory of ours.
    let ret = unsafe { libc::prctl(option, first, second, ZERO, ZERO) };
    if ret >= 0 {
        Ok(ret)
    } else {
        Err(SysError::last(
            "prctl",
            format!("{name}, {first}, {second}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_read_as_the_kernel_shows_them_and_setting_them_as_they_are_changes_nothing() {
        let shown = |name: &str| {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        let sets = held().unwrap();
        assert_eq!(
            (sets.effective, sets.permitted, sets.inheritable),
            (shown("CapEff"), shown("CapPrm"), shown("CapInh"))
        );
        let ambient = shown("CapAmb");
        set(sets, ambient).unwrap();
        assert_eq!((held().unwrap(), shown("CapAmb")), (sets, ambient));
        bound(u64::MAX).unwrap();
    }

    #[test]
    fn what_was_given_up_does_not_come_back() {
        // In a thread: the sets are its own.
        let outcome = std::thread::spawn(|| {
            let before = held().unwrap();
            set(Sets::default(), 0).unwrap();
            assert_eq!(held().unwrap(), Sets::default());
            (before, set(before, 0))
        });
        let (before, again) = outcome.join().unwrap();
        if before != Sets::default() {
            assert_eq!(again.unwrap_err().errno, Errno::EPERM);
        }
    }

    #[test]
    fn an_ambient_capability_must_be_inheritable() {
        let outcome = std::thread::spawn(|| {
            let only_permitted = Sets {
                inheritable: 0,
                ..held().unwrap()
            };
            (
                only_permitted,
                set(only_permitted, only_permitted.permitted),
            )
        });
        let (sets, raised) = outcome.join().unwrap();
        if sets.permitted != 0 {
            let text = raised.unwrap_err().to_string();
            assert!(
                text.starts_with("prctl(PR_CAP_AMBIENT_RAISE, 2, ") && text.contains("EPERM"),
                "{text}"
            );
        }
    }
}
