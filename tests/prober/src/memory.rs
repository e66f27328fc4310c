//! Attempts to run code that is in no layer.

use std::ffi::CStr;

use crate::{Attempt, address, syscall};

const PAGE: usize = 4096;
/// `ret` on x86-64; never executed here, only mapped.
const RET: u8 = 0xc3;

pub(crate) fn attempt(name: &str, args: &[&str]) -> Option<Attempt> {
    let number = args.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (r, w, x) = (
        libc::PROT_READ as usize,
        libc::PROT_WRITE as usize,
        libc::PROT_EXEC as usize,
    );
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    Some(match name {
        "mmap-write-execute" => map(r | w | x, anonymous, usize::MAX).map(|_| String::new()),
        "mmap-execute" => map(r | x, anonymous, usize::MAX).map(|_| String::new()),
        "mprotect-execute" => map(r | w, anonymous, usize::MAX).and_then(|at| protect(at, r | x)),
        "pkey-mprotect-execute" => map(r | w, anonymous, usize::MAX).and_then(|at| {
            let at = usize::try_from(at).map_err(|_| libc::EFAULT)?;
            syscall(libc::SYS_pkey_mprotect, [at, PAGE, r | x, usize::MAX, 0, 0])
                .map(|_| String::new())
        }),
        "mmap-execute-file" => file_map(c"/tmp/code", r | x),
        "mmap-execute-stream" => {
            map(r | x, libc::MAP_PRIVATE as usize, number).map(|_| String::new())
        }
        "mmap-execute-zero" => device_map(r | w | x),
        "memfd" => memfd(0).map(|_| String::new()),
        "memfd-exec" => memfd(0x10).and_then(exec_descriptor),
        "memfd-exec-plain" => memfd(0).and_then(exec_descriptor),
        "memfd-map-execute" => memfd(0)
            .and_then(|fd| map(r | x, libc::MAP_PRIVATE as usize, fd).map(|_| String::new())),
        "shm-execute" => shared_segment(),
        "personality-read-implies-exec" => {
            syscall(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]).map(|_| String::new())
        }
        _ => return None,
    })
}

fn map(protection: usize, flags: usize, fd: usize) -> Result<i64, i32> {
    syscall(libc::SYS_mmap, [0, PAGE, protection, flags, fd, 0])
}

fn protect(at: i64, protection: usize) -> Attempt {
    let at = usize::try_from(at).map_err(|_| libc::EFAULT)?;
    syscall(libc::SYS_mprotect, [at, PAGE, protection, 0, 0, 0]).map(|_| String::new())
}

fn file_map(path: &CStr, protection: usize) -> Attempt {
    std::fs::write(path.to_string_lossy().as_ref(), vec![RET; PAGE])
        .map_err(|e| crate::errno(&e))?;
    let fd = open(path, libc::O_RDONLY)?;
    map(protection, libc::MAP_PRIVATE as usize, fd).map(|_| String::new())
}

fn device_map(protection: usize) -> Attempt {
    let fd = open(c"/dev/zero", libc::O_RDWR)?;
    map(protection, libc::MAP_PRIVATE as usize, fd).map(|_| String::new())
}

fn open(path: &CStr, flags: i32) -> Result<usize, i32> {
    let at = libc::AT_FDCWD as usize;
    let fd = syscall(
        libc::SYS_openat,
        [at, path.as_ptr() as usize, flags as usize, 0, 0, 0],
    )?;
    usize::try_from(fd).map_err(|_| libc::EBADF)
}

fn memfd(flags: usize) -> Result<usize, i32> {
    let fd = syscall(
        libc::SYS_memfd_create,
        [address(c"probe"), flags, 0, 0, 0, 0],
    )?;
    let fd = usize::try_from(fd).map_err(|_| libc::EBADF)?;
    let bytes = std::fs::read("/proc/self/exe").map_err(|e| crate::errno(&e))?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = syscall(
            libc::SYS_write,
            [fd, rest.as_ptr() as usize, rest.len(), 0, 0, 0],
        )?;
        rest = rest
            .get(usize::try_from(written).unwrap_or(0)..)
            .unwrap_or_default();
    }
    Ok(fd)
}

/// By its name in `/proc`, as `fexecve` does where `execveat` is not there.
fn exec_descriptor(fd: usize) -> Attempt {
    let status = std::process::Command::new(format!("/proc/self/fd/{fd}"))
        .args(["exit", "0"])
        .status()
        .map_err(|e| crate::errno(&e))?;
    if status.success() {
        Ok(String::new())
    } else {
        Err(libc::EIO)
    }
}

fn shared_segment() -> Attempt {
    const SHM_EXEC: usize = 0o100_000;
    let id = syscall(
        libc::SYS_shmget,
        [0, PAGE, 0o600 | libc::IPC_CREAT as usize, 0, 0, 0],
    )?;
    let id = usize::try_from(id).map_err(|_| libc::EINVAL)?;
    let attached = syscall(libc::SYS_shmat, [id, 0, SHM_EXEC, 0, 0, 0]).map(|_| String::new());
    syscall(libc::SYS_shmctl, [id, libc::IPC_RMID as usize, 0, 0, 0, 0])?;
    attached
}
