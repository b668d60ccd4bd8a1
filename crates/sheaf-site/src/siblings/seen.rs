//! What the author of a transaction saw agreed on under an own change of the same cell.
//!
//! Invariant: for each cell under `mvr` that the transaction changes and that holds another value
//! in the agreed state, that value is said, with the position of that state: whatever becomes of
//! the change in between, a refusal or a push that knew less, its author has seen what is
//! replaced. Only a convenience, so what cannot be read is not said: a value then may stand beside
//! others that was replaced, and nothing is lost. Leaves out what calls change, and cells that no
//! own change hides: there the value that was replaced is the agreed one.

use rusqlite::Connection;
use sheaf_merge::{Rule, Value};
use sheaf_volume::teeth::{Tooth, bites};

use super::said::{Met, Said, What};
use crate::{
    limits::SEEN_CELLS_MAX,
    mutation::{Change, Op},
    replay::{
        rows::read_row,
        table::{Table, Tables},
    },
    rules,
    schema::Schema,
};

/// Whether these operations may change a cell that keeps several values.
pub(crate) fn may_be_kept(ops: &[Op], schema: &Schema, draft: &Connection) -> bool {
    let may = |name: &&str| {
        let info = schema.table(name);
        info.is_some_and(|info| rules::may_have(Rule::Mvr, info, schema, draft).unwrap_or(false))
    };
    tables(ops).iter().any(may)
}

/// What is to be said beside these operations. `draft` sees the state to be committed, `agreed`
/// the one at position `base`.
pub(crate) fn saw(ops: &[Op], draft: &Connection, (agreed, base): (&Connection, u64)) -> Vec<Op> {
    let (mut said, mut looked) = (Vec::new(), 0);
    if bites(Tooth::ForgetAgreed) {
        return said;
    }
    for name in tables(ops) {
        let tables = |conn| Tables::default().get(conn, name).ok();
        let (Some(table), Some(agreed_on)) = (tables(draft), tables(agreed)) else { continue };
        if !table.has_siblings() {
            continue;
        }
        for (_, key, changes) in ops.iter().filter_map(updated).filter(|(of, ..)| *of == name) {
            let kept = |change: &&Change| {
                table.column(&change.col).is_ok_and(|column| column.keeps_siblings())
            };
            for change in changes.iter().filter(kept) {
                if looked == SEEN_CELLS_MAX {
                    return said;
                }
                looked += 1;
                said.extend(hidden_by(change, &agreed_on, key, (agreed, base)));
            }
        }
    }
    said
}

fn tables(ops: &[Op]) -> Vec<&str> {
    let mut names: Vec<&str> = ops.iter().filter_map(updated).map(|(table, ..)| table).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn updated(op: &Op) -> Option<(&str, &[Value], &[Change])> {
    match op {
        Op::Update { table, key, changes } => Some((table, key, changes)),
        _ => None,
    }
}

fn hidden_by(
    change: &Change,
    table: &Table,
    key: &[Value],
    (agreed, base): (&Connection, u64),
) -> Option<Op> {
    // SQLite takes the name of a column that is not there for a string.
    let column = &table.column(&change.col).ok()?.name;
    let row = read_row(agreed, table, key, &[column]).ok()??;
    let met: Met = (row.into_iter().next()?, base);
    if met.0.same(&change.base) {
        return None;
    }
    let (table, column) = (table.name.clone(), change.col.clone());
    Said { table, key: key.to_vec(), column, what: What::Saw(met) }.op()
}
