//! The hint: its format, what it saves, and that nothing rests on it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;
use crate::bucket::tests::{Log, SIZE, volume, want};
use crate::{ManualEnv, Meter, Objects, Remote as _, Retention};

const SAMPLE: Latest = Latest {
    volume: VolumeId::from_bytes([3; 16]),
    checkpoint: Lsn(1_000),
    first: 9_000,
    mark: 3,
    mark_len: 77,
};

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its fixture")]
fn the_fixture_is_what_this_version_writes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/latest-v1.bin");
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        std::fs::write(&path, SAMPLE.encode()).unwrap();
    }
    let stored = std::fs::read(path).unwrap();
    assert_eq!(Latest::decode(&stored).unwrap(), SAMPLE);
    assert_eq!(SAMPLE.encode(), stored);
}

#[test]
fn damage_is_told_from_novelty() {
    let good = SAMPLE.encode();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x20;
        assert_eq!(Latest::decode(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        assert!(Latest::decode(&good[..at]).is_err(), "cut at {at}");
    }
    let mut newer = good[..good.len() - TRAILER_LEN].to_vec();
    newer[4] = 2;
    newer.extend_from_slice(blake3::hash(&newer).as_bytes());
    assert_eq!(Latest::decode(&newer).unwrap_err().kind(), ErrorKind::Unsupported);
    for wrong in [
        Latest { checkpoint: Lsn(0), ..SAMPLE },
        Latest { first: 100, ..SAMPLE },
        Latest { first: 1 << 30, ..SAMPLE },
        Latest { mark: 0, ..SAMPLE },
        Latest { mark_len: 0, ..SAMPLE },
    ] {
        assert!(Latest::decode(&wrong.encode()).is_err(), "{wrong:?}");
    }
}

const ALL: [u32; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Twelve commits; what is before the tenth is reclaimed.
fn reclaimed() -> Log {
    let mut log = Log::new();
    log.write(9, &ALL, true);
    for number in 1..=9 {
        log.write(9, &[number], false);
    }
    log.write(9, &[], false);
    log.write(9, &[2], false);
    gc(&log, 1);
    log
}

fn gc(log: &Log, keep_commits: u64) {
    let retention = Retention { keep_for_ms: 0, keep_commits, exact: true };
    log.reader().gc(&ManualEnv::new(log.head.lsn.0), &retention, false, &mut |_| Ok(())).unwrap();
}

fn metered(log: &Log) -> (BucketRemote, Arc<Meter>) {
    let meter = Arc::new(Meter::over(Arc::clone(&log.objects)));
    let objects: Arc<dyn Objects> = meter.clone();
    (BucketRemote::new(objects, volume(), SIZE), meter)
}

#[test]
fn the_head_is_known_after_two_rounds() {
    let log = reclaimed();
    let (reader, meter) = metered(&log);
    assert_eq!(reader.head().unwrap(), log.head);
    let cost = meter.take();
    assert_eq!((cost.rounds, cost.requests), (2, 5));
    // The checkpoint is small and here; only a segment is left to read.
    log.check_fetch(&reader, &[want(12, &ALL)]);
    assert_eq!(meter.take().rounds, 1);
    // Who appends now knows the mark: the commit, and the one that would be next.
    assert_eq!(reader.boundary().unwrap(), Lsn(12));
    assert_eq!(meter.take().rounds, 1);
}

#[test]
fn commits_after_the_checkpoint_are_found() {
    let mut log = reclaimed();
    log.write(10, &[3, 10], false);
    log.write(10, &[4], false);
    let (reader, meter) = metered(&log);
    assert_eq!(reader.head().unwrap(), log.head);
    // The hint, what it leads to, the last commit of the log, the mark after the newest.
    assert_eq!(meter.take().rounds, 4);
    log.check_fetch(&reader, &[want(14, &ALL), want(12, &ALL)]);
}

#[test]
fn no_hint_can_do_more_than_cost_the_listings() {
    let mut log = Log::new();
    log.write(9, &ALL, true);
    log.write(9, &[2], false);
    log.write(9, &[5], false);
    gc(&log, 1);
    let key = latest_key(volume());
    let early = Latest::decode(&log.objects.get(&key).unwrap()).unwrap();
    for number in 4..=9 {
        log.write(9, &[number], false);
    }
    gc(&log, 1);
    let good = Latest::decode(&log.objects.get(&key).unwrap()).unwrap();
    assert_eq!((early.checkpoint, good.checkpoint), (Lsn(3), log.head.lsn));
    let other = VolumeId::from_bytes([8; 16]);
    for hint in [
        // Its checkpoint is gone, and so is the commit after it.
        early,
        Latest { checkpoint: Lsn(5), ..good },
        Latest { checkpoint: Lsn(900), ..good },
        Latest { volume: other, ..good },
        Latest { first: 8_192 + 1, ..good },
        Latest { mark: 1, ..good },
        Latest { mark: 0, mark_len: 0, ..good },
        Latest { mark: 7, ..good },
        Latest { mark_len: good.mark_len + 1, ..good },
        Latest { mark_len: 1, ..good },
    ] {
        log.objects.put(&key, hint.encode()).unwrap();
        let reader = log.reader();
        assert_eq!(reader.head().unwrap(), log.head, "{hint:?}");
        assert_eq!(reader.boundary().unwrap(), log.head.lsn, "{hint:?}");
        log.check_fetch(&reader, &[want(9, &ALL)]);
    }
    log.objects.put(&key, "no hint".into()).unwrap();
    assert_eq!(log.reader().head().unwrap(), log.head);
    // The next pass mends it, also if it has nothing else to do.
    gc(&log, 1);
    assert_eq!(Latest::decode(&log.objects.get(&key).unwrap()).unwrap(), good);
}

/// A pin keeps an old checkpoint, whose next commit is gone: that is not where the log ends.
#[test]
fn an_old_hint_does_not_show_an_old_state() {
    let mut log = reclaimed();
    let key = latest_key(volume());
    let old = log.objects.get(&key).unwrap();
    let checkpoint = checkpoint_key(volume(), Lsn(12));
    let there = log.objects.get(&checkpoint).unwrap();
    for number in 1..=9 {
        log.write(9, &[number], false);
    }
    gc(&log, 1);
    let new = Latest::decode(&log.objects.get(&key).unwrap()).unwrap();
    // As it was left, and with the mark that went past it.
    let mixed = Latest { checkpoint: Lsn(12), ..new }.encode();
    log.objects.put(&checkpoint, there).unwrap();
    assert!(log.objects.get(&log_key(volume(), Lsn(13))).is_err());
    for hint in [old, mixed] {
        log.objects.put(&key, hint).unwrap();
        assert_eq!(log.reader().head().unwrap(), log.head);
    }
}

#[test]
fn positions_before_the_hinted_checkpoint_are_read_as_ever() {
    let mut log = Log::new();
    log.write(9, &ALL, true);
    log.write(9, &[2], false);
    gc(&log, 1);
    for number in 3..=9 {
        log.write(9, &[number], false);
    }
    gc(&log, 5);
    log.remote.checkpoint(&ManualEnv::new(77), log.head.lsn).unwrap();
    gc(&log, 5);
    let (reader, meter) = metered(&log);
    assert_eq!(reader.head().unwrap(), log.head);
    meter.take();
    // The list of checkpoints, the front of the one that is there, two segments.
    log.check_fetch(&reader, &[want(5, &ALL)]);
    assert_eq!(meter.take().rounds, 3);
    log.check_fetch(&reader, &[want(9, &ALL), want(8, &ALL), want(5, &ALL)]);
}

/// As a version of Sheaf that writes no hints left it.
#[test]
fn without_a_hint_a_reclaimed_log_is_read_as_well() {
    let mut log = reclaimed();
    log.write(10, &[3, 10], false);
    log.objects.delete(&latest_key(volume())).unwrap();
    let reader = log.reader();
    assert_eq!(reader.head().unwrap(), log.head);
    log.check_fetch(&reader, &[want(13, &ALL)]);
    log.check_fetch(&log.reader(), &[want(12, &ALL)]);
    assert_eq!(
        reader.changes(Lsn(3), crate::TimelineId::from_bytes([1; 16])).unwrap().unwrap().head,
        log.head
    );
}

#[test]
fn a_dry_run_writes_no_hint() {
    let mut log = Log::new();
    log.write(9, &ALL, true);
    log.write(9, &[2], false);
    let retention = Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
    log.reader().gc(&ManualEnv::new(1), &retention, true, &mut |_| Ok(())).unwrap();
    assert!(log.objects.get(&latest_key(volume())).is_err());
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// A store in which something happens while it answers what a hint leads to: after it has said
/// which boundary marks there are, and before it looks for commits.
struct Meantime {
    inner: Arc<dyn Objects>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl fmt::Debug for Meantime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meantime")
    }
}

impl Objects for Meantime {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.inner.get(key)
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        let early = self.inner.get_ranges(wants);
        if !wants.iter().any(|(key, _)| key.contains("/boundary/")) {
            return early;
        }
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        let late = self.inner.get_ranges(wants);
        let both = wants.iter().zip(early.into_iter().zip(late));
        both.map(|((key, _), (early, late))| if key.contains("/log/") { late } else { early })
            .collect()
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.inner.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.inner.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.inner.delete(key)
    }
}

/// What comes after the checkpoint is appended, and the first of it reclaimed, in the very moment
/// in which a newcomer looks: that its next commit is not there does not mean that none is.
#[test]
fn a_reclaimer_at_work_makes_no_old_state_the_newest() {
    let log = reclaimed();
    let inner = Arc::clone(&log.objects);
    let log = Arc::new(Mutex::new(log));
    let meanwhile = {
        let log = Arc::clone(&log);
        move || {
            let mut log = log.lock().unwrap();
            for number in 1..=9 {
                log.write(9, &[number], false);
            }
            gc(&log, 1);
            assert!(log.objects.get(&log_key(volume(), Lsn(13))).is_err(), "it was reclaimed");
        }
    };
    let meanwhile: Meanwhile = Box::new(meanwhile);
    let store = Arc::new(Meantime { inner, meanwhile: Mutex::new(Some(meanwhile)) });
    let objects: Arc<dyn Objects> = store.clone();
    let reader = BucketRemote::new(objects, volume(), SIZE);
    let head = reader.head().unwrap();
    assert!(store.meanwhile.lock().unwrap().is_none(), "the reader asked for the marks");
    let log = log.lock().unwrap();
    assert_eq!(head, log.head);
    log.check_fetch(&reader, &[want(log.head.lsn.0, &ALL)]);
}
