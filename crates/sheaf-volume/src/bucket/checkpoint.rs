//! Checkpoints: the whole state of a volume at one position, by frame, so that nobody has to read
//! the commits before it. Byte table in `docs/format.md` 6.3.
//!
//! Invariants. A checkpoint is created once and never changes. It refers to a segment exactly if at
//! least [`limits::ALIVE_PERCENT_MIN`] percent of that segment's pages are alive in its state;
//! what lives elsewhere, also inline in the log, it has rewritten into segments of its own. Pages
//! in a segment only ever die, so a segment that one checkpoint had to rewrite is rewritten by
//! every later one too, whatever it was built upon: that is what lets a reclaimer delete such a
//! segment while other checkpoints are in the making. `anchor` names the checkpoint it was built
//! upon; a segment of the anchor that it does not refer to was rewritten.
//!
//! A lead, where there is one, copies what readers need first (see [`lead`]).
//! A directory stands in front and chunks of [`CHUNK_PAGES`] page numbers behind it, each with its
//! hash, so that a reader asks for what it needs by ranges.

use bytes::Bytes;

use crate::{CommitHash, Lsn, PageCount, PageIdx, PageSize, RemoteHead, SegmentId, VolumeId};

mod build;
mod codec;
mod lead;
mod read;
mod survey;
#[cfg(test)]
mod tests;

pub(super) use lead::Lead;

pub use lead::Leads;
pub(super) use read::Checkpoints;

/// Page numbers that one chunk covers.
pub(super) const CHUNK_PAGES: u32 = 1_024;

/// What stands in front of the chunks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) volume: VolumeId,
    /// The state.
    pub(super) lsn: Lsn,
    /// Hash of the commit that made it.
    pub(super) hash: CommitHash,
    pub(super) time_ms: u64,
    pub(super) page_size: PageSize,
    pub(super) page_count: PageCount,
    /// The checkpoint this one was built upon, zero for none.
    pub(super) anchor: Lsn,
    /// Every segment that holds a live page, none twice.
    pub(super) segments: Vec<SegmentRef>,
    /// The lead, if there is one; it stands between directory and chunks.
    pub(super) lead: Option<ChunkRef>,
    pub(super) chunks: Vec<ChunkRef>,
}

/// A segment that a checkpoint refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentRef {
    /// Below whose key it is and to whom its frames are bound: a branch refers to its parents'.
    pub(super) volume: VolumeId,
    pub(super) id: SegmentId,
    /// Pages in it, alive or not.
    pub(super) pages: u32,
    /// Its length.
    pub(super) bytes: u64,
}

/// A chunk, or the lead, as the directory names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkRef {
    pub(super) len: u32,
    /// First 16 bytes of BLAKE3 of its bytes.
    pub(super) hash: [u8; 16],
}

/// A frame with pages that are alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its segment's place in the table.
    pub(super) segment: u32,
    /// Where in the segment it begins.
    pub(super) offset: u64,
    pub(super) len: u32,
    /// As in a commit's frame table.
    pub(super) hash: [u8; 16],
    /// The pages it holds, ascending.
    pub(super) members: Vec<PageIdx>,
    /// Those of them that are alive here and belong to this chunk, with the position at which they
    /// last changed.
    pub(super) live: Vec<(PageIdx, Lsn)>,
}

impl Head {
    /// The state as a reader of the log would see it.
    pub(super) fn state(&self) -> RemoteHead {
        RemoteHead {
            lsn: self.lsn,
            hash: self.hash,
            page_count: self.page_count,
            page_size: self.page_size,
            time_ms: self.time_ms,
        }
    }
}

/// How many chunks a state of this size has.
fn chunk_count(pages: PageCount) -> usize {
    pages.0.div_ceil(CHUNK_PAGES) as usize
}

/// The chunk that covers a page.
fn chunk_of(idx: PageIdx) -> u32 {
    (idx.get() - 1) / CHUNK_PAGES
}

fn short_hash(bytes: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut hash);
    hash
}

/// A directory that has been read and checked, with where its chunks are.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) head: Head,
    /// Where each chunk ends in the object; the first begins where the lead ends.
    ends: Vec<u64>,
    /// Where the directory ends.
    head_len: u64,
    /// The lead, where it came along.
    lead: Option<Lead>,
    /// The first bytes of the object, as they were read: small checkpoints are all in there.
    first: Bytes,
}
