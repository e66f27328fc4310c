//! bpf(2), for the one kind of program that a group of cgroup v2 takes in place of the devices controller. What a program says is not decided here.

use std::mem::{align_of, offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// One instruction: the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    pub code: u8,
    /// Destination in the low half, source in the high half.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const _: () = assert!(size_of::<Insn>() == 8 && align_of::<Insn>() == 4);
// The two halves of `registers` are bit fields there.
const _: () = assert!(cfg!(target_endian = "little"));

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// More than one group ever has of ours.
const MOST_ATTACHED: usize = 64;

/// The parts of `union bpf_attr` that the commands here read; the kernel takes what is behind them as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    kernel: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

const _: () = assert!(offset_of!(Load, log_buffer) == 32 && offset_of!(Query, ids) == 16);

/// Loads a device program. Nothing is under it until it is attached.
///
/// # Errors
/// `EINVAL`, `EACCES` for a program that the kernel does not take, `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` or `CAP_SYS_ADMIN`.
pub fn load_device_program(program: &[Insn]) -> Result<OwnedFd> {
    let mut attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log: [0; 2],
        log_buffer: 0,
        kernel: 0,
        flags: 0,
    };
    let shown = || {
        format!(
            "BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions",
            program.len()
        )
    };
    owned(call(BPF_PROG_LOAD, &mut attributes, shown)?)
}

/// Puts the group of `directory` under `program`, beside what its parents are under. What was attached to this very group goes in the same step where
/// there was one: at no time is it under none.
///
/// # Errors
/// `bpf(2)`'s.
pub fn attach_device_program(directory: impl AsFd, program: &OwnedFd) -> Result<()> {
    let old = attached(&directory)?;
    let replace = if let [only] = old.as_slice() {
        Some(only)
    } else {
        None
    };
    let mut attributes = Attach {
        target: number(directory.as_fd().as_raw_fd()),
        program: number(program.as_raw_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replace.is_some() { BPF_F_REPLACE } else { 0 },
        replace: replace.map_or(0, |fd| number(fd.as_raw_fd())),
    };
    call(BPF_PROG_ATTACH, &mut attributes, || {
        "BPF_PROG_ATTACH, BPF_CGROUP_DEVICE".to_owned()
    })?;
    if replace.is_none() {
        for program in &old {
            detach(&directory, program)?;
        }
    }
    Ok(())
}

/// How many device programs are attached to this very group.
///
/// # Errors
/// `bpf(2)`'s.
pub fn attached_device_programs(directory: impl AsFd) -> Result<usize> {
    attached(directory).map(|programs| programs.len())
}

fn attached(directory: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST_ATTACHED];
    let mut attributes = Query {
        target: number(directory.as_fd().as_raw_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(ids.len()).unwrap_or(0),
        padding: 0,
    };
    call(BPF_PROG_QUERY, &mut attributes, || {
        "BPF_PROG_QUERY, BPF_CGROUP_DEVICE".to_owned()
    })?;
    let count = usize::try_from(attributes.count).unwrap_or(0);
    let mut programs = Vec::new();
    for id in ids.iter().take(count) {
        let mut attributes = ById {
            id: *id,
            next: 0,
            flags: 0,
        };
        match call(BPF_PROG_GET_FD_BY_ID, &mut attributes, || {
            format!("BPF_PROG_GET_FD_BY_ID, {id}")
        }) {
            Ok(fd) => programs.push(owned(fd)?),
            // Detached meanwhile.
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

fn detach(directory: impl AsFd, program: &OwnedFd) -> Result<()> {
    let mut attributes = Attach {
        target: number(directory.as_fd().as_raw_fd()),
        program: number(program.as_raw_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        replace: 0,
    };
    call(BPF_PROG_DETACH, &mut attributes, || {
        "BPF_PROG_DETACH, BPF_CGROUP_DEVICE".to_owned()
    })
    .map(drop)
}

fn call<T>(
    command: libc::c_int,
    attributes: &mut T,
    shown: impl Fn() -> String,
) -> Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `size` bytes at the pointer, which are those of one live struct laid out as its `union bpf_attr`. Addresses in
    // it are of slices and strings that the callers keep for the length of this call, with room for the counts that stand beside them.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if ret < 0 {
        return Err(SysError::last("bpf", shown()));
    }
    Ok(ret)
}

fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| SysError::new("bpf", "", Errno::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us alone, close-on-exec as all of bpf(2)'s are.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: RawFd) -> u32 {
    fd.cast_unsigned()
}
