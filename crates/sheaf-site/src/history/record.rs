//! Recorded changes as rows of an ordinary site: their tables, and how they are written and read.
//!
//! Invariants: a transaction holds changes and how far they go, and is refused where another one
//! came first, so every change is recorded once; rows of a step that was not finished lie above
//! that point and are read by nobody. Leaves out where changes come from and who reads them.

use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row as SqlRow, params};
use sheaf_merge::Value;
use sheaf_volume::{DeviceId, Error, ErrorKind, Lsn, Result, TimelineId, VolumeId};

use super::reverse::{
    Bytes, Kept, OldRow, RowUpdate, Step, damaged, is_same_interval, join, put_number,
};
use super::types::{Authors, Run};
use crate::diff::NamedRow;
use crate::error::from_sqlite;
use crate::limits::{HISTORY_AUTHORS_MAX, HISTORY_BATCH_BYTES, HISTORY_DELETES_MAX};
use crate::opstream::encode_key;

/// Before the names of sites that hold recorded changes.
const NAME_PREFIX: &str = ".history/";

/// A row's changes, newest first; positions for retention; how far recording went, without gaps.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS history(
        tbl TEXT NOT NULL, key BLOB NOT NULL, last INT NOT NULL, first INT NOT NULL,
        time INT NOT NULL, first_time INT NOT NULL, authors BLOB NOT NULL, upd BLOB NOT NULL,
        PRIMARY KEY(tbl, key, last)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS history_by_last ON history(last, time);
    CREATE TABLE IF NOT EXISTS span(
        first INTEGER PRIMARY KEY, last INT NOT NULL, since INT NOT NULL, doing INT);";
const HAS_TABLES: &str = "SELECT count(*) = 2 FROM sqlite_schema
    WHERE type = 'table' AND lower(name) IN ('history', 'span')";
const COLUMNS: &str = "last, first, time, first_time, authors, upd";

/// The site with the recorded changes of a volume.
#[must_use]
pub fn record_name(volume: VolumeId) -> String {
    let hex: String = volume.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{NAME_PREFIX}{hex}")
}

/// Whether a site of that name holds recorded changes: nobody's own site has such a name.
#[must_use]
pub fn is_record_name(name: &str) -> bool {
    name.starts_with(NAME_PREFIX)
}

/// Refuses names that are kept for recorded changes.
///
/// # Errors
/// `Invalid`.
pub fn check_not_record(name: &str) -> Result<()> {
    if is_record_name(name) {
        let text = format!("names that begin with `{NAME_PREFIX}` are kept for recorded changes");
        return Err(Error::invalid(format!("bad site name: {text}; choose another than `{name}`")));
    }
    Ok(())
}

/// Bytes of the authors of a change, at most: a timeline and two numbers each, and who wrote.
const AUTHORS_BYTES: usize = 18 + HISTORY_AUTHORS_MAX * 36;

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// Who made the newest commit.
    pub(super) writer: DeviceId,
    pub(super) authors: Authors,
    /// Whether some are not named.
    pub(super) more: bool,
}

pub(super) type Entry = Step<Who>;

impl Who {
    /// Of two changes, one after the other; the newest authors are kept.
    pub(super) fn join(older: Self, newer: Self) -> Self {
        let mut runs: Vec<Run> = older.authors.0;
        for run in newer.authors.0 {
            let follows = |last: &&mut Run| {
                last.timeline == run.timeline && last.last_seq + 1 == run.first_seq
            };
            // Commits that two changes share.
            if runs.contains(&run) {
                continue;
            }
            match runs.last_mut().filter(follows) {
                Some(last) => last.last_seq = run.last_seq,
                None => runs.push(run),
            }
        }
        let left_out = runs.len().saturating_sub(HISTORY_AUTHORS_MAX);
        runs.drain(..left_out);
        let more = older.more || newer.more || left_out > 0;
        Self { writer: newer.writer, authors: Authors(runs), more }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, u8::from(self.more)];
        out.extend_from_slice(self.writer.as_bytes());
        for run in &self.authors.0 {
            out.extend_from_slice(run.timeline.as_bytes());
            put_number(&mut out, run.first_seq);
            put_number(&mut out, run.last_seq.saturating_sub(run.first_seq));
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Bytes(bytes);
        if reader.byte()? != 1 {
            let text = "a row's history was written by a newer version of Sheaf; upgrade";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let more = reader.byte()? != 0;
        let writer = DeviceId::try_from(reader.take(16)?)?;
        let mut runs = Vec::new();
        while !reader.is_done() {
            if runs.len() >= HISTORY_AUTHORS_MAX {
                return Err(damaged("too many authors"));
            }
            let timeline = TimelineId::try_from(reader.take(16)?)?;
            let (first_seq, more) = (reader.number()?, reader.number()?);
            let last_seq = first_seq.checked_add(more).filter(|last| i64::try_from(*last).is_ok());
            let last_seq =
                last_seq.filter(|_| first_seq > 0).ok_or_else(|| damaged("bad author"))?;
            runs.push(Run { timeline, first_seq, last_seq, own: false });
        }
        Ok(Self { writer, authors: Authors(runs), more })
    }
}

/// A stretch of the log whose changes are recorded: after `first` up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    /// When the commit at `first` was made, milliseconds since 1970.
    pub(super) since_ms: u64,
    /// Up to where a step is under way that takes several transactions.
    pub(super) doing: Option<Lsn>,
}

pub(super) fn sql_lsn(lsn: Lsn) -> Result<i64> {
    i64::try_from(lsn.0).map_err(|_| Error::invalid("a position out of range"))
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A position or a time: nobody who records writes a negative one.
fn unsigned(row: &SqlRow<'_>, at: usize) -> Result<u64> {
    let value = row.get::<_, i64>(at).map_err(from_sqlite)?;
    u64::try_from(value).map_err(|_| damaged("a negative number"))
}

/// Whether anything was ever recorded here.
pub(super) fn is_made(conn: &Connection) -> Result<bool> {
    conn.query_row(HAS_TABLES, [], |row| row.get(0)).map_err(from_sqlite)
}

/// Makes the tables, and refuses the transaction where another recorder comes first.
pub(super) fn begin(conn: &Connection) -> Result<()> {
    if !is_made(conn)? {
        conn.execute_batch(TABLES).map_err(from_sqlite)?;
    }
    let lock = "SELECT sheaf_lock('cursor', 0, 'reject')";
    conn.query_row(lock, [], |_| Ok(())).map_err(from_sqlite)
}

/// The stretch that a position is in, its end included.
pub(super) fn span_of(conn: &Connection, lsn: Lsn) -> Result<Option<Span>> {
    let sql = "SELECT first, last, doing, since FROM span WHERE first < ?1 AND last >= ?1
        ORDER BY first DESC LIMIT 1";
    one_span(conn, sql, &[sql_lsn(lsn)?])
}

/// The newest stretch.
pub(super) fn newest_span(conn: &Connection) -> Result<Option<Span>> {
    one_span(conn, "SELECT first, last, doing, since FROM span ORDER BY first DESC LIMIT 1", &[])
}

fn one_span(conn: &Connection, sql: &str, values: &[i64]) -> Result<Option<Span>> {
    let mut statement = conn.prepare_cached(sql).map_err(from_sqlite)?;
    let params = rusqlite::params_from_iter(values);
    let mut rows = statement.query(params).map_err(from_sqlite)?;
    let Some(row) = rows.next().map_err(from_sqlite)? else { return Ok(None) };
    let doing = match row.get_ref(2).map_err(from_sqlite)? {
        ValueRef::Null => None,
        _ => Some(Lsn(unsigned(row, 2)?)),
    };
    let (first, last) = (Lsn(unsigned(row, 0)?), Lsn(unsigned(row, 1)?));
    if first > last || doing.is_some_and(|doing| doing <= last) {
        return Err(damaged("a stretch ends before it begins"));
    }
    Ok(Some(Span { first, last, doing, since_ms: unsigned(row, 3)? }))
}

/// Notes how far recording went.
pub(super) fn put_span(conn: &Connection, span: Span) -> Result<()> {
    let doing = span.doing.map(sql_lsn).transpose()?;
    let sql = "INSERT INTO span(first, last, doing, since) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT(first) DO UPDATE SET last = excluded.last, doing = excluded.doing";
    let values = params![sql_lsn(span.first)?, sql_lsn(span.last)?, doing, number(span.since_ms)];
    conn.execute(sql, values).map(|_| ()).map_err(from_sqlite)
}

/// The newest change of a row, or of a table as a whole, recorded up to `last`.
pub(super) fn newest(conn: &Connection, tbl: &str, key: &[u8], last: Lsn) -> Result<Option<Entry>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM history WHERE tbl = ?1 AND key = ?2 AND last <= ?3
        ORDER BY last DESC LIMIT 1"
    );
    let mut statement = conn.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query(params![tbl, key, sql_lsn(last)?]).map_err(from_sqlite)?;
    let entry = rows.next().map_err(from_sqlite)?.map(entry).transpose()?;
    // Whoever may push may write here. A look back ends because each change begins before it ends,
    // and only a table is told of under the empty key.
    match entry {
        Some(entry) if entry.first == 0 || entry.first > entry.last => {
            Err(damaged("a change ends before it begins"))
        }
        Some(entry) if entry.update.is_of_table() != key.is_empty() => {
            Err(damaged("a change of a table in the place of a row's, or a row's of a table's"))
        }
        entry => Ok(entry),
    }
}

fn entry(row: &SqlRow<'_>) -> Result<Entry> {
    let bytes = |at| row.get::<_, Vec<u8>>(at).map_err(from_sqlite);
    Ok(Entry {
        last: unsigned(row, 0)?,
        first: unsigned(row, 1)?,
        time_ms: unsigned(row, 2)?,
        first_time_ms: unsigned(row, 3)?,
        authors: Who::decode(&bytes(4)?)?,
        update: RowUpdate::decode(&bytes(5)?)?,
    })
}

/// Stores a change; one that is there already stays.
pub(super) fn put(conn: &Connection, tbl: &str, key: &[u8], entry: &Entry) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO history(tbl, key, last, first, time, first_time, authors, upd)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let Step { first, last, first_time_ms, time_ms, authors, update } = entry;
    let mut statement = conn.prepare_cached(sql).map_err(from_sqlite)?;
    let values = params![
        tbl,
        key,
        number(*last),
        number(*first),
        number(*time_ms),
        number(*first_time_ms),
        authors.encode(),
        update.encode()
    ];
    statement.execute(values).map(|_| ()).map_err(from_sqlite)
}

/// Stores a change of a row, as one with the change before it where both lie in one interval and
/// `room`, the bytes that the transaction may yet take for that, allows it: two tell the same. `was`
/// is the key that the row had, where it was spelled in another way.
pub(super) fn put_folded(
    conn: &Connection,
    tbl: &str,
    (was, key): (&[u8], &[u8]),
    newer: Entry,
    now: Option<&OldRow>,
    (span, room): (Span, &mut usize),
) -> Result<()> {
    let before = Lsn(newer.first.saturating_sub(1));
    let older = newest(conn, tbl, was, before)?.filter(|older| {
        is_same_interval(older.time_ms, newer.time_ms) && older.last > span.first.0
    });
    let Some(older) = older else { return put(conn, tbl, key, &newer) };
    let (last, old_len) = (older.last, older.update.encode().len());
    // What a table was before it went, or had another key, is no row of this one.
    if newest(conn, tbl, &[], before)?.is_some_and(|table| table.last > older.last) {
        return put(conn, tbl, key, &newer);
    }
    let joined = join(older, newer.clone(), now, Who::join);
    let new_len = joined.as_ref().map_or(0, |joined| joined.update.encode().len());
    // The old one travels as what is deleted, the new one as what is inserted.
    let cost = old_len + new_len + 2 * (AUTHORS_BYTES + key.len() + tbl.len());
    if cost > *room || joined.as_ref().is_some_and(|joined| !joined.update.fits()) {
        return put(conn, tbl, key, &newer);
    }
    *room -= cost;
    delete(conn, params![tbl, was, number(last)])?;
    joined.map_or(Ok(()), |joined| put(conn, tbl, key, &joined))
}

/// Deletes the change of that table, key and end.
fn delete(conn: &Connection, name: impl rusqlite::Params) -> Result<()> {
    let sql = "DELETE FROM history WHERE tbl IS ?1 AND key IS ?2 AND last IS ?3";
    let mut statement = conn.prepare_cached(sql).map_err(from_sqlite)?;
    statement.execute(name).map(|_| ()).map_err(from_sqlite)
}

/// Deletes some of what was recorded of before a time, and what no recorder writes; whether there
/// may be more. Times of commits never fall, so what is old comes before what is not.
pub(super) fn forget(conn: &Connection, before_ms: u64) -> Result<bool> {
    let oldest = "SELECT tbl, key, last, time, octet_length(tbl) + octet_length(key)
        + octet_length(upd) + octet_length(authors) FROM history ORDER BY last, time";
    let mut statement = conn.prepare_cached(oldest).map_err(from_sqlite)?;
    let mut rows = statement.query([]).map_err(from_sqlite)?;
    let (mut doomed, mut bytes, mut newest) = (Vec::new(), 0, None);
    let more = loop {
        let Some(row) = rows.next().map_err(from_sqlite)? else { break false };
        let number = |at| row.get::<_, i64>(at).ok().and_then(|n| u64::try_from(n).ok());
        let at = number(2).filter(|last| *last > 0).zip(number(3));
        if at.is_some_and(|(_, time_ms)| time_ms >= before_ms) {
            break false;
        }
        if doomed.len() >= HISTORY_DELETES_MAX || bytes >= HISTORY_BATCH_BYTES {
            break true;
        }
        let name = [0, 1, 2].map(|at| row.get::<_, SqlValue>(at));
        let name = name.into_iter().collect::<rusqlite::Result<Vec<_>>>().map_err(from_sqlite)?;
        bytes += number(4).map_or(0, |len| usize::try_from(len).unwrap_or(usize::MAX));
        doomed.push(name);
        newest = newest.max(at);
    };
    drop(rows);
    for name in &doomed {
        delete(conn, rusqlite::params_from_iter(name))?;
    }
    let Some((last, time_ms)) = newest else { return Ok(more) };
    let (last, time) = (number(last), number(time_ms));
    // ORDER: stretches that end there first, so that two of them never begin at one position. The
    // newest one says how far recording went.
    let old = "DELETE FROM span WHERE last <= ?1 AND first < (SELECT max(first) FROM span)";
    conn.execute(old, [last]).map_err(from_sqlite)?;
    let later = "UPDATE span SET first = min(?1, last), since = ?2 WHERE first < ?1";
    conn.execute(later, [last, time]).map_err(from_sqlite)?;
    Ok(more)
}

/// A row as SQLite gave it.
pub(super) fn kept(row: NamedRow) -> OldRow {
    row.into_iter().map(|(name, value)| (name, Kept::Value(value))).collect()
}

/// A key as it is stored.
pub(super) fn stored_key(key: &[Value]) -> Vec<u8> {
    encode_key(key)
}
