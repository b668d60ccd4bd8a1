//! What an editor's handle knows, and what it tells when it has looked again.
//!
//! Invariant: taking in what was seen gives at most one value, the newest, and none while an edit
//! of the handle's own is outstanding. Leaves out looking: see `editor.rs`.

use std::collections::{BTreeSet, VecDeque};

use sheaf_merge::Value;
use sheaf_volume::TimelineId;

use super::{Convergence, Notice, Row};
use crate::limits;
use crate::site::Site;

/// What a handle tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent<V> {
    /// Show this: it is agreed on, or was written by another connection of this device.
    Value(V),
    /// What is shown is agreed on now.
    Converged,
    /// A change of this value was rejected by the log. What it leads to was told before.
    Rejected {
        /// The mutation's number.
        seq: u64,
        /// Why.
        reason: String,
    },
}

/// What a mark beside a value may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditState {
    /// Nothing is outstanding.
    Clean,
    /// A change waits on this device.
    Dirty,
    /// Every change that waits is on its way.
    Sent,
}

/// One row or cell as it was read.
pub(super) type Shown = Option<Row>;

/// What is known of one handle.
#[derive(Debug)]
pub(super) struct State {
    /// The row's key, as the local view shows it.
    pub(super) key: Vec<Value>,
    /// The number under which this device inserted the row, while the log has not decided it.
    pub(super) origin: Option<i64>,
    pub(super) machine: Convergence<Shown>,
    pub(super) timeline: TimelineId,
    /// Changes of the value that wait, by number.
    pub(super) outstanding: BTreeSet<u64>,
    /// Those made through this handle.
    pub(super) own: BTreeSet<u64>,
    pub(super) rejected: VecDeque<(u64, String)>,
}

/// The two values and what is between them.
pub(super) struct Seen {
    pub(super) key: Vec<Value>,
    pub(super) origin: Option<i64>,
    pub(super) local: Shown,
    pub(super) agreed: Shown,
    pub(super) outstanding: BTreeSet<u64>,
}

impl State {
    /// Takes in what was seen; what the editor is told of it.
    pub(super) fn take(&mut self, site: &Site, seen: Seen) -> Option<WatchEvent<Shown>> {
        let before = std::mem::replace(&mut self.outstanding, seen.outstanding);
        (self.key, self.origin) = (seen.key, seen.origin);
        let timeline = site.timeline();
        let is_renumbered = std::mem::replace(&mut self.timeline, timeline) != timeline;
        if is_renumbered {
            // The same changes under new numbers.
            if !self.own.is_empty() {
                self.own.clone_from(&self.outstanding);
            }
        } else {
            let gone = before.difference(&self.outstanding).copied().collect();
            self.note_rejected(site, &gone);
            self.own.retain(|seq| self.outstanding.contains(seq));
        }
        let is_new = |seq: &u64| !is_renumbered && !before.contains(seq);
        let mut told = None;
        if self.outstanding.iter().any(is_new) {
            // Another connection of this device: shown at once, unless that would disturb.
            let value = if self.own.is_empty() { seen.local } else { self.machine.shown().clone() };
            if value != *self.machine.shown() {
                told = Some(WatchEvent::Value(value.clone()));
            }
            self.machine.edit(value);
        }
        let notice = if self.outstanding.is_empty() && self.machine.outstanding() > 0 {
            self.machine.confirm_all(seen.agreed)
        } else {
            self.machine.remote(seen.agreed)
        };
        match notice {
            Some(Notice::Value(value)) => Some(WatchEvent::Value(value)),
            Some(Notice::Converged) => told.or(Some(WatchEvent::Converged)),
            None => told,
        }
    }

    fn note_rejected(&mut self, site: &Site, gone: &BTreeSet<u64>) {
        if gone.is_empty() {
            return;
        }
        let rejected = site.rejected_records().into_iter();
        let is_own = |timeline: Option<_>| timeline.is_none_or(|id| id == self.timeline);
        let rejected =
            rejected.filter(|kept| gone.contains(&kept.record.seq) && is_own(kept.timeline));
        self.rejected.extend(rejected.map(|kept| (kept.record.seq, kept.reason)));
        while self.rejected.len() > limits::WATCH_REJECTED_MAX {
            self.rejected.pop_front();
        }
    }
}
