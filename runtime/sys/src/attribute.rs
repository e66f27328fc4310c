//! What a process writes about itself below `/proc/self`. The file that is opened is proven to be procfs's own: a mount over it, or a tree
//! that only looks like procfs, would take the write and change nothing (CVE-2019-16884, CVE-2025-52881).

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use crate::directory::{open_path, write_value};
use crate::error::{Result, SysError};
use crate::process::filesystem_type;

/// `f_type` of `statfs(2)`, from the kernel's `magic.h`.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Opens `/proc/self/NAME`.
///
/// # Errors
/// `EXDEV` where `/proc` is no procfs or something is mounted over the file, else `openat2(2)`'s.
pub fn open(name: &str, flags: OFlag) -> Result<OwnedFd> {
    let proc = open_path(Path::new("/proc"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    if filesystem_type(&proc)? != PROC_SUPER_MAGIC {
        return Err(SysError::new(
            "fstatfs",
            "\"/proc\" is no procfs",
            Errno::EXDEV,
        ));
    }
    let path = Path::new("self").join(name);
    // `self` is a link of procfs, which stays below it; magic links do not, and NO_XDEV refuses whatever is mounted further down.
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    openat2(&proc, &path, how)
        .map_err(|errno| SysError::new("openat2", format!("procfs, {path:?}"), errno))
}

/// Writes `value` to `/proc/self/NAME` in one call.
///
/// # Errors
/// As [`open`]'s, and `write(2)`'s.
pub fn write(name: &str, value: &str) -> Result<()> {
    let file = open(name, OFlag::O_WRONLY)?;
    write_value(&file, value.as_bytes(), &format!("/proc/self/{name}"))
}

/// Reads `/proc/self/NAME`, a short one.
///
/// # Errors
/// As [`open`]'s, and `read(2)`'s.
pub fn read(name: &str) -> Result<String> {
    let file = open(name, OFlag::O_RDONLY)?;
    let mut buffer = [0_u8; 256];
    let length = nix::unistd::read(&file, &mut buffer)
        .map_err(|errno| SysError::new("read", format!("/proc/self/{name}"), errno))?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_read_and_written_in_procfs_itself() {
        let present = read("oom_score_adj").unwrap();
        write("oom_score_adj", present.trim()).unwrap();
        assert_eq!(read("oom_score_adj").unwrap(), present);
        assert_eq!(
            write("oom_score_adj", "5000").unwrap_err().errno,
            Errno::EINVAL
        );
        assert_eq!(
            open("no-such-file", OFlag::O_RDONLY)
                .unwrap_err()
                .to_string(),
            "openat2(procfs, \"self/no-such-file\"): ENOENT (No such file or directory)"
        );
        // Magic links lead out of procfs.
        assert_eq!(
            open("exe", OFlag::O_RDONLY).unwrap_err().errno,
            Errno::ELOOP
        );
    }
}
