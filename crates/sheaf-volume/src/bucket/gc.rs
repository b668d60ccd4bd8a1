//! Reclaiming what nobody can reach any more: what to keep, and what may go.
//!
//! Invariants, each of which this file decides in a pure function and `gc/run.rs` carries out.
//! The boundary moves first, and only to a position that has a checkpoint; deletion comes later.
//! Kept are: every commit and checkpoint at or above the boundary; for each pin of a branch below
//! it the commit there and what leads to it from the checkpoint before; every segment that one of
//! these refers to. Pins are listed after the boundary was raised, because who pins looks at the
//! boundary after that: one of the two sees the other.
//!
//! A segment that nothing kept refers to is deleted when nothing can come to refer to it:
//! - one that a reclaimed commit names: ids are not given twice, and a checkpoint that is being
//!   made above the boundary refers to it only if the boundary's does (see [`super::checkpoint`]);
//! - one of a checkpoint that the boundary's was built upon, by the same rule;
//! - any other, an upload that was lost or is still in flight, when it was seen by an earlier pass
//!   and the boundary has since passed everything it can have been meant for (see
//!   [`super::boundary`]).
//!
//! Segments go before the objects that name them, so a reclaimer that is killed leaves nothing
//! that the next one does not find. Deleting something twice is no error, and nothing comes to be
//! needed again, so any number of reclaimers may run at once and stop anywhere. No decision but
//! the age of what is kept rests on a clock.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Lsn, Result, SegmentId, limits};

mod run;
#[cfg(test)]
mod tests;

/// How much of the past is kept. A state is reclaimed when both allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// States as old as this, in milliseconds, are kept.
    pub keep_for_ms: u64,
    /// So many of the newest states are kept; the newest one always is.
    pub keep_commits: u64,
    /// Go as far as these allow, and make the checkpoint that this takes. Without it the boundary
    /// moves to checkpoints that were made for readers: less to write, and what a node does.
    pub exact: bool,
}

impl Retention {
    /// Thirty days.
    pub const DEFAULT_KEEP_FOR_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
}

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// A segment whose pages have all been overwritten, cut off or rewritten.
    Superseded,
    /// A segment that no commit and no checkpoint came to name: an upload that was lost.
    Unnamed,
    /// A pack of commits below the boundary.
    OldPack,
    /// A commit below the boundary.
    OldCommit,
    /// A checkpoint below the boundary.
    OldCheckpoint,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "segment without a live page",
            Self::Unnamed => "segment that nothing names",
            Self::OldPack => "pack below the boundary",
            Self::OldCommit => "commit below the boundary",
            Self::OldCheckpoint => "checkpoint below the boundary",
        })
    }
}

/// An object that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its key.
    pub key: String,
    /// Why.
    pub why: Why,
    /// Its size, where that is known without asking for it.
    pub bytes: Option<u64>,
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The newest position.
    pub head: Lsn,
    /// The oldest position that was kept before, zero for all.
    pub boundary_before: Lsn,
    /// The oldest position that is kept now.
    pub boundary: Lsn,
    /// Checkpoints that were made.
    pub checkpoints: Vec<Lsn>,
    /// Bytes that were written; of a dry run, the most that would be.
    pub written: u64,
    /// What went.
    pub doomed: Vec<Doomed>,
    /// Whether another pass would find more to delete at once.
    pub more: bool,
}

/// A step of a pass, as it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcStep {
    /// Making the checkpoint at this position.
    Checkpoint(Lsn),
    /// Raising the boundary to this position.
    Boundary(Lsn),
    /// Deleting: objects gone, objects to go.
    Delete(usize, usize),
}

/// Told of each step before it is taken; an error stops the pass there, which is always safe.
pub type GcWatch<'a> = dyn FnMut(GcStep) -> Result<()> + 'a;

/// Where a log stands.
#[derive(Clone, Debug)]
struct Standing {
    head: Lsn,
    boundary: Lsn,
    /// Ascending.
    checkpoints: Vec<Lsn>,
    /// The newest state that is old enough to be the oldest one.
    aged: Lsn,
}

/// What a pass aims at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Goal {
    /// Checkpoints to make, ascending.
    make: Vec<Lsn>,
    /// At or above the present one, and a position with a checkpoint if it is above.
    boundary: Lsn,
}

fn plan_goal(standing: &Standing, retention: &Retention) -> Goal {
    let Standing { head, boundary, checkpoints, aged } = standing;
    let counted = Lsn(head.0.saturating_sub(retention.keep_commits.saturating_sub(1)));
    let oldest = counted.min(*aged).min(*head);
    let mut make = Vec::new();
    let newest = checkpoints.last().copied().unwrap_or_default();
    if head.0 - newest.0.min(head.0) >= limits::CHECKPOINT_COMMITS {
        make.push(*head);
    }
    let there = checkpoints.iter().chain(&make).filter(|&&lsn| lsn <= oldest).max();
    let there = there.copied().unwrap_or_default();
    // Below the first position there is nothing to reclaim.
    let goal = if retention.exact && oldest > Lsn(1) { oldest } else { there };
    let goal = goal.max(*boundary);
    if goal > *boundary && there != goal {
        make.insert(0, goal);
    }
    Goal { make, boundary: goal }
}

/// A checkpoint, as far as reclaiming goes.
#[derive(Clone, Debug)]
struct Held {
    lsn: Lsn,
    anchor: Lsn,
    /// Those of the segments it refers to that are the volume's own.
    segments: Vec<SegmentId>,
    /// Whether all of them were there.
    whole: bool,
}

/// A commit below the boundary.
#[derive(Clone, Copy, Debug)]
struct Entry {
    lsn: Lsn,
    segment: Option<SegmentId>,
    segment_bytes: u64,
    bytes: u64,
}

/// Everything that the question what may go is decided upon.
#[derive(Clone, Debug, Default)]
struct Holdings {
    boundary: Lsn,
    /// Ascending.
    checkpoints: Vec<Held>,
    /// Positions that branches need.
    pins: Vec<Lsn>,
    /// Commits below the boundary that have been read, those that pins need among them.
    log: Vec<Entry>,
    /// Last positions of packs.
    packs: Vec<Lsn>,
    /// All there are.
    segments: BTreeSet<SegmentId>,
    /// Those nobody can come to name any more, if nobody has.
    ripe: BTreeSet<SegmentId>,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Deletes {
    superseded: BTreeSet<SegmentId>,
    unnamed: BTreeSet<SegmentId>,
    packs: Vec<Lsn>,
    commits: Vec<Lsn>,
    checkpoints: Vec<Lsn>,
}

fn plan_deletes(held: &Holdings) -> Deletes {
    let kept: BTreeSet<Lsn> = kept_checkpoints(held);
    let mut needed: BTreeSet<SegmentId> = BTreeSet::new();
    let refers = held.checkpoints.iter().filter(|one| kept.contains(&one.lsn));
    needed.extend(refers.flat_map(|one| &one.segments));
    let whole = held.checkpoints.iter().filter(|one| one.whole).map(|one| one.lsn);
    let pinned = Pinned::new(held.boundary, &held.pins, &whole.collect::<Vec<_>>());
    let old = held.log.iter().filter(|one| one.lsn < held.boundary);
    let (pinned, old): (Vec<&Entry>, Vec<&Entry>) = old.partition(|one| pinned.needs(one.lsn));
    needed.extend(pinned.iter().filter_map(|one| one.segment));

    let base = held.checkpoints.iter().rev().find(|one| one.lsn <= held.boundary);
    let chain = chain(held, base.map_or(Lsn::ZERO, |one| one.lsn));
    let gone = |one: &&Held| !kept.contains(&one.lsn) && one.lsn < held.boundary;
    let dropped = held.checkpoints.iter().filter(gone);
    let built_upon = dropped.clone().filter(|one| chain.contains(&one.lsn));
    let mut named: BTreeSet<SegmentId> = old.iter().filter_map(|one| one.segment).collect();
    named.extend(built_upon.flat_map(|one| &one.segments));

    let may_go = |id: &&SegmentId| held.segments.contains(id) && !needed.contains(id);
    let superseded: BTreeSet<SegmentId> = named.iter().filter(may_go).copied().collect();
    let unnamed = held.ripe.iter().filter(may_go).filter(|id| !superseded.contains(id));
    Deletes {
        unnamed: unnamed.copied().collect(),
        superseded,
        packs: held.packs.iter().copied().filter(|&last| last < held.boundary).collect(),
        commits: old.iter().map(|one| one.lsn).collect(),
        checkpoints: dropped.map(|one| one.lsn).collect(),
    }
}

/// Checkpoints at or above the boundary, and those that pins need.
fn kept_checkpoints(held: &Holdings) -> BTreeSet<Lsn> {
    let above = held.checkpoints.iter().map(|one| one.lsn).filter(|&lsn| lsn >= held.boundary);
    let mut kept: BTreeSet<Lsn> = above.collect();
    for &pin in held.pins.iter().filter(|&&pin| pin < held.boundary) {
        let below = held.checkpoints.iter().filter(|one| one.whole && one.lsn <= pin);
        let Some(nearest) = below.clone().next_back() else { continue };
        // A checkpoint of the branch may refer to segments of whichever checkpoint it found here:
        // those of the nearest one's line are in the nearest one, if they are alive enough.
        let line = chain(held, nearest.lsn);
        kept.extend(below.map(|one| one.lsn).filter(|lsn| !line.contains(lsn)));
        kept.insert(nearest.lsn);
    }
    kept
}

/// The checkpoints that one was built upon, directly or not; not itself.
fn chain(held: &Holdings, from: Lsn) -> BTreeSet<Lsn> {
    let find = |lsn: Lsn| held.checkpoints.iter().find(|one| one.lsn == lsn);
    // An anchor is always lower, so this ends.
    let upwards = std::iter::successors(find(from), |one| find(one.anchor));
    upwards.skip(1).map(|one| one.lsn).collect()
}

/// Commits below the boundary that pins need.
struct Pinned {
    /// After the first position up to the second.
    ranges: Vec<(Lsn, Lsn)>,
}

impl Pinned {
    fn new(boundary: Lsn, pins: &[Lsn], checkpoints: &[Lsn]) -> Self {
        let below = pins.iter().filter(|&&pin| pin < boundary);
        let from = |pin: Lsn| checkpoints.iter().copied().filter(|&lsn| lsn <= pin).max();
        let ranges = below.map(|&pin| (from(pin).unwrap_or_default(), pin)).collect();
        Self { ranges }
    }

    /// The pinned commit itself is always needed: its name must not become free.
    fn needs(&self, lsn: Lsn) -> bool {
        self.ranges.iter().any(|&(after, to)| lsn == to || lsn > after && lsn < to)
    }
}
