//! Ids and capabilities of this process.

use caps::{CapSet, CapsHashSet};
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
        nix::unistd::setgroups(&gids).map_err(|errno| SysError::new("setgroups", format!("{groups:?}"), errno))?;
    }
    let (group, user) = (Gid::from_raw(gid), Uid::from_raw(uid));
    nix::unistd::setresgid(group, group, group).map_err(|errno| SysError::new("setresgid", gid.to_string(), errno))?;
    nix::unistd::setresuid(user, user, user).map_err(|errno| SysError::new("setresuid", uid.to_string(), errno))
}

/// Empties the ambient, inheritable, permitted and effective sets, and reads them back.
///
/// # Errors
/// `capset(2)`'s; `EPERM` when a set is not empty after it.
pub fn clear_capabilities() -> Result<()> {
    let fail = |call, set: CapSet| move |_| SysError::new(call, format!("{set:?}"), Errno::EPERM);
    caps::clear(None, CapSet::Ambient).map_err(fail("prctl", CapSet::Ambient))?;
    // Effective before permitted: what is effective must be permitted.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &CapsHashSet::default()).map_err(fail("capset", set))?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let left = caps::read(None, set).map_err(fail("capget", set))?;
        if !left.is_empty() {
            return Err(SysError::new("capset", format!("{set:?} keeps {left:?}"), Errno::EPERM));
        }
    }
    Ok(())
}
