//! The lead: its format, what is chosen for it, what it saves, and that it cannot lie unnoticed.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::bucket::BucketRemote;
use crate::bucket::checkpoint::codec::assemble;
use crate::bucket::checkpoint::{Opened, SegmentRef};
use crate::bucket::keys::{checkpoint_key, latest_key};
use crate::bucket::tests::{Log, SIZE, check_error, content, idx, set, volume, want};
use crate::limits::CHECKPOINT_FIRST_BYTES;
use crate::{
    CommitHash, Lsn, ManualEnv, Meter, Objects, Remote as _, Retention, SegmentId, verify_log,
};

fn frame(first: u32, lsn: u64) -> Frame {
    let members: Vec<PageIdx> = (first..first + 8).map(idx).collect();
    let live = members.iter().map(|idx| (*idx, Lsn(lsn))).collect();
    Frame { segment: 0, offset: 4_000 * u64::from(first), len: 4_000, hash: [9; 16], members, live }
}

fn sample() -> (Head, Lead, Vec<Frame>) {
    let segment = SegmentId::from_bytes([1; 16]);
    let head = Head {
        volume: volume(),
        lsn: Lsn(9),
        hash: CommitHash([5; 32]),
        time_ms: 1_700_000_000_000,
        page_size: SIZE,
        page_count: PageCount(1_000),
        anchor: Lsn(3),
        segments: vec![SegmentRef { volume: volume(), id: segment, pages: 32, bytes: 1 << 24 }],
        lead: None,
        chunks: Vec::new(),
    };
    let frames = vec![frame(1, 7), frame(17, 9), frame(801, 2)];
    let page = |number| (idx(number), content(7, number));
    let lead = Lead { pages: [page(1), page(5)].into(), frames: frames[1..].to_vec() };
    (head, lead, frames)
}

fn named(bytes: &[u8]) -> ChunkRef {
    ChunkRef { len: u32::try_from(bytes.len()).unwrap(), hash: short_hash(bytes) }
}

fn object(head: &Head, lead: &[u8], frames: &[Frame]) -> Bytes {
    let chunk = encode_chunk(frames);
    let head = Head { lead: Some(named(lead)), chunks: vec![named(&chunk)], ..head.clone() };
    assemble(&head, lead, &[chunk]).unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its fixture")]
fn the_fixture_is_read_as_it_was_meant() {
    let (head, lead, frames) = sample();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint-v2.bin");
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        std::fs::write(&path, object(&head, &lead.encode().unwrap(), &frames)).unwrap();
    }
    let stored = Bytes::from(std::fs::read(path).unwrap());
    let (opened, found) = Opened::decode_all(&stored).unwrap();
    assert_eq!((opened.lead(), &found), (Some(&lead), &frames));
    assert_eq!(Head { lead: None, chunks: Vec::new(), ..opened.head.clone() }, head);
    // Compressed bytes are kept, not made again: another compressor may make others.
    assert_eq!(opened.encode_again(&found).unwrap(), stored);
}

#[test]
fn every_flip_and_truncation_is_found() {
    let (head, lead, frames) = sample();
    let good = object(&head, &lead.encode().unwrap(), &frames);
    Opened::decode_all(&good).unwrap();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x20;
        let error = Opened::decode_all(&bad.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
        assert!(Opened::decode_all(&good.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn contradictions_are_refused() {
    let (head, lead, frames) = sample();
    let refuse = |lead: &[u8]| {
        let error = Opened::decode_all(&object(&head, lead, &frames)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    };
    let refuse_lead = |lead: Lead| refuse(&lead.encode().unwrap());
    refuse_lead(Lead::default());
    refuse_lead(Lead { pages: [(idx(1_001), content(7, 1))].into(), ..lead.clone() });
    refuse_lead(Lead { pages: [(idx(1), Page::from(vec![0; 511]))].into(), ..lead.clone() });
    refuse_lead(Lead { frames: vec![frame(997, 7)], ..lead.clone() });
    refuse_lead(Lead { frames: vec![frame(17, 10)], ..lead.clone() });
    refuse_lead(Lead { frames: vec![Frame { segment: 1, ..frame(17, 9) }], ..lead.clone() });
    refuse_lead(Lead { frames: vec![frame(801, 2), frame(17, 9)], ..lead.clone() });
    let many = (1..=33).map(|number| (idx(number), content(7, number))).collect();
    refuse_lead(Lead { pages: many, ..lead.clone() });
    let good = lead.encode().unwrap();
    refuse(&[&good[..], &[0]].concat());
    refuse(&[&[0xff; 4][..], &good[4..]].concat());
    refuse(&good[..3]);
    refuse(&[0; 64 * 1_024 + 1]);
}

/// Page 1 leads to 300 to 302 and to the first of these, and that to more than fit.
fn leads(at: PageIdx, kind: u8, _: &[u8]) -> Vec<(Vec<PageIdx>, u8)> {
    match (at.get(), kind) {
        (1, 0) => vec![((300..=302).map(idx).collect(), 1)],
        (300, 1) => vec![((3_001..=3_040).map(idx).collect(), 1)],
        _ => Vec::new(),
    }
}

const COUNT: u32 = 5_000;

/// Many pages in one segment, and a checkpoint of them that carries a lead.
fn led(leads: Leads) -> Log {
    let mut log = Log::new();
    log.write(COUNT, &(1..=COUNT).collect::<Vec<_>>(), true);
    log.write(COUNT, &[2_000], true);
    gc(&log, leads);
    log
}

fn gc(log: &Log, leads: Leads) {
    let retention = Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
    let reader = log.reader().with_leads(leads);
    reader.gc(&ManualEnv::new(log.head.lsn.0), &retention, false, &mut |_| Ok(())).unwrap();
}

fn metered(log: &Log) -> (BucketRemote, Arc<Meter>) {
    let meter = Arc::new(Meter::over(Arc::clone(&log.objects)));
    let objects: Arc<dyn Objects> = meter.clone();
    (BucketRemote::new(objects, volume(), SIZE), meter)
}

#[test]
fn who_follows_the_hint_has_the_first_pages_and_the_way_to_the_next() {
    let log = led(leads);
    let (reader, meter) = metered(&log);
    assert_eq!(reader.head().unwrap(), log.head);
    assert_eq!(meter.take().rounds, 2);
    // All of the lead comes with the first of its pages.
    assert_eq!(log.check_fetch(&reader, &[want(2, &[1, 2, 3, 4])]), 7);
    assert_eq!(log.check_fetch(&reader, &[want(2, &[301])]), 7);
    assert_eq!(meter.take().rounds, 0);
    // The segment; then the chunk too.
    log.check_fetch(&reader, &[want(2, &[1, 3_033])]);
    assert_eq!(meter.take().rounds, 1);
    log.check_fetch(&reader, &[want(2, &[300, 3_005, 4_500])]);
    assert_eq!(meter.take().rounds, 2);
    let all: Vec<u32> = (1..=COUNT).collect();
    log.check_fetch(&reader, &[want(2, &all)]);
}

/// Simulator, seed 31: a node counts what it gets, and took this for missing pages.
#[test]
fn no_page_comes_from_the_lead_and_from_a_frame() {
    let log = led(leads);
    let reader = log.reader();
    reader.head().unwrap();
    // The frame of page 5 holds the first four as well.
    let answer = reader.fetch(&[want(2, &[1, 5])]).unwrap();
    let numbers: BTreeSet<PageIdx> = answer.iter().map(|page| page.idx).collect();
    assert_eq!(numbers.len(), answer.len());
    log.check_fetch(&reader, &[want(2, &[1, 5])]);
}

#[test]
fn what_changed_after_the_checkpoint_is_not_taken_from_its_lead() {
    let mut log = led(leads);
    log.write(COUNT, &[1, 300, 3_001], false);
    let reader = log.reader();
    assert_eq!(reader.head().unwrap(), log.head);
    let pages = [1, 2, 3, 4, 300, 301, 302, 3_001, 3_002];
    log.check_fetch(&reader, &[want(3, &pages), want(2, &pages)]);
    // A smaller state, and one that has grown again.
    log.write(2, &[2], false);
    log.write(COUNT, &[5], false);
    let reader = log.reader();
    reader.head().unwrap();
    log.check_fetch(&reader, &[want(5, &pages), want(4, &[1, 2])]);
    gc(&log, leads);
    log.check_fetch(&log.reader(), &[want(5, &pages)]);
}

#[test]
fn a_damaged_lead_costs_the_listings_unless_everybody_reads_it() {
    // The second one is longer than what everybody reads.
    let long: Leads = |at, kind, _| match (at.get(), kind) {
        (1, 0) => vec![((300..=325).map(idx).collect(), 1)],
        _ => Vec::new(),
    };
    for leads in [leads, long] {
        let log = led(leads);
        let key = checkpoint_key(volume(), Lsn(2));
        let good = log.objects.get(&key).unwrap();
        let (opened, _) = Opened::decode_all(&good).unwrap();
        let start = usize::try_from(opened.head_len).unwrap();
        let end = start + opened.head.lead.unwrap().len as usize;
        for at in (start..end).step_by(97) {
            log.damage(&key, |bytes| bytes[at] ^= 4);
            let reader = log.reader();
            if end > CHECKPOINT_FIRST_BYTES {
                assert_eq!(reader.head().unwrap(), log.head);
                log.check_fetch(&reader, &[want(2, &[1, 300, 3_001])]);
            } else {
                check_error(reader.head(), ErrorKind::Corrupt, &key);
            }
            let found = verify_log(&*log.objects, &volume().into(), SIZE, None, &mut |_, _| {});
            assert!(found.unwrap().findings.iter().any(|finding| finding.place == key));
            log.objects.put(&key, good.clone()).unwrap();
        }
    }
}

/// Its hashes are right, as anybody who may write can make them.
#[test]
fn a_lead_that_says_something_else_is_found_by_a_verification() {
    let log = led(leads);
    let key = checkpoint_key(volume(), Lsn(2));
    let good = log.objects.get(&key).unwrap();
    let (opened, frames) = Opened::decode_all(&good).unwrap();
    let truth = opened.lead().unwrap().clone();
    let mut lies = [truth.clone(), truth.clone(), truth];
    lies[1].pages.insert(idx(301), content(1, 7));
    lies[2].frames[0].hash = [0; 16];
    for (lie, findings) in lies.iter().zip([0, 1, 1]) {
        let bytes = lie.encode().unwrap();
        let head = Head { lead: Some(named(&bytes)), ..opened.head.clone() };
        let mut parts = Vec::new();
        for number in 0..u32::try_from(head.chunks.len()).unwrap() {
            let in_chunk = |frame: &&Frame| (frame.live[0].0.get() - 1) / 1_024 == number;
            let chunk: Vec<Frame> = frames.iter().filter(in_chunk).cloned().collect();
            parts.push(encode_chunk(&chunk));
        }
        log.objects.put(&key, assemble(&head, &bytes, &parts).unwrap()).unwrap();
        let found = verify_log(&*log.objects, &volume().into(), SIZE, None, &mut |_, _| {});
        let found = found.unwrap().findings;
        assert_eq!(found.len(), findings, "{found:?}");
        assert!(found.iter().all(|finding| finding.place == key));
    }
}

#[test]
fn a_log_without_leads_writes_the_first_version() {
    let mut log = Log::new();
    log.write(9, &[1, 2, 3], true);
    let retention = Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
    log.write(9, &[4], true);
    log.reader().gc(&ManualEnv::new(1), &retention, false, &mut |_| Ok(())).unwrap();
    assert_eq!(log.objects.get(&checkpoint_key(volume(), Lsn(2))).unwrap()[4], 1);
    assert!(log.objects.get(&latest_key(volume())).is_ok());
    assert_eq!(led(leads).objects.get(&checkpoint_key(volume(), Lsn(2))).unwrap()[4], 2);
}

/// Chooses among pages that do not compress; the numbers of those chosen, and of those near them.
fn chosen(leads: Leads, count: u32) -> (Vec<u32>, Vec<u32>) {
    let mut reads = 0;
    let choice = choose(leads, PageCount(count), &mut |pages| {
        reads += usize::try_from(pages.len()).unwrap();
        Ok(pages.iter().map(|idx| (idx, content(1, idx.get()))).collect())
    });
    let Choice { pages, near } = choice.unwrap();
    assert!(reads <= LEAD_READS_MAX && pages.len() <= LEAD_PAGES_MAX);
    assert!(near.len() <= LEAD_FRAMES_MAX);
    let numbers = |idx: &PageIdx| idx.get();
    (pages.keys().map(numbers).collect(), near.iter().map(numbers).collect())
}

#[test]
fn groups_are_taken_from_above_while_they_fit() {
    assert_eq!(chosen(|_, _, _| Vec::new(), 9), (vec![1, 2, 3, 4], vec![]));
    assert_eq!(chosen(|_, _, _| Vec::new(), 2), (vec![1, 2], vec![]));
    assert_eq!(
        chosen(leads, 3_020),
        ([1, 2, 3, 4].into_iter().chain(300..=302).chain(3_001..=3_020).collect(), vec![],)
    );
    let near = (3_001..=3_040).collect();
    assert_eq!(chosen(leads, 5_000), (vec![1, 2, 3, 4, 300, 301, 302], near));
    // What is told of a page that came along unasked counts as well.
    let behind: Leads = |at, kind, _| match (at.get(), kind) {
        (1, 0) => vec![(vec![idx(3)], 1)],
        (3, 1) => vec![(vec![idx(70)], 2)],
        _ => Vec::new(),
    };
    assert_eq!(chosen(behind, 80), (vec![1, 2, 3, 4, 70], vec![]));
}

#[test]
fn whatever_is_said_of_pages_the_choice_is_bounded() {
    let circle: Leads = |at, kind, _| vec![(vec![at, PageIdx::FIRST], kind), (vec![at], 9)];
    assert_eq!(chosen(circle, 9).0, [1, 2, 3, 4]);
    let wide: Leads = |_, _, _| vec![((1..=100_000).map(idx).collect(), 0)];
    assert_eq!(chosen(wide, 90_000), (vec![1, 2, 3, 4], vec![]));
    let deep: Leads = |at, _, _| (1..9).map(|n| (vec![idx(at.get() * 8 + n)], 0)).collect();
    let (pages, near) = chosen(deep, 1_000_000);
    assert_eq!(pages.len(), LEAD_PAGES_MAX);
    assert!(near.iter().all(|number| !pages.contains(number)));
    assert!(set(&near).len() > 100);
}
