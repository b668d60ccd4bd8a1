//! What a checkpoint at a position would consist of: read, counted, nothing written.
//!
//! Invariant: which segments it refers to follows from the state alone (see the parent module), so
//! a dry run and the real thing, and any two builders, decide alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CHUNK_PAGES, Opened, SegmentRef, chunk_count};
use crate::bucket::BucketRemote;
use crate::bucket::fetch::walk_to_end;
use crate::bucket::known::Known;
use crate::bucket::walk::Walk;
use crate::limits::{ALIVE_PERCENT_MIN, LOG_BATCH_MAX};
use crate::{Error, Lsn, PageIdx, PageSize, Result, SegmentId, VolumeId};

/// A segment by owner and id.
pub(super) type SegmentKey = (VolumeId, SegmentId);

/// A state, page by page, as far as that is needed to make its checkpoint.
pub(in crate::bucket) struct Survey {
    /// The commit that made the state.
    pub(super) commit: Arc<Known>,
    /// The way back from it to the checkpoint before it.
    pub(super) walk: Walk,
    /// Pages that changed since that checkpoint, ascending, and where they did.
    pub(super) changed: Vec<(PageIdx, Lsn)>,
    /// Segments that the checkpoint refers to.
    pub(super) kept: BTreeMap<SegmentKey, SegmentRef>,
    /// Pages that must be written anew.
    rewritten: u64,
}

/// How much of a segment is alive.
struct Alive {
    segment: SegmentRef,
    pages: u64,
}

impl Survey {
    /// The checkpoint below it that it builds upon, zero for none.
    pub(in crate::bucket) fn anchor(&self) -> Lsn {
        self.walk.anchor.as_ref().map_or(Lsn::ZERO, |anchor| anchor.head.lsn)
    }

    /// The segments of a volume that the checkpoint will refer to, its own new ones aside.
    pub(in crate::bucket) fn refers_to(&self, volume: VolumeId) -> Vec<SegmentId> {
        self.kept.keys().filter(|(owner, _)| *owner == volume).map(|(_, id)| *id).collect()
    }

    /// About how many bytes it will write, uncompressed.
    pub(in crate::bucket) fn rewritten_bytes(&self, size: PageSize) -> u64 {
        self.rewritten * size.bytes() as u64
    }

    /// The changed pages of one chunk.
    pub(super) fn changed_in(&self, chunk: u32) -> &[(PageIdx, Lsn)] {
        let (first, end) = (u64::from(chunk) * u64::from(CHUNK_PAGES), u64::from(chunk) + 1);
        let end = end * u64::from(CHUNK_PAGES);
        let from = self.changed.partition_point(|(idx, _)| u64::from(idx.get()) <= first);
        let to = self.changed.partition_point(|(idx, _)| u64::from(idx.get()) <= end);
        self.changed.get(from..to).unwrap_or_default()
    }
}

impl BucketRemote {
    /// Looks at the state at a position, which is above every checkpoint it is built upon.
    pub(in crate::bucket) fn survey(&self, at: Lsn) -> Result<Survey> {
        let before = at.0.checked_sub(1).map(Lsn);
        let before = before.ok_or_else(|| Error::invalid("checkpoint: the log is empty"))?;
        let mut walk = Walk::new(at, self.anchor(before)?);
        walk_to_end(self, &mut walk)?;
        let commit = self.commit(at)?;
        let mut alive: BTreeMap<SegmentKey, Alive> = BTreeMap::new();
        let mut changed = Vec::new();
        let mut inline = 0;
        for batch in walk.layers().chunks(LOG_BATCH_MAX) {
            let commits = self.commits(&batch.iter().map(|(lsn, _)| *lsn).collect())?;
            for ((lsn, pages), known) in batch.iter().zip(commits.values().rev()) {
                changed.extend(pages.iter().map(|idx| (idx, *lsn)));
                match segment_of(known) {
                    Some(segment) => count(&mut alive, segment, pages.len()),
                    None => inline += pages.len(),
                }
            }
        }
        changed.sort_unstable();
        if let Some(opened) = &walk.anchor {
            self.count_anchor(opened, &walk, &mut alive)?;
        }
        let dying =
            |one: &Alive| one.pages * 100 < u64::from(one.segment.pages) * ALIVE_PERCENT_MIN;
        let rewritten = alive.values().filter(|one| dying(one)).map(|one| one.pages).sum::<u64>();
        let kept = alive.into_iter().filter(|(_, one)| !dying(one));
        let kept = kept.map(|(key, one)| (key, one.segment)).collect();
        Ok(Survey { commit, walk, changed, kept, rewritten: rewritten + inline })
    }

    /// Counts what is still alive of a checkpoint.
    fn count_anchor(
        &self,
        opened: &Opened,
        walk: &Walk,
        alive: &mut BTreeMap<SegmentKey, Alive>,
    ) -> Result<()> {
        let numbers: Vec<u32> = (0..).take(chunk_count(opened.head.page_count)).collect();
        for numbers in numbers.chunks(LOG_BATCH_MAX) {
            let chunks = self.chunks(opened, &numbers.iter().copied().collect())?;
            for frame in chunks.values().flat_map(|frames| frames.iter()) {
                let here = frame.live.iter().filter(|(idx, _)| walk.is_from_anchor(*idx)).count();
                let segment = opened.head.segments.get(frame.segment as usize);
                if let Some(segment) = segment.filter(|_| here > 0) {
                    count(alive, *segment, here as u64);
                }
            }
        }
        Ok(())
    }
}

fn count(alive: &mut BTreeMap<SegmentKey, Alive>, segment: SegmentRef, pages: u64) {
    let one = alive.entry((segment.volume, segment.id));
    one.or_insert(Alive { segment, pages: 0 }).pages += pages;
}

/// The segment of a commit, as a checkpoint refers to it.
pub(super) fn segment_of(known: &Known) -> Option<SegmentRef> {
    let commit = &known.commit;
    Some(SegmentRef {
        volume: commit.volume,
        id: commit.segment?,
        // INVARIANT: page numbers have 32 bits, and zero is none.
        pages: u32::try_from(commit.pages.len()).unwrap_or(u32::MAX),
        bytes: commit.frames.iter().map(|frame| u64::from(frame.len)).sum(),
    })
}
