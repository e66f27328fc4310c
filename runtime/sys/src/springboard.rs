//! The program between our own and a container's: a page of code in a sealed file, which executes what its arguments say.
//!
//! Until an exec has succeeded, `/proc/self/exe` is whatever the process was before it. The kernel follows that name for a container that makes it its
//! program or the interpreter of its script, and would hand over our own file on the host, for writing once nothing runs it (CVE-2019-5736). A process that
//! became this first has nothing there that could be written or would be worth it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// What the springboard wants to be called: a container that runs it as `/proc/self/exe` calls it otherwise, and would have it execute itself for ever.
pub const NAME: &std::ffi::CStr = c"airtight-springboard";

/// Arguments of the springboard: [`NAME`], the path of the program, then the program's own. What fails is told on stderr and by the exit code, 127 for what is missing
/// and 126 for the rest, since whoever started it takes the first exec for the last.
///
/// # Errors
/// `memfd_create(2)`'s: `EACCES` where `vm.memfd_noexec` forbids files in memory that can be executed. `ENOSYS` on architectures that have none.
pub fn springboard() -> Result<OwnedFd> {
    let image = image()?;
    let mut file = std::fs::File::from(executable_memory_file()?);
    std::io::Write::write_all(&mut file, &image).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        SysError::new("write", "springboard", errno)
    })?;
    let fd = OwnedFd::from(file);
    seal(&fd)?;
    Ok(fd)
}

/// Nobody can write the file any more, nor take this back.
///
/// # Errors
/// `fcntl(2)`'s: `EBUSY` while a writable mapping of it is there.
pub fn seal(fd: &OwnedFd) -> Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_ADD_SEALS(seals()))
        .map(drop)
        .map_err(|errno| SysError::new("fcntl", "F_ADD_SEALS", errno))
}

/// [`seal`] was done to it. No other kind of file is.
#[must_use]
pub fn is_sealed(fd: &OwnedFd) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GET_SEALS)
        .is_ok_and(|set| nix::fcntl::SealFlag::from_bits_retain(set).contains(seals()))
}

fn seals() -> nix::fcntl::SealFlag {
    use nix::fcntl::SealFlag;
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL
}

/// An empty file in memory that can be filled, sealed and executed. `MFD_EXEC` is new (6.3); before it every such file could be executed.
///
/// # Errors
/// `memfd_create(2)`'s: `EACCES` where `vm.memfd_noexec` forbids it.
pub fn executable_memory_file() -> Result<OwnedFd> {
    let create = |flags: libc::c_uint| {
        let flags = nix::sys::memfd::MFdFlags::from_bits_retain(flags);
        nix::sys::memfd::memfd_create(c"airtight", flags)
            .map_err(|errno| SysError::new("memfd_create", format!("{flags:?}"), errno))
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match create(flags | libc::MFD_EXEC) {
        Err(error) if error.errno == Errno::EINVAL => create(flags),
        made => made,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn image() -> Result<Vec<u8>> {
    Err(SysError::new("springboard", "", Errno::ENOSYS))
}

#[cfg(target_arch = "x86_64")]
fn image() -> Result<Vec<u8>> {
    let mut image = header();
    image.extend(code());
    // The table that the code reads on: number, length, text; 0 ends it, and its text is for all others.
    for errno in TOLD {
        entry(&mut image, *errno as i32, &errno.desc().to_lowercase())?;
    }
    entry(&mut image, 0, "execve failed")?;
    let size = u64::try_from(image.len()).unwrap_or(0).to_le_bytes();
    // `p_filesz` and `p_memsz` of the one segment.
    for at in [64 + 32, 64 + 40] {
        if let Some(field) = image.get_mut(at..at + 8) {
            field.copy_from_slice(&size);
        }
    }
    Ok(image)
}

/// What execve(2) says of files, as people know it; every number fits a byte.
#[cfg(target_arch = "x86_64")]
const TOLD: &[Errno] = &[
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::EACCES,
    Errno::EPERM,
    Errno::ENOEXEC,
    Errno::ELOOP,
    Errno::ETXTBSY,
    Errno::EISDIR,
    Errno::ELIBBAD,
    Errno::EINVAL,
    Errno::EIO,
    Errno::ENOMEM,
    Errno::EAGAIN,
    Errno::E2BIG,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::ENAMETOOLONG,
];

#[cfg(target_arch = "x86_64")]
fn entry(image: &mut Vec<u8>, number: i32, text: &str) -> Result<()> {
    let byte = |fits: std::result::Result<u8, _>| {
        fits.map_err(|_: std::num::TryFromIntError| {
            SysError::new("springboard", text, Errno::EOVERFLOW)
        })
    };
    image.push(byte(u8::try_from(number))?);
    image.push(byte(u8::try_from(text.len()))?);
    image.extend(text.as_bytes());
    Ok(())
}

/// elf(5): one segment to read and execute, and a stack that is not executed. Its size is filled in when it is known.
#[cfg(target_arch = "x86_64")]
fn header() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 2 * 56;
    const READ_EXECUTE: u32 = 5;
    const READ_WRITE: u32 = 6;
    let mut bytes = Vec::with_capacity(1024);
    // 64 bits, little endian, version 1, ABI of System V.
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_EXEC, EM_X86_64, version.
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for value in [BASE + HEADERS, 64, 0] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    for value in [64_u16, 56, 2, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    for (kind, flags, address, align) in [
        (libc::PT_LOAD, READ_EXECUTE, BASE, 0x1000_u64),
        (libc::PT_GNU_STACK, READ_WRITE, 0, 16),
    ] {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for value in [0, address, address, 0, 0, align] {
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes
}

#[cfg(target_arch = "x86_64")]
fn code() -> &'static [u8] {
    unsafe extern "C" {
        #[link_name = "airtight_springboard"]
        static START: u8;
        #[link_name = "airtight_springboard_end"]
        static END: u8;
    }
    let (start, end) = (&raw const START, &raw const END);
    let length = end.addr() - start.addr();
    // SAFETY: both labels are of the block of assembly below, which is one piece of read-only memory of ours and is never changed.
    unsafe { std::slice::from_raw_parts(start, length) }
}

// Never run in this process: it is copied. Position independent; `rsp` points to the arguments' count, as the kernel leaves it.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    r#"
    .pushsection .rodata.airtight_springboard, "a", @progbits
    .globl airtight_springboard
    .hidden airtight_springboard
    .globl airtight_springboard_end
    .hidden airtight_springboard_end
airtight_springboard:
    cmp qword ptr [rsp], 3              // argc
    jb 9f
    mov rax, [rsp + 8]                  // argv[0]: that it is us who calls
    movabs rcx, 0x7468676974726961      // "airtight"
    cmp [rax], rcx
    jne 9f
    mov r13, [rsp]
    mov r14, [rsp + 16]                 // argv[1]: the program
    mov rdi, r14
    lea rsi, [rsp + 24]                 // argv[2..]: its arguments
    lea rdx, [rsp + r13 * 8 + 16]       // the environment
    mov eax, 59                         // execve
    syscall
    neg eax
    mov r12d, eax                       // the error

    lea rsi, [rip + 10f]                // "exec "
    mov edx, 5
    call 8f
    mov rsi, r14
    xor edx, edx
2:  cmp byte ptr [rsi + rdx], 0         // the program's length
    je 3f
    inc rdx
    jmp 2b
3:  call 8f
    lea rsi, [rip + 11f]                // ": "
    mov edx, 2
    call 8f
    lea rbx, [rip + airtight_springboard_end]
4:  movzx eax, byte ptr [rbx]           // its entry in the table
    movzx edx, byte ptr [rbx + 1]
    lea rsi, [rbx + 2]
    test eax, eax
    je 5f
    cmp eax, r12d
    je 5f
    lea rbx, [rsi + rdx]
    jmp 4b
5:  call 8f
    lea rsi, [rip + 12f]                // newline
    mov edx, 1
    call 8f

    mov edi, 126
    cmp r12d, 2                         // ENOENT
    je 6f
    cmp r12d, 20                        // ENOTDIR
    jne 7f
6:  mov edi, 127
7:  mov eax, 231                        // exit_group
    syscall
    hlt                                 // a filter that refuses that much has its way here too

9:  lea rsi, [rip + 13f]
    mov edx, 47
    call 8f
    mov edi, 126
    jmp 7b

8:  mov edi, 2                          // write to stderr; one that is closed leaves the exit code
    mov eax, 1
    syscall
    ret
10: .ascii "exec "
11: .ascii ": "
12: .ascii "\n"
13: .ascii "exec: the runtime is no program of a container\n"
14:
airtight_springboard_end:
    .popsection
"#
);

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// With the springboard at hand as a file, since `Command` takes paths.
    fn sprung(name: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let mut file = std::fs::File::from(springboard().unwrap());
        file.seek(SeekFrom::Start(0)).unwrap();
        let path = format!("/proc/self/fd/{}", {
            use std::os::fd::AsRawFd as _;
            file.as_raw_fd()
        });
        let output = Command::new(path)
            .arg0(name)
            .args(args)
            .env_clear()
            .env("A", "b")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    const OURS: &str = "airtight-springboard";

    #[test]
    fn its_name_is_the_one_that_it_asks_for() {
        assert_eq!(NAME.to_str(), Ok(OURS));
        for (name, args) in [
            (OURS, &["/bin/true"][..]),
            ("/proc/self/exe", &["/bin/true", "x"]),
            ("airtigh", &["/bin/true", "x"]),
            ("", &["/bin/true", "x"]),
        ] {
            let said = "exec: the runtime is no program of a container\n";
            assert_eq!(
                sprung(name, args),
                (Some(126), String::new(), said.to_owned()),
                "{name:?}"
            );
        }
    }

    #[test]
    fn it_becomes_what_its_arguments_say() {
        let script = "echo $0 $1 $A; exit 7";
        let ran = sprung(OURS, &["/bin/sh", "name", "-c", script, "zero", "one"]);
        assert_eq!(ran, (Some(7), "zero one b\n".to_owned(), String::new()));
    }

    #[test]
    fn what_cannot_be_executed_is_told() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        empty.as_file().set_permissions(executable).unwrap();
        let empty = empty.into_temp_path();
        let shown = empty.display().to_string();
        for (program, code, text) in [
            ("/no/such", 127, "no such file or directory"),
            ("/dev/null/x", 127, "not a directory"),
            ("/etc/passwd", 126, "permission denied"),
            ("/", 126, "permission denied"),
            (&shown, 126, "exec format error"),
        ] {
            let (got, _, said) = sprung(OURS, &[program, "x"]);
            assert_eq!(
                (got, said),
                (Some(code), format!("exec {program}: {text}\n")),
                "{program}"
            );
        }
    }

    #[test]
    fn it_cannot_be_written() {
        let fd = springboard().unwrap();
        let mut file = std::fs::File::from(fd.try_clone().unwrap());
        assert_eq!(
            file.write(b"x").unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
        assert_eq!(
            file.set_len(0).unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
        assert!(header().len() + code().len() < 4096);
    }
}
