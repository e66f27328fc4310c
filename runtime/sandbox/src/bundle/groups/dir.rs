//! One group's directory, open.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use airtight_plan::bundle::GroupPlace;
use airtight_sys::directory::{open_path_follow, write_value};
use airtight_sys::open::open_beneath;
use airtight_sys::process::filesystem_type;
use airtight_sys::{Result, SysError};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::cgroup::Joins;

const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// The longest are lists of processes; one of a million is 8 MB.
const LONGEST_FILE: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// For messages.
    path: PathBuf,
}

impl Dir {
    /// The mount of a hierarchy, proven to be one: the path is the host's, and what is written below it must be nobody else's file.
    pub(super) fn mount(place: &GroupPlace) -> Result<Self> {
        let path = place.mount.clone();
        let fd = open_path_follow(&path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let dir = Self { fd, path };
        dir.prove(place.is_v2())?;
        Ok(dir)
    }

    pub(super) fn open(place: &GroupPlace) -> Result<Self> {
        let dir = Self::mount(place)?.below(&place.dir)?;
        // Something else may be mounted on the way.
        dir.prove(place.is_v2())?;
        Ok(dir)
    }

    /// `None`: it was removed.
    pub(super) fn open_if_there(place: &GroupPlace) -> Result<Option<Self>> {
        there(Self::open(place))
    }

    pub(super) fn below(&self, path: &Path) -> Result<Self> {
        let shown = self.path.join(path);
        let fd = open_beneath(&self.fd, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|error| at(&shown, error))?;
        Ok(Self { fd, path: shown })
    }

    /// Calls `each` for every group below this one, those in it before it, with the directory that it is in and its name. A container makes as many as it
    /// likes, one in the other as deep as it likes: descriptors are held of two of them at a time. What goes away meanwhile is passed over.
    pub(super) fn walk(&self, mut each: impl FnMut(&Self, &OsStr) -> Result<()>) -> Result<()> {
        // Names that are still to be visited, a list for each level.
        let mut levels = vec![there(self.children())?.unwrap_or_default()];
        let mut at: Option<Self> = None;
        while let Some(names) = levels.last_mut() {
            let here = at.as_ref().unwrap_or(self);
            if let Some(name) = names.last() {
                let inside = match there(here.child(name))? {
                    Some(dir) => there(dir.children())?.map(|names| (dir, names)),
                    None => None,
                };
                match inside {
                    Some((dir, inner)) if !inner.is_empty() => {
                        levels.push(inner);
                        at = Some(dir);
                    }
                    Some(_) => {
                        each(here, name)?;
                        names.pop();
                    }
                    None => drop(names.pop()),
                }
                continue;
            }
            levels.pop();
            let Some(name) = levels.last_mut().and_then(Vec::pop) else {
                break;
            };
            if levels.len() == 1 {
                at = None;
                each(self, &name)?;
            } else {
                // It was entered from there, and no group is ever moved into another.
                let above = here.above()?;
                each(&above, &name)?;
                at = Some(above);
            }
        }
        Ok(())
    }

    /// As [`Self::below`], but told by the path of this one.
    fn child(&self, name: &OsStr) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let fd = open_beneath(&self.fd, Path::new(name), flags)
            .map_err(|error| at(&self.path, error))?;
        Ok(Self {
            fd,
            path: self.path.clone(),
        })
    }

    fn above(&self) -> Result<Self> {
        let fd = airtight_sys::open::open_name(&self.fd, OsStr::new(".."))
            .map_err(|error| at(&self.path, error))?;
        let dir = Self {
            fd,
            path: self.path.clone(),
        };
        // To be read.
        dir.child(OsStr::new("."))
    }

    pub(super) fn prove(&self, v2: bool) -> Result<()> {
        self.prove_file(&self.fd, v2)
    }

    /// Of a file below this directory, which something else may have been mounted on the way to.
    pub(super) fn prove_file(&self, file: &OwnedFd, v2: bool) -> Result<()> {
        let want = if v2 {
            CGROUP2_SUPER_MAGIC
        } else {
            CGROUP_SUPER_MAGIC
        };
        if filesystem_type(file)? == want {
            Ok(())
        } else {
            let shown = format!("{} is no cgroup file system", self.path.display());
            Err(SysError::new("fstatfs", shown, Errno::ENOTSUP))
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: impl AsRef<Path>, flags: OFlag) -> Result<OwnedFd> {
        open_beneath(&self.fd, name.as_ref(), flags)
            .map_err(|error| at(&self.path.join(name), error))
    }

    pub(super) fn write(&self, name: impl AsRef<Path>, value: &str) -> Result<()> {
        let name = name.as_ref();
        self.write_to(&self.file(name, OFlag::O_WRONLY)?, name, value)
    }

    /// `file` is the one of this name, open for writing.
    pub(super) fn write_to(
        &self,
        file: &OwnedFd,
        name: impl AsRef<Path>,
        value: &str,
    ) -> Result<()> {
        let shown = || format!("{}, {value:?}", self.path.join(&name).display());
        write_value(file, value.as_bytes(), "")
            .map_err(|error| SysError::new(error.call, shown(), error.errno))
    }

    pub(super) fn read(&self, name: impl AsRef<Path>) -> Result<String> {
        let name = name.as_ref();
        let file = self.file(name, OFlag::O_RDONLY)?;
        let mut text = String::new();
        File::from(file)
            .take(LONGEST_FILE)
            .read_to_string(&mut text)
            .map_err(|error| self.failed("read", name, &error))?;
        Ok(text)
    }

    /// `None`: this kernel has no such file, or the group was removed.
    pub(super) fn read_if_there(&self, name: impl AsRef<Path>) -> Result<Option<String>> {
        there(self.read(name))
    }

    /// A file that is one number; `max` is the largest.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        Ok(self
            .read_if_there(name)?
            .and_then(|text| number(text.trim())))
    }

    /// A child gets into this group by `joins`.
    pub(super) fn let_join(&self, v2: bool, joins: &mut Joins) -> Result<()> {
        if v2 {
            let dir = self.file(".", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            joins.add_v2(dir, self.file("cgroup.procs", OFlag::O_WRONLY)?);
        } else {
            joins.add_v1(self.file("tasks", OFlag::O_WRONLY)?);
        }
        Ok(())
    }

    /// Groups below this one.
    pub(super) fn children(&self) -> Result<Vec<OsString>> {
        self.entries(true)
    }

    pub(super) fn files(&self) -> Result<Vec<OsString>> {
        self.entries(false)
    }

    fn entries(&self, directories: bool) -> Result<Vec<OsString>> {
        // Read by the name of the descriptor, which leads to it and nowhere else.
        let own = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let failed = |error| self.failed("getdents64", "", &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(own).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() == directories {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }

    fn failed(
        &self,
        call: &'static str,
        name: impl AsRef<Path>,
        error: &std::io::Error,
    ) -> SysError {
        // What std has no number for.
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        SysError::new(call, self.path.join(name).display().to_string(), errno)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn number(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(u64::MAX);
    }
    text.parse().ok()
}

/// What is gone is `None`: a group between its removal and ours to notice says ENODEV.
pub(super) fn there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(it) => Ok(Some(it)),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn at(path: &Path, error: SysError) -> SysError {
    SysError::new(error.call, path.display().to_string(), error.errno)
}
