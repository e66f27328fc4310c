//! Places below a root that is not to be trusted: found by descriptors, one name after the other, and made where they are missing.
//!
//! Nothing here is checked by path and used by path (CVE-2021-30465, CVE-2019-19921), and nothing is made by path (CVE-2024-45310): each name is opened below the
//! descriptor of the directory before it and is never followed by the kernel; a link is read and its names are walked in the same way, from the root on where it is
//! absolute. `..` goes back to a descriptor that was passed already, and at the root stays there. So whatever a second process swaps meanwhile, every
//! descriptor is one that was reached from the root downwards.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use airtight_sys::{SysError, open};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::super::{Failure, Result};

/// What the kernel itself allows on one path, and more than any image needs.
const LINKS_MAX: usize = 40;
/// Names walked and made for one place, links' included: a bound on what a hostile image, or one that is swapped all the time, may cost.
const STEPS_MAX: usize = 4096;

/// What a link on the way means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    Refuse,
}

/// What is made where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Fails,
    Directory,
    /// The last name a file, those before it directories.
    File,
}

/// A place below the root.
#[derive(Debug)]
pub(super) struct Place {
    /// `O_PATH`.
    pub(super) fd: OwnedFd,
    /// Relative to the root, without links; empty for the root itself.
    pub(super) path: PathBuf,
    /// It was not there.
    pub(super) made: bool,
}

/// `path`, which is absolute inside the root or relative to it.
pub(super) fn find(root: &OwnedFd, path: &Path, links: Links, missing: Missing) -> Result<Place> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    // Nearly every place is there and has no link on its way: one call.
    if relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
        && relative.as_os_str() != ""
    {
        // Without O_NOFOLLOW, with which a link at the end would be opened itself, and not be refused.
        match open::open_beneath(root, relative, OFlag::O_PATH) {
            Ok(fd) => {
                return Ok(Place {
                    fd,
                    path: relative.components().collect(),
                    made: false,
                });
            }
            Err(SysError {
                errno: Errno::ENOENT,
                ..
            }) if missing == Missing::Directory => {
                if let Some(place) = make_last(root, relative)? {
                    return Ok(place);
                }
            }
            // A link on the way is ELOOP.
            Err(
                error @ SysError {
                    errno: Errno::ENOENT,
                    ..
                },
            ) if missing == Missing::Fails => return Err(error.into()),
            Err(SysError {
                errno: Errno::ELOOP | Errno::ENOENT,
                ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut walk = Walk {
        root,
        passed: Vec::new(),
        made: false,
    };
    walk.go(path, links, missing)?;
    let path = walk.passed.iter().map(|(name, _)| name).collect();
    let fd = match walk.passed.pop() {
        Some((_, fd)) => fd,
        None => open::open_beneath(root, Path::new("."), OFlag::O_PATH)?,
    };
    Ok(Place {
        fd,
        path,
        made: walk.made,
    })
}

/// A directory of which only the last name is missing, and whose way there has no link. `None`: it is none such.
fn make_last(root: &OwnedFd, path: &Path) -> Result<Option<Place>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let opened = if parent.as_os_str().is_empty() {
        None
    } else {
        match open::open_beneath(root, parent, OFlag::O_PATH) {
            Ok(parent) => Some(parent),
            Err(_) => return Ok(None),
        }
    };
    let parent = opened.as_ref().unwrap_or(root);
    make(parent, name, false)?;
    // Looked at anew: what is there now may be another's, and a link is not followed.
    match open::open_beneath(parent, Path::new(name), OFlag::O_PATH) {
        Ok(fd) => Ok(Some(Place {
            fd,
            path: path.components().collect(),
            made: true,
        })),
        Err(_) => Ok(None),
    }
}

/// As [`find`], but `None` for what is not there.
pub(super) fn find_existing(root: &OwnedFd, path: &Path) -> Result<Option<Place>> {
    match find(root, path, Links::Follow, Missing::Fails) {
        Err(Failure::Sys(SysError {
            errno: Errno::ENOENT | Errno::ENOTDIR,
            ..
        })) => Ok(None),
        other => other.map(Some),
    }
}

struct Walk<'a> {
    root: &'a OwnedFd,
    /// Names and descriptors from the root down to where the walk is.
    passed: Vec<(OsString, OwnedFd)>,
    made: bool,
}

impl Walk<'_> {
    fn go(&mut self, path: &Path, links: Links, missing: Missing) -> Result<()> {
        // The next name is the last of the list.
        let mut rest: Vec<Part> = parts(path);
        let (mut followed, mut steps) = (0, 0);
        while let Some(part) = rest.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(too_many(path).into());
            }
            let name = match part {
                Part::Root => {
                    self.passed.clear();
                    continue;
                }
                Part::Up => {
                    self.passed.pop();
                    continue;
                }
                Part::Name(name) => name,
            };
            let at = self.passed.last().map_or(self.root, |(_, fd)| fd);
            let found = match open::open_name(at, &name) {
                Err(SysError {
                    errno: Errno::ENOENT,
                    ..
                }) if missing != Missing::Fails => {
                    make(at, &name, missing == Missing::File && rest.is_empty())?;
                    self.made |= rest.is_empty();
                    // Looked at anew: what is there now may be another's.
                    rest.push(Part::Name(name));
                    continue;
                }
                other => other?,
            };
            match open::link_target(&found)? {
                None => self.passed.push((name, found)),
                Some(_) if links == Links::Refuse => {
                    return Err(SysError::new("openat", shown(path), Errno::ELOOP).into());
                }
                Some(target) => {
                    followed += 1;
                    if followed > LINKS_MAX {
                        return Err(too_many(path).into());
                    }
                    rest.extend(parts(&target));
                }
            }
        }
        Ok(())
    }
}

enum Part {
    Root,
    Up,
    Name(OsString),
}

/// The parts of a path, the first of them last.
fn parts(path: &Path) -> Vec<Part> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::RootDir => Some(Part::Root),
            Component::ParentDir => Some(Part::Up),
            Component::Normal(name) => Some(Part::Name(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Another process may have made it a moment ago, which is as good.
fn make(at: &OwnedFd, name: &OsStr, file: bool) -> Result<()> {
    let made = if file {
        open::create(at, name, 0o755).map(drop)
    } else {
        open::mkdir(at, name, 0o755)
    };
    match made {
        Err(SysError {
            errno: Errno::EEXIST,
            ..
        }) => Ok(()),
        other => Ok(other?),
    }
}

fn too_many(path: &Path) -> SysError {
    SysError::new(
        "openat",
        format!("{}, too many links or names", shown(path)),
        Errno::ELOOP,
    )
}

fn shown(path: &Path) -> String {
    format!("{path:?} below the root")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directory: &tempfile::TempDir) -> OwnedFd {
        let root = directory.path().join("root");
        if !root.exists() {
            fs::create_dir(&root).unwrap();
        }
        fs::File::open(root).unwrap().into()
    }

    #[test]
    fn links_lead_to_places_inside_the_root_only() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(&directory);
        let at = |name: &str| directory.path().join("root").join(name);
        fs::create_dir_all(at("etc/deep")).unwrap();
        symlink("/etc", at("absolute")).unwrap();
        symlink("../../../../etc", at("etc/deep/up")).unwrap();
        symlink("etc/../absolute/deep", at("round")).unwrap();
        for (name, path, want) in [
            ("no link", "/etc/deep", "etc/deep"),
            ("absolute", "/absolute/deep", "etc/deep"),
            ("above the root", "/etc/deep/up/deep", "etc/deep"),
            ("link of a link", "/round", "etc/deep"),
            ("the root", "/", ""),
            ("above it", "/../..", ""),
            ("relative", "etc/./deep", "etc/deep"),
        ] {
            let place = find(&root, Path::new(path), Links::Follow, Missing::Fails).unwrap();
            assert_eq!(place.path, Path::new(want), "{name}");
            assert!(!place.made, "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_made_inside_the_root_even_below_a_link_that_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(&directory);
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        // CVE-2024-45310's shapes: the place does not exist yet, and a link on the way names a place of the host.
        let target = outside.join("new");
        symlink(&target, directory.path().join("root/absolute")).unwrap();
        symlink("../outside/new", directory.path().join("root/relative")).unwrap();
        for path in ["/absolute/a/b", "/relative/a/b"] {
            let place = find(&root, Path::new(path), Links::Follow, Missing::File).unwrap();
            assert!(place.made, "{path}");
            let at = directory.path().join("root").join(place.path);
            assert!(at.is_file(), "{path}: {at:?}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_an_error_where_none_is_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(&directory);
        fs::create_dir(directory.path().join("root/real")).unwrap();
        symlink("real", directory.path().join("root/proc")).unwrap();
        let path = Path::new("/proc");
        let error = find(&root, path, Links::Refuse, Missing::Directory).unwrap_err();
        assert!(
            matches!(&error, Failure::Sys(error) if error.errno == Errno::ELOOP),
            "{error:?}"
        );
        symlink("loop", directory.path().join("root/loop")).unwrap();
        let path = Path::new("/loop");
        let error = find(&root, path, Links::Follow, Missing::Directory).unwrap_err();
        assert!(
            matches!(&error, Failure::Sys(error) if error.errno == Errno::ELOOP),
            "{error:?}"
        );
    }

    #[test]
    fn nothing_there_is_no_place() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(&directory);
        fs::write(directory.path().join("root/file"), "").unwrap();
        for path in ["/none", "/none/below", "/file/below"] {
            assert!(
                find_existing(&root, Path::new(path)).unwrap().is_none(),
                "{path}"
            );
        }
    }
}
