//! The door: `(Spec, Policy, HostFacts) -> Plan`. Pure; every decision about a launch is made here and nowhere else.

#![forbid(unsafe_code)]

mod facts;
mod spec;
mod steps;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use facts::*;
pub use spec::*;
pub use steps::*;

/// A control that a host may lack. The name is what `--accept-shortfall` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    Landlock,
    LandlockNet,
    LandlockScopes,
    MemfdNoexec,
    DenyWriteExecute,
    AuditListener,
    IdmappedMounts,
}
