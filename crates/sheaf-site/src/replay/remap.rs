//! Row ids that had to change: where two devices offline took the same one.
//!
//! Invariant: a map leads from the id an author saw to the id the log gave the row, and is never
//! followed twice: after 5 became 6, an author who did not know that may have a 6 of their own.
//! A map counts only for mutations made before its author could have seen it (base < lsn).

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use sheaf_merge::Value;
use sheaf_volume::{Lsn, TimelineId};

use super::{failure::Failure, table::exists};

/// The table that carries renumberings from the authority to the devices.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.__sheaf_remap(
    timeline BLOB NOT NULL, tbl TEXT NOT NULL, old INTEGER NOT NULL, new INTEGER NOT NULL,
    lsn INTEGER NOT NULL, PRIMARY KEY(timeline, tbl, old, lsn)) WITHOUT ROWID";

/// Renumberings known in one transaction.
#[derive(Debug, Default)]
pub(super) struct Ids {
    by_old: BTreeMap<(TimelineId, String, i64), Vec<(Lsn, i64)>>,
    news: BTreeSet<(TimelineId, String, i64)>,
    loaded: BTreeSet<TimelineId>,
    /// What the current mutation added, in case it is rejected.
    added: Vec<(TimelineId, String, i64)>,
}

impl Ids {
    /// Learns what the log says about a timeline.
    pub(super) fn load(&mut self, conn: &Connection, timeline: TimelineId) -> Result<(), Failure> {
        self.added.clear();
        if !self.loaded.insert(timeline) || !exists(conn, "__sheaf_remap")? {
            return Ok(());
        }
        let mut statement = conn.prepare_cached(
            "SELECT tbl, old, new, lsn FROM main.__sheaf_remap WHERE timeline = ?1 ORDER BY lsn",
        )?;
        let mut rows = statement.query([timeline.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let (table, old, new): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let lsn = Lsn(u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0));
            self.note(timeline, &table, old, new, lsn);
        }
        Ok(())
    }

    fn note(&mut self, timeline: TimelineId, table: &str, old: i64, new: i64, lsn: Lsn) {
        let table = table.to_ascii_lowercase();
        self.news.insert((timeline, table.clone(), new));
        self.by_old.entry((timeline, table, old)).or_default().push((lsn, new));
    }

    /// Remembers a renumbering of this transaction.
    pub(super) fn add(&mut self, timeline: TimelineId, table: &str, old: i64, new: i64, lsn: Lsn) {
        self.note(timeline, table, old, new, lsn);
        self.added.push((timeline, table.to_ascii_lowercase(), old));
    }

    /// Forgets what the current mutation added.
    pub(super) fn undo(&mut self) {
        for key in self.added.drain(..).rev() {
            if let Some((_, new)) = self.by_old.get_mut(&key).and_then(Vec::pop) {
                self.news.remove(&(key.0, key.1, new));
            }
        }
    }

    /// Whether a row got this id by a renumbering: its author knows it under another.
    pub(super) fn is_new(&self, timeline: TimelineId, table: &str, id: i64) -> bool {
        self.news.contains(&(timeline, table.to_ascii_lowercase(), id))
    }

    /// The value as the log has it, if it is an id of `table` that was renumbered after `base`.
    pub(super) fn map(
        &self,
        timeline: TimelineId,
        table: &str,
        value: &Value,
        base: Lsn,
    ) -> Option<Value> {
        let Value::Int(old) = value else { return None };
        if self.by_old.is_empty() {
            return None;
        }
        let entries = self.by_old.get(&(timeline, table.to_ascii_lowercase(), *old))?;
        entries.iter().rev().find(|(lsn, _)| *lsn > base).map(|(_, new)| Value::Int(*new))
    }
}

/// Tells the timeline's device, through the database itself.
pub(super) fn publish(
    conn: &Connection,
    timeline: TimelineId,
    table: &str,
    old: i64,
    new: i64,
    lsn: Lsn,
) -> Result<(), Failure> {
    conn.execute_batch(CREATE)?;
    let lsn = i64::try_from(lsn.0).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO main.__sheaf_remap(timeline, tbl, old, new, lsn)
         VALUES(?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![timeline.as_bytes(), table, old, new, lsn])?;
    Ok(())
}
