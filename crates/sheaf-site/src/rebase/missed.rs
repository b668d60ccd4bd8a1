//! What a redo has left out: rows of pending mutations that fail for now.
//!
//! Invariant: a later mutation of the same author that may touch one of these rows has seen it
//! changed, and the state it meets in this redo is none that its author has worked on. What it
//! comes to there is shown, and is not what its author meant: a word that is deleted again is not
//! there to be deleted, a value that is put back already stands. Such a mutation is kept as it was,
//! until what it was made on stands or the log says that it never will.

use std::collections::BTreeSet;

use crate::limits::PENDING_ROWS_MAX;
use crate::mutation::{Mutation, Op};
use crate::siblings;
use crate::timeline::MutationRecord;

/// Rows of mutations that had no effect in a redo.
#[derive(Debug, Default)]
pub(super) struct Missed {
    rows: BTreeSet<(String, Vec<u8>)>,
    /// It may be any row: there are too many to keep.
    any: bool,
}

/// How a mutation is kept after a redo.
pub(super) enum Kept {
    /// Like this, seen from the state that it has met.
    As(Mutation),
    /// Like this, seen from where it was made.
    Before(Mutation),
    /// As it was.
    Unchanged,
}

impl Missed {
    /// How a mutation is to be kept that was redone and came to this, and notes what is missed if
    /// it had no effect.
    pub(super) fn kept(
        &mut self,
        record: &MutationRecord,
        recaptured: Option<Mutation>,
        is_applied: bool,
    ) -> Kept {
        let stored = match is_applied && self.is_empty() {
            true => None,
            // What is no mutation is refused for good, and nobody works on it.
            false => record.mutation().ok(),
        };
        let is_beside = |body: &Mutation| body.ops().iter().any(is_sibling);
        match (recaptured, stored) {
            // A value beside others is kept with what its author had read of them.
            (Some(recaptured), Some(stored))
                if is_applied
                    && self.meets(&stored)
                    && !is_beside(&recaptured)
                    && !is_beside(&stored) =>
            {
                // The locks have been looked at, whatever became of the rows.
                match recaptured.locks == stored.locks {
                    true => Kept::Unchanged,
                    false => Kept::Before(Mutation { locks: recaptured.locks, ..stored }),
                }
            }
            (recaptured, stored) => {
                stored.iter().filter(|_| !is_applied).for_each(|stored| self.add(stored));
                recaptured.map_or(Kept::Unchanged, Kept::As)
            }
        }
    }

    fn is_empty(&self) -> bool {
        !self.any && self.rows.is_empty()
    }

    /// Adds what a mutation would have changed. Which rows a call would have changed nobody knows.
    fn add(&mut self, mutation: &Mutation) {
        for row in mutation.ops().iter().filter_map(row) {
            if self.rows.len() < PENDING_ROWS_MAX {
                self.rows.insert(row);
            } else {
                self.any = true;
            }
        }
    }

    /// Whether a mutation may have been made on top of what was left out.
    fn meets(&self, mutation: &Mutation) -> bool {
        let is_missed = |op: &Op| row(op).is_some_and(|row| self.rows.contains(&row));
        self.any || mutation.ops().iter().any(is_missed)
    }
}

fn is_sibling(op: &Op) -> bool {
    op.table().is_some_and(|table| table.eq_ignore_ascii_case(siblings::TABLE))
}

fn row(op: &Op) -> Option<(String, Vec<u8>)> {
    op.row().map(|(table, key)| (table.to_ascii_lowercase(), key))
}
