//! Tests of the tests: that the scheduler comes between what the other files rely on.

use std::panic::catch_unwind;

use bytes::Bytes;
use sheaf_volume::{Dir, Env, ManualEnv, MemDir, MemObjects, Objects};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use crate::{Met, explore};

const STEPS: [&str; 3] = ["none", "one", "both"];

/// Two steps in one thread, a look in another.
fn between(step: impl Fn(u8) + Sync, look: impl Fn() -> usize + Sync, met: &Met) {
    thread::scope(|scope| {
        scope.spawn(|| (1..=2).for_each(&step));
        scope.spawn(|| met.note(STEPS[look()]));
    });
}

#[test]
fn threads_change_at_every_call_of_a_seam() {
    let met = [Met::default(), Met::default(), Met::default()];
    let noted = met.clone();
    explore(move || {
        let [files, objects, clock] = &noted;
        let file = MemDir::new().open("a").unwrap();
        let step = |n: u8| file.write_at(&[n], u64::from(n) - 1).unwrap();
        between(step, || usize::try_from(file.len().unwrap()).unwrap(), files);
        let store = MemObjects::new();
        let step = |n: u8| store.put(&format!("k{n}"), Bytes::new()).unwrap();
        between(step, || store.list("k", None).unwrap().len(), objects);
        let env = ManualEnv::new(1);
        let start = env.now_ms();
        let look = || usize::try_from(env.now_ms() - start).unwrap();
        between(|_| env.advance_ms(1), look, clock);
    });
    met.iter().for_each(|met| met.expect(&STEPS));
}

#[test]
fn a_lost_wake_up_is_found() {
    let found = catch_unwind(|| {
        explore(|| {
            let (is_done, mutex, changed) =
                (AtomicBool::new(false), Mutex::new(()), Condvar::new());
            thread::scope(|scope| {
                scope.spawn(|| {
                    // The mistake: the lock is not held while the condition changes.
                    is_done.store(true, Ordering::SeqCst);
                    changed.notify_all();
                });
                let mut guard = mutex.lock().unwrap();
                while !is_done.load(Ordering::SeqCst) {
                    guard = changed.wait(guard).unwrap();
                }
                drop(guard);
            });
        });
    });
    assert!(found.is_err(), "no schedule in which the wake-up comes too early was tried");
}
