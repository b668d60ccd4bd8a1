//! The far side of a volume: where commits come from and pages are fetched.
//!
//! Invariant: bytes returned by a [`Remote`] have been checked against their hashes. A bucket is
//! both a [`Remote`] and a [`RemoteLog`]; a node reached over the network is a [`Remote`] only,
//! because a device sends it mutations and never pages.

use std::fmt;

use bytes::Bytes;

use crate::{
    Changes, Commit, CommitHash, Lsn, Page, PageCount, PageIdx, PageSet, PageSize, Result,
    SegmentId, TimelineId,
};

/// The newest state a remote knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteHead {
    /// Position of the newest commit, zero for none.
    pub lsn: Lsn,
    /// Its hash.
    pub hash: CommitHash,
    /// Pages in that state.
    pub page_count: PageCount,
    /// Bytes per page.
    pub page_size: PageSize,
    /// When that commit was made, milliseconds since 1970.
    pub time_ms: u64,
}

/// Pages wanted as they were at a position: the newest version at or before `lsn`.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The position.
    pub lsn: Lsn,
    /// The pages.
    pub pages: PageSet,
}

/// A page as it was at the `lsn` of the [`Want`] that asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPage {
    /// Which page.
    pub idx: PageIdx,
    /// The position it was asked for at.
    pub lsn: Lsn,
    /// Its content.
    pub page: Page,
}

/// A page that the asker has as it was at an earlier position: an answer may build on it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldPage {
    /// Which page.
    pub idx: PageIdx,
    /// A position at which this is its content.
    pub lsn: Lsn,
    /// The content.
    pub page: Page,
}

/// Somebody who knows the log and can give pages.
pub trait Remote: fmt::Debug + Send + Sync {
    /// The newest state.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be reached, `Corrupt` when what it says contradicts itself.
    fn head(&self) -> Result<RemoteHead>;

    /// Commits after `after`, in order, without gaps, at most `limits::PULL_COMMITS_MAX`; empty
    /// when there are none.
    ///
    /// # Errors
    /// As [`Remote::head`]; `Expired` when the log no longer reaches back that far.
    fn pull(&self, after: Lsn) -> Result<Vec<Commit>>;

    /// What changed after `after`, merged, for a reader to whom each single commit is not worth
    /// its price; `None` when nothing did. Commits with news of `timeline` come along.
    ///
    /// # Errors
    /// As [`Remote::pull`].
    fn changes(&self, after: Lsn, timeline: TimelineId) -> Result<Option<Changes>> {
        Changes::read(self, None, after, timeline)
    }

    /// The pages of every want, or an error; never zeros or an older version instead. May return
    /// more pages than asked for.
    ///
    /// # Errors
    /// `Corrupt` when bytes fail their hash, `NotFound` or `Expired` when they are gone.
    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>>;

    /// As [`Remote::fetch`], saying what is here already: a far side that can sends deltas. What
    /// is returned are whole pages in any case.
    ///
    /// # Errors
    /// As [`Remote::fetch`].
    fn fetch_holding(&self, wants: &[Want], held: &[HeldPage]) -> Result<Vec<FetchedPage>> {
        let _ = held;
        self.fetch(wants)
    }
}

/// Outcome of a conditional append. An unknown outcome is resolved by reading back, and only
/// surfaces as an error of kind `Ambiguous` when even that is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// The commit is in the log.
    Committed,
    /// Another commit took this position; or the position was reclaimed before the writer had
    /// looked, after which nobody can tell. The newest state says which mutations it holds.
    Lost,
}

/// The bytes of a segment in the making, piece by piece; whoever takes them stops at an error.
pub type SegmentPieces<'a> = dyn Iterator<Item = Result<Bytes>> + 'a;

/// A [`Remote`] that can also be written: the log itself.
pub trait RemoteLog: Remote {
    /// Uploads a segment before the commit that names it, all of `pieces` or nothing.
    ///
    /// # Errors
    /// `Unavailable`, `Denied` or `Io`, and the error among the pieces.
    fn put_segment(&self, id: SegmentId, pieces: &mut SegmentPieces<'_>) -> Result<()>;

    /// Creates the commit's log object if its position is free.
    ///
    /// # Errors
    /// `Ambiguous` when the outcome cannot be known now; recover before trying again.
    fn append(&self, commit: &Commit) -> Result<Append>;

    /// Finds out whether a commit that was maybe appended earlier is in the log.
    ///
    /// # Errors
    /// `Unavailable` when that cannot be known now.
    fn recover(&self, lsn: Lsn, nonce: [u8; 16]) -> Result<Append>;
}
