//! When what was written goes to the disk.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// Has the kernel begin to write these bytes of a file to its disk, and does not wait. It promises nothing: a later `fsync` has less left to do.
///
/// # Errors
/// `sync_file_range(2)`'s: `ESPIPE` for what is no file, `ENOSYS` behind some filters.
pub fn start_writeback(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Writes these bytes of a file to its disk and waits until they are there; 0 bytes are all to the end. Nothing of them is dirty then, so a store through a shared
/// mapping faults again, which is when the kernel notes the file's times. Where a file system stacks on another (overlayfs) the pages are the other's and stay as
/// they are. No promise for a power failure: that is `fsync`'s.
///
/// # Errors
/// As [`start_writeback`]'s; those of the disk.
pub fn finish_writeback(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, offset, length, flags)
}

fn sync_file_range(file: impl AsFd, offset: u64, length: u64, flags: libc::c_uint) -> Result<()> {
    let wrong = |errno| SysError::new("sync_file_range", format!("{offset}, {length}"), errno);
    let (Ok(start), Ok(count)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(wrong(Errno::EINVAL));
    };
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: sync_file_range reads four integers and no memory; `file` is borrowed until it returns, so the descriptor is still that file's.
    let done = unsafe { libc::sync_file_range(descriptor, start, count, flags) };
    Errno::result(done).map(drop).map_err(wrong)
}
