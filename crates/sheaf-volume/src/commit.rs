//! A commit: one entry of a volume's log. Byte table in `docs/format.md`.
//!
//! Invariant: a commit names its parent by hash, so a log is one chain; every frame carries the
//! hash of its bytes, so a page is never used unverified. A commit knows nothing of SQLite: the
//! `tables` are opaque names for the layer above.

use std::fmt;

use bytes::Bytes;

use crate::{Lsn, PageCount, PageSet, PageSize, SegmentId, TimelineId, VolumeId};

mod check;
mod codec;
mod delta;
mod frames;
#[cfg(test)]
mod tests;

pub use delta::{CommitDelta, CommitNews, PageDelta};
pub(crate) use frames::{FrameAt, FrameIndex};

/// BLAKE3 of an encoded commit; the root of an empty log is all zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitHash(pub [u8; 32]);

impl fmt::Display for CommitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CommitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitHash({self})")
    }
}

/// One transition of a volume from the state at `lsn - 1` to the state at `lsn`.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Whose log this belongs to.
    pub volume: VolumeId,
    /// Its position.
    pub lsn: Lsn,
    /// Hash of the commit at `lsn - 1`; zeros for the first.
    pub parent: CommitHash,
    /// Generation of the leader that made it; advice, not safety.
    pub epoch: u64,
    /// The device or node that made it.
    pub writer: [u8; 16],
    /// Random per attempt: tells our own lost append from another's.
    pub nonce: [u8; 16],
    /// When it was made, milliseconds since 1970, by the writer's clock.
    pub time_ms: u64,
    /// Bytes per page, the same in every commit of a volume.
    pub page_size: PageSize,
    /// Pages in the new state.
    pub page_count: PageCount,
    /// Position of the site's bulk volume that the writer had seen.
    pub bulk_seen: Lsn,
    /// Which pages this commit changed. Frames hold them in ascending order.
    pub pages: PageSet,
    /// Where the page bytes are, in page order.
    pub frames: Vec<FrameRef>,
    /// The segment that holds the frames; `None` when they are all inline.
    pub segment: Option<SegmentId>,
    /// Concatenated frame bytes when there is no segment, else empty.
    pub inline: Bytes,
    /// Names of the tables touched, sorted.
    pub tables: Vec<String>,
    /// Whose mutations made this state, in the order they ran.
    pub applied: Vec<Applied>,
}

/// A compressed run of consecutive members of a commit's page set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef {
    /// How many pages of the set it holds.
    pub pages: u32,
    /// Its length in the segment or inline payload; frames follow each other without gaps.
    pub len: u32,
    /// First 16 bytes of the BLAKE3 hash of its (compressed) bytes, bound to the volume and the
    /// page numbers it holds.
    pub hash: [u8; 16],
}

/// What happened to a run of one timeline's mutations: the consensus log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose timeline.
    pub timeline: TimelineId,
    /// Sequence number of the first mutation of the run.
    pub first_seq: u64,
    /// Running hash of the timeline after the last mutation of the run.
    pub running_hash: [u8; 16],
    /// Verdicts in sequence order, run-length coded.
    pub runs: Vec<VerdictRun>,
    /// Why each rejected mutation was rejected, in sequence order.
    pub rejects: Vec<Reject>,
}

impl Applied {
    /// Sequence number after the last mutation of the run.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.runs.iter().map(|run| u64::from(run.count)).sum::<u64>()
    }

    /// Each mutation's sequence number and verdict.
    pub fn verdicts(&self) -> impl Iterator<Item = (u64, Verdict)> + '_ {
        let each = self.runs.iter().flat_map(|run| (0..run.count).map(|_| run.verdict));
        (self.first_seq..).zip(each)
    }
}

/// Consecutive mutations with the same verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictRun {
    /// The verdict.
    pub verdict: Verdict,
    /// How many mutations.
    pub count: u32,
}

/// What the log decided about one mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Applied as it was.
    Ok,
    /// Applied after a merge with concurrent changes.
    Merged,
    /// Recorded and skipped; it changed nothing.
    Rejected,
}

/// Why a mutation was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its sequence number.
    pub seq: u64,
    /// The reason, for its author.
    pub reason: String,
}
