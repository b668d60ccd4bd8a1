//! What the driver offers to push.
//!
//! Invariant: a site is asked for its outbox only when the session can take a batch, and counts as
//! pushed up to a wish only when its outbox was empty after that wish.

use sheaf_site::{MutationRecord, Result};
use sheaf_sync::wire::{PushBatch, PushMutation};

use super::{Driver, Transport};
use crate::limits;

impl<T: Transport> Driver<T> {
    /// Offers what the sites have to push.
    pub(super) fn offer_all(&mut self) {
        let wishing: Vec<(String, u64)> = {
            let state = self.wishes.lock();
            let wishing = state.sites.iter().filter(|(_, e)| e.may_push() && e.dirty);
            wishing.map(|(name, entry)| (name.clone(), entry.push_wanted)).collect()
        };
        for (name, wanted) in wishing {
            if !self.session.can_offer(&name) {
                continue;
            }
            // Whatever is committed from here on makes it dirty again.
            self.wishes.entry(&name, |entry| entry.dirty = false);
            match self.offer(&name) {
                Ok(true) => {}
                Ok(false) => {
                    self.wishes.entry(&name, |entry| entry.push_done = entry.push_done.max(wanted));
                }
                Err(error) => self.failed(&name, error),
            }
        }
    }

    /// Whether there was anything to offer.
    fn offer(&mut self, name: &str) -> Result<bool> {
        let asked_at = self.progress.get(name).and_then(|progress| progress.asked_at);
        if let Some(lsn) = asked_at {
            if self.wishes.with_site(name, |site| site.base().0 < lsn).unwrap_or(false) {
                return Ok(true);
            }
            self.progress.entry(name.to_owned()).and_modify(|progress| progress.asked_at = None);
        }
        let after = self.progress.get(name).map_or(0, |progress| progress.acknowledged);
        let max = self.session.push_bytes_max().min(limits::PUSH_BYTES);
        let batch = self.wishes.with_site(name, |site| {
            let Some(batch) = site.outbox(after, max)? else { return Ok(None) };
            let last = batch.mutations.last().map_or(after, |record| record.seq);
            Ok(Some((batch, site.pending_bytes(last))))
        });
        let Some((batch, left)) = batch.transpose()?.flatten() else { return Ok(false) };
        // Each commit taken redoes all that is still pending: a long timeline is pushed first.
        self.session.hold_commits(name, left > limits::REDO_BYTES);
        let mutation = |record: MutationRecord| PushMutation {
            seq: record.seq,
            base: record.base,
            time_ms: record.time_ms,
            bytes: record.bytes,
        };
        let batch = PushBatch {
            timeline: batch.timeline,
            first_seq: batch.first_seq,
            prev_hash: batch.prev_hash,
            mutations: batch.mutations.into_iter().map(mutation).collect(),
            tell_stands: true,
        };
        self.session.offer(name, batch)?;
        Ok(true)
    }
}
