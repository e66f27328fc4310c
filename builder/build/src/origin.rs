//! Why an entry is in a layer. Whoever plans an entry says so; the ledger of the image is written from it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Who put an entry there, and why. Cheap to clone: a tree of many thousand entries shares what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Of the build file: `layer[0].copy[1]`.
    pub(crate) key: Arc<str>,
    pub(crate) reason: Reason,
}

/// Nothing here depends on the directory, user or day of a build: the same input has the same reasons.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The build file names it, or the tree that it lies in.
    Declared {
        /// Relative to the build file, or absolute on the host.
        source: Arc<str>,
    },
    /// It belongs to a distribution's package that the build file names or that one of those depends on.
    Package {
        package: Arc<str>,
        version: Arc<str>,
        /// The part of the package that was asked for; `None`: all of it.
        slice: Option<Arc<str>>,
    },
    /// A dynamic object asks for it by name (`DT_NEEDED`).
    Needed {
        /// On the host.
        source: Arc<str>,
        /// Who asked for it, nearest first; the program or plug-in that is loaded is last.
        by: Arc<[Arc<str>]>,
    },
    /// The linker of the image finds, through this link, a library that only the host's configuration leads to.
    Linked {
        to: Arc<str>,
        /// As in [`Reason::Needed`].
        by: Arc<[Arc<str>]>,
    },
    /// A program's `PT_INTERP`: the linker that the kernel starts it with.
    Interpreter {
        /// On the host.
        source: Arc<str>,
        program: Arc<str>,
    },
    /// The build made it, or took it from where the host keeps such a thing.
    Generated {
        /// As `generate` or the step is called: `passwd`, `ca-certificates`, `ld.so.cache`.
        generator: Arc<str>,
        /// On the host; `None`: it is made of nothing but the build file.
        source: Option<Arc<str>>,
    },
    /// A directory that something else lies in.
    LeadsTo { path: Arc<str> },
}

impl Origin {
    pub(crate) fn declared(key: &Arc<str>, source: &Path) -> Self {
        Self::declared_as(key, &source.to_string_lossy())
    }

    /// As [`Origin::declared`], of a path as text.
    pub(crate) fn declared_as(key: &Arc<str>, source: &str) -> Self {
        Self {
            key: key.clone(),
            reason: Reason::Declared {
                source: source.into(),
            },
        }
    }

    pub(crate) fn generated(key: &str, generator: &str, source: Option<&Path>) -> Self {
        let reason = Reason::Generated {
            generator: generator.into(),
            source: source.map(|source| source.to_string_lossy().into()),
        };
        Self {
            key: key.into(),
            reason,
        }
    }

    /// Of a directory that is made only so that `path` can lie in it.
    pub(crate) fn leads_to(&self, path: &Path) -> Self {
        let path = match &self.reason {
            Reason::LeadsTo { path } => path.clone(),
            Reason::Declared { .. }
            | Reason::Package { .. }
            | Reason::Needed { .. }
            | Reason::Linked { .. }
            | Reason::Interpreter { .. }
            | Reason::Generated { .. } => path.to_string_lossy().into(),
        };
        Self {
            key: self.key.clone(),
            reason: Reason::LeadsTo { path },
        }
    }

    /// What it was made from or who needed it, for a message.
    pub(crate) fn source(&self) -> String {
        match &self.reason {
            Reason::Declared { source } => source.to_string(),
            Reason::Package {
                package, version, ..
            } => format!("package {package} {version}"),
            Reason::Needed { source, by } => format!("{source}, needed by {}", chain(by)),
            Reason::Linked { to, by } => format!("the link to {to}, needed by {}", chain(by)),
            Reason::Interpreter { source, program } => {
                format!("{source}, needed by the interpreter of {program}")
            }
            Reason::Generated {
                source: Some(source),
                ..
            } => source.to_string(),
            Reason::Generated {
                generator,
                source: None,
            } => format!("generated {generator}"),
            Reason::LeadsTo { path } => format!("the directory of {path}"),
        }
    }
}

/// `libb.so <- liba.so <- /bin/api`, for a message.
pub(crate) fn chain(by: &[Arc<str>]) -> String {
    by.join(" <- ")
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (`{}`)", self.source(), self.key)
    }
}
