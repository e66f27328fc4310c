//! Plans of hosts and asks that are written down here: nothing is probed, nothing is confined.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test's own functions may end it and look at one step of many"
)]

mod fixture;
mod golden;
mod order;
mod refusals;
mod values;
