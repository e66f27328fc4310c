//! Namespaces of others, opened while the host is in view.

use airtight_plan::bundle::{JoinNamespace, TimeOffset};

use crate::error::Cause;
use crate::parent::Parent;

impl Parent<'_> {
    pub(super) fn open_namespaces(&mut self, _namespaces: &[JoinNamespace]) -> Result<(), Cause> {
        Err(Cause::Refused {
            problem: "not carried out yet".into(),
            fix: String::new(),
        })
    }

    pub(super) fn join_pid_for_children(&mut self) -> Result<(), Cause> {
        Err(Cause::Refused {
            problem: "not carried out yet".into(),
            fix: String::new(),
        })
    }

    pub(super) fn time_offsets(&mut self, _offsets: &[TimeOffset]) -> Result<(), Cause> {
        Err(Cause::Refused {
            problem: "not carried out yet".into(),
            fix: String::new(),
        })
    }
}
