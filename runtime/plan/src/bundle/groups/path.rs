//! `linux.cgroupsPath`: a place in every hierarchy.

use std::path::{Component, Path, PathBuf};

use crate::control::{Refusal, Result};

/// Longer names are refused by the kernel, but by then half of the groups would be made.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 2048;

const KEY: &str = "linux.cgroupsPath";

/// Where the groups are, before a hierarchy is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Below the hierarchy's root.
    Root(PathBuf),
    /// Below the runtime's own group.
    Own(PathBuf),
}

pub(super) fn place(
    cgroups_path: Option<&str>,
    id: &str,
    systemd: bool,
    rootless: bool,
) -> Result<Place> {
    let asked = cgroups_path.unwrap_or_default();
    if systemd {
        return units(asked, id, rootless).map(Place::Root);
    }
    if asked.is_empty() {
        return plain(id).map(Place::Own);
    }
    let path = plain(asked)?;
    Ok(if asked.starts_with('/') {
        Place::Root(path)
    } else {
        Place::Own(path)
    })
}

impl Place {
    /// The directory relative to the mount, where `own` is that of the runtime's own group.
    pub(super) fn below(&self, own: Option<&Path>, hierarchy: &str) -> Result<PathBuf> {
        match (self, own) {
            (Self::Root(path), _) => Ok(path.clone()),
            (Self::Own(path), Some(own)) => Ok(own.join(path)),
            (Self::Own(_), None) => Err(refused(
                format!(
                    "the runtime's own group in {hierarchy} is outside of what is mounted here"
                ),
                "give an absolute path",
            )),
        }
    }
}

/// The path's names. Every one makes a directory, so nothing in it may lead up or end a name early.
fn plain(path: &str) -> Result<PathBuf> {
    if path.len() > LONGEST_PATH {
        return Err(refused("is too long", "name a shorter one"));
    }
    if path.chars().any(char::is_control) {
        return Err(refused("has a control character", "leave it out"));
    }
    let mut names = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) if name.len() <= LONGEST_NAME => names.push(name),
            Component::Normal(_) => {
                return Err(refused(
                    "has a name longer than 255 bytes",
                    "name it shorter",
                ));
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(
                    format!("{path:?} leads out of its place with `..`"),
                    "name the place itself",
                ));
            }
        }
    }
    // The root of a hierarchy is everybody's: its limits cannot be set and it cannot be removed.
    if names.as_os_str().is_empty() {
        return Err(refused("names no group", "leave it out, or name one"));
    }
    Ok(names)
}

/// `slice:prefix:name`, as systemd would lay it out.
fn units(asked: &str, id: &str, rootless: bool) -> Result<PathBuf> {
    let default = if rootless {
        "user.slice"
    } else {
        "system.slice"
    };
    let parts: Vec<&str> = asked.split(':').collect();
    let (slice, prefix, name) = match (asked, parts.as_slice()) {
        ("", _) => (default, "runc", id),
        (_, ["", prefix, name]) => (default, *prefix, *name),
        (_, [slice, prefix, name]) => (*slice, *prefix, *name),
        _ => {
            return Err(refused(
                format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {asked:?} instead"
                ),
                "name a slice, a prefix and a name, or leave --systemd-cgroup out",
            ));
        }
    };
    let unit = if name.ends_with(".slice") {
        name.to_owned()
    } else {
        format!("{prefix}-{name}.scope")
    };
    if unit.contains('/') {
        return Err(refused(
            format!("{unit:?} is no unit name"),
            "leave `/` out of it",
        ));
    }
    plain(&format!("{}/{unit}", expand(slice)?))
}

/// `a-b.slice` lies in `a.slice`.
fn expand(slice: &str) -> Result<String> {
    let invalid = || {
        refused(
            format!("invalid slice name: {slice}"),
            "name it like `machine.slice`",
        )
    };
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem == "-" {
        return Ok(String::new());
    }
    if stem.contains('/') || stem.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in stem.split('-') {
        if !prefix.is_empty() {
            prefix.push('-');
        }
        prefix.push_str(part);
        path.push_str(&format!("/{prefix}.slice"));
    }
    Ok(path)
}

fn refused(problem: impl Into<String>, fix: &str) -> Refusal {
    Refusal::new(KEY, problem, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory for a runtime whose own group is `own`.
    fn at(asked: &str, systemd: bool) -> std::result::Result<String, String> {
        place(Some(asked), "id", systemd, false)
            .and_then(|place| place.below(Some(Path::new("own")), "memory"))
            .map(|path| path.to_str().unwrap().to_owned())
            .map_err(|refusal| refusal.problem)
    }

    #[test]
    fn a_path_is_taken_from_the_root_or_from_the_runtimes_own_group() {
        for (asked, want) in [
            ("/a/b", "a/b"),
            ("//a/./b/", "a/b"),
            ("a/b", "own/a/b"),
            ("./a", "own/a"),
            ("", "own/id"),
        ] {
            assert_eq!(at(asked, false).as_deref(), Ok(want), "{asked}");
        }
        let own = place(Some("a"), "id", false, false).unwrap();
        assert!(
            own.below(None, "memory")
                .unwrap_err()
                .problem
                .contains("outside")
        );
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        let long = format!("/{}", "x".repeat(256));
        let longer = "/x".repeat(1100);
        for (asked, want) in [
            ("/a/../b", "leads out"),
            ("..", "leads out"),
            ("/", "names no group"),
            (".", "names no group"),
            ("/a\nb", "control character"),
            ("/a\0b", "control character"),
            (long.as_str(), "longer than 255"),
            (longer.as_str(), "too long"),
        ] {
            let problem = at(asked, false).unwrap_err();
            assert!(problem.contains(want), "{asked:?}: {problem}");
        }
    }

    #[test]
    fn names_of_units_are_laid_out_as_systemd_does() {
        for (asked, want) in [
            ("machine.slice:libpod:abc", "machine.slice/libpod-abc.scope"),
            ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope"),
            (":p:n", "system.slice/p-n.scope"),
            ("", "system.slice/runc-id.scope"),
            ("a.slice:p:n.slice", "a.slice/n.slice"),
        ] {
            assert_eq!(at(asked, true).as_deref(), Ok(want), "{asked}");
        }
        let rootless = place(None, "id", true, true).unwrap();
        assert_eq!(rootless, Place::Root("user.slice/runc-id.scope".into()));
        for asked in [
            "/a/b",
            "a:b",
            "a:b:c",
            "--.slice:a:b",
            "a--b.slice:c:d",
            "a/b.slice:c:d",
            "a.slice:b:c/d",
            "a.slice:..:/..",
            ".slice:a:b",
        ] {
            assert!(at(asked, true).is_err(), "{asked}");
        }
    }
}
