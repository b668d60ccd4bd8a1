//! One row through the operations of one commit that this device remembers as its own.
//!
//! Invariant: they are believed only if they explain the whole way: each finds the row as the one
//! before left it, the first as the state before the commit has it, and the last leaves what the
//! state after it has. So a deed that is missing or wrong, and anybody else's hand on the row in
//! the same commit, make the answer unknown, never wrong.

use sheaf_merge::Value;
use sheaf_volume::{Lsn, Result, TimelineId};

use super::Cell;
use super::deeds::Deed;
use super::log::Entry;
use super::state::{Found, find, is_kept};
use super::walk::difference;
use crate::mutation::Op;
use crate::opstream::encode_key;
use crate::schema::{Schema, TableInfo};
use crate::site::{Site, View};

/// What own mutations of one commit did, in their order.
#[derive(Debug, Default)]
pub(super) struct Own(Vec<(u64, Vec<Op>)>);

impl Own {
    /// Those of a timeline in the commit at this position.
    pub(super) fn of(deeds: &[Deed], timeline: TimelineId, lsn: Lsn) -> Self {
        let own = deeds.iter().filter(|deed| deed.timeline == timeline && deed.lsn == lsn);
        let ops = |deed: &Deed| Some((deed.seq, deed.mutation()?.deeds().cloned().collect()));
        let mut own: Vec<_> = own.filter_map(ops).collect();
        own.sort_by_key(|(seq, _)| *seq);
        Self(own)
    }

    /// What one of them did; `None` if that is not known.
    pub(super) fn ops(&self, seq: u64) -> Option<&[Op]> {
        self.0.iter().find(|(number, _)| *number == seq).map(|(_, ops)| ops.as_slice())
    }

    /// The row after each of them that changes it, in order; `None` unless they lead from what
    /// was there before the commit to what is there after it.
    pub(super) fn explain(
        &self,
        (table, key): (&str, &[Value]),
        before: Option<&Found>,
        after: Option<&Found>,
    ) -> Option<Vec<(u64, Option<Found>)>> {
        let row = encode_key(key);
        let names = |op: &&Op| {
            op.row().is_some_and(|(name, key)| name.eq_ignore_ascii_case(table) && key == row)
        };
        let mut now = before.cloned();
        let mut states = Vec::new();
        for (seq, ops) in &self.0 {
            let was = now.clone();
            for op in ops.iter().filter(names) {
                now = apply(now, op)?;
            }
            // A move that left its row in place is no step.
            if difference(was.as_ref(), now.as_ref()).is_some() {
                states.push((*seq, now.clone()));
            }
        }
        difference(now.as_ref(), after).is_none().then_some(states)
    }
}

/// A row after an operation; `None` where the operation has found another.
fn apply(row: Option<Found>, op: &Op) -> Option<Option<Found>> {
    match (op, row) {
        (Op::Insert { key, cols, .. }, None) => {
            let cell =
                |(name, value): &(String, Value)| Cell { name: name.clone(), value: value.clone() };
            let rowid = match key.as_slice() {
                [Value::Int(id)] => Some(*id),
                _ => None,
            };
            Some(Some(Found { rowid, cells: cols.iter().map(cell).collect() }))
        }
        (Op::Update { changes, .. }, Some(mut row)) => {
            for change in changes {
                let is_it = |cell: &&mut Cell| cell.name.eq_ignore_ascii_case(&change.col);
                let cell = row.cells.iter_mut().find(is_it)?;
                if !cell.value.same(&change.base) {
                    return None;
                }
                cell.value = change.left.clone();
            }
            Some(Some(row))
        }
        (Op::Delete { old, .. }, Some(row)) => {
            let is_same = |(col, value): &(String, Value)| {
                row.value(col).is_some_and(|there| there.same(value))
            };
            old.iter().all(is_same).then_some(None)
        }
        _ => None,
    }
}

/// A commit's own mutations, and the states before and after it.
pub(super) struct Around {
    own: Own,
    before: (rusqlite::Connection, Schema),
    after: (rusqlite::Connection, Schema),
}

impl Around {
    pub(super) fn new(site: &Site, entry: &Entry, own: Own) -> Result<Self> {
        let state = |lsn| {
            let conn = site.connection(View::At(lsn))?;
            let schema = Schema::read(&conn)?;
            Ok((conn, schema))
        };
        let before = state(Lsn(entry.lsn.0.saturating_sub(1)))?;
        Ok(Self { own, before, after: state(entry.lsn)? })
    }

    pub(super) fn ops(&self, seq: u64) -> Option<&[Op]> {
        self.own.ops(seq)
    }

    /// Whether it is known for sure what an operation did to its row.
    pub(super) fn is_known(&self, op: &Op) -> Result<bool> {
        let (Op::Insert { table, key, .. }
        | Op::Update { table, key, .. }
        | Op::Delete { table, key, .. }) = op
        else {
            return Ok(false);
        };
        let info = |schema: &Schema| schema.table(table).filter(|info| is_kept(info)).cloned();
        let look = |(conn, schema): &(rusqlite::Connection, Schema)| {
            let found = |info: TableInfo| find(conn, &info, key, &|| {});
            info(schema).map_or(Ok(None), found)
        };
        if info(&self.before.1).is_none() && info(&self.after.1).is_none() {
            return Ok(false);
        }
        let (before, after) = (look(&self.before)?, look(&self.after)?);
        Ok(self.own.explain((table, key), before.as_ref(), after.as_ref()).is_some())
    }
}
