//! Sources on this host: where they are looked up, and that what is read is what was planned. Others may write to a build's
//! directory while it runs; a link or another file that they put there is refused, never read.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airtight_image::Identity;
use airtight_image::source::{
    ItemKind, directory_beneath, kind_beneath, look_beneath, read_beneath,
};

/// A regular file, as it was when the plan was made.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    place: Place,
    /// When it was planned.
    identity: Identity,
}

#[derive(Clone, Debug)]
enum Place {
    /// One of the host's own, by path.
    Host(PathBuf),
    /// What lies there.
    Beneath(Arc<Beneath>),
    /// A name in a directory that lies there, which all its files share: a tree's paths would be most of a plan.
    In(Arc<Beneath>, OsString),
}

/// A place below a held directory.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: Arc<File>,
    /// From there, on which no link is followed.
    way: PathBuf,
    /// As it was named.
    path: PathBuf,
}

impl Beneath {
    /// The file `name` in it, which was `identity` when it was looked at.
    pub(crate) fn source(self: &Arc<Self>, name: OsString, identity: Identity) -> Source {
        Source {
            place: Place::In(self.clone(), name),
            identity,
        }
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.inode() == other.inode() && self.path() == other.path()
    }
}

impl Eq for Source {}

impl Source {
    /// A file that nobody but the host's administrator changes: a library, or a tree of the store.
    pub(crate) fn of_host(path: PathBuf, metadata: &Metadata) -> Self {
        Self {
            place: Place::Host(path),
            identity: Identity::of(metadata),
        }
    }

    /// What it was when it was planned.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    fn inode(&self) -> (u64, u64) {
        (self.identity.device, self.identity.inode)
    }

    /// To ask what it lies on; no byte can be read from it.
    pub(crate) fn look(&self) -> io::Result<File> {
        match &self.place {
            Place::Host(path) => File::options()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(path),
            Place::Beneath(at) => look_beneath(&at.root, &at.way),
            Place::In(at, name) => look_beneath(&at.root, &at.way.join(name)),
        }
    }

    /// As it was named, for messages and for the linker's rules.
    pub(crate) fn path(&self) -> Cow<'_, Path> {
        match &self.place {
            Place::Host(path) => Cow::Borrowed(path),
            Place::Beneath(at) => Cow::Borrowed(&at.path),
            Place::In(at, name) => Cow::Owned(at.path.join(name)),
        }
    }

    /// Opens it for reading: the file that was planned, or none. A FIFO put there since must not hang the build, hence not
    /// blocking.
    pub(crate) fn open(&self) -> io::Result<(File, Metadata)> {
        self.planned(match &self.place {
            Place::Host(path) => read_host(path),
            Place::Beneath(at) => read_beneath(&at.root, &at.way),
            Place::In(at, name) => read_beneath(&at.root, &at.way.join(name)),
        })
    }

    /// As [`Source::open`], for whom opens many, one after the other.
    pub(crate) fn open_near(&self, near: &mut Near) -> io::Result<(File, Metadata)> {
        match &self.place {
            Place::In(at, name) => self.planned(near.open(at, name)),
            Place::Host(_) | Place::Beneath(_) => self.open(),
        }
    }

    fn planned(&self, opened: io::Result<File>) -> io::Result<(File, Metadata)> {
        let file = opened.map_err(|err| match err.raw_os_error() {
            Some(libc::ELOOP) => replaced("by a link"),
            _ => err,
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(replaced("by what is no file"));
        }
        if (metadata.dev(), metadata.ino()) != self.inode() {
            return Err(replaced("by another file"));
        }
        Ok((file, metadata))
    }
}

fn read_host(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// The directory in which a file was opened last, held: those of a tree come directory by directory, and the way to each is walked once.
#[derive(Debug, Default)]
pub(crate) struct Near(Option<(Arc<Beneath>, File)>);

impl Near {
    fn open(&mut self, at: &Arc<Beneath>, name: &OsStr) -> io::Result<File> {
        let held = self.0.take().filter(|(of, _)| Arc::ptr_eq(of, at));
        let directory = match held {
            Some((_, directory)) => directory,
            None => look_beneath(&at.root, &at.way)?,
        };
        let file = read_beneath(&directory, name.as_ref());
        self.0 = Some((at.clone(), directory));
        file
    }
}

fn replaced(by: &str) -> io::Error {
    let problem = format!("was replaced {by} during the build");
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A directory below which sources are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// Without links.
    path: PathBuf,
    at: Arc<File>,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let at = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(&path)?;
        let at = Arc::new(at);
        Ok(Self { path, at })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The way from here to a path without links; `None` where it leads elsewhere.
    pub(crate) fn way<'a>(&self, real: &'a Path) -> Option<&'a Path> {
        real.strip_prefix(&self.path).ok()
    }

    /// What lies at the end of `way`.
    pub(crate) fn kind(&self, way: &Path) -> io::Result<ItemKind> {
        kind_beneath(&self.at, way)
    }

    /// The directory at the end of `way`, to list it.
    pub(crate) fn directory(&self, way: &Path) -> io::Result<File> {
        directory_beneath(&self.at, way)
    }

    /// The file at the end of `way`, which `path` names and which was `identity` when it was looked at.
    pub(crate) fn source(&self, way: PathBuf, path: PathBuf, identity: Identity) -> Source {
        Source {
            place: Place::Beneath(self.beneath(way, path)),
            identity,
        }
    }

    /// The end of `way`, which `path` names.
    pub(crate) fn beneath(&self, way: PathBuf, path: PathBuf) -> Arc<Beneath> {
        let root = self.at.clone();
        Arc::new(Beneath { root, way, path })
    }
}

/// Where a `copy` may start. Opened once: a file of a thousand copies holds two descriptors.
#[derive(Debug)]
pub(crate) struct Roots {
    /// The build file's directory.
    pub(crate) context: Root,
    /// `/`, for what is named in full.
    pub(crate) host: Root,
}

impl Roots {
    pub(crate) fn open(context: &Path) -> io::Result<Self> {
        Ok(Self {
            context: Root::open(context)?,
            host: Root::open(Path::new("/"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// `dir/tree/f`, planned; then `change` in `dir`, and what is read.
    fn read_after(change: impl Fn(&Path)) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("tree")).unwrap();
        fs::create_dir(dir.join("other")).unwrap();
        fs::write(dir.join("tree/f"), "mine").unwrap();
        fs::write(dir.join("other/f"), "else").unwrap();
        let root = Root::open(&dir).unwrap();
        let way = PathBuf::from("tree/f");
        let ItemKind::File(identity) = root.kind(&way).unwrap() else {
            return Err("is no file".to_owned());
        };
        let whole = root.source(way, dir.join("tree/f"), identity);
        let tree = root.beneath("tree".into(), dir.join("tree"));
        let named = tree.source("f".into(), identity);
        assert_eq!(whole, named);
        change(&dir);
        let read = |opened: io::Result<(File, Metadata)>| {
            let (file, _) = opened.map_err(|err| err.to_string())?;
            io::read_to_string(file).map_err(|err| err.to_string())
        };
        let want = read(named.open());
        assert_eq!(read(whole.open()), want);
        assert_eq!(read(named.open_near(&mut Near::default())), want);
        want
    }

    #[test]
    fn a_directory_that_is_held_gives_the_planned_file_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let root = Root::open(&dir).unwrap();
        let mut files = Vec::new();
        for (tree, text) in [("tree", "mine"), ("other", "else")] {
            fs::create_dir(dir.join(tree)).unwrap();
            let beneath = root.beneath(tree.into(), dir.join(tree));
            for name in ["f", "g"] {
                fs::write(dir.join(tree).join(name), text).unwrap();
                let kind = root.kind(&Path::new(tree).join(name)).unwrap();
                let ItemKind::File(identity) = kind else {
                    panic!("{tree}/{name} is no file");
                };
                files.push(beneath.source(name.into(), identity));
            }
        }
        let mut near = Near::default();
        let mut read = |at: usize| {
            let (file, _) = files[at]
                .open_near(&mut near)
                .map_err(|err| err.to_string())?;
            io::read_to_string(file).map_err(|err| err.to_string())
        };
        assert_eq!(read(0), Ok("mine".to_owned()));
        // What was planned lies elsewhere by now, and what is held is that.
        fs::rename(dir.join("tree"), dir.join("away")).unwrap();
        fs::rename(dir.join("other"), dir.join("tree")).unwrap();
        assert_eq!(read(1), Ok("mine".to_owned()));
        assert_eq!(
            read(2),
            Err("No such file or directory (os error 2)".to_owned())
        );
        // The directory is held no more, so it is another file.
        let replaced = |by: &str| Err(format!("was replaced {by} during the build"));
        assert_eq!(read(1), replaced("by another file"));
        fs::remove_file(dir.join("tree/f")).unwrap();
        symlink("g", dir.join("tree/f")).unwrap();
        assert_eq!(read(0), replaced("by a link"));
    }

    #[test]
    fn what_is_read_is_the_file_that_was_planned() {
        let away = |dir: &Path, name: &str| fs::rename(dir.join(name), dir.join("away")).unwrap();
        let replaced = |by: &str| Err(format!("was replaced {by} during the build"));
        for (name, change, want) in [
            (
                "unchanged",
                Box::new(|_: &Path| ()) as Box<dyn Fn(&Path)>,
                Ok("mine".to_owned()),
            ),
            (
                "a link in the directory's place",
                Box::new(|dir: &Path| {
                    away(dir, "tree");
                    symlink("other", dir.join("tree")).unwrap();
                }),
                replaced("by a link"),
            ),
            (
                "a link to the very file",
                Box::new(|dir: &Path| {
                    away(dir, "tree/f");
                    symlink("../away", dir.join("tree/f")).unwrap();
                }),
                replaced("by a link"),
            ),
            (
                "another directory in its place",
                Box::new(|dir: &Path| {
                    away(dir, "tree");
                    fs::rename(dir.join("other"), dir.join("tree")).unwrap();
                }),
                replaced("by another file"),
            ),
            (
                "a FIFO",
                Box::new(|dir: &Path| {
                    away(dir, "tree/f");
                    let mut make = std::process::Command::new("mkfifo");
                    assert!(make.arg(dir.join("tree/f")).status().unwrap().success());
                }),
                replaced("by what is no file"),
            ),
        ] {
            assert_eq!(read_after(change), want, "{name}");
        }
    }
}
