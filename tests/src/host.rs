//! What a test needs of the host. A skip is told, and in CI it is a failure.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::binary;

/// Something that a host may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Root,
    /// A program in PATH.
    Program(&'static str),
    /// A file, as a package brings it.
    File(&'static str),
    /// What a user with a range of ids needs; the account files need not name anybody.
    SubordinateIds,
    /// A control that an older kernel has not, by its name.
    Control(&'static str),
    /// Controllers under which groups can be made.
    Cgroups,
}

impl Need {
    fn met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Program(name) => Command::new("sh")
                .args(["-c", "command -v \"$0\" >/dev/null", name])
                .status()
                .is_ok_and(|status| status.success()),
            Self::File(path) => Path::new(path).exists(),
            Self::SubordinateIds => ["/usr/bin/newuidmap", "/etc/subuid", "/etc/subgid"]
                .iter()
                .all(|path| Path::new(path).exists()),
            Self::Control(name) => !shortfalls().iter().any(|lacking| lacking == name),
            Self::Cgroups => {
                nix::unistd::geteuid().is_root()
                    && ["memory", "pids", "cpu"]
                        .iter()
                        .all(|name| Path::new("/sys/fs/cgroup").join(name).is_dir())
            }
        }
    }
}

/// The controls that this host lacks, as `airtight doctor` has them. Launches of the tests go without them, as an operator would say.
pub(crate) fn shortfalls() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let output = Command::new(binary("airtight"))
            .args(["doctor", "--json"])
            .output();
        let told = output
            .map(|output| serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default());
        let told = told.unwrap_or_default();
        let rows = told.get("shortfalls").and_then(Value::as_array);
        let names = rows
            .into_iter()
            .flatten()
            .filter_map(|row| row.get("control")?.as_str());
        names.map(str::to_owned).collect()
    })
}

/// Whether the host has all of it. Says what is missing, and with `AIRTIGHT_MUST_RUN=1` panics.
///
/// # Panics
/// When something is missing and the environment says that nothing may be skipped.
#[must_use]
#[expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a skip is told aloud, and in CI it fails the test"
)]
pub fn has(needs: &[Need]) -> bool {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.met()).collect();
    if missing.is_empty() {
        return true;
    }
    if std::env::var_os("AIRTIGHT_MUST_RUN").is_some_and(|value| value == "1") {
        panic!("this host lacks {missing:?}, and AIRTIGHT_MUST_RUN=1 allows no skip");
    }
    eprintln!("skipped: this host lacks {missing:?}");
    false
}
