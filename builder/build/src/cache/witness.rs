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
use airtight_image::source::{Item, ItemKind};
use airtight_image::{Device, Digest, DigestOf, Identity};

use crate::copy::Looked;
use crate::generator::Generator;
use crate::spec::BuildSpec;

/// Another one for each change of what is digested here.
const VERSION: &[u8] = b"airtight outcome 1\n";

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
    let mut of = DigestOf::default();
    of.add(VERSION);
    // Another program may plan otherwise.
    identity(
        &mut of,
        &Identity::of(&Path::new("/proc/self/exe").metadata().ok()?),
    );
    of.add(&FORMAT.to_le_bytes());
    of.add(&epoch.to_le_bytes());
    of.add(&[compression.number()]);
    text(&mut of, asked.platform.to_string().as_bytes());
    let base = asked.base.map(ToString::to_string).unwrap_or_default();
    text(&mut of, base.as_bytes());
    text(&mut of, asked.text.as_bytes());
    let mut all = Seen {
        of,
        devices: BTreeMap::new(),
        settled: true,
        started,
    };
    for looked in looked.iter().flatten() {
        all.source(looked)?;
    }
    for device in all.devices.values() {
        text(&mut all.of, format!("{device:?}").as_bytes());
    }
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
        self.kind(looked, &looked.way, &looked.kind)?;
        self.of.add(&(looked.listings.len() as u64).to_le_bytes());
        for listing in &looked.listings {
            let items = listing.items.as_ref().ok()?;
            text(&mut self.of, listing.below.as_os_str().as_bytes());
            self.of.add(&(items.len() as u64).to_le_bytes());
            for Item { name, kind } in items {
                text(&mut self.of, name.as_bytes());
                if let ItemKind::File(found) = kind
                    && self.devices.contains_key(&found.device)
                {
                    self.file(found);
                } else {
                    let way = looked.way.join(&listing.below).join(name);
                    self.kind(looked, &way, kind)?;
                }
            }
        }
        Some(())
    }

    fn kind(&mut self, looked: &Looked, way: &Path, kind: &ItemKind) -> Option<()> {
        match kind {
            ItemKind::Directory => self.of.add(b"d"),
            ItemKind::Symlink(target) => {
                self.of.add(b"l");
                text(&mut self.of, target.as_os_str().as_bytes());
            }
            ItemKind::File(found) => {
                if let Entry::Vacant(slot) = self.devices.entry(found.device) {
                    let source = looked.root.source(way.to_owned(), way.to_owned(), *found);
                    slot.insert(Device::of(source.look().ok()?, found.device)?);
                }
                self.file(found);
            }
            // The plan refuses it, whatever else there is.
            ItemKind::Other(_) => return None,
        }
        Some(())
    }

    fn file(&mut self, found: &Identity) {
        self.of.add(b"f");
        identity(&mut self.of, found);
        self.settled &= found.settled_at(self.started);
    }
}

fn identity(of: &mut DigestOf, identity: &Identity) {
    let Identity {
        device,
        inode,
        length,
        modified,
        changed,
        mode,
    } = identity;
    let mut bytes = [0; 52];
    let words = [
        *device,
        *inode,
        *length,
        modified.0.cast_unsigned(),
        changed.0.cast_unsigned(),
    ];
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    // Nanoseconds have thirty bits.
    if let Some(last) = chunks.last_mut() {
        *last = (u64::from(modified.1) << 32 | u64::from(changed.1)).to_le_bytes();
    }
    rest.copy_from_slice(&mode.to_le_bytes());
    of.add(&bytes);
}

fn text(of: &mut DigestOf, bytes: &[u8]) {
    of.add(&(bytes.len() as u64).to_le_bytes());
    of.add(bytes);
}
