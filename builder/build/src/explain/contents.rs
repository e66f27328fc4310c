//! What an image holds once its layers lie on each other, read from their verified blobs in one pass and unpacked nowhere.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use airtight_image::layer::{Member, MemberKind};
use airtight_image::{Digest, Error, Image, Store};

use super::scan::{Mentions, PRIVATE_KEY, Scanner, Secret};
use crate::elf;
use crate::ledger::shown;
use crate::path::reversed;

/// Bytes of a list that is read, such as a package manager's: Debian's own with everything installed has some ten million.
const MAX_TEXT: u64 = 32 << 20;
/// Bytes of all of them.
const MAX_TEXTS: u64 = 256 << 20;
/// Bytes of a program that is looked into; one that is larger is taken for one that needs nothing.
const MAX_PROGRAM: u64 = 128 << 20;
/// The kernel's own bound on links in one walk.
const MAX_LINKS: usize = 40;

/// What of each file is asked for besides its header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Want {
    pub(crate) digests: bool,
    pub(crate) programs: bool,
    pub(crate) secrets: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Directory,
    Regular,
    Symlink(PathBuf),
}

/// One file of the image.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Its layer's place, from 0.
    pub(crate) layer: usize,
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Bytes; 0 for all but regular files.
    pub(crate) size: u64,
    pub(crate) capability: bool,
    pub(crate) digest: Option<Digest>,
    pub(crate) program: Option<Program>,
    pub(crate) secrets: Vec<Secret>,
    /// Of the few lists that are read.
    pub(crate) text: Option<Vec<u8>>,
}

impl File {
    /// `directory`, `file` or `symlink`, and where a link leads, as it is.
    pub(crate) fn said(&self) -> (&'static str, Option<String>) {
        match &self.kind {
            FileKind::Directory => ("directory", None),
            FileKind::Regular => ("file", None),
            FileKind::Symlink(target) => ("symlink", Some(shown(target))),
        }
    }
}

/// What its headers and its strings say of an ELF file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) interpreter: Option<String>,
    pub(crate) soname: Option<String>,
    pub(crate) needed: Vec<String>,
    pub(crate) mentions: Mentions,
}

/// Everything by its absolute path, the root itself left out.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) files: BTreeMap<PathBuf, File>,
    /// Files with secrets that a later layer hides: whoever has the image has them still.
    pub(crate) hidden: Vec<(PathBuf, File)>,
    texts: u64,
}

impl Contents {
    /// Reads all layers of an image.
    ///
    /// # Errors
    /// A layer that is damaged or that no launch would take.
    pub(crate) fn read(store: &Store, image: &Image, want: Want) -> Result<Self, Error> {
        let mut contents = Self::default();
        store.read_layers(image, |layer, member, content| {
            let path = Path::new("/").join(&member.path);
            match &member.kind {
                MemberKind::Whiteout => contents.hide(&path, layer, true),
                MemberKind::Opaque => contents.hide(&path, layer, false),
                MemberKind::Hardlink(to) => contents.link(path, &Path::new("/").join(to), layer)?,
                MemberKind::Directory | MemberKind::File | MemberKind::Symlink(_) => {
                    let file = contents.look(&path, layer, &member, content, want)?;
                    contents.put(path, file);
                }
            }
            Ok(())
        })?;
        Ok(contents)
    }

    fn look(
        &mut self,
        path: &Path,
        layer: usize,
        member: &Member,
        content: &mut dyn Read,
        want: Want,
    ) -> Result<File, Error> {
        let (kind, size) = match &member.kind {
            MemberKind::Symlink(target) => (FileKind::Symlink(target.clone()), 0),
            MemberKind::File => (FileKind::Regular, member.size),
            MemberKind::Directory
            | MemberKind::Hardlink(_)
            | MemberKind::Whiteout
            | MemberKind::Opaque => (FileKind::Directory, 0),
        };
        let mut file = File {
            layer,
            kind,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            size,
            capability: member.capability,
            digest: None,
            program: None,
            secrets: Vec::new(),
            text: None,
        };
        if file.kind != FileKind::Regular {
            return Ok(file);
        }
        let failed = |error: io::Error| {
            Error::refused(
                path.display(),
                error.to_string(),
                "pull or import the image again",
            )
        };
        let mut start = Vec::new();
        content.take(4).read_to_end(&mut start).map_err(failed)?;
        if is_list(path) && size <= MAX_TEXT && self.texts + size <= MAX_TEXTS {
            self.texts += size;
            let mut text = start.clone();
            content.read_to_end(&mut text).map_err(failed)?;
            file.text = Some(text.clone());
            read_content(&mut file, &mut text.as_slice(), want).map_err(failed)?;
        } else if want.programs && start == *b"\x7fELF" && size <= MAX_PROGRAM {
            let mut bytes = start;
            content.read_to_end(&mut bytes).map_err(failed)?;
            let mentions = read_content(&mut file, &mut bytes.as_slice(), want).map_err(failed)?;
            let program = program(bytes, mentions);
            // Libraries of cryptography test themselves with keys that everybody has.
            if program.soname.is_some() {
                file.secrets.retain(|secret| secret.what != PRIVATE_KEY);
            }
            file.program = Some(program);
        } else {
            let mut all = start.chain(content);
            read_content(&mut file, &mut all, want).map_err(failed)?;
        }
        Ok(file)
    }

    /// A name for what another of this layer is.
    fn link(&mut self, path: PathBuf, to: &Path, layer: usize) -> Result<(), Error> {
        let target = self
            .files
            .get(to)
            .filter(|file| file.layer == layer && file.kind != FileKind::Directory);
        let Some(file) = target.cloned() else {
            return Err(Error::refused(
                format!("layer: {}", path.display()),
                format!(
                    "is a link to {}, which is no file before it in its layer",
                    to.display()
                ),
                "rebuild the image",
            ));
        };
        self.put(path, file);
        Ok(())
    }

    fn put(&mut self, path: PathBuf, file: File) {
        let merges = file.kind == FileKind::Directory;
        match self.files.get(&path) {
            Some(old) if merges && old.kind == FileKind::Directory => {}
            Some(_) => self.remove(&path, |_| true, true),
            None => {}
        }
        // What an archive leaves out, every unpacker makes.
        let above: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .take_while(|above| above.parent().is_some())
            .map(Path::to_path_buf)
            .collect();
        for above in above {
            match self.files.get(&above) {
                Some(found) if found.kind == FileKind::Directory => break,
                Some(_) => self.remove(&above, |_| true, true),
                None => {}
            }
            self.files.insert(
                above,
                File {
                    kind: FileKind::Directory,
                    mode: 0o755,
                    size: 0,
                    digest: None,
                    program: None,
                    secrets: Vec::new(),
                    text: None,
                    capability: false,
                    uid: 0,
                    gid: 0,
                    layer: file.layer,
                },
            );
        }
        self.files.insert(path, file);
    }

    /// Of the layers below `layer`: this path and what is below it, or only the latter.
    fn hide(&mut self, path: &Path, layer: usize, itself: bool) {
        self.remove(path, |file| file.layer < layer, itself);
    }

    fn remove(&mut self, path: &Path, which: impl Fn(&File) -> bool, itself: bool) {
        let range = self.files.range(path.to_path_buf()..);
        let below = range.take_while(|(found, _)| found.starts_with(path));
        let gone: Vec<PathBuf> = below
            .filter(|(found, file)| which(file) && (itself || found.as_path() != path))
            .map(|(found, _)| found.clone())
            .collect();
        for path in gone {
            if let Some(file) = self
                .files
                .remove(&path)
                .filter(|file| !file.secrets.is_empty())
            {
                self.hidden.push((path, file));
            }
        }
    }

    /// Where `path` leads in the image, links on the way followed, and the last as well if `follow`. `None`: to nothing.
    pub(crate) fn resolve(&self, path: &Path, follow: bool) -> Option<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut links = 0;
        let mut rest: Vec<_> = reversed(path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let file = self.files.get(&next)?;
            let FileKind::Symlink(target) = &file.kind else {
                at = next;
                continue;
            };
            if rest.is_empty() && !follow {
                return Some(next);
            }
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(reversed(target));
        }
        Some(at)
    }

    /// What is at a path, all links followed.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.get(&self.resolve(Path::new(path), true)?)
    }

    /// A list that was read, by its path.
    pub(crate) fn text(&self, path: &str) -> Option<std::borrow::Cow<'_, str>> {
        let text = self.file(path)?.text.as_ref()?;
        Some(String::from_utf8_lossy(text))
    }

    /// What lies below a directory.
    pub(crate) fn below<'a>(
        &'a self,
        directory: &'a Path,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a File)> {
        self.files
            .range(directory.to_path_buf()..)
            .take_while(move |(path, _)| path.starts_with(directory))
            .filter(move |(path, _)| path.as_path() != directory)
    }
}

/// What package managers and libc keep of an image.
fn is_list(path: &Path) -> bool {
    let Some(path) = path.to_str() else {
        return false;
    };
    matches!(
        path,
        "/etc/passwd" | "/etc/group" | "/usr/lib/passwd" | "/var/lib/dpkg/status"
    ) || path.starts_with("/var/lib/dpkg/status.d/")
        || (path.starts_with("/var/lib/dpkg/info/") && path.ends_with(".list"))
}

/// One pass over a file's bytes for all that is asked.
fn read_content(file: &mut File, content: &mut dyn Read, want: Want) -> io::Result<Mentions> {
    let mut scanner = Scanner::new(want.secrets, want.programs);
    let mut watched = Watched {
        inner: content,
        scanner: &mut scanner,
    };
    if want.digests {
        file.digest = Some(Digest::of_reader(&mut watched)?);
    } else if want.secrets || want.programs {
        io::copy(&mut watched, &mut io::sink())?;
    }
    let (secrets, mentions) = scanner.finish();
    file.secrets = secrets;
    Ok(mentions)
}

/// Shows a scanner what passes.
struct Watched<'a, 'b> {
    inner: &'a mut dyn Read,
    scanner: &'b mut Scanner,
}

impl Read for Watched<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.scanner.push(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// A malformed one is taken for one that needs nothing: the kernel will not start it.
fn program(bytes: Vec<u8>, mentions: Mentions) -> Program {
    match elf::inspect(Cursor::new(bytes)) {
        Ok(elf::Kind::Dynamic(dynamic)) => Program {
            interpreter: dynamic.interpreter,
            soname: dynamic.soname,
            needed: dynamic.needed,
            mentions,
        },
        Ok(elf::Kind::Static | elf::Kind::Script(_) | elf::Kind::Other) | Err(_) => Program {
            mentions,
            ..Program::default()
        },
    }
}
