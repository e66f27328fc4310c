//! Root or rootless, and which ids the sandbox has. Nobody else asks for the effective uid.

use sha2::{Digest as _, Sha256};

use crate::control::{Refusal, Result};
use crate::{Have, HostFacts, IdMap, IdMaps, MapWriter, Spec};

/// Ids of one sandbox as root: what an image can hold without being refused.
const RANGE: u32 = 1 << 16;
/// Ids of the host that are handed out to sandboxes of root: above the accounts and the usual first subordinate ranges of a host, and below
/// 2^31, where every file system and tool agrees about ids.
pub const ROOT_IDS: std::ops::Range<u32> = 1 << 19..1 << 31;
const SLOTS: u32 = (ROOT_IDS.end - ROOT_IDS.start) / RANGE;

/// The ids of one launch.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) maps: IdMaps,
    /// Inside 0 is mapped, so the set-up can use it.
    pub(crate) namespace_root: bool,
    /// Supplementary groups to set; `None` where the kernel does not let an unprivileged map's owner change them.
    pub(crate) groups: Option<Vec<u32>>,
    /// The caller may make idmapped mounts: layers come from the parent.
    pub(crate) root: bool,
}

pub(crate) fn identity(spec: &Spec, facts: &HostFacts) -> Result<Identity> {
    let process = &spec.process;
    if process.uid == 0 {
        return Err(Refusal::new(
            "--user",
            "the payload would be uid 0",
            "run it as another user: --user 65532:65532",
        ));
    }
    if let Have::No(why) = &facts.user_namespaces {
        // Where the probe knows what would turn them on, it says so after the reason.
        let (problem, fix) = why.split_once("; ").unwrap_or((
            why,
            "turn them on: without one the payload would have ids of this host",
        ));
        return Err(Refusal::new("user namespaces", problem, fix));
    }
    if facts.privileged {
        return as_root(spec);
    }
    if facts.euid == 0 {
        let problem = "this root has no CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, so only its own uid 0 could be mapped in";
        return Err(Refusal::new(
            "user namespaces",
            problem,
            "run airtight as another user, or give it those capabilities",
        ));
    }
    with_range(spec, facts).map_or_else(|| single(spec, facts), Ok)
}

/// Image ids 0 to 65535 at a range of host ids that depends on the sandbox, so that two sandboxes share none.
fn as_root(spec: &Spec) -> Result<Identity> {
    let process = &spec.process;
    let largest = process
        .additional_gids
        .iter()
        .copied()
        .chain([process.uid, process.gid])
        .max()
        .unwrap_or(0);
    if largest >= RANGE {
        return Err(Refusal::new(
            "--user",
            format!("id {largest} is beyond the {RANGE} ids of a sandbox"),
            "use ids below 65536",
        ));
    }
    let hash = Sha256::digest(spec.id.as_bytes());
    let number = hash
        .iter()
        .take(4)
        .fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    let map = IdMap {
        inside: 0,
        outside: ROOT_IDS.start + number % SLOTS * RANGE,
        count: RANGE,
    };
    Ok(Identity {
        maps: IdMaps {
            uids: vec![map],
            gids: vec![map],
            write: MapWriter::Direct,
        },
        namespace_root: true,
        groups: Some(process.additional_gids.clone()),
        root: true,
    })
}

/// Inside 0 is the caller, and from 1 on its subordinate ids; `None` where they do not hold what the payload needs.
fn with_range(spec: &Spec, facts: &HostFacts) -> Option<Identity> {
    let (process, subids) = (&spec.process, facts.subids.as_ref()?);
    let map = |own: u32, (first, count): (u32, u32), ids: &[u32]| {
        let count = count.min(RANGE - 1);
        // A range that starts at 0 or wraps would map the host's own accounts.
        let sound = first > 0
            && first.checked_add(count).is_some()
            && !(first..first + count).contains(&own);
        let holds = ids.iter().all(|id| *id <= count);
        let maps = vec![
            IdMap {
                inside: 0,
                outside: own,
                count: 1,
            },
            IdMap {
                inside: 1,
                outside: first,
                count,
            },
        ];
        (sound && holds).then_some(maps)
    };
    let gids: Vec<u32> = process
        .additional_gids
        .iter()
        .copied()
        .chain([process.gid])
        .collect();
    Some(Identity {
        maps: IdMaps {
            uids: map(facts.euid, subids.uids, &[process.uid])?,
            gids: map(facts.egid, subids.gids, &gids)?,
            write: MapWriter::Helpers {
                newuidmap: subids.newuidmap.clone(),
                newgidmap: subids.newgidmap.clone(),
            },
        },
        namespace_root: true,
        groups: Some(process.additional_gids.clone()),
        root: false,
    })
}

/// The payload's one id is the caller's.
fn single(spec: &Spec, facts: &HostFacts) -> Result<Identity> {
    let process = &spec.process;
    if !process.additional_gids.is_empty() {
        let problem =
            "additional groups need subordinate ids, and this user has none that hold them";
        return Err(Refusal::new(
            "--user",
            problem,
            "give the user a range in /etc/subuid and /etc/subgid (usermod --add-subuids), or leave the groups out",
        ));
    }
    let one = |inside, outside| {
        vec![IdMap {
            inside,
            outside,
            count: 1,
        }]
    };
    Ok(Identity {
        maps: IdMaps {
            uids: one(process.uid, facts.euid),
            gids: one(process.gid, facts.egid),
            // A process that could drop a group would pass a `---` that the group's entry holds (CVE-2014-8989).
            write: MapWriter::DirectDenySetgroups,
        },
        namespace_root: false,
        groups: None,
        root: false,
    })
}
