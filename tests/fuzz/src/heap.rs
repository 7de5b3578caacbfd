//! Counts the memory a thread holds, so that a length in hostile input cannot ask for more than its input justifies.
//!
//! Owns: the allocator of every program of this crate. Never: refuses memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

thread_local! {
    /// Held now, and most at once. What another thread gives back counts for that thread: less than nothing is held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    // A thread that is ending has no place to count in any more.
    let _ = HELD.try_with(|cell| {
        let (held, most) = cell.get();
        let held = held.saturating_add(change);
        cell.set((held, most.max(held)));
    });
}

// SAFETY: everything is done by the system's allocator; counting touches no memory it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Does `work` and says how much more memory this thread held during it than before, bytes.
pub fn most_held(work: impl FnOnce()) -> usize {
    let before = HELD.with(|cell| {
        let (held, _) = cell.get();
        cell.set((held, held));
        held
    });
    work();
    HELD.with(|cell| usize::try_from(cell.get().1 - before).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_once_is_counted_and_not_what_was_given_back() {
        let held = most_held(|| {
            drop(vec![0u8; 1_000_000]);
            drop(vec![0u8; 2_000_000]);
        });
        assert!((2_000_000..2_100_000).contains(&held), "{held}");
        assert_eq!(most_held(|| {}), 0);
    }
}
