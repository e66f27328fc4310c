//! What files hold that nothing is known of: read, by several threads, since a digest is all that is wanted.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use airtight_image::layer::Held;
use airtight_image::{DigestOf, Identity, Steady};

use crate::entries::{Content, Entries, EntryKind};
use crate::source::{Near, Source};

const BUFFER: usize = 128 << 10;
/// More do not read faster from one disk.
const MAX_THREADS: usize = 8;

/// All of them, if all are known.
pub(super) fn digests<'a>(
    entries: &Entries,
    held: &'a [Option<Held>],
) -> Option<impl Iterator<Item = [u8; 32]> + use<'a>> {
    let whole = held.len() == super::files(entries).count() && held.iter().all(Option::is_some);
    whole.then(|| held.iter().flatten().map(|held| held.digest))
}

/// Reads each file of which nothing is known; whether there was one.
pub(super) fn fill(entries: &Entries, held: &mut [Option<Held>], proof: &Steady) -> bool {
    let kinds = entries.iter().map(|(_, entry)| &entry.kind);
    let sources = kinds.filter_map(|kind| match kind {
        EntryKind::File { content, .. } => Some(content),
        EntryKind::Directory | EntryKind::Symlink(_) => None,
    });
    let missing: Vec<(usize, &Source)> = sources
        .enumerate()
        .filter(|(at, _)| held.get(*at).is_some_and(Option::is_none))
        .filter_map(|(at, content)| match content {
            Content::Host(source) => Some((at, source)),
            Content::Generated(_) => None,
        })
        .collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        let (mut buffer, mut near) = (vec![0; BUFFER], Near::default());
        while let Some((at, source)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = read(source, &mut near, &mut buffer, proof);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((*at, read));
        }
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cpus.min(MAX_THREADS).min(missing.len() / 4);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    for (at, read) in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if let Some(slot) = held.get_mut(at) {
            *slot = read;
        }
    }
    !missing.is_empty()
}

/// As long as planned, or nothing: the length is a part of the key.
fn read(source: &Source, near: &mut Near, buffer: &mut [u8], proof: &Steady) -> Option<Held> {
    let (mut file, _) = source.open_near(near).ok()?;
    let identity = source.identity();
    let shows = proof.before_reading(&file, identity);
    let (mut of, mut length) = (DigestOf::default(), 0_u64);
    loop {
        let count = file.read(buffer).ok()?;
        if count == 0 {
            break;
        }
        length += count as u64;
        of.add(buffer.get(..count)?);
    }
    let steady = shows && Identity::of(&file.metadata().ok()?) == *identity;
    (length == identity.length).then(|| Held {
        digest: of.digest().to_bytes(),
        steady,
    })
}
