//! What can go wrong in a build. It does not decide exit codes or print.

use std::path::{Path, PathBuf};

use airtight_image::{Digest, one_line};

/// What eleven octal digits of a tar header hold: the year 2242.
pub(crate) const MAX_EPOCH: u64 = (1 << 33) - 1;

/// Something in a build file, or something on this host that the build file names, cannot be built from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: `{key}`: {problem}\n  fix: {fix}", one_line(&file.to_string_lossy()))]
pub struct SpecError {
    /// The build file, as the caller named it.
    pub file: PathBuf,
    /// Where in it, with array indices: `layer[1].copy[0].from`.
    pub key: String,
    pub problem: String,
    pub fix: String,
}

/// Why [`crate::build`] made no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store refused a layer, a blob, the base or an output.
    #[error(transparent)]
    Image(#[from] airtight_image::Error),
    /// The base's configuration cannot be written as JSON again.
    #[error("the configuration of the base cannot be carried over: {0}")]
    BaseConfig(#[source] serde_json::Error),
    #[error(
        "{}: the lock pins {pinned}, and there is {found} now\n  fix: airtight update, if the new one is wanted",
        one_line(base)
    )]
    BaseMoved {
        base: String,
        pinned: Digest,
        found: Digest,
    },
    #[error(
        "SOURCE_DATE_EPOCH is {0}, which a layer cannot hold\n  fix: use seconds since 1970, at most {MAX_EPOCH}"
    )]
    Epoch(u64),
}

/// A [`SpecError`] before the file is known: what the pure parts and the collectors return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) key: String,
    pub(crate) problem: String,
    pub(crate) fix: String,
}

impl Problem {
    /// Names of this host's files and what a build file says may hold anything: a message keeps its lines.
    pub(crate) fn new(
        key: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            key: one_line(&key.into()),
            // It may be another error's words, which have a line for their fix.
            problem: one_line(&problem.into().replace("\n  fix: ", "; fix: ")),
            fix: one_line(&fix.into()),
        }
    }

    pub(crate) fn in_file(self, file: &Path) -> SpecError {
        let Self { key, problem, fix } = self;
        SpecError {
            file: file.to_path_buf(),
            key,
            problem,
            fix,
        }
    }
}
