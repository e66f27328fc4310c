//! What a bundle's process carries: limits, priorities, capabilities, labels.

use airtight_plan::bundle::{Capabilities, IoPriority, LabelModule, Scheduler};

use super::super::{Failure, Result};

pub(super) fn domainname(_name: &str) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn oom_score_adj(_value: i32) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn scheduler(_scheduler: &Scheduler) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn io_priority(_priority: IoPriority) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn affinity(_cpus: &[u32]) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn personality(_flags: u64) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn rlimit(_resource: u32, _soft: u64, _hard: u64) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn bounding_set(_keep: u64) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn keep_capabilities() -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn capabilities(_sets: &Capabilities) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn exec_label(_module: LabelModule, _label: &str) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}

pub(super) fn scopes(_abstract_unix: bool, _signal: bool) -> Result<()> {
    Err(Failure::Said("not carried out yet".into()))
}
