//! The SQL function `sheaf_lock(name [, n [, mode]])`.
//!
//! Invariant: it notes the lock with the transaction that runs, and only there; it writes nothing,
//! so calling it is as good in a query as in a trigger. It answers how often the lock was taken
//! before, as this connection sees it, with what waits on this device.
//!
//! Leaves out connections that only read, which have no such function: there is nothing to guard.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};
use sheaf_volume::TimelineId;

use super::{Lock, OnFailure, table};
use crate::{capture::Capture, mutator, nested::with_connection};

/// Whether there are counters.
pub(super) const HAS_TABLES: &str = "SELECT count(*) = 2 FROM main.sqlite_schema
    WHERE type = 'table' AND name IN ('__sheaf_lock', '__sheaf_lock_moves')";
/// A counter, and a timeline's share of it.
pub(super) const READ_COUNTER: &str = "SELECT x,
    (SELECT moves FROM main.__sheaf_lock_moves WHERE name = ?1 AND timeline = ?2)
    FROM main.__sheaf_lock WHERE name = ?1";

/// Whether a statement is one that `sheaf_lock` runs within another.
pub(crate) fn is_own_query(sql: &str) -> bool {
    [HAS_TABLES, READ_COUNTER].contains(&sql)
}

/// The mutations of a device that wait and are not in the counters that its connections see.
pub(crate) trait Waiting: Send + 'static {
    /// The device's timeline.
    fn timeline(&self) -> Option<TimelineId>;
    /// How many of them take the lock.
    fn moves(&self, name: &str) -> u64;
}

/// For a connection that redoes mutations: each is in its counters when the next one runs.
pub(crate) struct NoneWaiting;

impl Waiting for NoneWaiting {
    fn timeline(&self) -> Option<TimelineId> {
        None
    }

    fn moves(&self, _: &str) -> u64 {
        0
    }
}

/// Registers the function on a connection that `capture` watches.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register(conn: &Connection, capture: &Capture, waiting: impl Waiting) -> Result<()> {
    let capture = capture.clone();
    conn.create_scalar_function("sheaf_lock", -1, FunctionFlags::SQLITE_UTF8, move |context| {
        let timeline = mutator::timeline().or_else(|| waiting.timeline());
        let timeline = timeline.ok_or_else(|| refusal("sheaf_lock: the site was closed"))?;
        let mut lock = read_arguments(context)?;
        let counter = with_connection(context, |conn| table::counter(conn, &lock.name, timeline))?;
        let moves = waiting.moves(&lock.name);
        (lock.seen, lock.own) = (counter.moves + moves, counter.own + moves);
        let seen = i64::try_from(lock.seen).unwrap_or(i64::MAX);
        lock.check().map_err(refusal)?;
        capture.take_lock(lock).map_err(refusal)?;
        Ok(seen)
    })
}

fn read_arguments(context: &Context<'_>) -> Result<Lock> {
    let argument = |at: usize| (at < context.len()).then(|| context.get_raw(at));
    let usage = "sheaf_lock(name [, n [, mode]]): n is a number from 0, or 'any'; mode is \
                 'merge', 'reject' or 'ask'";
    let wrong = || refusal(usage);
    let text = |value: ValueRef<'_>| value.as_str().map(str::to_owned).map_err(|_| wrong());
    if context.len() > 3 {
        return Err(wrong());
    }
    let name = text(argument(0).ok_or_else(wrong)?)?;
    let slack = match argument(1) {
        None => Some(0),
        Some(ValueRef::Null) => None,
        Some(ValueRef::Integer(n)) => Some(u64::try_from(n).map_err(|_| wrong())?),
        Some(other) if text(other)? == "any" => None,
        Some(_) => return Err(wrong()),
    };
    let on_failure = match argument(2) {
        None => OnFailure::default(),
        Some(mode) => OnFailure::from_name(&text(mode)?).ok_or_else(wrong)?,
    };
    Ok(Lock { name, seen: 0, own: 0, slack, on_failure })
}

fn refusal(reason: impl std::fmt::Display) -> Error {
    Error::UserFunctionError(reason.to_string().into())
}
