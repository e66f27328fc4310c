//! The facts that a plan is made from: read, not judged. What cannot be read counts as absent, so that the plan refuses rather than hopes.

mod cgroup;
mod subids;

use std::fs;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use airtight_plan::{Arch, Cgroup, Have, HostFacts, Masked, ROOT_IDS};
use airtight_sys::{facts, landlock, seccomp};
use nix::sys::resource::{Resource, getrlimit};

use crate::seccomp::action;

pub(crate) use subids::map_helpers;

/// Where the probe looks. The default is the host; a test names other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeInput {
    pub subuid: PathBuf,
    pub subgid: PathBuf,
    /// For the name of the caller's uid.
    pub passwd: PathBuf,
    /// Where `newuidmap` and `newgidmap` may be.
    pub helpers: Vec<PathBuf>,
    /// Where `airtight-gate` is if it is not beside the running executable.
    pub gate: PathBuf,
}

impl Default for ProbeInput {
    fn default() -> Self {
        Self {
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
            passwd: "/etc/passwd".into(),
            helpers: vec!["/usr/bin".into(), "/bin".into()],
            gate: "/usr/libexec/airtight/airtight-gate".into(),
        }
    }
}

/// Entries of `/proc` that tell of the host or of other users, with whether each is a directory. The first ten are what container engines
/// mask; `bus` lists the host's devices, `key-users` counts other users' keys, and `kallsyms` gives kernel addresses where `kptr_restrict` is 0. The whole of
/// `/proc` is read-only, and what only the host's root may open needs no mask.
const LEAKS: [(&str, bool); 16] = [
    ("acpi", true),
    ("asound", true),
    ("interrupts", false),
    ("kcore", false),
    ("keys", false),
    ("latency_stats", false),
    ("sched_debug", false),
    ("scsi", true),
    ("timer_list", false),
    ("timer_stats", false),
    ("bus", true),
    ("key-users", false),
    ("kallsyms", false),
    ("cmdline", false),
    ("config.gz", false),
    ("swaps", false),
];

/// What this host gives to this process.
#[must_use]
pub fn probe(input: &ProbeInput) -> HostFacts {
    let release = release();
    let kernel = version(&release);
    let euid = nix::unistd::geteuid().as_raw();
    let privileged = facts::is_administrator();
    HostFacts {
        arch: if cfg!(target_arch = "aarch64") {
            Arch::Arm64
        } else {
            Arch::Amd64
        },
        kernel,
        euid,
        egid: nix::unistd::getegid().as_raw(),
        privileged,
        user_namespaces: user_namespaces(privileged),
        seccomp: seccomp::action_available(action::EPERM & 0x7fff_0000),
        seccomp_notify: kernel >= (5, 5) && seccomp::action_available(action::USER_NOTIF),
        landlock_abi: landlock::abi().unwrap_or(0),
        // In a user namespace, with extended attributes of the user kind.
        overlay: kernel >= (5, 11) && has_overlay(&release),
        idmapped_mounts: kernel >= (5, 19),
        plain_layers: Vec::new(),
        // Opening writes nothing. The file takes the host's own root only, so rootless and nested callers do not have this control.
        memfd_noexec: kernel >= (6, 6)
            && File::options()
                .write(true)
                .open("/proc/sys/vm/memfd_noexec")
                .is_ok(),
        mdwe: facts::has_deny_write_execute(),
        ipv6: Path::new("/proc/self/net/if_inet6").exists(),
        subids: if privileged {
            None
        } else {
            subids::subids(input, euid)
        },
        cgroup: own_cgroup(),
        proc_to_mask: LEAKS
            .iter()
            .filter(|(name, _)| fs::symlink_metadata(Path::new("/proc").join(name)).is_ok())
            .map(masked)
            .collect(),
        nofile_hard: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard),
        gate: gate(input),
    }
}

/// Those of `layers` that are on a file system without id maps: [`HostFacts::plain_layers`] of a launch of them. What the kernel says of others is told
/// when it says so.
#[must_use]
pub fn plain_layers(layers: &[PathBuf]) -> Vec<PathBuf> {
    /// `f_type`s: overlayfs, NFS, FUSE, 9p, CIFS.
    const WITHOUT: [i64; 5] = [0x794c_7630, 0x6969, 0x6573_5546, 0x0102_1997, 0xff53_4d42];
    let is_plain = |path: &&PathBuf| {
        nix::sys::statfs::statfs(path.as_path())
            .is_ok_and(|stat| WITHOUT.contains(&stat.filesystem_type().0))
    };
    layers.iter().filter(is_plain).cloned().collect()
}

fn masked((name, directory): &(&str, bool)) -> Masked {
    Masked {
        path: name.into(),
        directory: *directory,
    }
}

/// Procfs and configuration: bounded by who writes them, this host's root. Empty when it cannot be read.
fn read(path: impl AsRef<Path>) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn release() -> String {
    read("/proc/sys/kernel/osrelease")
}

/// Of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    version(&release())
}

/// `6.18.44-rc1` is 6.18. Nonsense is older than everything.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .trim()
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn user_namespaces(privileged: bool) -> Have {
    let number = |path: &str| read(path).trim().parse::<u64>().ok();
    let own_maps = ["/proc/self/uid_map", "/proc/self/gid_map"].map(read);
    if privileged && !own_maps.iter().all(|map| holds(map, &ROOT_IDS)) {
        let (first, last) = (ROOT_IDS.start, ROOT_IDS.end - 1);
        return Have::No(format!(
            "this root is one of a user namespace, which has not all of the ids {first} to {last}; run airtight as another user in it, or outside of it"
        ));
    }
    namespaces_by(
        privileged,
        number("/proc/sys/user/max_user_namespaces"),
        number("/proc/sys/kernel/unprivileged_userns_clone"),
        number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    )
}

/// Whether one line of an id map (user_namespaces(7)) holds all of `ids`.
fn holds(map: &str, ids: &Range<u32>) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (Some(Some(first)), Some(Some(count))) = (numbers.next(), numbers.nth(1)) else {
            return false;
        };
        first <= ids.start.into() && first.saturating_add(count) >= ids.end.into()
    })
}

/// The second and third are switches of Debian and of Ubuntu, absent elsewhere.
fn namespaces_by(
    privileged: bool,
    most: Option<u64>,
    debian: Option<u64>,
    apparmor: Option<u64>,
) -> Have {
    let no = |why: &str| Have::No(why.to_owned());
    match (most, debian, apparmor) {
        (None, _, _) => no("this kernel has none (CONFIG_USER_NS)"),
        (Some(0), _, _) => {
            no("user.max_user_namespaces is 0; sysctl -w user.max_user_namespaces=15000")
        }
        (_, Some(0), _) if !privileged => no(
            "kernel.unprivileged_userns_clone is 0; sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
        ),
        (_, _, Some(1..)) if !privileged => no(
            "kernel.apparmor_restrict_unprivileged_userns is on; load an AppArmor profile for airtight with `userns,`, or run as root",
        ),
        _ => Have::Yes,
    }
}

/// Listed, or a module that the kernel loads when it is asked for.
fn has_overlay(release: &str) -> bool {
    let listed = read("/proc/filesystems")
        .lines()
        .any(|line| line.split_whitespace().last() == Some("overlay"));
    let modules = || {
        PathBuf::from(format!(
            "/lib/modules/{}/kernel/fs/overlayfs",
            release.trim()
        ))
    };
    listed || modules().is_dir()
}

fn own_cgroup() -> Cgroup {
    let writable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    cgroup::places(
        &read("/proc/self/cgroup"),
        &read("/proc/self/mountinfo"),
        &writable,
        &|path| read(path),
    )
}

/// Beside our own executable, by the link that the kernel keeps; then where a package puts it.
fn gate(input: &ProbeInput) -> Option<PathBuf> {
    let beside = fs::read_link("/proc/self/exe")
        .ok()
        .map(|exe| exe.with_file_name("airtight-gate"));
    beside
        .into_iter()
        .chain([input.gate.clone()])
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_first_two_numbers() {
        for (release, want) in [
            ("6.18.44-fc\n", (6, 18)),
            ("5.4.0-150-generic", (5, 4)),
            ("6.1-rc3", (6, 1)),
            ("", (0, 0)),
            ("x.y", (0, 0)),
        ] {
            assert_eq!(version(release), want, "{release}");
        }
    }

    #[test]
    fn each_switch_of_user_namespaces_is_named_with_its_fix() {
        for (name, facts, want) in [
            ("plain", (false, Some(9), None, None), ""),
            ("all on", (false, Some(9), Some(1), Some(0)), ""),
            ("not built in", (true, None, None, None), "CONFIG_USER_NS"),
            (
                "none left",
                (true, Some(0), None, None),
                "user.max_user_namespaces=15000",
            ),
            (
                "debian",
                (false, Some(9), Some(0), None),
                "kernel.unprivileged_userns_clone=1",
            ),
            ("debian, as root", (true, Some(9), Some(0), None), ""),
            (
                "ubuntu",
                (false, Some(9), None, Some(1)),
                "AppArmor profile",
            ),
            ("ubuntu, as root", (true, Some(9), None, Some(1)), ""),
        ] {
            let (privileged, most, debian, apparmor) = facts;
            match namespaces_by(privileged, most, debian, apparmor) {
                Have::Yes => assert_eq!(want, "", "{name}"),
                Have::No(why) => assert!(!want.is_empty() && why.contains(want), "{name}: {why}"),
            }
        }
    }

    #[test]
    fn an_id_map_holds_what_one_of_its_lines_does() {
        for (name, map, want) in [
            (
                "the first namespace",
                "         0          0 4294967295\n",
                true,
            ),
            ("exactly", "524288 7 1", true),
            ("one id", "0 1000 1", false),
            ("a container's range", "0 1000 1\n1 100000 65536\n", false),
            ("ends within", "0 0 524289", false),
            ("begins within", "524289 0 4294443006", false),
            ("cut", "0 0", false),
            ("none", "", false),
        ] {
            let ids = ROOT_IDS.start..ROOT_IDS.start + if name == "exactly" { 1 } else { 2 };
            assert_eq!(holds(map, &ids), want, "{name}");
        }
    }

    #[test]
    fn this_host_has_a_kernel_and_its_facts_are_stable() {
        let input = ProbeInput::default();
        let facts = probe(&input);
        assert!(facts.kernel >= (5, 0), "{:?}", facts.kernel);
        assert!(facts.seccomp && facts.nofile_hard > 0);
        assert_eq!(probe(&input), facts);
    }
}
