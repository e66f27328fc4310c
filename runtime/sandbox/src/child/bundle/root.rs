//! The root of a bundle.

use std::path::Path;

use airtight_plan::bundle::Propagation;

use super::super::{Child, Failure, Result};

impl Child<'_> {
    pub(in crate::child) fn attach_root(&mut self, _path: &Path, _read_only: bool) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn make_working_directory(&mut self, _path: &Path) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn move_root(&mut self) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }
}

pub(super) fn propagation(_propagation: Propagation) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn read_only() -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}
