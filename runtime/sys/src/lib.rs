//! The kernel boundary: each system call wrapped once, hardened by default. The only crate with `unsafe`.
//!
//! A wrapper takes descriptors rather than paths, returns owned descriptors that are close-on-exec from birth, and fails with the call as it was made
//! ([`SysError`]). It decides nothing: what is to be done comes from a plan.

#![expect(unsafe_code, reason = "the one crate that talks to the kernel")]

pub mod arena;
pub mod arguments;
pub mod attribute;
pub mod bpf;
pub mod capability;
pub mod credentials;
pub mod directory;
pub mod entry;
mod error;
pub mod facts;
pub mod landlock;
pub mod lock;
pub mod mount;
pub mod names;
pub mod namespace;
pub mod netlink;
pub mod open;
pub mod peer;
pub mod poll;
pub mod process;
pub mod pty;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod springboard;
pub mod terminal;
pub mod writeback;
pub mod writers;

pub use error::{Result, SysError};
