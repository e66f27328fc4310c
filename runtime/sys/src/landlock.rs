//! Landlock by descriptor, at the ABI that the plan names and never less: what the kernel enforces must be all of what was asked.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;

use crate::error::{Result, SysError};

/// The rights of one rule, in the words of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read files, list directories.
    Read,
    /// That, and execute.
    ReadExecute,
    /// Every right on files and directories except to execute and to make devices.
    Write,
    /// Read and write what exists, device control.
    Device,
}

/// A file or directory and what may be done below it.
#[derive(Debug)]
pub struct Rule {
    pub at: OwnedFd,
    /// A rule on a file takes only the rights that a file can have.
    pub directory: bool,
    pub rights: Rights,
}

/// What to enforce.
#[derive(Debug)]
pub struct Restriction<'a> {
    pub abi: u32,
    pub rules: &'a [Rule],
    /// From ABI 4 on; `None` leaves binding alone.
    pub bind_tcp: Option<&'a [u16]>,
    /// Likewise for `connect`.
    pub connect_tcp: Option<&'a [u16]>,
    /// From ABI 6 on: no abstract unix socket and no signal crosses.
    pub scopes: bool,
}

/// The kernel's Landlock ABI; 0 where there is none.
///
/// # Errors
/// Anything but `ENOSYS` and `EOPNOTSUPP`, which mean "none".
pub fn abi() -> Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: with the version flag the call takes a null attribute and size 0 and returns a number.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            null,
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    let Err(errno) = Errno::result(ret) else {
        return Ok(u32::try_from(ret).unwrap_or(0));
    };
    if matches!(errno, Errno::ENOSYS | Errno::EOPNOTSUPP) {
        return Ok(0);
    }
    Err(SysError::new(
        "landlock_create_ruleset",
        "LANDLOCK_CREATE_RULESET_VERSION",
        errno,
    ))
}

/// Restricts this process for good. `no_new_privs` is set before by its own step.
///
/// # Errors
/// `EINVAL` for an ABI that this program does not know, `ENOSYS` when less than all is enforced, else the calls'.
pub fn restrict(restriction: &Restriction<'_>) -> Result<()> {
    let abi = known(restriction.abi)?;
    let fail = |what: &'static str| {
        move |error: landlock::RulesetError| {
            SysError::new("landlock", format!("{what}: {error}"), Errno::last())
        }
    };
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset = ruleset
        .handle_access(AccessFs::from_all(abi))
        .map_err(fail("files"))?;
    if restriction.bind_tcp.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::BindTcp)
            .map_err(fail("bind"))?;
    }
    if restriction.connect_tcp.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::ConnectTcp)
            .map_err(fail("connect"))?;
    }
    if restriction.scopes {
        ruleset = ruleset
            .scope(Scope::from_all(ABI::V6))
            .map_err(fail("scopes"))?;
    }
    let mut created = ruleset.create().map_err(fail("ruleset"))?;
    for rule in restriction.rules {
        created = add(created, rule, abi).map_err(fail("rule"))?;
    }
    for (ports, right) in [
        (restriction.bind_tcp, AccessNet::BindTcp),
        (restriction.connect_tcp, AccessNet::ConnectTcp),
    ] {
        for &port in ports.unwrap_or_default() {
            created = created
                .add_rule(NetPort::new(port, right))
                .map_err(fail("port"))?;
        }
    }
    let status = created.restrict_self().map_err(fail("restrict_self"))?;
    if status.ruleset == RulesetStatus::FullyEnforced {
        return Ok(());
    }
    Err(SysError::new(
        "landlock_restrict_self",
        format!("{:?}", status.ruleset),
        Errno::ENOSYS,
    ))
}

/// Restricts what this process reaches outside its own domain, and no file: mounts stay possible, which every right on files would end.
///
/// # Errors
/// `EINVAL` or `E2BIG` before ABI 6, `EPERM` without `no_new_privs` or `CAP_SYS_ADMIN`.
pub fn restrict_scopes(abstract_unix: bool, signal: bool) -> Result<()> {
    /// `struct landlock_ruleset_attr` of ABI 6.
    #[repr(C)]
    struct Handled {
        files: u64,
        network: u64,
        scoped: u64,
    }
    let scoped = u64::from(abstract_unix) | u64::from(signal) << 1;
    if scoped == 0 {
        return Ok(());
    }
    let handled = Handled {
        files: 0,
        network: 0,
        scoped,
    };
    let flags: libc::c_uint = 0;
    // SAFETY: the kernel reads as many bytes at the pointer as the size says, which is that of the live structure.
    let ruleset = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(&handled),
            size_of::<Handled>(),
            flags,
        )
    };
    let made = Errno::result(ruleset).map_err(|errno| {
        SysError::new(
            "landlock_create_ruleset",
            format!("scoped {scoped:#x}"),
            errno,
        )
    })?;
    let number = i32::try_from(made)
        .map_err(|_| SysError::new("landlock_create_ruleset", "", Errno::EBADF))?;
    // SAFETY: the call has just made this descriptor for us alone.
    let ruleset = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the call takes a descriptor, which is open, and an integer.
    let ret =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) };
    if ret == 0 {
        Ok(())
    } else {
        Err(SysError::last(
            "landlock_restrict_self",
            format!("scoped {scoped:#x}"),
        ))
    }
}

fn add(
    created: RulesetCreated,
    rule: &Rule,
    abi: ABI,
) -> std::result::Result<RulesetCreated, landlock::RulesetError> {
    let device = AccessFs::MakeChar | AccessFs::MakeBlock;
    let mut rights: BitFlags<AccessFs> = match rule.rights {
        Rights::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        Rights::ReadExecute => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute,
        Rights::Write => AccessFs::from_all(abi) & !(device | AccessFs::Execute),
        Rights::Device => {
            let all = AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::IoctlDev;
            all & AccessFs::from_all(abi)
        }
    };
    if !rule.directory {
        rights &= AccessFs::from_file(abi);
    }
    let at: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&rule.at);
    created.add_rule(PathBeneath::new(at, rights))
}

/// Rights come from a version's list, so that a newer library or kernel never changes what a plan means.
fn known(abi: u32) -> Result<ABI> {
    match abi {
        1 => Ok(ABI::V1),
        2 => Ok(ABI::V2),
        3 => Ok(ABI::V3),
        4 => Ok(ABI::V4),
        5 => Ok(ABI::V5),
        6 => Ok(ABI::V6),
        // What later versions add concerns logging and is not used.
        7.. => Ok(ABI::V7),
        0 => Err(SysError::new("landlock", "ABI 0", Errno::EINVAL)),
    }
}
