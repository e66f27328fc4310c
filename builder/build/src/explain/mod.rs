//! What can be said of an image that is at rest: why a file is in it, how two differ, what in one should not be. Read from verified blobs; nothing
//! is unpacked, launched or changed.

mod contents;
mod diff;
mod dpkg;
mod lint;
mod reasons;
mod sarif;
mod scan;
mod why;

pub use diff::{
    Change, ConfigChange, Diff, FileChange, FileState, Group, PackageChange, Sizes, diff,
};
pub use lint::{Finding, IgnoreRule, Level, LintReport, RULES, Rule, lint};
pub use sarif::sarif;
pub use why::{LayerName, Part, Step, Why, why};

use airtight_image::{Image, Store, one_line};

use crate::ledger::{LEDGER_TYPE, Ledger, LedgerError};

/// Why an image cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Image(#[from] airtight_image::Error),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("{path}: is not in the image\n  fix: {fix}")]
    Absent { path: String, fix: String },
    #[error("`{path}`: {problem}\n  fix: write a path of the image, like /usr/bin/app")]
    Path { path: String, problem: &'static str },
}

/// What the image's builder kept of its reasons.
pub(crate) struct Kept {
    pub(crate) ledger: Option<Ledger>,
    /// It kept some, and they are none that could be taken.
    pub(crate) warning: Option<String>,
}

/// Whoever wrote it, it is a hint beside the image: one that cannot be taken is told, and the layers say the rest.
pub(crate) fn kept(store: &Store, image: &Image) -> Kept {
    let read = || -> Result<Option<Ledger>, ExplainError> {
        let bytes = store.attached(&image.digest, LEDGER_TYPE)?;
        Ok(bytes.map(|bytes| Ledger::parse(&bytes)).transpose()?)
    };
    match read() {
        Ok(ledger) => Kept {
            ledger,
            warning: None,
        },
        Err(error) => {
            let why = one_line(error.to_string().lines().next().unwrap_or_default());
            let digest = &image.digest;
            Kept {
                ledger: None,
                warning: Some(format!(
                    "{digest} has reasons for its files that are not taken: {why}; what is told is from its layers alone"
                )),
            }
        }
    }
}
