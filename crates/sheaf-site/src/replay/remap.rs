//! Row ids that had to change: where two devices offline took the same one.
//!
//! Invariant: a map leads from the id an author inserted a row under, its origin, to the id that
//! the log gave the row, and is never followed twice: after 5 became 6, an author who did not know
//! that may have a 6 of their own. A map counts only for mutations made before its author could
//! have seen it (base < lsn). A row that was refused is remembered like one that moved: its number
//! means nobody else's row to those who do not know that yet.
//!
//! Leaves out forgetting: a mutation that does not fit for now keeps the base it was made on, so
//! an old base may follow a newer one.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use sheaf_volume::{Lsn, TimelineId};

use super::{ReplayContext, failure::Failure, table::exists};

/// The table that carries renumberings from the authority to the devices.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.__sheaf_remap(
    timeline BLOB NOT NULL, tbl TEXT NOT NULL, old INTEGER NOT NULL, new INTEGER NOT NULL,
    lsn INTEGER NOT NULL, PRIMARY KEY(timeline, tbl, old, lsn)) WITHOUT ROWID";

/// In place of a new id: the row was refused. No row gets this id from us.
const REFUSED: i64 = i64::MIN;

/// Where the log has a row of which its author does not know that yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under this id.
    At(i64),
    /// Nowhere: the mutation that would have inserted it was refused.
    Refused,
}

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

    /// Remembers that a row was refused, and tells its author.
    pub(super) fn refuse(
        &mut self,
        conn: &Connection,
        ctx: &ReplayContext,
        table: &str,
        origin: i64,
    ) -> Result<(), Failure> {
        self.note(ctx.timeline, table, origin, REFUSED, ctx.target);
        if ctx.authority {
            publish(conn, ctx.timeline, table, origin, REFUSED, ctx.target)?;
        }
        Ok(())
    }

    fn note(&mut self, timeline: TimelineId, table: &str, old: i64, new: i64, lsn: Lsn) {
        let table = table.to_ascii_lowercase();
        // A number used twice by its author, and kept the second time, is not news.
        if new != old && new != REFUSED {
            self.news.insert((timeline, table.clone(), new));
        }
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

    /// Where the log has the row of this origin, if it was decided after `base` and is not what its
    /// author shows.
    pub(super) fn map(
        &self,
        timeline: TimelineId,
        table: &str,
        origin: i64,
        base: Lsn,
    ) -> Option<Place> {
        if self.by_old.is_empty() {
            return None;
        }
        let entries = self.by_old.get(&(timeline, table.to_ascii_lowercase(), origin))?;
        entries.iter().rev().find(|(lsn, _)| *lsn > base).map(|(_, new)| match *new {
            REFUSED => Place::Refused,
            new => Place::At(new),
        })
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
