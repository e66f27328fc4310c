//! What a payload may do, as data. Pure: no file, environment or host is read here.

#![forbid(unsafe_code)]

mod filter;

pub use filter::{ArgCondition, ArgOp, SeccompFilter, SyscallRule};
