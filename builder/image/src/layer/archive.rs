//! Reading a tar archive that may be hostile: each header as it stands, extended headers bounded before they are read.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use crate::error::{Error, Result};

/// An extended header holds a name or two; the kernel takes 4,096 bytes of one.
const MAX_EXTENDED: u64 = 64 << 10;
/// Bytes of an entry's path, or of a link's target with a NUL after it.
pub const MAX_PATH: usize = 4096;
/// Names in an entry's path.
pub const MAX_DEPTH: usize = 128;

/// What an entry is, with names already checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Symlink(PathBuf),
    /// To another path of the same layer.
    Hardlink(PathBuf),
}

/// One entry to make.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative, without `.` and `..`; empty for the root itself.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
    pub(super) size: u64,
    /// It has file capabilities (`security.capability`).
    pub(super) capability: bool,
}

/// What the headers before an entry said of it.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    size: Option<u64>,
    capability: bool,
}

/// Calls `each` for every entry of the archive, with the content of a file.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the types of a foreign list that are not taken are refused alike"
)]
pub(super) fn read(
    reader: impl Read,
    mut each: impl FnMut(Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let broken = |error: io::Error| {
        Error::refused(
            "layer",
            format!("is no tar archive: {error}"),
            "rebuild or pull the image again",
        )
    };
    let mut archive = tar::Archive::new(reader);
    let mut extended = Extended::default();
    for raw in archive.entries().map_err(broken)?.raw(true) {
        let mut raw = raw.map_err(broken)?;
        let kind = raw.header().entry_type();
        match kind {
            EntryType::XHeader => parse_pax(&bounded(&mut raw)?, &mut extended)?,
            EntryType::GNULongName => extended.path = Some(without_nul(bounded(&mut raw)?)),
            EntryType::GNULongLink => extended.link = Some(without_nul(bounded(&mut raw)?)),
            // Comments for all that follow; nothing that is used here.
            EntryType::XGlobalHeader => drop(bounded(&mut raw)?),
            _ => {
                let entry = entry(raw.header(), std::mem::take(&mut extended))?;
                each(entry, &mut raw)?;
            }
        }
    }
    Ok(())
}

fn bounded(raw: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    raw.take(MAX_EXTENDED + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io(Path::new("layer")))?;
    if bytes.len() as u64 > MAX_EXTENDED {
        return Err(Error::refused(
            "layer",
            format!("has an extended header of more than {MAX_EXTENDED} bytes"),
            "rebuild the image with shorter names",
        ));
    }
    Ok(bytes)
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// `LENGTH KEY=VALUE\n` records; what is not used is passed over.
fn parse_pax(mut bytes: &[u8], into: &mut Extended) -> Result<()> {
    let bad = || {
        Error::refused(
            "layer",
            "has a malformed pax header",
            "rebuild or pull the image again",
        )
    };
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|&byte| byte == b' ')
            .ok_or_else(bad)?;
        let length: usize = number(bytes.get(..space).unwrap_or_default())
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(bad)?;
        let record = bytes.get(space + 1..length).ok_or_else(bad)?;
        let (last, record) = record.split_last().ok_or_else(bad)?;
        let equals = record
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or_else(bad)?;
        let (key, value) = (
            record.get(..equals).unwrap_or_default(),
            record.get(equals + 1..).unwrap_or_default(),
        );
        if *last != b'\n' {
            return Err(bad());
        }
        match key {
            b"path" => into.path = Some(value.to_vec()),
            b"linkpath" => into.link = Some(value.to_vec()),
            b"uid" => into.uid = Some(number(value).ok_or_else(bad)?),
            b"gid" => into.gid = Some(number(value).ok_or_else(bad)?),
            b"size" => into.size = Some(number(value).ok_or_else(bad)?),
            b"SCHILY.xattr.security.capability" => into.capability = true,
            _ if key.starts_with(b"GNU.sparse") => {
                return Err(Error::refused(
                    "layer",
                    "has a sparse file",
                    "rebuild the image without sparse files",
                ));
            }
            _ => {}
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the types of a foreign list that are not taken are refused alike"
)]
fn entry(header: &tar::Header, extended: Extended) -> Result<Entry> {
    let malformed = |error: io::Error| {
        Error::refused(
            "layer",
            format!("has a malformed header: {error}"),
            "rebuild or pull the image again",
        )
    };
    let name = extended
        .path
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let path = check_path(&name)?;
    let link = || {
        extended
            .link
            .clone()
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default()
    };
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        // Old archives mark a directory by its name alone.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Symlink => Kind::Symlink(check_target(&path, &link())?),
        EntryType::Link => Kind::Hardlink(check_path(&link())?),
        EntryType::Char | EntryType::Block => return Err(unwanted(&path, "is a device node")),
        EntryType::Fifo => return Err(unwanted(&path, "is a named pipe")),
        _ => return Err(unwanted(&path, "is of a kind that no image needs")),
    };
    let size = header.entry_size().map_err(malformed)?;
    if extended.size.is_some_and(|said| said != size) {
        return Err(unwanted(&path, "has two different sizes"));
    }
    Ok(Entry {
        path,
        kind,
        mode: header.mode().map_err(malformed)? & 0o7777,
        uid: extended
            .uid
            .map_or_else(|| header.uid().map_err(malformed), Ok)?,
        gid: extended
            .gid
            .map_or_else(|| header.gid().map_err(malformed), Ok)?,
        mtime: i64::try_from(header.mtime().map_err(malformed)?).unwrap_or(0),
        size,
        capability: extended.capability,
    })
}

fn unwanted(path: &Path, problem: &str) -> Error {
    Error::refused(
        format!("layer: {}", path.display()),
        problem,
        "remove it from the image",
    )
}

/// A leading `/` or `./` is the archive's root; a `..` anywhere is refused, since nobody needs one to name a file.
fn check_path(name: &[u8]) -> Result<PathBuf> {
    let shown = || {
        String::from_utf8_lossy(name.get(..name.len().min(200)).unwrap_or_default())
            .escape_debug()
            .to_string()
    };
    let bad = |problem: &str| {
        Error::refused(
            format!("layer: {}", shown()),
            problem,
            "rebuild the image: its archive is not one to trust",
        )
    };
    if name.len() > MAX_PATH || name.contains(&0) {
        return Err(bad("is no path name"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) if part.len() <= 255 => path.push(part),
            Component::Normal(_) => return Err(bad("has a component of more than 255 bytes")),
            Component::ParentDir | Component::Prefix(_) => return Err(bad("climbs out with `..`")),
        }
    }
    if path.components().count() > MAX_DEPTH {
        return Err(bad("is nested too deep"));
    }
    Ok(path)
}

/// A link's text is never followed outside: it is resolved in the payload's root only.
fn check_target(path: &Path, target: &[u8]) -> Result<PathBuf> {
    if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
        return Err(unwanted(path, "is a link to no path name"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_below_the_root_or_not_at_all() {
        for (name, want) in [
            ("./usr/bin/x", Some("usr/bin/x")),
            ("/etc/passwd", Some("etc/passwd")),
            ("./", Some("")),
            ("a/../b", None),
            ("..", None),
            ("a\0b", None),
        ] {
            assert_eq!(
                check_path(name.as_bytes()).ok(),
                want.map(PathBuf::from),
                "{name:?}"
            );
        }
        assert_eq!(check_path("a/".repeat(200).as_bytes()).ok(), None);
        assert_eq!(check_path(&[b'a'; 300]).ok(), None);
    }

    #[test]
    fn pax_records_are_read_and_broken_ones_refused() {
        let mut extended = Extended::default();
        parse_pax(b"12 path=a/b\n10 uid=70\n", &mut extended).unwrap();
        assert_eq!(
            (extended.path.as_deref(), extended.uid),
            (Some(&b"a/b"[..]), Some(70))
        );
        for bytes in [
            &b"99 path=a\n"[..],
            b"x path=a\n",
            b"9 path=ab",
            b"0 a=b\n",
            b"4 =\n",
            b"3",
        ] {
            drop(parse_pax(bytes, &mut Extended::default()));
        }
        assert!(parse_pax(b"99 path=a\n", &mut Extended::default()).is_err());
        assert!(parse_pax(b"18 GNU.sparse.a=1\n", &mut Extended::default()).is_err());
    }
}
