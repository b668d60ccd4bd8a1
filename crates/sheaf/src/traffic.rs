//! What went over the network, counted where it goes.
//!
//! Invariant: counters only grow; a reader takes differences.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes and round trips of one server.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
    trips: AtomicU64,
}

/// The counters at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) trips: u64,
}

impl Traffic {
    pub(crate) fn sent(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A request that somebody waits for.
    pub(crate) fn trip(&self) {
        self.trips.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Meter {
        Meter {
            up: self.up.load(Ordering::Relaxed),
            down: self.down.load(Ordering::Relaxed),
            trips: self.trips.load(Ordering::Relaxed),
        }
    }
}

impl Meter {
    /// What was added since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            up: self.up.saturating_sub(earlier.up),
            down: self.down.saturating_sub(earlier.down),
            trips: self.trips.saturating_sub(earlier.trips),
        }
    }
}
