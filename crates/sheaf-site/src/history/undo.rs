//! Taking one mutation back: a new one on the present state that reverses what it did.
//!
//! Invariant: what others did since is merged with, never written over: per column, what the old
//! mutation wrote is the base, what it replaced is left, what is there now is right, and the rules
//! of the schema decide, by the code that replays every mutation. The result is an ordinary pending
//! mutation. Nothing of the log is rewritten.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use sheaf_merge::Value;
use sheaf_volume::{
    Error, ErrorKind, Lsn, Result,
    teeth::{Tooth, bites},
};

use super::MutationName;
use super::chain::{Around, Own};
use super::log::Entry;
use super::state::{check_key, find};
use super::target::Place;
use crate::clock;
use crate::diff::{self, Diff, Side, TableShape};
use crate::error::sqlite_detail;
use crate::limits::MUTATION_OPS_MAX;
use crate::mutation::{Body, Change, Mutation, Op};
use crate::replay::{Outcome, Remap, ReplayContext, replay};
use crate::schema::{Identity, Schema, TableInfo, fold};
use crate::siblings;
use crate::site::{LocalConnection, Site, View};
use crate::watch::Noted;

/// A row that an undo left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: Vec<Value>,
    /// Why, for people.
    pub why: &'static str,
}

/// What an undo did, or would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Undone {
    /// The number of the new mutation; none where nothing was to be changed, or nothing was.
    pub seq: Option<u64>,
    /// The commit that held the old one; `None` if it was still waiting.
    pub at: Option<Lsn>,
    /// The rows it changes, with their keys and the columns that differ.
    pub rows: Vec<(TableShape, diff::Change)>,
    /// Rows that were left as they are.
    pub left: Vec<LeftAlone>,
    /// Virtual tables that were not looked at.
    pub not_compared: Vec<String>,
}

const NO_TABLE: &str = "the table is no longer there, or has another key";
const NO_COLUMN: &str = "columns that it wrote are no longer there";
const TAKEN: &str = "a row with this key is there";
const GONE: &str = "the row is gone";
const UNSURE: &str = "what it did to the row is not known for sure";
const STANDS: &str = "what is there now stands";

impl Site {
    /// Takes back what one mutation did, by a new one on the present state; with `dry_run`, only
    /// says what that would change. Text is undone word by word and counters are subtracted, by the
    /// rules of the columns; rows it inserted are deleted, rows it deleted are inserted again where
    /// their keys are free.
    ///
    /// # Errors
    /// `NotFound` for a mutation that the log does not have, `Expired` for one that it no longer
    /// keeps; `Unsupported` for one that shares its commit with others and that this device does
    /// not remember, and for one that changed the schema; `Invalid` where a rule or a constraint forbids it; `Busy` while another
    /// connection writes; `Unavailable` when the log cannot be reached. Nothing is changed then.
    pub fn undo(&self, name: &MutationName, dry_run: bool) -> Result<Undone> {
        let mut undone = Undone::default();
        let ops = match self.find_mutation(name)? {
            Place::Commit(entry) => {
                undone.at = Some(entry.lsn);
                self.reverse_of_commit(&entry, &mut undone)?
            }
            Place::Among(entry, own, seq) => {
                undone.at = Some(entry.lsn);
                self.reverse_of_one(&entry, own, seq, &mut undone)?
            }
            Place::Pending(mutation) => reverse_of(mutation)?,
        };
        if ops.is_empty() {
            return Err(Error::invalid("it changed no rows of tables: there is nothing to undo"));
        }
        self.with_writer(|local| self.reverse(local, ops, dry_run, &mut undone))?;
        Ok(undone)
    }

    /// What goes back behind a commit, from the two states around it.
    fn reverse_of_commit(&self, entry: &Entry, undone: &mut Undone) -> Result<Vec<Op>> {
        let before = Side::of_site(self, View::At(Lsn(entry.lsn.0.saturating_sub(1))))?;
        let diff = Diff::new(before, Side::of_site(self, View::At(entry.lsn))?)?;
        if !diff.schema_changes().is_empty() {
            return Err(schema_changed());
        }
        undone.not_compared = diff.not_compared();
        let mut ops = Vec::new();
        for table in diff.tables() {
            diff.rows(&table, &mut |shape, change| {
                if ops.len() >= MUTATION_OPS_MAX {
                    let text = format!("it changed more than {MUTATION_OPS_MAX} rows");
                    return Err(Error::new(ErrorKind::Limit, text));
                }
                ops.push(reverse_change(shape, change));
                Ok(())
            })?;
        }
        Ok(ops)
    }

    /// What goes back behind one of several mutations of a commit, as this device remembers it,
    /// where the states around the commit agree.
    fn reverse_of_one(
        &self,
        entry: &Entry,
        own: Own,
        seq: u64,
        undone: &mut Undone,
    ) -> Result<Vec<Op>> {
        let around = Around::new(self, entry, own)?;
        let mut known = Vec::new();
        for op in around.ops(seq).unwrap_or_default() {
            if matches!(op, Op::Ddl { .. }) {
                return Err(schema_changed());
            }
            match around.is_known(op)? {
                true => known.push(op.clone()),
                false => undone.left.extend(left(op, UNSURE)),
            }
        }
        if known.is_empty() && !undone.left.is_empty() {
            let text = "others changed the same rows in the same commit, or it came out otherwise \
                        than this device remembers: what it did alone is not known for sure";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        reverse_of(Mutation::new(Body::Rows(known), true))
    }

    /// Applies the way back as a mutation, and commits what that comes to here.
    fn reverse(
        &self,
        local: &LocalConnection,
        ops: Vec<Op>,
        dry_run: bool,
        undone: &mut Undone,
    ) -> Result<()> {
        let told = |e| sqlite_detail(e, &local.failure);
        let immediate = TransactionBehavior::Immediate;
        // Dropped without a commit, it is rolled back.
        let tx = Transaction::new_unchecked(&local.conn, immediate).map_err(told)?;
        let schema = Schema::read(&tx)?;
        let mut fitting = Vec::new();
        for op in ops {
            let (op, left) = fit(&tx, &schema, op)?;
            fitting.extend(op);
            undone.left.extend(left);
        }
        let (seq, done) = self.replayed(local, &tx, fitting.clone())?;
        let Body::Rows(changed) = &done.body else { return Ok(()) };
        let touched: BTreeSet<_> = changed.iter().filter_map(Op::row).collect();
        let idle = fitting.iter().filter(|op| op.row().is_some_and(|row| !touched.contains(&row)));
        undone.left.extend(idle.filter_map(|op| left(op, STANDS)));
        undone.rows = changed.iter().filter_map(|op| shown(&schema, op)).collect();
        if dry_run || changed.is_empty() {
            return Ok(());
        }
        local.sink.expect_call(done, Noted::default());
        let committed = tx.commit();
        local.sink.forget_call();
        committed.map_err(told)?;
        undone.seq = Some(seq);
        Ok(())
    }

    /// Replays operations as a mutation of this device; gives its number, and it as it came out.
    fn replayed(
        &self,
        local: &LocalConnection,
        conn: &Connection,
        ops: Vec<Op>,
    ) -> Result<(u64, Mutation)> {
        let (seq, base, time_ms) = (self.last_seq() + 1, self.base().0, self.0.env.now_ms());
        let context = ReplayContext {
            timeline: self.timeline(),
            seq,
            base,
            target: base.next(),
            authority: false,
            device: self.device(),
            time_ms,
        };
        // References are kept as they are for whoever writes here.
        let mutation = Mutation::new(Body::Rows(ops), true);
        let mut remap = Remap::new(self.merges());
        let run = || {
            local
                .sink
                .with_capture(|capture| replay(conn, capture, &context, &mut remap, &mutation))
        };
        let replayed = clock::with_time(time_ms, run)?;
        match (replayed.outcome, replayed.recaptured) {
            (Outcome::Rejected { reason } | Outcome::Asks { reason }, _) => {
                Err(Error::invalid(format!("it cannot be undone: {reason}")))
            }
            (Outcome::Undecided { reason }, _) => {
                let text = format!("it cannot be undone here: {reason}");
                Err(Error::new(ErrorKind::Unsupported, text))
            }
            (_, Some(done)) => Ok((seq, done)),
            (_, None) => Err(Error::new(ErrorKind::Internal, "an undo was not captured")),
        }
    }
}

fn schema_changed() -> Error {
    let text = "it changed the schema, and what was in a table or column that went cannot be merged \
                with what came after: make the opposite change, or restore an earlier state";
    Error::new(ErrorKind::Unsupported, text)
}

fn stands_beside() -> Error {
    let text = "it stands beside values of others in a cell that keeps several: write that cell, or \
                choose with sheaf_resolve, or undo this once the log has decided it";
    Error::new(ErrorKind::Unsupported, text)
}

/// What goes back behind a mutation that is still waiting.
fn reverse_of(mutation: Mutation) -> Result<Vec<Op>> {
    let Body::Rows(ops) = mutation.body else {
        let text = "it is a call that the log has not decided, and its effects are known only then";
        return Err(Error::new(ErrorKind::Unsupported, text));
    };
    let back = |op| match op {
        Op::Ddl { .. } => Err(schema_changed()),
        // What was there before it is gone from the cell, and what stands there is the others'.
        op if siblings::is_of_siblings(&op) => Err(stands_beside()),
        Op::Insert { table, key, cols } => Ok(Op::Delete { table, key, old: cols }),
        Op::Delete { table, key, old } => Ok(Op::Insert { table, key, cols: old }),
        Op::Update { table, key, changes } => {
            let back = |Change { col, base, left }| Change { col, base: left, left: base };
            Ok(Op::Update { table, key, changes: changes.into_iter().map(back).collect() })
        }
    };
    ops.into_iter().filter(|op| !siblings::only_says(op)).map(back).collect()
}

/// The way back from one row that differs.
fn reverse_change(shape: &TableShape, change: diff::Change) -> Op {
    let table = shape.name.clone();
    let cols = |row: diff::Row| shape.columns.iter().cloned().zip(row.values).collect();
    match change {
        diff::Change::Deleted(row) => {
            Op::Insert { table, key: shape.key_of(&row), cols: cols(row) }
        }
        diff::Change::Inserted(row) => {
            Op::Delete { table, key: shape.key_of(&row), old: cols(row) }
        }
        diff::Change::Updated { old, new } => {
            let key = shape.key_of(&new);
            let values = old.values.into_iter().zip(new.values);
            let changes = shape.columns.iter().cloned().zip(values);
            let changes = changes.filter(|(_, (old, new))| !old.same(new));
            let changes = changes.map(|(col, (left, base))| Change { col, base, left });
            Op::Update { table, key, changes: changes.collect() }
        }
    }
}

/// An operation as far as the schema and the rows of now have a place for it, and what is left out.
fn fit(conn: &Connection, schema: &Schema, op: Op) -> Result<(Option<Op>, Option<LeftAlone>)> {
    let refuse = |op: &Op, why| {
        let left = left(op, why).ok_or_else(|| Error::invalid("not a row"))?;
        Ok((None, Some(left)))
    };
    let info = op.table().and_then(|name| schema.table(name));
    let (Op::Insert { key, .. } | Op::Update { key, .. } | Op::Delete { key, .. }) = &op else {
        return refuse(&op, NO_TABLE);
    };
    let Some(info) = info.filter(|info| check_key(info, key).is_ok()) else {
        return refuse(&op, NO_TABLE);
    };
    let there = find(conn, info, key, &|| {})?;
    let is_there = there.is_some();
    let has = |col: &str| info.stored().any(|(_, column)| column.name.eq_ignore_ascii_case(col));
    let (op, is_whole) = match (op, is_there) {
        (op @ Op::Insert { .. }, true) => return refuse(&op, TAKEN),
        (op @ (Op::Update { .. } | Op::Delete { .. }), false) => return refuse(&op, GONE),
        (Op::Insert { table, key, mut cols }, _) => {
            let all = cols.len();
            cols.retain(|(col, _)| has(col));
            let is_whole = cols.len() == all;
            (Op::Insert { table, key, cols }, is_whole)
        }
        (Op::Update { table, key, mut changes }, _) => {
            let all = changes.len();
            changes.retain(|change| has(&change.col));
            if let Some(found) = there.filter(|_| bites(Tooth::UndoOverwrites)) {
                for change in &mut changes {
                    change.base = found.value(&change.col).cloned().unwrap_or_default();
                }
            }
            let is_whole = changes.len() == all;
            (Op::Update { table, key, changes }, is_whole)
        }
        (op, _) => (op, true),
    };
    let is_empty = matches!(&op, Op::Update { changes, .. } if changes.is_empty());
    let left = if is_whole && !is_empty { None } else { left(&op, NO_COLUMN) };
    Ok((Some(op).filter(|_| !is_empty), left))
}

fn left(op: &Op, why: &'static str) -> Option<LeftAlone> {
    let (Op::Insert { table, key, .. }
    | Op::Update { table, key, .. }
    | Op::Delete { table, key, .. }) = op
    else {
        return None;
    };
    Some(LeftAlone { table: table.clone(), key: key.clone(), why })
}

/// A row change of a mutation, as a difference of two states is shown: its key and what differs.
fn shown(schema: &Schema, op: &Op) -> Option<(TableShape, diff::Change)> {
    let info = schema.table(op.table()?)?;
    let names = key_names(info);
    match op {
        Op::Insert { key, cols, .. } => {
            let (shape, [row]) = shape(info, &names, key, cols.iter().map(|(c, v)| (c, [v])));
            Some((shape, diff::Change::Inserted(row)))
        }
        Op::Delete { key, old, .. } => {
            let (shape, [row]) = shape(info, &names, key, old.iter().map(|(c, v)| (c, [v])));
            Some((shape, diff::Change::Deleted(row)))
        }
        Op::Update { key, changes, .. } => {
            let columns = changes.iter().map(|c| (&c.col, [&c.base, &c.left]));
            let (shape, [old, new]) = shape(info, &names, key, columns);
            Some((shape, diff::Change::Updated { old, new }))
        }
        Op::Ddl { .. } => None,
    }
}

/// The columns of the key; none where that is the row id.
fn key_names(info: &TableInfo) -> Vec<String> {
    match info.identity {
        Identity::Rowid => Vec::new(),
        _ => info.key_columns().into_iter().map(|(_, column)| column.name.clone()).collect(),
    }
}

/// A shape of the key and some columns, and the rows that hold their values.
fn shape<'a, const N: usize>(
    info: &TableInfo,
    names: &[String],
    key: &[Value],
    columns: impl Iterator<Item = (&'a String, [&'a Value; N])>,
) -> (TableShape, [diff::Row; N]) {
    let rowid = match (names, key) {
        ([], [Value::Int(id)]) => Some(*id),
        _ => None,
    };
    let mut shape = TableShape {
        name: info.name.clone(),
        columns: names.to_vec(),
        key: (0..names.len()).collect(),
        rowid: info.rowid_name().map(str::to_owned),
    };
    let start: Vec<Value> = names.iter().zip(key).map(|(_, value)| value.clone()).collect();
    let mut rows = [(); N].map(|()| diff::Row { rowid, values: start.clone() });
    let is_key = |col: &str| names.iter().any(|name| fold(name) == fold(col));
    for (col, values) in columns.filter(|(col, _)| !is_key(col)) {
        shape.columns.push(col.clone());
        for (row, value) in rows.iter_mut().zip(values) {
            row.values.push(value.clone());
        }
    }
    (shape, rows)
}
