//! The newest commits of one log, encoded, in memory.
//!
//! Invariant: the kept commits follow each other without a gap and end at the known head; count
//! and bytes are bounded. Knows nothing of the store: whoever learns of a commit records it.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use sheaf_volume::{Commit, CommitDelta, Lsn, RemoteHead};

use crate::limits::{COMMIT_CACHE_BYTES, COMMIT_CACHE_MAX};

/// The head of a log as last known, and the commits that led to it.
#[derive(Debug)]
pub(crate) struct Recent {
    head: RemoteHead,
    checked: Duration,
    commits: VecDeque<Kept>,
    bytes: usize,
}

/// One commit.
#[derive(Debug)]
struct Kept {
    object: Bytes,
    /// Its delta form, where that was made and is smaller.
    delta: Option<Bytes>,
}

impl Kept {
    fn len(&self) -> usize {
        self.object.len() + self.delta.as_ref().map_or(0, Bytes::len)
    }
}

impl Recent {
    /// Knows a head and no commit.
    pub(crate) const fn new(head: RemoteHead, checked: Duration) -> Self {
        Self { head, checked, commits: VecDeque::new(), bytes: 0 }
    }

    /// The newest state known.
    pub(crate) const fn head(&self) -> RemoteHead {
        self.head
    }

    /// Whether the log was asked for anything newer within this time.
    pub(crate) fn is_fresh(&self, now: Duration, within: Duration) -> bool {
        now.saturating_sub(self.checked) < within
    }

    /// The log was just seen to end at the known head.
    pub(crate) const fn mark_checked(&mut self, now: Duration) {
        self.checked = now;
    }

    /// Goes on from a newer head, with no commit before it.
    pub(crate) fn restart(&mut self, head: RemoteHead) {
        if head.lsn > self.head.lsn {
            *self = Self::new(head, self.checked);
        }
    }

    /// Takes the commit that follows the head; false (and nothing happens) for any other.
    pub(crate) fn record(&mut self, commit: &Commit, delta: Option<&CommitDelta>) -> bool {
        if commit.lsn != self.head.lsn.next() {
            return false;
        }
        let object = commit.encode();
        self.head = RemoteHead {
            lsn: commit.lsn,
            hash: commit.hash(),
            page_count: commit.page_count,
            page_size: commit.page_size,
            time_ms: commit.time_ms,
        };
        // Whoever gets the commit whole fetches the pages that it does not carry.
        let fetched = if commit.segment.is_some() { &commit.frames[..] } else { &[] };
        let whole = object.len() + fetched.iter().map(|frame| frame.len as usize).sum::<usize>();
        let delta = delta.map(CommitDelta::encode).filter(|delta| delta.len() < whole);
        let kept = Kept { object, delta };
        self.bytes += kept.len();
        self.commits.push_back(kept);
        while self.commits.len() > COMMIT_CACHE_MAX || self.bytes > COMMIT_CACHE_BYTES {
            match self.commits.pop_front() {
                Some(kept) => self.bytes -= kept.len(),
                None => break,
            }
        }
        true
    }

    /// Every commit after a position; `None` when they do not reach back that far.
    pub(crate) fn after(&self, lsn: Lsn) -> Option<Vec<Bytes>> {
        Some(self.kept_after(lsn)?.map(|kept| kept.object.clone()).collect())
    }

    /// The same commits as deltas; `None` when not all of them have that form.
    pub(crate) fn deltas_after(&self, lsn: Lsn) -> Option<Vec<Bytes>> {
        self.kept_after(lsn)?.map(|kept| kept.delta.clone()).collect()
    }

    fn kept_after(&self, lsn: Lsn) -> Option<impl Iterator<Item = &Kept>> {
        let wanted = self.head.lsn.0.checked_sub(lsn.0)?;
        let skip = self.commits.len().checked_sub(usize::try_from(wanted).ok()?)?;
        Some(self.commits.iter().skip(skip))
    }
}

#[cfg(test)]
mod tests {
    use sheaf_volume::{CommitHash, PageCount, PageSet, PageSize, VolumeId};

    use super::*;

    fn commit(lsn: u64, payload: usize) -> Commit {
        Commit {
            volume: VolumeId::from_bytes([1; 16]),
            lsn: Lsn(lsn),
            parent: CommitHash::default(),
            epoch: 0,
            writer: [0; 16],
            nonce: [0; 16],
            time_ms: lsn,
            page_size: PageSize::DEFAULT,
            page_count: PageCount(0),
            bulk_seen: Lsn::ZERO,
            pages: PageSet::new(),
            frames: Vec::new(),
            segment: None,
            inline: Bytes::new(),
            tables: vec!["t".repeat(payload)],
            applied: Vec::new(),
        }
    }

    fn empty() -> Recent {
        let head = RemoteHead {
            lsn: Lsn(10),
            hash: CommitHash::default(),
            page_count: PageCount(0),
            page_size: PageSize::DEFAULT,
            time_ms: 0,
        };
        Recent::new(head, Duration::ZERO)
    }

    #[test]
    fn commits_are_given_without_gaps_or_not_at_all() {
        let mut recent = empty();
        assert!(!recent.record(&commit(12, 1), None), "a gap");
        assert!(!recent.record(&commit(10, 1), None), "known already");
        for lsn in 11..=14 {
            assert!(recent.record(&commit(lsn, 1), None));
        }
        assert_eq!(recent.head().lsn, Lsn(14));
        assert_eq!(recent.after(Lsn(10)).unwrap().len(), 4);
        assert_eq!(recent.after(Lsn(13)).unwrap(), vec![commit(14, 1).encode()]);
        assert_eq!(recent.after(Lsn(14)).unwrap().len(), 0);
        assert_eq!(recent.after(Lsn(9)), None);
        assert_eq!(recent.after(Lsn(15)), None);
        assert_eq!(recent.head().hash, commit(14, 1).hash());
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut recent = empty();
        for lsn in 11..11 + 2 * COMMIT_CACHE_MAX as u64 {
            assert!(recent.record(&commit(lsn, 1), None));
        }
        assert_eq!(recent.commits.len(), COMMIT_CACHE_MAX);
        let sum: usize = recent.commits.iter().map(Kept::len).sum();
        assert_eq!(sum, recent.bytes);
    }
}
