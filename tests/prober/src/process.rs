//! Attempts on processes and on what this one is.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;

use crate::{Attempt, errno, syscall};

/// Attempts that end the program: `without-call NR PROGRAM ARG…` (on a kernel that has not that system call), `exit N`, `signal N`, `sleep SECONDS`, `sleep-forever`, `steal PATH…`.
pub(crate) fn ends_with(name: &str, args: &[&str]) -> Option<u8> {
    let number = args
        .first()
        .and_then(|text| text.parse::<u8>().ok())
        .unwrap_or(0);
    match name {
        "exit" => Some(number),
        "signal" => {
            quietly(syscall(
                libc::SYS_kill,
                [std::process::id() as usize, usize::from(number), 0, 0, 0, 0],
            ));
            Some(97)
        }
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_secs(number.into()));
            Some(0)
        }
        "sleep-forever" => loop {
            std::thread::park();
        },
        "steal" => crate::thief::steal(args),
        "without-call" => Some(without_call(args)),
        _ => None,
    }
}

/// How often it can be done. The signals that it may bring are never delivered.
fn count(most: u32, mut once: impl FnMut() -> bool) -> String {
    // SAFETY: an all-zero set is a valid one, and is filled next.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to the set alone.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: it reads the set alone.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
    (0..most).take_while(|_| once()).count().to_string()
}

/// Fills standard error so that whoever writes there waits, does not let itself be asked to end, and is refused something.
fn clog_stderr() -> Attempt {
    let flags = syscall(libc::SYS_fcntl, [2, libc::F_GETFL as usize, 0, 0, 0, 0])? as usize;
    let set = |flags: usize| syscall(libc::SYS_fcntl, [2, libc::F_SETFL as usize, flags, 0, 0, 0]);
    set(flags | libc::O_NONBLOCK as usize)?;
    for size in [4096, 1] {
        while syscall(
            libc::SYS_write,
            [2, [b'x'; 4096].as_ptr() as usize, size, 0, 0, 0],
        )
        .is_ok()
        {}
    }
    set(flags)?;
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    quietly(
        fs::write("/refused", "x")
            .map(|()| 0)
            .map_err(|e| errno(&e)),
    );
    Ok(String::new())
}

/// Runs a program to which the kernel has not a system call: a filter answers `ENOSYS`. Not a payload's attempt, but a host for the product itself.
fn without_call(args: &[&str]) -> u8 {
    let Some((number, [program, args @ ..])) = args
        .split_first()
        .and_then(|(number, rest)| Some((number.parse::<u32>().ok()?, rest)))
    else {
        return 99;
    };
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program_bpf = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program_bpf.len() as u16,
        filter: program_bpf.as_mut_ptr(),
    };
    let prctl = |option: i32, a: usize, b: usize| {
        syscall(libc::SYS_prctl, [option as usize, a, b, 0, 0, 0])
    };
    let set = prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).and_then(|_| {
        let filter = std::ptr::from_ref(&filter) as usize;
        prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as usize,
            filter,
        )
    });
    if set.is_err() {
        return 98;
    }
    drop(std::process::Command::new(program).args(args).exec());
    97
}

pub(crate) fn attempt(name: &str, args: &[&str]) -> Option<Attempt> {
    let first = args.first().copied().unwrap_or_default();
    Some(match name {
        "say" => Ok(args.join(" ")),
        "status" => fs::read_to_string("/proc/self/status").map_err(|e| errno(&e)),
        "namespace" => fs::read_link(format!("/proc/self/ns/{first}"))
            .map(|p| p.display().to_string())
            .map_err(|e| errno(&e)),
        "descriptors" => descriptors(),
        "cwd" => std::env::current_dir()
            .map(|p| p.display().to_string())
            .map_err(|e| errno(&e)),
        "environment" => Ok(std::env::vars()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join("\n")),
        "stdin" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map(|_| text)
                .map_err(|e| errno(&e))
        }
        "tty" => Ok(std::io::IsTerminal::is_terminal(&std::io::stdin()).to_string()),
        "kill" => kill(first, 0),
        "setuid" => syscall(libc::SYS_setuid, [0; 6]).map(|_| String::new()),
        "processes" => fork_many(first.parse().unwrap_or(64)),
        "allocate" => allocate(first.parse().unwrap_or(64)),
        "orphans" => orphans(),
        "clog-stderr" => clog_stderr(),
        "queue-signals" => Ok(count(100_000, || {
            let me = std::process::id() as i32;
            let value = libc::sigval {
                sival_ptr: std::ptr::null_mut(),
            };
            // SAFETY: integers, and a value that nobody follows.
            unsafe { libc::sigqueue(me, libc::SIGRTMIN(), value) == 0 }
        })),
        "watch-files" => Ok(count(1000, || {
            syscall(libc::SYS_inotify_init1, [0; 6]).is_ok()
        })),
        "open-own-executable" => fs::OpenOptions::new()
            .write(true)
            .open("/proc/self/exe")
            .map(|_| String::new())
            .map_err(|e| errno(&e)),
        _ => return None,
    })
}

fn descriptors() -> Attempt {
    let mut shown = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(|e| errno(&e))? {
        let entry = entry.map_err(|e| errno(&e))?;
        // The directory stream that lists them is one, and gone when it is looked at.
        if let Ok(target) = fs::read_link(entry.path())
            && !target.starts_with("/proc")
        {
            shown.push(format!(
                "{}={}",
                entry.file_name().to_string_lossy(),
                target.display()
            ));
        }
    }
    shown.sort();
    Ok(shown.join("\n"))
}

fn kill(pid: &str, signal: usize) -> Attempt {
    let pid: usize = pid.parse().map_err(|_| libc::EINVAL)?;
    syscall(libc::SYS_kill, [pid, signal, 0, 0, 0, 0]).map(|_| String::new())
}

/// How many children can live at once, up to `most`.
fn fork_many(most: usize) -> Attempt {
    let mut children = Vec::new();
    let mut failed = None;
    for _ in 0..most {
        match fork() {
            Ok(0) => {
                quietly(syscall(libc::SYS_pause, [0; 6]));
                std::process::abort();
            }
            Ok(child) => children.push(child),
            Err(errno) => {
                failed = Some(errno);
                break;
            }
        }
    }
    let count = children.len();
    for child in children {
        quietly(syscall(libc::SYS_kill, [child, 9, 0, 0, 0, 0]));
        quietly(syscall(libc::SYS_wait4, [child, 0, 0, 0, 0, 0]));
    }
    failed.map_or_else(|| Ok(count.to_string()), Err)
}

/// An outcome that changes nothing: the process it was about is gone either way.
fn quietly<T>(_outcome: Result<T, i32>) {}

/// A fork by the plain `clone` call; both sides have one thread.
fn fork() -> Result<usize, i32> {
    let pid = syscall(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0, 0])?;
    usize::try_from(pid).map_err(|_| libc::EAGAIN)
}

/// Touches this many MiB.
fn allocate(mebibytes: usize) -> Attempt {
    let mut memory = vec![0_u8; mebibytes << 20];
    for at in (0..memory.len()).step_by(4096) {
        if let Some(byte) = memory.get_mut(at) {
            *byte = 1;
        }
    }
    Ok(memory
        .iter()
        .step_by(4096)
        .map(|&byte| usize::from(byte))
        .sum::<usize>()
        .to_string())
}

/// Leaves a grandchild to pid 1 and waits until it is gone: one that nobody reaps stays as a zombie.
fn orphans() -> Attempt {
    let child = fork()?;
    if child == 0 {
        quietly(fork().map(drop));
        quietly(syscall(libc::SYS_exit_group, [0; 6]));
        std::process::abort();
    }
    quietly(syscall(libc::SYS_wait4, [child, 0, 0, 0, 0, 0]));
    let zombies = || {
        let entries = fs::read_dir("/proc").map_err(|e| errno(&e))?;
        let stats = entries
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        Ok::<_, i32>(
            stats
                .filter(|stat| {
                    stat.rsplit(") ")
                        .next()
                        .is_some_and(|rest| rest.starts_with('Z'))
                })
                .count(),
        )
    };
    for _ in 0..10_000 {
        if zombies()? == 0 {
            return Ok("0".to_owned());
        }
        std::thread::yield_now();
    }
    Ok(zombies()?.to_string())
}
