//! What became of one row, who did it, and taking a mutation back.
//!
//! Invariant: nothing is stored for these answers; they are as far back as the log is kept. Leaves
//! out the meaning: see `sheaf_site::history`.

pub use sheaf_site::history::{
    Authors, Blame, Blamed, Cell, ColumnChange, End, History, LeftAlone, MutationName, Origin,
    RowBlame, RowChange, RowEvent, Run, Since, TableBlame, Undone,
};
use sheaf_site::{Result, Value};

use crate::Site;

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
        self.engine().history(table, key, limit, since)
    }

    /// Which change gave each column of a row its value.
    ///
    /// # Errors
    /// `NotFound` for a row that is not there now, and as [`Site::history`].
    pub fn blame(&self, table: &str, key: &[Value]) -> Result<Blame> {
        self.engine().blame(table, key)
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
