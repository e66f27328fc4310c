//! What runtime-spec 1.2 and the callers of runtimes ask of an OCI runtime, one case for each demand, held against runc first: so the cases are tested too.
//!
//! Both run in every test; `AIRTIGHT_CONFORMANCE=runc,airtight,crun` chooses others.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, its helpers too; what differs is told"
)]

mod airtight;
mod callers;
mod cgroups;
mod containerd;
mod devices;
mod exchange;
mod exec;
mod games;
mod harness;
mod hooks;
mod hostile;
mod kills;
mod lifecycle;
mod mounts;
mod namespaces;
mod own_file;
mod process;
mod scale;
mod schema;
mod seccomp;
mod stubborn;
