//! The rootfs and everything mounted on it: flags, mount points, our own files in `/etc`.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use airtight_profiles::Policy;

use crate::control::{Refusal, Result};
use crate::{BottomEntry, ChildStep, DeviceNode, HostFacts, Spec, TopEntry};

/// Of `/tmp` and `/dev/shm` unless the operator says otherwise: 64 MiB.
const TMPFS_BYTES: u64 = 64 << 20;
/// The kernel's own limit is 500 lower layers in an overlay; no image comes near.
const MAX_LAYERS: usize = 256;
const MAX_MOUNTS: usize = 128;
/// No path of the host below these is a volume: they lead to the kernel, to devices, or to the sockets of other services.
const NO_SOURCE: [&str; 4] = ["/proc", "/sys", "/dev", "/run/airtight"];
/// Ours, in the sandbox.
const NO_DESTINATION: [&str; 3] = ["/proc", "/sys", "/dev"];
const OUR_FILES: [&str; 4] = ["/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Writes `resolv.conf`: the stub's address, where nothing answers, so that a lookup fails at once and does not wait.
const RESOLV_CONF: &str = "# The names that may be reached are in /etc/hosts; no DNS leaves this sandbox.\nnameserver 127.0.0.1\noptions attempts:1 timeout:1\n";

/// All device nodes that a sandbox has.
pub(crate) const NODES: [DeviceNode; 6] = [
    DeviceNode::Null,
    DeviceNode::Zero,
    DeviceNode::Full,
    DeviceNode::Random,
    DeviceNode::Urandom,
    DeviceNode::Tty,
];

/// The mounts of one launch.
#[derive(Debug)]
pub(crate) struct Mounts {
    pub(crate) rootfs: ChildStep,
    /// Tmpfs and volumes, a parent before what lies below it.
    pub(crate) steps: Vec<ChildStep>,
    /// Where the payload may write.
    pub(crate) writable: Vec<PathBuf>,
    /// Volumes that it may only read.
    pub(crate) readable: Vec<PathBuf>,
    /// Volumes that the parent idmaps, in the order of the steps.
    pub(crate) idmapped: Vec<PathBuf>,
}

/// One mount, before it is a step.
struct Mount<'a> {
    path: &'a Path,
    what: What<'a>,
}

enum What<'a> {
    Tmpfs(u64),
    Volume { source: &'a Path, read_only: bool },
}

/// `idmap`: the parent sends layers and volumes as idmapped mounts.
pub(crate) fn mounts(spec: &Spec, policy: &Policy, hosts: &str, idmap: bool) -> Result<Mounts> {
    layers(spec)?;
    let wanted = wanted(spec, policy)?;
    let mut mounts = Mounts {
        rootfs: ChildStep::Rootfs {
            layers: (!idmap).then(|| spec.layers.clone()),
            count: spec.layers.len(),
            top: top(spec, hosts),
            bottom: bottom(&wanted),
        },
        steps: Vec::new(),
        writable: Vec::new(),
        readable: Vec::new(),
        idmapped: Vec::new(),
    };
    for Mount { path, what } in wanted {
        let path = path.to_owned();
        match what {
            What::Tmpfs(bytes) => {
                mounts.writable.push(path.clone());
                mounts.steps.push(ChildStep::Tmpfs {
                    path,
                    bytes,
                    mode: 0o1777,
                });
            }
            What::Volume { source, read_only } => {
                if idmap {
                    mounts.idmapped.push(source.to_owned());
                }
                let side = if read_only {
                    &mut mounts.readable
                } else {
                    &mut mounts.writable
                };
                side.push(path.clone());
                let source = (!idmap).then(|| source.to_owned());
                mounts.steps.push(ChildStep::Volume {
                    source,
                    destination: path,
                    read_only,
                });
            }
        }
    }
    Ok(mounts)
}

/// `/dev`, the same for every sandbox.
pub(crate) fn dev() -> ChildStep {
    ChildStep::Dev {
        nodes: NODES.to_vec(),
        shm_bytes: TMPFS_BYTES,
    }
}

/// The leaks of `/proc` that exist on this host.
pub(crate) fn masks(facts: &HostFacts) -> Vec<ChildStep> {
    let mask = |masked: &crate::Masked| ChildStep::MaskProc {
        path: masked.path.clone(),
        directory: masked.directory,
    };
    facts.proc_to_mask.iter().map(mask).collect()
}

fn layers(spec: &Spec) -> Result<()> {
    if spec.layers.is_empty() || spec.layers.len() > MAX_LAYERS {
        let problem = format!(
            "the image has {} layers, not 1 to {MAX_LAYERS}",
            spec.layers.len()
        );
        return Err(Refusal::new("image", problem, "build it with fewer layers"));
    }
    match spec.layers.iter().find(|layer| !plain(layer)) {
        Some(layer) => {
            let problem = format!(
                "the layer's path {} is not absolute and free of `..`",
                layer.display()
            );
            Err(Refusal::new(
                "image",
                problem,
                "give the store an absolute path",
            ))
        }
        None => Ok(()),
    }
}

fn top(spec: &Spec, hosts: &str) -> Vec<TopEntry> {
    let directory = |path: &str, mode| TopEntry::Directory {
        path: path.into(),
        mode,
    };
    let file = |path: &str, content: String| TopEntry::File {
        path: path.into(),
        content,
    };
    vec![
        directory("/dev", 0o755),
        directory("/etc", 0o755),
        directory("/proc", 0o555),
        directory("/sys", 0o555),
        directory("/tmp", 0o1777),
        file("/etc/hostname", format!("{}\n", spec.hostname)),
        file("/etc/hosts", hosts.to_owned()),
        file("/etc/resolv.conf", RESOLV_CONF.to_owned()),
    ]
}

/// Mount points with their parents, each once, a parent first. What lies in a volume has its mount point there.
fn bottom(wanted: &[Mount<'_>]) -> Vec<BottomEntry> {
    let mut directories = BTreeSet::new();
    let mut points = Vec::new();
    let inside = |path: &Path| {
        wanted
            .iter()
            .any(|other| path != other.path && path.starts_with(other.path))
    };
    // `/tmp` is in `top` already.
    for Mount { path, what } in wanted
        .iter()
        .filter(|mount| mount.path != Path::new("/tmp") && !inside(mount.path))
    {
        directories.extend(
            path.ancestors()
                .skip(1)
                .filter(|parent| *parent != Path::new("/"))
                .map(Path::to_owned),
        );
        match what {
            What::Tmpfs(_) => directories.extend([path.to_path_buf()]),
            What::Volume { .. } => points.push(path.to_path_buf()),
        }
    }
    let directories = directories
        .into_iter()
        .map(|path| BottomEntry::Directory { path });
    directories
        .chain(
            points
                .into_iter()
                .map(|path| BottomEntry::VolumePoint { path }),
        )
        .collect()
}

/// What is mounted, sorted so that a parent comes first.
fn wanted<'a>(spec: &'a Spec, policy: &'a Policy) -> Result<Vec<Mount<'a>>> {
    let mut wanted: Vec<Mount<'a>> = Vec::new();
    for tmpfs in &spec.tmpfs {
        let ask = format!("--tmpfs {}", tmpfs.path.display());
        if tmpfs.size == 0 {
            return Err(Refusal::new(
                ask,
                "a size of 0 would be no limit",
                "give it a size, like `:64M`",
            ));
        }
        if tmpfs.size > policy.tmpfs.allowed(&tmpfs.path) {
            return Err(Refusal::new(
                ask,
                format!("the policy does not allow {} bytes there", tmpfs.size),
                "allow it under `tmpfs` in the ceiling",
            ));
        }
        add(&mut wanted, &ask, &tmpfs.path, What::Tmpfs(tmpfs.size))?;
    }
    for volume in &spec.volumes {
        let ask = format!(
            "--volume {}:{}",
            volume.source.display(),
            volume.destination.display()
        );
        source(&ask, &volume.source)?;
        add(
            &mut wanted,
            &ask,
            &volume.destination,
            What::Volume {
                source: &volume.source,
                read_only: volume.read_only,
            },
        )?;
    }
    if let airtight_profiles::TmpfsGrant::Only(asked) = &policy.tmpfs {
        for (path, size) in asked {
            // The operator's own size, or a volume in its place, goes before the profile's wish.
            if !wanted.iter().any(|mount| mount.path == path) {
                add(
                    &mut wanted,
                    &format!("`tmpfs` of the profile at {}", path.display()),
                    path,
                    What::Tmpfs(*size),
                )?;
            }
        }
    }
    if !wanted.iter().any(|mount| mount.path == Path::new("/tmp")) {
        wanted.push(Mount {
            path: Path::new("/tmp"),
            what: What::Tmpfs(TMPFS_BYTES),
        });
    }
    if wanted.len() > MAX_MOUNTS {
        return Err(Refusal::new(
            "--tmpfs, --volume",
            format!("more than {MAX_MOUNTS} mounts"),
            "ask for fewer",
        ));
    }
    wanted.sort_by(|a, b| a.path.cmp(b.path));
    nested(&wanted)?;
    Ok(wanted)
}

/// No mount of a caller's lies there.
pub(crate) fn is_own(path: &Path) -> bool {
    NO_DESTINATION.iter().any(|ours| path.starts_with(ours))
        || OUR_FILES.iter().any(|ours| path == Path::new(ours))
}

/// It may be given to a sandbox.
pub(crate) fn is_source(path: &Path) -> bool {
    source("", path).is_ok()
}

fn add<'a>(wanted: &mut Vec<Mount<'a>>, ask: &str, path: &'a Path, what: What<'a>) -> Result<()> {
    if !plain(path) || path == Path::new("/") {
        return Err(Refusal::new(
            ask,
            "the path is not absolute, has `..`, or is `/`",
            "write an absolute path below `/`",
        ));
    }
    if is_own(path) {
        return Err(Refusal::new(
            ask,
            "that place is the sandbox's own",
            "choose another path",
        ));
    }
    if wanted.iter().any(|mount| mount.path == path) {
        return Err(Refusal::new(
            ask,
            "two mounts have this path",
            "give each its own",
        ));
    }
    wanted.push(Mount { path, what });
    Ok(())
}

/// A new tmpfs is empty: nothing in it can be mounted on.
fn nested(wanted: &[Mount<'_>]) -> Result<()> {
    for mount in wanted {
        let over = wanted.iter().find(|other| {
            matches!(other.what, What::Tmpfs(_))
                && mount.path != other.path
                && mount.path.starts_with(other.path)
        });
        if let Some(over) = over {
            let problem = format!(
                "it lies in the tmpfs at {}, which starts empty",
                over.path.display()
            );
            return Err(Refusal::new(
                format!("mount at {}", mount.path.display()),
                problem,
                "choose a path outside of it",
            ));
        }
    }
    Ok(())
}

fn source(ask: &str, source: &Path) -> Result<()> {
    if !plain(source) || source == Path::new("/") {
        return Err(Refusal::new(
            ask,
            "the source is not absolute, has `..`, or is `/`",
            "name one directory or file by its absolute path",
        ));
    }
    if let Some(place) = NO_SOURCE.iter().find(|place| source.starts_with(place)) {
        return Err(Refusal::new(
            ask,
            format!("nothing below {place} is given to a sandbox"),
            "name a directory of data",
        ));
    }
    if let Some(place) = NO_SOURCE
        .iter()
        .find(|place| Path::new(place).starts_with(source))
    {
        return Err(Refusal::new(
            ask,
            format!("{place} is in it, of which nothing is given to a sandbox"),
            "name a directory of data",
        ));
    }
    Ok(())
}

/// Absolute, as it is written, without `.` and `..`.
pub(crate) fn plain(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && text.len() < 4096
        && !text.contains(&0)
        && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str()
}
