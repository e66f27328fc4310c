//! One error for the crate: what was being read or written, what is wrong with it, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use airtight_sys::SysError;

/// A failure of the store, or of an image that came from outside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Sys { path: PathBuf, error: SysError },
    /// The bytes are not what they should be, or not what airtight takes.
    #[error("{what}: {problem}\n  fix: {fix}")]
    Refused {
        what: String,
        problem: String,
        fix: String,
    },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn sys(path: &Path) -> impl FnOnce(SysError) -> Self {
        move |error| Self::Sys {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn refused(
        what: impl ToString,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::Refused {
            what: what.to_string(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}
