//! The commit format: round trips, every damage found, every contradiction refused.

use proptest::prelude::*;

use super::*;
use crate::frame::build_frames;
use crate::{ErrorKind, Page, PageIdx};

mod delta;

const SIZE: PageSize = match PageSize::new(512) {
    Some(size) => size,
    None => panic!("512 is a page size"),
};

/// A page that does not compress: its frames hold on whatever the compressor learns.
fn noise(number: u32) -> Page {
    let mut bytes = vec![0; SIZE.bytes()];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u64::from(number).to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    Page::from(bytes)
}

/// A page of which half compresses.
fn page(number: u32) -> Page {
    Page::from([&noise(number)[..256], &[0; 256]].concat())
}

fn with_pages(numbers: impl IntoIterator<Item = u32>, in_segment: bool) -> Commit {
    with(numbers, in_segment, page)
}

fn with(
    numbers: impl IntoIterator<Item = u32>,
    in_segment: bool,
    content: fn(u32) -> Page,
) -> Commit {
    let volume = VolumeId::from_bytes([2; 16]);
    let pages: PageSet = numbers.into_iter().filter_map(PageIdx::new).collect();
    let held = pages.iter().map(|idx| (idx, content(idx.get())));
    let (frames, bytes) = build_frames(volume, SIZE, held).unwrap();
    let in_segment = !frames.is_empty() && (in_segment || bytes.len() > 60_000);
    Commit {
        volume,
        lsn: Lsn(41),
        parent: CommitHash([5; 32]),
        epoch: 3,
        writer: [6; 16],
        nonce: [7; 16],
        time_ms: 1_700_000_000_123,
        page_size: SIZE,
        page_count: PageCount(pages.last().map_or(0, PageIdx::get)),
        bulk_seen: Lsn(9),
        pages,
        frames,
        segment: in_segment.then_some(SegmentId::from_bytes([8; 16])),
        inline: if in_segment { Bytes::new() } else { bytes.into() },
        tables: vec!["comments".to_owned(), "tasks".to_owned()],
        applied: vec![applied()],
    }
}

fn applied() -> Applied {
    let run = |verdict, count| VerdictRun { verdict, count };
    let reject = |seq, reason: &str| Reject { seq, reason: reason.to_owned() };
    Applied {
        timeline: TimelineId::from_bytes([10; 16]),
        first_seq: 300,
        running_hash: [11; 16],
        runs: vec![
            run(Verdict::Ok, 2),
            run(Verdict::Rejected, 2),
            run(Verdict::Merged, 1),
            run(Verdict::Rejected, 1),
        ],
        rejects: vec![reject(302, "no such task"), reject(303, ""), reject(305, "closed")],
    }
}

/// One of every shape the format knows.
fn fixtures() -> [(&'static str, Commit); 3] {
    let mut first = with([1], false, noise);
    first.lsn = Lsn(1);
    first.parent = CommitHash::default();
    first.applied.clear();
    first.tables.clear();
    let mut empty = with([], false, noise);
    empty.page_count = PageCount(77);
    let large = with((1..40).chain(70_000..70_010), true, noise);
    [("commit-v1.bin", first), ("commit-v1-empty.bin", empty), ("commit-v1-segment.bin", large)]
}

#[test]
fn released_versions_decode_to_what_they_were_made_of() {
    for (name, commit) in fixtures() {
        let bytes = fixture(name, &commit);
        assert_eq!(Commit::decode(bytes.clone()).unwrap(), commit, "{name}");
        assert_eq!(commit.encode(), bytes, "{name}: the writer has changed");
    }
}

#[test]
fn released_frames_unpack_to_what_they_were_made_of() {
    // A newer compressor may pack otherwise, so only reading is compared.
    let bytes = fixture("commit-v1-zstd.bin", &with_pages(5..25, false));
    let pages = Commit::decode(bytes).unwrap().inline_pages().unwrap();
    let expected: Vec<_> = (5..25).map(|n| (PageIdx::new(n).unwrap(), page(n))).collect();
    assert_eq!(pages, expected);
}

fn fixture(name: &str, made_of: &Commit) -> Bytes {
    bytes_of_fixture(name, &made_of.encode())
}

fn bytes_of_fixture(name: &str, made_of: &[u8]) -> Bytes {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        write_fixture(&path, made_of);
    }
    read_fixture(&path).into()
}

#[expect(clippy::disallowed_methods, reason = "a test reads its fixture")]
fn read_fixture(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "only on demand, and never over a released one")]
fn write_fixture(path: &std::path::Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_small_commit_costs_little_beyond_its_page() {
    let mut commit = with_pages([3], false);
    let applied = commit.applied.split_off(0);
    commit.tables.clear();
    let overhead = commit.encode().len() - commit.inline.len();
    assert!(overhead <= 160, "{overhead} bytes beyond the page");
    let run = VerdictRun { verdict: Verdict::Ok, count: 1 };
    let applied = Applied { runs: vec![run], rejects: Vec::new(), ..applied[0].clone() };
    commit.applied.push(applied);
    commit.tables.push("tasks".to_owned());
    let overhead = commit.encode().len() - commit.inline.len();
    assert!(overhead <= 200, "{overhead} bytes beyond the page, with one mutation on one table");
}

#[test]
fn every_flipped_byte_is_found() {
    for (name, commit) in fixtures() {
        let good = commit.encode();
        for at in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.to_vec();
                bad[at] ^= flip;
                let error = Commit::decode(bad.into()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} byte {at}: {error}");
            }
        }
    }
}

#[test]
fn every_truncation_and_extension_is_found() {
    for (name, commit) in fixtures() {
        let good = commit.encode();
        for len in 0..good.len() {
            let error = Commit::decode(good.slice(..len)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} cut at {len}");
        }
        let long = [&good[..], &[0]].concat();
        assert_eq!(Commit::decode(long.into()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

/// Bytes with a right trailer: what a hostile or broken writer can make.
fn sealed(body: &[u8]) -> Bytes {
    [body, blake3::hash(body).as_bytes()].concat().into()
}

fn body_of(commit: &Commit) -> Vec<u8> {
    let bytes = commit.encode();
    bytes[..bytes.len() - 32].to_vec()
}

#[test]
fn a_newer_version_says_so() {
    for (at, value) in [(4, 2), (4, 0), (5, 0x02), (5, 0x41)] {
        let mut body = body_of(&with_pages([1], false));
        body[at] = value;
        let error = Commit::decode(sealed(&body)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("made by a newer version of Sheaf; upgrade"), "{error}");
    }
}

#[test]
fn bytes_behind_the_last_field_are_refused() {
    let mut body = body_of(&with_pages([1], false));
    body.push(0);
    assert_eq!(Commit::decode(sealed(&body)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn one_commit_has_one_byte_form() {
    let commit = with_pages([1], false);
    let mut body = body_of(&commit);
    // The position, right behind the volume, with a needless second byte.
    assert_eq!(body[22], 41);
    body.splice(22..23, [41 | 0x80, 0]);
    assert_eq!(Commit::decode(sealed(&body)).unwrap_err().kind(), ErrorKind::Corrupt);
    // A set that came about as a range has the hash of one put together page by page.
    let ranged = Commit {
        pages: PageSet::range(PageIdx::FIRST, PageIdx::new(30).unwrap()),
        ..with_pages(1..=30, true)
    };
    assert_eq!(ranged.hash(), with_pages(1..=30, true).hash());
}

#[test]
fn contradictions_are_refused() {
    let check = |why: &str, change: fn(&mut Commit)| {
        for mut commit in [with_pages([4, 5, 6], false), with_pages([4, 5, 6], true)] {
            commit.check().unwrap();
            change(&mut commit);
            let error = commit.check().expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{why}");
            // What can be written at all must not be read either, whatever its trailer says.
            assert!(Commit::decode(commit.encode()).map_or(true, |read| read != commit), "{why}");
        }
    };
    check("position zero", |c| c.lsn = Lsn::ZERO);
    check("position out of range", |c| c.lsn = Lsn(u64::MAX));
    check("first with a parent", |c| c.lsn = Lsn(1));
    check("page beyond the end", |c| c.page_count = PageCount(5));
    check("page without a frame", |c| _ = c.pages.insert(PageIdx::FIRST));
    check("frame without its page", |c| _ = c.pages.remove(PageIdx::new(5).unwrap()));
    check("no frames", |c| c.frames.clear());
    check("empty frame", |c| c.frames.push(FrameRef { pages: 0, len: 2, hash: [0; 16] }));
    check("huge frame", |c| c.frames[0].len = u32::MAX);
    check("empty frame bytes", |c| c.frames[0].len = 0);
    check("many pages", |c| c.frames[0].pages = u32::MAX);
    check("tables not sorted", |c| c.tables.reverse());
    check("table twice", |c| c.tables.push("tasks".to_owned()));
    check("long table name", |c| c.tables.push("z".repeat(5_000)));
    check("nothing applied", |c| c.applied[0].runs.clear());
    check("empty run", |c| c.applied[0].runs[0].count = 0);
    check("reject missing", |c| drop(c.applied[0].rejects.pop()));
    check("reject of an applied one", |c| c.applied[0].rejects[0].seq = 300);
    check("reject out of its run", |c| c.applied[0].rejects[2].seq = 306);
    check("sequence overflows", |c| c.applied[0].first_seq = u64::MAX - 2);
    check("too many mutations", |c| c.applied[0].runs[0].count = u32::MAX);
    check("inline and segment", |c| {
        c.inline = Bytes::from_static(b"x");
        c.segment = Some(SegmentId::from_bytes([1; 16]));
    });
}

#[test]
fn inline_pages_come_back_and_a_segment_has_none() {
    let commit = with_pages(1..=20, false);
    let pages = commit.inline_pages().unwrap();
    assert_eq!(pages.len(), 20);
    assert!(pages.iter().all(|(idx, content)| *content == page(idx.get())));
    assert_eq!(with_pages(1..=20, true).inline_pages().unwrap(), []);
    let mut bad = commit;
    bad.frames[2].hash[0] ^= 1;
    assert_eq!(bad.inline_pages().unwrap_err().kind(), ErrorKind::Corrupt);
    bad.frames[1].len = 5_000_000;
    assert_eq!(bad.inline_pages().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn every_page_finds_its_frame() {
    let numbers: Vec<u32> = (1..=30).map(|n| n * 3).collect();
    let commit = with_pages(numbers.clone(), false);
    let content = commit.inline_pages().unwrap();
    let index = FrameIndex::new(&commit);
    for (rank, &number) in numbers.iter().enumerate() {
        let at = index.frame_of(&commit, PageIdx::new(number).unwrap()).unwrap();
        assert_eq!(at.index, rank / 8);
        assert_eq!(at.members[rank % 8].get(), number);
        let range =
            usize::try_from(at.range.start).unwrap()..usize::try_from(at.range.end).unwrap();
        let frame = &commit.frames[at.index];
        let bytes = &commit.inline[range];
        let pages =
            crate::frame::decode_frame(commit.volume, SIZE, frame, &at.members, bytes).unwrap();
        assert_eq!(pages[rank % 8], content[rank].1);
    }
    assert_eq!(index.frame_of(&commit, PageIdx::FIRST), None);
    assert_eq!(index.frame_of(&commit, PageIdx::new(91).unwrap()), None);
}

fn any_applied() -> impl Strategy<Value = Applied> {
    let verdict = prop::sample::select(vec![Verdict::Ok, Verdict::Merged, Verdict::Rejected]);
    let runs = prop::collection::vec((verdict, 1..6u32), 1..6);
    (any::<[u8; 16]>(), 0..u64::MAX / 2, any::<[u8; 16]>(), runs, ".{0,12}").prop_map(
        |(timeline, first_seq, running_hash, runs, reason)| {
            let runs = runs.into_iter().map(|(verdict, count)| VerdictRun { verdict, count });
            let mut applied = Applied {
                timeline: TimelineId::from_bytes(timeline),
                first_seq,
                running_hash,
                runs: runs.collect(),
                rejects: Vec::new(),
            };
            let rejected = applied.verdicts().filter(|(_, verdict)| *verdict == Verdict::Rejected);
            applied.rejects =
                rejected.map(|(seq, _)| Reject { seq, reason: reason.clone() }).collect();
            applied
        },
    )
}

fn any_commit() -> impl Strategy<Value = Commit> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 32]>());
    let numbers = (2..1u64 << 53, any::<u64>(), any::<u64>(), any::<u64>(), 0..1000u32);
    let pages = prop::collection::btree_set(1..100_000u32, 0..60);
    let tables = prop::collection::btree_set("[a-z]{1,9}", 0..4);
    let applied = prop::collection::vec(any_applied(), 0..4);
    (ids, numbers, pages, any::<bool>(), tables, applied).prop_map(
        |(ids, numbers, pages, in_segment, tables, applied)| {
            let mut commit = with_pages(pages, in_segment);
            (commit.writer, commit.nonce, commit.parent.0) = ids;
            (commit.lsn.0, commit.epoch, commit.time_ms) = (numbers.0, numbers.1, numbers.2);
            commit.bulk_seen.0 = numbers.3;
            commit.page_count.0 += numbers.4;
            commit.tables = tables.into_iter().collect();
            commit.applied = applied;
            commit
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn round_trips(commit in any_commit()) {
        commit.check().unwrap();
        let bytes = commit.encode();
        let read = Commit::decode(bytes.clone()).unwrap();
        prop_assert_eq!(&read, &commit);
        prop_assert_eq!(read.encode(), &bytes);
        prop_assert_eq!(&commit.hash().0[..], &bytes[bytes.len() - 32..]);
        prop_assert_eq!(read.hash(), commit.hash());
    }

    #[test]
    fn any_change_under_a_right_trailer_is_another_commit_or_an_error(
        commit in any_commit(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = body_of(&commit);
        for (at, value) in changes {
            let at = at.index(body.len() - 6) + 6;
            body[at] = value;
        }
        let bytes = sealed(&body);
        if let Ok(read) = Commit::decode(bytes.clone()) {
            prop_assert_eq!(read.encode(), bytes);
            let _outcome = read.inline_pages();
        }
    }

    #[test]
    fn any_body_is_an_error_not_a_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = sealed(&[b"SHFC\x01", &tail[..]].concat());
        if let Ok(read) = Commit::decode(bytes.clone()) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
