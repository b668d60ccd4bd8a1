//! Which of this device's own mutations are remembered, and as what.
//!
//! Invariant: only what the log has decided and not rejected, as the last redo on this device found
//! it, under the position that decided it. Whatever cannot be read or is too large is not
//! remembered, and nothing else comes of that. Leaves out the files: see `deeds.rs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use sheaf_volume::{Draft, HeldMutation, Lsn, Verdict};

use super::deeds::Deed;
use crate::limits::{DEED_BYTES_MAX, DEEDS_BYTES_MAX, DEEDS_MAX};
use crate::mutation::Body;
use crate::rebase::OwnNews;
use crate::site::{Site, lock};
use crate::timeline::MutationRecord;

impl Site {
    /// What the mutations that the log has just decided did, as far as that is known and worth
    /// remembering: the newest, as the last redo found them.
    pub(crate) fn deeds_of(
        &self,
        draft: &Draft,
        decided: &[HeldMutation],
        news: &OwnNews,
    ) -> Vec<Deed> {
        let stands = news.confirmed.iter().filter(|(.., verdict)| *verdict != Verdict::Rejected);
        let at: BTreeMap<u64, Lsn> = stands.map(|(seq, lsn, _)| (*seq, *lsn)).collect();
        let (timeline, mut bytes) = (self.timeline(), 0);
        let mut deeds = Vec::new();
        for held in decided.iter().rev().take(DEEDS_MAX) {
            let Some(lsn) = at.get(&held.seq).filter(|_| held.len() <= DEED_BYTES_MAX) else {
                continue;
            };
            let Some((time_ms, stream)) = self.effects_of(draft, held) else { continue };
            bytes += stream.len();
            if bytes > DEEDS_BYTES_MAX {
                break;
            }
            deeds.push(Deed { timeline, seq: held.seq, lsn: *lsn, time_ms, stream });
        }
        deeds.reverse();
        deeds
    }

    /// When a mutation was made, and its row operations; of a call, if it was run here.
    fn effects_of(&self, draft: &Draft, held: &HeldMutation) -> Option<(u64, Bytes)> {
        let record = MutationRecord::from(draft.mutation(held).ok()?);
        let stream = match record.mutation().ok()?.body {
            Body::Rows(_) => record.stream()?,
            Body::Call { .. } => self.0.watch.effects(&record.uid())?,
        };
        Some((record.time_ms, stream))
    }

    /// Everything remembered of own mutations, by timeline and number.
    pub(super) fn all_deeds(&self) -> Vec<Deed> {
        lock(&self.0.deeds).read()
    }

    /// Why what own mutations do is not remembered on this device, if so: its files cannot be
    /// opened or written. Work goes on; only undoing one of several that were pushed together,
    /// and naming it, is not possible.
    #[must_use]
    pub fn unremembered(&self) -> Option<String> {
        lock(&self.0.deeds).failure().map(ToString::to_string)
    }
}
