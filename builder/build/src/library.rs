//! Where a dynamic linker looks: glibc's rules (ld.so(8)), with two views of each directory, in the image and on this host.

use std::path::{Path, PathBuf};

use crate::elf::Abi;

/// `/etc/ld.so.conf` with all that it includes.
const MAX_CONF_BYTES: u64 = 1 << 20;
const MAX_CONF_FILES: usize = 1000;
const MAX_CONF_DEPTH: usize = 8;

/// What the linkers of one architecture have built in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) abi: Abi,
    /// The only value of `PT_INTERP` that glibc's own ABI knows here.
    pub(crate) interpreter: &'static str,
    platform: &'static str,
    /// `$LIB`: Debian's, then everybody else's.
    lib: [&'static str; 2],
    defaults: &'static [&'static str],
}

pub(crate) const X86_64: Machine = Machine {
    abi: Abi {
        class64: true,
        big_endian: false,
        machine: object::elf::EM_X86_64.0,
    },
    interpreter: "/lib64/ld-linux-x86-64.so.2",
    platform: "x86_64",
    lib: ["lib/x86_64-linux-gnu", "lib64"],
    defaults: &[
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    ],
};

pub(crate) const AARCH64: Machine = Machine {
    abi: Abi {
        class64: true,
        big_endian: false,
        machine: object::elf::EM_AARCH64.0,
    },
    interpreter: "/lib/ld-linux-aarch64.so.1",
    platform: "aarch64",
    lib: ["lib/aarch64-linux-gnu", "lib64"],
    defaults: &[
        "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    ],
};

impl Machine {
    /// The directories that a linker has built in, in its order.
    pub(crate) fn search(self) -> impl Iterator<Item = &'static str> {
        self.defaults.iter().copied()
    }
}

/// The host's search path, read once for a build.
#[derive(Clone, Debug)]
pub(crate) struct Libraries {
    pub(crate) machine: Machine,
    /// From `/etc/ld.so.conf`, in its order. An image has no cache of them, so its linker never looks there.
    pub(crate) configured: Vec<PathBuf>,
    /// Those that exist.
    pub(crate) defaults: Vec<PathBuf>,
    /// `$LIB`.
    pub(crate) lib: &'static str,
}

/// A directory to look in: as the image's linker names it, and what stands in for it on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SearchDir {
    pub(crate) image: PathBuf,
    pub(crate) host: PathBuf,
}

impl SearchDir {
    /// The same on both sides.
    pub(crate) fn both(path: &Path) -> Self {
        Self {
            image: path.to_path_buf(),
            host: path.to_path_buf(),
        }
    }

    /// Where a file lies.
    pub(crate) fn of_file(image: &Path, host: &Path) -> Self {
        let directory = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_path_buf();
        Self {
            image: directory(image),
            host: directory(host),
        }
    }
}

impl Libraries {
    pub(crate) fn of_host(machine: Machine) -> Self {
        let mut configured = Vec::new();
        let mut budget = MAX_CONF_FILES;
        read_conf(
            Path::new("/etc/ld.so.conf"),
            0,
            &mut budget,
            &mut configured,
        );
        let defaults = machine
            .defaults
            .iter()
            .map(PathBuf::from)
            .filter(|dir| dir.is_dir())
            .collect();
        let [multiarch, plain] = machine.lib;
        let lib = if Path::new("/").join(multiarch).is_dir() {
            multiarch
        } else {
            plain
        };
        Self {
            machine,
            configured,
            defaults,
            lib,
        }
    }

    /// Where a library goes so that the image's linker finds it without a cache: the first default directory, links resolved.
    pub(crate) fn home(&self) -> PathBuf {
        let first = self
            .defaults
            .first()
            .map_or_else(|| PathBuf::from("/usr/lib"), PathBuf::clone);
        first.canonicalize().unwrap_or(first)
    }

    /// Whether the image's linker looks here by itself.
    pub(crate) fn is_default(&self, canonical: &Path) -> bool {
        self.defaults
            .iter()
            .any(|dir| dir.canonicalize().is_ok_and(|real| real == canonical))
    }

    /// An element of a run path, or a path in `DT_NEEDED`, with its tokens replaced. `None`: it depends on the working directory.
    pub(crate) fn expand(&self, element: &str, origin: &SearchDir) -> Option<SearchDir> {
        let image = PathBuf::from(self.substitute(element, &origin.image));
        let host = PathBuf::from(self.substitute(element, &origin.host));
        (image.is_absolute() && host.is_absolute()).then_some(SearchDir { image, host })
    }

    fn substitute(&self, element: &str, origin: &Path) -> String {
        let origin = origin.to_string_lossy();
        let values = [
            ("ORIGIN", origin.as_ref()),
            ("LIB", self.lib),
            ("PLATFORM", self.machine.platform),
        ];
        let mut out = String::with_capacity(element.len());
        let mut rest = element;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let token = values
                .iter()
                .find_map(|(name, value)| Some((value, strip_token(after, name)?)));
            match token {
                Some((value, after)) => {
                    out.push_str(value);
                    rest = after;
                }
                // glibc leaves what it does not know as it is.
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// What follows `NAME` or `{NAME}`; a longer name is another one.
fn strip_token<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    if let Some(inner) = text.strip_prefix('{') {
        return inner.strip_prefix(name)?.strip_prefix('}');
    }
    let after = text.strip_prefix(name)?;
    let longer = after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_');
    (!longer).then_some(after)
}

/// Like ldconfig, what cannot be read is passed over: a directory missing from the list shows as an unresolved library.
fn read_conf(file: &Path, depth: usize, budget: &mut usize, found: &mut Vec<PathBuf>) {
    let small = file
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_CONF_BYTES);
    if depth > MAX_CONF_DEPTH || *budget == 0 || !small {
        return;
    }
    *budget -= 1;
    let Ok(bytes) = std::fs::read(file) else {
        return;
    };
    let text = String::from_utf8_lossy(&bytes);
    for line in text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
    {
        match line
            .strip_prefix("include")
            .filter(|rest| rest.starts_with([' ', '\t']))
        {
            Some(patterns) => {
                let directory = file.parent().unwrap_or(Path::new("/"));
                for included in patterns
                    .split_whitespace()
                    .flat_map(|pattern| expand_include(&directory.join(pattern)))
                {
                    read_conf(&included, depth + 1, budget, found);
                }
            }
            None => {
                let directories = line
                    .split([' ', '\t', ',', ':'])
                    .filter(|path| path.starts_with('/'));
                found.extend(directories.map(PathBuf::from));
            }
        }
    }
}

/// A wildcard in the last name only, as every distribution writes it; sorted like glob(3).
fn expand_include(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (
        pattern.parent(),
        pattern.file_name().and_then(|name| name.to_str()),
    ) else {
        return Vec::new();
    };
    let Some(wanted) = crate::glob::Pattern::parse(name) else {
        return Vec::new();
    };
    let Ok(read) = directory.read_dir() else {
        return Vec::new();
    };
    let mut found: Vec<_> = read
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .collect();
    found.retain(|name| wanted.matches(Path::new(name)));
    found.sort();
    found.into_iter().map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_the_image_s_and_the_host_s_directories() {
        let libraries = Libraries {
            machine: X86_64,
            configured: vec![],
            defaults: vec![],
            lib: "lib/x86_64-linux-gnu",
        };
        let origin = SearchDir {
            image: "/bin".into(),
            host: "/home/me/dist".into(),
        };
        for (element, want) in [
            (
                "$ORIGIN/../lib",
                Some(("/bin/../lib", "/home/me/dist/../lib")),
            ),
            ("${ORIGIN}", Some(("/bin", "/home/me/dist"))),
            (
                "/opt/$LIB",
                Some(("/opt/lib/x86_64-linux-gnu", "/opt/lib/x86_64-linux-gnu")),
            ),
            (
                "/opt/${PLATFORM}/x",
                Some(("/opt/x86_64/x", "/opt/x86_64/x")),
            ),
            ("/opt/$ORIGINAL", Some(("/opt/$ORIGINAL", "/opt/$ORIGINAL"))),
            ("/opt/${ORIGIN", Some(("/opt/${ORIGIN", "/opt/${ORIGIN"))),
            ("lib", None),
            ("", None),
        ] {
            let got = libraries.expand(element, &origin);
            let want = want.map(|(image, host)| SearchDir {
                image: image.into(),
                host: host.into(),
            });
            assert_eq!(got, want, "{element}");
        }
    }

    #[test]
    fn ld_so_conf_is_read_with_its_includes_and_without_endless_ones() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("ld.so.conf");
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        std::fs::write(
            &main,
            "/first # a comment\ninclude conf.d/*.conf\ninclude ld.so.conf\n/last\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("conf.d/b.conf"), "/b\n").unwrap();
        std::fs::write(dir.path().join("conf.d/a.conf"), "/a1 /a2\nrelative\n").unwrap();
        std::fs::write(dir.path().join("conf.d/c.other"), "/never\n").unwrap();
        let mut found = Vec::new();
        read_conf(&main, 0, &mut 2, &mut found);
        assert_eq!(
            found,
            ["/first", "/a1", "/a2", "/last"].map(PathBuf::from),
            "two files only"
        );
        let (mut found, mut budget) = (Vec::new(), MAX_CONF_FILES);
        read_conf(&main, 0, &mut budget, &mut found);
        assert_eq!(
            found[..4],
            ["/first", "/a1", "/a2", "/b"].map(PathBuf::from)
        );
    }
}
