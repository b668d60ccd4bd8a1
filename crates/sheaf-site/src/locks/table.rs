//! The counters, as rows: they travel in pages, so whoever appends next has them.
//!
//! Invariant: `x` of a lock is the sum of its moves over all timelines. Rows follow from the log
//! alone and are never captured. Leaves out forgetting names that nobody uses any more.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};
use sheaf_volume::TimelineId;
use sheaf_volume::teeth::{Tooth, bites};

use super::function::{HAS_TABLES, READ_COUNTER};
use super::{Counter, Judgement, Lock, OnFailure};
use crate::replay::failure::Failure;

/// The counters, and each timeline's share of them.
pub(crate) const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS main.__sheaf_lock(
        name TEXT PRIMARY KEY, x INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS main.__sheaf_lock_moves(
        name TEXT, timeline BLOB, moves INTEGER NOT NULL,
        PRIMARY KEY(name, timeline)) WITHOUT ROWID";

/// What became of a mutation's locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The locks as the author would take them now: those that failed have seen what is there.
    pub(crate) locks: BTreeSet<Lock>,
    /// Whether any failed.
    pub(crate) is_merged: bool,
    /// What its author is asked before it can be applied.
    pub(crate) asks: Option<String>,
}

/// Makes the tables if they are not there. Returns whether it did.
pub(crate) fn prepare(conn: &Connection) -> Result<bool, rusqlite::Error> {
    if has_tables(conn)? {
        return Ok(false);
    }
    conn.execute_batch(CREATE)?;
    Ok(true)
}

/// Whether a mutation of this timeline may be applied as far as its locks go. Moves none.
pub(crate) fn admit(
    conn: &Connection,
    timeline: TimelineId,
    locks: &BTreeSet<Lock>,
) -> Result<Admitted, Failure> {
    let mut admitted = Admitted::default();
    for lock in locks {
        let counter = counter(conn, &lock.name, timeline)?;
        match (lock.judge(counter), lock.on_failure) {
            (Judgement::Held, _) => _ = admitted.locks.insert(lock.clone()),
            (Judgement::Moved | Judgement::Orphaned, OnFailure::Merge) => {
                let Counter { moves, own } = counter;
                admitted.locks.insert(Lock { seen: moves, own, ..lock.clone() });
                admitted.is_merged = true;
            }
            (judgement @ (Judgement::Moved | Judgement::Orphaned), OnFailure::Ask) => {
                admitted.locks.insert(lock.clone());
                if !bites(Tooth::NeverAsk) {
                    admitted.asks.get_or_insert_with(|| lock.reason(counter, judgement));
                }
            }
            (judgement, _) => return Err(Failure::reject(lock.reason(counter, judgement))),
        }
    }
    Ok(admitted)
}

/// Moves each of these locks by one.
pub(crate) fn advance<'a>(
    conn: &Connection,
    timeline: TimelineId,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), rusqlite::Error> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    for name in names {
        if bites(Tooth::FreezeLocks) {
            continue;
        }
        conn.prepare_cached(
            "INSERT INTO main.__sheaf_lock(name, x) VALUES(?1, 1)
             ON CONFLICT(name) DO UPDATE SET x = x + 1",
        )?
        .execute([name])?;
        conn.prepare_cached(
            "INSERT INTO main.__sheaf_lock_moves(name, timeline, moves) VALUES(?1, ?2, 1)
             ON CONFLICT(name, timeline) DO UPDATE SET moves = moves + 1",
        )?
        .execute(params![name, timeline.as_bytes()])?;
    }
    Ok(())
}

/// How a lock stands for a timeline; a name that nobody has taken stands at 0.
pub(crate) fn counter(
    conn: &Connection,
    name: &str,
    timeline: TimelineId,
) -> Result<Counter, rusqlite::Error> {
    if !has_tables(conn)? {
        return Ok(Counter::default());
    }
    let row = conn
        .prepare_cached(READ_COUNTER)?
        .query_row(params![name, timeline.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        })
        .optional()?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(row.map_or_else(Counter::default, |(moves, own)| Counter {
        moves: count(moves),
        own: own.map_or(0, count),
    }))
}

fn has_tables(conn: &Connection) -> Result<bool, rusqlite::Error> {
    conn.prepare_cached(HAS_TABLES)?.query_row([], |row| row.get(0))
}
