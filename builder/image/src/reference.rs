//! Names of images, as a user writes them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::Error;

/// Bytes of a name, and of a file's on any file system of Linux.
const MAX_NAME: usize = 255;

/// `NAME[:TAG]`; the tag is `latest` unless said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    name: String,
    tag: String,
}

/// What `IMAGE` may be on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageRef {
    Name(Reference),
    Digest(Digest),
    /// `oci:PATH[:TAG]`.
    Layout {
        path: PathBuf,
        tag: Option<String>,
    },
}

/// Where an image is written to: `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    OciLayout { path: PathBuf, tag: Option<String> },
    OciArchive { path: PathBuf, tag: Option<String> },
}

impl Reference {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A file name that no other reference has. A name has no `%`, so nothing else can look like an escape.
    pub(crate) fn file_name(&self) -> String {
        format!("{}%{}", self.name.replace('/', "%2f"), self.tag)
    }

    pub(crate) fn from_file_name(file: &str) -> Option<Self> {
        let (name, tag) = file.rsplit_once('%')?;
        format!("{}:{tag}", name.replace("%2f", "/")).parse().ok()
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Components of `[a-z0-9]` and single separators, as distribution-spec has them; a registry's port may stand in the first.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |problem: &str| {
            let shown: String = text.chars().take(300).collect();
            Error::refused(
                format!("image name `{shown}`"),
                problem,
                "write it like `shop/api:1.2`: lower-case letters, digits, `.`, `_`, `-`, `/`",
            )
        };
        if text.len() > MAX_NAME {
            return Err(bad("is longer than 255 bytes"));
        }
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        let component = |part: &str, port: bool| {
            let ends = |edge: Option<char>| {
                edge.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            };
            let legal = |c: char| {
                c.is_ascii_lowercase()
                    || c.is_ascii_digit()
                    || "._-".contains(c)
                    || (port && c == ':')
            };
            ends(part.chars().next())
                && ends(part.chars().last())
                && part.chars().all(legal)
                && !part.contains("..")
        };
        let parts: Vec<&str> = name.split('/').collect();
        if !parts
            .iter()
            .enumerate()
            .all(|(at, part)| component(part, at == 0 && parts.len() > 1))
        {
            return Err(bad("has a component that is not a name"));
        }
        check_tag(tag).map_err(|()| bad("has a tag that is not one"))?;
        let reference = Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
        };
        let kept = reference.file_name().len();
        if kept > MAX_NAME {
            return Err(Error::refused(
                format!("image name `{text}`"),
                format!(
                    "takes {kept} bytes as the name of a file in the store, with its tag and three for each `/`, and {MAX_NAME} are to be had"
                ),
                "choose a shorter name, or one with fewer `/`",
            ));
        }
        Ok(reference)
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`, from distribution-spec.
pub(crate) fn check_tag(tag: &str) -> Result<(), ()> {
    let first = tag
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let rest = tag
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if first && rest && tag.len() <= 128 {
        Ok(())
    } else {
        Err(())
    }
}

/// A last `:WORD` that can be a tag is one.
fn path_and_tag(text: &str) -> Result<(PathBuf, Option<String>), Error> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    };
    if path.is_empty() || tag.is_some_and(|tag| check_tag(tag).is_err()) {
        return Err(Error::refused(
            format!("`{text}`"),
            "is not a path and a tag",
            "write it like `oci:DIR:TAG`",
        ));
    }
    Ok((PathBuf::from(path), tag.map(str::to_owned)))
}

impl FromStr for ImageRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(layout) = text.strip_prefix("oci:") {
            let (path, tag) = path_and_tag(layout)?;
            return Ok(Self::Layout { path, tag });
        }
        if text.starts_with("sha256:") {
            return Ok(Self::Digest(text.parse()?));
        }
        Ok(Self::Name(text.parse()?))
    }
}

impl FromStr for Output {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = path_and_tag(rest)?;
            return Ok(Self::OciLayout { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = path_and_tag(rest)?;
            return Ok(Self::OciArchive { path, tag });
        }
        Err(Error::refused(
            format!("output `{text}`"),
            "is of no known kind",
            "write `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]`",
        ))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.name, self.tag)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, tag) = match self {
            Self::OciLayout { path, tag } => ("oci", path, tag),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag),
        };
        write!(out, "{kind}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(out, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_back() {
        for (text, want) in [
            ("app", Some("app:latest")),
            ("shop/api:1.2", Some("shop/api:1.2")),
            (
                "localhost:5000/shop/api",
                Some("localhost:5000/shop/api:latest"),
            ),
            ("Shop/api", None),
            ("shop//api", None),
            ("../etc", None),
            ("a..b", None),
            ("-a", None),
            ("a:", None),
            ("a:b:c", None),
            ("", None),
        ] {
            let parsed = text.parse::<Reference>();
            assert_eq!(
                parsed.as_ref().ok().map(ToString::to_string).as_deref(),
                want,
                "{text}"
            );
            if let Ok(reference) = parsed {
                assert_eq!(
                    Reference::from_file_name(&reference.file_name()),
                    Some(reference),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_name_that_no_file_can_have_is_refused_as_a_name() {
        let slashes = |count: usize| vec!["a"; count].join("/");
        for (name, text, kept) in [
            ("as long as may be", "a".repeat(248), None),
            ("longer with its tag", "a".repeat(249), Some(256)),
            (
                "as many slashes as may be",
                slashes(62) + ":123456789",
                None,
            ),
            ("more", slashes(120), Some(484)),
        ] {
            let told = text
                .parse::<Reference>()
                .map(|reference| reference.file_name().len());
            match kept {
                None => assert_eq!(told.ok(), Some(255), "{name}"),
                Some(kept) => assert_eq!(
                    told.unwrap_err().to_string(),
                    format!(
                        "image name `{text}`: takes {kept} bytes as the name of a file in the store, with its tag and three for each `/`, and 255 are to be \
                         had\n  fix: choose a shorter name, or one with fewer `/`"
                    ),
                    "{name}"
                ),
            }
        }
    }

    #[test]
    fn an_image_is_a_name_a_digest_or_a_layout() {
        let layout = |path: &str, tag: Option<&str>| {
            Some(ImageRef::Layout {
                path: path.into(),
                tag: tag.map(str::to_owned),
            })
        };
        let digest = Digest::of(b"x");
        for (text, want) in [
            ("oci:/a/b:v1".to_owned(), layout("/a/b", Some("v1"))),
            ("oci:rel".to_owned(), layout("rel", None)),
            ("oci::tag".to_owned(), None),
            (digest.to_string(), Some(ImageRef::Digest(digest))),
            ("app:1".to_owned(), "app:1".parse().ok().map(ImageRef::Name)),
        ] {
            assert_eq!(text.parse::<ImageRef>().ok(), want, "{text}");
        }
    }
}
