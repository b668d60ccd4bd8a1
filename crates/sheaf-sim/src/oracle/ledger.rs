//! Every transaction that any device committed, by its place on its timeline, and what became of it.
//!
//! Invariant: an entry is made when a commit returned, or when a restarted replica shows that one
//! which was cut short is there. Leaves out transactions that changed nothing: they have no place.

use std::collections::BTreeMap;

use sheaf_volume::{TimelineId, Verdict};

use crate::{
    check::{Violation, durability},
    workload::Transaction,
};

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What it does.
    pub(crate) transaction: Transaction,
    /// A flush that came after it has returned.
    pub(crate) durable: bool,
    /// The position that its author had seen; `None` if its commit was cut short.
    pub(crate) made_on: Option<u64>,
    /// Where the log decided it, and how.
    pub(crate) decided: Option<(u64, Verdict)>,
}

/// Who wrote a text.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) timeline: TimelineId,
    pub(crate) seq: u64,
    pub(crate) entry: &'a Entry,
    /// Text and column.
    pub(crate) cell: (u64, &'a str),
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    timelines: BTreeMap<TimelineId, BTreeMap<u64, Entry>>,
}

impl Ledger {
    /// A commit that returned this number.
    pub(crate) fn commit(&mut self, timeline: TimelineId, seq: u64, transaction: Transaction) {
        let entry = Entry { transaction, durable: false, made_on: None, decided: None };
        self.timelines.entry(timeline).or_default().insert(seq, entry);
    }

    /// What the author of an entry had seen.
    pub(crate) fn made_on(&mut self, timeline: TimelineId, seq: u64, base: u64) {
        if let Some(entry) = self.entry_mut(timeline, seq) {
            entry.made_on = Some(base);
        }
    }

    /// Who wrote this into a text: nothing is written twice.
    pub(crate) fn wrote(&self, text: &str) -> Option<Writer<'_>> {
        self.timelines.iter().find_map(|(timeline, entries)| {
            entries.iter().find_map(|(seq, entry)| {
                let cell = entry.transaction.wrote(text)?;
                Some(Writer { timeline: *timeline, seq: *seq, entry, cell })
            })
        })
    }

    /// A flush returned: everything up to here survives a power cut.
    pub(crate) fn flushed(&mut self, timeline: TimelineId, up_to: u64) {
        let entries = self.timelines.entry(timeline).or_default();
        entries.range_mut(..=up_to).for_each(|(_, entry)| entry.durable = true);
    }

    /// The entry at a place.
    pub(crate) fn entry(&self, timeline: TimelineId, seq: u64) -> Option<&Entry> {
        self.timelines.get(&timeline)?.get(&seq)
    }

    /// The entry at a place, to write down what its author answered.
    pub(crate) fn entry_mut(&mut self, timeline: TimelineId, seq: u64) -> Option<&mut Entry> {
        self.timelines.get_mut(&timeline)?.get_mut(&seq)
    }

    /// All entries of a timeline.
    pub(crate) fn of(&self, timeline: TimelineId) -> impl Iterator<Item = (u64, &Entry)> {
        let entries = self.timelines.get(&timeline).into_iter().flatten();
        entries.map(|(seq, entry)| (*seq, entry))
    }

    /// The transaction at a place.
    pub(crate) fn transaction(
        &self,
        timeline: TimelineId,
        seq: u64,
    ) -> Result<Transaction, Violation> {
        let entry = self.entry(timeline, seq);
        entry.map(|entry| entry.transaction.clone()).ok_or_else(|| {
            durability::violated(format!(
                "mutation {seq} of {timeline} is known to others, but not kept by its author"
            ))
        })
    }

    /// The log has decided.
    pub(crate) fn decide(&mut self, timeline: TimelineId, seq: u64, lsn: u64, verdict: Verdict) {
        let entry = self.timelines.entry(timeline).or_default().get_mut(&seq);
        if let Some(entry) = entry {
            entry.decided = Some((lsn, verdict));
        }
    }

    /// How far the log has decided a timeline.
    pub(crate) fn decided_to(&self, timeline: TimelineId) -> u64 {
        let entries = self.timelines.get(&timeline);
        let decided = entries.and_then(|entries| {
            entries.iter().rev().find(|(_, entry)| entry.decided.is_some()).map(|(seq, _)| *seq)
        });
        decided.unwrap_or(0)
    }

    /// Forgets what a restarted replica no longer has beyond `last`; gives what was lost.
    pub(crate) fn cut(&mut self, timeline: TimelineId, last: u64) -> BTreeMap<u64, Entry> {
        self.timelines.entry(timeline).or_default().split_off(&(last + 1))
    }

    /// The last place that was taken.
    pub(crate) fn last(&self, timeline: TimelineId) -> u64 {
        let last = self.timelines.get(&timeline).and_then(|entries| entries.keys().next_back());
        last.copied().unwrap_or(0)
    }

    /// How many transactions a timeline has.
    pub(crate) fn made(&self, timeline: TimelineId) -> usize {
        self.timelines.get(&timeline).map_or(0, BTreeMap::len)
    }
}
