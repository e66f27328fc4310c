//! The `mounts` of a config. The usual file systems are airtight's own, whatever options are written; a tmpfs elsewhere is made; a bind is a volume at most.

use std::path::{Path, PathBuf};

use super::{Beyonds, Extras};
use crate::bundle::compat::mounts::destination;
use crate::bundle::{Config, MountEntry};
use crate::mounts::{is_own, is_source};
use crate::{Tmpfs, Volume};

/// What every sandbox has, or has not on purpose (`/sys`): destination and the types that callers write for it.
const OWN: &[(&str, &[&str])] = &[
    ("/proc", &["proc"]),
    ("/dev", &["tmpfs"]),
    ("/dev/pts", &["devpts"]),
    ("/dev/shm", &["tmpfs"]),
    ("/dev/mqueue", &["mqueue"]),
    ("/sys", &["sysfs"]),
    ("/sys/fs/cgroup", &["cgroup", "cgroup2"]),
];
/// Of a tmpfs without `size=`: 64 MiB.
const TMPFS_BYTES: u64 = 64 << 20;
const IS_OURS: &str = "left out: that place is airtight's own";

pub(super) fn mounts(
    config: &Config,
    extras: &mut Extras,
    beyond: &mut Beyonds,
) -> (Vec<Tmpfs>, Vec<Volume>) {
    let mut kept = Kept {
        tmpfs: Vec::new(),
        volumes: Vec::new(),
        extras,
        beyond,
    };
    for (at, entry) in config.mounts.iter().enumerate() {
        kept.add(&format!("mounts[{at}]"), entry);
    }
    (kept.tmpfs, kept.volumes)
}

struct Kept<'a> {
    tmpfs: Vec<Tmpfs>,
    volumes: Vec<Volume>,
    extras: &'a mut Extras,
    beyond: &'a mut Beyonds,
}

impl Kept<'_> {
    fn add(&mut self, key: &str, entry: &MountEntry) {
        let place = format!("{key}.destination");
        let path = match destination(entry) {
            Ok(path) => path,
            Err(refusal) => return self.beyond.add(place, refusal.problem, "left out"),
        };
        let has = |words: &[&str]| {
            entry
                .options
                .iter()
                .any(|option| words.contains(&option.as_str()))
        };
        let bind = entry.kind == "bind" || has(&["bind", "rbind"]);
        let own = OWN
            .iter()
            .any(|(own, kinds)| Path::new(own) == path && kinds.contains(&entry.kind.as_str()));
        if own && !bind {
            return self.own(key, entry, &path);
        }
        if bind {
            self.bind(place, entry, path, has(&["ro", "rro"]));
        } else if entry.kind == "tmpfs" && !has(&["remount"]) {
            self.memory(key, entry, path, has(&["ro", "rro"]));
        } else {
            let problem = format!(
                "type `{}` of {} at {} is not honoured: a mount here is a tmpfs",
                entry.kind.escape_debug(),
                entry.source.escape_debug(),
                shown(&path)
            );
            self.beyond.add(place, problem, "left out");
        }
    }

    /// Ours, whatever is written there, but for what would take from the payload what ours gives it.
    fn own(&mut self, key: &str, entry: &MountEntry, path: &Path) {
        let shared_memory = path == Path::new("/dev/shm");
        for option in &entry.options {
            let problem = match option.as_str() {
                "ro" | "rro" if shared_memory => "is not honoured: it can be written",
                text if text.starts_with("hidepid=") || text.starts_with("subset=") => {
                    "is not honoured: all of the sandbox's own processes are in /proc"
                }
                text if shared_memory => match text.strip_prefix("size=").map(bytes) {
                    Some(size) if size.is_none_or(|size| size < TMPFS_BYTES) => {
                        "is not honoured: it has 64 MiB"
                    }
                    _ => continue,
                },
                _ => continue,
            };
            let problem = format!("`{}` of {} {problem}", option.escape_debug(), shown(path));
            self.beyond
                .add(format!("{key}.options"), problem, "as every sandbox has it");
        }
    }

    fn bind(&mut self, place: String, entry: &MountEntry, path: PathBuf, read_only: bool) {
        let problem = format!(
            "a bind of {} at {} is not honoured: a mount here is a tmpfs",
            entry.source.escape_debug(),
            shown(&path)
        );
        let source = PathBuf::from(&entry.source);
        let narrowed = if is_own(&path) {
            IS_OURS
        } else if !is_source(&source) {
            "left out: nothing of that source is given to a sandbox"
        } else if self.taken(&path) {
            "left out: another mount is there"
        } else {
            self.volumes.push(Volume {
                source,
                destination: path,
                read_only,
            });
            if read_only {
                "a volume: read-only, nosuid, nodev, noexec"
            } else {
                "a volume: nosuid, nodev, noexec"
            }
        };
        self.beyond.add(place, problem, narrowed);
    }

    fn memory(&mut self, key: &str, entry: &MountEntry, path: PathBuf, read_only: bool) {
        let place = format!("{key}.destination");
        if is_own(&path) {
            let problem = format!("a tmpfs at {} is not honoured", shown(&path));
            return self.beyond.add(place, problem, IS_OURS);
        }
        if self.taken(&path) {
            let problem = format!("there is another mount at or around {}", shown(&path));
            return self.beyond.add(place, problem, "left out");
        }
        if read_only {
            let problem = "is read-only: a tmpfs here can be written";
            self.beyond
                .add(format!("{key}.options"), problem, "an empty directory");
            self.extras.masked.push(path);
            return;
        }
        let size = self.size(&format!("{key}.options"), entry);
        self.tmpfs.push(Tmpfs { path, size });
    }

    /// A place has one mount, and in a tmpfs, which starts empty, there is nothing to mount on.
    fn taken(&self, path: &Path) -> bool {
        let volumes = self.volumes.iter().map(|volume| &volume.destination);
        volumes.clone().any(|other| other == path)
            || self
                .tmpfs
                .iter()
                .any(|other| path.starts_with(&other.path) || other.path.starts_with(path))
    }

    /// Options that hold for every tmpfs here are fine.
    fn size(&mut self, key: &str, entry: &MountEntry) -> u64 {
        const KEPT: [&str; 8] = [
            "nosuid",
            "nodev",
            "noexec",
            "rw",
            "strictatime",
            "relatime",
            "noatime",
            "mode=1777",
        ];
        let mut size = TMPFS_BYTES;
        for option in &entry.options {
            match option.strip_prefix("size=").map(bytes) {
                Some(Some(bytes)) => size = bytes,
                None if KEPT.contains(&option.as_str()) => {}
                Some(None) | None => {
                    let problem = format!(
                        "`{}` is not honoured: a tmpfs here is rw, nosuid, nodev, noexec, mode=1777",
                        option.escape_debug()
                    );
                    self.beyond.add(key, problem, "left out");
                }
            }
        }
        size
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// tmpfs(5): bytes, or a number with k, m or g.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len() - 1)?, 10),
        b'm' | b'M' => (text.get(..text.len() - 1)?, 20),
        b'g' | b'G' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0 && i64::try_from(*bytes).is_ok())
}
