//! Where the values of many rows of a table come from, by one look back for all of them.
//!
//! Invariant: as for one row (`walk.rs`): no change is missed and none is made up. A row is looked
//! for only as long as a column of it is not explained. Leaves out rows that are not there now.

use std::collections::BTreeMap;

use sheaf_merge::Value;
use sheaf_volume::Result;

use super::state::{Found, first_rows, is_kept};
use super::walk::{Rows, Tracked, difference};
use super::{Authors, Blamed, Cell, End, Origin, RowEvent, Run, explain, known_table_named};
use crate::limits::HISTORY_ROWS_MAX;
use crate::mutation::{Body, Op};
use crate::opstream::encode_key;
use crate::schema::{Schema, TableInfo};
use crate::site::{Site, View};
use crate::timeline::MutationRecord;

/// Where the columns of one row come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowBlame {
    /// The key.
    pub key: Vec<Cell>,
    /// The columns, in the table's order.
    pub columns: Vec<Blamed>,
}

/// Where the values of a table's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableBlame {
    /// The table, as the schema spells it.
    pub table: String,
    /// Its first rows, by key.
    pub rows: Vec<RowBlame>,
    /// Whether the table has more.
    pub more: bool,
    /// How far the look back went.
    pub end: End,
    /// States that were looked at.
    pub looked: u64,
}

/// What mutations that wait name: by row, and those that may have changed any.
#[derive(Default)]
struct Waiting {
    rows: BTreeMap<Vec<u8>, Vec<(u64, u64)>>,
    any: Vec<(u64, u64)>,
}

impl Site {
    /// As [`Site::blame`] for the first `limit` rows of a table, by key; at most
    /// [`HISTORY_ROWS_MAX`]. Looks back once for all of them, until every column is explained.
    /// `progress` is told how many rows are.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there now, and as [`Site::history`].
    pub fn blame_table(
        &self,
        table: &str,
        limit: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<TableBlame> {
        let limit = limit.min(HISTORY_ROWS_MAX);
        let (info, mut found) = self.read(View::Local, |conn| {
            let info = Schema::read(conn)?.table(table).filter(|info| is_kept(info)).cloned();
            let info = known_table_named(table, info)?;
            let found = first_rows(conn, &info, limit.saturating_add(1))?;
            Ok((info, found))
        })?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut rows: Vec<RowBlame> = found.iter().map(|found| begun(found, &info)).collect();
        let values = |row: &RowBlame| row.key.iter().map(|cell| cell.value.clone()).collect();
        let keys: Vec<Vec<Value>> = rows.iter().map(values).collect();
        let mut walk = Rows::new(self, &info.name, keys, None)?;
        self.blame_waiting(&info.name, &found, walk.rows(), &mut rows)?;
        let end = loop {
            walk.retain(|row| rows.get(row.place).is_some_and(|row| !is_explained(row)));
            progress(rows.len() - walk.rows().len());
            if walk.rows().is_empty() {
                break End::Explained;
            }
            if let Some(end) = walk.end() {
                break end;
            }
            // The newest of each first, as it explains what the older ones do not.
            for (place, event) in walk.step()?.into_iter().rev() {
                rows.get_mut(place).into_iter().for_each(|row| explain(&mut row.columns, &event));
            }
        };
        let looked = walk.looked;
        Ok(TableBlame { table: info.name, rows, more, end, looked })
    }

    /// Explains what only this device has done.
    fn blame_waiting(
        &self,
        table: &str,
        local: &[Found],
        agreed: &[Tracked],
        rows: &mut [RowBlame],
    ) -> Result<()> {
        if self.volume().is_timeline_empty() {
            return Ok(());
        }
        let waiting = self.waiting_in(table)?;
        for ((local, agreed), row) in local.iter().zip(agreed).zip(rows) {
            let Some(change) = difference(agreed.row.as_ref(), Some(local)) else { continue };
            let key: Vec<Value> = row.key.iter().map(|cell| cell.value.clone()).collect();
            let (authors, time_ms) = waiting.authors(self, &encode_key(&key));
            let origin = Origin { at: None, time_ms, writer: self.device(), authors };
            explain(&mut row.columns, &RowEvent { origin, change, interval: None });
        }
        Ok(())
    }

    fn waiting_in(&self, table: &str) -> Result<Waiting> {
        let mut waiting = Waiting::default();
        for held in self.volume().held() {
            let Some(pending) = self.volume().mutation(held.seq)? else { continue };
            let one = (held.seq, held.time_ms);
            let Body::Rows(ops) = MutationRecord::from(pending).mutation()?.body else {
                waiting.any.push(one);
                continue;
            };
            if ops.iter().any(|op| matches!(op, Op::Ddl { .. })) {
                waiting.any.push(one);
                continue;
            }
            for (name, key) in ops.iter().filter_map(Op::row) {
                if name.eq_ignore_ascii_case(table) {
                    waiting.rows.entry(key).or_default().push(one);
                }
            }
        }
        Ok(waiting)
    }
}

impl Waiting {
    /// Whose a change may be that the log has not decided, and when the last of them was made.
    fn authors(&self, site: &Site, key: &[u8]) -> (Authors, u64) {
        let named = self.rows.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut all: Vec<(u64, u64)> = named.iter().chain(&self.any).copied().collect();
        all.sort_unstable();
        all.dedup();
        let timeline = site.timeline();
        let run =
            |(seq, _): &(u64, u64)| Run { timeline, first_seq: *seq, last_seq: *seq, own: true };
        let time_ms = all.last().map_or(0, |(_, time_ms)| *time_ms);
        (Authors(all.iter().map(run).collect()), time_ms)
    }
}

fn begun(found: &Found, info: &TableInfo) -> RowBlame {
    let columns = found.cells.iter().map(|cell| Blamed { cell: cell.clone(), origin: None });
    RowBlame { key: found.key(info), columns: columns.collect() }
}

fn is_explained(row: &RowBlame) -> bool {
    row.columns.iter().all(|column| column.origin.is_some())
}
