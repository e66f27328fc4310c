//! A tree of this host, listed by several threads: the kernel's part of a look at ten thousand files is most of what a build that
//! changes nothing takes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use airtight_image::source::{ItemKind, Items, ListError, Names};

use crate::cache::listed;
use crate::glob::Pattern;
use crate::source::Root;

/// So many directories wait before a second thread is worth its start.
const WORTH_A_THREAD: usize = 8;
/// More wait for each other in the kernel.
const MAX_THREADS: usize = 8;

/// What lies in one directory.
pub(crate) struct Listing {
    /// From where the scan began; empty there.
    pub(crate) below: PathBuf,
    pub(crate) items: Result<Items, ListError>,
    /// Of all that, for the witness: taken by the thread that listed it.
    pub(crate) seen: [u8; 32],
}

/// All directories at `way` and below, without what a pattern names, in an order that does not depend on threads: as they come where each directory's names are
/// taken in their order, and what lies in a directory right after its name.
pub(crate) fn scan(root: &Root, way: &Path, exclude: &[Pattern]) -> Vec<Listing> {
    let scan = Scan {
        root,
        way,
        exclude,
        state: Mutex::new(State {
            waiting: vec![PathBuf::new()],
            working: 0,
            idle: 0,
            listings: Vec::new(),
        }),
        changed: Condvar::new(),
    };
    scan.alone();
    if !scan.state().waiting.is_empty() {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..cpus.min(MAX_THREADS) {
                scope.spawn(|| scan.together());
            }
            scan.together();
        });
    }
    let state = scan.state.into_inner();
    let mut listings = state.unwrap_or_else(PoisonError::into_inner).listings;
    listings.sort_unstable_by(|one, other| names(&one.below).cmp(names(&other.below)));
    listings
}

/// A path's bytes such that it is compared name by name: no name holds the one that stands for a slash.
fn names(path: &Path) -> impl Iterator<Item = u8> {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|byte| if *byte == b'/' { 0 } else { *byte })
}

struct Scan<'a> {
    root: &'a Root,
    way: &'a Path,
    exclude: &'a [Pattern],
    state: Mutex<State>,
    /// Something waits, or nothing will any more.
    changed: Condvar,
}

struct State {
    waiting: Vec<PathBuf>,
    /// Threads that list a directory, and may find others.
    working: usize,
    /// Threads that wait.
    idle: usize,
    listings: Vec<Listing>,
}

impl Scan<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until it is done or a second thread is worth it.
    fn alone(&self) {
        let mut names = Names::default();
        let mut state = self.state();
        while state.waiting.len() < WORTH_A_THREAD
            && let Some(below) = state.waiting.pop()
        {
            let listing = self.list(below, &mut names);
            state.add(listing);
        }
    }

    fn together(&self) {
        let mut names = Names::default();
        let mut state = self.state();
        loop {
            let Some(below) = state.waiting.pop() else {
                if state.working == 0 {
                    self.changed.notify_all();
                    return;
                }
                state.idle += 1;
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.working += 1;
            drop(state);
            let listing = self.list(below, &mut names);
            state = self.state();
            state.working -= 1;
            let more = state.add(listing);
            // This thread takes one itself.
            if more > 1 && state.idle > 0 {
                self.changed.notify_all();
            }
        }
    }

    fn list(&self, below: PathBuf, names: &mut Names) -> Listing {
        let wanted = |name: &OsStr| {
            let named = |pattern: &Pattern| pattern.matches(&below.join(name));
            !self.exclude.iter().any(named)
        };
        let items = self.root.list(&self.way.join(&below), names, wanted);
        let seen = match &items {
            Ok(items) => listed(&below, items),
            Err(_) => [0; 32],
        };
        Listing { below, items, seen }
    }
}

impl State {
    /// How many directories that waits for are in it.
    fn add(&mut self, listing: Listing) -> usize {
        let before = self.waiting.len();
        for (name, kind) in listing.items.iter().flat_map(Items::iter) {
            if *kind == ItemKind::Directory {
                self.waiting.push(listing.below.join(name));
            }
        }
        self.listings.push(listing);
        self.waiting.len() - before
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_directory_is_listed_once_and_what_is_excluded_is_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = vec![String::new()];
        for outer in 0..30 {
            for inner in ["a", "b/c", "b-/c", "skip/d"] {
                let below = format!("t{outer:02}/{inner}");
                fs::create_dir_all(dir.path().join(&below)).unwrap();
                fs::write(dir.path().join(&below).join("f"), "x").unwrap();
            }
            let inner = ["", "/a", "/b", "/b/c", "/b-", "/b-/c"];
            want.extend(inner.map(|inner| format!("t{outer:02}{inner}")));
        }
        let root = Root::open(dir.path()).unwrap();
        let exclude = [Pattern::parse("skip").unwrap()];
        let listings = scan(&root, Path::new(""), &exclude);
        let found: Vec<_> = listings
            .iter()
            .map(|listing| listing.below.to_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, want);
        for listing in listings {
            let items = listing.items.unwrap();
            assert!(
                items
                    .iter()
                    .is_sorted_by(|(one, _), (other, _)| one < other)
            );
            let files = items.iter().filter(|(name, _)| *name == "f");
            assert_eq!(
                files.count(),
                usize::from(listing.below.ends_with("a") || listing.below.ends_with("c"))
            );
        }
        let gone = scan(&root, Path::new("gone"), &[]);
        assert_eq!(gone.len(), 1);
        let told = gone.into_iter().next().map(|listing| listing.items);
        assert!(matches!(told, Some(Err(ListError { name: None, .. }))));
    }
}
