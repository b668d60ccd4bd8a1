//! Moves of this device's own mutations that no counter of its local view shows yet.
//!
//! Invariant: a transaction's moves are written down in the record that commits it, and forgotten
//! in the one that publishes a rebase, which moves the counters themselves. So a lock is seen to
//! have moved once per waiting mutation, whether that was redone or not.

use std::collections::BTreeSet;
use std::sync::Weak;

use bytes::Bytes;
use sheaf_volume::TimelineId;

use super::{Lock, Waiting};
use crate::site::{Inner, Site};

const ATTR_PREFIX: &str = "timeline/lock/";

/// For a connection that applications write with.
pub(crate) struct OwnWaiting(pub(crate) Weak<Inner>);

impl Waiting for OwnWaiting {
    fn timeline(&self) -> Option<TimelineId> {
        self.0.upgrade().map(|inner| Site(inner).timeline())
    }

    fn moves(&self, name: &str) -> u64 {
        self.0.upgrade().map_or(0, |inner| Site(inner).waiting_moves(name))
    }
}

impl Site {
    fn waiting_moves(&self, name: &str) -> u64 {
        let bytes = self.volume().attr(&format!("{ATTR_PREFIX}{name}"));
        let count = bytes.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
        count.map_or(0, u64::from_le_bytes)
    }

    /// The attributes that write down what a new transaction moves.
    pub(crate) fn moves_attrs<'a>(
        &self,
        locks: impl Iterator<Item = &'a Lock>,
    ) -> impl Iterator<Item = (String, Option<Bytes>)> {
        let names: BTreeSet<&str> = locks.map(|lock| lock.name.as_str()).collect();
        names.into_iter().map(|name| {
            let count = self.waiting_moves(name) + 1;
            let bytes = Bytes::copy_from_slice(&count.to_le_bytes());
            (format!("{ATTR_PREFIX}{name}"), Some(bytes))
        })
    }

    /// The attributes that forget it all: the counters show it.
    pub(crate) fn no_moves_attrs(&self) -> impl Iterator<Item = (String, Option<Bytes>)> {
        self.volume().attrs(ATTR_PREFIX).into_iter().map(|(name, _)| (name, None))
    }
}
