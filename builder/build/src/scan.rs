//! A tree of this host, listed by several threads: the kernel's part of a look at ten thousand files is most of what a build that
//! changes nothing takes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use airtight_image::layer::MAX_PATH;
use airtight_image::source::{ItemKind, Items, ListError, Names, directory_beneath, list};

use crate::cache;
use crate::glob::Pattern;
use crate::source::Root;

/// So many directories wait before a second thread is worth its start.
const WORTH_A_THREAD: usize = 8;
/// More wait for each other in the kernel.
const MAX_THREADS: usize = 8;
/// Of directories some of whose own wait.
const MAX_HELD: usize = 32;

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
            waiting: vec![Group {
                of: None,
                below: vec![PathBuf::new()],
            }],
            count: 1,
            working: 0,
            idle: 0,
            listings: Vec::new(),
        }),
        changed: Condvar::new(),
    };
    scan.alone();
    if scan.state().count > 0 {
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
    /// The last is taken first, so there are about as many as a directory lies deep.
    waiting: Vec<Group>,
    /// Directories that wait.
    count: usize,
    /// Threads that list a directory, and may find others.
    working: usize,
    /// Threads that wait.
    idle: usize,
    listings: Vec<Listing>,
}

/// Directories that wait, all in one; never none.
struct Group {
    /// That one, so that the way to it is not walked for each; `None` where enough are held.
    of: Option<Arc<File>>,
    below: Vec<PathBuf>,
}

/// A directory that is to be listed, and the one that it lies in.
type Next = (PathBuf, Option<Arc<File>>);

impl Scan<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until it is done or a second thread is worth it.
    fn alone(&self) {
        let mut names = Names::default();
        let mut state = self.state();
        while state.count < WORTH_A_THREAD
            && let Some(next) = state.next()
        {
            let (listing, held) = self.list(next, &mut names);
            state.add(listing, held);
        }
    }

    fn together(&self) {
        let mut names = Names::default();
        let mut state = self.state();
        loop {
            let Some(next) = state.next() else {
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
            let (listing, held) = self.list(next, &mut names);
            state = self.state();
            state.working -= 1;
            let more = state.add(listing, held);
            // This thread takes one itself.
            if more > 1 && state.idle > 0 {
                self.changed.notify_all();
            }
        }
    }

    /// The directory itself too, unless it could not be listed.
    fn list(&self, (below, of): Next, names: &mut Names) -> (Listing, Option<File>) {
        let wanted = |name: &OsStr| {
            let named = |pattern: &Pattern| pattern.matches(&below.join(name));
            !self.exclude.iter().any(named)
        };
        let opened = match (of, below.file_name()) {
            // As the kernel would say of the whole way: names could go on for ever.
            _ if below.as_os_str().len() >= MAX_PATH => {
                Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
            }
            (Some(of), Some(name)) => directory_beneath(&of, name.as_ref()),
            (_, _) => self.root.directory(&self.way.join(&below)),
        };
        let listed = opened
            .map_err(|error| ListError { name: None, error })
            .and_then(|held| Ok((list(&held, names, wanted)?, held)));
        let (items, held) = match listed {
            Ok((items, held)) => (Ok(items), Some(held)),
            Err(error) => (Err(error), None),
        };
        let seen = match &items {
            Ok(items) => cache::listed(&below, items),
            Err(_) => [0; 32],
        };
        let listing = Listing { below, items, seen };
        (listing, held)
    }
}

impl State {
    fn next(&mut self) -> Option<Next> {
        let group = self.waiting.last_mut()?;
        let below = group.below.pop()?;
        let of = group.of.clone();
        if group.below.is_empty() {
            self.waiting.pop();
        }
        self.count -= 1;
        Some((below, of))
    }

    /// How many directories that waits for are in it.
    fn add(&mut self, listing: Listing, held: Option<File>) -> usize {
        let items = listing.items.iter().flat_map(Items::iter);
        let directories = items.filter(|(_, kind)| **kind == ItemKind::Directory);
        let below: Vec<_> = directories
            .map(|(name, _)| listing.below.join(name))
            .collect();
        let more = below.len();
        if more > 0 {
            let of = held.filter(|_| self.waiting.len() < MAX_HELD).map(Arc::new);
            self.waiting.push(Group { of, below });
            self.count += more;
        }
        self.listings.push(listing);
        more
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

    #[test]
    fn a_way_that_is_longer_than_a_path_may_be_is_not_gone_to_its_end() {
        use std::os::fd::AsRawFd as _;

        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut at = File::open(dir.path()).unwrap();
        for _ in 0..24 {
            let below = PathBuf::from(format!("/proc/self/fd/{}/{name}", at.as_raw_fd()));
            fs::create_dir(&below).unwrap();
            at = File::open(below).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let listings = scan(&root, Path::new(""), &[]);
        let wrong: Vec<_> = listings
            .into_iter()
            .filter_map(|listing| listing.items.err())
            .collect();
        let codes: Vec<_> = wrong
            .iter()
            .map(|wrong| wrong.error.raw_os_error())
            .collect();
        assert_eq!(codes, [Some(libc::ENAMETOOLONG)]);
    }
}
