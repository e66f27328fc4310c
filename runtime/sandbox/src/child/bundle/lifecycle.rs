//! Where the child waits: for hooks, for `start`; and what it carries over them.

use airtight_plan::bundle::Hook;

use super::super::{Child, Failure, Result};

impl Child<'_> {
    pub(in crate::child) fn await_hooks(&mut self) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn container_hooks(&mut self, _hooks: &[Hook]) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn look_up_program(&mut self) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn await_start(&mut self) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn preserve_descriptors(&mut self, _count: u32) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn console(
        &mut self,
        _size: Option<(u16, u16)>,
        _bind: bool,
    ) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }

    pub(in crate::child) fn seccomp_profile(&mut self) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }
}
