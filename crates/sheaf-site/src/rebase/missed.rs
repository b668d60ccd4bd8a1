//! How a pending mutation is kept after a redo: as it came out, or as it was.
//!
//! Invariant: what was made on top of a mutation that fails for now was made on a state that this
//! redo has not, and what it comes to here is shown and not meant: a word that is deleted again is
//! not there to be deleted, a value that is put back already stands. It stays as it was, until what
//! it was made on stands or the log says that it never will. And what was made on top of something
//! kept as it was stays so too: that comes out anew, and perhaps elsewhere, in each redo. Leaves
//! out which rows a failing call would have changed: nobody knows them.

use std::collections::BTreeSet;

use sheaf_merge::Value;

use crate::limits::PENDING_ROWS_MAX;
use crate::mutation::{Body, Mutation, Op};
use crate::opstream::encode_key;
use crate::siblings;
use crate::timeline::MutationRecord;

/// Rows of mutations that had no effect in a redo, or are not kept as they came out of it.
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

/// How the redo of a mutation came out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// It has an effect.
    pub(super) is_applied: bool,
    /// It called rows otherwise than the mutation does.
    pub(super) is_renumbered: bool,
}

impl Missed {
    /// How a mutation is to be kept that was redone and came to this. Notes its rows if it had no
    /// effect, and if it is not kept as it came out: what its author did later was done on top of
    /// what the next redo makes of it again, and not of what this one has made.
    pub(super) fn kept(
        &mut self,
        record: &MutationRecord,
        recaptured: Option<Mutation>,
        Came { is_applied, is_renumbered }: Came,
    ) -> Kept {
        if is_applied && self.is_empty() {
            return recaptured.map_or(Kept::Unchanged, Kept::As);
        }
        // What is no mutation is refused for good, and nobody works on it.
        let Ok(stored) = record.mutation() else {
            return recaptured.map_or(Kept::Unchanged, Kept::As);
        };
        let is_behind = is_applied && self.meets(&stored);
        if is_behind || !is_applied {
            self.add(&stored);
        }
        match recaptured {
            None => Kept::Unchanged,
            Some(recaptured) if !is_behind => Kept::As(recaptured),
            Some(recaptured) => before(stored, recaptured, is_renumbered),
        }
    }

    fn is_empty(&self) -> bool {
        !self.any && self.rows.is_empty()
    }

    /// Adds what a mutation would have changed. Which rows a call would have changed nobody knows.
    fn add(&mut self, mutation: &Mutation) {
        for row in rows(mutation) {
            if self.rows.len() < PENDING_ROWS_MAX {
                self.rows.insert(row);
            } else {
                self.any = true;
            }
        }
    }

    /// Whether a mutation may have been made on top of what was left out, or put a row of a list
    /// beside a row of that.
    fn meets(&self, mutation: &Mutation) -> bool {
        let neighbours = mutation.places.neighbours();
        let mut neighbours = neighbours.map(|(table, key)| row(mutation, table, key));
        self.any
            || rows(mutation).any(|row| self.rows.contains(&row))
            || neighbours.any(|row| self.rows.contains(&row))
    }
}

/// A mutation as it was, but for its locks, which have been looked at whatever became of the rows,
/// and for values beside others, which say for themselves what their author had read. These name rows
/// as the redo called them: where that is not what the mutation called them, all of it is as it
/// came out.
fn before(stored: Mutation, recaptured: Mutation, is_renumbered: bool) -> Kept {
    let beside: Vec<Op> = recaptured.ops().iter().filter(|op| is_beside(op)).cloned().collect();
    if beside.is_empty() && recaptured.locks == stored.locks {
        return Kept::Unchanged;
    }
    if is_renumbered && !beside.is_empty() {
        return Kept::As(recaptured);
    }
    let mut kept = Mutation { locks: recaptured.locks, ..stored };
    siblings::strip(&mut kept, &beside);
    if let Body::Rows(ops) = &mut kept.body {
        let names: BTreeSet<_> = beside.iter().filter_map(Op::row).collect();
        ops.retain(|op| !is_beside(op) || op.row().is_none_or(|row| !names.contains(&row)));
        ops.extend(beside);
    }
    Kept::Before(kept)
}

/// Whether an operation puts a value beside others, or chooses among them.
fn is_beside(op: &Op) -> bool {
    siblings::is_of_siblings(op) && !siblings::only_says(op)
}

/// The rows that a mutation changes.
fn rows(mutation: &Mutation) -> impl Iterator<Item = (String, Vec<u8>)> {
    mutation.ops().iter().filter_map(|op| Some(row(mutation, op.table()?, op.key())))
}

/// A row that a mutation names. A row of one's own goes by the number it was given first, which
/// is what mutations call it that were kept while it got others; it may then be taken for another
/// row of that number, which keeps more than needed.
fn row(mutation: &Mutation, table: &str, key: &[Value]) -> (String, Vec<u8>) {
    let table = table.to_ascii_lowercase();
    let origin = match key {
        [Value::Int(id)] => mutation.ids.get(&table, *id).flatten(),
        _ => None,
    };
    let key = origin.map_or_else(|| encode_key(key), |id| encode_key(&[Value::Int(id)]));
    (table, key)
}
