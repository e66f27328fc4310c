//! Which of a package's files an image gets. Parts that no program reads are left out unless they are asked for by name. Pure.

use std::path::Path;

use crate::error::Problem;
use crate::glob::Pattern;
use crate::spec::each;

/// A part of packages that is known by a name, and left out by itself.
struct Slice {
    name: &'static str,
    /// Directories, from the root.
    below: &'static [&'static str],
}

const COPYRIGHT: &str = "copyright";
const DOC: &str = "usr/share/doc";
const SLICES: [Slice; 7] = [
    Slice {
        name: "docs",
        below: &[
            DOC,
            "usr/share/info",
            "usr/share/doc-base",
            "usr/share/gtk-doc",
            "usr/share/help",
        ],
    },
    Slice {
        name: "man",
        below: &["usr/share/man"],
    },
    Slice {
        name: "locale",
        below: &["usr/share/locale"],
    },
    Slice {
        name: "completions",
        below: &[
            "usr/share/bash-completion",
            "usr/share/zsh/vendor-completions",
            "usr/share/fish/vendor_completions.d",
            "etc/bash_completion.d",
        ],
    },
    Slice {
        name: "init",
        below: &[
            "lib/systemd/system",
            "usr/lib/systemd/system",
            "etc/init.d",
            "etc/default",
            "etc/cron.d",
            "etc/cron.daily",
            "etc/cron.weekly",
            "etc/cron.monthly",
            "etc/logrotate.d",
            "usr/lib/tmpfiles.d",
            "usr/lib/sysusers.d",
        ],
    },
    Slice {
        name: "desktop",
        below: &[
            "usr/share/applications",
            "usr/share/pixmaps",
            "usr/share/icons",
            "usr/share/menu",
        ],
    },
    // For the tools of the distribution's makers.
    Slice {
        name: "packaging",
        below: &[
            "usr/share/lintian",
            "usr/share/bug",
            "usr/share/apport",
            "usr/share/debhelper",
            "usr/share/binfmts",
        ],
    },
];

/// What was asked for of all packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slices {
    names: Vec<String>,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// Whether an image gets a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Of the named slice, or of what is always taken.
    Taken(Option<&'static str>),
    LeftOut,
}

impl Slices {
    /// Reads `include` (names of slices, and patterns) and `exclude` (patterns).
    pub(crate) fn check(
        include: Vec<String>,
        exclude: Vec<String>,
        key: &str,
    ) -> Result<Self, Problem> {
        let mut slices = Self::default();
        let is_slice = |text: &str| SLICES.iter().any(|slice| slice.name == text);
        let (names, patterns): (Vec<_>, Vec<_>) =
            include.into_iter().partition(|text| is_slice(text));
        slices.names = names;
        let pattern = |text: String, key: &str| {
            let anchored = text.starts_with('/');
            Pattern::parse(&text).filter(|_| anchored).ok_or_else(|| {
                let names: Vec<String> = SLICES
                    .iter()
                    .map(|slice| format!("`{}`", slice.name))
                    .collect();
                Problem::new(
                    key,
                    format!("`{text}` is neither a path from the root nor a slice"),
                    format!(
                        "write a pattern like `/usr/share/locale/de`, or one of {}",
                        names.join(", ")
                    ),
                )
            })
        };
        slices.include = each(patterns, &format!("{key}.include"), pattern)?;
        slices.exclude = each(exclude, &format!("{key}.exclude"), pattern)?;
        Ok(slices)
    }

    /// `path` is relative to the root.
    pub(crate) fn part(&self, path: &Path, is_link: bool) -> Part {
        if named(&self.exclude, path) {
            return Part::LeftOut;
        }
        if is_copyright(path, is_link) {
            return Part::Taken(Some(COPYRIGHT));
        }
        let slice = SLICES.iter().find(|slice| {
            slice
                .below
                .iter()
                .any(|directory| path.starts_with(directory))
        });
        let Some(slice) = slice else {
            return Part::Taken(None);
        };
        if self.names.iter().any(|name| name == slice.name) || named(&self.include, path) {
            return Part::Taken(Some(slice.name));
        }
        Part::LeftOut
    }
}

/// Itself, or a directory that it lies in.
fn named(patterns: &[Pattern], path: &Path) -> bool {
    let all = path.ancestors().filter(|part| !part.as_os_str().is_empty());
    all.into_iter()
        .any(|part| patterns.iter().any(|pattern| pattern.matches(part)))
}

/// The licence of every package stays, where some share one directory by a link.
fn is_copyright(path: &Path, is_link: bool) -> bool {
    let Ok(below) = path.strip_prefix(DOC) else {
        return false;
    };
    match below.iter().count() {
        1 => is_link,
        2 => below.file_name().is_some_and(|name| name == COPYRIGHT),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_program_reads_is_left_out_unless_it_is_asked_for() {
        let text = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let own = Slices::check(
            text(&["man", "/usr/share/locale/de"]),
            text(&["/usr/lib/python3*/lib2to3", "/usr/share/man/de"]),
            "debian",
        )
        .unwrap();
        let plain = Slices::default();
        let taken = Part::Taken;
        for (path, link, want, with_own) in [
            ("usr/bin/x", false, taken(None), taken(None)),
            (
                "usr/share/doc/x/copyright",
                false,
                taken(Some("copyright")),
                taken(Some("copyright")),
            ),
            (
                "usr/share/doc/x/README",
                false,
                Part::LeftOut,
                Part::LeftOut,
            ),
            (
                "usr/share/doc/x",
                true,
                taken(Some("copyright")),
                taken(Some("copyright")),
            ),
            ("usr/share/doc/x", false, Part::LeftOut, Part::LeftOut),
            (
                "usr/share/man/man1/x.1.gz",
                false,
                Part::LeftOut,
                taken(Some("man")),
            ),
            ("usr/share/man/de/x", false, Part::LeftOut, Part::LeftOut),
            (
                "usr/share/locale/de/LC_MESSAGES/x.mo",
                false,
                Part::LeftOut,
                taken(Some("locale")),
            ),
            (
                "usr/share/locale/fr/LC_MESSAGES/x.mo",
                false,
                Part::LeftOut,
                Part::LeftOut,
            ),
            (
                "usr/lib/python3.11/lib2to3/x.py",
                false,
                taken(None),
                Part::LeftOut,
            ),
            (
                "usr/lib/locale/C.utf8/LC_CTYPE",
                false,
                taken(None),
                taken(None),
            ),
        ] {
            assert_eq!(plain.part(Path::new(path), link), want, "{path}");
            assert_eq!(
                own.part(Path::new(path), link),
                with_own,
                "{path}, with own"
            );
        }
        let told = Slices::check(text(&["mann"]), Vec::new(), "debian").unwrap_err();
        assert_eq!(told.key, "debian.include[0]");
    }
}
