//! Cells under `mvr` in a replay: which values stand beside the one that is written.
//!
//! Invariant: a value goes only when somebody who had read it writes the cell; what its author had
//! read stays what it was however often the change is redone, although the mutation's base moves.
//! For that a change that stands beside others is redone as a row of the siblings' table, which
//! names the position read; no such row is ever stored. Leaves out the stored form: see
//! `siblings.rs` of this crate.

use sheaf_merge::{
    Rule, Value,
    mvr::{Sibling, Siblings},
};

use sheaf_volume::teeth::{Tooth, bites};

use super::{
    failure::Failure,
    rows::{Rows, is_internal, read_row, refused},
    table::Table,
};
use crate::{
    mutation::Op,
    siblings::{self, Cell, Met, SOMEBODY, Said, What, counts},
};

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

/// What becomes of a cell, to be settled once the row is written.
#[derive(Debug)]
pub(super) struct Decision {
    column: String,
    shown: Value,
    keep: Keep,
    /// How the change is redone, if not by what is captured.
    redo: Option<What>,
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
        let (what, column) = (self.redo.clone()?, self.column.clone());
        Said { table: table.name.clone(), key: key.to_vec(), column, what }.op()
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
                    // Its author has seen that below an own change.
                    _ if met.is_some_and(|met| right.same(&met.0) && met.1 <= read) => {
                        return decision(keep, left, None);
                    }
                    _ => before(read, self.written_by(newest), base, right)?,
                }
            }
        };
        let is_first = |value: &&Sibling| value.author == SOMEBODY;
        let first = values.iter().next().filter(is_first);
        let known = met.filter(|met| first.is_none_or(|v| v.value.same(&met.0)));
        let found = first.map(|v| (v.value.clone(), v.write));
        if let Some((_, lsn)) = known.filter(|_| first.is_some()) {
            values.oldest_was_there_at(*lsn);
        }
        // The log does not know what is said here, so the next redo may meet the value again.
        let met = match (known, found) {
            (Some((value, lsn)), found) => {
                Some((value.clone(), found.map_or(*lsn, |(_, write)| write.min(*lsn))))
            }
            (None, found) => found,
        };
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
            What::Again { base, left, read, met }
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

    /// Applies what a mutation says of the siblings' table: a change that was redone, a resolution,
    /// or what its author saw.
    pub(super) fn propose_again(&mut self, op: &Op) -> Result<(), Failure> {
        let row = Said::read(op)
            .ok_or_else(|| Failure::reject(format!("table {} is internal", siblings::TABLE)))?;
        if is_internal(&row.table) {
            return Err(Failure::reject(format!("table {} is internal", row.table)));
        }
        let table = match self.tables.get(self.conn, &row.table) {
            // What was seen in a table that has gone is nothing to anybody.
            Err(Failure::Reject { .. }) if matches!(row.what, What::Saw(_)) => return Ok(()),
            table => table?,
        };
        self.touch(&table);
        if table.is_derived {
            return Ok(());
        }
        let width = table.identity.columns().len();
        if row.key.len() != width {
            let reason = format!("the key has {} values, not {width}", row.key.len());
            return Err(Failure::reject(reason).at(&table.name, &row.key));
        }
        let is_merged = self.is_merged;
        let key = self.mapped_key(&table, &row.key)?;
        if matches!(row.what, What::Saw(_)) {
            // It changes nothing, so nothing of it can come out otherwise.
            self.is_merged = is_merged;
        }
        let Some(key) = key else {
            self.kept.push(op.clone());
            return Ok(());
        };
        let row = Said { key, ..row };
        let op = row.named(op);
        self.propose_row(&op, &table, &row).map_err(|failure| failure.at(&table.name, &row.key))
    }

    fn propose_row(&mut self, op: &Op, table: &Table, row: &Said) -> Result<(), Failure> {
        let (base, left, read, met) = match &row.what {
            What::Again { base, left, read, met } => (base, left, Some(*read), met.as_ref()),
            What::Chosen { newest, met } => (newest, newest, None, met.as_ref()),
            // `saw` has it; it is said again in every redo.
            What::Saw(_) => {
                self.kept.push(op.clone());
                return Ok(());
            }
        };
        let column = table.column(&row.column)?;
        let found = read_row(self.conn, table, &row.key, &[&column.name])?;
        let Some(right) = found.and_then(|values| values.into_iter().next()) else {
            self.is_merged = true;
            self.kept.push(op.clone());
            return Ok(());
        };
        let base = self.mapped_base(table, &column.name, base)?;
        let left = &self.mapped(table, &column.name, left)?;
        let base = Some(&base);
        if column.keeps_siblings() {
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

    /// By which position the value of a cell was written of which nothing is kept: a commit may
    /// hold several mutations, and the one before may have written it.
    fn written_by(&self, newest: u64) -> u64 {
        if self.ctx.authority { self.ctx.target.0 } else { newest }
    }
}

/// The values of a cell of which nothing is kept: what it holds, ordered after `read`, for
/// otherwise its author would have seen it, and by `written_by`.
fn before(
    read: u64,
    written_by: u64,
    base: Option<&Value>,
    right: &Value,
) -> Result<Siblings, Failure> {
    let mut values = Siblings::new(Rule::Mvr);
    let write = written_by.max(read + 1);
    let sibling = Sibling { read, write, author: SOMEBODY, value: right.clone() };
    values.propose(sibling, |_| base.cloned()).map_err(bad)?;
    Ok(values)
}

fn bad(error: sheaf_merge::mvr::BadSiblings) -> Failure {
    Failure::reject(format!("siblings: {error}"))
}
