//! Ids and capabilities of this process.

use std::os::fd::BorrowedFd;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::error::{Result, SysError};

/// Real, effective and saved ids at once; groups first, while the right to set them is there. `groups: None` leaves them, for a namespace where
/// `setgroups` is denied.
///
/// # Errors
/// `setgroups(2)`'s, `setresgid(2)`'s, `setresuid(2)`'s.
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    if let Some(groups) = groups {
        let gids: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&gids)
            .map_err(|errno| SysError::new("setgroups", format!("{groups:?}"), errno))?;
    }
    let (group, user) = (Gid::from_raw(gid), Uid::from_raw(uid));
    nix::unistd::setresgid(group, group, group)
        .map_err(|errno| SysError::new("setresgid", gid.to_string(), errno))?;
    nix::unistd::setresuid(user, user, user)
        .map_err(|errno| SysError::new("setresuid", uid.to_string(), errno))
}

/// Gives what 0, 1 and 2 are open on to `uid`, so that the payload can open it again by its name in `/proc/self/fd`. A null device is everybody's,
/// and what this process may not give away stays as it is.
///
/// # Errors
/// `fstat(2)`'s, `fchown(2)`'s but `EPERM`, `EINVAL` (an owner that the user namespace does not map) and `EROFS`.
pub fn own_streams(uid: u32) -> Result<()> {
    /// `/dev/null` is the character device 1:3.
    const NULL: u64 = nix::sys::stat::makedev(1, 3);
    for number in 0..3 {
        // SAFETY: the caller filled the standard streams; the borrowed number is used within this turn and closed by nobody in it.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = match nix::sys::stat::fstat(fd) {
            // Closed by the caller: nothing to give.
            Err(Errno::EBADF) => continue,
            other => other.map_err(|errno| SysError::new("fstat", number.to_string(), errno))?,
        };
        if stat.st_uid == uid || stat.st_rdev == NULL {
            continue;
        }
        match nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => {}
            Err(errno) => return Err(SysError::new("fchown", format!("{number}, {uid}"), errno)),
        }
    }
    Ok(())
}

/// Empties the ambient, inheritable, permitted and effective sets, and reads them back.
///
/// # Errors
/// `capset(2)`'s; `EPERM` when a set is not empty after it.
pub fn clear_capabilities() -> Result<()> {
    reduce_to(&CapsHashSet::default())
}

/// The same, but for `CAP_DAC_OVERRIDE` if it is held: what root may do to directories without a write bit.
///
/// # Errors
/// `capset(2)`'s; `EPERM` when the sets are not so after it.
pub fn keep_dac_override() -> Result<()> {
    let held = caps::read(None, CapSet::Permitted)
        .map_err(|_| SysError::new("capget", format!("{:?}", CapSet::Permitted), Errno::EPERM))?;
    reduce_to(
        &held
            .into_iter()
            .filter(|capability| *capability == Capability::CAP_DAC_OVERRIDE)
            .collect(),
    )
}

fn reduce_to(keep: &CapsHashSet) -> Result<()> {
    let fail = |call, set: CapSet| move |_| SysError::new(call, format!("{set:?}"), Errno::EPERM);
    caps::clear(None, CapSet::Ambient).map_err(fail("prctl", CapSet::Ambient))?;
    let none = CapsHashSet::default();
    // Effective before permitted: what is effective must be permitted.
    let sets = [
        (CapSet::Inheritable, &none),
        (CapSet::Effective, keep),
        (CapSet::Permitted, keep),
    ];
    for (set, want) in sets {
        caps::set(None, set, want).map_err(fail("capset", set))?;
    }
    for (set, want) in sets.into_iter().chain([(CapSet::Ambient, &none)]) {
        let left = caps::read(None, set).map_err(fail("capget", set))?;
        if left != *want {
            return Err(SysError::new(
                "capset",
                format!("{set:?} is {left:?}"),
                Errno::EPERM,
            ));
        }
    }
    Ok(())
}
