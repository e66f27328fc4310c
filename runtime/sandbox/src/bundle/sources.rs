//! Trees of the host that become mounts inside.
//!
//! They are copied here, with the caller's rights and before anything of the bundle is in view, so that a source is what the caller's path named then, and is
//! out of reach of what runs inside (a source inside the container's own user namespace could not even be opened there).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use airtight_plan::bundle::{BundleParentStep, MountIdmap, NamespaceKind, SentMount};
use airtight_plan::{IdMap, ParentStep, Plan};
use airtight_sys::mount::{self, Change};
use airtight_sys::namespace::{self, Forked};
use airtight_sys::socket::{recv_fds, seqpacket_pair};
use airtight_sys::{SysError, open, process};
use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;

use crate::error::Cause;
use crate::parent::{Parent, Process, Source, lines, open_proc, write};

/// Mounts of the host appear inside, and none of ours outside.
const SLAVE: Change = Change {
    set: 0,
    clear: 0,
    propagation: libc::MS_SLAVE,
    recursive: true,
};

/// Two lists of one user namespace.
type Maps = (Vec<IdMap>, Vec<IdMap>);

/// User namespaces that exist for their id maps only: mounts with the same maps share one.
#[derive(Default)]
struct Namespaces {
    own: Vec<(Maps, OwnedFd)>,
    container: Option<OwnedFd>,
}

impl Parent<'_> {
    pub(super) fn send_mounts(&mut self, mounts: &[SentMount]) -> Result<(), Cause> {
        let mut namespaces = Namespaces::default();
        for (number, sent) in mounts.iter().enumerate() {
            let at = open_source(number, sent)?;
            let tree = match mount::copy_tree(&at, sent.recursive) {
                // A caller without the right to mount: the child copies them all, in a mount namespace where it has it.
                Err(SysError {
                    errno: Errno::EPERM,
                    ..
                }) if number == 0 => return Ok(()),
                other => other?,
            };
            if number == 0 {
                // A copy of a shared mount is its peer: what is mounted in it would appear outside. For the others the child's steps say what they are to the host.
                mount::change(&tree, &SLAVE, None)?;
            }
            if let Some(idmap) = &sent.idmap {
                self.map_tree(&tree, idmap, &sent.source, &mut namespaces)?;
            }
            self.mounts.push(tree);
        }
        Ok(())
    }

    fn map_tree(
        &self,
        tree: &OwnedFd,
        idmap: &MountIdmap,
        source: &Path,
        namespaces: &mut Namespaces,
    ) -> Result<(), Cause> {
        let namespace = match &idmap.maps {
            Some(maps) => namespaces.with_maps(maps)?,
            None => {
                if namespaces.container.is_none() {
                    namespaces.container = Some(self.user_namespace_of_container()?);
                }
                namespaces.container.as_ref()
            }
        };
        let change = Change {
            recursive: idmap.recursive,
            ..Change::default()
        };
        mount::change(tree, &change, namespace.map(AsFd::as_fd)).map_err(|error| {
            match error.errno {
                Errno::EINVAL => Cause::Refused {
                    problem: format!(
                        "{}: {error}: its file system takes no id map",
                        source.display()
                    ),
                    fix: "mount it without idmap, or from a file system that has id-mapped mounts"
                        .into(),
                },
                _ => Cause::Sys(error),
            }
        })
    }

    /// The one that the container joins, or the child's own.
    fn user_namespace_of_container(&self) -> Result<OwnedFd, Cause> {
        let joined = self
            .bundle
            .namespaces
            .iter()
            .find(|(kind, _)| *kind == NamespaceKind::User);
        match joined {
            Some((_, namespace)) => namespace.try_clone().map_err(|error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                SysError::new("fcntl", "F_DUPFD_CLOEXEC", errno).into()
            }),
            None => Ok(open::open_in_proc(
                &self.proc_of_child()?,
                Path::new("ns/user"),
            )?),
        }
    }
}

impl Namespaces {
    fn with_maps(&mut self, maps: &Maps) -> Result<Option<&OwnedFd>, Cause> {
        let known = self.own.iter().position(|(own, _)| own == maps);
        let index = match known {
            Some(index) => index,
            None => {
                self.own.push((maps.clone(), user_namespace(maps)?));
                self.own.len() - 1
            }
        };
        Ok(self.own.get(index).map(|(_, namespace)| namespace))
    }
}

/// A user namespace with these maps, which the descriptor alone keeps: the process that it was made with ends here.
fn user_namespace((uids, gids): &Maps) -> Result<OwnedFd, Cause> {
    let (ours, theirs) = seqpacket_pair()?;
    match namespace::clone_into(CloneFlags::CLONE_NEWUSER)? {
        Forked::Child => {
            drop(ours);
            // Until the other end is closed, by a parent that is done or dead; what came of it changes nothing.
            drop(recv_fds(&theirs, &mut [0], 0));
            process::exit_now(0)
        }
        Forked::Parent { child, pidfd } => {
            let child_process = Process::new(child, pidfd);
            let proc = open_proc(&child.to_string())?;
            write(&proc, "uid_map", &lines(uids))?;
            write(&proc, "gid_map", &lines(gids))?;
            let namespace = open::open_in_proc(&proc, Path::new("ns/user"))?;
            drop(child_process);
            Ok(namespace)
        }
    }
}

/// The root's path has no links any more; the others' are the caller's to use.
pub(crate) fn open_source(number: usize, sent: &SentMount) -> Result<OwnedFd, SysError> {
    let kind = if number == 0 {
        Source::WithoutLinks
    } else {
        Source::AsWritten
    };
    kind.open(&sent.source)
}

/// The trees that the plan sends, in order.
pub(crate) fn planned(plan: &Plan) -> impl Iterator<Item = &SentMount> {
    plan.parent
        .iter()
        .filter_map(|step| {
            if let ParentStep::Bundle(BundleParentStep::SendMounts { mounts }) = step {
                Some(mounts.iter())
            } else {
                None
            }
        })
        .flatten()
}
