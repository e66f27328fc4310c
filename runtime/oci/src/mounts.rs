//! The `mounts` of a config.json. The usual file systems are airtight's own, whatever options are written; a tmpfs elsewhere is made.

use std::path::{Component, Path};

use airtight_plan::Tmpfs;

use crate::document::{Object, Problems};

/// What every sandbox has, or has not on purpose (`/sys`): destination and the types that callers write for it.
const OWN: &[(&str, &[&str])] = &[
    ("/proc", &["proc"]),
    ("/dev", &["tmpfs"]),
    ("/dev/pts", &["devpts"]),
    ("/dev/shm", &["tmpfs"]),
    ("/dev/mqueue", &["mqueue"]),
    ("/sys", &["sysfs"]),
    ("/sys/fs/cgroup", &["cgroup", "cgroup2"]),
];
/// Of a tmpfs without `size=`: 64 MiB.
const TMPFS_BYTES: u64 = 64 << 20;

/// The memory file systems that are asked for besides our own.
pub(crate) fn mounts(config: &mut Object, problems: &mut Problems) -> Vec<Tmpfs> {
    let mut tmpfs = Vec::new();
    for mut mount in config.objects("mounts", problems) {
        let place = mount.key("destination");
        let destination = mount.path("destination", problems).unwrap_or_default();
        let kind = mount.text("type", problems).unwrap_or_default();
        // For these file systems a label that means nothing.
        let source = mount.text("source", problems);
        let options = mount.texts("options", problems);
        let own = OWN
            .iter()
            .any(|(path, kinds)| Path::new(path) == destination && kinds.contains(&kind.as_str()));
        if !own && kind == "tmpfs" {
            if !destination.is_absolute()
                || destination
                    .components()
                    .any(|part| part == Component::ParentDir)
            {
                problems.add(&place, "is not absolute and free of `..`");
            }
            if let Some(size) = size(&options, &mount.key("options"), problems) {
                tmpfs.push(Tmpfs {
                    path: destination,
                    size,
                });
            }
        } else if !own {
            let bind = kind == "bind"
                || options
                    .iter()
                    .any(|option| option == "bind" || option == "rbind");
            let from = source
                .map(|source| format!(" of {}", source.escape_debug()))
                .unwrap_or_default();
            let what = if bind {
                "a bind".to_owned()
            } else {
                format!("type `{}`", kind.escape_debug())
            };
            problems.add(
                &place,
                &format!(
                    "{what}{from} at {} is not honoured: a mount here is a tmpfs",
                    destination.display().to_string().escape_debug()
                ),
            );
        }
        mount.finish(problems);
    }
    tmpfs
}

/// The size that the options give. Options that hold for every tmpfs here are fine; others would not be kept.
fn size(options: &[String], key: &str, problems: &mut Problems) -> Option<u64> {
    let mut size = TMPFS_BYTES;
    let mut fine = true;
    for option in options {
        let kept = matches!(
            option.as_str(),
            "nosuid"
                | "nodev"
                | "noexec"
                | "rw"
                | "strictatime"
                | "relatime"
                | "noatime"
                | "mode=1777"
        );
        match option.strip_prefix("size=").map(bytes) {
            Some(Some(bytes)) => size = bytes,
            None if kept => {}
            Some(None) | None => {
                problems.add(key, &format!("`{}` is not honoured: a tmpfs here is rw, nosuid, nodev, noexec, mode=1777", option.escape_debug()));
                fine = false;
            }
        }
    }
    fine.then_some(size)
}

/// tmpfs(5): bytes, or a number with k, m or g.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len() - 1)?, 10),
        b'm' | b'M' => (text.get(..text.len() - 1)?, 20),
        b'g' | b'G' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0 && i64::try_from(*bytes).is_ok())
}
