//! Device nodes of `/dev`, and the rules that go with them.

use std::path::Path;

use super::Asked;
use super::options::options;
use crate::bundle::{Config, DeviceKind, DeviceRule, NodeKind, NodeStep};

/// What every container has (`config-linux.md`, default devices): path, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];
/// Usable besides the nodes: what opening `/dev/ptmx` and `/dev/pts/N` takes, and tun, which rootless networks in containers count on.
const USABLE: [(u32, Option<u32>); 3] = [(136, None), (5, Some(2)), (10, Some(200))];

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

/// Nothing, then what the config says, then the defaults: a container whose config denies all still has its `/dev/null`.
pub(super) fn rules(config: &Config) -> Vec<DeviceRule> {
    let allow = |major: u32, minor: Option<u32>| DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major: Some(major),
        minor,
        read: true,
        write: true,
        mknod: true,
    };
    let make = |kind| DeviceRule {
        allow: true,
        kind,
        major: None,
        minor: None,
        read: false,
        write: false,
        mknod: true,
    };
    let deny = DeviceRule {
        allow: false,
        kind: DeviceKind::Any,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    };
    let mut rules = vec![deny];
    rules.extend(config.linux.resources.devices.iter().cloned());
    // A node may be made and still not be opened.
    rules.extend([make(DeviceKind::Character), make(DeviceKind::Block)]);
    rules.extend(
        NODES
            .iter()
            .map(|(_, major, minor)| allow(*major, Some(*minor))),
    );
    rules.extend(USABLE.iter().map(|(major, minor)| allow(*major, *minor)));
    rules
}

/// Nodes cannot be made in a user namespace; there they are bound from the host's.
pub(super) fn bound(asked: &Asked<'_>, in_user_namespace: bool) -> bool {
    in_user_namespace || asked.has(crate::bundle::NamespaceKind::User)
}
