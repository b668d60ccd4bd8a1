//! The writer: one at a time, handed on whatever becomes of the one before.

use std::io;
use std::sync::Arc;

use sheaf_volume::{
    Durability, Env, ErrorKind, Lsn, ManualEnv, MemDir, MemObjects, Objects, Remote, Volume,
};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::thread;

use crate::support::{
    append, env, fill_at, idx, open, page, panic_quietly, panics, replica, save, size,
};
use crate::{Met, explore};

/// Adds one to page 1 as the only writer.
fn count_up(volume: &Volume, inside: &AtomicBool) -> bool {
    let writer = volume.writer();
    assert!(!inside.swap(true, Ordering::SeqCst), "two writers");
    assert!(volume.try_writer().is_none(), "two writers");
    let mut draft = volume.draft(writer);
    let next = draft.page(idx(1)).unwrap()[0] + 1;
    draft.write(idx(1), page(next));
    let saved = draft.save(None, Vec::new(), Durability::Memory).map(|(_, writer)| {
        inside.store(false, Ordering::SeqCst);
        drop(writer);
    });
    saved.is_ok()
}

#[test]
fn there_is_one_writer_at_a_time_and_no_update_is_lost() {
    explore(|| {
        let volume = open(&MemDir::new(), env(), size()).unwrap();
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(count_up(&volume, &inside)));
            }
            // Somebody who does not wait, and may come between two who do.
            scope.spawn(|| {
                if let Some(writer) = volume.try_writer() {
                    assert!(!inside.load(Ordering::SeqCst), "two writers");
                    drop(writer);
                }
            });
        });
        assert_eq!(fill_at(&volume.head(), 1), 3);
    });
}

#[test]
fn a_writer_that_panics_or_gives_up_lets_the_next_one_in() {
    explore(|| {
        let volume = open(&MemDir::new(), env(), size()).unwrap();
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(panics(|| {
                    let mut draft = volume.draft(volume.writer());
                    draft.write(idx(1), page(100));
                    panic_quietly();
                }));
            });
            scope.spawn(|| {
                let mut draft = volume.draft(volume.writer());
                draft.write(idx(1), page(200));
                drop(draft.discard());
            });
            for _ in 0..2 {
                scope.spawn(|| assert!(count_up(&volume, &inside)));
            }
        });
        assert_eq!(fill_at(&volume.head(), 1), 2, "a draft that was dropped left a trace");
    });
}

/// Fails the second write to the log after it was armed.
#[derive(Debug)]
struct OneBadWrite(ManualEnv, AtomicU64);

impl Env for OneBadWrite {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.0.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> io::Result<()> {
        if point == "store: before log write" && self.1.fetch_add(1, Ordering::SeqCst) == 1 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }
}

#[test]
fn one_writers_failure_is_nobody_elses() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        let dir = MemDir::new();
        let bad = Arc::new(OneBadWrite(ManualEnv::new(1), AtomicU64::new(0)));
        let volume = open(&dir, bad, size()).unwrap();
        let saved: Vec<bool> = thread::scope(|scope| {
            let volume = &volume;
            let each = (1..=3u8).map(|n| {
                scope.spawn(move || match save(volume, n.into(), n, Durability::Local) {
                    Ok(()) => true,
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::Io);
                        false
                    }
                })
            });
            let each: Vec<_> = each.collect();
            each.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(saved.iter().filter(|saved| !**saved).count(), 1);
        noted.note(if saved[0] { "another" } else { "the first" });
        for (n, saved) in (1..=3u8).zip(saved) {
            assert_eq!(fill_at(&volume.head(), n.into()), if saved { n } else { 0 });
            assert_eq!(crate::support::after_power_cut(&dir, n.into()), if saved { n } else { 0 });
        }
        assert!(!volume.status().poisoned);
    });
    met.expect(&["another", "the first"]);
}

#[test]
fn devices_that_race_take_turns_in_the_log() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        let objects = Arc::new(MemObjects::new());
        let devices = [replica(&objects, 1), replica(&objects, 2)];
        thread::scope(|scope| {
            for (n, (volume, log, _)) in (1..).zip(&devices) {
                let noted = noted.clone();
                scope.spawn(move || {
                    while !append(volume, &**log, |draft| draft.write(idx(n), page(7))).unwrap() {
                        noted.note("lost a race");
                    }
                });
            }
        });
        let (_, log, _) = &devices[0];
        assert_eq!(log.head().unwrap().lsn, Lsn(2));
        assert_eq!(objects.list("", None).unwrap().len(), 2, "one object for each commit");
        // Whoever was second has both pages; its state is the newest there is.
        let newest = devices.iter().find(|(volume, ..)| volume.base().0 == Lsn(2)).unwrap();
        let head = newest.0.head();
        assert_eq!([fill_at(&head, 1), fill_at(&head, 2)], [7, 7]);
    });
    met.expect(&["lost a race"]);
}
