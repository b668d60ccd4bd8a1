//! Looking back further than the log: one row's recorded changes.
//!
//! Invariants: changes are followed from a state that the recorder has compared, the end of its
//! stretch, because only what it compared fits together: of two changes between which a reader
//! stands, it may have kept what both came to, or nothing. Each change is the difference to the row
//! as it is known by then; a value that was not kept is told as such and never guessed. A stretch
//! that was reclaimed without being recorded ends the look back, and so does one whose end cannot be
//! read from here, as behind the fork of a branch.

use std::fmt;

use rusqlite::Connection;
use sheaf_merge::Value;
use sheaf_volume::{ErrorKind, Lsn, Result, VolumeId};

use super::record::{self, Entry, Who};
use super::reverse::{Kept, OldRow, RowUpdate, find};
use super::state::{Found, Seen, look};
use super::types::{Interval, Origin};
use super::walk::Step;
use super::{Authors, Cell, ColumnChange, End, RowChange, RowEvent, Since};
use crate::schema::{TableInfo, fold};
use crate::site::{Site, View};
use crate::vfs::Carried;

/// Opens the record of a volume's changes, if there is one that can be had.
pub type OpenRecord<'a> = dyn Fn(VolumeId) -> Result<Option<Site>> + 'a;

/// A look back at one row by its recorded changes.
pub(super) struct Older<'a> {
    site: &'a Site,
    conn: Connection,
    info: TableInfo,
    key: Vec<Value>,
    /// What came after this was told by the page log.
    told: Lsn,
    /// The row is known as it was here.
    at: Lsn,
    floor: Lsn,
    /// When the commit at `floor` was made.
    floor_ms: u64,
    now: Option<OldRow>,
    /// The row before what was told last was undone.
    after: Option<OldRow>,
    is_later: bool,
    end: Option<End>,
}

impl fmt::Debug for Older<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Older").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'a> Older<'a> {
    /// Begins where the page log ends, at a row as it was there; `None` where nothing is recorded
    /// of that position.
    pub(super) fn new(
        site: &'a Site,
        record: &Site,
        (info, key): (&TableInfo, &[Value]),
        (at, row): (Lsn, Option<&Found>),
    ) -> Result<Option<Self>> {
        let conn = record.reader(View::Global)?;
        conn.execute_batch("BEGIN").map_err(crate::error::from_sqlite)?;
        if !record::is_made(&conn)? {
            return Ok(None);
        }
        let Some(span) = record::span_of(&conn, at)? else { return Ok(None) };
        let now = row.map(kept_row);
        let (info, key) = (info.clone(), key.to_vec());
        let (floor, floor_ms) = (span.first, span.since_ms);
        let mut older = Self {
            site,
            conn,
            info,
            key,
            told: at,
            at,
            floor,
            floor_ms,
            now,
            after: None,
            is_later: false,
            end: None,
        };
        if at < span.last {
            older.begin_at(span.last)?;
        }
        Ok(Some(older))
    }

    /// Begins at a later state, or ends where that cannot be read.
    fn begin_at(&mut self, lsn: Lsn) -> Result<()> {
        self.is_later = true;
        self.end = Some(End::Expired { lsn: self.told });
        let lineage = self.site.volume().lineage();
        if lineage.owner(lsn) != lineage.owner(self.told) {
            return Ok(());
        }
        let seen = match self.state_at(lsn) {
            Ok(seen) => seen,
            Err(e) if matches!(e.kind(), ErrorKind::Expired | ErrorKind::NotFound) => return Ok(()),
            Err(e) => return Err(e),
        };
        // Of a table that went, no rows are recorded.
        if seen.table.is_some_and(|there| there.has_key_of(&self.info)) {
            (self.now, self.at, self.end) = (seen.row.as_ref().map(kept_row), lsn, None);
            let now = self.now.clone();
            self.spell(now.as_ref());
        }
        Ok(())
    }

    /// The oldest position that is known.
    pub(super) fn floor(&self) -> Lsn {
        self.floor
    }

    /// Where the page log ended.
    pub(super) fn told(&self) -> Lsn {
        self.told
    }

    /// Whether it began with a later state than the one where the page log ended.
    pub(super) fn is_later(&self) -> bool {
        self.is_later
    }

    /// The row as it was from the change that was told last on, or where the look back ended.
    pub(super) fn after(&self) -> Option<&OldRow> {
        self.after.as_ref()
    }

    /// The row where the look back stands.
    pub(super) fn now(&self) -> Option<&OldRow> {
        self.now.as_ref()
    }

    /// When the oldest state was made that is known.
    pub(super) fn floor_ms(&self) -> u64 {
        self.floor_ms
    }

    /// Goes back to the next change.
    ///
    /// # Errors
    /// `Unavailable` when a page of the record cannot be reached, `Corrupt`.
    pub(super) fn step(&mut self, since: Option<Since>) -> Result<Step> {
        loop {
            if let Some(end) = &self.end {
                return Ok(Step::End(end.clone()));
            }
            self.after.clone_from(&self.now);
            if let Some(event) = self.change(since)? {
                return Ok(Step::Change(event));
            }
        }
    }

    fn change(&mut self, since: Option<Since>) -> Result<Option<RowEvent>> {
        let table = self.newest(&[])?;
        let row = self.newest(&record::stored_key(&self.key))?;
        // Of one step, what became of the row is newer than what became of the table.
        let of_row = match (&row, &table) {
            (Some(row), Some(table)) => row.last > table.last,
            (row, _) => row.is_some(),
        };
        let Some(entry) = (if of_row { row } else { table }) else {
            self.end = Some(match self.floor {
                Lsn::ZERO => End::Beginning,
                lsn => End::Expired { lsn },
            });
            return Ok(None);
        };
        if since.is_some_and(|since| since.is_before(Lsn(entry.last), entry.time_ms)) {
            self.end = Some(End::Since);
            return Ok(None);
        }
        let lsn = Lsn(entry.first);
        let is_told = lsn > self.told;
        match &entry.update {
            // The rows that were followed to here are not those that the page log has shown.
            RowUpdate::OtherKey | RowUpdate::NoTable if is_told => {
                self.end = Some(End::Expired { lsn: self.told });
                return Ok(None);
            }
            RowUpdate::OtherKey => {
                self.end = Some(End::OtherKey { lsn });
                return Ok(None);
            }
            RowUpdate::NoTable => {
                self.end = Some(End::NoTable { lsn });
                let now = self.now.take();
                return Ok(self.event(entry, None, now.as_ref()));
            }
            _ => {}
        }
        // Nothing is told of a row of which a part is changed and the rest is not known.
        if self.now.is_none() && matches!(entry.update, RowUpdate::Columns(_)) {
            self.end = Some(End::Expired { lsn: self.told.min(Lsn(entry.last)) });
            return Ok(None);
        }
        let before = entry.update.apply(self.now.as_ref());
        self.at = Lsn(entry.first.saturating_sub(1));
        let now = std::mem::replace(&mut self.now, before.clone());
        self.spell(before.as_ref());
        Ok(if is_told { None } else { self.event(entry, before.as_ref(), now.as_ref()) })
    }

    /// The newest recorded change under a key that is not undone yet.
    fn newest(&self, key: &[u8]) -> Result<Option<Entry>> {
        let found = record::newest(&self.conn, &fold(&self.info.name), key, self.at)?;
        Ok(found.filter(|entry| entry.last > self.floor.0))
    }

    /// The row in a state that the page log has.
    fn state_at(&self, lsn: Lsn) -> Result<Seen> {
        let snapshot = self.site.volume().at(lsn)?;
        let asked = (self.info.name.as_str(), &*self.key);
        look(self.site, snapshot, Carried::new(), asked).map(|(seen, _)| seen)
    }

    /// Follows a key that was spelled in another way.
    fn spell(&mut self, row: Option<&OldRow>) {
        let Some(row) = row else { return };
        let columns = self.info.key_columns();
        let spelled = columns.iter().map(|(_, column)| match find(row, &column.name) {
            Some(Kept::Value(value)) => Some(value.clone()),
            _ => None,
        });
        if let Some(key) = spelled.collect::<Option<Vec<_>>>().filter(|key| !key.is_empty()) {
            self.key = key;
        }
    }

    fn event(
        &self,
        entry: Entry,
        before: Option<&OldRow>,
        now: Option<&OldRow>,
    ) -> Option<RowEvent> {
        let change = difference(before, now)?;
        let Who { writer, authors: Authors(mut runs), more } = entry.authors;
        let own = self.site.timeline();
        runs.iter_mut().for_each(|run| run.own = run.timeline == own);
        let origin = Origin {
            at: Some(Lsn(entry.last)),
            time_ms: entry.time_ms,
            writer,
            authors: Authors(runs),
        };
        let is_new = |name: &str| match now {
            Some(now) => !matches!(find(now, name), Some(Kept::Lost(_))),
            None => true,
        };
        let mut not_kept = lost(before);
        // What was told with a newer change is not told again.
        not_kept.retain(|(name, _)| is_new(name));
        let interval = Some(Interval {
            first: Lsn(entry.first),
            first_time_ms: entry.first_time_ms,
            not_kept,
            more_authors: more,
        });
        Some(RowEvent { origin, change, interval })
    }
}

fn kept_row(row: &Found) -> OldRow {
    let cell = |cell: &Cell| (cell.name.clone(), Kept::Value(cell.value.clone()));
    row.cells.iter().map(cell).collect()
}

/// Columns whose value was not kept, and its length.
pub(super) fn lost(row: Option<&OldRow>) -> Vec<(String, u64)> {
    let each = row.into_iter().flatten().filter_map(|(name, kept)| match kept {
        Kept::Lost(len) => Some((name.clone(), *len)),
        Kept::Value(_) => None,
    });
    each.collect()
}

/// The columns whose value is known.
pub(super) fn known(row: &OldRow) -> Vec<Cell> {
    let each = row.iter().filter_map(|(name, kept)| match kept {
        Kept::Value(value) => Some(Cell { name: name.clone(), value: value.clone() }),
        Kept::Lost(_) => None,
    });
    each.collect()
}

/// What happened to a row, as far as it is known.
fn difference(before: Option<&OldRow>, after: Option<&OldRow>) -> Option<RowChange> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(after)) => return Some(RowChange::Inserted(known(after))),
        (Some(before), None) => return Some(RowChange::Deleted(known(before))),
        (Some(before), Some(after)) => (before, after),
    };
    let value = |kept: Option<&Kept>| match kept {
        Some(Kept::Value(value)) => Some(value.clone()),
        _ => None,
    };
    let names = after.iter().chain(before.iter().filter(|(name, _)| find(after, name).is_none()));
    let differs = |(name, _): &&(String, Kept)| match (find(before, name), find(after, name)) {
        (Some(Kept::Value(old)), Some(Kept::Value(new))) => !old.same(new),
        (old, new) => old != new,
    };
    let change = |(name, _): &(String, Kept)| ColumnChange {
        name: name.clone(),
        old: value(find(before, name)),
        new: value(find(after, name)),
    };
    let changes: Vec<ColumnChange> = names.filter(differs).map(change).collect();
    (!changes.is_empty()).then_some(RowChange::Updated(changes))
}
