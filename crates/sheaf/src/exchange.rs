//! What one exchange with a server did, for people and scripts.

use sheaf_volume::Lsn;

use crate::{link::Tally, traffic::Meter};

/// What one exchange with a server did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Commits learnt.
    pub pulled: u64,
    /// Own mutations sent and decided.
    pub pushed: u64,
    /// Own mutations that the commits learnt contain, whenever they were sent.
    pub confirmed: u64,
    /// Those of them that were merged with concurrent changes.
    pub merged: u64,
    /// Those of them that were recorded and skipped: sequence number and reason.
    pub rejected: Vec<(u64, String)>,
    /// The position this replica is based on now.
    pub base: Lsn,
    /// Bytes sent, without headers. Zero for a bucket, whose client does not count.
    pub bytes_up: u64,
    /// Bytes received, likewise.
    pub bytes_down: u64,
    /// Round trips waited for, likewise.
    pub round_trips: u64,
    /// How long it took.
    pub ms: u64,
}

impl Exchange {
    pub(crate) fn new(tally: Tally, base: Lsn, meter: Meter, ms: u64) -> Self {
        Self {
            pulled: tally.pulled,
            pushed: tally.pushed,
            confirmed: tally.confirmed,
            merged: tally.merged,
            rejected: tally.rejected,
            base,
            bytes_up: meter.up,
            bytes_down: meter.down,
            round_trips: meter.trips,
            ms,
        }
    }
}
