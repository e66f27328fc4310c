//! Hooks that run on the host's side.

use airtight_plan::bundle::Hook;

use crate::LaunchError;
use crate::error::Cause;
use crate::parent::Parent;

impl Parent<'_> {
    pub(super) fn runtime_hooks(&mut self, _hooks: &[Hook]) -> Result<(), LaunchError> {
        Err(LaunchError::at("hooks")(Cause::Refused {
            problem: "not carried out yet".into(),
            fix: String::new(),
        }))
    }
}
