//! Cells under `mvr` in a replay: which values stand beside the one that is written.
//!
//! Invariant: a value goes only when somebody who had read it writes the cell; what its author had
//! read stays what it was however often the change is redone, although the mutation's base moves.
//! For that a change that stands beside others is redone as a row of the siblings' table, which
//! names the position read; no such row is ever stored. Leaves out the stored form: see
//! `siblings.rs` of this crate.

use std::collections::BTreeSet;

use sheaf_merge::{
    Rule, Value,
    mvr::{Sibling, Siblings},
};

use sheaf_volume::teeth::{Tooth, bites};

use super::{
    failure::Failure,
    rows::{Rows, read_row, refused},
    table::Table,
};
use crate::{
    mutation::{Body, Change, Mutation, Op},
    opstream::{decode_key, encode_key},
    siblings::{self, Cell, counts},
};

/// The author of a value that was in the cell before siblings were kept.
const SOMEBODY: u128 = 0;

/// A value for a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposal<'p> {
    /// What its author saw there; `None` where its author saw no row.
    pub(super) base: Option<&'p Value>,
    pub(super) left: &'p Value,
    /// What the cell holds.
    pub(super) right: &'p Value,
    /// The position up to which its author had read, if that is not the mutation's base.
    pub(super) read: Option<u64>,
    /// What it met when it was redone before, and by when that was there at the latest.
    pub(super) met: Option<&'p Met>,
}

/// A value that was in a cell at a position.
type Met = (Value, u64);

/// What becomes of a cell, to be settled once the row is written.
#[derive(Debug)]
pub(super) struct Decision {
    column: String,
    shown: Value,
    keep: Keep,
    redo: Option<Redo>,
}

/// How a change is redone, if not by what is captured.
#[derive(Debug)]
struct Redo {
    base: Value,
    left: Value,
    read: u64,
    met: Option<Met>,
}

/// What is kept beside the cell.
#[derive(Debug)]
enum Keep {
    AsItIs,
    Nothing,
    These(Siblings),
}

impl Decision {
    pub(super) fn shown(&self) -> &Value {
        &self.shown
    }

    /// The change as it is redone on another base, where that must not take the place of the
    /// position that its author had read.
    pub(super) fn redo(&self, table: &Table, key: &[Value]) -> Option<Op> {
        let Redo { base, left, read, met } = self.redo.as_ref()?;
        let position = |lsn: u64| Value::Int(i64::try_from(lsn).unwrap_or(i64::MAX));
        let change = |col: &str, base: &Value, left: Value| Change {
            col: col.to_owned(),
            base: base.clone(),
            left,
        };
        let mut changes = vec![
            change("value", base, left.clone()),
            change("read", &Value::Null, position(*read)),
        ];
        changes.extend(met.as_ref().map(|(value, lsn)| change("met", value, position(*lsn))));
        Some(Op::Update {
            table: siblings::TABLE.to_owned(),
            key: vec![
                Value::Text(table.name.clone()),
                Value::Blob(encode_key(key)),
                Value::Text(self.column.clone()),
            ],
            changes,
        })
    }
}

/// A row of the siblings' table in a mutation.
struct Row {
    table: String,
    key: Vec<Value>,
    column: String,
    base: Value,
    left: Value,
    read: Option<u64>,
    met: Option<Met>,
}

impl Row {
    /// Reads the two forms there are: a change that is redone, and siblings that were deleted
    /// because their author chose the newest of them.
    fn read(op: &Op) -> Option<Self> {
        let (Op::Update { key, .. } | Op::Delete { key, .. }) = op else { return None };
        let [Value::Text(table), Value::Blob(key), Value::Text(column)] = key.as_slice() else {
            return None;
        };
        let (base, left, read, met) = match op {
            Op::Update { changes, .. } => {
                let (value, rest) = changes.split_first().filter(|(v, _)| v.col == "value")?;
                let (read, rest) = rest.split_first().filter(|(v, _)| v.col == "read")?;
                let met = match rest {
                    [] => None,
                    [met] if met.col == "met" => Some((met.base.clone(), position(&met.left)?)),
                    _ => return None,
                };
                (value.base.clone(), value.left.clone(), Some(position(&read.left)?), met)
            }
            Op::Delete { old, .. } => {
                let held = old.iter().find(|(col, _)| col == "siblings");
                let Some((_, Value::Blob(bytes))) = held else { return None };
                let newest = siblings::decode(bytes).ok()??.iter().last()?.value.clone();
                (newest.clone(), newest, None, None)
            }
            _ => return None,
        };
        let (table, column) = (table.clone(), column.clone());
        Some(Self { table, key: decode_key(key).ok()?, column, base, left, read, met })
    }
}

fn position(value: &Value) -> Option<u64> {
    match value {
        Value::Int(int) => u64::try_from(*int).ok(),
        _ => None,
    }
}

impl Rows<'_> {
    /// Decides which values of a cell stand beside the one that is written.
    pub(super) fn decide(
        &mut self,
        table: &Table,
        key: &[Value],
        column: &str,
        proposal: Proposal<'_>,
    ) -> Result<Decision, Failure> {
        let Proposal { base, left, right, read, met } = proposal;
        let decision = |keep, shown: &Value, redo| {
            Ok(Decision { column: column.to_owned(), shown: shown.clone(), keep, redo })
        };
        // Nobody has read what is only now put in order, whatever a mutation says.
        let newest = self.ctx.target.0.saturating_sub(1);
        let read = read.filter(|_| !bites(Tooth::ForgetRead));
        let read = read.unwrap_or(self.ctx.base.0).min(newest);
        let kept = siblings::load(self.conn, Cell { table: &table.name, key, column })?;
        let had = kept.is_some();
        let mut values = match kept.filter(|kept| counts(kept, right)) {
            Some(values) => values,
            None => {
                let keep = if had { Keep::Nothing } else { Keep::AsItIs };
                match base {
                    // An insert that says nothing of a cell does not speak against what is there.
                    None if left.same(&Value::Null) => return decision(keep, right, None),
                    None if right.same(&Value::Null) => return decision(keep, left, None),
                    Some(base) if right.same(base) => return decision(keep, left, None),
                    _ if left.same(right) => return decision(keep, left, None),
                    _ => before(read, newest, base, right)?,
                }
            }
        };
        let is_first = |value: &&Sibling| value.author == SOMEBODY;
        let first = values.iter().next().filter(is_first);
        if let Some((_, lsn)) = met.filter(|met| first.is_some_and(|v| v.value.same(&met.0))) {
            values.oldest_was_there_at(*lsn);
        }
        let met = values.iter().next().filter(is_first).map(|v| (v.value.clone(), v.write));
        // Where it was written is not known of a value that was there first, but who saw it at
        // the place of which this one is written has read it.
        values.forget(|value| {
            let is_seen = value.author == SOMEBODY && base.is_some_and(|b| b.same(&value.value));
            is_seen || value.value.same(left)
        });
        let (write, author) =
            (self.ctx.target.0, u128::from_be_bytes(*self.ctx.timeline.as_bytes()));
        let own = Sibling { read, write, author, value: left.clone() };
        let shown_at = |lsn| base.filter(|_| lsn == read).cloned();
        let folded = values.propose(own, shown_at).map_err(bad)?;
        self.is_merged |= folded.is_some() || !values.is_settled();
        let is_redone = !values.is_settled() || left.same(right);
        let redo = base.filter(|_| is_redone).map(|base| {
            let (base, left) = (base.clone(), left.clone());
            Redo { base, left, read, met }
        });
        let keep = match (values.is_settled(), had) {
            (false, _) => Keep::These(values),
            (true, true) => Keep::Nothing,
            (true, false) => Keep::AsItIs,
        };
        decision(keep, left, redo)
    }

    /// Keeps what was decided. To be called when the row is written: only then is the mutation
    /// past everything that could make it try again.
    pub(super) fn settle(
        &self,
        table: &Table,
        key: &[Value],
        decision: &Decision,
    ) -> Result<(), Failure> {
        let cell = Cell { table: &table.name, key, column: &decision.column };
        match &decision.keep {
            Keep::AsItIs => Ok(()),
            Keep::Nothing => siblings::forget(self.conn, cell),
            Keep::These(values) => siblings::store(self.conn, cell, values),
        }
    }

    /// Applies what a mutation says of the siblings' table: a change that was redone, or a
    /// resolution. The names in it are those of the log already.
    pub(super) fn propose_again(&mut self, op: &Op) -> Result<(), Failure> {
        let row = Row::read(op)
            .ok_or_else(|| Failure::reject(format!("table {} is internal", siblings::TABLE)))?;
        let table = self.tables.get(self.conn, &row.table)?;
        self.touch(&table);
        let width = table.identity.columns().len();
        if row.key.len() != width {
            let reason = format!("the key has {} values, not {width}", row.key.len());
            return Err(Failure::reject(reason).at(&table.name, &row.key));
        }
        self.propose_row(op, &table, &row).map_err(|failure| failure.at(&table.name, &row.key))
    }

    fn propose_row(&mut self, op: &Op, table: &Table, row: &Row) -> Result<(), Failure> {
        let column = table.column(&row.column)?;
        let found = read_row(self.conn, table, &row.key, &[&column.name])?;
        let Some(right) = found.and_then(|values| values.into_iter().next()) else {
            self.is_merged = true;
            self.kept.push(op.clone());
            return Ok(());
        };
        let (base, left) = (Some(&row.base), &row.left);
        if column.keeps_siblings() {
            let (read, met) = (row.read, row.met.as_ref());
            let proposal = Proposal { base, left, right: &right, read, met };
            let decision = self.decide(table, &row.key, &column.name, proposal)?;
            let writes: Vec<_> = (!decision.shown().same(&right))
                .then(|| (column.name.as_str(), decision.shown().clone()))
                .into_iter()
                .collect();
            self.write(table, row.key.clone(), &writes)?;
            self.settle(table, &row.key, &decision)?;
            match decision.redo(table, &row.key) {
                Some(redo) => self.proposals.push(redo),
                // Somebody else has chosen the same: it is meant all the same, should the log come
                // to a state in which it matters.
                None if writes.is_empty() => self.kept.push(op.clone()),
                None => {}
            }
            return Ok(());
        }
        // The column has got another rule meanwhile.
        let merged = column.merge((self.conn, self.merges), base, left, &right)?;
        if merged.is_refused() {
            return Err(refused(&column.name));
        }
        self.is_merged |= !merged.value.same(left);
        if merged.value.same(&right) {
            return Ok(());
        }
        self.write(table, row.key.clone(), &[(&column.name, merged.value)])
    }
}

/// The values of a cell of which nothing is kept: what it holds, ordered after `read`, for
/// otherwise its author would have seen it.
fn before(
    read: u64,
    newest: u64,
    base: Option<&Value>,
    right: &Value,
) -> Result<Siblings, Failure> {
    let mut values = Siblings::new(Rule::Mvr);
    let write = newest.max(read + 1);
    let sibling = Sibling { read, write, author: SOMEBODY, value: right.clone() };
    values.propose(sibling, |_| base.cloned()).map_err(bad)?;
    Ok(values)
}

fn bad(error: sheaf_merge::mvr::BadSiblings) -> Failure {
    Failure::reject(format!("siblings: {error}"))
}

/// Leaves out of what was captured the cells that are redone in another way, and the siblings
/// themselves, which follow from the log.
pub(super) fn strip(captured: &mut Mutation, proposals: &[Op]) {
    let Body::Rows(ops) = &mut captured.body else { return };
    ops.retain(|op| op.table() != Some(siblings::TABLE));
    let cells: BTreeSet<(&str, &[u8], &str)> = proposals
        .iter()
        .filter_map(|op| match op {
            Op::Update { key, .. } => match key.as_slice() {
                [Value::Text(table), Value::Blob(key), Value::Text(column)] => {
                    Some((table.as_str(), key.as_slice(), column.as_str()))
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    if cells.is_empty() {
        return;
    }
    ops.retain_mut(|op| {
        let Op::Update { table, key, changes } = op else { return true };
        let key = encode_key(key);
        changes.retain(|change| !cells.contains(&(table.as_str(), &key, &change.col)));
        !changes.is_empty()
    });
}
