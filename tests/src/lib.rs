//! The harness: where the binaries are, what the host has, a store of one's own, and a launch without one of its steps.
//!
//! A test runs the product's binaries and never confines itself. What it makes lies in temporary directories and ends with it.

#![forbid(unsafe_code)]

pub mod debian;
mod host;
mod launch;
pub mod registry;
mod world;

pub use host::{Need, has};
pub use launch::{Report, Tried, Without, parse};
pub use world::{Background, Ran, Server, World, binary, repository, wait_until};
