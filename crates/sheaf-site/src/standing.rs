//! What the log has said about one of this device's mutations, and giving up those it has not
//! decided.
//!
//! Invariant: a mutation that was given up is never sent under its number again: the timeline is a
//! new one, because the log may hold the old numbers already. Leaves out where to keep what is
//! given up: the caller's.

use sheaf_volume::Result;

use crate::site::Site;
use crate::status::RejectedRecord;

/// Where a mutation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On this device only, or on its way.
    Local,
    /// On this device only, until its author has looked again: a lock failed, for this reason. See
    /// [`Site::asking`].
    Asks(String),
    /// In the log, or replaced by an equal one that was; its effects are in the global view.
    Confirmed,
    /// Recorded and skipped, for this reason; forgotten with [`Site::dismiss_rejected`].
    Rejected(String),
}

impl Site {
    /// Where a mutation of this device stands, by the number that its write gave. Numbers given
    /// before [`Site::give_up_pending`] or [`Site::restart_timeline`] mean nothing any more.
    #[must_use]
    pub fn standing(&self, seq: u64) -> Standing {
        if self.volume().held().iter().any(|mutation| mutation.seq == seq) {
            let asking = self.asking().filter(|asking| asking.seq == seq);
            return asking.map_or(Standing::Local, |asking| Standing::Asks(asking.reason));
        }
        let timeline = self.timeline();
        let is_it = |kept: &RejectedRecord| {
            kept.record.seq == seq && kept.timeline.is_none_or(|of| of == timeline)
        };
        // Of one that an earlier version kept, it is not known whose number it is.
        let rejected = self.rejected_records().into_iter().rfind(is_it);
        rejected.map_or(Standing::Confirmed, |rejected| Standing::Rejected(rejected.reason))
    }

    /// Gives up every mutation that the log has not decided: the local state becomes the global
    /// one. `keep` runs before, while nobody can write, and stops it by an error. Gives how many.
    ///
    /// What was sent already may still be in the log, and comes back with it.
    ///
    /// # Errors
    /// Whatever `keep` returns, and as [`Site::integrate`].
    pub fn give_up_pending(&self, keep: impl FnOnce() -> Result<()>) -> Result<usize> {
        let writer = self.volume().writer();
        let held = self.volume().held();
        if held.is_empty() {
            return Ok(0);
        }
        keep()?;
        let draft = self.volume().rebase(writer, &[])?;
        self.publish_renumbered(draft, Vec::new(), self.conflicts_gone(&held))?;
        Ok(held.len())
    }
}
