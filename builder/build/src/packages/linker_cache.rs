//! `/etc/ld.so.cache` as `ldconfig` would leave it, which runs in packages' triggers: names of libraries and where they lie, in glibc's format 1.1.
//!
//! The linker looks here before its default directories, and only here for those that `/etc/ld.so.conf.d` names.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use crate::elf::{self, Kind};
use crate::entries::{Content, EntryKind};
use crate::error::Problem;
use crate::library::{AARCH64, Machine};
use crate::origin::Origin;
use crate::path::ImagePath;
use crate::tree::{Node, Tree};

const PLACE: &str = "/etc/ld.so.cache";
const CONFIGURED: &str = "/etc/ld.so.conf.d";
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const LITTLE_ENDIAN: u8 = 2;
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// An ELF library for glibc 2, in words of 64 bits.
const X86_64_LIBRARY: u32 = 0x0303;
const AARCH64_LIBRARY: u32 = 0x0a03;
/// Bytes of one file of directories.
const MAX_CONF: u64 = 64 << 10;

/// Adds the cache of all libraries that are there by now, if there is any.
pub(crate) fn add(key: &str, machine: Machine, tree: &mut Tree) -> Result<(), Problem> {
    let mut libraries: BTreeMap<Name, String> = BTreeMap::new();
    for directory in directories(machine, tree) {
        for (name, path) in in_directory(&directory, machine, tree) {
            // The first directory that has a name is where it is found.
            libraries.entry(Name(name)).or_insert(path);
        }
    }
    if libraries.is_empty() {
        return Ok(());
    }
    let Some(bytes) = encode(&libraries, machine) else {
        return Ok(());
    };
    let place = ImagePath::parse(PLACE).map_err(|why| Problem::new(key, why, "report this"))?;
    let kind = EntryKind::File {
        length: bytes.len() as u64,
        content: Content::Generated(bytes.into()),
        executable: false,
    };
    let origin = Origin::generated(key, "ld.so.cache", None);
    tree.add(&place, kind, &origin).map(drop)
}

/// Those that packages configure, then the linker's own; each once, by its real place.
fn directories(machine: Machine, tree: &Tree) -> Vec<ImagePath> {
    let mut named = Vec::new();
    if let Ok(configured) = ImagePath::parse(CONFIGURED) {
        for (path, source) in tree.files_in(&configured) {
            let is_conf = path.as_path().extension().is_some_and(|end| end == "conf");
            let mut text = String::new();
            let read = source
                .open()
                .and_then(|(file, _)| file.take(MAX_CONF).read_to_string(&mut text));
            // One that is no text names no directory, to ldconfig either.
            if is_conf && read.is_ok() {
                named.extend(text.lines().map(|line| line.trim().to_owned()));
            }
        }
    }
    named.extend(machine.search().map(str::to_owned));
    let mut found: Vec<ImagePath> = Vec::new();
    for name in named.iter().filter(|name| name.starts_with('/')) {
        if let Ok((place, Node::Directory)) = tree.walk(Path::new(name))
            && !found.contains(&place)
        {
            found.push(place);
        }
    }
    found
}

/// Name and path of each library that lies there.
fn in_directory(directory: &ImagePath, machine: Machine, tree: &Tree) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, source) in tree.files_in(directory) {
        let file_name = path
            .name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_library = file_name.contains(".so")
            && (file_name.starts_with("lib") || file_name.starts_with("ld-"));
        if !is_library {
            continue;
        }
        // What the linker could not load either is in no cache.
        let Ok(Kind::Dynamic(dynamic)) = source
            .open()
            .map_err(|error| error.to_string())
            .and_then(|(file, _)| elf::inspect(file))
        else {
            continue;
        };
        if dynamic.abi != machine.abi {
            continue;
        }
        let name = dynamic
            .soname
            .filter(|name| !name.contains('/'))
            .unwrap_or(file_name);
        // By the link of that name, where there is one.
        let linked = directory.child(name.as_ref());
        let at = match tree.walk(linked.as_path()) {
            Ok((place, Node::File { .. })) if place == path => linked,
            _ => path,
        };
        found.push((name, at.to_string()));
    }
    found
}

/// `None`: it would be too large, which no cache is.
fn encode(libraries: &BTreeMap<Name, String>, machine: Machine) -> Option<Vec<u8>> {
    let kind = if machine.abi == AARCH64.abi {
        AARCH64_LIBRARY
    } else {
        X86_64_LIBRARY
    };
    let number = |number: usize| u32::try_from(number).ok().map(u32::to_le_bytes);
    let start = HEADER + libraries.len() * ENTRY;
    let mut strings = Vec::new();
    let mut entries = Vec::new();
    // The linker searches by halving, from the highest.
    for (Name(name), path) in libraries.iter().rev() {
        let mut string = |text: &str| {
            let at = start + strings.len();
            strings.extend(text.bytes());
            strings.push(0);
            number(at)
        };
        let (name, path) = (string(name)?, string(path)?);
        entries.extend(kind.to_le_bytes());
        entries.extend(name);
        entries.extend(path);
        // No version of an operating system, no capability of the hardware.
        entries.extend([0; 12]);
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(number(libraries.len())?);
    bytes.extend(number(strings.len())?);
    bytes.extend([LITTLE_ENDIAN, 0, 0, 0]);
    bytes.extend([0; 16]);
    bytes.extend(entries);
    bytes.extend(strings);
    Some(bytes)
}

/// In the linker's order: numbers by their value, and after everything else.
#[derive(Debug, PartialEq, Eq)]
struct Name(String);

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (self.0.as_bytes(), other.0.as_bytes());
        loop {
            let (Some(one), Some(two)) = (left.first(), right.first()) else {
                return left
                    .len()
                    .cmp(&right.len())
                    .then_with(|| self.0.cmp(&other.0));
            };
            match (one.is_ascii_digit(), two.is_ascii_digit()) {
                (true, true) => {
                    let (first, second) = (run(&mut left), run(&mut right));
                    let order = first.cmp(&second);
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                (true, false) => return Ordering::Greater,
                (false, true) => return Ordering::Less,
                (false, false) if one != two => return one.cmp(two),
                (false, false) => {
                    left = left.get(1..).unwrap_or_default();
                    right = right.get(1..).unwrap_or_default();
                }
            }
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The number at the start, which is passed over. The linker's is of 32 bits; a longer one is in no name.
fn run(text: &mut &[u8]) -> u64 {
    let mut value = 0_u64;
    while let Some((digit, rest)) = text
        .split_first()
        .filter(|(digit, _)| digit.is_ascii_digit())
    {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        *text = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::X86_64;

    #[test]
    fn names_are_in_the_linker_s_order() {
        let rising = [
            "ld-linux.so.2",
            "liba.so",
            "liba.so.9",
            "liba.so.10",
            "libab.so.1",
            "libb-1.so.0",
            "liba1.so",
            "libz.so.1",
        ];
        let mut sorted: Vec<Name> = rising.iter().map(|name| Name((*name).to_owned())).collect();
        sorted.sort();
        // By hand: a digit is after every letter.
        let names: Vec<&str> = sorted.iter().map(|Name(name)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "ld-linux.so.2",
                "liba.so",
                "liba.so.9",
                "liba.so.10",
                "libab.so.1",
                "liba1.so",
                "libb-1.so.0",
                "libz.so.1"
            ]
        );
    }

    /// What `ldconfig` itself reads of it, where there is one.
    #[test]
    fn ldconfig_reads_what_was_written() {
        let libraries: BTreeMap<Name, String> = ["libb.so.10", "libb.so.9", "liba.so.1"]
            .iter()
            .map(|name| (Name((*name).to_owned()), format!("/usr/lib/{name}")))
            .collect();
        let bytes = encode(&libraries, X86_64).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        std::fs::write(&path, bytes).unwrap();
        let told = std::process::Command::new("/sbin/ldconfig")
            .args(["-p", "-C"])
            .arg(&path)
            .output();
        let Ok(told) = told else { return };
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let lines: Vec<&str> = text.lines().skip(1).take(3).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "libb.so.10 (libc6,x86-64) => /usr/lib/libb.so.10",
                "libb.so.9 (libc6,x86-64) => /usr/lib/libb.so.9",
                "liba.so.1 (libc6,x86-64) => /usr/lib/liba.so.1",
            ]
        );
    }
}
