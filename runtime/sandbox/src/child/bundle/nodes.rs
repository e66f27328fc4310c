//! `/dev` of a bundle.

use airtight_plan::bundle::NodeStep;

use super::super::{Child, Failure, Result};

impl Child<'_> {
    pub(in crate::child) fn device_nodes(
        &mut self,
        _nodes: &[NodeStep],
        _bind: bool,
    ) -> Result<()> {
        Err(Failure::Said("not carried out yet".into()))
    }
}
