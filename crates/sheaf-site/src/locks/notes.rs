//! The locks that a running transaction has taken so far.
//!
//! Invariant: what a savepoint took back is forgotten, and so is what was taken in a transaction
//! that wrote nothing. Of a statement that failed by itself the locks stay: too many are moved
//! then, never too few.

use std::collections::BTreeSet;

use super::Lock;
use crate::capture::savepoint::Savepoints;
use crate::limits;

/// Locks, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    taken: Vec<Lock>,
    savepoints: Savepoints<usize>,
}

impl Notes {
    /// Notes a lock; false if there are too many.
    pub(crate) fn take(&mut self, lock: Lock) -> bool {
        if self.taken.contains(&lock) {
            return true;
        }
        if self.taken.len() >= limits::LOCKS_MAX {
            return false;
        }
        self.taken.push(lock);
        true
    }

    pub(crate) fn locks(&self) -> BTreeSet<Lock> {
        self.taken.iter().cloned().collect()
    }

    /// The transaction is over.
    pub(crate) fn clear(&mut self) {
        self.taken.clear();
        self.savepoints.clear();
    }

    pub(crate) fn savepoint(&mut self, name: &str) {
        self.savepoints.open(name, self.taken.len());
    }

    pub(crate) fn release(&mut self, name: &str) {
        self.savepoints.release(name);
    }

    pub(crate) fn rollback_to(&mut self, name: &str) {
        if let Some(mark) = self.savepoints.rollback_to(name) {
            self.taken.truncate(mark);
        }
    }
}
