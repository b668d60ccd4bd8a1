//! What became of one row, who did it, and taking it back.
//!
//! Invariant: answers come from what the log keeps and cost it nothing; what lies below the log's
//! boundary comes from a record of changes in a site of its own, where whoever reclaimed kept one.
//! What a commit says of its authors is told as it says it: one mutation is its author, several are
//! candidates, and no guess is made between them: only what this device remembers of its own
//! mutations, where the states around the commit agree with it (`chain.rs`), tells which of them it
//! was. Where a look back ended, and why, is part of every answer.

use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Result};

use crate::mutation::{Body, Op};
use crate::opstream::encode_key;
use crate::schema::{Affinity, Identity, TableInfo};
use crate::site::Site;
use crate::timeline::MutationRecord;
use crate::vfs::Carried;

mod chain;
mod changes;
mod deeds;
mod log;
mod memory;
mod older;
mod past;
mod record;
mod recorder;
mod reverse;
mod state;
mod steps;
mod table;
mod target;
mod types;
mod undo;
mod walk;

use past::Past;
use state::{Seen, check_key, look};
use walk::{Step, difference};

pub(crate) use deeds::Deeds;
pub use older::OpenRecord;
pub use record::{check_not_record, is_record_name, record_name};
pub use recorder::{HistoryRetention, OpenDir, RecordPlace, Recorded, Recorder};
pub use table::{RowBlame, TableBlame};
pub use target::MutationName;
pub use types::{
    Authors, Blame, Blamed, Cell, ColumnChange, End, History, Interval, Origin, RowAt, RowChange,
    RowEvent, Run, Since,
};
pub use undo::{LeftAlone, Undone};

/// A row to be looked back at, as it is here and now.
struct Row {
    info: TableInfo,
    key: Vec<Cell>,
    /// On this device.
    local: Seen,
    /// What this device did to it that the log has not decided.
    pending: Option<RowEvent>,
}

impl Site {
    /// The values of a row's key from how people write them: numbers where the column takes
    /// numbers, `x'0a'` for a blob, anything in quotes as text.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there, `Invalid` for a key of another shape.
    pub fn row_key(&self, table: &str, key: &[String]) -> Result<Vec<Value>> {
        let local = self.seen_here(table, &[])?;
        let info = known_table(table, local)?;
        let columns = info.key_columns();
        let affinity = |at: usize| match info.identity {
            Identity::Declared => columns.get(at).map_or(Affinity::Blob, |(_, c)| c.affinity),
            _ => Affinity::Integer,
        };
        let values = key.iter().enumerate().map(|(at, text)| key_value(text, affinity(at)));
        let values: Vec<Value> = values.collect();
        check_key(&info, &values)?;
        Ok(values)
    }

    /// The changes of one row, newest first: at most `limit`, and none from before `since`. Begins
    /// with what this device has done and the log has not decided.
    ///
    /// Reads the commits back to there without their pages, and a few pages of each state in which
    /// the row may have been another.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there now, `Invalid` for a key of another shape,
    /// `Unavailable` when the log cannot be reached.
    pub fn history(
        &self,
        table: &str,
        key: &[Value],
        limit: usize,
        since: Option<Since>,
    ) -> Result<History> {
        self.history_with(table, key, (limit, since), None)
    }

    /// As [`Site::history`]; where the log ends, goes on in the record that `open` gives.
    ///
    /// # Errors
    /// As [`Site::history`], and those of `open`.
    pub fn history_with(
        &self,
        table: &str,
        key: &[Value],
        (limit, since): (usize, Option<Since>),
        open: Option<&OpenRecord<'_>>,
    ) -> Result<History> {
        let row = self.row_here(table, key)?;
        let mut walk = Past::new(self, table, key, since, open)?;
        let stored = walk.stored_key(&row.info);
        let key = stored.unwrap_or(row.key);
        let mut events: Vec<RowEvent> = row.pending.into_iter().collect();
        let end = loop {
            if events.len() >= limit {
                events.truncate(limit);
                break End::Limit;
            }
            match walk.step()? {
                Step::Change(event) => events.push(event),
                Step::End(end) => break end,
            }
        };
        Ok(History { table: row.info.name, key, events, end, looked: walk.looked() })
    }

    /// Where the value of each column of a row comes from. Looks back until all are explained.
    ///
    /// # Errors
    /// `NotFound` for a table or a row that is not there now, and as [`Site::history`].
    pub fn blame(&self, table: &str, key: &[Value]) -> Result<Blame> {
        self.blame_with(table, key, None)
    }

    /// As [`Site::blame`]; where the log ends, goes on in the record that `open` gives.
    ///
    /// # Errors
    /// As [`Site::blame`], and those of `open`.
    pub fn blame_with(
        &self,
        table: &str,
        key: &[Value],
        open: Option<&OpenRecord<'_>>,
    ) -> Result<Blame> {
        let row = self.row_here(table, key)?;
        let Some(found) = row.local.row.clone() else {
            let text = format!("table `{table}` has no such row now");
            return Err(Error::new(ErrorKind::NotFound, text));
        };
        let columns = found.cells.iter().map(|cell| Blamed { cell: cell.clone(), origin: None });
        let mut columns: Vec<Blamed> = columns.collect();
        if let Some(event) = &row.pending {
            explain(&mut columns, event);
        }
        let mut walk = Past::new(self, table, key, None, open)?;
        let end = loop {
            if columns.iter().all(|column| column.origin.is_some()) {
                break End::Explained;
            }
            match walk.step()? {
                Step::Change(event) => explain(&mut columns, &event),
                Step::End(end) => break end,
            }
        };
        Ok(Blame { table: row.info.name.clone(), key: found.key(&row.info), columns, end })
    }

    fn seen_here(&self, table: &str, key: &[Value]) -> Result<Seen> {
        Ok(look(self, self.volume().head(), Carried::new(), (table, key))?.0)
    }

    fn row_here(&self, table: &str, key: &[Value]) -> Result<Row> {
        let local = self.seen_here(table, key)?;
        let info = known_table(table, local.clone())?;
        check_key(&info, key)?;
        let asked = || key_cells(&info, key);
        let spelled = local.row.as_ref().map_or_else(asked, |found| found.key(&info));
        let pending = self.pending_change(&local, &info, &spelled)?;
        Ok(Row { info, key: spelled, local, pending })
    }

    /// What the mutations that wait have done to a row, as one change.
    fn pending_change(
        &self,
        local: &Seen,
        info: &TableInfo,
        key: &[Cell],
    ) -> Result<Option<RowEvent>> {
        let held = self.volume().held();
        if held.is_empty() {
            return Ok(None);
        }
        let values: Vec<Value> = key.iter().map(|cell| cell.value.clone()).collect();
        let global = self.volume().global();
        let (before, _) = look(self, global, Carried::new(), (&info.name, &values))?;
        let Some(change) = difference(before.row.as_ref(), local.row.as_ref()) else {
            return Ok(None);
        };
        let row = encode_key(&values);
        let (mut runs, mut time_ms) = (Authors::default(), 0);
        for held in held {
            let Some(waiting) = self.volume().mutation(held.seq)? else { continue };
            let mutation = MutationRecord::from(waiting).mutation()?;
            if names_row(&mutation.body, &info.name, &row) {
                let (timeline, seq) = (self.timeline(), held.seq);
                runs.0.push(Run { timeline, first_seq: seq, last_seq: seq, own: true });
                time_ms = held.time_ms;
            }
        }
        let origin = Origin { at: None, time_ms, writer: self.device(), authors: runs };
        Ok(Some(RowEvent { origin, change, interval: None }))
    }
}

/// The table that is to be looked back at.
fn known_table(table: &str, seen: Seen) -> Result<TableInfo> {
    known_table_named(table, seen.table)
}

fn known_table_named(table: &str, info: Option<TableInfo>) -> Result<TableInfo> {
    info.ok_or_else(|| {
        let text = format!("there is no table `{table}` whose rows are followed");
        Error::new(ErrorKind::NotFound, text)
    })
}

fn key_cells(info: &TableInfo, key: &[Value]) -> Vec<Cell> {
    let names: Vec<String> = match info.identity {
        Identity::Rowid => vec!["rowid".to_owned()],
        _ => info.key_columns().into_iter().map(|(_, column)| column.name.clone()).collect(),
    };
    names.into_iter().zip(key).map(|(name, v)| Cell { name, value: v.clone() }).collect()
}

/// Whether a mutation may have changed a row: it names it, or is a call, which names nothing, or
/// changes the schema.
fn names_row(body: &Body, table: &str, key: &[u8]) -> bool {
    let Body::Rows(ops) = body else { return true };
    ops.iter().any(|op| match op.row() {
        Some((name, row)) => name.eq_ignore_ascii_case(table) && row == key,
        None => matches!(op, Op::Ddl { .. }),
    })
}

/// Gives a change to the columns that it explains and no newer one has.
fn explain(columns: &mut [Blamed], event: &RowEvent) {
    let changed = |name: &str| match &event.change {
        RowChange::Inserted(_) => true,
        RowChange::Deleted(_) => false,
        RowChange::Updated(changes) => {
            changes.iter().any(|change| change.name.eq_ignore_ascii_case(name))
        }
    };
    for column in columns.iter_mut().filter(|column| column.origin.is_none()) {
        if changed(&column.cell.name) {
            column.origin = Some(event.origin.clone());
        }
    }
}

/// A value of a key as people write it.
fn key_value(text: &str, affinity: Affinity) -> Value {
    let quoted = |text: &str| {
        let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
        Some(inner.replace("''", "'"))
    };
    if let Some(bytes) = text.strip_prefix(['x', 'X']).and_then(quoted)
        && let Some(bytes) = crate::value::decode_hex(&bytes)
    {
        return Value::Blob(bytes);
    }
    if let Some(text) = quoted(text) {
        return Value::Text(text);
    }
    let text = || Value::Text(text.to_owned());
    let number = |text: &str| {
        let real = || text.parse().ok().filter(|real: &f64| real.is_finite()).map(Value::Real);
        text.parse().ok().map(Value::Int).or_else(real)
    };
    match (affinity, text()) {
        (Affinity::Text, text) => text,
        (_, Value::Text(written)) => number(&written).unwrap_or_else(text),
        (_, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_their_columns_take_them() {
        let read = |text: &str| {
            let all = [Affinity::Integer, Affinity::Text, Affinity::Blob];
            all.map(|affinity| key_value(text, affinity))
        };
        assert_eq!(read("7"), [7.into(), "7".into(), 7.into()]);
        assert_eq!(read("-1.5"), [(-1.5).into(), "-1.5".into(), (-1.5).into()]);
        assert_eq!(read("inf"), ["inf".into(), "inf".into(), "inf".into()]);
        assert_eq!(read("'7'"), ["7".into(), "7".into(), "7".into()]);
        assert_eq!(read("'it''s'")[1], "it's".into());
        assert_eq!(read("x'00fF'"), [0, 1, 2].map(|_| Value::Blob(vec![0, 255])));
        assert_eq!(read("x'0'")[1], "x'0'".into());
        assert_eq!(read("'")[1], "'".into());
    }
}
