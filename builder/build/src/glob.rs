//! `exclude` patterns of a copied tree. Pure; no file system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// One pattern. Without `/` it names an entry at any depth; with one it is a path from the tree's root.
/// `*` and `?` stay within a name, `**` is any number of whole names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    names: Vec<Vec<u8>>,
    anchored: bool,
}

impl Pattern {
    /// `None`: the pattern is empty, or has an empty, `.` or `..` name in it, so that it could never match.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let anchored = text.trim_end_matches('/').contains('/');
        let text = text.trim_end_matches('/');
        let text = text.strip_prefix('/').unwrap_or(text);
        let names: Vec<Vec<u8>> = text
            .split('/')
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let usable = |name: &Vec<u8>| !matches!(name.as_slice(), b"" | b"." | b"..");
        names.iter().all(usable).then_some(Self { names, anchored })
    }

    /// Whether `path`, relative to the tree's root, is named. What lies below it goes with it: the walk stops there.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let path: Vec<&OsStr> = path.iter().collect();
        if self.anchored {
            return names_match(&self.names, &path);
        }
        path.last().is_some_and(|last| {
            self.names
                .first()
                .is_some_and(|name| name_matches(name, last.as_bytes()))
        })
    }
}

/// Linear in both: only the latest `**` is ever gone back to, so a hostile pattern costs no more than its product.
fn names_match(pattern: &[Vec<u8>], path: &[&OsStr]) -> bool {
    let is_star = |name: &Vec<u8>| name.as_slice() == b"**";
    let same = |name: &Vec<u8>, part: &&OsStr| name_matches(name, part.as_bytes());
    wildcard(pattern, path, is_star, same)
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    wildcard(
        pattern,
        name,
        |byte| *byte == b'*',
        |byte, other| *byte == b'?' || byte == other,
    )
}

/// The greedy match of a sequence against a pattern with one kind of star.
fn wildcard<P, T>(
    pattern: &[P],
    text: &[T],
    star: impl Fn(&P) -> bool,
    same: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(want) if star(want) => {
                retry = Some((p, t));
                p += 1;
            }
            Some(want) if same(want, item) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((star_at, from)) = retry else {
                    return false;
                };
                p = star_at + 1;
                t = from + 1;
                retry = Some((star_at, t));
            }
        }
    }
    pattern.iter().skip(p).all(star)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_what_its_form_says() {
        for (pattern, path, want) in [
            ("__pycache__", "json/__pycache__", true),
            ("__pycache__", "__pycache__", true),
            ("*.pyc", "a/b/c.pyc", true),
            ("*.pyc", "a/b/c.py", false),
            ("/test", "test", true),
            ("/test", "ctypes/test", false),
            ("test/", "ctypes/test", true),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/d/c", false),
            ("a/**/c", "a/b/d/c", true),
            ("a/**/c", "a/c", true),
            ("**/c", "a/b/c", true),
            ("li?.so*", "x/lib.so.1", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(Path::new(path)), want, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        for text in ["", "/", "a//b", "../a", "./a", "a/.."] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }
}
