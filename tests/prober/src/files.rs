//! Attempts on files: writes, new programs, mounts, what `/proc` shows.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::process::Command;

use crate::{Attempt, address, errno, syscall};

pub(crate) fn attempt(name: &str, args: &[&str]) -> Option<Attempt> {
    let first = args.first().copied().unwrap_or_default();
    Some(match name {
        "write" => fs::write(first, b"x")
            .map(|()| String::new())
            .map_err(|e| errno(&e)),
        "append" => OpenOptions::new()
            .append(true)
            .open(first)
            .map(|_| String::new())
            .map_err(|e| errno(&e)),
        "read" => read(first),
        "list" => list(first),
        "readlink" => fs::read_link(first)
            .map(|p| p.display().to_string())
            .map_err(|e| errno(&e)),
        "chmod" => fs::set_permissions(first, fs::Permissions::from_mode(0o777))
            .map(|()| String::new())
            .map_err(|e| errno(&e)),
        "unlink" => fs::remove_file(first)
            .map(|()| String::new())
            .map_err(|e| errno(&e)),
        "exec-from" => exec_from(first),
        "exec" => run(first),
        "mount-tmpfs" => mount(first, 0),
        "remount-rw" => mount(first, libc::MS_REMOUNT as usize | libc::MS_BIND as usize),
        "fsopen" => {
            syscall(libc::SYS_fsopen, [address(c"tmpfs"), 0, 0, 0, 0, 0]).map(|_| String::new())
        }
        "open-tree" => syscall(libc::SYS_open_tree, [at_cwd(), address(c"/"), 1, 0, 0, 0])
            .map(|_| String::new()),
        "mount-setattr" => {
            let attr = [0_u64; 4];
            syscall(
                libc::SYS_mount_setattr,
                [at_cwd(), address(c"/"), 0, address(&attr), 32, 0],
            )
            .map(|_| String::new())
        }
        "chroot" => {
            syscall(libc::SYS_chroot, [address(c"/"), 0, 0, 0, 0, 0]).map(|_| String::new())
        }
        "pivot-root" => syscall(
            libc::SYS_pivot_root,
            [address(c"."), address(c"."), 0, 0, 0, 0],
        )
        .map(|_| String::new()),
        "umount" => {
            syscall(libc::SYS_umount2, [address(c"/tmp"), 2, 0, 0, 0, 0]).map(|_| String::new())
        }
        "mknod-device" => {
            let mode = (libc::S_IFCHR | 0o666) as usize;
            syscall(
                libc::SYS_mknodat,
                [at_cwd(), address(c"/tmp/null"), mode, 0x103, 0, 0],
            )
            .map(|_| String::new())
        }
        "fill" => fill(first),
        "terminals" => terminals(),
        _ => return None,
    })
}

fn at_cwd() -> usize {
    libc::AT_FDCWD as usize
}

/// An empty read is told as such: that is what a masked file gives.
fn read(path: &str) -> Attempt {
    let kind = fs::metadata(path).map_err(|e| errno(&e))?;
    if kind.file_type().is_char_device() {
        return Ok("character device".to_owned());
    }
    let bytes = fs::read(path).map_err(|e| errno(&e))?;
    Ok(String::from_utf8_lossy(&bytes[..bytes.len().min(20_000)]).into_owned())
}

fn list(path: &str) -> Attempt {
    let mut names: Vec<String> = fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .map_err(|e| errno(&e))?;
    names.sort();
    Ok(names.join(" "))
}

/// Copies this program below `directory`, makes it executable and runs it.
fn exec_from(directory: &str) -> Attempt {
    let path = format!("{directory}/probe-copy");
    let run_copy = || {
        fs::copy("/proc/self/exe", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    run_copy().map_err(|e| errno(&e))?;
    run(&path)
}

fn run(path: &str) -> Attempt {
    let status = Command::new(path)
        .arg("exit")
        .arg("0")
        .status()
        .map_err(|e| errno(&e))?;
    if status.success() {
        Ok(String::new())
    } else {
        Err(libc::EIO)
    }
}

fn mount(target: &str, flags: usize) -> Attempt {
    let target = std::ffi::CString::new(target).map_err(|_| libc::EINVAL)?;
    let args = [
        address(c"none"),
        target.as_ptr() as usize,
        address(c"tmpfs"),
        flags,
        0,
        0,
    ];
    syscall(libc::SYS_mount, args).map(|_| String::new())
}

/// Writes until the file system says stop; how many MiB it took.
/// As many as there are, held until the end.
fn terminals() -> Attempt {
    let mut held = Vec::new();
    loop {
        match OpenOptions::new().read(true).write(true).open("/dev/ptmx") {
            Ok(terminal) => held.push(terminal),
            Err(error) if errno(&error) == libc::ENOSPC => return Ok(held.len().to_string()),
            Err(error) => return Err(errno(&error)),
        }
    }
}

fn fill(path: &str) -> Attempt {
    use std::io::Write as _;
    let mut file = File::create(path).map_err(|e| errno(&e))?;
    let block = vec![1_u8; 1 << 20];
    for written in 0..4096 {
        if let Err(error) = file.write_all(&block) {
            drop(fs::remove_file(path));
            return if errno(&error) == libc::ENOSPC {
                Ok(format!("{written}"))
            } else {
                Err(errno(&error))
            };
        }
    }
    Err(libc::EFBIG)
}
