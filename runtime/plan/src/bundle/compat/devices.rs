//! Device nodes of `/dev`.

use std::path::Path;

use super::Asked;
use super::options::options;
use crate::bundle::{Config, NodeKind, NodeStep};

/// What every container has (`config-linux.md`, default devices): path, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];
/// `/dev` is the caller's where it bound one there: nothing is made in it.
pub(super) fn own_dev(config: &Config) -> bool {
    !config.mounts.iter().any(|mount| {
        Path::new("/").join(&mount.destination) == Path::new("/dev")
            && (mount.kind == "bind" || options(&mount.options).bind)
    })
}

/// Those of the config, and the default ones that it does not name.
pub(super) fn nodes(config: &Config) -> Vec<NodeStep> {
    let asked = config.linux.devices.iter().map(|device| NodeStep {
        path: device.path.clone(),
        kind: device.kind,
        major: device.major.into(),
        minor: device.minor.into(),
        mode: device.mode.unwrap_or(0o666),
        uid: device.uid,
        gid: device.gid,
    });
    let defaults = NODES
        .iter()
        .filter(|(path, ..)| {
            !config
                .linux
                .devices
                .iter()
                .any(|device| device.path == Path::new(path))
        })
        .map(|(path, major, minor)| NodeStep {
            path: path.into(),
            kind: NodeKind::Character,
            major: (*major).into(),
            minor: (*minor).into(),
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
    asked.chain(defaults).collect()
}

/// Nodes cannot be made in a user namespace; there they are bound from the host's.
pub(super) fn bound(asked: &Asked<'_>, in_user_namespace: bool) -> bool {
    in_user_namespace || asked.has(crate::bundle::NamespaceKind::User)
}
