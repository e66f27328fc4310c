//! A path inside the image. Pure: what the host has there is none of its business.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Bytes of a path, as the kernel's `PATH_MAX` has it.
const MAX_PATH: usize = 4096;

/// Absolute, without `.`, `..`, doubled or trailing slashes; `/` is the image's root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(PathBuf);

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

    /// This path with one name added. `name` is a directory entry's, so it holds no slash and is not `..`.
    pub(crate) fn child(&self, name: &OsStr) -> Self {
        Self(self.0.join(name))
    }

    /// Its directory; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_path_buf()))
    }

    /// The last name; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&OsStr> {
        self.0.file_name()
    }

    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Without the leading slash, as a layer has it.
    #[must_use]
    pub fn relative(&self) -> &Path {
        self.0.strip_prefix("/").unwrap_or(&self.0)
    }

    /// Whether it is `directory` or lies below it.
    #[must_use]
    pub fn is_in(&self, directory: &Self) -> bool {
        self.0.starts_with(&directory.0)
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
