//! All that a plan of copies is made from, as one digest. A build that sees the very same as the last one has the same plan, and so the same
//! layers, without making it: that is what a build that changes nothing does. Only where times prove that files did not change
//! ([`airtight_image::Identity`]), and only for plans whose every look at this host is in the digest: a closure, a package or a generator that
//! takes from the host looks elsewhere too.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use airtight_image::layer::{FORMAT, Form};
use airtight_image::registry::Platform;
use airtight_image::source::{ItemKind, Items};
use airtight_image::{Device, Digest, DigestOf, Identity};

use crate::copy::Looked;
use crate::generator::Generator;
use crate::spec::BuildSpec;

/// Another one for each change of what is digested here.
const VERSION: &[u8] = b"airtight outcome 2\n";

/// What was seen.
pub(crate) struct Witness {
    pub(super) seen: Digest,
    /// No file was written to shortly before.
    pub(super) settled: bool,
}

/// What a build is asked for, besides what its sources are.
pub(crate) struct Asked<'a> {
    pub(crate) spec: &'a BuildSpec,
    /// The build file's.
    pub(crate) text: &'a str,
    pub(crate) platform: &'a Platform,
    /// The base's manifest.
    pub(crate) base: Option<&'a Digest>,
}

/// `None` where what is seen does not tell all that the plan depends on.
pub(super) fn witness(
    asked: &Asked<'_>,
    form: &Form,
    looked: &[Vec<Looked>],
    started: SystemTime,
) -> Option<Witness> {
    if !told_by_copies(asked.spec) {
        return None;
    }
    let Form {
        epoch,
        compression,
        workers: _,
    } = form;
    let mut bytes = VERSION.to_vec();
    // Another program may plan otherwise.
    let program = Path::new("/proc/self/exe").metadata().ok()?;
    identity(&mut bytes, &Identity::of(&program));
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.push(compression.number());
    text(&mut bytes, asked.platform.to_string().as_bytes());
    let base = asked.base.map(ToString::to_string).unwrap_or_default();
    text(&mut bytes, base.as_bytes());
    text(&mut bytes, asked.text.as_bytes());
    let mut of = DigestOf::default();
    of.add(&bytes);
    let mut all = Seen {
        of,
        devices: BTreeMap::new(),
        settled: true,
        started,
    };
    for looked in looked.iter().flatten() {
        all.source(looked)?;
    }
    bytes.clear();
    for device in all.devices.values() {
        text(&mut bytes, format!("{device:?}").as_bytes());
    }
    all.of.add(&bytes);
    Some(Witness {
        seen: all.of.digest(),
        settled: all.settled,
    })
}

fn told_by_copies(spec: &BuildSpec) -> bool {
    spec.layers.iter().all(|layer| {
        let made_of_the_file = |generator: &Generator| match generator {
            Generator::Passwd | Generator::Group | Generator::Nsswitch => true,
            Generator::CaCertificates | Generator::Tzdata(_) => false,
        };
        layer.packages.is_empty()
            && layer.closure.is_empty()
            && layer.generate.iter().all(made_of_the_file)
    })
}

struct Seen {
    of: DigestOf,
    devices: BTreeMap<u64, Device>,
    settled: bool,
    started: SystemTime,
}

impl Seen {
    fn source(&mut self, looked: &Looked) -> Option<()> {
        let mut bytes = Vec::new();
        kind(&mut bytes, &looked.kind);
        self.of.add(&bytes);
        self.holds(looked, &looked.way, &looked.kind)?;
        self.of.add(&(looked.listings.len() as u64).to_le_bytes());
        for listing in &looked.listings {
            self.of.add(&listing.seen);
            for (name, kind) in listing.items.as_ref().ok()?.iter() {
                if let ItemKind::File(found) = kind
                    && self.devices.contains_key(&found.device)
                {
                    self.settled &= found.settled_at(self.started);
                } else {
                    let way = looked.way.join(&listing.below).join(name);
                    self.holds(looked, &way, kind)?;
                }
            }
        }
        Some(())
    }

    /// Whether what was seen of it would be seen to change.
    fn holds(&mut self, looked: &Looked, way: &Path, kind: &ItemKind) -> Option<()> {
        match kind {
            ItemKind::Directory | ItemKind::Symlink(_) => {}
            ItemKind::File(found) => {
                if let Entry::Vacant(slot) = self.devices.entry(found.device) {
                    let source = looked.root.source(way.to_owned(), way.to_owned(), *found);
                    slot.insert(Device::of(source.look().ok()?, found.device)?);
                }
                self.settled &= found.settled_at(self.started);
            }
            // The plan refuses it, whatever else there is.
            ItemKind::Other(_) => return None,
        }
        Some(())
    }
}

/// Of all that was seen of one directory.
pub(crate) fn listed(below: &Path, items: &Items) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(64 + 96 * items.len());
    text(&mut bytes, below.as_os_str().as_bytes());
    for (name, found) in items.iter() {
        text(&mut bytes, name.as_bytes());
        kind(&mut bytes, found);
    }
    Digest::of(&bytes).to_bytes()
}

/// Each part says how long it is or is of one length, so that no two things are the same bytes.
fn kind(bytes: &mut Vec<u8>, kind: &ItemKind) {
    match kind {
        ItemKind::Directory => bytes.push(b'd'),
        ItemKind::Symlink(target) => {
            bytes.push(b'l');
            text(bytes, target.as_os_str().as_bytes());
        }
        ItemKind::File(found) => {
            bytes.push(b'f');
            identity(bytes, found);
        }
        ItemKind::Other(_) => bytes.push(b'o'),
    }
}

fn identity(bytes: &mut Vec<u8>, identity: &Identity) {
    let Identity {
        device,
        inode,
        length,
        modified,
        changed,
        mode,
    } = identity;
    let times = [modified, changed].map(|(seconds, _)| seconds.cast_unsigned());
    for word in [*device, *inode, *length].iter().chain(&times) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for word in [modified.1, changed.1, *mode] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}
