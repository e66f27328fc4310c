//! One entry of a bundle's `mounts`.

use airtight_plan::bundle::MountStep;

use super::super::{Child, Failure, Result};

impl Child<'_> {
    pub(in crate::child) fn bundle_mount(&mut self, _mount: &MountStep) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }
}
