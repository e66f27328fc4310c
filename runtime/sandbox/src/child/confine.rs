//! Limits and Landlock: the plan's words into the kernel's.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use airtight_plan::{LandlockRules, Rlimit};
use airtight_sys::directory::{self, Kind};
use airtight_sys::landlock::{Restriction, Rights, Rule, restrict};
use airtight_sys::{open, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::Resource;

use super::{Failure, Result};

/// More entries beside a writable path than this are no sane image, and each costs a rule.
const MAX_RULES: usize = 4096;

pub(super) fn rlimit(resource: Rlimit, soft: u64, hard: u64) -> Result<()> {
    let resource = match resource {
        Rlimit::Nofile => Resource::RLIMIT_NOFILE,
        Rlimit::Nproc => Resource::RLIMIT_NPROC,
        Rlimit::Core => Resource::RLIMIT_CORE,
        Rlimit::Memlock => Resource::RLIMIT_MEMLOCK,
        Rlimit::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Rlimit::Sigpending => Resource::RLIMIT_SIGPENDING,
    };
    Ok(process::lower_rlimit(resource, soft, hard)?)
}

pub(super) fn landlock(rules: &LandlockRules) -> Result<()> {
    let root = directory::open_path(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mut list = vec![rule(&root, Path::new("."), Rights::Read)?];
    for path in &rules.write {
        list.push(rule(&root, path, Rights::Write)?);
    }
    for path in &rules.devices {
        list.push(rule(&root, path, Rights::Device)?);
    }
    let excluded: Vec<&Path> = rules
        .write
        .iter()
        .chain(&rules.no_execute)
        .map(PathBuf::as_path)
        .collect();
    executable(&root, Path::new("/"), &excluded, &mut list)?;
    let ports: Vec<u16> = rules.bind_tcp.iter().copied().collect();
    restrict(&Restriction {
        abi: rules.abi,
        rules: &list,
        bind_tcp: (rules.abi >= 4).then_some(ports.as_slice()),
        // The namespace has nowhere else to go, and EACCES would hide the exact error that it gives.
        connect_tcp: None,
        scopes: rules.scopes,
    })?;
    Ok(())
}

/// Grants execute below `directory`, but not below anything excluded: a rule covers the mounts below it too, so where something excluded lies
/// further down each sibling along the way gets a rule of its own.
fn executable(
    root: &OwnedFd,
    directory: &Path,
    excluded: &[&Path],
    list: &mut Vec<Rule>,
) -> Result<()> {
    if excluded.contains(&directory) {
        return Ok(());
    }
    if !excluded.iter().any(|path| path.starts_with(directory)) {
        list.push(rule(root, directory, Rights::ReadExecute)?);
        return Ok(());
    }
    for name in names(directory)? {
        let path = directory.join(&name);
        let opened = open::open_beneath(root, inside(&path), OFlag::O_PATH | OFlag::O_NOFOLLOW);
        let at = match opened {
            // Of a layer that shows the host's ids, overlayfs looks up nothing that others may not read: who cannot reach it needs no right to it.
            Err(error) if error.errno == Errno::EACCES => continue,
            opened => opened?,
        };
        match directory::kind(&at)? {
            Kind::Directory => executable(root, &path, excluded, list)?,
            Kind::File if !excluded.contains(&path.as_path()) => list.push(Rule {
                at,
                directory: false,
                rights: Rights::ReadExecute,
            }),
            // Links are followed to a file that has its own rule.
            Kind::File | Kind::Character(..) | Kind::Block | Kind::Socket | Kind::Other => {}
        }
        if list.len() > MAX_RULES {
            return Err(Failure::Said(format!(
                "{} holds more than {MAX_RULES} entries beside a writable path",
                directory.display()
            )));
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<OsString>> {
    let fail = |error: std::io::Error| Failure::Said(format!("{}: {error}", directory.display()));
    let entries = std::fs::read_dir(directory).map_err(fail)?;
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(fail)?;
    names.sort_unstable();
    Ok(names)
}

fn rule(root: &OwnedFd, path: &Path, rights: Rights) -> Result<Rule> {
    let at = open::open_in_root(root, inside(path), OFlag::O_PATH)?;
    let directory = directory::kind(&at)? == Kind::Directory;
    Ok(Rule {
        at,
        directory,
        rights,
    })
}

fn inside(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(relative) if relative.as_os_str().is_empty() => Path::new("."),
        Ok(relative) => relative,
        Err(_) => path,
    }
}
