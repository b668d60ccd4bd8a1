//! Replay: one mutation, applied to the state the log has reached.
//!
//! The authority replays to decide, a device replays to predict; both run this code.
//!
//! Invariants: a mutation is applied whole or not at all (a savepoint around each); a failure
//! that lies in the mutation is a rejection and never stops the others; a failure that lies in
//! the machine is an error and stops everything. The connection's switches (triggers, foreign
//! keys) are as before when it returns. Leaves out ordering and duplicates: see the callers.

use std::collections::BTreeSet;

use rusqlite::{Connection, config::DbConfig};
use sheaf_volume::teeth::{Tooth, bites};
use sheaf_volume::{DeviceId, Error, ErrorKind, Lsn, Result, TimelineId};

use crate::{
    capture::Capture,
    clock, limits,
    locks::{self, Lock},
    merges::Merges,
    mutation::{Body, Mutation, Op},
    mutator,
    opbits::{AlteredOp, MergedOps, OpBits},
    places::Places,
    rowids::{RowIds, inserted},
    schema::is_own,
    watch::Noted,
};

pub(crate) mod cell;
pub(crate) mod ddl;
pub(crate) mod failure;
mod ffi;
mod foreign;
mod fts;
mod lists;
mod names;
mod park;
mod remap;
pub(crate) mod rows;
mod siblings;
mod spare;
pub(crate) mod sqltext;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use failure::Failure;
use foreign::Done;
use remap::Ids;
use rows::{Rows, is_internal};
use table::Tables;

/// Whose mutation is replayed, onto what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayContext {
    /// The mutation's timeline.
    pub timeline: TimelineId,
    /// Its number there.
    pub seq: u64,
    /// The state its author made it on.
    pub base: Lsn,
    /// The position this replay will have in the log.
    pub target: Lsn,
    /// Whether the result goes into the log; otherwise it is a prediction.
    pub authority: bool,
    /// The device that made it.
    pub device: DeviceId,
    /// When it was made, by its author's clock.
    pub time_ms: u64,
}

/// What became of one mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its effects stand.
    Applied {
        /// Whether they differ from what its author saw, because somebody else was first.
        merged: bool,
    },
    /// It has no effects.
    Rejected {
        /// For people.
        reason: String,
    },
    /// It has no effects here, but only a newer version can say whether it has any: the log must
    /// not record it as decided.
    Undecided {
        /// For people.
        reason: String,
    },
    /// It has no effects and is not decided: its author has to look again first, and all that is
    /// later on its timeline waits.
    Asks {
        /// For people.
        reason: String,
    },
}

/// The result of replaying one mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// What became of it.
    pub outcome: Outcome,
    /// The same intent as captured on the state it met here (possibly with nothing left to do).
    /// None if it stays as it was: a mutation without effects, or a call whose locks are as they were.
    pub recaptured: Option<Mutation>,
    /// The tables it touched, sorted.
    pub tables: Vec<String>,
    /// Which of its operations came out as its author saw them; none of a call or a rejection.
    pub stands: OpBits,
    /// Those that did not, for a prediction.
    pub altered: Vec<AlteredOp>,
    /// Whether a row has another key here than its author called it by.
    pub is_renumbered: bool,
}

impl Replayed {
    /// A mutation that had no effects.
    pub(crate) fn without_effects(outcome: Outcome) -> Self {
        Self {
            outcome,
            recaptured: None,
            tables: Vec::new(),
            stands: OpBits::default(),
            altered: Vec::new(),
            is_renumbered: false,
        }
    }
}

/// What the replays of one transaction share: ids that had to change, and what is known of the
/// tables. A new transaction starts with a new one.
#[derive(Debug, Default)]
pub(crate) struct Remap {
    ids: Ids,
    /// Which rows a prediction shows under numbers that are a guess.
    pub(crate) shown: RowIds,
    /// What the last replay told besides its outcome.
    pub(crate) noted: Noted,
    /// The timeline of an authority's own device: what its calls do is noted, as in a prediction.
    pub(crate) own: Option<TimelineId>,
    tables: Tables,
    merges: Merges,
    /// The schema that `tables` describe.
    schema_version: i64,
}

impl Remap {
    /// For a transaction that may call these functions to merge.
    pub(crate) fn new(merges: Merges) -> Self {
        Self { merges, ..Self::default() }
    }

    /// Looks everything up again: it may have changed.
    fn forget(&mut self) {
        self.tables.forget();
        self.merges.forget();
    }

    /// Rows that a refused mutation would have inserted: what its author does to them from here on
    /// must not happen to somebody else's row of that number.
    fn refuse(
        &mut self,
        conn: &Connection,
        ctx: &ReplayContext,
        mutation: &Mutation,
    ) -> Result<(), Failure> {
        let Body::Rows(ops) = &mutation.body else { return Ok(()) };
        if bites(Tooth::ForgetRefused) {
            return Ok(());
        }
        for (name, id) in ops.iter().filter_map(inserted) {
            let is_rowid = match self.tables.get(conn, name) {
                Ok(table) => table.identity.is_rowid() && !is_internal(name),
                Err(Failure::Reject { .. }) => false,
                Err(failure) => return Err(failure),
            };
            if is_rowid {
                let origin = mutation.ids.get(name, id).flatten().unwrap_or(id);
                self.ids.refuse(conn, ctx, name, origin)?;
                self.shown.hide(name, origin);
            }
        }
        Ok(())
    }

    fn refuse_or_abort(
        &mut self,
        conn: &Connection,
        ctx: &ReplayContext,
        mutation: &Mutation,
    ) -> Result<()> {
        self.refuse(conn, ctx, mutation).map_err(|failure| match failure {
            Failure::Abort(error) => error,
            Failure::Reject { reason, .. } => Error::new(ErrorKind::Internal, reason),
        })
    }
}

/// Replays one mutation on a connection that is inside a write transaction.
///
/// The capture must have noted the schema in which the transaction began. It notes the new one
/// where a mutation changes it, and is clear afterwards.
///
/// # Errors
/// Only for failures of the machine (`Io`, `Busy`, `Corrupt`, `Internal`): the transaction must
/// then be rolled back. Everything else is an [`Outcome`].
pub(crate) fn replay(
    conn: &Connection,
    capture: &Capture,
    ctx: &ReplayContext,
    remap: &mut Remap,
    mutation: &Mutation,
) -> Result<Replayed> {
    let _restore = Restore { conn, switches: Switches::read(conn)? };
    capture.clear();
    remap.noted = Noted::default();
    let version = schema_version(conn).map_err(broken)?;
    if version != remap.schema_version {
        remap.tables.forget();
    }
    conn.execute_batch("SAVEPOINT sheaf_replay").map_err(broken)?;
    let mut step = Step { conn, capture, ctx, remap, has_new_schema: false };
    let applied = clock::with_time(ctx.time_ms, || step.apply(mutation));
    let has_new_schema = step.has_new_schema;
    if conn.is_autocommit() {
        // Nothing of the batch is left, so nothing may be reported as applied.
        return Err(match applied {
            Err(Failure::Abort(error)) => error,
            _ => Error::new(ErrorKind::Internal, "a mutation ended the transaction it ran in"),
        });
    }
    let replayed = match applied {
        Ok(replayed) => {
            // A prediction goes on without it, as it does without one that is refused.
            if matches!(replayed.outcome, Outcome::Asks { .. }) && !ctx.authority {
                remap.refuse_or_abort(conn, ctx, mutation)?;
            }
            replayed
        }
        Err(Failure::Abort(error)) if error.kind() == ErrorKind::Unsupported => {
            undo(conn, remap)?;
            let reason = limits::clip(&error.to_string()).to_owned();
            Replayed::without_effects(Outcome::Undecided { reason })
        }
        Err(Failure::Abort(error)) => return Err(error),
        Err(Failure::Reject { reason, .. }) => {
            undo(conn, remap)?;
            remap.refuse_or_abort(conn, ctx, mutation)?;
            let reason = limits::clip(&reason).to_owned();
            remap.noted = Noted { failing: Some(reason.clone()), ..Noted::default() };
            let outcome = Outcome::Rejected { reason };
            Replayed::without_effects(outcome)
        }
    };
    conn.execute_batch("RELEASE sheaf_replay").map_err(broken)?;
    capture.clear();
    remap.schema_version = schema_version(conn).map_err(broken)?;
    if has_new_schema || remap.schema_version != version {
        capture.note_schema(conn)?;
    }
    Ok(replayed)
}

/// Takes back what a mutation has done so far.
fn undo(conn: &Connection, remap: &mut Remap) -> Result<()> {
    conn.execute_batch("ROLLBACK TO sheaf_replay").map_err(broken)?;
    remap.ids.undo();
    remap.forget();
    Ok(())
}

/// One mutation inside its savepoint.
struct Step<'a> {
    conn: &'a Connection,
    capture: &'a Capture,
    ctx: &'a ReplayContext,
    remap: &'a mut Remap,
    has_new_schema: bool,
}

impl Step<'_> {
    fn apply(&mut self, mutation: &Mutation) -> Result<Replayed, Failure> {
        self.remap.ids.load(self.conn, self.ctx.timeline)?;
        let admitted = locks::admit(self.conn, self.ctx.timeline, &mutation.locks)?;
        if let Some(reason) = &admitted.asks {
            let outcome = Outcome::Asks { reason: limits::clip(reason).to_owned() };
            return Ok(Replayed::without_effects(outcome));
        }
        let mut replayed = self.body(mutation)?;
        self.take_locks(mutation, admitted, &mut replayed)?;
        Ok(replayed)
    }

    /// Moves the locks of a mutation that stands, and those that its script took beside them.
    fn take_locks(
        &mut self,
        mutation: &Mutation,
        admitted: locks::Admitted,
        replayed: &mut Replayed,
    ) -> Result<(), Failure> {
        let locks::Admitted { mut locks, is_merged, .. } = admitted;
        let is_new = |lock: &Lock| !mutation.locks.iter().any(|known| known.name == lock.name);
        locks.extend(self.capture.locks().into_iter().filter(is_new));
        if locks.is_empty() {
            return Ok(());
        }
        self.has_new_schema |= locks::prepare(self.conn)?;
        let names = locks.iter().map(|lock| lock.name.as_str());
        locks::advance(self.conn, self.ctx.timeline, names)?;
        if let Outcome::Applied { merged } = &mut replayed.outcome {
            *merged |= is_merged;
        }
        match &mut replayed.recaptured {
            Some(recaptured) => recaptured.locks = locks,
            None if locks != mutation.locks => {
                replayed.recaptured = Some(Mutation { locks, ..mutation.clone() });
            }
            None => {}
        }
        Ok(())
    }

    fn body(&mut self, mutation: &Mutation) -> Result<Replayed, Failure> {
        match &mutation.body {
            Body::Rows(ops) => {
                Switches { triggers: false, foreign_keys: mutation.foreign_keys }.set(self.conn)?;
                defer_foreign_keys(self.conn, true)?;
                self.rows(mutation, ops)
            }
            Body::Call { name, args, seed, time_ms } => {
                Switches { triggers: true, foreign_keys: mutation.foreign_keys }.set(self.conn)?;
                defer_foreign_keys(self.conn, false)?;
                let call = mutator::Call { name, args, seed, time_ms: *time_ms };
                mutator::run(self.conn, self.ctx, &call)?;
                // It may have changed the rules, which are rows.
                self.remap.forget();
                let tables = self.capture.tables();
                let done = Done { touched: &tables, ..Done::default() };
                foreign::settle(self.conn, &mut self.remap.tables, done)?;
                crate::siblings::sweep(self.conn, &mut self.remap.tables, &tables)?;
                if !self.ctx.authority || self.remap.own == Some(self.ctx.timeline) {
                    let changed = self.capture.finish(self.conn);
                    if let (true, Err(error)) = (self.conn.is_autocommit(), &changed) {
                        // The machine failed while it was read, and nothing of the call is left.
                        return Err(error.clone().into());
                    }
                    self.remap.noted.call(changed);
                }
                let outcome = Outcome::Applied { merged: false };
                Ok(Replayed { tables, ..Replayed::without_effects(outcome) })
            }
        }
    }

    fn rows(&mut self, mutation: &Mutation, ops: &[Op]) -> Result<Replayed, Failure> {
        let schema = self.schema_changes(ops)?;
        let is_parent_lost = mutation.foreign_keys && self.has_lost_parent(ops)?;
        if is_parent_lost {
            // SQLite refuses more than it did to the author, and settling looks for itself.
            Switches { triggers: false, foreign_keys: false }.set(self.conn)?;
        }
        let Remap { ids, tables, shown, noted, merges, .. } = &mut *self.remap;
        let meant = (&mutation.ids, &mutation.places);
        let mut rows = Rows::new(self.conn, self.ctx, tables, merges, ids, meant);
        rows.apply(ops)?;
        rows.place()?;
        let Rows { written, mut touched, uncaptured, mut kept, proposals, .. } = rows;
        let Rows { inserted, refused, mut stands, is_merged, tale, .. } = rows;
        let Rows { parked, aside, kept_places, idle, is_renumbered, .. } = rows;
        let parked: Vec<String> = parked.iter().map(|row| row.table().to_owned()).collect();
        noted.told = tale.told;
        for (table, origin, id) in inserted {
            shown.show(&table, origin, id);
        }
        // Where rows were set aside, SQLite has not seen what they no longer hold.
        let unseen = if mutation.foreign_keys { parked } else { Vec::new() };
        let (unseen, all) = (&unseen[..], is_parent_lost);
        let done = Done { written: &written, touched: &touched, unseen, all };
        let settled = settle(self.conn, tables, done)?;
        let is_merged = is_merged || !settled.is_empty();
        for at in settled {
            stands.get_mut(at).into_iter().for_each(|stands| *stands = false);
        }
        if touched.iter().any(|table| is_own(table)) {
            tables.forget();
            merges.forget();
        }
        // Cascades touch tables that no operation names.
        touched.extend(self.capture.tables());
        touched.sort();
        touched.dedup();
        let captured = captured(self.capture, self.conn, &proposals, &aside)?;
        fts::refresh(self.conn, tables, &touched)?;
        kept.extend(proposals);
        let mut recaptured = recapture(mutation, schema, captured, uncaptured, kept);
        lists::join(&mut recaptured, idle);
        if let Body::Rows(ops) = &recaptured.body {
            recaptured.places.extend(kept_places);
            recaptured.places.retain(ops);
            recaptured.ids = shown.mentioned_by(ops, &recaptured.places);
            for (table, id, origin) in refused {
                recaptured.ids.set(&table, id, Some(origin));
            }
        }
        // Whoever appends tells the bits; the author has the operations.
        let ops = if is_merged && !self.ctx.authority { ops } else { &[] };
        let MergedOps { stands, altered } = MergedOps::new(stands.into_iter().collect(), ops);
        Ok(Replayed {
            outcome: Outcome::Applied { merged: is_merged },
            recaptured: Some(recaptured),
            tables: touched,
            stands,
            altered,
            is_renumbered,
        })
    }
}

/// Settles references at the end of a mutation of rows.
fn settle(conn: &Connection, tables: &mut Tables, done: Done<'_>) -> Result<Vec<usize>, Failure> {
    if bites(Tooth::SkipReferences) {
        defer_foreign_keys(conn, false)?;
        Switches { triggers: false, foreign_keys: false }.set(conn)?;
        return Ok(Vec::new());
    }
    foreign::settle(conn, tables, done)
}

impl Step<'_> {
    /// Applies the schema changes among the operations; gives those that were still to do.
    fn schema_changes(&mut self, ops: &[Op]) -> Result<Vec<Op>, Failure> {
        let mut schema = Vec::new();
        for op in ops {
            if let Op::Ddl { sql } = op
                && ddl::apply(self.conn, sql)?
            {
                schema.push(op.clone());
                self.remap.tables.forget();
                self.has_new_schema = true;
            }
        }
        Ok(schema)
    }

    /// Whether a table to be written refers to one that is not there: SQLite then refuses to
    /// insert and delete there while foreign keys are on.
    fn has_lost_parent(&mut self, ops: &[Op]) -> Result<bool, Failure> {
        let mut names: Vec<&str> = ops.iter().filter_map(Op::table).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let parents = self
                .conn
                .prepare_cached("SELECT \"table\" FROM pragma_foreign_key_list(?1, 'main')")?
                .query_map([name], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()?;
            for parent in parents {
                if !table::has(self.conn, &parent)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Puts the connection's switches back, however a replay ends.
struct Restore<'c> {
    conn: &'c Connection,
    switches: Switches,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // Failing here means the handle itself is unusable, which its next use will report.
        self.switches.set(self.conn).ok();
    }
}

fn schema_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))
}

/// SQLite compiles all statements again after this pragma, so it is not set in vain. It ends with
/// the transaction by itself.
fn defer_foreign_keys(conn: &Connection, is_deferred: bool) -> Result<(), Failure> {
    let now: bool =
        conn.prepare_cached("PRAGMA defer_foreign_keys")?.query_row([], |row| row.get(0))?;
    if now != is_deferred {
        let value = if is_deferred { "ON" } else { "OFF" };
        conn.execute_batch(&format!("PRAGMA defer_foreign_keys = {value}"))?;
    }
    Ok(())
}

/// What was changed, but for what a redo does again by itself.
fn captured(
    capture: &Capture,
    conn: &Connection,
    proposals: &[Op],
    aside: &lists::Aside,
) -> Result<Option<Mutation>, Failure> {
    match capture.finish(conn) {
        Ok(mut captured) => {
            if let Some(captured) = &mut captured {
                // The siblings themselves follow from the log.
                if let Body::Rows(ops) = &mut captured.body {
                    ops.retain(|op| op.table() != Some(crate::siblings::TABLE));
                }
                crate::siblings::strip(captured, proposals);
                lists::strip(captured, aside);
            }
            Ok(captured)
        }
        Err(error) if error.kind() == ErrorKind::Invalid => Err(Failure::reject(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// The mutation as it would be captured now: schema changes that were still to do, then the net
/// row changes, then rows of virtual tables, which no capture sees. What was kept stands as it
/// was, in place of what it came to here.
fn recapture(
    mutation: &Mutation,
    schema: Vec<Op>,
    captured: Option<Mutation>,
    uncaptured: Vec<Op>,
    kept: Vec<Op>,
) -> Mutation {
    let (mut ops, mut places) = (schema, Places::default());
    if let Some(Mutation { body: Body::Rows(rows), places: captured, .. }) = captured {
        places = captured;
        let kept: BTreeSet<_> = kept.iter().filter_map(Op::row).collect();
        let stays = |op: &Op| op.row().is_some_and(|row| !kept.contains(&row));
        ops.extend(rows.into_iter().filter(stays));
    }
    if !bites(Tooth::ForgetIdle) {
        ops.extend(kept);
    }
    let seen = ops.len();
    for op in uncaptured {
        if !ops.iter().take(seen).any(|known| known.table() == op.table()) {
            ops.push(op);
        }
    }
    Mutation { places, ..Mutation::new(Body::Rows(ops), mutation.foreign_keys) }
}

fn broken(error: rusqlite::Error) -> Error {
    match Failure::from(error) {
        Failure::Abort(error) => error,
        Failure::Reject { reason, .. } => Error::new(ErrorKind::Internal, reason),
    }
}

/// The connection's settings that replay changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Switches {
    triggers: bool,
    foreign_keys: bool,
}

impl Switches {
    fn read(conn: &Connection) -> Result<Self> {
        Ok(Self {
            triggers: conn.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER).map_err(broken)?,
            foreign_keys: conn.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY).map_err(broken)?,
        })
    }

    /// Each change makes SQLite compile all its statements again, so none is made in vain.
    fn set(self, conn: &Connection) -> Result<()> {
        let now = Self::read(conn)?;
        if now.triggers != self.triggers {
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, self.triggers)
                .map_err(broken)?;
        }
        if now.foreign_keys != self.foreign_keys {
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, self.foreign_keys)
                .map_err(broken)?;
        }
        Ok(())
    }
}
