//! What one exchange with a server is to do, and what it did.
//!
//! Invariant: the numbers of a [`Tally`] only grow; what one exchange did is a difference of two.

use sheaf_site::{Integrated, MergedOps};
use sheaf_volume::{Lsn, Verdict};

use crate::{limits, traffic::Meter};

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
    /// What was left of the operations of own mutations that were merged meanwhile, here or by
    /// whoever decided them: sequence number, and which came out as they were. The newest 1,000.
    pub merges: Vec<(u64, MergedOps)>,
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
            merges: tally.merges,
            base,
            bytes_up: meter.up,
            bytes_down: meter.down,
            round_trips: meter.trips,
            ms,
        }
    }
}

/// What one exchange is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Take everything the server has by now.
    pub pull: bool,
    /// Give everything this replica has by now, and take the commits that contain it.
    pub push: bool,
    /// Whether the site may be created under its local ids when the server does not know its name.
    pub create: bool,
}

impl Ask {
    /// Pull and push, creating the site if need be.
    pub const EVERYTHING: Self = Self { pull: true, push: true, create: true };
}

/// What was done for a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commits integrated.
    pub pulled: u64,
    /// Own mutations decided by the authority.
    pub pushed: u64,
    /// Own mutations that integrated commits contain.
    pub confirmed: u64,
    /// Those of them that were merged with concurrent changes.
    pub merged: u64,
    /// The newest rejections, oldest first: sequence number and reason.
    pub rejected: Vec<(u64, String)>,
    /// How many rejections there were in all.
    pub rejected_total: u64,
    /// The newest merges of own mutations, oldest first: sequence number and what was left of the
    /// operations.
    pub merges: Vec<(u64, MergedOps)>,
    /// How many merges there were in all.
    pub merges_total: u64,
}

impl Tally {
    pub(crate) fn reject(&mut self, seq: u64, reason: String) {
        if self.rejected.len() >= limits::REJECTED_MAX {
            self.rejected.remove(0);
        }
        self.rejected.push((seq, reason));
        self.rejected_total += 1;
    }

    /// Takes what merges left, and gives what of it is news: the device that redoes a mutation
    /// and whoever decides it often find the same.
    pub(crate) fn merge(
        &mut self,
        found: impl IntoIterator<Item = (u64, MergedOps)>,
    ) -> Vec<(u64, MergedOps)> {
        let mut news = Vec::new();
        for merge in found {
            if self.merges.contains(&merge) {
                continue;
            }
            if self.merges.len() >= limits::MERGES_MAX {
                self.merges.remove(0);
            }
            self.merges.push(merge.clone());
            self.merges_total += 1;
            news.push(merge);
        }
        news
    }

    pub(crate) fn integrated(&mut self, commits: u64, outcome: &Integrated) {
        self.pulled += commits;
        self.confirmed += (outcome.confirmed.len() + outcome.untold.len()) as u64;
        let merged = outcome.confirmed.iter().filter(|(_, _, v)| *v == Verdict::Merged);
        self.merged += merged.count() as u64;
        for (seq, reason) in &outcome.rejected {
            self.reject(*seq, reason.clone());
        }
    }

    /// What was added since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let rejected_total = self.rejected_total.saturating_sub(earlier.rejected_total);
        let merges_total = self.merges_total.saturating_sub(earlier.merges_total);
        Self {
            pulled: self.pulled - earlier.pulled,
            pushed: self.pushed - earlier.pushed,
            confirmed: self.confirmed - earlier.confirmed,
            merged: self.merged - earlier.merged,
            rejected: newest(&self.rejected, rejected_total),
            rejected_total,
            merges: newest(&self.merges, merges_total),
            merges_total,
        }
    }
}

/// The last `count` of these, or all.
fn newest<T: Clone>(all: &[T], count: u64) -> Vec<T> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
    all.iter().skip(all.len() - count).cloned().collect()
}
