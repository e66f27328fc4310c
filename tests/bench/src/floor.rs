//! The kernel's own part of a start: one process that makes the namespaces, the mounts and the changes of a bundle's default config with bare system
//! calls, and nothing else: it reads no configuration, writes no state, makes no group. What a runtime takes above this is its own.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use airtight_sys::directory::{self, open_path};
use airtight_sys::mount::{self, Attributes};
use airtight_sys::namespace::{self, Forked};
use airtight_sys::netlink::Netlink;
use airtight_sys::open::open_in_root;
use airtight_sys::seccomp::{Insn, Notify, install};
use airtight_sys::signal::{Status, reap};
use airtight_sys::{credentials, process};
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::Result;

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);
/// `SECCOMP_RET_ALLOW`.
const ALLOW: Insn = Insn {
    code: 0x06,
    jt: 0,
    jf: 0,
    k: 0x7fff_0000,
};
/// Masked and read-only paths of the default config.
const COVERED: [&str; 10] = [
    "proc/acpi",
    "proc/kcore",
    "proc/keys",
    "proc/timer_list",
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
    "sys/firmware",
];

/// One start to exit, of a new process of this program.
pub(crate) fn sample(rootfs: &Path) -> Result<Duration> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--floor")
        .arg(rootfs)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let started = Instant::now();
    let output = command.output()?;
    let elapsed = started.elapsed();
    if output.status.success() {
        return Ok(elapsed);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("the bare start failed ({}): {}", output.status, text.trim()).into())
}

/// `--floor ROOTFS`: in the new process.
pub(crate) fn run(rootfs: &Path) -> Result<ExitCode> {
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    match namespace::clone_into(namespaces)? {
        Forked::Parent { pidfd, .. } => {
            nix::poll::poll(
                &mut [nix::poll::PollFd::new(
                    std::os::fd::AsFd::as_fd(&pidfd),
                    nix::poll::PollFlags::POLLIN,
                )],
                nix::poll::PollTimeout::NONE,
            )?;
            match reap(&pidfd)? {
                Some(Status::Exited(0)) => Ok(ExitCode::SUCCESS),
                other => Err(format!("the payload ended with {other:?}").into()),
            }
        }
        Forked::Child => {
            let failed = child(rootfs);
            if let Err(error) = failed {
                drop(std::io::Write::write_all(
                    &mut std::io::stderr(),
                    error.to_string().as_bytes(),
                ));
            }
            process::exit_now(125)
        }
    }
}

fn child(rootfs: &Path) -> Result<()> {
    mount::slave_propagation()?;
    Netlink::open()?.loopback_up()?;
    let target = open_path(rootfs, DIRECTORY)?;
    let root = mount::clone_tree(&target)?;
    mount::attach(&root, &target)?;
    mounts(&root)?;
    nodes(&root)?;
    // What this host's procfs lacks, a runtime passes over too.
    for path in COVERED
        .into_iter()
        .filter(|path| Path::new("/").join(path).exists())
    {
        let covered = open_in_root(&root, Path::new(path), OFlag::O_PATH)?;
        let tree = mount::clone_tree(&covered)?;
        mount::set_attributes(&tree, Attributes::FIXED, None)?;
        mount::attach(&tree, &covered)?;
    }
    directory::enter(&root)?;
    mount::pivot_to_working_directory()?;
    namespace::set_hostname("bare")?;
    process::new_session_keyring()?;
    process::new_session()?;
    process::close_above(2)?;
    process::drop_bounding_set()?;
    credentials::set_ids(0, 0, Some(&[]))?;
    credentials::clear_capabilities()?;
    process::set_no_new_privs()?;
    install(&[ALLOW], Notify::No)?;
    let program = CString::new("/bin/true")?;
    Err(process::exec(&program, std::slice::from_ref(&program), &[]).into())
}

fn mounts(root: &OwnedFd) -> Result<()> {
    for (filesystem, place) in [
        (c"proc", "proc"),
        (c"tmpfs", "dev"),
        (c"devpts", "dev/pts"),
        (c"tmpfs", "dev/shm"),
        (c"mqueue", "dev/mqueue"),
        (c"sysfs", "sys"),
        (c"tmpfs", "sys/fs/cgroup"),
    ] {
        if place.starts_with("dev/") {
            drop(directory::make_directory(root, Path::new(place), 0o755)?);
        }
        let target = open_in_root(root, Path::new(place), DIRECTORY)?;
        let made = mount::new_mount(filesystem, &[], Attributes::default())?;
        mount::attach(&made, &target)?;
    }
    Ok(())
}

fn nodes(root: &OwnedFd) -> Result<()> {
    directory::enter(root)?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        mknod(
            &Path::new("dev").join(name),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(major, minor),
        )?;
    }
    Ok(())
}
