//! What hostile input of a megabyte costs: memory as the allocator counts it, and whether whoever
//! gets less than a merge is told. A binary of its own, because the allocator counts everything.
//!
//! Time depends on the machine and is not judged; `-- --nocapture` prints it.
//! `SHEAF_TEST_LONG=1` takes whole megabytes.

#![expect(unsafe_code, reason = "an allocator is")]

mod hostile;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sheaf_merge::{Note, Rule, Value, html, merge_cell};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator; only numbers are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as promised by whoever calls.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by whoever calls.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does `work`; what it gives, and the most bytes in use meanwhile beyond those before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, MOST.load(Ordering::Relaxed) - before)
}

const MIB: usize = 1 << 20;
/// Bytes of one version, and what merging three of them may take.
const LONG: (usize, usize) = (1_000_000, 256 * MIB);
/// The same in the short form, where what has a fixed size weighs more.
const SHORT: (usize, usize) = (62_500, 64 * MIB);

/// Processor time of this thread in milliseconds, where the system tells it; else zero.
fn cpu_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1_000_000
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn no_megabyte_takes_more_memory_than_it_may() {
    let is_long = std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1");
    let (size, peak_max) = if is_long { LONG } else { SHORT };
    let mut wrong = Vec::new();
    for (name, rule, make) in hostile::CASES {
        let sides = make(size);
        assert!(sides.iter().all(|side| side.len() <= size), "{name} is larger than said");
        let [base, left, right] = sides.map(Value::Text);
        let before = cpu_ms();
        let (merged, peak) = peak(|| merge_cell(*rule, Some(&base), &left, &right));
        let took = cpu_ms() - before;
        eprintln!("{took:>6} ms {:>4} MiB {rule}, {name}: {:?}", peak / MIB, merged.note);
        if peak > peak_max {
            wrong.push(format!("{rule}, {name}: {} MiB", peak / MIB));
        }
        check(name, *rule, &merged, &left);
        if let (Rule::Html, Value::Text(left)) = (rule, &left) {
            let before = cpu_ms();
            let (_, peak) = self::peak(|| html::canon(left));
            let took = cpu_ms() - before;
            eprintln!("{took:>6} ms {:>4} MiB {rule}, {name}: canonical", peak / MIB);
            if peak > peak_max {
                wrong.push(format!("{rule}, {name}: {} MiB for its canonical form", peak / MIB));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whoever gets less than a merge is told; a document is one.
fn check(name: &str, rule: Rule, merged: &sheaf_merge::Merged, left: &Value) {
    if merged.note == Some(Note::Fallback) {
        assert!(merged.value == *left, "{name}");
    } else if let (Rule::Html, Value::Text(text)) = (rule, &merged.value) {
        // What is of this size is not for reading, so a failure does not print it.
        assert!(html::canon(text) == *text, "{name} is not canonical");
    }
}
