//! What became of one row, who did it, and taking a mutation back.
//!
//! Invariant: the log answers as far back as it is kept, and behind that the record of changes, a
//! site beside this one whose replica is opened only then. Where that cannot be had, the answer
//! ends with the log, and says so. Leaves out the meaning: see `sheaf_site::history`.

use std::cell::RefCell;

pub use sheaf_site::history::{
    Authors, Blame, Blamed, Cell, ColumnChange, End, History, Interval, LeftAlone, MutationName,
    Origin, RowAt, RowBlame, RowChange, RowEvent, Run, Since, TableBlame, Undone,
};
use sheaf_site::{
    ErrorKind, Result, Value,
    history::{OpenRecord, record_name},
    limits::HISTORY_CACHE_BYTES,
};
use sheaf_volume::{PageSize, VolumeId};

use crate::{Site, limits};

impl Site {
    /// The values of a row's key from how people write them.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there, `Invalid` for a key of another shape.
    pub fn row_key(&self, table: &str, key: &[String]) -> Result<Vec<Value>> {
        self.engine().row_key(table, key)
    }

    /// The changes of one row as far as this device knows the log, newest first: at most `limit`,
    /// none from before `since`. Reads a few pages of each state in which the row may have been
    /// another, from the server where they are not here.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there now, `Invalid` for a key of another shape,
    /// `Unavailable` when the server is needed and cannot be reached.
    pub fn history(
        &self,
        table: &str,
        key: &[Value],
        limit: usize,
        since: Option<Since>,
    ) -> Result<History> {
        self.with_record(&|open| self.engine().history_with(table, key, (limit, since), Some(open)))
    }

    /// Which change gave each column of a row its value.
    ///
    /// # Errors
    /// `NotFound` for a row that is not there now, and as [`Site::history`].
    pub fn blame(&self, table: &str, key: &[Value]) -> Result<Blame> {
        self.with_record(&|open| self.engine().blame_with(table, key, Some(open)))
    }

    /// A row as it was at a time, milliseconds since 1970; of a time within ten minutes whose
    /// changes are recorded as one, the row before them.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there now, `Invalid` for a key of another shape,
    /// `Expired` when nothing of that time is kept, `Unsupported` when the table had another key
    /// then, `Unavailable` when the server is needed and cannot be reached.
    pub fn row_at(&self, table: &str, key: &[Value], time_ms: u64) -> Result<RowAt> {
        self.with_record(&|open| self.engine().row_at(table, key, time_ms, Some(open)))
    }

    /// Runs `f` with a way to the record of changes, which is open until `f` has ended.
    fn with_record<T>(&self, f: &dyn Fn(&OpenRecord<'_>) -> Result<T>) -> Result<T> {
        let open = RefCell::new(None);
        f(&|volume| {
            let record = self.record_of(volume)?;
            let engine = record.as_ref().map(|record| record.engine().clone());
            *open.borrow_mut() = record;
            Ok(engine)
        })
    }

    /// The record of a volume's changes, as new as the server gives it, or as it is here.
    fn record_of(&self, volume: VolumeId) -> Result<Option<Self>> {
        let Ok((client, server)) = self.home() else { return Ok(None) };
        let name = record_name(volume);
        let was_here = client.site_exists(&name);
        match client.clone_from(&name, Some(&server), limits::RECORD_TIMEOUT) {
            Ok(record) => {
                if !was_here {
                    record.evict(HISTORY_CACHE_BYTES, true)?;
                }
                Ok(Some(record))
            }
            Err(e) if e.kind() == ErrorKind::Unavailable && was_here => {
                client.site_at(&name, Some(&server), PageSize::DEFAULT).map(Some)
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// As [`Site::blame`] for the first `limit` rows of a table, by key, with one look back for all
    /// of them. `progress` is told of how many rows every column is explained.
    ///
    /// # Errors
    /// `NotFound` for a table that is not there now, and as [`Site::history`].
    pub fn blame_table(
        &self,
        table: &str,
        limit: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<TableBlame> {
        self.engine().blame_table(table, limit, progress)
    }

    /// Takes back what one mutation did, by a new one on the present state that leaves what others
    /// did since; with `dry_run`, only says what that would change.
    ///
    /// # Errors
    /// `NotFound` or `Expired` for a mutation that the log does not have or no longer keeps,
    /// `Unsupported` for one that shares its commit with others and that this device does not
    /// remember, and for one that changed the schema, `Invalid` where a rule or a constraint forbids it, `Busy` while another connection
    /// writes, `Unavailable` when the server is needed and cannot be reached. Nothing is changed
    /// then.
    pub fn undo(&self, name: &MutationName, dry_run: bool) -> Result<Undone> {
        self.engine().undo(name, dry_run)
    }
}
