//! Whose ids a container has, and who may write them down.

use super::{Asked, CompatFacts};
use crate::bundle::{Config, NamespaceKind};
use crate::control::{Refusal, Result};
use crate::{IdMap, IdMaps, MapWriter};

/// The maps of a new user namespace; `None` where there is none.
pub(super) fn maps(
    config: &Config,
    asked: &Asked<'_>,
    facts: &CompatFacts,
) -> Result<Option<IdMaps>> {
    if !asked.makes(NamespaceKind::User) {
        // Whoever may not make namespaces needs one of its own to make the others in.
        if !facts.privileged && !asked.joins(NamespaceKind::User) {
            return Err(Refusal::new(
                "linux.namespaces",
                "this user may make a container in a user namespace only",
                "add one, with uidMappings and gidMappings, as `spec --rootless` does",
            ));
        }
        return Ok(None);
    }
    let (uids, gids) = (&config.linux.uid_mappings, &config.linux.gid_mappings);
    for (maps, key) in [(uids, "linux.uidMappings"), (gids, "linux.gidMappings")] {
        if !maps.iter().any(|map| map.inside == 0 && map.count > 0) {
            return Err(Refusal::new(
                key,
                "does not map the container's 0, as whom it is set up",
                "map it",
            ));
        }
    }
    Ok(Some(IdMaps {
        uids: uids.clone(),
        gids: gids.clone(),
        write: writer(uids, gids, facts)?,
    }))
}

fn writer(uids: &[IdMap], gids: &[IdMap], facts: &CompatFacts) -> Result<MapWriter> {
    if facts.privileged {
        return Ok(MapWriter::Direct);
    }
    let own =
        |maps: &[IdMap], id: u32| matches!(maps, [map] if map.outside == id && map.count == 1);
    if own(uids, facts.euid) && own(gids, facts.egid) {
        // A process that could drop a group would pass a `---` that the group's entry holds (CVE-2014-8989).
        return Ok(MapWriter::DirectDenySetgroups);
    }
    match &facts.map_helpers {
        Some((newuidmap, newgidmap)) => Ok(MapWriter::Helpers {
            newuidmap: newuidmap.clone(),
            newgidmap: newgidmap.clone(),
        }),
        None => Err(Refusal::new(
            "linux.uidMappings",
            "more than this user's own id takes newuidmap and newgidmap, which are not there",
            "install them (uidmap), or map the own id alone",
        )),
    }
}
