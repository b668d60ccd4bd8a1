//! Branches over objects in memory, against plain copies of the states they began with.

use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::frame::build_frames;
use crate::{
    Append, Commit, MemObjects, Page, PageCount, PageIdx, PageSet, PageSize, RemoteLog as _,
    SegmentId, SiteId, Want,
};

const SIZE: PageSize = match PageSize::new(512) {
    Some(size) => size,
    None => panic!("512 is a page size"),
};

/// Objects in memory that count what is asked of them.
#[derive(Debug, Default)]
struct Counted {
    inner: MemObjects,
    read: Mutex<Vec<(String, usize)>>,
    written: Mutex<Vec<(String, usize)>>,
}

impl Counted {
    fn took<'a>(&self, key: &str, got: &'a Result<Bytes, ObjectsError>) {
        let len = got.as_ref().map_or(0, |bytes: &'a Bytes| bytes.len());
        lock(&self.read).push((key.to_owned(), len));
    }
}

impl Objects for Counted {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        let got = self.inner.get(key);
        self.took(key, &got);
        got
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        let answers = self.inner.get_ranges(wants);
        wants.iter().zip(&answers).for_each(|((key, _), got)| self.took(key, got));
        answers
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        lock(&self.written).push((key.to_owned(), bytes.len()));
        self.inner.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        lock(&self.written).push((key.to_owned(), bytes.len()));
        self.inner.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.inner.delete(key)
    }
}

/// What a state holds, page by page.
type State = Vec<Page>;

/// A bucket with sites, and every state of each as the oracle.
struct Bed {
    counted: Arc<Counted>,
    next: u8,
}

struct Line {
    name: &'static str,
    record: SiteRecord,
    log: BucketRemote,
    /// By position, from zero.
    states: Vec<State>,
}

fn record(seed: u8) -> SiteRecord {
    SiteRecord {
        site: SiteId::from_bytes([seed; 16]),
        lineage: VolumeId::from_bytes([seed + 100; 16]).into(),
        page_size: SIZE,
        created_ms: 7,
    }
}

impl Bed {
    fn new() -> Self {
        Self { counted: Arc::default(), next: 1 }
    }

    fn objects(&self) -> Arc<dyn Objects> {
        Arc::clone(&self.counted) as Arc<dyn Objects>
    }

    fn open(&self, name: &'static str, record: SiteRecord, states: Vec<State>) -> Line {
        let log = BucketRemote::new(self.objects(), record.lineage.clone(), SIZE);
        Line { name, record, log, states }
    }

    fn site(&self, name: &'static str, seed: u8) -> Line {
        let record = create_site(self.objects().as_ref(), name, &record(seed)).unwrap();
        self.open(name, record, vec![Vec::new()])
    }

    fn branch(&self, from: &Line, at: At, name: &'static str, seed: u8) -> Line {
        let made = create_branch(&self.objects(), from.name, at, name, &record(seed)).unwrap();
        let fork = usize::try_from(made.lineage.fork().0).unwrap();
        let line = self.open(name, made, from.states[..=fork].to_vec());
        assert_eq!(line.log.head().unwrap().lsn.0, fork as u64);
        line
    }

    /// Appends a commit that writes these pages; every third one in a segment.
    fn write(&mut self, line: &mut Line, count: u32, pages: Range<u32>) {
        self.next += 1;
        let commit = self.plan(line, count, pages.clone());
        assert_eq!(line.log.append(&commit).unwrap(), Append::Committed);
        let mut state = line.states.last().unwrap().clone();
        state.resize(count as usize, Page::zeros(SIZE));
        for number in pages {
            state[number as usize - 1] = content(self.next, number);
        }
        line.states.push(state);
    }

    fn plan(&self, line: &Line, count: u32, pages: Range<u32>) -> Commit {
        let head = line.log.head().unwrap();
        let pages: PageSet = pages.filter_map(PageIdx::new).collect();
        let held = pages.iter().map(|idx| (idx, content(self.next, idx.get())));
        let (frames, bytes) = build_frames(line.log.volume(), SIZE, held).unwrap();
        let segment = SegmentId::from_bytes([self.next; 16]);
        let in_segment = self.next.is_multiple_of(3);
        if in_segment {
            let bytes = Bytes::from(bytes.clone());
            line.log.put_segment(segment, &mut std::iter::once(Ok(bytes))).unwrap();
        }
        Commit {
            volume: line.log.volume(),
            lsn: head.lsn.next(),
            parent: head.hash,
            epoch: 0,
            writer: [1; 16],
            nonce: [self.next; 16],
            time_ms: 1_000 * (head.lsn.0 + 1),
            page_size: SIZE,
            page_count: PageCount(count),
            bulk_seen: Lsn::ZERO,
            pages,
            frames,
            segment: in_segment.then_some(segment),
            inline: if in_segment { Bytes::new() } else { bytes.into() },
            tables: Vec::new(),
            applied: Vec::new(),
        }
    }

    /// Every state of a site equals what was written, and the chain is whole, for a reader that
    /// knows nothing yet.
    fn check(&self, line: &Line) {
        let objects = self.objects();
        let found = find_site(objects.as_ref(), line.name).unwrap().unwrap();
        assert_eq!(found, line.record);
        let reader = BucketRemote::new(objects, found.lineage, SIZE);
        for (lsn, state) in line.states.iter().enumerate().rev() {
            let lsn = Lsn(lsn as u64);
            let pages: PageSet = (1..).take(state.len()).filter_map(PageIdx::new).collect();
            let fetched = reader.fetch(&[Want { lsn, pages }]).unwrap();
            let mut found = vec![None; state.len()];
            fetched.into_iter().for_each(|p| found[p.idx.get() as usize - 1] = Some(p.page));
            let expected: Vec<_> = state.iter().cloned().map(Some).collect();
            assert!(found == expected, "{} at {lsn}", line.name);
        }
        let cold = BucketRemote::new(self.objects(), line.record.lineage.clone(), SIZE);
        let commits = cold.pull(Lsn::ZERO).unwrap();
        assert_eq!(commits.len(), line.states.len() - 1, "{}", line.name);
        let head = cold.head().unwrap();
        assert_eq!((head.lsn.0, head.hash), (commits.len() as u64, commits.last().unwrap().hash()));
        assert_eq!(line.log.head().unwrap(), head);
    }
}

fn content(seed: u8, number: u32) -> Page {
    let mut bytes = vec![seed; SIZE.bytes()];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    Page::from(bytes)
}

#[test]
fn both_sides_of_every_fork_go_on_alone() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    for (count, pages) in [(9, 1..10), (9, 2..4), (12, 9..13), (12, 1..2), (5, 1..2), (7, 6..8)] {
        bed.write(&mut main, count, pages);
    }
    let mut left = bed.branch(&main, At::Lsn(Lsn(4)), "left", 2);
    let empty = bed.branch(&main, At::Head, "empty", 3);
    for _ in 0..3 {
        bed.write(&mut left, 14, 3..15);
        bed.write(&mut main, 8, 2..5);
    }
    // A branch of a branch, one of its parent's past, and one at the very fork.
    let mut leaf = bed.branch(&left, At::Lsn(Lsn(6)), "leaf", 4);
    let mut old = bed.branch(&left, At::Lsn(Lsn(2)), "old", 5);
    let mut same = bed.branch(&left, At::Lsn(Lsn(4)), "same", 6);
    assert_eq!(leaf.record.lineage.parents().len(), 2);
    assert_eq!(old.record.lineage.parents()[0].volume, main.record.volume());
    assert_eq!(same.record.lineage.parents(), left.record.lineage.parents());
    for line in [&mut leaf, &mut old, &mut same, &mut left, &mut main] {
        bed.write(line, 14, 1..3);
        bed.write(line, 3, 3..4);
    }
    [&main, &left, &empty, &leaf, &old, &same].into_iter().for_each(|line| bed.check(line));
    let of = |line: &Line| {
        let pins = pins(bed.objects().as_ref(), line.record.volume()).unwrap();
        let mut lsns: Vec<u64> = pins.iter().map(|pin| pin.lsn.0).collect();
        lsns.sort_unstable();
        lsns
    };
    assert_eq!(of(&main), [2, 4, 4, 4, 6]);
    assert_eq!((of(&left), of(&leaf)), (vec![6], vec![]));
}

#[test]
fn a_branch_at_a_time_begins_at_what_was_there_then() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    (0..7).for_each(|_| bed.write(&mut main, 2, 1..3));
    for (seed, (time, lsn)) in
        (10..).zip([(1_000, 1), (3_999, 3), (4_000, 4), (7_000, 7), (u64::MAX, 7)])
    {
        let name = ["a", "b", "c", "d", "e"][seed as usize - 10];
        let branch = bed.branch(&main, At::Time(time), name, seed);
        assert_eq!(branch.record.lineage.fork(), Lsn(lsn), "{time}");
    }
    let make = |at| create_branch(&bed.objects(), "main", at, "x", &record(50));
    assert_eq!(make(At::Time(999)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(make(At::Lsn(Lsn(8))).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(bed.counted.inner.list("sites/x/", None).unwrap().is_empty());
}

#[test]
fn making_a_branch_costs_the_same_whatever_the_size() {
    let cost = |pages: u32| {
        let mut bed = Bed::new();
        let mut main = bed.site("main", 1);
        for _ in 0..4 {
            bed.write(&mut main, pages, 1..pages + 1);
        }
        lock(&bed.counted.read).clear();
        lock(&bed.counted.written).clear();
        bed.branch(&main, At::Lsn(Lsn(3)), "b", 2);
        let (read, written) = (lock(&bed.counted.read).clone(), lock(&bed.counted.written).clone());
        assert!(read.iter().all(|(key, _)| !key.contains("/segments/")), "{read:?}");
        (read.len(), written)
    };
    let (few, many) = (cost(3), cost(200));
    assert_eq!(few, many);
    let bytes: usize = many.1.iter().map(|(_, len)| len).sum();
    assert!(many.0 <= 8 && many.1.len() == 2 && bytes < 600, "{many:?}");
}

#[test]
fn a_name_or_an_id_is_taken_once() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    bed.write(&mut main, 2, 1..3);
    bed.write(&mut main, 2, 1..3);
    let make = |source: &str, at, name: &str, seed| {
        create_branch(&bed.objects(), source, At::Lsn(Lsn(at)), name, &record(seed))
    };
    let first = make("main", 1, "b", 2).unwrap();
    // The answer was lost, and the request comes again.
    assert_eq!(make("main", 1, "b", 2).unwrap(), first);
    assert_eq!(make("main", 1, "b", 3).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(make("main", 1, "main", 3).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(make("nobody", 1, "c", 3).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(make("main", 2, "c", 2).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn commits_of_a_third_volume_are_refused() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    (0..3).for_each(|_| bed.write(&mut main, 2, 1..3));
    let branch = bed.branch(&main, At::Lsn(Lsn(2)), "b", 2);
    let other = bed.site("other", 3);
    let own = |lsn: u64| format!("volumes/{}/log/{lsn:020}", branch.record.volume());
    let fails = |bytes: Bytes| {
        let objects = &bed.counted.inner;
        objects.put(&own(3), bytes).unwrap();
        let reader = BucketRemote::new(bed.objects(), branch.record.lineage.clone(), SIZE);
        let error = reader.pull(Lsn::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        // And for one who looks at the first own commit alone, and walks over the fork.
        let want = Want { lsn: Lsn(3), pages: PageIdx::new(2).into_iter().collect() };
        let reader = BucketRemote::new(bed.objects(), branch.record.lineage.clone(), SIZE);
        assert_eq!(reader.fetch(&[want]).unwrap_err().kind(), ErrorKind::Corrupt);
        objects.delete(&own(3)).unwrap();
    };
    let parents_third = format!("volumes/{}/log/{:020}", main.record.volume(), 3);
    fails(bed.counted.inner.get(&parents_third).unwrap());
    let mut commit = bed.plan(&branch, 2, 1..2);
    commit.volume = other.record.volume();
    fails(commit.encode());
    // Its own volume, but on top of something else than where the parent was left.
    let mut commit = bed.plan(&branch, 2, 1..2);
    commit.parent = main.log.head().unwrap().hash;
    fails(commit.encode());
    // What lies below the fork in its own log is nobody's.
    let stray = bed.counted.inner.get(&parents_third).unwrap();
    bed.counted.inner.put(&own(1), stray).unwrap();
    bed.check(&branch);
    let mut commit = bed.plan(&branch, 2, 1..2);
    commit.lsn = Lsn(2);
    assert_eq!(branch.log.append(&commit).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_pin_that_cannot_be_read_stops_whoever_reclaims() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    bed.write(&mut main, 2, 1..3);
    let branch = bed.branch(&main, At::Head, "b", 2);
    let (volume, objects) = (main.record.volume(), bed.objects());
    let key = pin_key(volume, branch.record.volume());
    let good = String::from_utf8(objects.get(&key).unwrap().to_vec()).unwrap();
    let check = |text: String, kind| {
        objects.put(&key, text.into()).unwrap();
        let error = pins(objects.as_ref(), volume).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&key), "{error}");
    };
    check(good.replace("\"format\":1", "\"format\":2"), ErrorKind::Unsupported);
    check(good.replace("\"lsn\":1", "\"lsn\":2"), ErrorKind::Corrupt);
    check(good.replace("check", "chuck"), ErrorKind::Corrupt);
    check(good[1..].to_owned(), ErrorKind::Corrupt);
    objects.put(&key, good.into()).unwrap();
    objects.put(&format!("{}x", pin_prefix(volume)), Bytes::new()).unwrap();
    let pin = Pin { child: branch.record.volume(), lsn: Lsn(1) };
    assert_eq!(pins(objects.as_ref(), volume).unwrap(), [pin]);
}

/// Version 2 of a site's record and version 1 of a pin: what is written today is what was released.
/// A missing fixture is made with `UPDATE_EXPECT=1`; an existing one is never replaced.
#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn released_branches_are_written_and_read_as_ever() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    (0..3).for_each(|_| bed.write(&mut main, 2, 1..3));
    let mut left = bed.branch(&main, At::Lsn(Lsn(2)), "left", 2);
    bed.write(&mut left, 2, 1..2);
    let leaf = bed.branch(&left, At::Head, "team/leaf", 3);
    let found = find_site(bed.objects().as_ref(), "team/leaf").unwrap();
    assert_eq!(found.as_ref(), Some(&leaf.record));
    assert_eq!(leaf.record.lineage.parents().len(), 2);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let pin = pin_key(main.record.volume(), leaf.record.volume());
    for (name, key) in
        [("site-v2.json", "sites/team%2Fleaf/site.json"), ("branch-v1.json", pin.as_str())]
    {
        let path = root.join(name);
        let written = bed.counted.inner.get(key).unwrap();
        if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
            std::fs::write(&path, &written).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), written, "{name} is written differently");
    }
}

#[test]
fn a_record_that_hides_its_parents_is_refused() {
    let mut bed = Bed::new();
    let mut main = bed.site("main", 1);
    bed.write(&mut main, 2, 1..3);
    bed.branch(&main, At::Head, "b", 2);
    let objects = bed.objects();
    let key = "sites/b/site.json";
    let good = String::from_utf8(objects.get(key).unwrap().to_vec()).unwrap();
    let (_, parents) = good.split_once("\"parents\":").unwrap();
    let (parents, _) = parents.split_once(']').unwrap();
    let parents = format!("\"parents\":{parents}]");
    for bad in [
        good.replace("\"format\":2", "\"format\":1"),
        good.replace(&parents, "\"parents\":[]"),
        good.replace(&parents, "\"parents\":7"),
        good.replace("\"lsn\":1", "\"lsn\":2"),
        good.replace("\"lsn\":1", "\"lsn\":0"),
        good.replace("\"check\"", "\"chuck\""),
    ] {
        assert_ne!(bad, good);
        objects.put(key, bad.clone().into()).unwrap();
        let error = find_site(objects.as_ref(), "b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad}: {error}");
    }
    objects.put(key, good.replace("\"format\":2", "\"format\":3").into()).unwrap();
    let error = find_site(objects.as_ref(), "b").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
