//! Commit deltas: round trips, every damage found, bound to their volume.

use super::*;
use crate::{apply_delta, page_hash};

/// Pages 3 and 5 changed a little, page 70,000 altogether.
fn changes() -> Vec<(PageIdx, Page, Page)> {
    let change = |number: u32, after: Page| (PageIdx::new(number).unwrap(), noise(number), after);
    let edited = |number| Page::edited(&noise(number), |bytes| bytes[100..104].fill(7));
    vec![change(3, edited(3)), change(5, edited(5)), change(70_000, noise(1))]
}

fn made_of() -> (Commit, CommitDelta) {
    let commit = with_pages([3, 5, 70_000], false);
    let delta = CommitDelta::new(&commit, &changes());
    (commit, delta)
}

fn decode(bytes: &[u8]) -> crate::Result<CommitDelta> {
    CommitDelta::decode(VolumeId::from_bytes([2; 16]), &Bytes::copy_from_slice(bytes))
}

#[test]
fn a_released_delta_makes_the_pages_it_was_made_for() {
    let (commit, delta) = made_of();
    let bytes = bytes_of_fixture("commit-delta-v1.bin", &delta.encode());
    let read = decode(&bytes).unwrap();
    assert_eq!(read.encode(), bytes, "the writer has changed");
    assert_eq!((read.hash, read.parent, read.lsn), (commit.hash(), commit.parent, commit.lsn));
    assert_eq!((&read.applied, &read.tables), (&commit.applied, &commit.tables));
    assert_eq!(read.page_set(), commit.pages);
    for (page, (idx, before, after)) in read.pages.iter().zip(changes()) {
        // A newer compressor may pack otherwise, so only reading is compared.
        assert_eq!((page.idx, &apply_delta(&before, &page.delta).unwrap()), (idx, &after));
        assert_eq!(page.hash, page_hash(commit.volume, commit.lsn, idx, &after));
    }
}

#[test]
fn every_flip_cut_and_extension_of_a_delta_is_found() {
    let good = made_of().1.encode();
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = good.to_vec();
            bad[at] ^= flip;
            assert_eq!(decode(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        }
        assert_eq!(decode(&good[..at]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {at}");
    }
    assert!(decode(&[&good[..], &[0]].concat()).is_err());
    let elsewhere = CommitDelta::decode(VolumeId::from_bytes([3; 16]), &good);
    assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_delta_that_contradicts_itself_is_refused_under_a_right_hash() {
    let wrong = |change: fn(&mut CommitDelta)| {
        let mut delta = made_of().1;
        change(&mut delta);
        decode(&delta.encode()).unwrap_err().kind()
    };
    assert_eq!(wrong(|delta| delta.lsn = Lsn(0)), ErrorKind::Corrupt);
    assert_eq!(wrong(|delta| delta.lsn = Lsn(1)), ErrorKind::Corrupt);
    assert_eq!(wrong(|delta| delta.page_count = PageCount(9)), ErrorKind::Corrupt);
    assert_eq!(wrong(|delta| delta.tables.reverse()), ErrorKind::Corrupt);
    assert_eq!(wrong(|delta| delta.applied[0].rejects.clear()), ErrorKind::Corrupt);
}

#[test]
fn a_delta_costs_little_beyond_its_pages() {
    let mut commit = with_pages([3, 5], false);
    commit.tables.truncate(1);
    commit.applied[0].runs = vec![VerdictRun { verdict: Verdict::Ok, count: 1 }];
    commit.applied[0].rejects.clear();
    let delta = CommitDelta::new(&commit, &changes()[..2]);
    let pages: usize = delta.pages.iter().map(|page| page.delta.len()).sum();
    let overhead = delta.encode().len() - pages;
    assert!(overhead <= 190, "{overhead} bytes beyond two pages, one mutation and one table");
}
