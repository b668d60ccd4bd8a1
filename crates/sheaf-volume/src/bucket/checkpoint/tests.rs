//! Checkpoints: the format, and what is read through them.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::codec::{assemble, decode_chunk, encode_chunk, head_len, open};
use super::*;
use crate::bucket::BucketRemote;
use crate::bucket::keys::{checkpoint_key, log_key, segment_key};
use crate::bucket::tests::{Log, SIZE, check_error, idx, set, volume, want};
use crate::frame::frame_hash;
use crate::{Error, ErrorKind, ManualEnv, Objects, ObjectsError, Remote as _, Result};

fn segment(seed: u8, pages: u32) -> SegmentRef {
    let id = SegmentId::from_bytes([seed; 16]);
    SegmentRef { volume: volume(), id, pages, bytes: 1 << 24 }
}

fn frame(segment: u32, first: u32, live: &[(u32, u64)]) -> Frame {
    let members = (first..first + 8).map(idx).collect();
    let live = live.iter().map(|&(number, lsn)| (idx(number), Lsn(lsn))).collect();
    Frame { segment, offset: 4_000 * u64::from(first), len: 4_000, hash: [9; 16], members, live }
}

/// A state of 2,000 pages, of which some were written.
fn sample() -> (Head, Vec<Vec<Frame>>) {
    let chunks = vec![
        vec![frame(0, 1, &[(1, 7), (8, 7)]), frame(1, 5, &[(6, 9), (7, 3)])],
        // This frame has its other pages in the chunk before.
        vec![frame(0, 1_020, &[(1_025, 7)])],
    ];
    let foreign = SegmentRef { volume: VolumeId::from_bytes([4; 16]), ..segment(2, 900) };
    let head = Head {
        volume: volume(),
        lsn: Lsn(9),
        hash: CommitHash([5; 32]),
        time_ms: 1_700_000_000_000,
        page_size: SIZE,
        page_count: PageCount(2_000),
        anchor: Lsn(3),
        segments: vec![segment(1, 2_000), foreign],
        lead: None,
        chunks: Vec::new(),
    };
    (head, chunks)
}

fn encode(head: &Head, chunks: &[Vec<Frame>]) -> Bytes {
    let chunks: Vec<Bytes> = chunks.iter().map(|frames| encode_chunk(frames)).collect();
    let reference = |chunk: &Bytes| ChunkRef {
        len: u32::try_from(chunk.len()).unwrap(),
        hash: short_hash(chunk),
    };
    let head = Head { chunks: chunks.iter().map(reference).collect(), ..head.clone() };
    assemble(&head, &[], &chunks).unwrap()
}

/// Everything a reader of a whole object looks at.
fn decode(bytes: &Bytes) -> Result<(Head, Vec<Vec<Frame>>)> {
    let opened = open(bytes.clone())?;
    let mut chunks = Vec::new();
    let mut start = usize::try_from(opened.head_len).unwrap();
    for (number, end) in (0..).zip(&opened.ends) {
        let end = usize::try_from(*end).unwrap();
        let bytes = bytes.get(start..end).ok_or_else(|| Error::corrupt("short"))?;
        chunks.push(decode_chunk(&opened.head, number, bytes)?);
        start = end;
    }
    Ok((Head { chunks: Vec::new(), ..opened.head }, chunks))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its fixture")]
fn the_fixture_is_what_this_version_writes() {
    let (head, chunks) = sample();
    let bytes = encode(&head, &chunks);
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = dir.join("checkpoint-v1.bin");
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let stored = Bytes::from(std::fs::read(path).unwrap());
    assert_eq!(decode(&stored).unwrap(), (head, chunks));
    assert_eq!(stored, bytes);
}

#[test]
fn every_flip_and_truncation_is_found() {
    let (head, chunks) = sample();
    let bytes = encode(&head, &chunks);
    assert_eq!(decode(&bytes).unwrap(), (head, chunks));
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x20;
        assert!(decode(&bad.into()).is_err(), "byte {at}");
    }
    for len in 0..bytes.len() {
        assert!(decode(&bytes.slice(..len)).is_err(), "cut at {len}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let (head, chunks) = sample();
    let opened = open(encode(&head, &chunks)).unwrap();
    let len = usize::try_from(opened.head_len).unwrap();
    let mut bytes = opened.first.to_vec();
    bytes[4] = 3;
    let hash = blake3::hash(&bytes[..len - 32]);
    bytes[len - 32..len].copy_from_slice(hash.as_bytes());
    assert_eq!(open(bytes.into()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn contradictions_are_refused() {
    let (head, chunks) = sample();
    let refuse = |head: &Head, chunks: &[Vec<Frame>]| {
        assert_eq!(decode(&encode(head, chunks)).unwrap_err().kind(), ErrorKind::Corrupt);
    };
    let [a, b] = [segment(1, 5), segment(1, 5)];
    refuse(&Head { segments: vec![a, b], ..head.clone() }, &chunks);
    refuse(&Head { anchor: Lsn(9), ..head.clone() }, &chunks);
    refuse(&Head { lsn: Lsn(0), ..head.clone() }, &chunks);
    refuse(&Head { page_count: PageCount(1_024), ..head.clone() }, &chunks);
    refuse(&Head { segments: vec![segment(1, 5)], ..head.clone() }, &chunks);
    let with = |frames: Vec<Frame>| vec![frames, chunks[1].clone()];
    refuse(&head, &with(vec![frame(0, 1, &[])]));
    refuse(&head, &with(vec![frame(0, 1, &[(1, 10)])]));
    refuse(&head, &with(vec![frame(0, 1, &[(1, 7)]), frame(0, 1, &[(1, 7)])]));
    refuse(&head, &with(vec![frame(0, 8, &[(8, 7)]), frame(0, 1, &[(1, 7)])]));
    refuse(&head, &with(vec![Frame { offset: 1 << 24, ..frame(0, 1, &[(1, 7)]) }]));
    refuse(&head, &with(vec![Frame { len: 8 * 512 + 2, ..frame(0, 1, &[(1, 7)]) }]));
}

proptest! {
    #[test]
    fn any_bytes_are_a_checkpoint_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let good = encode(&sample().0, &sample().1);
        prop_assert!(decode(&bytes.clone().into()).is_err());
        let spliced = [&good[..9], &bytes[..]].concat();
        prop_assert!(decode(&spliced.into()).is_err());
    }

    #[test]
    fn chunks_round_trip(
        live in prop::collection::btree_map(0..128u32, prop::collection::btree_set(0..8u32, 1..8), 0..40),
        lsns in prop::collection::vec(1..10u64, 8),
    ) {
        let (head, mut chunks) = sample();
        chunks[0] = live.into_iter().map(|(nth, which)| {
            let first = nth * 8 + 1;
            let live: Vec<_> = which.into_iter().map(|n| (first + n, lsns[n as usize])).collect();
            frame(0, first, &live)
        }).collect();
        // Frames far into the segment.
        let head = Head { segments: vec![SegmentRef { bytes: 1 << 40, ..segment(1, 9) }, head.segments[1]], ..head };
        prop_assert_eq!(decode(&encode(&head, &chunks)).unwrap(), (head, chunks));
    }
}

/// Randomness that nobody else has had, or two checkpoints would name their segments alike.
fn env() -> ManualEnv {
    static SEED: AtomicU64 = AtomicU64::new(0);
    ManualEnv::new(SEED.fetch_add(1, Ordering::SeqCst))
}

#[test]
fn a_cold_reader_needs_nothing_from_before_a_checkpoint() {
    let mut log = Log::new();
    log.write(20, &(1..=20).collect::<Vec<_>>(), true);
    for number in 1..=9 {
        log.write(20, &[number], false);
    }
    assert!(log.remote.checkpoint(&env(), Lsn(10)).unwrap() > 0);
    assert_eq!(log.remote.checkpoint(&env(), Lsn(10)).unwrap(), 0);
    assert_eq!(log.reader().head().unwrap(), log.head);
    log.write(22, &[3, 22], false);
    for lsn in 1..=10 {
        log.objects.delete(&log_key(volume(), Lsn(lsn))).unwrap();
    }
    let reader = log.reader();
    assert_eq!(reader.head().unwrap(), log.head);
    let all: Vec<u32> = (1..=22).collect();
    log.check_fetch(&reader, &[want(11, &all), want(10, &all[..20])]);
    log.check_fetch(&log.reader(), &[want(11, &[5])]);
    log.check_fetch(&log.reader(), &[want(10, &[20])]);
}

#[test]
fn what_was_cut_off_stays_zeros_through_a_checkpoint() {
    let mut log = Log::new();
    log.write(9, &(1..=9).collect::<Vec<_>>(), true);
    log.write(3, &[1], false);
    log.remote.checkpoint(&env(), Lsn(2)).unwrap();
    log.write(9, &[9], false);
    log.remote.checkpoint(&env(), Lsn(3)).unwrap();
    log.write(2, &[1], false);
    log.write(9, &[8], false);
    let all: Vec<u32> = (1..=9).collect();
    let reader = log.reader();
    log.check_fetch(&reader, &[want(5, &all), want(3, &all), want(2, &all[..3]), want(1, &all)]);
    let beyond = reader.fetch(&[want(2, &[4])]).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Invalid);
}

#[test]
fn a_segment_is_referred_to_exactly_if_seventy_percent_of_it_are_alive() {
    for (dead, refers) in [(0, true), (30, true), (31, false), (100, false)] {
        let mut log = Log::new();
        let all: Vec<u32> = (1..=100).collect();
        log.write(100, &all, true);
        log.write(100, &all[..dead], false);
        log.remote.checkpoint(&env(), Lsn(2)).unwrap();
        let opened = log.reader().open_checkpoint(Lsn(2)).unwrap();
        let first = SegmentId::from_bytes([1; 16]);
        let named = opened.head.segments.iter().any(|one| one.id == first);
        assert_eq!(named, refers, "{dead} of 100 dead");
        let pages: u64 = opened.head.segments.iter().map(|one| u64::from(one.pages)).sum();
        assert_eq!(pages, if refers { 100 + dead as u64 } else { 100 });
        log.check_fetch(&log.reader(), &[want(2, &all)]);
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_never_used() {
    let mut log = Log::new();
    log.write(9, &(1..=9).collect::<Vec<_>>(), true);
    log.write(9, &[2], false);
    log.remote.checkpoint(&env(), Lsn(2)).unwrap();
    let key = checkpoint_key(volume(), Lsn(2));
    let good = log.objects.get(&key).unwrap();
    for at in (0..good.len()).step_by(7).chain(0..400) {
        log.damage(&key, |bytes| bytes[at] ^= 0x10);
        check_error(log.reader().fetch(&[want(2, &[2, 9])]), ErrorKind::Corrupt, &key);
        log.objects.put(&key, good.clone()).unwrap();
    }
    log.damage(&key, |bytes| bytes.truncate(100));
    check_error(log.reader().head(), ErrorKind::Corrupt, &key);
    let moved = checkpoint_key(volume(), Lsn(1));
    log.objects.put(&moved, good.clone()).unwrap();
    check_error(log.reader().fetch(&[want(1, &[2])]), ErrorKind::Corrupt, &moved);
    log.objects.delete(&moved).unwrap();
    log.objects.put(&key, good).unwrap();
    let opened = log.reader().open_checkpoint(Lsn(2)).unwrap();
    let segment = segment_key(volume(), opened.head.segments[0].id);
    log.damage(&segment, |bytes| bytes[1] ^= 1);
    let all: Vec<u32> = (1..=9).collect();
    check_error(log.reader().fetch(&[want(2, &all)]), ErrorKind::Corrupt, &segment);
}

#[test]
fn bytes_behind_the_end_are_damage() {
    let mut log = Log::new();
    log.write(9, &(1..=9).collect::<Vec<_>>(), true);
    log.remote.checkpoint(&env(), Lsn(1)).unwrap();
    let good = log.objects.get(&checkpoint_key(volume(), Lsn(1))).unwrap();
    Opened::decode_all(&good).unwrap();
    let long = [&good[..], &[0]].concat();
    assert_eq!(Opened::decode_all(&long.into()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn two_frames_at_one_place_are_damage() {
    let mut log = Log::new();
    let all: Vec<u32> = (1..=16).collect();
    log.write(16, &all, true);
    log.remote.checkpoint(&env(), Lsn(1)).unwrap();
    let key = checkpoint_key(volume(), Lsn(1));
    let (head, mut chunks) = decode(&log.objects.get(&key).unwrap()).unwrap();
    // Both frames are whole by their hashes, which anybody who may write can compute.
    let segment = segment_key(volume(), head.segments[0].id);
    let bytes = log.objects.get(&segment).unwrap();
    let [first, second] = chunks[0].as_mut_slice() else { panic!("eight pages a frame") };
    let bytes = &bytes[..first.len as usize];
    (second.offset, second.len) = (first.offset, first.len);
    second.hash = frame_hash(volume(), &second.members, bytes);
    log.objects.put(&key, encode(&head, &chunks)).unwrap();
    check_error(log.reader().fetch(&[want(1, &all)]), ErrorKind::Corrupt, &segment);
}

#[test]
fn a_checkpoint_that_the_log_does_not_follow_is_damage() {
    let (mut log, mut other) = (Log::new(), Log::new());
    log.write(2, &[1, 2], false);
    other.write(2, &[1], false);
    other.remote.checkpoint(&env(), Lsn(1)).unwrap();
    log.write(2, &[1], false);
    for key in other.objects.list("volumes/", None).unwrap() {
        if !key.contains("/log/") {
            log.objects.put(&key, other.objects.get(&key).unwrap()).unwrap();
        }
    }
    check_error(log.reader().fetch(&[want(2, &[2])]), ErrorKind::Corrupt, "00002");
}

#[test]
fn what_changed_since_a_position_is_known_from_the_newest_checkpoint() {
    let mut log = Log::new();
    log.write(2_000, &(1..=1_990).collect::<Vec<_>>(), true);
    log.write(2_000, &[7, 1_500], false);
    log.write(2_000, &[8], false);
    assert!(log.reader().changed_since_checkpoint(Lsn(1)).unwrap().is_none());
    log.remote.checkpoint(&env(), Lsn(3)).unwrap();
    let unwritten: Vec<u32> = (1_991..=2_000).collect();
    for (after, changed) in [(1, vec![7, 8, 1_500]), (2, vec![8])] {
        let (head, pages) = log.reader().changed_since_checkpoint(Lsn(after)).unwrap().unwrap();
        assert_eq!(head, log.head);
        assert_eq!(pages, set(&[changed, unwritten.clone()].concat()));
    }
    let (_, all) = log.reader().changed_since_checkpoint(Lsn::ZERO).unwrap().unwrap();
    assert_eq!(all.len(), 2_000);
    assert!(log.reader().changed_since_checkpoint(Lsn(3)).unwrap().is_none());
    // Rewritten pages keep the position at which they last changed.
    log.write(2_000, &(1..=900).collect::<Vec<_>>(), true);
    log.remote.checkpoint(&env(), Lsn(4)).unwrap();
    let (_, pages) = log.reader().changed_since_checkpoint(Lsn(1)).unwrap().unwrap();
    let changed = (1..=900).chain([1_500]).chain(unwritten).collect::<Vec<_>>();
    assert_eq!(pages, set(&changed));
}

/// A store that answers the next read of a checkpoint with one bit flipped behind the directory,
/// and loses every answer to the creation of one.
#[derive(Debug)]
struct Spoilt {
    inner: Arc<dyn Objects>,
    spoils: AtomicBool,
}

impl Spoilt {
    fn over(log: &Log) -> BucketRemote {
        let spoilt = Self { inner: Arc::clone(&log.objects), spoils: AtomicBool::new(true) };
        BucketRemote::new(Arc::new(spoilt), volume(), SIZE)
    }

    fn pass(&self, key: &str, bytes: Bytes) -> Bytes {
        if !key.contains("/checkpoints/") || !self.spoils.swap(false, Ordering::SeqCst) {
            return bytes;
        }
        let mut bytes = bytes.to_vec();
        let chunk = head_len(&bytes).unwrap();
        bytes[chunk] ^= 1;
        bytes.into()
    }
}

impl Objects for Spoilt {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.inner.get(key).map(|bytes| self.pass(key, bytes))
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        let answers = wants.iter().zip(self.inner.get_ranges(wants));
        answers.map(|((key, _), answer)| answer.map(|bytes| self.pass(key, bytes))).collect()
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.inner.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.inner.create(key, bytes)?;
        Err(ObjectsError::Ambiguous { key: key.to_owned(), cause: "connection lost".to_owned() })
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.inner.delete(key)
    }
}

/// What came along with the directory was not looked at when the directory was.
#[test]
fn a_chunk_that_came_damaged_with_the_directory_is_read_again() {
    let mut log = Log::new();
    log.write(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9], true);
    log.remote.checkpoint(&env(), Lsn(1)).unwrap();
    log.check_fetch(&Spoilt::over(&log), &[want(1, &[1, 9])]);
}

/// A create of unknown outcome is looked at again, and that answer may be damaged. Whoever took it
/// for somebody else's checkpoint deleted the segments of its own.
#[test]
fn a_damaged_look_at_an_own_checkpoint_deletes_nothing() {
    let mut log = Log::new();
    log.write(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9], false);
    Spoilt::over(&log).checkpoint(&env(), Lsn(1)).ok();
    assert!(log.objects.get(&checkpoint_key(volume(), Lsn(1))).is_ok());
    log.objects.delete(&log_key(volume(), Lsn(1))).unwrap();
    log.check_fetch(&log.reader(), &[want(1, &[1, 9])]);
}
