//! What files of this host held when builds read them, so that the next build need not: one file for each build file, read at once at its start. A record stands for
//! a file only as long as everything that the kernel says of it is the same (device, inode, length, both times to the nanosecond, mode), on a file system whose
//! kernel keeps those times itself, and only if both times lay well before the bytes were read, what is written in the same tick as it is read shows no difference
//! later, and each later store would change them ([`super::Steady`]).
//!
//! ```text
//! cache/files/HEX   HEX of the build file's path; little endian:
//!   "airtfile", version u32, devices u32, notes u32, records u32
//!   device  = number u64, kind of file system u64, its id u64
//!   note    = length u32, bytes             what a caller found out about a content, to whom it means something
//!   record  = inode u64, length u64, modified i64, changed i64, nanoseconds of both u32, mode u32, device u32, note u32 (0: none), 0 u32, digest [u8; 32]
//!   SHA-256 of all that [u8; 32]
//! ```
//! A file that is cut, damaged or of another version is as none. Nothing waits for it to reach the disk: whatever a power failure leaves of it, its digest tells.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::gc::Keep;
use super::{Device, Identity, Store, in_the_way, open_regular};
use crate::digest::Digest;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"airtfile";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const DEVICE: usize = 24;
const RECORD: usize = 88;
const SUM: usize = 32;
/// As many files as two of the largest layers have.
const MAX_RECORDS: usize = 1 << 20;
const MAX_DEVICES: usize = 64;
const MAX_NOTES: usize = 1 << 16;
const MAX_NOTE: usize = 64 << 10;
/// Of the file: the most records, and what their notes may come to.
const MAX_FILE: u64 = (MAX_RECORDS * RECORD) as u64 + (32 << 20);
/// Since the file was last read; a project that nobody builds any more leaves nothing.
const UNUSED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Of build files.
const MAX_FILES: usize = 256;

/// What is known of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// SHA-256 of all of it.
    pub digest: [u8; 32],
    pub note: Option<Arc<[u8]>>,
}

/// The records of one build file. Looked up in the order in which they were added, it costs one comparison each.
#[derive(Debug, Default)]
pub struct Contents {
    bytes: Vec<u8>,
    devices: Vec<(Device, Trust)>,
    notes: Vec<Arc<[u8]>>,
    /// Where the records begin.
    start: usize,
    count: usize,
    next: usize,
    /// By device and inode, made when the order was another once.
    index: Option<HashMap<(u32, u64), u32>>,
}

/// Whether the device that has this number now is the one that had it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Unknown,
    Same,
    Other,
}

impl Contents {
    /// Reads what a file holds; the bytes are hostile.
    ///
    /// # Errors
    /// Anything but one whole file of this version.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let bad = |problem: &str| {
            Error::refused(
                "the record of a build's files",
                problem,
                "build again: it is made anew",
            )
        };
        let end = bytes
            .len()
            .checked_sub(SUM)
            .ok_or_else(|| bad("is cut off"))?;
        let (body, sum) = bytes.split_at(end);
        if Sha256::digest(body).as_slice() != sum {
            return Err(bad("is damaged"));
        }
        let mut at = Reader(body);
        if at.take() != Some(*MAGIC) || at.u32() != Some(VERSION) {
            return Err(bad("is of another version"));
        }
        let mut counts = || Some([at.u32()?, at.u32()?, at.u32()?].map(|count| count as usize));
        let [devices, notes, count] = counts().ok_or_else(|| bad("has no header"))?;
        if devices > MAX_DEVICES || notes > MAX_NOTES || count > MAX_RECORDS {
            return Err(bad("holds more than a build has"));
        }
        let devices = (0..devices)
            .map(|_| at.device())
            .collect::<Option<_>>()
            .ok_or_else(|| bad("names devices that it lacks"))?;
        let notes = (0..notes)
            .map(|_| at.note())
            .collect::<Option<_>>()
            .ok_or_else(|| bad("names notes that it lacks"))?;
        let start = end - at.0.len();
        if count.checked_mul(RECORD) != Some(at.0.len()) {
            return Err(bad("holds another number of records than it says"));
        }
        Ok(Self {
            bytes,
            devices,
            notes,
            start,
            count,
            next: 0,
            index: None,
        })
    }

    /// How many files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What is known of the file that has `identity` now. `device` is asked once for each device.
    pub fn find(
        &mut self,
        identity: &Identity,
        device: impl FnOnce() -> Option<Device>,
    ) -> Option<Known> {
        let position = self
            .devices
            .iter()
            .position(|(known, _)| known.number == identity.device)?;
        let number = u32::try_from(position).ok()?;
        let (known, trust) = self.devices.get_mut(position)?;
        if *trust == Trust::Unknown {
            *trust = if device().is_some_and(|now| now == *known) {
                Trust::Same
            } else {
                Trust::Other
            };
        }
        if *trust == Trust::Other {
            return None;
        }
        let key = (number, identity.inode);
        // Whoever asks for all once more begins again.
        let mut at = self.next % self.count.max(1);
        if self.record(at).is_none_or(|record| record.key() != key) {
            at = *self.index().get(&key)? as usize;
        }
        self.next = at + 1;
        let record = self.record(at)?;
        if record.identity(identity.device) != *identity {
            return None;
        }
        let note = match record.note.checked_sub(1) {
            None => None,
            Some(note) => Some(Arc::clone(self.notes.get(note as usize)?)),
        };
        Some(Known {
            digest: record.digest,
            note,
        })
    }

    fn index(&mut self) -> &HashMap<(u32, u64), u32> {
        if self.index.is_none() {
            let numbers = 0_u32..;
            let keys = (0..self.count).filter_map(|at| Some(self.record(at)?.key()));
            self.index = Some(keys.zip(numbers).collect());
        }
        self.index.get_or_insert_default()
    }

    fn record(&self, at: usize) -> Option<Record> {
        if at >= self.count {
            return None;
        }
        Reader(self.bytes.get(self.start + at * RECORD..)?).record()
    }
}

struct Record {
    inode: u64,
    length: u64,
    modified: (i64, u32),
    changed: (i64, u32),
    mode: u32,
    device: u32,
    note: u32,
    digest: [u8; 32],
}

impl Record {
    fn key(&self) -> (u32, u64) {
        (self.device, self.inode)
    }

    fn identity(&self, device: u64) -> Identity {
        Identity {
            device,
            inode: self.inode,
            length: self.length,
            modified: self.modified,
            changed: self.changed,
            mode: self.mode,
        }
    }
}

/// Little endian; `None` past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn device(&mut self) -> Option<(Device, Trust)> {
        let (number, kind, id) = (self.u64()?, self.u64()?, self.u64()?);
        Some((Device { number, kind, id }, Trust::Unknown))
    }

    fn note(&mut self) -> Option<Arc<[u8]>> {
        let length = self.u32()? as usize;
        (length <= MAX_NOTE).then(|| self.slice(length).map(Arc::from))?
    }

    fn record(&mut self) -> Option<Record> {
        let (inode, length) = (self.u64()?, self.u64()?);
        let modified = self.take().map(i64::from_le_bytes)?;
        let changed = self.take().map(i64::from_le_bytes)?;
        Some(Record {
            inode,
            length,
            modified: (modified, self.u32()?),
            changed: (changed, self.u32()?),
            mode: self.u32()?,
            device: self.u32()?,
            note: self.u32()?,
            digest: {
                self.u32()?;
                self.take()?
            },
        })
    }
}

/// Records in the making.
#[derive(Debug, Default)]
pub struct NewContents {
    devices: Vec<Device>,
    notes: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, u32>,
    records: Vec<u8>,
    count: usize,
}

impl NewContents {
    /// Adds what was read of a file that had `identity` before and after; one whose device proves nothing is left out by the caller. Past the bounds nothing is
    /// added, and read again next time.
    pub fn add(&mut self, device: Device, identity: &Identity, known: &Known) {
        if self.count >= MAX_RECORDS {
            return;
        }
        let Some((device, note)) = self.device(device).zip(self.note(known.note.as_ref())) else {
            return;
        };
        let Identity {
            device: _,
            inode,
            length,
            modified,
            changed,
            mode,
        } = identity;
        for word in [*inode, *length] {
            self.records.extend_from_slice(&word.to_le_bytes());
        }
        for (seconds, _) in [modified, changed] {
            self.records.extend_from_slice(&seconds.to_le_bytes());
        }
        for word in [modified.1, changed.1, *mode, device, note, 0] {
            self.records.extend_from_slice(&word.to_le_bytes());
        }
        self.records.extend_from_slice(&known.digest);
        self.count += 1;
    }

    fn device(&mut self, device: Device) -> Option<u32> {
        let at = self.devices.iter().position(|known| *known == device);
        let at = at.unwrap_or(self.devices.len());
        if at == self.devices.len() {
            // Two that have had one number are told apart by nothing in a record.
            let taken = self
                .devices
                .iter()
                .any(|known| known.number == device.number);
            if at == MAX_DEVICES || taken {
                return None;
            }
            self.devices.push(device);
        }
        u32::try_from(at).ok()
    }

    /// Its number, from 1; the same bytes are kept once.
    fn note(&mut self, note: Option<&Arc<[u8]>>) -> Option<u32> {
        let Some(note) = note.filter(|note| note.len() <= MAX_NOTE) else {
            return Some(0);
        };
        if let Some(number) = self.numbers.get(note) {
            return Some(*number);
        }
        if self.notes.len() == MAX_NOTES {
            return Some(0);
        }
        self.notes.push(Arc::clone(note));
        let number = u32::try_from(self.notes.len()).ok()?;
        self.numbers.insert(Arc::clone(note), number);
        Some(number)
    }

    /// As [`Contents::parse`] reads it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + DEVICE + self.records.len() + SUM);
        bytes.extend_from_slice(MAGIC);
        for count in [self.devices.len(), self.notes.len(), self.count] {
            if bytes.len() == MAGIC.len() {
                bytes.extend_from_slice(&VERSION.to_le_bytes());
            }
            // All three are bounded.
            bytes.extend_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
        }
        for Device { number, kind, id } in &self.devices {
            for word in [number, kind, id] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        for note in &self.notes {
            bytes.extend_from_slice(&u32::try_from(note.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(note);
        }
        bytes.extend_from_slice(&self.records);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }
}

impl Store {
    /// What earlier builds of a build file read; `of` is the digest of its path. What is not there or not whole is empty.
    #[must_use]
    pub fn contents(&self, of: &Digest) -> Contents {
        let path = self.contents_path(of);
        let read = || -> io::Result<Vec<u8>> {
            let file = open_regular(&path)?;
            let length = file.metadata()?.len();
            if length > MAX_FILE {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
            file.take(MAX_FILE).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read()
            .ok()
            .and_then(|bytes| Contents::parse(bytes).ok())
            .unwrap_or_default()
    }

    /// Keeps what a build read in the place of what was there.
    ///
    /// # Errors
    /// The file system's.
    pub fn put_contents(&self, of: &Digest, contents: &NewContents) -> Result<()> {
        self.add()?;
        let path = self.contents_path(of);
        let write = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(self.path("cache/files"))?;
            let mut file = tempfile::NamedTempFile::new_in(self.path("tmp"))?;
            file.write_all(&contents.to_bytes())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(Error::io(&path))
    }

    fn contents_path(&self, of: &Digest) -> PathBuf {
        self.path("cache/files").join(of.hex())
    }

    /// Notes for gc that a build used what is kept; without that nothing but some reading would be lost.
    pub fn used_contents(&self, of: &Digest) {
        let touched = File::options()
            .write(true)
            .open(self.contents_path(of))
            .and_then(|file| file.set_modified(SystemTime::now()));
        drop(touched);
    }

    /// Removes what no build used lately, or all; how many.
    pub(super) fn collect_contents(&self, keep: Keep) -> Result<u64> {
        let files = self.collect_old("cache/files", keep)?;
        Ok(files + self.collect_old("cache/outcomes", keep)?)
    }

    fn collect_old(&self, sub: &str, keep: Keep) -> Result<u64> {
        let directory = self.path(sub);
        let read = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(in_the_way(&directory))?,
        };
        let mut found = Vec::new();
        for entry in read {
            let path = entry.map_err(Error::io(&directory))?.path();
            let used = fs::symlink_metadata(&path)
                .and_then(|metadata| metadata.modified())
                .map_err(Error::io(&path))?;
            found.push((used, path));
        }
        found.sort_by(|one, other| other.cmp(one));
        let now = SystemTime::now();
        let mut removed = 0;
        for (number, (used, path)) in found.into_iter().enumerate() {
            let old = now.duration_since(used).unwrap_or_default() >= UNUSED_FOR;
            if keep == Keep::Nothing || old || number >= MAX_FILES {
                fs::remove_file(&path).map_err(Error::io(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Device = Device {
        number: 7,
        kind: 0xef53,
        id: 1,
    };

    fn identity(inode: u64) -> Identity {
        Identity {
            device: 7,
            inode,
            length: 10,
            modified: (1_700_000_000, 1),
            changed: (1_700_000_000, 2),
            mode: 0o100_644,
        }
    }

    fn known(byte: u8, note: Option<&str>) -> Known {
        Known {
            digest: [byte; 32],
            note: note.map(|note| note.as_bytes().into()),
        }
    }

    fn kept() -> Vec<u8> {
        let mut new = NewContents::default();
        new.add(HERE, &identity(1), &known(1, None));
        new.add(HERE, &identity(2), &known(2, Some("library")));
        new.add(HERE, &identity(3), &known(3, Some("library")));
        new.to_bytes()
    }

    #[test]
    fn what_was_added_is_found_in_any_order_and_under_nothing_else() {
        let mut contents = Contents::parse(kept()).unwrap();
        assert_eq!((contents.len(), contents.notes.len()), (3, 1));
        for order in [[1, 2, 3], [3, 1, 2]] {
            for inode in order {
                let note = (inode > 1).then_some("library");
                let found = contents.find(&identity(u64::from(inode)), || Some(HERE));
                assert_eq!(found, Some(known(inode, note)), "{inode}");
            }
        }
        let base = identity(2);
        for (name, other) in [
            ("device", Identity { device: 8, ..base }),
            ("inode", Identity { inode: 4, ..base }),
            ("length", Identity { length: 11, ..base }),
            (
                "modified",
                Identity {
                    modified: (1_700_000_000, 2),
                    ..base
                },
            ),
            (
                "changed",
                Identity {
                    changed: (1_700_000_001, 2),
                    ..base
                },
            ),
            (
                "mode",
                Identity {
                    mode: 0o100_755,
                    ..base
                },
            ),
        ] {
            assert_eq!(contents.find(&other, || Some(HERE)), None, "{name}");
        }
    }

    #[test]
    fn a_device_of_the_same_number_is_trusted_only_if_it_is_the_same() {
        for (name, now, want) in [
            ("the same", Some(HERE), true),
            ("another file system", Some(Device { id: 2, ..HERE }), false),
            (
                "another kind",
                Some(Device {
                    kind: 0x9123_683e,
                    ..HERE
                }),
                false,
            ),
            ("one that proves nothing", None, false),
        ] {
            let mut contents = Contents::parse(kept()).unwrap();
            assert_eq!(
                contents.find(&identity(1), || now).is_some(),
                want,
                "{name}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_whole_is_none() {
        let whole = kept();
        for at in 0..whole.len() {
            assert!(
                Contents::parse(whole[..at].to_vec()).is_err(),
                "cut at {at}"
            );
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(Contents::parse(damaged).is_err(), "damaged at {at}");
        }
        // With a right sum, so that what it says is looked at.
        let body = &whole[..whole.len() - SUM];
        for (name, at, value) in [
            ("version", 8, 2_u32),
            ("devices", 12, 2),
            ("more devices than there may be", 12, u32::MAX),
            ("notes", 16, 2),
            ("records", 20, 4),
            ("more records than there may be", 20, u32::MAX),
            ("the length of a note", HEADER + DEVICE, u32::MAX),
        ] {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let sum = Sha256::digest(&body);
            body.extend_from_slice(&sum);
            assert!(Contents::parse(body).is_err(), "{name}");
        }
    }

    #[test]
    fn the_store_keeps_one_for_each_build_file_and_forgets_it_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let of = Digest::of(b"/src/airtight.toml");
        assert!(store.contents(&of).is_empty());
        let mut new = NewContents::default();
        new.add(HERE, &identity(1), &known(1, None));
        store.put_contents(&of, &new).unwrap();
        assert_eq!(store.contents(&of).len(), 1);
        assert!(store.contents(&Digest::of(b"/other")).is_empty());
        assert_eq!(store.gc().unwrap().records, 0);
        let long_ago = SystemTime::now() - UNUSED_FOR;
        let file = File::options().write(true).open(store.contents_path(&of));
        file.unwrap().set_modified(long_ago).unwrap();
        store.used_contents(&of);
        assert_eq!(store.gc().unwrap().records, 0);
        let file = File::options().write(true).open(store.contents_path(&of));
        file.unwrap().set_modified(long_ago).unwrap();
        assert_eq!(store.gc().unwrap().records, 1);
        assert!(store.contents(&of).is_empty());
    }
}
