//! The controls that a host may lack, and how a launch is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Shortfall;

/// A control that a host may lack. The name is what `--accept-shortfall` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// File rights by path, a second fence behind the mounts; without it execution is held by noexec mounts alone.
    Landlock,
    /// TCP ports that may be bound.
    LandlockNet,
    /// Abstract unix sockets and signals, a second fence behind the network and pid namespaces.
    LandlockScopes,
    /// Files of `memfd_create` that cannot be executed. Without it the call itself is refused, unless this is accepted.
    MemfdNoexec,
    /// Refusals told by the supervisor.
    AuditListener,
    /// Layers whose files carry the image's own ids.
    IdmappedMounts,
}

impl Control {
    /// Every control, in the order of the type.
    pub const ALL: [Self; 6] = [
        Self::Landlock,
        Self::LandlockNet,
        Self::LandlockScopes,
        Self::MemfdNoexec,
        Self::AuditListener,
        Self::IdmappedMounts,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::LandlockNet => "landlock-net",
            Self::LandlockScopes => "landlock-scopes",
            Self::MemfdNoexec => "memfd-noexec",
            Self::AuditListener => "audit-listener",
            Self::IdmappedMounts => "idmapped-mounts",
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Control {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|control| control.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|control| control.name()).collect();
                format!(
                    "`{text}` is not a control; the controls are {}",
                    names.join(", ")
                )
            })
    }
}

/// A launch that will not be made: what was asked, why not, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ask}: {problem}\n  fix: {fix}")]
pub struct Refusal {
    /// The flag or the control.
    pub ask: String,
    pub problem: String,
    pub fix: String,
}

impl Refusal {
    pub(crate) fn new(
        ask: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            ask: ask.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Refusal>;

/// The controls that this host lacks, gathered over the whole plan so that one refusal names them all.
#[derive(Debug, Default)]
pub(crate) struct Lacking(Vec<Shortfall>);

impl Lacking {
    pub(crate) fn add(&mut self, control: Control, why: &str) {
        self.0.push(Shortfall {
            control,
            why: why.to_owned(),
        });
    }

    /// All of them as shortfalls, if the operator accepted each by name. What was accepted and is there stays on and is no shortfall.
    pub(crate) fn settle(self, accepted: &BTreeSet<Control>) -> Result<Vec<Shortfall>> {
        let refused: Vec<&Shortfall> = self
            .0
            .iter()
            .filter(|lack| !accepted.contains(&lack.control))
            .collect();
        if refused.is_empty() {
            return Ok(self.0);
        }
        let names: Vec<String> = refused
            .iter()
            .map(|lack| lack.control.to_string())
            .collect();
        let whys: Vec<String> = refused.iter().map(|lack| lack.why.clone()).collect();
        let flags: Vec<String> = names
            .iter()
            .map(|name| format!("--accept-shortfall {name}"))
            .collect();
        Err(Refusal::new(
            names.join(", "),
            format!("this host cannot give it: {}", whys.join("; ")),
            format!(
                "use a newer kernel, or go without by name: {}",
                flags.join(" ")
            ),
        ))
    }
}
