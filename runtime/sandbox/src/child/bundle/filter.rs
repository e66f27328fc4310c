//! A caller's own filter, right before its program.

use airtight_sys::seccomp::{self, Notify};

use super::super::{Child, Failure, Result};

impl Child<'_> {
    /// What comes after it is under it.
    pub(in crate::child) fn seccomp_profile(&mut self) -> Result<()> {
        self.reset_signals()?;
        let Some(program) = self.inputs.program else {
            return Err(Failure::Said("no program was compiled".into()));
        };
        if program.notify() == Notify::Yes {
            return Err(Failure::Said("a listener is not carried out yet".into()));
        }
        seccomp::install_flagged(program.insns(), program.notify(), program.flags())?;
        Ok(())
    }
}
