//! Which objects a volume has, by kind.
//!
//! Invariant: one listing, taken before anything is read, so that what others append meanwhile is
//! not mistaken for damage. A new kind of object is a variant here, a set in [`Inventory`], and a
//! check in the module above.

use std::collections::BTreeSet;

use crate::bucket::keys::{log_prefix, lsn_in, refused, segment_prefix};
use crate::{Lsn, Objects, Result, SegmentId, VolumeId};

/// What an object below a volume is.
enum Kind {
    Commit(Lsn),
    Segment,
    Unknown,
}

/// The objects of a volume.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) commits: BTreeSet<Lsn>,
    pub(super) segments: BTreeSet<String>,
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
                Kind::Unknown => inventory.unknown += 1,
            }
        }
        Ok(inventory)
    }

    /// The oldest position whose commit must be there.
    pub(super) fn oldest_kept(&self) -> Lsn {
        Lsn(1)
    }
}

fn kind(volume: VolumeId, key: &str) -> Kind {
    if let Some(lsn) = lsn_in(&log_prefix(volume), key) {
        return Kind::Commit(lsn);
    }
    let segment = key.strip_prefix(&segment_prefix(volume));
    match segment.and_then(|id| id.parse::<SegmentId>().ok()) {
        Some(_) => Kind::Segment,
        None => Kind::Unknown,
    }
}
