//! What waits in the log instead of in memory, and what leaves the disk again.

#![expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use bytes::Bytes;

use super::*;
use crate::store::Content;
use crate::{Dir as _, HeldMutation, PendingMutation};

/// Eight pages.
const MEMORY: usize = 8 * 4096;

fn small(dir: &MemDir, seed: u64) -> Volume {
    let create = Some((ID, PageSize::DEFAULT));
    // No cache to speak of, so that reads come from the files.
    let options = VolumeOptions { create, cache_pages: 16, memory_bytes: MEMORY, children: None };
    Volume::open(dir, Arc::new(ManualEnv::new(seed)), options).unwrap()
}

fn fill(draft: &mut Draft, numbers: std::ops::RangeInclusive<u8>, add: u8) {
    for number in numbers {
        draft.write(idx(number.into()), page(number.wrapping_add(add)));
        let here = draft.dirty.values().filter(|content| matches!(content, Content::Here(_)));
        assert!(here.count() <= MEMORY / 4096, "a draft holds a bounded number of pages");
    }
}

fn mutation(seq: u64) -> PendingMutation {
    let bytes = Bytes::from(vec![seq as u8; MEMORY / 4]);
    PendingMutation { seq, base: Lsn::ZERO, time_ms: seq, bytes }
}

fn bytes_here(held: &[HeldMutation]) -> usize {
    held.iter().filter(|held| held.is_here()).map(HeldMutation::len).sum()
}

/// Ten commits of a hundred pages, each with a mutation of two pages' length.
fn long_timeline(volume: &Volume) {
    for seq in 1..=10u8 {
        let mut draft = volume.draft(volume.writer());
        fill(&mut draft, 1..=100, seq);
        assert_eq!(*draft.page(idx(3)).unwrap(), *page(3 + seq), "staged, and read again");
        drop(draft.save(Some(mutation(seq.into())), Vec::new(), Durability::Local).unwrap());
    }
}

fn check_long_timeline(volume: &Volume) {
    let head = volume.head();
    for number in 1..=100u8 {
        assert_eq!(*head.page(idx(number.into())).unwrap(), *page(number + 10), "page {number}");
    }
    let held = volume.held();
    assert_eq!(held.len(), 10);
    assert!(bytes_here(&held) <= MEMORY, "{} bytes in memory", bytes_here(&held));
    let expected: Vec<PendingMutation> = (1..=10).map(mutation).collect();
    assert_eq!(volume.timeline().unwrap(), expected);
    for (held, expected) in held.iter().zip(&expected) {
        assert_eq!(held.head(), expected.bytes.slice(..8));
    }
    assert_eq!(volume.mutation(11).unwrap(), None);
}

#[test]
fn what_does_not_fit_into_memory_waits_in_the_log_and_survives_everything() {
    let dir = MemDir::new();
    let volume = small(&dir, 1);
    long_timeline(&volume);
    check_long_timeline(&volume);
    check_long_timeline(&small(&dir.fork(), 2));
    check_long_timeline(&small(&dir.crash(), 3));
    // A draft that was given up has left garbage in the log, and nothing else.
    let mut draft = volume.draft(volume.writer());
    fill(&mut draft, 1..=100, 99);
    drop(draft);
    check_long_timeline(&volume);
    check_long_timeline(&small(&dir.fork(), 4));
    for seed in 5..8 {
        volume.checkpoint(&volume.writer()).unwrap();
        check_long_timeline(&volume);
        check_long_timeline(&small(&dir.crash(), seed));
    }
}

#[test]
fn a_damaged_mutation_in_the_log_is_found_when_it_is_read() {
    let dir = MemDir::new();
    let volume = small(&dir, 1);
    long_timeline(&volume);
    let log = dir.open("log-0").unwrap();
    let mut bytes = vec![0; log.len().unwrap() as usize];
    log.read_at(&mut bytes, 0).unwrap();
    let body = mutation(9).bytes;
    let at = bytes.windows(body.len()).position(|window| window == body).unwrap();
    log.write_at(&[0], at as u64 + 100).unwrap();
    assert_eq!(volume.mutation(9).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(volume.mutation(8).unwrap(), Some(mutation(8)));
}

#[test]
fn a_full_disk_in_the_middle_of_a_large_draft_fails_the_save_and_loses_nothing() {
    let dir = MemDir::new();
    let volume = small(&dir, 1);
    long_timeline(&volume);
    dir.set_capacity(Some(dir.used() + 20 * 4096));
    let mut draft = volume.draft(volume.writer());
    (1..=100u8).for_each(|number| draft.write(idx(number.into()), page(0)));
    let error = draft.save(None, Vec::new(), Durability::Local).unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
    check_long_timeline(&volume);
    dir.set_capacity(None);
    check_long_timeline(&small(&dir.fork(), 2));
}

/// A replica that has pushed a hundred pages in one draft of two commits, with a reader beside it.
fn pushed(objects: &Arc<MemObjects>) -> (Volume, MemDir) {
    let dir = MemDir::new();
    let volume = small(&dir, 1);
    let log = bucket(objects);
    volume.set_remote(Some(log.clone() as Arc<dyn Remote>));
    let mut draft = volume.rebase(volume.writer(), &[]).unwrap();
    fill(&mut draft, 1..=100, 0);
    assert!(volume.push(&mut draft, &*log, meta()).unwrap().is_some());
    fill(&mut draft, 50..=60, 100);
    assert!(volume.push(&mut draft, &*log, meta()).unwrap().is_some());
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
    (volume, dir)
}

fn check_pushed(volume: &Volume) {
    let head = volume.head();
    for number in 1..=100u8 {
        let add = if (50..=60).contains(&number) { 100 } else { 0 };
        assert_eq!(*head.page(idx(number.into())).unwrap(), *page(number + add), "page {number}");
    }
}

#[test]
fn a_draft_of_several_commits_holds_few_pages_and_is_published_whole() {
    let objects = Arc::new(MemObjects::new());
    let (volume, dir) = pushed(&objects);
    assert_eq!(volume.base().0, Lsn(2));
    assert_eq!(volume.status().pages_pending, 0, "what it has pushed is here");
    check_pushed(&volume);
    volume.flush().unwrap();
    check_pushed(&small(&dir.crash(), 2));
    let (other, log, _) = replica(&objects, 3);
    drop(
        other
            .rebase(other.writer(), &log.pull(Lsn::ZERO).unwrap())
            .unwrap()
            .publish(Vec::new(), Vec::new())
            .unwrap(),
    );
    check_pushed(&other);
}

#[test]
fn evicted_pages_leave_the_disk_and_are_fetched_when_they_are_read() {
    let objects = Arc::new(MemObjects::new());
    let (volume, dir) = pushed(&objects);
    let before = volume.head();
    // A draft is nowhere else, so it stays.
    let mut draft = volume.draft(volume.writer());
    draft.write(idx(7), page(77));
    drop(draft.save(None, Vec::new(), Durability::Local).unwrap());
    let evicted = volume.evict(&volume.writer(), 20 * 4096).unwrap();
    assert_eq!((evicted.pages, evicted.bytes_left), (80, 20 * 4096));
    volume.set_remote(None);
    assert_eq!(volume.status().pages_pending, 80);
    assert_eq!(*volume.head().page(idx(7)).unwrap(), *page(77));
    assert_eq!(volume.head().page(idx(99)).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(before.page(idx(99)).unwrap_err().kind(), ErrorKind::Unavailable);

    let again = small(&dir.crash(), 2);
    assert_eq!(again.status().pages_pending, 80);
    for volume in [&volume, &again] {
        volume.set_remote(Some(bucket(&objects) as Arc<dyn Remote>));
        assert_eq!(*volume.head().page(idx(7)).unwrap(), *page(77));
    }
    for number in 1..=100u8 {
        let add = if (50..=60).contains(&number) { 100 } else { 0 };
        assert_eq!(*before.page(idx(number.into())).unwrap(), *page(number + add), "{number}");
    }
    assert_eq!(volume.status().pages_pending, 0);
    assert_eq!(volume.evict(&volume.writer(), u64::MAX).unwrap().pages, 0);
}

#[test]
fn what_no_log_has_is_never_evicted() {
    let volume = small(&MemDir::new(), 1);
    long_timeline(&volume);
    assert_eq!(volume.evict(&volume.writer(), 0).unwrap().pages, 0);
    check_long_timeline(&volume);
}

const FIXTURE: [&str; 4] = ["log-0", "log-1", "meta-0", "meta-1"];

/// Staged pages and mutations, carried over by a fold, and a page map that names them (version 2).
/// A missing fixture is made with `UPDATE_EXPECT=1`; an existing one is never replaced.
#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn a_replica_with_staged_bytes_is_written_and_opened_as_ever() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/replica-v2");
    let (made, kept) = (MemDir::new(), MemDir::new());
    let create = Some((ID, PageSize::new(512).unwrap()));
    let options = VolumeOptions { create, cache_pages: 16, memory_bytes: 1024, children: None };
    let env = || Arc::new(ManualEnv::new(1));
    let volume = Volume::open(&made, env(), options).unwrap();
    let commit = |seq: u64| {
        let mut draft = volume.draft(volume.writer());
        (1..=4u8).for_each(|n| draft.write(idx(n.into()), vec![n + seq as u8; 512].into()));
        let bytes = Bytes::from(vec![seq as u8; 600]);
        let mutation = PendingMutation { seq, base: Lsn::ZERO, time_ms: seq, bytes };
        drop(draft.save(Some(mutation), Vec::new(), Durability::Local).unwrap());
    };
    (1..=2).for_each(commit);
    volume.checkpoint(&volume.writer()).unwrap();
    commit(3);
    for name in FIXTURE {
        let file = made.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        let path = root.join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let expected = std::fs::read(&path).unwrap();
        assert_eq!(bytes, expected, "{name} is written differently");
        kept.open(name).unwrap().write_at(&expected, 0).unwrap();
    }
    let options = VolumeOptions { create: None, ..options };
    let volume = Volume::open(&kept, env(), options).unwrap();
    assert_eq!(*volume.head().page(idx(2)).unwrap(), [5; 512]);
    let seqs: Vec<(u64, usize)> =
        volume.timeline().unwrap().iter().map(|m| (m.seq, m.bytes.len())).collect();
    assert_eq!(seqs, [(1, 600), (2, 600), (3, 600)]);
    assert_eq!(volume.held().iter().filter(|held| !held.is_here()).count(), 2);
}
