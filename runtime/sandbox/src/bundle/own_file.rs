//! Running from a file of ours that cannot be written, whoever gets hold of it: the same program, executed once more.

use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use airtight_sys::directory::open_path_follow;
use airtight_sys::mount::{Change, change, copy_tree};
use airtight_sys::{SysError, process, springboard};
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// In the environment of the second one. What it claims is checked.
pub(super) const MARK: &str = "AIRTIGHT_FIXED_FILE";

/// This is the second one.
pub(super) fn is_fixed() -> bool {
    std::env::var_os(MARK).is_some() && is_unwritable().unwrap_or(false)
}

/// On a read-only mount, or sealed.
fn is_unwritable() -> Result<bool, SysError> {
    let own = own_file(OFlag::O_RDONLY)?;
    Ok(process::is_on_read_only_mount(&own)? || springboard::is_sealed(&own))
}

/// Executes this program again with the same arguments: from a sealed copy in memory; where files in memory cannot be executed (`vm.memfd_noexec`), from a detached
/// read-only copy of the mount that its file is on, since writing asks the mount that a file was opened by. Nothing must have been begun before. Returns only on
/// failure.
///
/// The mount comes second although it costs no copy: it leads to the same inode, and an open for writing that the mount refuses has made the file busy for a
/// moment. A container with a handle on it could keep everyone else from executing the runtime (`ETXTBSY`).
#[must_use]
pub fn run_from_fixed_file() -> SysError {
    if std::env::var_os(MARK).is_some() {
        // The second one did not find what the first one made: it would go on for ever.
        return SysError::new(
            "execveat",
            "a copy of this program that cannot be written",
            Errno::ELOOP,
        );
    }
    match copied().or_else(|_| mounted()) {
        Ok(file) => execute(&file),
        Err(error) => error,
    }
}

fn mounted() -> Result<OwnedFd, SysError> {
    let tree = copy_tree(own_file(OFlag::O_PATH)?, false)?;
    let read_only = Change {
        set: nix::libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    change(&tree, &read_only, None)?;
    Ok(tree)
}

fn copied() -> Result<OwnedFd, SysError> {
    let failed = |call: &'static str| {
        move |error: std::io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            SysError::new(call, "/proc/self/exe", errno)
        }
    };
    let mut own = std::fs::File::from(own_file(OFlag::O_RDONLY)?);
    let mut file = std::fs::File::from(springboard::executable_memory_file()?);
    std::io::copy(&mut own, &mut file).map_err(failed("copy"))?;
    file.flush().map_err(failed("write"))?;
    let file = OwnedFd::from(file);
    springboard::seal(&file)?;
    Ok(file)
}

fn own_file(flags: OFlag) -> Result<OwnedFd, SysError> {
    open_path_follow(Path::new("/proc/self/exe"), flags)
}

fn execute(file: &OwnedFd) -> SysError {
    let text = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let args: Vec<CString> = std::env::args_os().map(text).collect();
    let mut env: Vec<CString> = std::env::vars_os()
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            text(entry)
        })
        .collect();
    env.push(text(format!("{MARK}=1").into()));
    process::exec_fd(file, &args, &env)
}
