//! What the driver does with the events of one site.
//!
//! Invariant: a site is adopted before anything is integrated or offered; what the replica cannot
//! take is tried again from wherever the replica is then, and told to whoever waits.

use std::collections::BTreeMap;

use sheaf_site::{
    Asking, Error, ErrorKind, Integrated, MergedOps, MutationRecord, OpBits, Result, Site, SiteIds,
};
use sheaf_sync::wire::{OpStands, OpenedSite, PushAnswer, PushBatch, PushMutation};
use sheaf_volume::Lineage;

use super::{Driver, Transport, millis};
use crate::{event::Event, limits};

impl<T: Transport> Driver<T> {
    pub(super) fn opened(&mut self, opened: &OpenedSite) {
        let adopted = self.wishes.with_site(&opened.name, |site| {
            site.heard_of(opened.head.lsn);
            let before = (site.volume().lineage(), site.ids().page_size);
            let size = opened.head.page_size;
            let lineage = Lineage::new(opened.volume, opened.parents.clone())?;
            // ORDER: adopting replays the timeline, which may need pages of the new base.
            site.set_remote(Some(self.transport.remote(lineage, size)));
            let ids = SiteIds { site: opened.site, volume: opened.volume, page_size: size };
            let adopted = site.adopt_branch(ids, opened.parents.clone(), opened.head);
            if adopted.is_err() {
                let remote = self.transport.remote(before.0, before.1);
                site.set_remote(Some(remote));
            }
            adopted.map(|()| site.base().0)
        });
        match adopted {
            Some(Ok(base)) => {
                self.wishes.entry(&opened.name, |entry| {
                    entry.base = base;
                    entry.dirty = true;
                });
                self.hear_of_timeline(&opened.name);
                self.tell_asking(&opened.name);
                self.session.watch_from(&opened.name, base);
            }
            Some(Err(error)) => self.stuck(&opened.name, error),
            None => {}
        }
    }

    /// Takes what arrived, which is worth `count` commits.
    pub(super) fn integrate(
        &mut self,
        name: &str,
        count: u64,
        take: impl FnOnce(&Site) -> Result<Integrated>,
    ) {
        let integrated = self.wishes.with_site(name, take);
        self.hear_of_timeline(name);
        let outcome = match integrated {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => return self.stuck(name, error),
            None => return,
        };
        let is_asked = self.progress.get(name).is_some_and(|p| p.asked_at.is_some());
        self.wishes.entry(name, |entry| {
            entry.base = outcome.base;
            entry.dirty |= is_asked;
            entry.tally.integrated(count, &outcome);
        });
        let site = name.to_owned();
        for (seq, reason) in outcome.rejected {
            self.wishes.tell(Event::Rejected { site: site.clone(), seq, reason });
        }
        self.tell_merges(name, outcome.stands);
        let confirmed = (outcome.confirmed.len() + outcome.untold.len()) as u64;
        let lsn = outcome.base;
        self.wishes.tell(Event::Changed { site, lsn, commits: count, confirmed });
        self.tell_asking(name);
    }

    /// Tells that a mutation asks its author, if that is news.
    fn tell_asking(&mut self, name: &str) {
        let asking = self.wishes.with_site(name, |site| site.asking()).flatten();
        let Some(progress) = self.progress.get_mut(name) else { return };
        if let Some(Asking { seq, reason }) = asking.clone()
            && asking != progress.told_asking
        {
            self.wishes.tell(Event::Asks { site: name.to_owned(), seq, reason });
        }
        progress.told_asking = asking;
    }

    /// Takes what the node says of the operations of mutations that it merged.
    fn told_stands(&self, name: &str, batch: &PushBatch, stands: BTreeMap<u64, OpStands>) {
        let sent = |seq: u64| {
            let at = usize::try_from(seq.checked_sub(batch.first_seq)?).ok()?;
            batch.mutations.get(at)
        };
        let told = stands.into_iter().filter_map(|(seq, told)| Some((seq, sent(seq)?, told)));
        let found = told.filter_map(|(seq, sent, told)| match merged_ops(sent, &told) {
            Ok(ops) => Some((seq, ops)),
            // The verdict counts; this is only about it.
            Err(error) => {
                tracing::warn!(site = name, %error, "what the node says of a merge");
                None
            }
        });
        self.tell_merges(name, found.collect());
    }

    /// Tells what merges of own mutations left, as far as that is news.
    fn tell_merges(&self, name: &str, found: BTreeMap<u64, MergedOps>) {
        let mut news = Vec::new();
        self.wishes.entry(name, |entry| news = entry.tally.merge(found));
        for (seq, ops) in news {
            self.wishes.tell(Event::Merged { site: name.to_owned(), seq, ops });
        }
    }

    /// Lets the node merge commits when this site is far behind, and says whose news count: a
    /// replica may get another timeline with anything it takes.
    fn hear_of_timeline(&mut self, name: &str) {
        if let Some(timeline) = self.wishes.with_site(name, |site| site.timeline()) {
            self.session.take_merged(name, timeline);
        }
    }

    pub(super) fn caught_up(&mut self, name: &str, serial: u64) {
        let Some(progress) = self.progress.get_mut(name) else { return };
        let reached = progress.passed.iter().filter(|(session, _)| *session <= serial);
        let reached = reached.map(|(_, ours)| *ours).max();
        progress.passed.retain(|(session, _)| *session > serial);
        if let Some(reached) = reached {
            self.wishes.entry(name, |entry| entry.pull_done = entry.pull_done.max(reached));
        }
    }

    pub(super) fn verdicts(&mut self, name: &str, batch: &PushBatch, answer: PushAnswer) {
        let Some(progress) = self.progress.get_mut(name) else { return };
        match answer {
            PushAnswer::Verdicts { first_seq, verdicts, stands, lsn } => {
                let count = verdicts.len() as u64;
                let last = (first_seq + count).saturating_sub(1);
                if verdicts.len() < batch.mutations.len() {
                    progress.asked_at = Some(lsn);
                }
                progress.acknowledged = progress.acknowledged.max(last);
                progress.gap = None;
                self.wishes.entry(name, |entry| {
                    entry.tally.pushed += count;
                    entry.confirm_at = entry.confirm_at.max(lsn);
                    entry.dirty = true;
                });
                self.told_stands(name, batch, stands);
            }
            PushAnswer::Gap { next } if progress.gap != Some(next) && next > 0 => {
                progress.gap = Some(next);
                progress.acknowledged = next - 1;
                self.wishes.entry(name, |entry| entry.dirty = true);
            }
            PushAnswer::Gap { next } => {
                let text = format!(
                    "the node lost mutations that it had acknowledged, perhaps because it was \
                     restored from an older copy seq=`{next}`"
                );
                self.failed(name, Error::corrupt(text));
            }
            PushAnswer::Fork { .. } => {
                tracing::warn!(
                    site = name,
                    timeline = %batch.timeline,
                    "timeline forked (was this device restored from a backup?), starting a new one"
                );
                (progress.acknowledged, progress.gap) = (0, None);
                let restarted = self.wishes.with_site(name, |site| site.restart_timeline());
                self.hear_of_timeline(name);
                match restarted {
                    Some(Err(error)) => self.failed(name, error),
                    _ => self.wishes.entry(name, |entry| entry.dirty = true),
                }
            }
            PushAnswer::Malformed(reason) => {
                // Sent again at once, it would be refused again at once.
                let text = format!("the node cannot read this device's mutations: {reason}");
                self.stuck(name, Error::new(ErrorKind::Invalid, text));
            }
        }
    }

    /// The replica could not take what came. Later it may.
    fn stuck(&mut self, name: &str, error: Error) {
        let passing = matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Ambiguous | ErrorKind::Conflict
        );
        let pause = if passing { limits::REOPEN_SOON } else { limits::REOPEN_LATE };
        self.session.reopen_later(name, millis(pause));
        self.failed(name, error);
    }

    pub(super) fn failed(&self, name: &str, error: Error) {
        tracing::debug!(site = name, %error, "site failed");
        self.wishes.entry(name, |entry| {
            entry.fail(error.clone());
            entry.dirty = true;
        });
        self.wishes.tell(Event::Failed { site: name.to_owned(), error });
    }
}

/// The operations of a mutation as it was sent, by the node's bits.
fn merged_ops(sent: &PushMutation, told: &OpStands) -> Result<MergedOps> {
    let ops = usize::try_from(told.ops).unwrap_or(usize::MAX);
    let bits = match told.packed.is_empty() {
        true => std::iter::repeat_n(true, ops).collect(),
        false => OpBits::from_bytes(ops, &told.packed)?,
    };
    let PushMutation { seq, base, time_ms, bytes } = sent.clone();
    MergedOps::of(&MutationRecord { seq, base, time_ms, bytes }, bits)
}
