//! One entry of a bundle's `mounts`: made detached, given its attributes while nobody can reach it, attached over a place that was found below the root's descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use airtight_plan::bundle::{MountSource, MountStep, Propagation};
use airtight_sys::directory::{self, Kind};
use airtight_sys::mount::{self, Change, VALUE_MAX};
use airtight_sys::{SysError, open, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;

use super::super::mounts::PROC_SUPER_MAGIC;
use super::super::{Child, Failure, Result};
use super::below::{self, Links, Missing, Place};
use super::copy_up;
use super::root::split;

/// The one place below `/proc` over which each of these may be mounted: files that tools give a container a view of its own of, and that no control reads.
const PROC_FILES: [&str; 11] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/net/dev",
    "proc/slabinfo",
    "proc/stat",
    "proc/swaps",
    "proc/sys/crypto/fips_enabled",
    "proc/sys/kernel/ns_last_pid",
    "proc/uptime",
];

/// Options of a new file system, as the plan has them.
type Options = [(String, Option<String>)];

impl Child<'_> {
    pub(in crate::child) fn bundle_mount(&mut self, step: &MountStep) -> Result<()> {
        let done = match &step.what {
            MountSource::Sent => self.sent_mount(step),
            MountSource::New {
                filesystem,
                source,
                options,
            } => self.new_mount(step, filesystem, source, options),
            MountSource::Cgroup { read_only, shown } => self.cgroup_view(step, *read_only, *shown),
            MountSource::Remount { options } => self.remount(step, options),
        };
        done.map_err(|failure| match failure {
            Failure::Sys(error) => Failure::Said(in_words(step, &error.to_string())),
            Failure::Said(text) => Failure::Said(in_words(step, &text)),
            other @ (Failure::Gate(_) | Failure::Exec { .. }) => other,
        })
    }

    fn sent_mount(&mut self, step: &MountStep) -> Result<()> {
        let tree = self.next_tree()?;
        let missing = if is_directory(&tree)? {
            Missing::Directory
        } else {
            Missing::File
        };
        change_attributes(&tree, step)?;
        let place = self.place(&step.destination, Links::Follow, missing)?;
        put(&tree, &place, step)
    }

    fn new_mount(
        &mut self,
        step: &MountStep,
        filesystem: &str,
        source: &str,
        options: &Options,
    ) -> Result<()> {
        // A link there would give another place a file system that the kernel, and every program, trusts at this one.
        let fixed = matches!(filesystem, "proc" | "sysfs");
        let links = if fixed { Links::Refuse } else { Links::Follow };
        let place = match self.place(&step.destination, links, Missing::Directory) {
            Err(Failure::Sys(SysError {
                errno: Errno::ELOOP | Errno::ENOTDIR,
                ..
            })) if fixed => return Err(not_ordinary(filesystem)),
            other => other?,
        };
        if fixed && !is_directory(&place.fd)? {
            return Err(not_ordinary(filesystem));
        }
        let mut options = options.to_vec();
        if filesystem == "tmpfs" && !place.made && !options.iter().any(|(key, _)| key == "mode") {
            let mode = directory::mode(&place.fd)?;
            options.push(("mode".into(), Some(format!("{mode:o}"))));
        }
        if options
            .iter()
            .any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > VALUE_MAX))
        {
            return self.old_mount(step, &place, filesystem, source, &options);
        }
        let set = step.set | step.recursive_set;
        let tree = new_filesystem(filesystem, source, &options, set)?;
        if step.copy_up {
            // Modes are the image's, whatever ours would take from them.
            process::set_umask(0);
            let copied = copy_up::copy(&place.fd, &tree);
            process::set_umask(0o022);
            copied?;
        }
        put(&tree, &place, step)
    }

    /// By `mount(2)`, for what `fsconfig(2)` does not take: an overlay with many layers, mostly.
    fn old_mount(
        &mut self,
        step: &MountStep,
        place: &Place,
        filesystem: &str,
        source: &str,
        options: &Options,
    ) -> Result<()> {
        let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
        for (key, value) in options {
            match (superblock_flag(key), value) {
                (Some(flag), None) => flags |= flag,
                (_, None) => data.push(key.clone()),
                (_, Some(value)) => data.push(format!("{key}={value}")),
            }
        }
        let before = directory::open_path(Path::new("."), OFlag::O_PATH)?;
        directory::enter(&place.fd)?;
        mount::mount_over_working_directory(source, filesystem, flags, &data.join(","))?;
        directory::enter(&before)?;
        let over = below::find(self.root()?, &place.path, Links::Refuse, Missing::Fails)?;
        change_attributes(&over.fd, step)?;
        set_propagation(&over.fd, &step.propagation)
    }

    fn remount(&mut self, step: &MountStep, options: &Options) -> Result<()> {
        let place = self.place(&step.destination, Links::Follow, Missing::Fails)?;
        if !options.is_empty() {
            let options = in_c(options)?;
            mount::reconfigure(&place.fd, &borrowed(&options))?;
        }
        change_attributes(&place.fd, step)?;
        set_propagation(&place.fd, &step.propagation)
    }

    /// The place of a destination. `/dev` and `/proc` themselves are never links: what is mounted or made there later would land where the link leads (CVE-2026-41579).
    pub(super) fn place(&self, path: &Path, links: Links, missing: Missing) -> Result<Place> {
        let root = self.root()?;
        let mut names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::RootDir
            | Component::CurDir
            | Component::ParentDir
            | Component::Prefix(_) => None,
        });
        let fixed = names
            .next()
            .filter(|name| *name == "dev" || *name == "proc");
        let place = below::find(root, path, links, missing)?;
        match fixed {
            // Looked at when the place is not simply where its name says: a link was on the way.
            Some(name) if place.path != lexical(path) => {
                let first = open::open_name(root, name)?;
                if open::link_target(&first)?.is_some() {
                    return Err(Failure::Said(format!(
                        "/{} is a link in the image\n  fix: make it a directory",
                        name.display()
                    )));
                }
                Ok(place)
            }
            _ => Ok(place),
        }
    }
}

/// Attaches a finished mount. Its propagation is set before: what is mounted below a copy of a shared mount would be seen outside.
pub(super) fn put(tree: &OwnedFd, place: &Place, step: &MountStep) -> Result<()> {
    if place.path.as_os_str().is_empty() {
        return Err(Failure::Said("the destination is the root itself".into()));
    }
    refuse_in_proc(tree, place)?;
    set_propagation(tree, &step.propagation)?;
    match mount::attach(tree, &place.fd) {
        // All that the kernel says of a directory over a file or the other way round.
        Err(SysError {
            errno: Errno::EINVAL,
            ..
        }) if is_directory(tree)? != is_directory(&place.fd)? => {
            Err(SysError::new("move_mount", format!("{:?}", place.path), Errno::ENOTDIR).into())
        }
        other => Ok(other?),
    }
}

fn is_directory(fd: &OwnedFd) -> Result<bool> {
    Ok(directory::kind(fd)? == Kind::Directory)
}

/// Only a procfs may lie over `/proc`, and in it only a few files be covered: labels and limits are written through it, and a forged one would swallow them
/// (CVE-2019-19921, CVE-2019-16884).
fn refuse_in_proc(tree: &OwnedFd, place: &Place) -> Result<()> {
    if !place.path.starts_with("proc") {
        return Ok(());
    }
    let (allowed, why) = if place.path == Path::new("proc") {
        let procfs = process::filesystem_type(tree)? == PROC_SUPER_MAGIC;
        (procfs, "is not of type proc")
    } else {
        let known = PROC_FILES.iter().any(|file| place.path == Path::new(file));
        (known, "is inside /proc")
    };
    if allowed {
        Ok(())
    } else {
        Err(Failure::Said(format!(
            "\"/{}\" cannot be mounted because it {why}",
            place.path.display()
        )))
    }
}

fn not_ordinary(filesystem: &str) -> Failure {
    Failure::Said(format!(
        "filesystem {filesystem:?} must be mounted on ordinary directory"
    ))
}

/// The path as its names say, without looking.
fn lexical(path: &Path) -> PathBuf {
    let mut names = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

fn in_words(step: &MountStep, error: &str) -> String {
    let what = match &step.what {
        MountSource::Sent => "bind",
        MountSource::New { filesystem, .. } => filesystem,
        MountSource::Cgroup { .. } => "cgroup",
        MountSource::Remount { .. } => "remount",
    };
    format!(
        "error mounting {what:?} to rootfs at {:?}: {error}",
        step.destination
    )
}

/// Set before cleared of the same step is cleared before set for the kernel; the recursive ones come after, as the last word.
pub(super) fn change_attributes(mount: &OwnedFd, step: &MountStep) -> Result<()> {
    for (set, clear, recursive) in [
        (step.set, step.clear, false),
        (step.recursive_set, step.recursive_clear, true),
    ] {
        if set | clear != 0 {
            let change = Change {
                set,
                clear,
                propagation: 0,
                recursive,
            };
            mount::change(mount, &change, None)?;
        }
    }
    Ok(())
}

pub(super) fn set_propagation(mount: &OwnedFd, propagation: &[Propagation]) -> Result<()> {
    for one in propagation {
        let (kind, recursive) = split(*one);
        let change = Change {
            propagation: kind.bits(),
            recursive,
            ..Change::default()
        };
        mount::change(mount, &change, None)?;
    }
    Ok(())
}

fn superblock_flag(key: &str) -> Option<MsFlags> {
    Some(match key {
        "ro" => MsFlags::MS_RDONLY,
        "sync" => MsFlags::MS_SYNCHRONOUS,
        "dirsync" => MsFlags::MS_DIRSYNC,
        "lazytime" => MsFlags::MS_LAZYTIME,
        "mand" => MsFlags::MS_MANDLOCK,
        _ => return None,
    })
}

/// A new superblock, mounted detached with these attributes.
pub(super) fn new_filesystem(
    filesystem: &str,
    source: &str,
    options: &Options,
    attributes: u64,
) -> Result<OwnedFd> {
    let source = mount::option(source)?;
    let options = in_c(options)?;
    let mut all = borrowed(&options);
    if !source.is_empty() {
        all.insert(0, (c"source", Some(&source)));
    }
    Ok(mount::new_filesystem(
        &mount::option(filesystem)?,
        &all,
        attributes,
    )?)
}

fn in_c(options: &Options) -> Result<Vec<(CString, Option<CString>)>> {
    options
        .iter()
        .map(|(key, value)| {
            let value = value.as_deref().map(mount::option).transpose()?;
            Ok((mount::option(key)?, value))
        })
        .collect()
}

fn borrowed(options: &[(CString, Option<CString>)]) -> Vec<(&CStr, Option<&CStr>)> {
    options
        .iter()
        .map(|(key, value)| (key.as_c_str(), value.as_deref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_links_is_where_its_names_say() {
        for (path, want) in [
            ("/dev/shm", "dev/shm"),
            ("dev//./shm/", "dev/shm"),
            ("/../dev/pts/../shm", "dev/shm"),
            ("/", ""),
        ] {
            assert_eq!(lexical(Path::new(path)), Path::new(want), "{path}");
        }
    }
}
