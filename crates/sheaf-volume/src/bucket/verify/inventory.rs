//! Which objects a volume has, by kind.
//!
//! Invariant: one listing, taken before anything is read, so that what others append meanwhile is
//! not mistaken for damage. A new kind of object is a variant here, a set in [`Inventory`], and a
//! check in the module above.

use std::collections::BTreeSet;

use crate::bucket::keys::{
    checkpoint_prefix, latest_key, log_prefix, lsn_in, mark_prefix, pack_prefix, pin_prefix,
    refused, segment_prefix,
};
use crate::{Lsn, Objects, Result, SegmentId, VolumeId};

/// What an object below a volume is.
enum Kind {
    Commit(Lsn),
    Segment,
    Checkpoint(Lsn),
    Mark(u64),
    Hint,
    /// A copy of commits, or what keeps a branch: nothing of a state rests on it.
    Aside,
    Unknown,
}

/// The objects of a volume.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) commits: BTreeSet<Lsn>,
    pub(super) segments: BTreeSet<String>,
    pub(super) checkpoints: BTreeSet<Lsn>,
    pub(super) marks: BTreeSet<u64>,
    pub(super) has_hint: bool,
    /// How many are of no kind that is known here.
    pub(super) unknown: u64,
}

impl Inventory {
    pub(super) fn take(objects: &dyn Objects, volume: VolumeId) -> Result<Self> {
        let keys = objects.list(&format!("volumes/{volume}/"), None);
        let mut inventory = Self::default();
        for key in keys.map_err(|e| refused("list volume", e))? {
            match kind(volume, &key) {
                Kind::Commit(lsn) => _ = inventory.commits.insert(lsn),
                Kind::Segment => _ = inventory.segments.insert(key),
                Kind::Checkpoint(lsn) => _ = inventory.checkpoints.insert(lsn),
                Kind::Mark(number) => _ = inventory.marks.insert(number),
                Kind::Hint => inventory.has_hint = true,
                Kind::Aside => {}
                Kind::Unknown => inventory.unknown += 1,
            }
        }
        Ok(inventory)
    }
}

fn kind(volume: VolumeId, key: &str) -> Kind {
    if let Some(lsn) = lsn_in(&log_prefix(volume), key) {
        return Kind::Commit(lsn);
    }
    if let Some(lsn) = lsn_in(&checkpoint_prefix(volume), key) {
        return Kind::Checkpoint(lsn);
    }
    if let Some(number) = lsn_in(&mark_prefix(volume), key) {
        return Kind::Mark(number.0);
    }
    if key == latest_key(volume) {
        return Kind::Hint;
    }
    if key.starts_with(&pack_prefix(volume)) || key.starts_with(&pin_prefix(volume)) {
        return Kind::Aside;
    }
    let segment = key.strip_prefix(&segment_prefix(volume));
    match segment.and_then(|id| id.parse::<SegmentId>().ok()) {
        Some(_) => Kind::Segment,
        None => Kind::Unknown,
    }
}
