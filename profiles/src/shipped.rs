//! The profiles that come with airtight, compiled in so that a launch reads no file for them: as text for people, and as the table that a launch takes.

use std::path::Path;
use std::sync::LazyLock;

use crate::policy::Policy;
use crate::profile::Profile;
use crate::rule::SyscallSet;
use crate::table;

/// The names that `--profile` and `extends` take.
pub const SHIPPED: &[&str] = &["base", "service", "jit", "build"];

/// A profile of [`SHIPPED`] by its name.
#[must_use]
pub fn shipped(name: &str) -> Option<Profile> {
    let at = SHIPPED.iter().position(|shipped| *shipped == name)?;
    // One whose row cannot be read is no profile: the launch is refused. A test holds that each is what its text says.
    POLICIES.get(at)?.as_ref().map(|_| Profile::of_shipped(at))
}

// Each is read once: a launch asks for its own, for what that extends, and for the ceiling.
static POLICIES: [LazyLock<Option<Policy>>; 4] = [
    LazyLock::new(|| table::policy(0)),
    LazyLock::new(|| table::policy(1)),
    LazyLock::new(|| table::policy(2)),
    LazyLock::new(|| table::policy(3)),
];

/// What the profile at this place of [`SHIPPED`] asks for.
pub(crate) fn policy(at: usize) -> Policy {
    POLICIES
        .get(at)
        .and_then(|policy| (**policy).clone())
        .unwrap_or_else(Policy::nothing)
}

/// The calls of all shipped profiles: no profile may grant, and no ceiling allow, any other.
pub(crate) fn every_call() -> SyscallSet {
    // `build` extends `service`, which extends `base`; `jit` adds none.
    policy(3).syscalls
}

/// A profile of [`SHIPPED`] as it is written.
pub(crate) fn text(name: &str) -> Option<Profile> {
    read(SHIPPED.iter().position(|shipped| *shipped == name)?)
}

/// The profile at this place of [`SHIPPED`] as it is written.
pub(crate) fn read(at: usize) -> Option<Profile> {
    let text = match at {
        0 => include_str!("../base.profile.toml"),
        1 => include_str!("../service.profile.toml"),
        2 => include_str!("../jit.profile.toml"),
        3 => include_str!("../build.profile.toml"),
        _ => return None,
    };
    Profile::parse_trusted(text, Path::new("shipped")).ok()
}
