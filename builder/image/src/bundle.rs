//! What a launch asks of an image besides its layers: whose ids `User` means. The image's own account files are read, below its layers.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use airtight_sys::open::{is_opaque, open_beneath};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{Error, Result};

/// An account file larger than this is no account file.
const MAX_ACCOUNTS: u64 = 1 << 20;
const MAX_GROUPS: usize = 64;
/// The kernel's own bound on links in one walk.
const MAX_LINKS: usize = 40;
/// An image that does not say.
const NOBODY: (u32, u32) = (65532, 65532);

/// Uid, gid and supplementary gids of `USER[:GROUP]`, by number or by a name in the image.
///
/// # Errors
/// A name that the image does not have.
pub fn resolve_user(layers: &[PathBuf], user: &str) -> Result<(u32, u32, Vec<u32>)> {
    if user.is_empty() {
        return Ok((NOBODY.0, NOBODY.1, Vec::new()));
    }
    let (user, group) = user
        .split_once(':')
        .map_or((user, None), |(user, group)| (user, Some(group)));
    let uid = user.parse::<u32>().ok();
    // Numbers need no file, which is the fast and the usual case.
    if let (Some(uid), Some(Ok(gid))) = (uid, group.map(str::parse)) {
        return Ok((uid, gid, Vec::new()));
    }
    let passwd = account_file(layers, "etc/passwd")?;
    let entry = fields(&passwd).find(|row| {
        row.first() == Some(&user)
            || (uid.is_some() && row.get(2).and_then(|id| id.parse().ok()) == uid)
    });
    let number = |row: &Vec<&str>, at: usize| row.get(at).and_then(|id| id.parse::<u32>().ok());
    let uid = match uid.or_else(|| entry.as_ref().and_then(|row| number(row, 2))) {
        Some(uid) => uid,
        None => return Err(missing("user", user, "etc/passwd")),
    };
    let groups = account_file(layers, "etc/group")?;
    let gid = match group {
        Some(name) => match name.parse().ok().or_else(|| {
            fields(&groups)
                .find(|row| row.first() == Some(&name))
                .as_ref()
                .and_then(|row| number(row, 2))
        }) {
            Some(gid) => gid,
            None => return Err(missing("group", name, "etc/group")),
        },
        // A number that the image does not know gets the group of the same number, never root's.
        None => entry.as_ref().and_then(|row| number(row, 3)).unwrap_or(uid),
    };
    let name = entry.as_ref().and_then(|row| row.first().copied());
    let member = |row: &Vec<&str>| {
        name.is_some_and(|name| {
            row.get(3)
                .is_some_and(|members| members.split(',').any(|member| member == name))
        })
    };
    let mut more: Vec<u32> = fields(&groups)
        .filter(member)
        .filter_map(|row| number(&row, 2))
        .filter(|&id| id != gid && id != 0)
        .collect();
    more.truncate(MAX_GROUPS);
    Ok((uid, gid, more))
}

fn missing(kind: &str, name: &str, file: &str) -> Error {
    let shown = name.escape_debug();
    Error::refused(
        format!("{kind} `{shown}`"),
        format!("is not in the image's /{file}"),
        "give numbers, like `65532:65532`, in the image's `user` or with --user",
    )
}

fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// As the payload will see it: of the highest layer that has it, links followed, and empty where a layer hides it or none has it.
fn account_file(layers: &[PathBuf], path: &str) -> Result<String> {
    let refused = |problem: &str| {
        Error::refused(
            format!("the image's /{path}"),
            problem,
            "rebuild the image, or give --user as numbers",
        )
    };
    let mut at = PathBuf::from(path);
    for _ in 0..MAX_LINKS {
        match look(layers, &at)? {
            Seen::Nothing => return Ok(String::new()),
            Seen::Other => return Err(refused("is no file")),
            Seen::File(file, shown) => {
                let mut bytes = Vec::new();
                file.take(MAX_ACCOUNTS)
                    .read_to_end(&mut bytes)
                    .map_err(Error::io(&shown))?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Seen::Link { place, target } => {
                let rest = at.strip_prefix(&place).unwrap_or(Path::new(""));
                let from = place.parent().unwrap_or(Path::new(""));
                at = joined(from, &target.join(rest)).ok_or_else(|| {
                    refused("is behind a link that goes down and up again with `..`")
                })?;
            }
        }
    }
    Err(refused("is behind too many links"))
}

/// `from` has no links, so that a leading `..` is its parent; a later one need not be what it looks like.
fn joined(from: &Path, target: &Path) -> Option<PathBuf> {
    let mut at = from.to_owned();
    let mut down = false;
    for part in target.components() {
        match part {
            Component::RootDir => at = PathBuf::new(),
            Component::CurDir => {}
            // The root's parent is the root.
            Component::ParentDir if !down => drop(at.pop()),
            Component::ParentDir | Component::Prefix(_) => return None,
            Component::Normal(name) => {
                down = true;
                at.push(name);
            }
        }
    }
    Some(at)
}

/// What an overlay of the layers has at a path.
enum Seen {
    Nothing,
    File(File, PathBuf),
    Link { place: PathBuf, target: PathBuf },
    Other,
}

/// From the highest layer down, until one has it or hides what the layers below have.
fn look(layers: &[PathBuf], path: &Path) -> Result<Seen> {
    for layer in layers.iter().rev() {
        let root = File::open(layer).map_err(Error::io(layer))?;
        // Where the layer has the file itself, one open tells; O_NONBLOCK, since it may be anything.
        let read = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        // All that is there of a path whose end is missing are directories.
        let mut upto = path;
        match open_beneath(&root, path, read) {
            Ok(file) => {
                let file = File::from(file);
                if file.metadata().map_err(Error::io(layer))?.is_file() {
                    return Ok(Seen::File(file, layer.join(path)));
                }
            }
            Err(error) if error.errno == Errno::ENOENT => {
                upto = path.parent().unwrap_or(Path::new(""));
            }
            // A link, a whiteout, or a file that cannot be read: which, the walk tells.
            Err(_) => {}
        }
        if let Some(seen) = walk(&root, layer, path, upto)? {
            return Ok(seen);
        }
    }
    Ok(Seen::Nothing)
}

/// What one layer, which has no more than `upto` of it, says of a path; `None` if the next one is to be asked.
fn walk(root: &File, layer: &Path, path: &Path, upto: &Path) -> Result<Option<Seen>> {
    let mut place = PathBuf::new();
    // Below a directory with the mark, the layers below are not seen.
    let mut hides = false;
    for name in upto {
        place.push(name);
        let shown = layer.join(&place);
        // O_PATH: opening a device or pipe does things.
        let found = match open_beneath(root, &place, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            Ok(found) => File::from(found),
            Err(error) if error.errno == Errno::ENOENT => {
                return Ok(hides.then_some(Seen::Nothing));
            }
            Err(error) => return Err(Error::sys(&shown)(error)),
        };
        let kind = found.metadata().map_err(Error::io(&shown))?;
        if kind.is_dir() {
            hides |= is_opaque(&shown).map_err(Error::sys(&shown))?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&shown).map_err(Error::io(&shown))?;
            return Ok(Some(Seen::Link { place, target }));
        } else if kind.file_type().is_char_device() && kind.rdev() == 0 || place != path {
            // A whiteout, or a file where a directory would have to be.
            return Ok(Some(Seen::Nothing));
        } else {
            return Ok(Some(Seen::Other));
        }
    }
    if upto == path {
        return Ok(Some(Seen::Other));
    }
    Ok(hides.then_some(Seen::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high) = (dir.path().join("low"), dir.path().join("high"));
        for (layer, passwd) in [
            (&low, "app:x:7:7::/:\n"),
            (&high, "root:x:0:0::/:\nweb:x:33:34::/:\n"),
        ] {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
            std::fs::write(layer.join("etc/passwd"), passwd).unwrap();
        }
        std::fs::write(
            low.join("etc/group"),
            "www:x:34:\nlogs:x:40:web,other\nwheel:x:0:web\n",
        )
        .unwrap();
        let layers = [low, high];
        for (name, user, want) in [
            ("unsaid", "", Some((65532, 65532, vec![]))),
            ("numbers", "1000:1001", Some((1000, 1001, vec![]))),
            ("a name", "web", Some((33, 34, vec![40]))),
            ("a name and a group", "web:www", Some((33, 34, vec![40]))),
            ("a number of the image", "33", Some((33, 34, vec![40]))),
            ("a number that is nobody's", "77", Some((77, 77, vec![]))),
            ("hidden by the layer above", "app", None),
            ("no such group", "web:nope", None),
        ] {
            assert_eq!(resolve_user(&layers, user).ok(), want, "{name}");
        }
    }
}
