//! Memory of a process that lives for one launch: taken from the front of one piece, and given back by its end.
//!
//! A launch takes two thousand small pieces, and forks between them. An allocator that keeps what is freed in lists writes to pages that the parent and the
//! child share, and the kernel copies each of those; here what is freed is left as it is, unless it is the last piece. What does not fit is the system's
//! allocator's, so that a process which lives on takes what it would take anyway, and this piece. There is no lock that a fork could find held.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes. A launch with a usual filter in its config takes less than half; pages that nothing was put into are not there.
const SIZE: usize = 512 << 10;
/// Of the space: what asks for more is the system's.
const ALIGN: usize = 4096;
/// malloc(3) aligns every piece for all that C knows, and code that asks for bytes puts structures of the kernel's into them.
const LEAST_ALIGN: usize = 16;

/// To be a program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Arena {
    /// Bytes from the front that are somebody's.
    taken: AtomicUsize,
    space: UnsafeCell<Space>,
}

#[derive(Debug)]
#[repr(align(4096))]
struct Space(#[expect(dead_code, reason = "reached by address")] [MaybeUninit<u8>; SIZE]);

// SAFETY: no reference to the space is ever made. A byte of it is touched by whoever was given it, and `taken`, which only grows over bytes that are nobody's
// and only shrinks by the last piece, gives it to one at a time; each change is ordered after those of the bytes before it.
unsafe impl Sync for Arena {}

impl Arena {
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it is for a static, whose value is a constant"
    )]
    pub const fn new() -> Self {
        Self {
            taken: AtomicUsize::new(0),
            space: UnsafeCell::new(Space([MaybeUninit::uninit(); SIZE])),
        }
    }

    /// `None`: it does not fit.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.align() > ALIGN {
            return None;
        }
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let start = taken.checked_next_multiple_of(layout.align().max(LEAST_ALIGN))?;
            let end = start
                .checked_add(layout.size())
                .filter(|end| *end <= SIZE)?;
            match self.change(taken, end) {
                Ok(()) => return Some(self.space.get().cast::<u8>().wrapping_add(start)),
                Err(now) => taken = now,
            }
        }
    }

    /// Where a piece begins; `None` for one of the system's.
    fn start(&self, piece: *mut u8) -> Option<usize> {
        let start = piece.addr().wrapping_sub(self.space.get().addr());
        (start < SIZE).then_some(start)
    }

    fn change(&self, from: usize, to: usize) -> Result<(), usize> {
        self.taken
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
    }

    /// Makes the last piece end elsewhere; `false` where it is not the last, or does not fit.
    fn resize(&self, start: usize, size: usize, new: usize) -> bool {
        let fits = start.checked_add(new).filter(|end| *end <= SIZE);
        fits.is_some_and(|end| self.change(start + size, end).is_ok())
    }
}

// SAFETY: what is given out is a piece of the space that is nobody else's until it is given back, aligned as asked since the space is, or the system's; which
// of the two is told by its address, and the space never moves.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(piece) => piece,
            // SAFETY: the caller promises the same of the layout.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(piece) => {
                // SAFETY: the piece has that many bytes. They may have been another's, so they are written even where they were zero from the start.
                unsafe { ptr::write_bytes(piece, 0, layout.size()) };
                piece
            }
            // SAFETY: the caller promises the same of the layout.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.start(piece) {
            // One before others stays where it is.
            Some(start) => drop(self.resize(start, layout.size(), 0)),
            // SAFETY: not of the space, so it is the system's, and was given for this layout.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.start(piece) else {
            // SAFETY: not of the space, so it is the system's, and was given for this layout; the caller promises the same of the size.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if self.resize(start, layout.size(), size) || size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that the size is not 0 and, rounded up to the alignment, no more than `isize::MAX`.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size is not 0.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: the old piece has that many bytes, the new one more; both are given out, so they do not overlap.
            unsafe { ptr::copy_nonoverlapping(piece, moved, layout.size()) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    fn give(arena: &Arena, size: usize, align: usize) -> *mut u8 {
        // SAFETY: no size here is 0.
        unsafe { arena.alloc(layout(size, align)) }
    }

    fn take_back(arena: &Arena, piece: *mut u8, size: usize, align: usize) {
        // SAFETY: each piece is given back once, with the layout that it has.
        unsafe { arena.dealloc(piece, layout(size, align)) };
    }

    fn change(arena: &Arena, piece: *mut u8, size: usize, new: usize) -> *mut u8 {
        // SAFETY: the piece has that size, and is used no more by its old address.
        unsafe { arena.realloc(piece, layout(size, 1), new) }
    }

    fn fill(piece: *mut u8, size: usize, with: u8) {
        // SAFETY: the piece has that many bytes.
        unsafe { ptr::write_bytes(piece, with, size) };
    }

    fn read(piece: *mut u8, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        // SAFETY: the piece has that many bytes, all of them written.
        unsafe { ptr::copy_nonoverlapping(piece, bytes.as_mut_ptr(), size) };
        bytes
    }

    #[test]
    fn pieces_are_aligned_and_follow_one_another() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        for (size, align, start) in [
            (1, 1, 0),
            (8, 8, 16),
            (3, 1, 32),
            (64, 64, 64),
            (2, 4096, 4096),
            // As malloc does, whatever was asked.
            (1, 1, 4112),
        ] {
            let piece = give(arena, size, align);
            assert_eq!(arena.start(piece), Some(start), "{size} {align}");
            assert_eq!(piece.addr() % align, 0);
        }
        assert_eq!(
            arena.start(give(arena, 1, 8192)),
            None,
            "beyond the space's own alignment"
        );
    }

    #[test]
    fn only_the_last_piece_is_used_again() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let (first, last) = (give(arena, 16, 1), give(arena, 16, 1));
        take_back(arena, first, 16, 1);
        assert_eq!(arena.start(give(arena, 8, 1)), Some(32));
        take_back(arena, last, 16, 1);
        assert_eq!(arena.start(give(arena, 8, 1)), Some(48));
        let again = give(arena, 100, 1);
        take_back(arena, again, 100, 1);
        assert_eq!(give(arena, 100, 1), again);
    }

    #[test]
    fn what_grows_stays_where_it_can_and_keeps_its_bytes() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let piece = give(arena, 4, 1);
        fill(piece, 4, 7);
        assert_eq!(change(arena, piece, 4, 100), piece, "the last one");
        let other = give(arena, 1, 1);
        assert_eq!(change(arena, piece, 100, 50), piece, "a smaller one");
        let moved = change(arena, piece, 50, 200);
        assert_eq!(arena.start(moved), Some(128));
        assert_eq!(read(moved, 4), [7; 4]);
        fill(moved, 200, 8);
        fill(other, 1, 9);
        assert_eq!(read(moved, 200), [8; 200]);
        // Out of the space, and from then on among the system's.
        let far = change(arena, moved, 200, 2 * SIZE);
        assert_eq!(arena.start(far), None);
        assert_eq!(read(far, 200), [8; 200]);
        let back = change(arena, far, 2 * SIZE, 10);
        assert_eq!((arena.start(back), read(back, 10)), (None, vec![8; 10]));
        take_back(arena, back, 10, 1);
    }

    #[test]
    fn what_does_not_fit_is_the_systems() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        assert_eq!(arena.start(give(arena, SIZE - 16, 1)), Some(0));
        let beyond = give(arena, 17, 1);
        assert_eq!(arena.start(beyond), None);
        take_back(arena, beyond, 17, 1);
        let last = give(arena, 16, 1);
        assert_eq!(arena.start(last), Some(SIZE - 16));
        let moved = change(arena, last, 16, 17);
        assert_eq!(arena.start(moved), None);
        take_back(arena, moved, 17, 1);
        assert_eq!(
            arena.start(give(arena, 1, 1)),
            None,
            "not the last any more: it was left"
        );
    }

    #[test]
    fn zeroed_is_zeroed_where_another_was() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let piece = give(arena, 64, 1);
        fill(piece, 64, 1);
        take_back(arena, piece, 64, 1);
        // SAFETY: the size is not 0.
        let near = unsafe { arena.alloc_zeroed(layout(64, 1)) };
        assert_eq!((near, read(near, 64)), (piece, vec![0; 64]));
        // SAFETY: the size is not 0.
        let far = unsafe { arena.alloc_zeroed(layout(SIZE, 1)) };
        assert_eq!((arena.start(far), read(far, SIZE)), (None, vec![0; SIZE]));
        take_back(arena, far, SIZE, 1);
    }

    #[test]
    fn threads_are_given_different_bytes() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let work = |mark: u8| {
            for round in 0..2000 {
                let size = 1 + (round * 7 + usize::from(mark)) % 40;
                let piece = give(arena, size, 1);
                fill(piece, size, mark);
                let grown = change(arena, piece, size, size + 3);
                assert_eq!(read(grown, size), vec![mark; size]);
                fill(grown, size + 3, mark);
                std::thread::yield_now();
                assert_eq!(read(grown, size + 3), vec![mark; size + 3]);
                take_back(arena, grown, size + 3, 1);
            }
        };
        std::thread::scope(|scope| {
            for mark in 1..=4 {
                scope.spawn(move || work(mark));
            }
        });
    }
}
