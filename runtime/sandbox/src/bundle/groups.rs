//! A bundle's groups.

use airtight_plan::bundle::GroupPlan;

use crate::error::Cause;
use crate::parent::Parent;

impl Parent<'_> {
    pub(super) fn groups(&mut self, _plan: &GroupPlan) -> Result<(), Cause> {
        Err(Cause::Refused {
            problem: "not carried out yet".into(),
            fix: String::new(),
        })
    }
}
