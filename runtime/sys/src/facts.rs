//! Questions to the kernel that change nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use caps::{CapSet, Capability};

/// Whether the kernel has `PR_SET_MDWE` (6.3).
#[must_use]
pub fn has_deny_write_execute() -> bool {
    // SAFETY: PR_GET_MDWE takes four zeros and returns flags.
    unsafe { libc::prctl(libc::PR_GET_MDWE, 0, 0, 0, 0) >= 0 }
}

/// Whether this process may mount and set ids in its user namespace: `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID` are effective.
#[must_use]
pub fn is_administrator() -> bool {
    let needed = [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_SETUID,
        Capability::CAP_SETGID,
    ];
    caps::read(None, CapSet::Effective)
        .is_ok_and(|held| needed.iter().all(|one| held.contains(one)))
}

/// Whether a file carries capabilities, as an alternative to set-uid (`security.capability`).
#[must_use]
pub fn has_file_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both strings end at a zero; with size 0 the kernel writes nothing and returns the length.
    unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        ) > 0
    }
}
