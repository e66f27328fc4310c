//! The state directory: `ROOT/ID/`, one directory for each container. Its name makes an id unique; a lock on it keeps `create`, `start` and `delete` apart, and
//! goes with whoever holds it. What is in it is written once; whether a container runs is asked of the kernel each time.
//!
//! `state` is there before anything else of the container is, so that `delete --force` finds all of it after any death of a runtime. The process is added to
//! it as a second line. It takes no file's place, which ext4 would flush at once (`auto_da_alloc`), and whose removal would wait for the disk.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use airtight_sys::directory;
use airtight_sys::lock::{self, Lock, Patience};
use airtight_sys::process;

use crate::record::{Process, Record};
use crate::report::Failure;

const FILE: &str = "state";
const FIFO: &str = "start";
/// A copy of the bundle's, as it was when the container was created: the bundle may change, the container does not.
pub(crate) const CONFIG: &str = "config.json";

/// The directory of all containers.
#[derive(Debug)]
pub(crate) struct Root(PathBuf);

/// The directory of one.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
}

/// `runtime.md`, State; and what runc adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Root {
    /// The directory that is named, else the caller's own.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, Failure> {
        if let Some(root) = named {
            return std::path::absolute(root)
                .map(Self)
                .map_err(|error| Failure::io("--root", &error));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let root = process::effective_uid() == 0;
        match runtime {
            // Root of a user namespace that another user made is that user.
            Some(dir) if !root || is_borrowed_root() => Ok(Self(dir.join("airtight"))),
            _ if root => Ok(Self("/run/airtight".into())),
            _ => Err(Failure::File {
                path: "$XDG_RUNTIME_DIR".into(),
                problem: "is not set".into(),
                fix: "name a directory for state with --root",
            }),
        }
    }

    /// Where compiled filters are kept; no container can have this name.
    pub(crate) fn cache(&self) -> PathBuf {
        self.0.join("~cache")
    }

    /// An existing container's.
    pub(crate) fn home(&self, id: &str) -> Result<Home, Failure> {
        check_id(id)?;
        let home = Home {
            dir: self.0.join(id),
        };
        // A link is none of ours, wherever it leads.
        if fs::symlink_metadata(&home.dir).is_ok_and(|found| found.is_dir()) {
            Ok(home)
        } else {
            Err(Failure::NotThere)
        }
    }

    /// A new container's, locked: `EEXIST` is what makes an id unique.
    pub(crate) fn make(&self, id: &str) -> Result<(Home, Lock), Failure> {
        check_id(id)?;
        let home = Home {
            dir: self.0.join(id),
        };
        loop {
            match self.make_directory(&home.dir) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(Failure::Exists);
                }
                Err(error) => return Err(Failure::io(&home.dir.display().to_string(), &error)),
            }
            // Others may look at it before it is locked, and one who deletes finds nothing in it and takes it away.
            match home.lock(Patience::Upto(A_LOOK)) {
                Err(Failure::NotThere) => {}
                // The next one's of this name.
                Ok(_) if home.dir.join(FILE).exists() => return Err(Failure::Exists),
                lock => return Ok((home, lock?)),
            }
        }
    }

    fn make_directory(&self, dir: &Path) -> io::Result<()> {
        let make = || DirBuilder::new().mode(0o711).create(dir);
        match make() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Sticky: what tidies up below XDG_RUNTIME_DIR leaves such alone.
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o1711)
                    .create(&self.0)?;
                make()
            }
            made => made,
        }
    }

    /// The ids of all, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::io(&self.0.display().to_string(), &error)),
        };
        let mut ids: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|id| check_id(id).is_ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

impl Home {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.dir.join(FIFO)
    }

    pub(crate) fn lock(&self, patience: Patience) -> Result<Lock, Failure> {
        match lock::directory(&self.dir, patience) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(Failure::Busy),
            // Deleted meanwhile.
            Err(error) if error.is_not_there() => Err(Failure::NotThere),
            Err(error) => Err(Failure::Sys(error)),
        }
    }

    /// The first record, before anything else of the container exists.
    pub(crate) fn begin(&self, record: &Record, config: &str) -> io::Result<()> {
        write_new(&self.dir.join(CONFIG), config.as_bytes())?;
        write_new(&self.dir.join(FILE), record.to_line().as_bytes())
    }

    /// Once the container's process is there.
    pub(crate) fn add_process(&self, process: Process) -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.dir.join(FILE))?;
        // One write: a reader sees none of it or all of it.
        file.write_all(process.to_line().as_bytes())
    }

    /// What is written; `None` where a runtime died before it wrote anything, and so before it made anything.
    pub(crate) fn read(&self) -> Result<Option<Record>, Failure> {
        let path = self.dir.join(FILE);
        match directory::read_regular(&path, LONGEST_RECORD) {
            // Cut short: the same.
            Ok(text) => Ok(Record::from_lines(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io(&path.display().to_string(), &error)),
        }
    }

    /// The record of a container that others may ask about.
    pub(crate) fn known(&self) -> Result<Record, Failure> {
        self.read()?.ok_or(Failure::NotThere)
    }

    pub(crate) fn make_fifo(&self) -> Result<OwnedFd, Failure> {
        Ok(lock::make_fifo(&self.fifo())?)
    }

    /// After `start`: whoever asks for the state sees that it runs.
    pub(crate) fn remove_fifo(&self) -> Result<(), Failure> {
        match fs::remove_file(self.fifo()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::io(&self.fifo().display().to_string(), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// For who holds the lock: so that nobody is creating it.
    pub(crate) fn settled(&self, record: &Record, _: &Lock) -> Status {
        match record.process {
            // Its maker died.
            None => Status::Stopped,
            Some(_) => self.status(record),
        }
    }

    pub(crate) fn status(&self, record: &Record) -> Status {
        let Some(process) = &record.process else {
            // Its maker holds the lock as long as it lives.
            return match lock::directory(&self.dir, Patience::None) {
                Ok(None) => Status::Creating,
                Ok(Some(_)) | Err(_) => Status::Stopped,
            };
        };
        if !process.is_alive() {
            Status::Stopped
        } else if self.fifo().exists() {
            Status::Created
        } else if record.groups().is_frozen().unwrap_or(false) {
            // A freezer that cannot be asked stops nobody.
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// All of it. The record goes last but the directory: until then another `delete` can take over.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        for name in [FIFO, CONFIG, FILE] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::io(&self.dir.display().to_string(), &error)),
                Ok(()) => {}
            }
        }
        match fs::remove_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => self.remove_whatever(),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::io(&self.dir.display().to_string(), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Files that are not of this version, or nobody's.
    fn remove_whatever(&self) -> Result<(), Failure> {
        let remove = || {
            for entry in fs::read_dir(&self.dir)? {
                fs::remove_file(entry?.path())?;
            }
            fs::remove_dir(&self.dir)
        };
        remove().map_err(|error: io::Error| Failure::io(&self.dir.display().to_string(), &error))
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file: File| file.write_all(content))
}

/// uid 0 of a user namespace, and not by the name of root: as runc has it.
fn is_borrowed_root() -> bool {
    let whole = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    !whole && std::env::var_os("USER").is_none_or(|user| user != "root")
}

/// As long as another holds the lock on a directory in which it finds nothing.
const A_LOOK: Duration = Duration::from_secs(1);

/// Of a record: a config's annotations are in it, each of their bytes six at most.
const LONGEST_RECORD: u64 = 32 << 20;

/// The longest name that every runtime takes.
const LONGEST_ID: usize = 1024;

fn check_id(id: &str) -> Result<(), Failure> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > LONGEST_ID || id == "." || id == ".." || !id.chars().all(legal) {
        Err(Failure::Id)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_runc_takes() {
        let long = "x".repeat(1025);
        for (id, legal) in [
            ("a", true),
            ("A_b+c-1.2", true),
            (".hidden", true),
            (&long[1..], true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("~cache", false),
            ("ü", false),
            (&long, false),
        ] {
            assert_eq!(check_id(id).is_ok(), legal, "{id}");
        }
    }
}
