//! Threads that share a volume, under a scheduler that tries many interleavings of one test.
//!
//! Invariant: a thread may change at every lock, atomic and call of a seam (`src/sync.rs`), a
//! schedule in which nobody can go on fails the test, and a failing schedule is printed together
//! with how to run it again. Leaves out weak memory orderings, the locks inside `quick_cache`, and
//! everything that needs a process (kills, power cuts in the middle of a write).

#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fetches;
mod flushes;
mod scheduler;
mod snapshots;
mod support;
mod writers;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Schedules of one scheduler in a short run, and in a long one.
const SCHEDULES: (usize, usize) = (300, 10_000);
/// Seed of the first schedule; `SHUTTLE_RANDOM_SEED` tries others.
const SEED: u64 = 9;
/// Times that PCT takes the turn away from whoever has it: most known bugs need one or two.
const PREEMPTIONS: usize = 3;
/// Bytes of one thread's stack: the scheduler's own default is too small for a recovery.
const STACK_BYTES: usize = 512 * 1024;

/// Runs a test under many schedules drawn at random, then under as many of few preemptions.
fn explore(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    let _how = HowToReplay;
    if let Ok(schedule) = std::env::var("SHEAF_SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), &test);
    }
    let is_long = std::env::var("SHEAF_TEST_LONG").is_ok_and(|long| long == "1");
    let count = if is_long { SCHEDULES.1 } else { SCHEDULES.0 };
    run(RandomScheduler::new_from_seed(SEED, count), &test);
    run(PctScheduler::new_from_seed(SEED, PREEMPTIONS, count), &test);
}

fn run(scheduler: impl Scheduler + 'static, test: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    let test = Arc::clone(test);
    Runner::new(scheduler, config).run(move || test());
}

/// Says after a failure how to run its schedule again.
struct HowToReplay;

impl Drop for HowToReplay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("the test's name");
            eprintln!(
                "to run this schedule again, put it (without quotation marks) where the dots are:\n\
                 SHEAF_SCHEDULE=... cargo test -p sheaf-volume --features shuttle --test shuttle \
                 -- --exact {name}"
            );
        }
    }
}

/// What was met under any schedule: a test that never met what it is about shows nothing.
#[derive(Clone, Default)]
struct Met(Arc<Mutex<BTreeSet<&'static str>>>);

impl Met {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }

    /// One schedule that is run again meets one thing only.
    fn expect(&self, all: &[&'static str]) {
        let met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: BTreeSet<&str> = all.iter().copied().collect();
        assert!(std::env::var_os("SHEAF_SCHEDULE").is_some() || *met == all, "met only {met:?}");
    }
}
