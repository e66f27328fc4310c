//! Debian packages as layers, without running their scripts.
//!
//! The way: apt's own sources or a mirror ([`sources`], [`mirrors`]), a release that is signed ([`openpgp`], [`release`]), its indices ([`index`]), a choice ([`solve`]), packages by
//! digest into the store ([`obtain`]), their files ([`ar`], [`deb`]), and entries by slices with what scripts would have left behind ([`place`], [`scripts`]).
//! It decides nothing of how a layer is written and knows no mirror.

mod ar;
mod bound;
mod compression;
mod control;
mod deb;
pub mod hostile;
mod index;
mod installed;
pub(crate) mod linker_cache;
mod mirrors;
mod obtain;
mod openpgp;
mod place;
mod relation;
mod release;
mod scripts;
mod settings;
mod slices;
mod solve;
mod sources;
mod version;

use std::path::Path;
use std::sync::Arc;

use crate::error::{BuildError, Problem};

pub(crate) use index::Candidate;
pub(crate) use installed::installed;
pub use obtain::PackageOptions;
pub(crate) use obtain::{Pinned, ReleasePin, answers, obtain, requests, resolve};
pub(crate) use place::place;
pub(crate) use relation::{Relation, is_name as is_package_name};
pub(crate) use settings::{Debian, check, check_packages};

/// One package, ready to be placed.
#[derive(Debug)]
pub(crate) struct Package {
    name: Arc<str>,
    version: version::Version,
    /// The same, for origins.
    shown_version: Arc<str>,
    unpacked: deb::Unpacked,
    acts: Vec<scripts::Act>,
    /// Of the build file: who asked for it or for what needs it.
    key: Arc<str>,
}

impl Package {
    fn problem(&self, problem: impl AsRef<str>, fix: &str) -> Problem {
        let problem = format!("{} {} {}", self.name, self.version, problem.as_ref());
        Problem::new(self.key.as_ref(), problem, fix)
    }
}

/// The packages of one layer, by name.
#[derive(Debug)]
pub(crate) struct PackageLayer {
    key: Arc<str>,
    packages: Vec<Package>,
}

/// A fault of what the build file says, or of the store and the mirrors.
#[derive(Debug)]
pub(crate) enum Stopped {
    Problem(Problem),
    Image(airtight_image::Error),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<airtight_image::Error> for Stopped {
    fn from(error: airtight_image::Error) -> Self {
        Self::Image(error)
    }
}

impl Stopped {
    pub(crate) fn in_file(self, file: &Path) -> BuildError {
        match self {
            Self::Problem(problem) => problem.in_file(file).into(),
            Self::Image(error) => error.into(),
        }
    }
}
