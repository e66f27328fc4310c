//! The working directory of a bundle's process.

use std::path::Path;

use airtight_sys::process;
use nix::errno::Errno;

use super::super::{Child, Result};

impl Child<'_> {
    pub(in crate::child) fn try_working_directory(&mut self, path: &Path) -> Result<()> {
        match process::change_directory(path) {
            Ok(()) => self.entered = true,
            // Not for whom the set-up runs as; perhaps for the payload.
            Err(error) if matches!(error.errno, Errno::EACCES | Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(in crate::child) fn last_working_directory(&mut self, path: &Path) -> Result<()> {
        if !self.entered {
            process::change_directory(path)?;
            self.entered = true;
        }
        Ok(())
    }
}
