//! What a small object makes us allocate: the corpus of what a bucket holds, counted by the
//! allocator. A binary of its own, because the allocator counts everything in its process.
//!
//! Invariant: a length in an object is no reason to allocate; the bytes that are there are. Leaves
//! out targets that open stores or run SQLite: their caches have bounds of their own.

#![expect(clippy::disallowed_methods, reason = "the corpus is files of the repository")]
#![expect(unsafe_code, reason = "an allocator is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use sheaf_fuzz::TARGETS;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator; only numbers are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.get().wrapping_add(layout.size());
        NOW.set(now);
        MOST.set(MOST.get().max(now));
        // SAFETY: as promised by whoever calls.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.set(NOW.get().saturating_sub(layout.size()));
        // SAFETY: as promised by whoever calls.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does `work`; the most bytes that were in use meanwhile beyond those before.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    MOST.set(before);
    work();
    MOST.get() - before
}

/// What a target takes for its world, whatever the input.
const WORLD_BYTES: usize = 2 << 20;
/// Bytes for each byte of the input: it is copied, sealed, and taken apart.
const FACTOR: usize = 24;

#[test]
fn an_object_takes_memory_for_the_bytes_it_has() {
    let targets = ["boundary", "branch", "btree", "checkpoint", "commit", "delta", "pack", "pull"];
    for (name, target) in TARGETS.iter().filter(|(name, _)| targets.contains(name)) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        target(b"");
        for file in fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let most = peak(|| target(&bytes));
            let bound = WORLD_BYTES + FACTOR * bytes.len();
            assert!(most <= bound, "{}: {most} of {bound} bytes", path.display());
        }
    }
}
