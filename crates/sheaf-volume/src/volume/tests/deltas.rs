//! Followers of a log that are told deltas, and requests that say what is here.

use std::sync::Mutex;

use super::*;
use crate::{Commit, CommitDelta, CommitNews, FetchedPage, HeldPage, RemoteHead, Want, page_hash};

/// Bytes that do not compress, of which a few say which version they are.
fn noise(number: u32, version: u8) -> Page {
    let mut bytes = vec![0; PageSize::DEFAULT.bytes()];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes[50..60].fill(version);
    bytes.into()
}

/// Appends, and gives the delta that a live follower is told.
fn tell(volume: &Volume, log: &BucketRemote, write: impl Fn(&mut Draft)) -> Option<CommitDelta> {
    let mut deltas = volume.deltas();
    assert!(append(volume, log, write).unwrap());
    let commit = log.pull(Lsn(volume.base().0.0 - 1)).unwrap().remove(0);
    deltas.next(&commit).unwrap()
}

fn follow(volume: &Volume, news: impl Into<CommitNews>) {
    let draft = volume.rebase_news(volume.writer(), &[news.into()]).unwrap();
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
}

fn pulled(log: &BucketRemote, after: u64) -> Commit {
    log.pull(Lsn(after)).unwrap().remove(0)
}

#[test]
fn a_follower_of_deltas_has_the_same_pages_and_asks_for_none() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let (b, _, _) = replica(&objects, 2);
    let mut sizes = Vec::new();
    for round in 0..24_u8 {
        let write = |draft: &mut Draft| {
            match round % 8 {
                // Cut off, and grown over again with and without being written.
                3 => draft.truncate(PageCount(2)),
                5 => draft.write(idx(7), noise(7, round)),
                _ => (1..=4).for_each(|n| draft.write(idx(n), noise(n, round))),
            }
            draft.write(idx(1), noise(1, round));
        };
        let delta = tell(&a, &log, write).expect("every page is here");
        sizes.push(delta.encode().len());
        // One commit in between comes whole: the chain goes on from either.
        if round == 13 {
            follow(&b, pulled(&log, 13))
        } else {
            follow(&b, delta)
        }
        assert_eq!(b.base(), a.base());
        assert_eq!(b.head().content_hash().unwrap(), a.head().content_hash().unwrap());
    }
    assert_eq!(b.status().fetch_requests, 0);
    assert!(sizes[1] < 400 && sizes[2] < 400, "four small changes: {sizes:?}");
}

#[test]
fn several_deltas_are_taken_in_one_step() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let (b, _, _) = replica(&objects, 2);
    let news: Vec<CommitNews> = (0..5)
        .map(|round| tell(&a, &log, |draft| draft.write(idx(1), noise(1, round))).unwrap().into())
        .collect();
    let gap = b.rebase_news(b.writer(), &news[1..]).unwrap_err();
    assert_eq!(gap.kind(), ErrorKind::Corrupt, "{gap}");
    let draft = b.rebase_news(b.writer(), &news).unwrap();
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
    assert_eq!(b.head().content_hash().unwrap(), a.head().content_hash().unwrap());
    let other = CommitDelta { parent: crate::CommitHash([7; 32]), ..told(&a, &log, 9) };
    assert!(b.rebase_news(b.writer(), &[other.into()]).is_err(), "a parent that is not ours");
}

fn told(a: &Volume, log: &BucketRemote, version: u8) -> CommitDelta {
    tell(a, log, |draft| draft.write(idx(1), noise(1, version))).unwrap()
}

#[test]
fn a_page_that_cannot_be_made_is_pending_and_fetched() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let write = |draft: &mut Draft| (1..=3).for_each(|n| draft.write(idx(n), noise(n, 0)));
    tell(&a, &log, write);
    // One that has no page yet, one that is told of another version, one of a wrong hash.
    let (lazy, misled, lied) =
        (replica(&objects, 2).0, replica(&objects, 3).0, replica(&objects, 4).0);
    let adopted = lazy.adopt(lazy.writer(), ID, log.head().unwrap()).unwrap();
    drop(adopted.publish(Vec::new(), Vec::new()).unwrap());
    follow(&misled, pulled(&log, 0));
    follow(&lied, pulled(&log, 0));
    let right = told(&a, &log, 1);
    let mut of_another = right.clone();
    of_another.pages[0].delta = crate::encode_delta(&noise(1, 1), &noise(1, 2)).into();
    let mut under_another = right.clone();
    under_another.pages[0].hash[0] ^= 1;
    for (volume, delta) in [(&lazy, right), (&misled, of_another), (&lied, under_another)] {
        follow(volume, delta);
        assert!(!volume.head().is_here(idx(1)));
        assert_eq!(volume.head().page(idx(1)).unwrap(), noise(1, 1));
        assert_eq!(volume.status().fetch_requests, 1);
    }
    // Whoever lacks a page tells no delta of it either.
    let lacking = replica(&objects, 5).0;
    let adopted = lacking.adopt(lacking.writer(), ID, log.head().unwrap()).unwrap();
    drop(adopted.publish(Vec::new(), Vec::new()).unwrap());
    let mut deltas = lacking.deltas();
    let write = |draft: &mut Draft| (1..=3).for_each(|n| draft.write(idx(n), noise(n, 3)));
    assert!(tell(&a, &log, write).is_some());
    assert_eq!(deltas.next(&pulled(&log, 2)).unwrap(), None);
}

#[test]
fn pages_of_a_segment_are_told_as_deltas_by_who_has_them() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let (b, _, _) = replica(&objects, 2);
    let write = |last: u32, version| {
        move |draft: &mut Draft| (1..=last).for_each(|n| draft.write(idx(n), noise(n, version)))
    };
    assert!(append(&a, &log, write(20, 0)).unwrap());
    follow(&b, pulled(&log, 0));
    b.hydrate(&mut |_, _| {}).unwrap();
    let fetched = b.status().fetch_requests;
    let mut far = b.deltas();
    let delta = tell(&a, &log, write(20, 1)).expect("the author has the pages");
    assert!(delta.encode().len() < 20 * 60, "{}", delta.encode().len());
    assert_eq!(far.next(&pulled(&log, 1)).unwrap(), None, "nobody else has them yet");
    follow(&b, delta);
    assert_eq!(b.head().content_hash().unwrap(), a.head().content_hash().unwrap());
    assert_eq!(b.status().fetch_requests, fetched);
    let many = u32::try_from(crate::limits::DELTA_PAGES_MAX).unwrap() + 1;
    assert_eq!(tell(&a, &log, write(many, 1)), None);
}

/// A bucket that notes what a request says to be here.
#[derive(Debug)]
struct Noting(Arc<BucketRemote>, Mutex<Vec<HeldPage>>);

impl Remote for Noting {
    fn head(&self) -> Result<RemoteHead> {
        self.0.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.0.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.0.fetch(wants)
    }

    fn fetch_holding(&self, wants: &[Want], held: &[HeldPage]) -> Result<Vec<FetchedPage>> {
        self.1.lock().unwrap().extend_from_slice(held);
        self.0.fetch(wants)
    }
}

#[test]
fn a_request_says_which_older_version_is_here_and_the_other_side_finds_it() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let (b, _, _) = replica(&objects, 2);
    let noting = Arc::new(Noting(log.clone(), Mutex::default()));
    b.set_remote(Some(noting.clone()));
    // Twenty pages that do not compress are in a segment, so they are pending.
    let write = |version| {
        move |draft: &mut Draft| {
            (1..=20).for_each(|n| draft.write(idx(n), noise(n, version)));
        }
    };
    assert!(append(&a, &log, write(0)).unwrap());
    follow(&b, pulled(&log, 0));
    assert_eq!(b.head().page(idx(4)).unwrap(), noise(4, 0));
    assert_eq!(*noting.1.lock().unwrap(), [], "nothing older is here");
    assert!(append(&a, &log, write(1)).unwrap());
    follow(&b, pulled(&log, 1));
    assert!(append(&a, &log, write(2)).unwrap());
    follow(&b, pulled(&log, 2));
    assert_eq!(b.head().page(idx(4)).unwrap(), noise(4, 2));
    let held = std::mem::take(&mut *noting.1.lock().unwrap());
    // The two pages after it came along, and were held too.
    let older = |n| HeldPage { idx: idx(n), lsn: Lsn(1), page: noise(n, 0) };
    assert_eq!(held, [older(4), older(5), older(6)]);

    let hash = |lsn, version| page_hash(ID, lsn, idx(4), &noise(4, version));
    let mut recent = a.recent_pages();
    assert_eq!(recent.find(idx(4), Lsn(1), hash(Lsn(1), 0)), Some(noise(4, 0)));
    assert_eq!(recent.find(idx(4), Lsn(2), hash(Lsn(2), 1)), Some(noise(4, 1)));
    assert_eq!(recent.find(idx(4), Lsn(2), hash(Lsn(2), 0)), None, "other bytes");
    for lsn in 3..100 {
        recent.find(idx(4), Lsn(lsn), hash(Lsn(lsn), 2));
    }
    assert_eq!(recent.find(idx(4), Lsn(1), hash(Lsn(1), 0)), None, "searches are bounded");

    // A redo says the same of what its base has.
    assert!(append(&a, &log, write(3)).unwrap());
    let mut draft = b.rebase(b.writer(), &[pulled(&log, 3)]).unwrap();
    assert_eq!(draft.page(idx(4)).unwrap(), noise(4, 3));
    let held = std::mem::take(&mut *noting.1.lock().unwrap());
    assert_eq!(held, [HeldPage { idx: idx(4), lsn: Lsn(3), page: noise(4, 2) }]);
}
