//! The canary: from the payload's own context, before it runs, what must fail is tried.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use airtight_plan::Probe;
use airtight_sys::socket::{tcp_connect, tcp_socket};
use airtight_sys::{directory, mount, namespace};
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::{Failure, Result};

pub(super) fn sing(probes: &[Probe]) -> Result<()> {
    for probe in probes {
        if attempt(*probe)? {
            return Err(Failure::Said(format!(
                "the confinement does not hold: {probe:?} should have failed and did not"
            )));
        }
    }
    Ok(())
}

/// Whether the attempt got through.
fn attempt(probe: Probe) -> Result<bool> {
    Ok(match probe {
        Probe::PublicAddress => connects(Ipv4Addr::new(1, 1, 1, 1), 443)?,
        Probe::MetadataAddress => connects(Ipv4Addr::new(169, 254, 169, 254), 80)?,
        Probe::Mount => mount::try_mount_tmpfs().is_ok(),
        Probe::WriteRoot => {
            let root = directory::open_path(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            directory::make_file(root, Path::new(".airtight-canary"), b"", 0o600).is_ok()
        }
        Probe::UserNamespace => namespace::unshare(CloneFlags::CLONE_NEWUSER).is_ok(),
    })
}

/// A connection that is under way counts: without a route there is none.
fn connects(address: Ipv4Addr, port: u16) -> Result<bool> {
    let address = SocketAddr::from((address, port));
    let socket = tcp_socket(&address)?;
    Ok(tcp_connect(&socket, &address).is_ok())
}
