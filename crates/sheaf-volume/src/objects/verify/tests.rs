//! Stores that are wrong in one way each, and the promise that they break.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{ErrorKind, ManualEnv, MemObjects};

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Looks first, then writes: what most stores without the condition would do.
    LooksThenWrites,
    IgnoresCondition,
    ForgetsEveryTenthWrite,
    ListsLate,
    CutsRanges,
    KeepsDeleted,
    Away,
}

#[derive(Debug)]
struct Faulty {
    below: MemObjects,
    wrong: Wrong,
    writes: AtomicUsize,
}

impl Faulty {
    fn new(wrong: Wrong) -> Self {
        Self { below: MemObjects::new(), wrong, writes: AtomicUsize::new(0) }
    }
}

impl Objects for Faulty {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.below.get(key)
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        if self.wrong != Wrong::CutsRanges {
            return self.below.get_ranges(wants);
        }
        let cut = |(key, range): &(String, Range<u64>)| {
            let bytes = self.below.get(key)?;
            let at = |n: u64| usize::try_from(n).unwrap().min(bytes.len());
            Ok(bytes.slice(at(range.start)..at(range.end)))
        };
        wants.iter().map(cut).collect()
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let writes = self.writes.fetch_add(1, Ordering::Relaxed);
        if self.wrong == Wrong::ForgetsEveryTenthWrite && writes % 10 == 9 {
            return Ok(());
        }
        self.below.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        match self.wrong {
            Wrong::Away => Err(ObjectsError::Unavailable("gone".to_owned())),
            Wrong::IgnoresCondition => self.below.put(key, bytes),
            Wrong::LooksThenWrites if self.below.get(key).is_err() => {
                // Others run between the look and the write.
                std::thread::yield_now();
                self.below.put(key, bytes)
            }
            _ => self.below.create(key, bytes),
        }
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        let mut keys = self.below.list(prefix, after)?;
        if self.wrong == Wrong::ListsLate && prefix.ends_with("list/") {
            keys.pop();
        }
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        if self.wrong == Wrong::KeepsDeleted && key.ends_with("gone") {
            return Ok(());
        }
        self.below.delete(key)
    }
}

const TRIAL: StoreTrial = StoreTrial { creators: 8, rounds: 40 };

fn broken(wrong: Wrong) -> Vec<Promise> {
    let store = Faulty::new(wrong);
    let verdict = verify_store(&store, &ManualEnv::new(1), TRIAL, &mut |_, _| {}).unwrap();
    assert_eq!(verdict.races.rounds, TRIAL.rounds);
    if wrong != Wrong::KeepsDeleted {
        assert!(store.list("", None).unwrap().is_empty(), "{wrong:?} left something behind");
    }
    let broken = verdict.tried.iter().filter(|tried| tried.broken.is_some());
    broken.map(|tried| tried.promise).collect()
}

#[test]
fn a_sound_store_qualifies_and_is_left_empty() {
    assert_eq!(broken(Wrong::Nothing), []);
    let mut told = Vec::new();
    let trial = StoreTrial { creators: 2, rounds: 3 };
    let progress = &mut |done, all| told.push((done, all));
    let verdict = verify_store(&MemObjects::new(), &ManualEnv::new(1), trial, progress).unwrap();
    assert!(verdict.is_sound());
    assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn every_broken_promise_is_named() {
    assert_eq!(broken(Wrong::LooksThenWrites), [Promise::CreateOnce]);
    assert_eq!(broken(Wrong::IgnoresCondition), [Promise::CreateOnce]);
    assert!(broken(Wrong::ForgetsEveryTenthWrite).contains(&Promise::ReadAfterWrite));
    assert_eq!(broken(Wrong::ListsLate), [Promise::ListAfterWrite]);
    assert_eq!(broken(Wrong::CutsRanges), [Promise::Ranges]);
    assert_eq!(broken(Wrong::KeepsDeleted), [Promise::Delete]);
}

#[test]
fn a_store_out_of_reach_is_not_called_broken() {
    let store = Faulty::new(Wrong::Away);
    let error = verify_store(&store, &ManualEnv::new(1), TRIAL, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for (creators, rounds, kind) in [
        (1, 1, ErrorKind::Invalid),
        (2, 0, ErrorKind::Invalid),
        (limits::TRIAL_CREATORS_MAX + 1, 1, ErrorKind::Limit),
    ] {
        let trial = StoreTrial { creators, rounds };
        let refused = verify_store(&store, &ManualEnv::new(1), trial, &mut |_, _| {});
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
}
