//! Limits of the waiting child that take a right on the host.

use airtight_plan::bundle::RlimitEntry;
use airtight_sys::process;

use crate::error::Cause;
use crate::parent::{self, Parent};

impl Parent<'_> {
    pub(super) fn limits(
        &self,
        rlimits: &[RlimitEntry],
        oom_score_adj: Option<i32>,
    ) -> Result<(), Cause> {
        if let Some(value) = oom_score_adj {
            parent::write(&self.proc_of_child()?, "oom_score_adj", &value.to_string())?;
        }
        let pid = self.child_pid().as_raw();
        for limit in rlimits {
            process::set_rlimit_of(pid, limit.resource, limit.soft, limit.hard)?;
        }
        Ok(())
    }
}
