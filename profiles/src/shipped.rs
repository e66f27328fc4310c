//! The profiles that come with airtight, compiled in so that a launch reads no file for them.

use std::path::Path;
use std::sync::LazyLock;

use crate::profile::Profile;
use crate::rule::SyscallSet;

/// The names that `--profile` and `extends` take.
pub const SHIPPED: &[&str] = &["base", "service", "jit", "build"];

/// A profile of [`SHIPPED`] by its name.
#[must_use]
pub fn shipped(name: &str) -> Option<Profile> {
    match name {
        "base" => BASE.clone(),
        "service" => SERVICE.clone(),
        "jit" => JIT.clone(),
        "build" => BUILD.clone(),
        _ => None,
    }
}

// Each is read once: a launch asks for its own, for what that extends, and for the ceiling.
static BASE: LazyLock<Option<Profile>> =
    LazyLock::new(|| read(include_str!("../base.profile.toml")));
static SERVICE: LazyLock<Option<Profile>> =
    LazyLock::new(|| read(include_str!("../service.profile.toml")));
static JIT: LazyLock<Option<Profile>> = LazyLock::new(|| read(include_str!("../jit.profile.toml")));
static BUILD: LazyLock<Option<Profile>> =
    LazyLock::new(|| read(include_str!("../build.profile.toml")));

fn read(text: &str) -> Option<Profile> {
    // A shipped file that does not parse is no profile: the launch is refused. A test holds that each one parses.
    Profile::parse_trusted(text, Path::new("shipped")).ok()
}

/// The calls of all shipped profiles: no profile may grant, and no ceiling allow, any other.
pub(crate) fn every_call() -> SyscallSet {
    // `build` extends `service`, which extends `base`; `jit` adds none.
    BUILD
        .as_ref()
        .map(|profile| profile.policy().syscalls)
        .unwrap_or_default()
}
