//! Reclaiming: the plan, what survives it, and everything that can happen beside it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{io, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::bucket::boundary::Mark;
use crate::bucket::keys::{
    checkpoint_key, log_key, log_prefix, mark_key, pin_prefix, segment_key, segment_prefix,
};
use crate::bucket::tests::{Log, SIZE, check_error, volume, want};
use crate::{
    Append, BucketRemote, Commit, Env, Error, ErrorKind, ManualEnv, MemObjects, Objects, PageSet,
    Remote, RemoteLog, VolumeId,
};

/// Randomness that nobody else has had, or two reclaimers would name their segments alike.
fn env() -> ManualEnv {
    static SEED: AtomicU64 = AtomicU64::new(1_000);
    ManualEnv::new(SEED.fetch_add(1, Ordering::SeqCst))
}

fn keep(commits: u64) -> Retention {
    Retention { keep_for_ms: 0, keep_commits: commits, exact: true }
}

fn gc(remote: &BucketRemote, commits: u64) -> Result<GcReport> {
    remote.gc(&env(), &keep(commits), false, &mut |_| Ok(()))
}

fn lsns(of: &[u64]) -> Vec<Lsn> {
    of.iter().copied().map(Lsn).collect()
}

fn id(seed: u8) -> SegmentId {
    SegmentId::from_bytes([seed; 16])
}

fn ids(seeds: &[u8]) -> BTreeSet<SegmentId> {
    seeds.iter().copied().map(id).collect()
}

impl Log {
    /// Pages change here and there; every fourth commit is large enough for a segment.
    fn grow(&mut self, commits: u64) {
        for _ in 0..commits {
            let lsn = self.head.lsn.0 + 1;
            let first = u32::try_from(lsn * 7 % 50).unwrap() + 1;
            let pages: Vec<u32> = (first..first + 5).collect();
            self.write(60, &pages, lsn.is_multiple_of(4));
        }
    }

    /// Every page of every state from `first` on, read by somebody who knows nothing.
    fn check_from(&self, first: u64) {
        for lsn in first.max(1)..=self.head.lsn.0 {
            self.check_state(lsn);
        }
        assert_eq!(self.reader().head().unwrap(), self.head);
    }

    fn check_state(&self, lsn: u64) {
        let count = u32::try_from(self.states[usize::try_from(lsn).unwrap()].len()).unwrap();
        let pages: Vec<u32> = (1..=count).collect();
        self.check_fetch(&self.reader(), &[want(lsn, &pages)]);
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects.list(prefix, None).unwrap()
    }

    fn bytes(&self) -> usize {
        self.keys("").iter().map(|key| self.objects.get(key).unwrap().len()).sum()
    }

    fn pin(&self, child: u8, lsn: u64) -> String {
        let key = format!("{}{}", pin_prefix(volume()), VolumeId::from_bytes([child; 16]));
        let child = VolumeId::from_bytes([child; 16]);
        let check = crate::bucket::branch::checksum(volume(), child, Lsn(lsn));
        let text = serde_json::json!({ "format": 1, "lsn": lsn, "check": check });
        self.objects.put(&key, text.to_string().into()).unwrap();
        key
    }
}

#[test]
fn the_goal_is_the_oldest_state_that_age_and_count_ask_for() {
    let standing = |head, boundary, checkpoints: &[u64], aged| Standing {
        head: Lsn(head),
        boundary: Lsn(boundary),
        checkpoints: lsns(checkpoints),
        aged: Lsn(aged),
    };
    let exact = |commits| Retention { keep_for_ms: 0, keep_commits: commits, exact: true };
    let lazy = |commits| Retention { exact: false, ..exact(commits) };
    for (standing, retention, make, boundary) in [
        // A young log: nothing to do; and one that is told to go to its end.
        (standing(500, 0, &[], 1), exact(1), vec![], 0),
        (standing(500, 0, &[], 500), lazy(1), vec![], 0),
        (standing(500, 0, &[], 500), exact(1), vec![500], 500),
        (standing(500, 0, &[], 500), exact(0), vec![500], 500),
        (standing(500, 0, &[], 500), exact(100), vec![401], 401),
        (standing(500, 0, &[401], 500), exact(100), vec![], 401),
        // What has happened is not undone.
        (standing(500, 480, &[480], 500), exact(100), vec![], 480),
        (standing(500, 500, &[500], 500), exact(1), vec![], 500),
        // Age and count both have a say.
        (standing(500, 0, &[], 300), exact(100), vec![300], 300),
        (standing(500, 0, &[], 450), exact(100), vec![401], 401),
        // Readers get a checkpoint from time to time; the boundary follows those.
        (standing(5_000, 0, &[1_000], 3_000), lazy(1), vec![5_000], 1_000),
        (standing(5_000, 1_000, &[1_000, 4_500], 3_000), lazy(1), vec![], 1_000),
        (standing(5_000, 1_000, &[1_000, 2_000, 4_500], 3_000), lazy(1), vec![], 2_000),
        (standing(5_000, 0, &[], 5_000), lazy(1), vec![5_000], 5_000),
        (standing(5_000, 0, &[], 3_000), exact(1), vec![3_000, 5_000], 3_000),
    ] {
        let goal = Goal { make: lsns(&make), boundary: Lsn(boundary) };
        assert_eq!(plan_goal(&standing, &retention), goal, "{standing:?} {retention:?}");
    }
}

fn held(lsn: u64, anchor: u64, segments: &[u8]) -> Held {
    let segments = segments.iter().copied().map(id).collect();
    Held { lsn: Lsn(lsn), anchor: Lsn(anchor), segments, whole: true }
}

fn entry(lsn: u64, segment: Option<u8>) -> Entry {
    Entry { lsn: Lsn(lsn), segment: segment.map(id), segment_bytes: 1, bytes: 1 }
}

#[test]
fn what_is_deleted_is_what_nothing_kept_can_reach() {
    let holdings = Holdings {
        boundary: Lsn(20),
        // 8 was made at the same time as 10, so the newer ones are not built upon it.
        checkpoints: vec![
            held(5, 0, &[1, 50]),
            held(8, 5, &[1, 80]),
            held(10, 5, &[1, 2, 100]),
            held(20, 10, &[2, 200]),
            held(25, 20, &[2, 21, 250]),
        ],
        pins: vec![],
        log: vec![entry(1, Some(1)), entry(7, Some(2)), entry(9, None), entry(19, Some(3))],
        packs: lsns(&[16, 32]),
        segments: ids(&[1, 2, 3, 4, 5, 21, 22, 50, 80, 100, 200, 250]),
        ripe: ids(&[4, 2, 6]),
    };
    let deletes = plan_deletes(&holdings);
    assert_eq!(deletes.commits, lsns(&[1, 7, 9, 19]));
    assert_eq!(deletes.checkpoints, lsns(&[5, 8, 10]));
    assert_eq!(deletes.packs, lsns(&[16]));
    // 80 may still be referred to by one who builds upon 8; 5 and 22 may be in flight; 6 is gone.
    assert_eq!(deletes.superseded, ids(&[1, 3, 50, 100]));
    assert_eq!(deletes.unnamed, ids(&[4]));

    // A branch at 12 needs what leads to it from 10, and what one may have found at 8.
    let pinned = Holdings {
        pins: lsns(&[12, 22]),
        log: [holdings.log.clone(), vec![entry(11, Some(4)), entry(12, None)]].concat(),
        ..holdings.clone()
    };
    let deletes = plan_deletes(&pinned);
    assert_eq!(deletes.commits, lsns(&[1, 7, 9, 19]));
    assert_eq!(deletes.checkpoints, lsns(&[5]));
    assert_eq!(deletes.superseded, ids(&[3, 50]));
    assert_eq!(deletes.unnamed, ids(&[]));

    // Without a checkpoint before it, a branch needs the log from its beginning.
    let first = Holdings { pins: lsns(&[3]), ..holdings.clone() };
    assert_eq!(plan_deletes(&first).commits, lsns(&[7, 9, 19]));
    assert!(!plan_deletes(&first).superseded.contains(&id(1)));

    // A checkpoint that has lost a segment leads nowhere.
    let mut broken = Holdings { pins: lsns(&[12]), ..holdings };
    broken.checkpoints[2].whole = false;
    let deletes = plan_deletes(&broken);
    assert_eq!(deletes.checkpoints, lsns(&[5, 10]));
    assert_eq!(deletes.commits, lsns(&[1, 7, 19]));
}

#[test]
fn kept_states_read_as_before_and_the_others_have_expired() {
    let mut log = Log::new();
    log.grow(40);
    let report = gc(&log.remote, 10).unwrap();
    assert_eq!((report.boundary_before, report.boundary), (Lsn::ZERO, Lsn(31)));
    assert_eq!(report.checkpoints, lsns(&[31]));
    assert_eq!(log.keys(&log_prefix(volume())).len(), 10);
    log.check_from(31);
    for reader in [&log.remote, &log.reader()] {
        assert_eq!(reader.fetch(&[want(30, &[1])]).unwrap_err().kind(), ErrorKind::Expired);
        assert_eq!(reader.pull(Lsn(29)).unwrap_err().kind(), ErrorKind::Expired);
        assert_eq!(reader.pull(Lsn::ZERO).unwrap_err().kind(), ErrorKind::Expired);
        assert_eq!(reader.pull(Lsn(30)).unwrap().len(), 10);
    }
    // Nothing is left to do, and a log that grows on is reclaimed again.
    let again = gc(&log.remote, 10).unwrap();
    assert_eq!((again.doomed, again.checkpoints), (vec![], vec![]));
    log.grow(30);
    gc(&log.reader(), 1).unwrap();
    log.check_from(70);
    assert_eq!(log.keys(&log_prefix(volume())), [log_key(volume(), Lsn(70))]);
    assert_eq!(log.keys("volumes/").iter().filter(|key| key.contains("/checkpoints/")).count(), 1);
    log.grow(3);
    log.check_from(70);
}

#[test]
fn a_dry_run_says_what_the_next_run_does_and_does_nothing() {
    let mut log = Log::new();
    log.grow(30);
    gc(&log.remote, 20).unwrap();
    log.grow(30);
    let before = log.keys("");
    let dry = log.reader().gc(&env(), &keep(5), true, &mut |_| Ok(())).unwrap();
    assert_eq!(log.keys(""), before);
    let wet = gc(&log.reader(), 5).unwrap();
    assert!(dry.doomed.iter().any(|one| one.why == Why::Superseded));
    assert_eq!(dry.doomed, wet.doomed);
    assert_eq!((dry.boundary, dry.checkpoints), (wet.boundary, wet.checkpoints));
    for one in wet.doomed {
        assert!(log.objects.get(&one.key).is_err(), "{one:?}");
    }
}

#[test]
fn age_keeps_what_count_would_give_away() {
    let mut log = Log::new();
    log.grow(30);
    // Commits are made at 1,001, 1,002 ... and the clock of a test begins in 2023.
    let clock = env();
    let since = |ms| clock.now_ms() - ms;
    let policy = |ms| Retention { keep_for_ms: since(ms), keep_commits: 1, exact: true };
    let run = |ms| log.remote.gc(&clock, &policy(ms), true, &mut |_| Ok(())).unwrap().boundary;
    assert_eq!(run(1_000), Lsn::ZERO);
    assert_eq!(run(1_012), Lsn(12));
    assert_eq!(run(9_999), Lsn(30));
}

#[test]
fn a_hole_above_the_boundary_is_damage_and_below_it_is_history() {
    let mut log = Log::new();
    log.grow(20);
    gc(&log.remote, 10).unwrap();
    let key = log_key(volume(), Lsn(15));
    log.objects.delete(&key).unwrap();
    check_error(log.reader().fetch(&[want(18, &[60, 1])]), ErrorKind::Corrupt, &key);
    let mut at = Lsn(11);
    let end = loop {
        match log.reader().pull(at) {
            Ok(commits) => at = commits.last().unwrap().lsn,
            Err(e) => break Err::<(), Error>(e),
        }
    };
    check_error(end, ErrorKind::Corrupt, &key);
    assert_eq!(log.reader().pull(Lsn(3)).unwrap_err().kind(), ErrorKind::Expired);
}

#[test]
fn who_stalls_across_a_pass_has_lost() {
    let mut log = Log::new();
    log.grow(20);
    let mut stalled = log.plan(60, &[1, 2], true);
    log.grow(1);
    let other = log.reader();
    other.head().unwrap();
    log.grow(9);
    gc(&log.reader(), 5).unwrap();
    // The name is free, and taking it is not enough, whether one knew the boundary or not.
    assert_eq!(other.append(&stalled).unwrap(), Append::Lost);
    assert_eq!(other.recover(stalled.lsn, stalled.nonce).unwrap(), Append::Lost);
    assert!(log.objects.get(&log_key(volume(), stalled.lsn)).is_ok(), "it was not even tried");
    assert_eq!(log.reader().append(&stalled).unwrap(), Append::Lost);
    // What it left there is nobody's history.
    let at = stalled.lsn;
    for reader in [&log.remote, &log.reader(), &other] {
        let before = Lsn(at.0 - 1);
        assert_eq!(reader.pull(before).unwrap_err().kind(), ErrorKind::Expired);
        let error = reader.fetch(&[want(at.0, &[1])]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Expired);
        assert_eq!(reader.head().unwrap(), log.head);
    }
    stalled.lsn = Lsn(at.0 + 5);
    assert_eq!(other.append(&stalled).unwrap(), Append::Lost);
    // And the next pass takes it away.
    gc(&log.reader(), 5).unwrap();
    assert!(log.objects.get(&log_key(volume(), at)).is_err());
    log.check_from(26);
}

#[test]
fn who_reads_while_the_boundary_passes_gets_the_state_or_hears_that_it_expired() {
    let mut log = Log::new();
    log.grow(10);
    let slow = log.reader();
    log.check_fetch(&slow, &[want(10, &[3])]);
    log.grow(20);
    gc(&log.reader(), 25).unwrap();
    // Its walk ends at a log that is gone; the state is kept, so it is found elsewhere.
    log.check_fetch(&slow, &[want(10, &(1..=60).collect::<Vec<_>>())]);
    gc(&log.reader(), 1).unwrap();
    let error = slow.fetch(&[want(9, &[59])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired, "{error}");
}

#[test]
fn a_lost_upload_goes_once_nobody_can_name_it_any_more() {
    let mut log = Log::new();
    log.grow(10);
    // One writer has uploaded and will lose; another is still at it.
    let lost = segment_key(volume(), id(200));
    log.objects.put(&lost, Bytes::from_static(b"?")).unwrap();
    let in_flight = log.plan(60, &[1, 2, 3], true);
    let uploaded = segment_key(volume(), in_flight.segment.unwrap());
    for _ in 0..3 {
        gc(&log.reader(), 1).unwrap();
        assert!(log.objects.get(&lost).is_ok() && log.objects.get(&uploaded).is_ok());
    }
    assert_eq!(log.remote.append(&in_flight).unwrap(), Append::Committed);
    let mut state = log.states.last().unwrap().clone();
    (0..3).for_each(|page| state[page] = Some(11));
    log.states.push(state);
    log.head = log.reader().head().unwrap();
    log.check_from(10);
    gc(&log.reader(), 1).unwrap();
    assert!(log.objects.get(&lost).is_ok(), "its writer may be at position 11 still");
    log.grow(1);
    gc(&log.reader(), 1).unwrap();
    assert!(log.objects.get(&lost).is_err());
    log.check_from(12);
}

#[test]
fn what_a_branch_needs_stays_until_it_has_gone() {
    let mut log = Log::new();
    log.grow(9);
    log.pin(8, 5);
    log.grow(11);
    gc(&log.reader(), 6).unwrap();
    let pin = log.pin(9, 18);
    log.grow(20);
    gc(&log.reader(), 1).unwrap();
    log.grow(10);
    gc(&log.reader(), 1).unwrap();
    log.check_from(50);
    // As the branch reads it: without the parent's boundary.
    let reads = |log: &Log, lsn: u64| {
        let copy = MemObjects::new();
        for key in log.keys("").iter().filter(|key| !key.contains("/boundary/")) {
            copy.put(key, log.objects.get(key).unwrap()).unwrap();
        }
        let reader = BucketRemote::new(Arc::new(copy), volume(), SIZE);
        let want = want(lsn, &(1..=60).collect::<Vec<_>>());
        log.check_fetch(&reader, &[want]);
    };
    reads(&log, 5);
    reads(&log, 18);
    log.objects.put(&pin, Bytes::from_static(b"{\"format\":2}")).unwrap();
    log.grow(2);
    assert_eq!(gc(&log.reader(), 1).unwrap_err().kind(), ErrorKind::Unsupported);
    reads(&log, 18);
    log.objects.delete(&pin).unwrap();
    gc(&log.reader(), 1).unwrap();
    assert!(log.objects.get(&log_key(volume(), Lsn(18))).is_err());
    reads(&log, 5);
}

/// Fails at the n-th fault point.
#[derive(Debug)]
struct Killed {
    inner: ManualEnv,
    left: AtomicU64,
}

impl Env for Killed {
    fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.inner.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(io::Error::other(point)),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_reclaimer_killed_anywhere_leaves_nothing_that_the_next_one_does_not_find() {
    let passes = |log: &mut Log| {
        for _ in 0..3 {
            log.grow(3);
            gc(&log.reader(), 2).unwrap();
        }
        log.check_from(log.head.lsn.0 - 1);
        log.bytes()
    };
    let start = || {
        let mut log = Log::new();
        log.grow(20);
        gc(&log.remote, 10).unwrap();
        log.grow(20);
        log
    };
    let undisturbed = passes(&mut start());
    let mut died = 0;
    for left in 0.. {
        let mut log = start();
        let killed = Killed { inner: env(), left: AtomicU64::new(left) };
        let outcome = log.reader().gc(&killed, &keep(2), false, &mut |_| Ok(()));
        log.check_from(39);
        // Compressed segments of the same pages may differ a little by how they came together.
        let bytes = passes(&mut log);
        assert!(bytes < undisturbed + 2_000, "{left}: {bytes} for {undisturbed}");
        match outcome {
            Ok(_) => break,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Io, "{e}");
                died += 1;
            }
        }
    }
    assert!(died >= 8, "only {died} crash points");
}

#[test]
fn a_checkpoint_that_lost_a_segment_stops_the_reclaimer() {
    let mut log = Log::new();
    log.grow(20);
    gc(&log.remote, 1).unwrap();
    let opened = log.reader().open_checkpoint(Lsn(20)).unwrap();
    log.objects.delete(&segment_key(volume(), opened.head.segments[0].id)).unwrap();
    log.grow(5);
    let before = log.keys("");
    let key = checkpoint_key(volume(), Lsn(20));
    check_error(gc(&log.reader(), 1), ErrorKind::Corrupt, &key);
    assert_eq!(log.keys(""), before);
}

#[test]
fn a_mark_damaged_anywhere_is_found() {
    let mut log = Log::new();
    log.grow(20);
    log.objects.put(&segment_key(volume(), id(222)), Bytes::from_static(b"?")).unwrap();
    gc(&log.remote, 1).unwrap();
    let key = mark_key(volume(), 1);
    let good = log.objects.get(&key).unwrap();
    let mark = Mark::decode(&good).unwrap();
    assert_eq!((mark.boundary, mark.head), (Lsn(20), Lsn(20)));
    assert_eq!(mark.suspects, [id(222)]);
    for at in 0..good.len() {
        log.damage(&key, |bytes| bytes[at] ^= 0x04);
        check_error(log.reader().boundary(), ErrorKind::Corrupt, &key);
        log.objects.put(&key, good.slice(..at)).unwrap();
        check_error(log.reader().pull(Lsn(19)), ErrorKind::Corrupt, &key);
        log.objects.put(&key, good.clone()).unwrap();
    }
    log.objects.put(&mark_key(volume(), 2), good).unwrap();
    check_error(log.reader().boundary(), ErrorKind::Corrupt, &mark_key(volume(), 2));
    let newer = {
        let mut bytes = mark.encode().to_vec();
        bytes[4] = 2;
        let body = bytes.len() - 32;
        let hash = blake3::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(hash.as_bytes());
        bytes
    };
    assert_eq!(Mark::decode(&newer).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its fixture")]
fn the_fixture_of_a_mark_is_what_this_version_writes() {
    let suspects = vec![id(1), id(2)];
    let mark = Mark {
        volume: volume(),
        number: 3,
        boundary: Lsn(1_000),
        head: Lsn(2_000),
        time_ms: 1_700_000_000_000,
        suspects,
    };
    let dir = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = dir.join("boundary-v1.bin");
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        std::fs::write(&path, mark.encode()).unwrap();
    }
    let stored = std::fs::read(path).unwrap();
    assert_eq!(Mark::decode(&stored).unwrap(), mark);
    assert_eq!(mark.encode(), stored);
}

/// The head of a log, however fast it moves.
fn head(remote: &BucketRemote) -> crate::RemoteHead {
    loop {
        match remote.head() {
            Ok(head) => return head,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}"),
        }
    }
}

/// Ends the other threads of a test, also when it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Appends one commit at the head, whoever else does; `None` when another was first.
fn append(remote: &BucketRemote, seed: u64) -> Option<Commit> {
    let head = head(remote);
    let template = Log::new().plan(3, &[1], false);
    let nonce = (u128::from(seed) << 64 | u128::from(head.lsn.0)).to_be_bytes();
    let commit = Commit {
        lsn: head.lsn.next(),
        parent: head.hash,
        nonce,
        time_ms: head.time_ms + 1,
        ..template
    };
    (remote.append(&commit).unwrap() == Append::Committed).then_some(commit)
}

fn race(objects: &Arc<dyn Objects>, until: u64, reclaim: bool) {
    let done = AtomicBool::new(false);
    let barrier = Barrier::new(2);
    let open = || BucketRemote::new(Arc::clone(objects), volume(), SIZE);
    let wins: Vec<Vec<Commit>> = std::thread::scope(|scope| {
        let stop = Stop(&done);
        let writer = |seed| {
            let (barrier, open) = (&barrier, &open);
            scope.spawn(move || {
                let remote = open();
                barrier.wait();
                let mut won = Vec::new();
                while head(&remote).lsn.0 < until {
                    won.extend(append(&remote, seed));
                }
                won
            })
        };
        let writers = [writer(1), writer(2)];
        let reclaimers: Vec<_> = (0..if reclaim { 2 } else { 0 })
            .map(|_| {
                let (done, open) = (&done, &open);
                scope.spawn(move || {
                    let remote = open();
                    while !done.load(Ordering::SeqCst) {
                        match gc(&remote, 20) {
                            Ok(_) => {}
                            Err(e) => {
                                let faster = [ErrorKind::Conflict, ErrorKind::Unavailable];
                                assert!(faster.contains(&e.kind()), "{e}");
                            }
                        }
                    }
                })
            })
            .collect();
        let reader = reclaim.then(|| {
            let (done, open) = (&done, &open);
            scope.spawn(move || follow(&open(), done))
        });
        let wins = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        drop(stop);
        reclaimers.into_iter().for_each(|one| one.join().unwrap());
        if let Some(reader) = reader {
            assert!(reader.join().unwrap() > 0, "the reader never saw a state");
        }
        wins
    });
    judge(&open(), wins.into_iter().flatten().collect(), reclaim);
}

/// What must hold of the winners that were told so, and of the log they made.
fn judge(reader: &BucketRemote, mut all: Vec<Commit>, reclaim: bool) {
    // No position has two winners, and each names the winner before it. Only reclaimers, which
    // here keep no more than twenty commits, may have been there before a winner had looked.
    all.sort_by_key(|commit| commit.lsn);
    let head = reader.head().unwrap();
    let told = all.len() as u64;
    let enough = if reclaim { head.lsn.0 * 9 / 10 } else { head.lsn.0 };
    assert!((enough..=head.lsn.0).contains(&told), "{told} winners of {}", head.lsn);
    for pair in all.windows(2) {
        assert!(pair[0].lsn < pair[1].lsn, "two winners at {}", pair[1].lsn);
        if pair[0].lsn.next() == pair[1].lsn {
            assert_eq!(pair[0].hash(), pair[1].parent);
        }
    }
    assert_eq!(
        all.last().filter(|last| last.lsn == head.lsn).map_or(head.hash, Commit::hash),
        head.hash
    );
    let parent = head.hash;
    let kept = reader.boundary().unwrap();
    let mut at = Lsn(kept.0.saturating_sub(1));
    let mut last = None;
    while let Some(commit) = reader.pull(at).unwrap().pop() {
        at = commit.lsn;
        last = Some(commit.hash());
    }
    assert_eq!(last, Some(parent));
}

/// A slow reader: pulls commit by commit, reads pages of the state it stands at, and starts from
/// the newest state when it was too slow. Returns how many states it read.
fn follow(remote: &BucketRemote, done: &AtomicBool) -> u64 {
    let (mut at, mut read) = (Lsn::ZERO, 0);
    while !done.load(Ordering::SeqCst) {
        match remote.pull(at) {
            Ok(commits) => at = commits.first().map_or(at, |commit| commit.lsn),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Expired, "{e}");
                at = head(remote).lsn;
            }
        }
        let pages: PageSet = [crate::PageIdx::FIRST].into_iter().collect();
        match remote.fetch(&[crate::Want { lsn: at, pages }]) {
            Ok(pages) => {
                read += 1;
                assert!(pages.iter().any(|page| page.page[..8] == 1u64.to_le_bytes()));
            }
            Err(e) if at == Lsn::ZERO => assert_eq!(e.kind(), ErrorKind::Invalid),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Expired, "{e}"),
        }
    }
    read
}

fn long(usual: u64, long: u64) -> u64 {
    if std::env::var_os("SHEAF_TEST_LONG").is_some() { long } else { usual }
}

#[test]
fn of_two_who_race_for_every_position_one_wins_each() {
    let objects: Arc<dyn Objects> = Arc::new(MemObjects::new());
    race(&objects, long(2_000, 10_000), false);
}

#[test]
fn reclaimers_beside_writers_and_readers_take_nothing_that_is_needed() {
    let objects: Arc<dyn Objects> = Arc::new(MemObjects::new());
    race(&objects, long(600, 10_000), true);
}

#[cfg(feature = "native")]
#[test]
fn a_directory_is_reclaimed_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let objects = crate::open_url(&format!("file://{}", dir.path().display())).unwrap();
    race(&objects, 60, true);
}

#[test]
fn a_log_of_many_small_commits_shrinks_to_its_pages() {
    // Rows are appended to the last of a growing number of pages.
    let commits = long(4_000, 100_000);
    let mut log = Log::new();
    for n in 1..=commits {
        let last = u32::try_from(n / 20 + 1).unwrap();
        log.write(last, &[last], false);
        // The oracle needs only the newest state.
        let newest = log.states.pop().unwrap();
        log.states = vec![newest];
    }
    let vacuumed = log.states[0].len() * SIZE.bytes();
    let before = log.bytes();
    loop {
        if !gc(&log.remote, 1).unwrap().more {
            break;
        }
    }
    let after = log.bytes();
    assert!(before > 5 * vacuumed, "{before} for {vacuumed}: nothing to reclaim");
    eprintln!("{commits} commits: {before} bytes, {after} afterwards, {vacuumed} vacuumed");
    assert!(after * 2 <= vacuumed * 3, "{after} bytes for {vacuumed}");
    let numbers: Vec<u32> = (1..=u32::try_from(log.states[0].len()).unwrap()).collect();
    let pages = numbers.iter().filter_map(|&n| crate::PageIdx::new(n)).collect();
    let answer = log.reader().fetch(&[crate::Want { lsn: log.head.lsn, pages }]).unwrap();
    assert_eq!(answer.len(), numbers.len());
    for page in answer {
        let writer = log.states[0][page.idx.get() as usize - 1].unwrap();
        assert_eq!(page.page[..8], writer.to_le_bytes());
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write(u32, Vec<u32>, bool),
    Checkpoint,
    Gc(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let pages = prop::collection::btree_set(1..40u32, 0..20);
    let write = (0..40u32, pages, any::<bool>()).prop_map(|(count, pages, in_segment)| {
        Act::Write(count, pages.into_iter().filter(|&n| n <= count).collect(), in_segment)
    });
    prop_oneof![6 => write, 1 => Just(Act::Checkpoint), 1 => (1..8u64).prop_map(Act::Gc)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_kept_state_is_right_whatever_was_reclaimed(
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut log = Log::new();
        let (warm, mut boundary) = (log.reader(), 0);
        for act in acts {
            match act {
                Act::Write(count, pages, in_segment) => drop(log.write(count, &pages, in_segment)),
                _ if log.head.lsn == Lsn::ZERO => {}
                Act::Checkpoint => drop(log.reader().checkpoint(&env(), log.head.lsn).unwrap()),
                Act::Gc(commits) => boundary = gc(&log.reader(), commits).unwrap().boundary.0,
            }
            let at = log.head.lsn.0;
            if at > 0 {
                let count = u32::try_from(log.states.last().unwrap().len()).unwrap();
                log.check_fetch(&warm, &[want(at, &(1..=count).collect::<Vec<_>>())]);
            }
        }
        log.check_from(boundary);
        let held = log.keys(&segment_prefix(volume()));
        prop_assert!(held.len() as u64 <= log.head.lsn.0 + 40);
    }
}
