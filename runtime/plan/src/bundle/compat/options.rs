//! The options of one entry of `mounts`: each word of the specification's table, everything else is for the file system.

use crate::bundle::Propagation;

/// `MOUNT_ATTR_*` of `mount_setattr(2)`.
pub(super) const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
/// A field of its own, not bits: the kernel wants all of it cleared where any value of it is set.
const ATIME: u64 = 0x70;
const RELATIME: u64 = 0x0;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x0020_0000;
const SAID_TOGETHER: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;

/// What the words of an entry say together; a later word takes back an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) bind: bool,
    /// `rbind`.
    pub(super) recursive: bool,
    pub(super) remount: bool,
    pub(super) own: Attributes,
    pub(super) below: Attributes,
    pub(super) propagation: Vec<Propagation>,
    pub(super) copy_up: bool,
    /// `idmap` is `Some(false)`, `ridmap` is `Some(true)`.
    pub(super) idmap: Option<bool>,
    /// For `fsconfig(2)`: a flag has no value.
    pub(super) data: Vec<(String, Option<String>)>,
}

/// Attributes to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Attributes {
    fn add(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn take(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    fn atime(&mut self, value: u64) {
        self.clear |= ATIME;
        self.set = self.set & !ATIME | value;
    }

    /// `norelatime` and its like: back to the kernel's default, if that value was the last word.
    fn not_atime(&mut self, value: u64) {
        self.clear |= ATIME;
        if self.set & ATIME == value {
            self.set &= !ATIME;
        }
    }

    /// For a bind, as `mount --bind -o remount` and every runtime have it: one that says any attribute says them all, and what it leaves out is off, whatever
    /// the source has. Access times stay. Where attributes of the host's mounts are `locked`, those that only take rights away stay too.
    pub(super) fn whole(mut self, locked: bool) -> Self {
        if self != Self::default() {
            let all = if locked { NOSYMFOLLOW } else { SAID_TOGETHER };
            self.clear |= all & !self.set;
        }
        self
    }

    /// One word; false: it is none of them.
    fn word(&mut self, word: &str) -> bool {
        match word {
            "ro" => self.add(RDONLY),
            "rw" => self.take(RDONLY),
            "nosuid" => self.add(NOSUID),
            "suid" => self.take(NOSUID),
            "nodev" => self.add(NODEV),
            "dev" => self.take(NODEV),
            "noexec" => self.add(NOEXEC),
            "exec" => self.take(NOEXEC),
            "nodiratime" => self.add(NODIRATIME),
            "diratime" => self.take(NODIRATIME),
            "nosymfollow" => self.add(NOSYMFOLLOW),
            "symfollow" => self.take(NOSYMFOLLOW),
            "relatime" => self.atime(RELATIME),
            "noatime" => self.atime(NOATIME),
            "strictatime" => self.atime(STRICTATIME),
            "atime" => self.not_atime(NOATIME),
            "norelatime" => self.not_atime(RELATIME),
            "nostrictatime" => self.not_atime(STRICTATIME),
            _ => return false,
        }
        true
    }
}

/// Every word that is understood here, for `features`.
#[must_use]
pub fn mount_options() -> Vec<&'static str> {
    let mut words = vec![
        "acl",
        "async",
        "bind",
        "defaults",
        "dirsync",
        "idmap",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noacl",
        "noiversion",
        "nolazytime",
        "nomand",
        "private",
        "rbind",
        "remount",
        "ridmap",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "shared",
        "silent",
        "slave",
        "sync",
        "tmpcopyup",
        "unbindable",
    ];
    words.extend(OWN);
    words.extend(BELOW);
    words.sort_unstable();
    words
}

const OWN: [&str; 18] = [
    "atime",
    "dev",
    "diratime",
    "exec",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "relatime",
    "ro",
    "rw",
    "strictatime",
    "suid",
    "symfollow",
];
const BELOW: [&str; 18] = [
    "ratime",
    "rdev",
    "rdiratime",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "rrelatime",
    "rro",
    "rrw",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
];

pub(super) fn options(words: &[String]) -> Options {
    let mut options = Options::default();
    for word in words {
        options.word(word);
    }
    options
}

impl Options {
    fn word(&mut self, word: &str) {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "private" => self.propagation.push(Propagation::Private),
            "rprivate" => self.propagation.push(Propagation::RPrivate),
            "slave" => self.propagation.push(Propagation::Slave),
            "rslave" => self.propagation.push(Propagation::RSlave),
            "shared" => self.propagation.push(Propagation::Shared),
            "rshared" => self.propagation.push(Propagation::RShared),
            "unbindable" => self.propagation.push(Propagation::Unbindable),
            "runbindable" => self.propagation.push(Propagation::RUnbindable),
            // Flags of the file system itself; fsconfig takes them by these names.
            "sync" | "dirsync" | "lazytime" | "mand" => self.flag(word),
            "async" => self.unflag("sync"),
            "nolazytime" => self.unflag("lazytime"),
            "nomand" => self.unflag("mand"),
            // Of mount(2) alone: no part of it reaches what is mounted by fsconfig, nor did it change what a payload may do. `silent` and `loud` are about
            // the kernel's log, ACLs are on wherever a file system has them, and `iversion` is the file system's own choice by now.
            "defaults" | "silent" | "loud" | "acl" | "noacl" | "iversion" | "noiversion" | "" => {}
            _ => self.rest(word),
        }
    }

    fn rest(&mut self, word: &str) {
        if self.own.word(word) {
            return;
        }
        // `rro` is `ro` for all below; `relatime` is none of these, and was taken above.
        if BELOW.contains(&word)
            && word
                .strip_prefix('r')
                .is_some_and(|word| self.below.word(word))
        {
            return;
        }
        self.data.push(match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word.to_owned(), None),
        });
    }

    fn flag(&mut self, word: &str) {
        self.unflag(word);
        self.data.push((word.to_owned(), None));
    }

    fn unflag(&mut self, word: &str) {
        self.data.retain(|(key, _)| key != word);
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
