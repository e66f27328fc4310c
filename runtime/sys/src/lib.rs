//! The kernel boundary: each system call wrapped once, hardened by default. The only crate with `unsafe`.
