//! Every test that runs the product's binaries. Names that begin with `privileged_` need root or a service; see `airtight_tests::has`.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, its helpers too"
)]

mod architecture;
mod ci;
mod denial;
mod endpoints;
mod explain;
mod format;
mod hosts;
mod images;
mod kills;
mod launches;
mod limits;
mod packages;
mod pages;
mod registry;

use airtight_tests::{Need, World, has};

/// The error numbers that the tests name.
mod errno {
    pub(crate) const EPERM: i64 = 1;
    pub(crate) const ESRCH: i64 = 3;
    pub(crate) const EACCES: i64 = 13;
    pub(crate) const EROFS: i64 = 30;
    pub(crate) const ENOSYS: i64 = 38;
    pub(crate) const ENOTSOCK: i64 = 88;
    pub(crate) const ENETUNREACH: i64 = 101;
    pub(crate) const ECONNREFUSED: i64 = 111;
}

/// A world as root, one as an unprivileged user with one id, and one as a user with a range of ids: what is denied is denied to all.
fn every_caller() -> Option<[World; 3]> {
    has(&[Need::Root, Need::SubordinateIds]).then(|| {
        [
            World::new().unwrap(),
            World::rootless().unwrap(),
            World::ranged().unwrap(),
        ]
    })
}
