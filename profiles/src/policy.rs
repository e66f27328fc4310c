//! What a payload may do, and how two such answers narrow each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::endpoint::{Endpoint, PortSet};
use crate::rule::{SyscallSet, display};

/// What a payload may do. It holds grants only, so a narrower policy is a smaller one. Capabilities, devices and host paths are not in
/// it: no profile can ask for one, and no ceiling can allow one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Allowed by name and argument; everything else is refused.
    pub syscalls: SyscallSet,
    /// Memory that is executable without being a file's, and `memfd_create`, whose files can be mapped so.
    pub write_execute: bool,
    /// TCP destinations outside.
    pub connect: BTreeSet<Endpoint>,
    /// Endpoints may lie at public addresses.
    pub public: bool,
    /// TCP ports that may be bound.
    pub listen: PortSet,
    /// Writable memory besides `/tmp` and `/dev/shm`.
    pub tmpfs: TmpfsGrant,
    /// Soft limit of open descriptors of one process.
    pub open_files: u64,
    /// Processes and threads of the sandbox's user.
    pub processes: u64,
}

/// Where writable memory may be mounted, and of what size in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TmpfsGrant {
    /// At these paths, each up to its size.
    Only(BTreeMap<PathBuf, u64>),
    /// For a ceiling: any path, each up to this size.
    Anywhere {
        /// Bytes.
        each: u64,
    },
}

/// One thing asked for that the ceiling lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excess {
    /// The profile key it was asked by.
    pub key: &'static str,
    /// What exactly.
    pub item: String,
    /// What the operator can do.
    pub fix: String,
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}`: {}: beyond this host's ceiling\n  fix: {}",
            self.key, self.item, self.fix
        )
    }
}

impl TmpfsGrant {
    fn tighten(&self, with: &Self) -> Self {
        match (self, with) {
            (Self::Anywhere { each: a }, Self::Anywhere { each: b }) => {
                Self::Anywhere { each: *a.min(b) }
            }
            (Self::Only(asked), Self::Anywhere { each })
            | (Self::Anywhere { each }, Self::Only(asked)) => Self::Only(
                asked
                    .iter()
                    .map(|(path, size)| (path.clone(), *size.min(each)))
                    .collect(),
            ),
            (Self::Only(a), Self::Only(b)) => Self::Only(
                a.iter()
                    .filter_map(|(path, size)| Some((path.clone(), *size.min(b.get(path)?))))
                    .collect(),
            ),
        }
    }

    /// The size allowed at `path`, 0 if none.
    #[must_use]
    pub fn allowed(&self, path: &Path) -> u64 {
        match self {
            Self::Only(map) => map.get(path).copied().unwrap_or(0),
            Self::Anywhere { each } => *each,
        }
    }

    pub(crate) fn insert(&mut self, path: &Path, size: u64) {
        match self {
            Self::Only(map) => {
                let slot = map.entry(path.to_owned()).or_insert(0);
                *slot = size.max(*slot);
            }
            Self::Anywhere { each } => *each = size.max(*each),
        }
    }
}

impl Policy {
    /// Grants nothing, not one system call: where every profile starts.
    pub(crate) fn nothing() -> Self {
        Self {
            syscalls: SyscallSet::default(),
            write_execute: false,
            connect: BTreeSet::new(),
            public: false,
            listen: PortSet::default(),
            tmpfs: TmpfsGrant::Only(BTreeMap::new()),
            open_files: 0,
            processes: 0,
        }
    }

    /// What both permit.
    #[must_use]
    pub fn tighten(&self, with: &Self) -> Self {
        // Destructured, so that a new field cannot be forgotten here.
        let Self {
            syscalls,
            write_execute,
            connect,
            public,
            listen,
            tmpfs,
            open_files,
            processes,
        } = self;
        Self {
            syscalls: syscalls.tighten(&with.syscalls),
            write_execute: *write_execute && with.write_execute,
            connect: connect & &with.connect,
            public: *public && with.public,
            listen: listen.tighten(&with.listen),
            tmpfs: tmpfs.tighten(&with.tmpfs),
            open_files: *open_files.min(&with.open_files),
            processes: *processes.min(&with.processes),
        }
    }

    /// What this asks for and `ceiling` lacks, in the order of the fields. Empty: it lies within.
    #[must_use]
    pub fn exceeds(&self, ceiling: &Self) -> Vec<Excess> {
        let Self {
            syscalls,
            write_execute,
            connect,
            public,
            listen,
            tmpfs,
            open_files,
            processes,
        } = self;
        let mut excess = Vec::new();
        let mut push = |key, item: String, fix: String| excess.push(Excess { key, item, fix });
        for (name, when) in syscalls.beyond(&ceiling.syscalls).iter() {
            push("syscalls", display(name, when), in_ceiling("syscalls"));
        }
        if *write_execute && !ceiling.write_execute {
            push(
                "write-execute",
                "executable anonymous memory".into(),
                in_ceiling("write-execute"),
            );
        }
        for endpoint in connect - &ceiling.connect {
            push(
                "connect",
                endpoint.to_string(),
                format!("name it yourself: --connect {endpoint}"),
            );
        }
        if *public && !ceiling.public {
            push(
                "public",
                "endpoints at public addresses".into(),
                "say so yourself: --public".into(),
            );
        }
        for (first, last) in listen
            .ranges()
            .iter()
            .filter(|(first, last)| !ceiling.listen.covers(*first, *last))
        {
            let item = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            push("listen", item, in_ceiling("listen"));
        }
        match (tmpfs, &ceiling.tmpfs) {
            (TmpfsGrant::Only(asked), allowed) => {
                for (path, size) in asked
                    .iter()
                    .filter(|(path, size)| **size > allowed.allowed(path))
                {
                    push(
                        "tmpfs",
                        format!("{} of {size} bytes", path.display()),
                        in_ceiling("tmpfs"),
                    );
                }
            }
            (TmpfsGrant::Anywhere { each }, TmpfsGrant::Anywhere { each: allowed })
                if each <= allowed => {}
            (TmpfsGrant::Anywhere { each }, _) => push(
                "tmpfs",
                format!("anywhere, {each} bytes each"),
                in_ceiling("tmpfs"),
            ),
        }
        for (key, asked, allowed) in [
            ("open-files", open_files, ceiling.open_files),
            ("processes", processes, ceiling.processes),
        ] {
            if *asked > allowed {
                push(key, asked.to_string(), in_ceiling(key));
            }
        }
        excess
    }
}

fn in_ceiling(key: &str) -> String {
    format!("allow it under `{key}` in the ceiling, or go on without it: --narrow")
}
