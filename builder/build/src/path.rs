//! A path inside the image. Pure: what the host has there is none of its business.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

/// Bytes of a path, as the kernel's `PATH_MAX` has it.
const MAX_PATH: usize = 4096;

/// Absolute, without `.`, `..`, doubled or trailing slashes; `/` is the image's root.
#[derive(Clone, Debug)]
pub struct ImagePath(PathBuf);

// By bytes: a tree's tens of thousands of paths are compared a dozen times each, and `Path` would take each apart every time.

impl PartialEq for ImagePath {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for ImagePath {}

impl Hash for ImagePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

/// As paths are ordered, name by name: what lies in a directory comes right after it, since no name holds a byte that is less than
/// the slash's place here.
impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, other) = (self.bytes(), other.bytes());
        let ((ones, _), (others, _)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
        let equal = ones
            .iter()
            .zip(others)
            .take_while(|(one, other)| one == other);
        let start = equal.count() * 8;
        let place = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        let one = one.iter().skip(start).map(place);
        one.cmp(other.iter().skip(start).map(place))
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ImagePath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(PathBuf::from("/"))
    }

    /// Checks a path as a user or an ELF file wrote it; the error is what is wrong with it.
    pub fn parse(path: impl AsRef<Path>) -> Result<Self, &'static str> {
        let path = path.as_ref();
        let bytes = path.as_os_str().as_encoded_bytes();
        if bytes.len() > MAX_PATH {
            return Err("is longer than 4096 bytes");
        }
        if bytes.contains(&0) {
            return Err("holds a NUL byte");
        }
        if !path.is_absolute() {
            return Err("is not absolute");
        }
        let mut clean = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => return Err("holds `..`"),
                Component::Prefix(_) => return Err("is no Unix path"),
            }
        }
        Ok(Self(clean))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// This path with one name added. `name` is a directory entry's, so it holds no slash and is not `..`.
    pub(crate) fn child(&self, name: &OsStr) -> Self {
        let mut path = Vec::with_capacity(self.bytes().len() + 1 + name.len());
        path.extend_from_slice(self.bytes());
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        Self(PathBuf::from(OsString::from_vec(path)))
    }

    /// Its directory; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.split()?;
        Some(Self(PathBuf::from(parent)))
    }

    /// The last name; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&OsStr> {
        self.split().map(|(_, name)| name)
    }

    /// Its directory and its last name; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&OsStr, &OsStr)> {
        let bytes = self.bytes();
        let slash = bytes.iter().rposition(|byte| *byte == b'/')?;
        let (parent, name) = (bytes.get(..slash.max(1))?, bytes.get(slash + 1..)?);
        (!name.is_empty()).then(|| (OsStr::from_bytes(parent), OsStr::from_bytes(name)))
    }

    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Without the leading slash, as a layer has it.
    #[must_use]
    pub fn relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.bytes().get(1..).unwrap_or_default()))
    }

    /// Whether it is `directory` or lies below it.
    #[must_use]
    pub fn is_in(&self, directory: &Self) -> bool {
        let rest = match self.bytes().strip_prefix(directory.bytes()) {
            Some(rest) if directory.bytes() != b"/" => rest,
            other => return other.is_some(),
        };
        rest.is_empty() || rest.starts_with(b"/")
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// The names of a path that is walked, last first, so that `pop` gives the next; a `.` or a root adds nothing.
pub(crate) fn reversed(path: &Path) -> Vec<OsString> {
    let named = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named
        .rev()
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_parts_and_containment_are_those_of_paths() {
        let texts = [
            "/",
            "/a",
            "/a/b",
            "/a/b/c",
            "/a.b",
            "/a-b/c",
            "/a0",
            "/ab",
            "/b",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/x86_64-linux-gnu/libc.so",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/x86",
            "/usr/lib",
            "/usr/lib.d/x",
        ];
        for one in texts {
            let left = ImagePath::parse(one).unwrap();
            assert_eq!(
                left.parent().as_ref().map(ImagePath::as_path),
                left.0.parent(),
                "{one}"
            );
            assert_eq!(left.name(), left.0.file_name(), "{one}");
            assert_eq!(left.relative(), left.0.strip_prefix("/").unwrap(), "{one}");
            assert_eq!(left.child("x".as_ref()).0, left.0.join("x"), "{one}");
            for other in texts {
                let right = ImagePath::parse(other).unwrap();
                assert_eq!(left.cmp(&right), left.0.cmp(&right.0), "{one} {other}");
                assert_eq!(left == right, left.0 == right.0, "{one} {other}");
                assert_eq!(
                    left.is_in(&right),
                    left.0.starts_with(&right.0),
                    "{one} {other}"
                );
            }
        }
    }

    #[test]
    fn a_path_is_absolute_and_cannot_climb() {
        for (text, want) in [
            ("/", Ok("/")),
            ("/a//b/./c/", Ok("/a/b/c")),
            ("a", Err("is not absolute")),
            ("", Err("is not absolute")),
            ("/a/../b", Err("holds `..`")),
            ("/a\0b", Err("holds a NUL byte")),
        ] {
            let got = ImagePath::parse(text);
            assert_eq!(
                got.as_ref().map(|path| path.as_path().to_str().unwrap()),
                want.as_ref().copied(),
                "{text:?}"
            );
        }
    }
}
