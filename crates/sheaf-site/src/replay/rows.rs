//! Row operations: each meets the row as the log has it and is merged with it.
//!
//! Invariant: a row is written only where the merge differs from what is there, and every name
//! in the SQL text comes from the schema. Conflict clauses of the schema are overridden by
//! `OR ABORT`: a failed step must leave the savepoint standing.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use sheaf_merge::{Merged, Presence, RowOutcome, RowPolicy, Value, merge_cell, merge_row};

use super::{
    ReplayContext,
    failure::Failure,
    foreign::Written,
    lists::{Aside, Idle, Placed},
    park::Parked,
    remap::{Ids, Place, publish},
    siblings::Proposal,
    table::{Column, Identity, Table, Tables},
};
use sheaf_volume::teeth::{Tooth, bites};

use crate::{
    merges::Merges,
    mutation::{Change, Op},
    places::Places,
    rowids::RowIds,
    schema::quote_ident,
    siblings::{self, Saw},
    value::{Bind, from_ref, quote_key},
    watch::Tale,
};

/// Times the operations that met a taken unique value are tried again. Chains of moved values
/// resolve in one pass forwards or backwards; what is left after a few goes round, or is a real
/// conflict.
const UNIQUE_RETRIES_MAX: usize = 6;

/// Applies the operations of one mutation.
pub(super) struct Rows<'a> {
    pub(super) conn: &'a Connection,
    pub(super) ctx: &'a ReplayContext,
    pub(super) tables: &'a mut Tables,
    pub(super) merges: &'a Merges,
    pub(super) ids: &'a mut Ids,
    /// Which rows the mutation's integers mean.
    pub(super) meant: &'a RowIds,
    /// What its rows were put behind.
    pub(super) places: &'a Places,
    /// Rows written whose place in a list is still to be decided.
    pub(super) placed: Vec<Placed>,
    /// Cells of others that were written only to make room for these.
    pub(super) aside: Aside,
    /// What its author saw agreed on.
    saw: Saw,
    /// The places of `kept`.
    pub(super) kept_places: Places,
    /// Rows inserted: table, origin, and the id here.
    pub(super) inserted: Vec<(String, i64, i64)>,
    /// Own rows that were to be changed and had been refused: table, id, origin.
    pub(super) refused: Vec<(String, i64, i64)>,
    /// Rows written, under their final keys.
    pub(super) written: Vec<Written>,
    /// Tables touched, as declared.
    pub(super) touched: Vec<String>,
    /// What was done to virtual tables, which no capture sees.
    pub(super) uncaptured: Vec<Op>,
    /// What found nothing to do here, or another row in its place. The author meant it all the
    /// same: this may be a prediction, and the log may come to a state in which it matters.
    pub(super) kept: Vec<Op>,
    /// Moves within lists that came to nothing here, likewise: what else was done to their rows
    /// is as it came out.
    pub(super) idle: Vec<Idle>,
    /// Values that were put beside others, in the form in which they are redone.
    pub(super) proposals: Vec<Op>,
    /// Whether anything differs from what the author saw happen.
    pub(super) is_merged: bool,
    /// Whether a row has another key here than its author called it by.
    pub(super) is_renumbered: bool,
    /// Which operations came out as their author saw them.
    pub(super) stands: Vec<bool>,
    /// The number of the operation under way.
    pub(super) at: usize,
    /// What merges decided by order.
    pub(super) tale: Tale,
    /// The largest row id each table gets from this mutation.
    floors: BTreeMap<String, i64>,
    /// Whether rows that exchange unique values are set aside, see [`super::park`].
    pub(super) is_parking: bool,
    /// Those that were.
    pub(super) parked: Vec<Parked>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        ctx: &'a ReplayContext,
        tables: &'a mut Tables,
        merges: &'a Merges,
        ids: &'a mut Ids,
        (meant, places): (&'a RowIds, &'a Places),
    ) -> Self {
        Self {
            conn,
            ctx,
            tables,
            merges,
            ids,
            meant,
            places,
            placed: Vec::new(),
            aside: Aside::new(),
            saw: Saw::default(),
            kept_places: Places::default(),
            inserted: Vec::new(),
            refused: Vec::new(),
            written: Vec::new(),
            touched: Vec::new(),
            uncaptured: Vec::new(),
            kept: Vec::new(),
            idle: Vec::new(),
            proposals: Vec::new(),
            is_merged: false,
            is_renumbered: false,
            stands: Vec::new(),
            at: 0,
            tale: Tale::new(!ctx.authority),
            floors: BTreeMap::new(),
            is_parking: false,
            parked: Vec::new(),
        }
    }

    /// Applies all operations in order; those that meet a taken unique value wait for the others.
    pub(super) fn apply(&mut self, ops: &[Op]) -> Result<(), Failure> {
        for op in ops {
            if let Op::Insert { table, key, .. } = op
                && let [Value::Int(id)] = key.as_slice()
            {
                let floor = self.floors.entry(table.to_ascii_lowercase()).or_insert(*id);
                *floor = (*floor).max(*id);
            }
        }
        self.saw = Saw::of(ops);
        self.stands = vec![true; ops.len()];
        let (mut waiting, mut passes) = (self.in_order(ops)?, 0);
        loop {
            let tried = waiting.len();
            let (mut stuck, failure) = self.pass(waiting)?;
            let Some(failure) = failure else { break };
            if stuck.len() == tried || passes == UNIQUE_RETRIES_MAX {
                if self.is_parking {
                    return Err(failure);
                }
                self.begin_parking()?;
                passes = 0;
            }
            passes += 1;
            stuck.reverse();
            waiting = stuck;
        }
        self.unpark()
    }

    /// Tries operations; gives those that met a taken unique value, and the failure of one.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn pass<'o>(
        &mut self,
        ops: Vec<(usize, &'o Op)>,
    ) -> Result<(Vec<(usize, &'o Op)>, Option<Failure>), Failure> {
        let (mut stuck, mut last) = (Vec::new(), None);
        for (at, op) in ops {
            match self.judged(at, op) {
                Ok(()) => {}
                Err(failure @ Failure::Reject { is_unique: true, .. }) => {
                    stuck.push((at, op));
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok((stuck, last))
    }

    /// The operations in the order in which they are applied: as they come, except that a row
    /// which is given another parent is given it before the old one goes. What SQLite does to the
    /// children of a deleted row it does at once, deferred or not, and the author has moved these.
    fn in_order<'o>(&mut self, ops: &'o [Op]) -> Result<Vec<(usize, &'o Op)>, Failure> {
        let mut order: Vec<(usize, &Op)> = ops.iter().enumerate().collect();
        if !ops.iter().any(|op| matches!(op, Op::Delete { .. })) {
            return Ok(order);
        }
        let mut parents: BTreeSet<String> = BTreeSet::new();
        let mut moved = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            let Op::Update { table, changes, .. } = op else { continue };
            let left = match self.tables.get(self.conn, table) {
                Ok(table) => table.parents_left(changes.iter().map(|change| change.col.as_str())),
                // Applying it says why there is no such table.
                Err(Failure::Reject { .. }) => continue,
                Err(failure) => return Err(failure),
            };
            if !left.is_empty() {
                parents.extend(left.into_iter().map(|parent| parent.to_ascii_lowercase()));
                moved.push((at, op));
            }
        }
        let is_parent = |(_, op): &(usize, &Op)| {
            let Op::Delete { table, .. } = op else { return false };
            parents.contains(&table.to_ascii_lowercase())
        };
        if let Some(first) = order.iter().position(is_parent) {
            let rest = order.split_off(first);
            let places: BTreeSet<usize> = moved.iter().map(|(at, _)| *at).collect();
            let is_moved = |(at, _): &(usize, &Op)| places.contains(at);
            order.retain(|one| !is_moved(one));
            order.extend(&moved);
            order.extend(rest.into_iter().filter(|one| !is_moved(one)));
        }
        Ok(order)
    }

    /// Applies an operation, and notes whether it stands.
    fn judged(&mut self, at: usize, op: &Op) -> Result<(), Failure> {
        let others = std::mem::take(&mut self.is_merged);
        self.at = at;
        let told = self.tale.told.len();
        let done = self.op(op);
        if done.is_err() {
            // What is tried again is told again.
            self.tale.told.truncate(told);
        }
        if let Some(stands) = self.stands.get_mut(at) {
            *stands = !self.is_merged;
        }
        self.is_merged |= others;
        done
    }

    /// The number of the operation under way.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn op(&mut self, op: &Op) -> Result<(), Failure> {
        let Some(name) = op.table() else {
            return Ok(());
        };
        if siblings::is_of_siblings(op) {
            return self.propose_again(op);
        }
        if is_internal(name) {
            return Err(Failure::reject(format!("table {name} is internal")));
        }
        let table = self.tables.get(self.conn, name)?;
        self.touch(&table);
        if table.is_derived {
            return Ok(());
        }
        let (Op::Insert { key, .. } | Op::Update { key, .. } | Op::Delete { key, .. }) = op else {
            return Ok(());
        };
        let width = table.identity.columns().len();
        if key.len() != width {
            let reason = format!("the key has {} values, not {width}", key.len());
            return Err(Failure::reject(reason).at(&table.name, key));
        }
        let done = match op {
            Op::Insert { cols, .. } => self.insert(&table, key, cols),
            Op::Update { changes, .. } => self.update(&table, key, changes),
            Op::Delete { old, .. } => self.delete(&table, key, old),
            Op::Ddl { .. } => Ok(()),
        };
        done.map_err(|failure| failure.at(&table.name, key))
    }

    pub(super) fn touch(&mut self, table: &Table) {
        if self.touched.last() != Some(&table.name) && !self.touched.contains(&table.name) {
            self.touched.push(table.name.clone());
        }
    }

    fn insert(
        &mut self,
        table: &Rc<Table>,
        authors: &[Value],
        cols: &[(String, Value)],
    ) -> Result<(), Failure> {
        // The row's own id is not mapped: its author may have used a number twice.
        let mut key = self.referring_key(table, authors)?;
        let mut cols = cols
            .iter()
            .map(|(col, value)| {
                Ok((table.column(col)?.name.clone(), self.mapped(table, col, value)?))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        set_rowid(table, &key, &mut cols);
        let names: Vec<&str> = cols.iter().map(|(col, _)| col.as_str()).collect();
        let right = read_row(self.conn, table, &key, &names)?;
        let presence = if right.is_some() { Presence::Changed } else { Presence::Absent };
        match (merge_row(table.policy, Presence::Absent, Presence::Changed, presence), right) {
            (RowOutcome::Collide, Some(right)) if table.identity.is_rowid() => {
                let is_same = cols.iter().map(|(_, value)| value).eq(&right);
                let id = integer(&key)?;
                // Only a number that is a column of the table can mean the same row to both, and
                // no guess does; and a row that got its number by renumbering is never the author's
                // row of that number.
                let is_chosen =
                    matches!(table.identity, Identity::Alias(_)) && self.origin(table, id) == id;
                if is_same && is_chosen && !self.ids.is_new(self.ctx.timeline, &table.name, id) {
                    self.keep_places(table, authors, &key);
                    self.kept.push(Op::Insert { table: table.name.clone(), key, cols });
                    return Ok(());
                }
                if bites(Tooth::KeepTakenNumber) {
                    return self.collide(table, key, &cols, &right);
                }
                let new = self.renumber(table, id)?;
                self.is_renumbered = true;
                key = vec![Value::Int(new)];
                set_rowid(table, &key, &mut cols);
                self.is_merged = true;
            }
            (RowOutcome::Collide, Some(right)) => {
                self.collide(table, key.clone(), &cols, &right)?;
                self.keep_places(table, authors, &key);
                self.put(
                    table,
                    authors,
                    &key,
                    cols.iter().map(|(col, value)| (col.as_str(), value, None)),
                )?;
                self.kept.push(Op::Insert { table: table.name.clone(), key, cols });
                return Ok(());
            }
            _ if table.identity.is_rowid() => self.keep_number(table, integer(&key)?)?,
            _ => {}
        }
        self.insert_anywhere(table, &cols)?;
        let written = cols.iter().map(|(col, value)| (col.as_str(), value, None));
        self.put(table, authors, &key, written)?;
        siblings::forget_row(self.conn, table, &key)?;
        if let (true, [Value::Int(author), ..], [Value::Int(id), ..]) =
            (table.identity.is_rowid(), authors, key.as_slice())
        {
            self.inserted.push((table.name.clone(), self.origin(table, *author), *id));
        }
        if table.is_virtual {
            let (table, key) = (table.name.clone(), key.clone());
            self.uncaptured.push(Op::Insert { table, key, cols });
        }
        self.written.push(Written { table: table.name.clone(), key, op: self.at });
        Ok(())
    }

    /// Two inserts under one key: one row, merged column by column.
    fn collide(
        &mut self,
        table: &Table,
        key: Vec<Value>,
        cols: &[(String, Value)],
        right: &[Value],
    ) -> Result<(), Failure> {
        let mut writes = Vec::new();
        let mut decisions = Vec::new();
        for ((col, left), right) in cols.iter().zip(right) {
            let column = table.column(col)?;
            let merged = if column.keeps_siblings() {
                // An insert has seen nothing of what is there.
                let proposal = Proposal { base: None, left, right, read: Some(0), met: None };
                let decision = self.decide(table, &key, &column.name, proposal)?;
                let value = decision.shown().clone();
                decisions.push(decision);
                value
            } else {
                let merged = column.merge((self.conn, self.merges), None, left, right)?;
                if merged.is_refused() {
                    return Err(refused(col));
                }
                self.tale.cell((&table.name, &key), col, [None, Some(left), Some(right)], &merged);
                merged.value
            };
            self.is_merged |= !left.same(right) || !merged.same(left);
            if !merged.same(right) {
                writes.push((col.as_str(), merged));
            }
        }
        self.write(table, key.clone(), &writes)?;
        // What it put beside others is redone with the insert.
        decisions.into_iter().try_for_each(|decision| self.settle(table, &key, &decision))
    }

    fn update(
        &mut self,
        table: &Rc<Table>,
        key: &[Value],
        changes: &[Change],
    ) -> Result<(), Failure> {
        let authors = key;
        let Some(key) = self.mapped_key(table, key)? else {
            self.keep_places(table, key, key);
            return self.keep_update(table, key.to_vec(), changes);
        };
        let names = changes
            .iter()
            .map(|change| Ok(table.column(&change.col)?.name.as_str()))
            .collect::<Result<Vec<_>, Failure>>()?;
        let Some(right) = read_row(self.conn, table, &key, &names)? else {
            if let Some(newer) = &table.newer_policy {
                return Err(newer.stops());
            }
            // Only the changed columns are known, so update-wins cannot bring the row back.
            self.is_merged = true;
            self.tale.row_gone((&table.name, &key), changes);
            self.keep_places(table, authors, &key);
            return self.keep_update(table, key, changes);
        };
        let mut writes = Vec::new();
        let mut recaptured = Vec::new();
        let mut decisions = Vec::new();
        for ((change, name), right) in changes.iter().zip(names).zip(&right) {
            let base = self.mapped_base(table, name, &change.base)?;
            let left = self.mapped(table, name, &change.left)?;
            if table.column(name)?.keeps_siblings() && !left.same(&base) {
                let (base, left) = (Some(&base), &left);
                let met = self.saw.get(&table.name, authors, name).cloned();
                let proposal = Proposal { base, left, right, read: None, met: met.as_ref() };
                let decision = self.decide(table, &key, name, proposal)?;
                if !decision.shown().same(right) {
                    writes.push((name, decision.shown().clone()));
                }
                decisions.push(decision);
                continue;
            }
            let merged = self.merged(table.column(name)?, &base, &left, right)?;
            if merged.is_refused() {
                return Err(refused(name));
            }
            let sides = [Some(&base), Some(&left), Some(right)];
            self.tale.cell((&table.name, &key), name, sides, &merged);
            self.is_merged |=
                !right.same(&base) && (!right.same(&left) || !merged.value.same(&left));
            if !merged.value.same(right) {
                if table.is_virtual {
                    let (base, left) = (right.clone(), merged.value.clone());
                    recaptured.push(Change { col: name.to_owned(), base, left });
                }
                writes.push((name, merged.value));
            }
        }
        if !recaptured.is_empty() {
            let (table, key) = (table.name.clone(), key.clone());
            self.uncaptured.push(Op::Update { table, key, changes: recaptured });
        }
        if !(self.is_parking && self.park(table, &key, &writes)?) {
            self.write_anywhere(table, &key, &writes, changes)?;
        }
        let moved = changes.iter().zip(&right);
        let moved = moved.map(|(c, met)| (c.col.as_str(), &c.left, Some([&c.base, met])));
        self.put(table, authors, &key, moved)?;
        for decision in &decisions {
            self.settle(table, &key, decision)?;
            self.proposals.extend(decision.redo(table, &key));
        }
        Ok(())
    }

    /// What a cell comes to of which its author saw `base`.
    fn merged(
        &self,
        column: &Column,
        base: &Value,
        left: &Value,
        right: &Value,
    ) -> Result<Merged, Failure> {
        if bites(Tooth::OverwriteCounters) {
            return Ok(merge_cell(sheaf_merge::Rule::Lww, Some(base), left, right));
        }
        let is_lost = bites(Tooth::MergeWithoutBase) && matches!(left, Value::Text(_));
        column.merge((self.conn, self.merges), (!is_lost).then_some(base), left, right)
    }

    /// Keeps an update whose row is not there, with the references as the log has them.
    fn keep_update(
        &mut self,
        table: &Table,
        key: Vec<Value>,
        changes: &[Change],
    ) -> Result<(), Failure> {
        let mapped = |change: &Change| {
            let col = table.column(&change.col)?.name.clone();
            let base = self.mapped_base(table, &col, &change.base)?;
            let left = self.mapped(table, &col, &change.left)?;
            Ok(Change { col, base, left })
        };
        let changes = changes.iter().map(mapped).collect::<Result<Vec<_>, Failure>>()?;
        self.kept.push(Op::Update { table: table.name.clone(), key, changes });
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        table: &Table,
        key: Vec<Value>,
        writes: &[(&str, Value)],
    ) -> Result<(), Failure> {
        if writes.is_empty() {
            return Ok(());
        }
        let sql = update_sql(table, writes);
        let values = writes.iter().map(|(_, value)| value).chain(&key).map(Bind);
        self.conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        self.written.push(Written { table: table.name.clone(), key, op: self.at });
        Ok(())
    }

    fn delete(
        &mut self,
        table: &Rc<Table>,
        key: &[Value],
        old: &[(String, Value)],
    ) -> Result<(), Failure> {
        let Some(key) = self.mapped_key(table, key)? else {
            let (table, key, old) = (table.name.clone(), key.to_vec(), old.to_vec());
            self.kept.push(Op::Delete { table, key, old });
            return Ok(());
        };
        if table.policy == RowPolicy::UpdateWins || table.newer_policy.is_some() {
            let known: Vec<&(String, Value)> =
                old.iter().filter(|(col, _)| table.column(col).is_ok()).collect();
            let names: Vec<&str> = known.iter().map(|(col, _)| col.as_str()).collect();
            let presence = match read_row(self.conn, table, &key, &names)? {
                None => Presence::Absent,
                Some(right) if known.iter().map(|(_, value)| value).eq(&right) => {
                    Presence::Unchanged
                }
                Some(_) => Presence::Changed,
            };
            if let (Some(newer), Presence::Changed) = (&table.newer_policy, presence) {
                return Err(newer.stops());
            }
            let outcome = merge_row(table.policy, Presence::Unchanged, Presence::Absent, presence);
            if outcome == RowOutcome::DropLeftDelete {
                self.is_merged = true;
                self.tale.row_stays((&table.name, &key));
                return Ok(());
            }
        }
        let sql = format!(
            "DELETE FROM main.{} WHERE {}",
            quote_ident(&table.name),
            key_condition(table, 1)
        );
        let gone =
            self.conn.prepare_cached(&sql)?.execute(params_from_iter(key.iter().map(Bind)))?;
        siblings::forget_row(self.conn, table, &key)?;
        let (name, old) = (table.name.clone(), old.to_vec());
        if table.is_virtual {
            self.uncaptured.push(Op::Delete { table: name, key, old });
        } else if gone == 0 {
            self.kept.push(Op::Delete { table: name, key, old });
        }
        Ok(())
    }

    /// A free id for a row whose own is taken, told to everything that comes later.
    fn renumber(&mut self, table: &Table, old: i64) -> Result<i64, Failure> {
        let name = quote_ident(&table.name);
        let rowid =
            table.identity.columns().first().map(|col| quote_ident(col)).unwrap_or_default();
        let mut max: i64 = self
            .conn
            .prepare_cached(&format!("SELECT coalesce(max({rowid}), 0) FROM main.{name}"))?
            .query_row([], |row| row.get(0))?;
        if table.is_autoincrement {
            let used: Option<i64> = self
                .conn
                .prepare_cached("SELECT max(seq) FROM main.sqlite_sequence WHERE name = ?1")?
                .query_row([&table.name], |row| row.get(0))?;
            max = max.max(used.unwrap_or(0));
        }
        // Beyond the mutation's own ids, or each of its inserts would push the next one aside.
        max = max.max(self.floors.get(&table.name.to_ascii_lowercase()).copied().unwrap_or(0));
        let new = max
            .checked_add(1)
            .ok_or_else(|| Failure::reject(format!("table {} has no row ids left", table.name)))?;
        self.tell(table, self.origin(table, old), new)?;
        Ok(new)
    }

    /// A row that gets the number it asks for. That is news if the number was a guess, for what
    /// its author wrote under an earlier guess; and if its author used the number before, for a
    /// row that was renumbered: it means this one from now on.
    fn keep_number(&mut self, table: &Table, id: i64) -> Result<(), Failure> {
        let origin = self.origin(table, id);
        let before = self.ids.map(self.ctx.timeline, &table.name, origin, self.ctx.base);
        if origin != id || before.is_some_and(|before| before != Place::At(id)) {
            return self.tell(table, origin, id);
        }
        Ok(())
    }

    /// Tells everything that comes later which id a row has, and its author with it.
    fn tell(&mut self, table: &Table, origin: i64, id: i64) -> Result<(), Failure> {
        let ReplayContext { timeline, target, authority, .. } = *self.ctx;
        self.ids.add(timeline, &table.name, origin, id, target);
        if authority {
            publish(self.conn, timeline, &table.name, origin, id, target)?;
        }
        Ok(())
    }
}

/// Tables of ours that no mutation may write by rows.
pub(crate) fn is_internal(table: &str) -> bool {
    const WRITABLE: [&str; 3] = ["__sheaf_merges", "__sheaf_mutators", "__sheaf_rules"];
    let table = table.to_ascii_lowercase();
    table.starts_with("__sheaf_") && !WRITABLE.contains(&table.as_str())
}

pub(super) fn refused(col: &str) -> Failure {
    Failure::reject(format!("column {col} was changed by somebody else meanwhile"))
}

fn integer(key: &[Value]) -> Result<i64, Failure> {
    match key {
        [Value::Int(id)] => Ok(*id),
        _ => Err(Failure::reject(format!("{} is not a row id", quote_key(key)))),
    }
}

/// Makes the stored columns carry the row's id.
fn set_rowid(table: &Table, key: &[Value], cols: &mut Vec<(String, Value)>) {
    let ([id], true) = (key, table.identity.is_rowid()) else {
        return;
    };
    let Some(name) = table.identity.columns().first().map(|name| (*name).to_owned()) else {
        return;
    };
    match cols.iter_mut().find(|(col, _)| col.eq_ignore_ascii_case(&name)) {
        Some((_, value)) => *value = id.clone(),
        None => cols.insert(0, (name, id.clone())),
    }
}

pub(super) fn insert_row(
    conn: &Connection,
    table: &Table,
    cols: &[(String, Value)],
) -> Result<(), Failure> {
    let name = quote_ident(&table.name);
    if cols.is_empty() {
        conn.prepare_cached(&format!("INSERT OR ABORT INTO main.{name} DEFAULT VALUES"))?
            .execute([])?;
        return Ok(());
    }
    let names: Vec<String> = cols.iter().map(|(col, _)| quote_ident(col)).collect();
    let marks: Vec<String> = (1..=cols.len()).map(|i| format!("?{i}")).collect();
    let sql = format!(
        "INSERT OR ABORT INTO main.{name}({}) VALUES({})",
        names.join(", "),
        marks.join(", ")
    );
    let values = cols.iter().map(|(_, value)| Bind(value));
    conn.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}

/// Writes columns of one row: their values come first, then the key's.
pub(super) fn update_sql(table: &Table, writes: &[(&str, Value)]) -> String {
    let sets = writes.iter().zip(1..).map(|((col, _), i)| format!("{} = ?{i}", quote_ident(col)));
    format!(
        "UPDATE OR ABORT main.{} SET {} WHERE {}",
        quote_ident(&table.name),
        sets.collect::<Vec<_>>().join(", "),
        key_condition(table, writes.len() + 1)
    )
}

/// `a IS ?1 AND b IS ?2` over the columns that name a row. `IS`, because a key may hold NULL.
pub(crate) fn key_condition(table: &Table, first: usize) -> String {
    let columns = table.identity.columns();
    let operator = if table.identity.is_rowid() { "=" } else { "IS" };
    let conditions: Vec<String> = columns
        .iter()
        .zip(first..)
        .map(|(col, i)| format!("{} {operator} ?{i}", quote_ident(col)))
        .collect();
    conditions.join(" AND ")
}

/// The row's present values, if the row exists.
pub(crate) fn read_row(
    conn: &Connection,
    table: &Table,
    key: &[Value],
    cols: &[&str],
) -> Result<Option<Vec<Value>>, Failure> {
    let mut names: Vec<String> = cols.iter().map(|col| quote_ident(col)).collect();
    names.push("1".to_owned());
    let sql = format!(
        "SELECT {} FROM main.{} WHERE {}",
        names.join(", "),
        quote_ident(&table.name),
        key_condition(table, 1)
    );
    let row = conn
        .prepare_cached(&sql)?
        .query_row(params_from_iter(key.iter().map(Bind)), |row| {
            (0..cols.len()).map(|i| Ok(from_ref(row.get_ref(i)?))).collect::<Result<Vec<_>, _>>()
        })
        .optional()?;
    match row {
        None => Ok(None),
        Some(values) => values
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
            .map_err(|error| Failure::reject(error.to_string())),
    }
}
