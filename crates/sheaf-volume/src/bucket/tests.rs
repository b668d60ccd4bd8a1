//! The bucket remote over objects in memory, with faults put in by hand.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frame::build_frames;
use crate::{MemObjects, Page, PageIdx, PageSet};

pub(super) const SIZE: PageSize = match PageSize::new(512) {
    Some(size) => size,
    None => panic!("512 is a page size"),
};

pub(super) fn volume() -> VolumeId {
    VolumeId::from_bytes([3; 16])
}

pub(super) fn idx(number: u32) -> PageIdx {
    PageIdx::new(number).unwrap()
}

pub(super) fn set(numbers: &[u32]) -> PageSet {
    numbers.iter().map(|&number| idx(number)).collect()
}

/// What the test data has in a page that this commit wrote. Does not compress, so that sizes mean
/// something.
pub(super) fn content(lsn: u64, number: u32) -> Page {
    let mut bytes = vec![0; SIZE.bytes()];
    bytes[..8].copy_from_slice(&lsn.to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    let mut noise = blake3::Hasher::new().update(&bytes[..12]).finalize_xof();
    noise.fill(&mut bytes[12..]);
    Page::from(bytes)
}

/// Bytes for an id that belongs to a position.
fn tag(lsn: u64) -> [u8; 16] {
    u8::try_from(lsn).map_or_else(|_| u128::from(lsn).to_be_bytes(), |byte| [byte; 16])
}

/// A log under construction, with plain knowledge of every state as the oracle.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) remote: BucketRemote,
    pub(super) head: RemoteHead,
    /// Per state: its page count and which commit wrote each page.
    pub(super) states: Vec<Vec<Option<u64>>>,
}

impl Log {
    pub(super) fn new() -> Self {
        let objects = crate::objects::space_for_test();
        let remote = BucketRemote::new(Arc::clone(&objects), volume(), SIZE);
        let head = remote.head().unwrap();
        Self { objects, remote, head, states: vec![Vec::new()] }
    }

    /// Another reader of the same objects, which knows nothing yet.
    pub(super) fn reader(&self) -> BucketRemote {
        BucketRemote::new(Arc::clone(&self.objects), volume(), SIZE)
    }

    pub(super) fn plan(&self, page_count: u32, pages: &[u32], in_segment: bool) -> Commit {
        let lsn = self.head.lsn.next();
        let pages = set(pages);
        let held = pages.iter().map(|idx| (idx, content(lsn.0, idx.get())));
        let (frames, bytes) = build_frames(volume(), SIZE, held).unwrap();
        let segment = SegmentId::from_bytes(tag(lsn.0));
        let in_segment = in_segment && !pages.is_empty();
        if in_segment {
            let bytes = Bytes::from(bytes.clone());
            self.remote.put_segment(segment, &mut std::iter::once(Ok(bytes))).unwrap();
        }
        Commit {
            volume: volume(),
            lsn,
            parent: self.head.hash,
            epoch: 0,
            writer: [1; 16],
            nonce: tag(lsn.0),
            time_ms: 1_000 + lsn.0,
            page_size: SIZE,
            page_count: PageCount(page_count),
            bulk_seen: Lsn::ZERO,
            pages,
            frames,
            segment: in_segment.then_some(segment),
            inline: if in_segment { Bytes::new() } else { bytes.into() },
            tables: Vec::new(),
            applied: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, page_count: u32, pages: &[u32], in_segment: bool) -> Commit {
        let commit = self.plan(page_count, pages, in_segment);
        assert_eq!(self.remote.append(&commit).unwrap(), Append::Committed);
        let mut state = self.states.last().unwrap().clone();
        state.resize(page_count as usize, None);
        for &number in pages {
            state[number as usize - 1] = Some(commit.lsn.0);
        }
        self.states.push(state);
        self.head = self.remote.head().unwrap();
        assert_eq!((self.head.lsn, self.head.hash), (commit.lsn, commit.hash()));
        commit
    }

    fn page(&self, lsn: u64, number: u32) -> Page {
        match self.states[usize::try_from(lsn).unwrap()][number as usize - 1] {
            Some(writer) => content(writer, number),
            None => Page::zeros(SIZE),
        }
    }

    /// Fetches, and compares every page of the answer, asked for or not, with the oracle.
    pub(super) fn check_fetch(&self, remote: &BucketRemote, wants: &[Want]) -> usize {
        let answer = remote.fetch(wants).unwrap();
        for page in &answer {
            assert_eq!(page.page, self.page(page.lsn.0, page.idx.get()), "{page:?}");
        }
        for want in wants {
            for idx in want.pages.iter() {
                let got = answer.iter().filter(|page| (page.idx, page.lsn) == (idx, want.lsn));
                assert!(got.count() >= 1, "page {idx} at {} is not in the answer", want.lsn);
            }
        }
        answer.len()
    }

    pub(super) fn damage(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.objects.get(key).unwrap().to_vec();
        change(&mut bytes);
        self.objects.put(key, bytes.into()).unwrap();
    }
}

pub(super) fn want(lsn: u64, pages: &[u32]) -> Want {
    Want { lsn: Lsn(lsn), pages: set(pages) }
}

/// Damage must give this kind, and the text must name the object.
pub(super) fn check_error<T: fmt::Debug>(result: Result<T>, kind: ErrorKind, key: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(key), "{error} does not name {key}");
    assert!(error.to_string().contains("restore it"), "{error} gives no advice");
}

#[test]
fn an_empty_log_has_a_head_and_nothing_to_pull() {
    let log = Log::new();
    assert_eq!(log.head.lsn, Lsn::ZERO);
    assert_eq!(log.head.hash, CommitHash::default());
    assert_eq!(log.remote.pull(Lsn::ZERO).unwrap(), []);
    assert_eq!(log.remote.fetch(&[want(0, &[])]).unwrap(), []);
    let beyond = log.remote.fetch(&[want(0, &[1])]).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Invalid);
}

#[test]
fn one_of_many_concurrent_appends_wins() {
    let log = Log::new();
    let racers = 8;
    let barrier = Barrier::new(racers);
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for racer in 0..racers {
            let (log, barrier, wins) = (&log, &barrier, &wins);
            scope.spawn(move || {
                let mut commit = log.plan(1, &[1], false);
                commit.nonce = [u8::try_from(racer).unwrap(); 16];
                let remote = log.reader();
                barrier.wait();
                let outcome = remote.append(&commit).unwrap();
                assert_eq!(remote.recover(Lsn(1), commit.nonce).unwrap(), outcome);
                if outcome == Append::Committed {
                    wins.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), 1);
    assert_eq!(log.reader().pull(Lsn::ZERO).unwrap().len(), 1);
}

#[test]
fn an_append_repeated_is_still_ours() {
    let mut log = Log::new();
    let commit = log.write(1, &[1], false);
    assert_eq!(log.reader().append(&commit).unwrap(), Append::Committed);
    assert_eq!(log.reader().recover(Lsn(1), commit.nonce).unwrap(), Append::Committed);
    assert_eq!(log.reader().recover(Lsn(1), [9; 16]).unwrap(), Append::Lost);
    assert_eq!(log.reader().recover(Lsn(2), commit.nonce).unwrap(), Append::Lost);
    let reused = Commit { time_ms: 1, ..commit };
    assert_eq!(log.reader().append(&reused).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn a_commit_that_nobody_could_read_is_not_appended() {
    let log = Log::new();
    let good = log.plan(1, &[1], false);
    let beyond = Commit { page_count: PageCount(0), ..good.clone() };
    let foreign = Commit { volume: VolumeId::from_bytes([9; 16]), ..good };
    for bad in [beyond, foreign] {
        assert_eq!(log.remote.append(&bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(log.remote.head().unwrap().lsn, Lsn::ZERO);
}

#[test]
fn pull_gives_what_follows_in_order() {
    let mut log = Log::new();
    let commits: Vec<Commit> = (0..40).map(|n| log.write(n + 1, &[n + 1], n % 3 == 0)).collect();
    let reader = log.reader();
    for after in [0, 1, 7, 38, 39, 40] {
        assert_eq!(reader.pull(Lsn(after)).unwrap(), commits[usize::try_from(after).unwrap()..]);
        assert_eq!(log.reader().pull(Lsn(after)).unwrap(), reader.pull(Lsn(after)).unwrap());
    }
    assert_eq!(reader.head().unwrap(), log.head);
    assert_eq!(reader.pull(Lsn(u64::MAX)).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn foreign_objects_in_the_log_folder_are_passed_over() {
    let mut log = Log::new();
    log.write(1, &[1], false);
    let stray = format!("{}.DS_Store", log_prefix(volume()));
    log.objects.put(&stray, Bytes::from_static(b"?")).unwrap();
    log.objects.put(&format!("{}~", log_key(volume(), Lsn(9))), Bytes::new()).unwrap();
    assert_eq!(log.reader().head().unwrap(), log.head);
    assert_eq!(log.reader().pull(Lsn(1)).unwrap(), []);
}

#[test]
fn fetch_gives_the_newest_version_at_or_before() {
    let mut log = Log::new();
    log.write(20, &(1..=20).collect::<Vec<_>>(), true);
    log.write(20, &[3, 4], false);
    log.write(30, &[25], true);
    log.write(30, &[3, 11, 12], true);
    let all = [want(4, &[3, 4, 5, 11, 25, 26]), want(2, &[3, 20]), want(1, &[3]), want(3, &[25])];
    for wants in [&all[..], &all[..1], &all[1..2], &all[3..]] {
        log.check_fetch(&log.reader(), wants);
        log.check_fetch(&log.remote, wants);
    }
    let beyond = log.reader().fetch(&[want(2, &[21])]).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Invalid);
    check_error(log.reader().fetch(&[want(5, &[1])]), ErrorKind::NotFound, "00005");
}

#[test]
fn frame_neighbours_come_along_where_they_hold() {
    let mut log = Log::new();
    log.write(8, &(1..=8).collect::<Vec<_>>(), true);
    assert_eq!(log.check_fetch(&log.reader(), &[want(1, &[5])]), 8);
    log.write(8, &[1, 2], true);
    // Pages 1 and 2 of the old frame no longer hold at 2, so only six of eight may come.
    assert_eq!(log.check_fetch(&log.reader(), &[want(2, &[5])]), 6);
    log.write(4, &[], false);
    log.write(8, &[], false);
    assert_eq!(log.check_fetch(&log.reader(), &[want(4, &[3])]), 2);
}

#[test]
fn a_page_cut_off_is_zeros_when_the_state_grows_again() {
    let mut log = Log::new();
    log.write(5, &[1, 2, 3, 4, 5], false);
    log.write(3, &[1], false);
    log.write(6, &[1, 6], false);
    let answer = log.reader().fetch(&[want(3, &[4])]).unwrap();
    assert!(answer.iter().any(|page| page.idx == idx(4) && page.page == Page::zeros(SIZE)));
    log.check_fetch(&log.reader(), &[want(3, &[2, 3, 4, 5, 6]), want(1, &[4, 5])]);
}

/// Counts requests, and refuses what a test says.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Objects>,
    gets: AtomicUsize,
    range_calls: AtomicUsize,
    ranges: AtomicUsize,
    outcome_lost: bool,
    /// Whether a create of unknown outcome was carried out.
    carried_out: bool,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            inner: Arc::new(MemObjects::new()),
            gets: AtomicUsize::default(),
            range_calls: AtomicUsize::default(),
            ranges: AtomicUsize::default(),
            outcome_lost: false,
            carried_out: false,
        }
    }
}

impl Objects for Counted {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.inner.get(key)
    }

    fn get_ranges(
        &self,
        wants: &[(String, std::ops::Range<u64>)],
    ) -> Vec<Result<Bytes, ObjectsError>> {
        self.range_calls.fetch_add(1, Ordering::SeqCst);
        self.ranges.fetch_add(wants.len(), Ordering::SeqCst);
        self.inner.get_ranges(wants)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.inner.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        if !self.outcome_lost {
            return self.inner.create(key, bytes);
        }
        if self.carried_out {
            self.inner.create(key, bytes)?;
        }
        Err(ObjectsError::Ambiguous { key: key.to_owned(), cause: "connection reset".to_owned() })
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.inner.delete(key)
    }
}

#[test]
fn an_unknown_outcome_is_resolved_by_reading_back() {
    let mut log = Log::new();
    let ours = log.plan(1, &[1], false);
    let through = |carried_out, commit: &Commit| {
        let inner = Arc::clone(&log.objects);
        let objects = Counted { inner, outcome_lost: true, carried_out, ..Counted::default() };
        BucketRemote::new(Arc::new(objects), volume(), SIZE).append(commit)
    };
    assert_eq!(through(false, &ours).unwrap_err().kind(), ErrorKind::Ambiguous);
    assert_eq!(through(true, &ours).unwrap(), Append::Committed);
    assert_eq!(through(true, &ours).unwrap(), Append::Committed);
    let other = Commit { nonce: [77; 16], ..ours };
    assert_eq!(through(false, &other).unwrap(), Append::Lost);
    log.head = log.reader().head().unwrap();
}

#[test]
fn ranges_of_a_segment_are_read_at_once_and_walks_are_not_repeated() {
    let mut log = Log::new();
    log.write(64, &(1..=64).collect::<Vec<_>>(), true);
    for _ in 0..60 {
        log.write(64, &[64], false);
    }
    let objects = Arc::new(Counted { inner: Arc::clone(&log.objects), ..Counted::default() });
    let remote = BucketRemote::new(Arc::clone(&objects) as Arc<dyn Objects>, volume(), SIZE);
    let pages: Vec<u32> = (9..=24).chain(41..=44).collect();
    log.check_fetch(&remote, &[want(61, &pages), want(1, &[10])]);
    assert_eq!(objects.range_calls.load(Ordering::SeqCst), 1);
    // Frames 2 and 3 are adjacent, frame 6 is not.
    assert_eq!(objects.ranges.load(Ordering::SeqCst), 2);
    let gets = objects.gets.load(Ordering::SeqCst);
    // And a look at the boundary.
    assert!(gets <= 62, "{gets} reads for 61 commits");
    log.check_fetch(&remote, &[want(61, &[1, 30, 60])]);
    assert_eq!(objects.gets.load(Ordering::SeqCst), gets, "the log was read again");
}

#[test]
fn a_hole_in_the_log_is_damage_not_the_end() {
    for hole in [1, 2, 5, 11, 12] {
        let mut log = Log::new();
        for _ in 0..12 {
            log.write(1, &[1], false);
        }
        let key = log_key(volume(), Lsn(hole));
        log.objects.delete(&key).unwrap();
        let reader = log.reader();
        let mut after = Lsn::ZERO;
        let end = loop {
            match reader.pull(after) {
                Ok(commits) if commits.is_empty() => break Ok(after),
                Ok(commits) => after = commits.last().unwrap().lsn,
                Err(e) => break Err(e),
            }
        };
        if hole == 12 {
            // Nothing tells a log that lost its last commit from one that never had it ...
            assert_eq!(end.unwrap(), Lsn(11));
            // ... but one who has seen it knows better.
            check_error(log.remote.pull(Lsn(11)), ErrorKind::Corrupt, &key);
        } else {
            check_error(end, ErrorKind::Corrupt, &key);
        }
    }
}

#[test]
fn a_commit_that_does_not_follow_its_parent_is_damage() {
    let mut log = Log::new();
    log.write(2, &[1, 2], false);
    let second = log.write(2, &[1], false);
    log.write(2, &[1], false);
    let key = log_key(volume(), Lsn(2));
    let forged = Commit { time_ms: 9, ..second };
    log.objects.put(&key, forged.encode()).unwrap();
    // Its own parent is right; the commit after it names another.
    check_error(log.reader().pull(Lsn::ZERO), ErrorKind::Corrupt, "00003");
    check_error(log.reader().fetch(&[want(3, &[2])]), ErrorKind::Corrupt, "00002");
    check_error(log.reader().fetch(&[want(3, &[1]), want(2, &[1])]), ErrorKind::Corrupt, "00003");
}

#[test]
fn a_walk_checks_the_chain_itself() {
    let mut log = Log::new();
    let first = log.write(1, &[1], false);
    log.write(1, &[], false);
    // Two readers, so that neither has both commits in its cache.
    let second = log.reader().commit(Lsn(2)).unwrap();
    let good = log.reader().commit(Lsn(1)).unwrap();
    let forged = Commit { time_ms: 9, ..first };
    log.objects.put(&log_key(volume(), Lsn(1)), forged.encode()).unwrap();
    let forged = log.reader().commit(Lsn(1)).unwrap();
    let mut walk = Walk::new(Lsn(2), None);
    walk.visit(&second).unwrap();
    assert_eq!(walk.visit(&forged).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(walk.visit(&second).unwrap_err().kind(), ErrorKind::Corrupt);
    walk.visit(&good).unwrap();
}

#[test]
fn a_page_that_nobody_wrote_does_not_cost_the_whole_log() {
    let mut log = Log::new();
    for _ in 0..100 {
        log.write(1, &[1], false);
    }
    log.write(8, &[1], false);
    let objects = Arc::new(Counted { inner: Arc::clone(&log.objects), ..Counted::default() });
    let remote = BucketRemote::new(Arc::clone(&objects) as Arc<dyn Objects>, volume(), SIZE);
    log.check_fetch(&remote, &[want(101, &[5])]);
    let gets = objects.gets.load(Ordering::SeqCst);
    assert!(gets <= 5, "{gets} reads to learn that the state before was smaller");
}

#[test]
fn commits_of_other_places_are_damage() {
    let mut log = Log::new();
    let first = log.write(1, &[1], false);
    let key = log_key(volume(), Lsn(1));
    let check = |commit: &Commit| {
        log.objects.put(&key, commit.encode()).unwrap();
        check_error(log.reader().pull(Lsn::ZERO), ErrorKind::Corrupt, &key);
        check_error(log.reader().head(), ErrorKind::Corrupt, &key);
        check_error(log.reader().fetch(&[want(1, &[1])]), ErrorKind::Corrupt, &key);
    };
    check(&Commit { volume: VolumeId::from_bytes([4; 16]), ..first.clone() });
    check(&Commit { lsn: Lsn(2), ..first.clone() });
    check(&Commit { page_size: PageSize::DEFAULT, ..first.clone() });
    check(&Commit { parent: CommitHash([1; 32]), lsn: Lsn(2), ..first });
}

#[test]
fn flipped_and_truncated_objects_are_named() {
    let mut log = Log::new();
    log.write(9, &(1..=9).collect::<Vec<_>>(), true);
    log.write(9, &[2], false);
    let wants = [want(2, &[2, 3, 9])];
    let segment = segment_key(volume(), SegmentId::from_bytes([1; 16]));
    let commit = log_key(volume(), Lsn(2));
    for key in [segment, commit] {
        let good = log.objects.get(&key).unwrap();
        for at in 0..good.len().min(60) {
            log.damage(&key, |bytes| bytes[at] ^= 0x10);
            check_error(log.reader().fetch(&wants), ErrorKind::Corrupt, &key);
            log.objects.put(&key, good.clone()).unwrap();
        }
        log.damage(&key, |bytes| bytes.truncate(10));
        check_error(log.reader().fetch(&wants), ErrorKind::Corrupt, &key);
        log.objects.delete(&key).unwrap();
        check_error(log.reader().fetch(&wants), ErrorKind::NotFound, &key);
        log.objects.put(&key, good).unwrap();
    }
    log.check_fetch(&log.reader(), &wants);
}

#[test]
fn a_segment_of_another_volume_is_damage() {
    let mut log = Log::new();
    log.write(3, &[1, 2, 3], true);
    let held = [1, 2, 3].map(|number| (idx(number), content(1, number)));
    let (_, foreign) = build_frames(VolumeId::from_bytes([4; 16]), SIZE, held.clone()).unwrap();
    let (_, own) = build_frames(volume(), SIZE, held).unwrap();
    assert_eq!(foreign, own, "compression differs, so the swap below would prove nothing");
    let moved = [2, 3, 4].map(|number| (idx(number), content(1, number)));
    let (_, moved) = build_frames(volume(), SIZE, moved).unwrap();
    let key = segment_key(volume(), SegmentId::from_bytes([1; 16]));
    log.objects.put(&key, moved.into()).unwrap();
    check_error(log.reader().fetch(&[want(1, &[2])]), ErrorKind::Corrupt, &key);
    // The same bytes under a commit of another volume: only the hash's binding tells.
    let other = VolumeId::from_bytes([4; 16]);
    let copied = Commit { volume: other, ..log.remote.pull(Lsn::ZERO).unwrap().remove(0) };
    let stolen = BucketRemote::new(Arc::clone(&log.objects), other, SIZE);
    let own = Bytes::from(own);
    let mut pieces = std::iter::once(Ok(own));
    stolen.put_segment(SegmentId::from_bytes([1; 16]), &mut pieces).unwrap();
    stolen.append(&copied).unwrap();
    check_error(stolen.fetch(&[want(1, &[2])]), ErrorKind::Corrupt, "segments");
}

#[derive(Clone, Debug)]
struct Write {
    page_count: u32,
    pages: Vec<u32>,
    in_segment: bool,
}

fn write() -> impl Strategy<Value = Write> {
    (0..40u32, prop::collection::btree_set(1..40u32, 0..20), any::<bool>()).prop_map(
        |(page_count, pages, in_segment)| {
            let pages = pages.into_iter().filter(|&number| number <= page_count).collect();
            Write { page_count, pages, in_segment }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_page_of_every_state_is_right(
        writes in prop::collection::vec(write(), 1..24),
        asks in prop::collection::vec((any::<prop::sample::Index>(), 0..40u32, 1..40u32), 1..12),
    ) {
        let mut log = Log::new();
        for write in &writes {
            log.write(write.page_count, &write.pages, write.in_segment);
        }
        let reader = log.reader();
        let mut wants = Vec::new();
        for (at, first, count) in asks {
            let lsn = at.index(writes.len()) as u64 + 1;
            let page_count = writes[at.index(writes.len())].page_count;
            let pages: Vec<u32> = (first + 1..=(first + count).min(page_count)).collect();
            wants.push(want(lsn, &pages));
            log.check_fetch(&reader, &wants[wants.len() - 1..]);
        }
        log.check_fetch(&log.reader(), &wants);
    }
}

#[cfg(feature = "native")]
#[test]
fn a_directory_serves_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let objects = crate::open_url(&format!("file://{}", dir.path().display())).unwrap();
    let record = SiteRecord {
        site: crate::SiteId::from_bytes([1; 16]),
        lineage: volume().into(),
        page_size: SIZE,
        created_ms: 1,
    };
    for name in ["a", "a/b", "a.b/c-d_e"] {
        assert_eq!(create_site(&*objects, name, &record).unwrap(), record);
        assert_eq!(find_site(&*objects, name).unwrap(), Some(record.clone()));
    }
    let sites = list_sites(&*objects).unwrap();
    let names: Vec<&str> = sites.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "a.b/c-d_e", "a/b"]);

    let mut log = Log::new();
    log.write(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9], true);
    log.write(9, &[2], false);
    for key in log.objects.list("", None).unwrap() {
        objects.put(&key, log.objects.get(&key).unwrap()).unwrap();
    }
    let open = || BucketRemote::new(Arc::clone(&objects), volume(), SIZE);
    assert_eq!(open().head().unwrap(), log.head);
    assert_eq!(open().pull(Lsn::ZERO).unwrap().len(), 2);
    let wants = [want(2, &[2, 3, 9])];
    log.check_fetch(&open(), &wants);
    let key = segment_key(volume(), SegmentId::from_bytes([1; 16]));
    let short = objects.get(&key).unwrap().slice(..10);
    objects.put(&key, short).unwrap();
    check_error(open().fetch(&wants), ErrorKind::Corrupt, &key);
    objects.delete(&key).unwrap();
    check_error(open().fetch(&wants), ErrorKind::NotFound, &key);
    let lost = log_key(volume(), Lsn(1));
    objects.delete(&lost).unwrap();
    check_error(open().pull(Lsn::ZERO), ErrorKind::Corrupt, &lost);
}
