//! Handles for editors of one cell or one row.
//!
//! Invariant: a handle adds nothing to what `editor.rs` promises; dropping it ends it.

use rusqlite::Transaction;
use sheaf_merge::Value;
use sheaf_volume::Result;

use super::Row;
use super::editor::Editor;
use super::taking::{EditState, Shown, WatchEvent};
use crate::site::Site;

fn only_cell(shown: Shown) -> Option<Value> {
    shown?.into_iter().next().map(|(_, value)| value)
}

/// An editor's hold on one cell: see [`Site::watch_cell`].
#[derive(Debug)]
pub struct CellWatch(Editor);

/// An editor's hold on one row: see [`Site::watch_row`].
#[derive(Debug)]
pub struct RowWatch(Editor);

impl Site {
    /// Watches one cell for an editor, which begins with [`CellWatch::shown`]. The row is named
    /// as in [`Site::waiting`], and followed if its number was a guess.
    ///
    /// # Errors
    /// `NotFound` where there is no such cell, `Invalid` for a key that does not fit the table,
    /// `Limit` beyond [`crate::limits::LISTENERS_MAX`], and what reading reports.
    pub fn watch_cell(&self, table: &str, key: &[Value], column: &str) -> Result<CellWatch> {
        Editor::new(self, table, key.to_vec(), Some(column)).map(CellWatch)
    }

    /// As [`Site::watch_cell`], for all columns of a row that hold values of their own or are
    /// computed.
    ///
    /// # Errors
    /// As [`Site::watch_cell`].
    pub fn watch_row(&self, table: &str, key: &[Value]) -> Result<RowWatch> {
        Editor::new(self, table, key.to_vec(), None).map(RowWatch)
    }
}

impl CellWatch {
    /// What to show; `None` where the row is gone.
    #[must_use]
    pub fn shown(&self) -> Option<Value> {
        only_cell(self.0.shown())
    }

    /// What was agreed on at the last poll.
    #[must_use]
    pub fn agreed(&self) -> Option<Value> {
        only_cell(self.0.agreed())
    }

    /// What a mark beside it may show, as of the last poll.
    #[must_use]
    pub fn state(&self) -> EditState {
        self.0.state()
    }

    /// What there is to tell, if anything. Reads the site only when its table has changed.
    ///
    /// # Errors
    /// What reading reports; the next poll tries again.
    pub fn poll(&self) -> Result<Option<WatchEvent<Option<Value>>>> {
        Ok(self.0.poll()?.map(|event| match event {
            WatchEvent::Value(value) => WatchEvent::Value(only_cell(value)),
            WatchEvent::Converged => WatchEvent::Converged,
            WatchEvent::Rejected { seq, reason } => WatchEvent::Rejected { seq, reason },
        }))
    }

    /// Writes what the editor shows now; the number of the mutation, unless nothing changed.
    /// Where the local state is ahead of the editor, both are merged by the column's rule.
    ///
    /// # Errors
    /// `NotFound` where the row is gone, `Conflict` where the rule is `keep` and somebody else
    /// was first, and as [`Site::write`]. Nothing is written then, and nothing is outstanding.
    pub fn edit(&self, value: impl Into<Value>) -> Result<Option<u64>> {
        self.edit_with(value, |_| Ok(())).map(|(_, seq)| seq)
    }

    /// As [`CellWatch::edit`], with more in the same transaction. `also` must not use this handle.
    ///
    /// # Errors
    /// As [`CellWatch::edit`], and those of `also`.
    pub fn edit_with<T>(
        &self,
        value: impl Into<Value>,
        also: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Option<u64>)> {
        let column = self.0.column().unwrap_or_default();
        self.0.edit(&[(column, value.into())], also)
    }

    /// Takes the local value, with what others did, although edits are outstanding: on the
    /// editor's wish, between two words. Gives what to show; where everything is decided by then,
    /// [`Self::state`] is [`EditState::Clean`] and this was the telling of it.
    ///
    /// # Errors
    /// What reading reports, `Busy` when the site changes all the time.
    pub fn pull(&self) -> Result<Option<Value>> {
        self.0.pull().map(only_cell)
    }
}

impl RowWatch {
    /// What to show: columns and values in the table's order; `None` where the row is gone.
    #[must_use]
    pub fn shown(&self) -> Option<Row> {
        self.0.shown()
    }

    /// What was agreed on at the last poll.
    #[must_use]
    pub fn agreed(&self) -> Option<Row> {
        self.0.agreed()
    }

    /// As [`CellWatch::state`].
    #[must_use]
    pub fn state(&self) -> EditState {
        self.0.state()
    }

    /// As [`CellWatch::poll`].
    ///
    /// # Errors
    /// As [`CellWatch::poll`].
    pub fn poll(&self) -> Result<Option<WatchEvent<Option<Row>>>> {
        self.0.poll()
    }

    /// Writes the columns that the editor changed, as [`CellWatch::edit`] does one.
    ///
    /// # Errors
    /// As [`CellWatch::edit`]; `Invalid` for a column that the table has not.
    pub fn edit(&self, cells: &[(&str, Value)]) -> Result<Option<u64>> {
        self.0.edit(cells, |_| Ok(())).map(|(_, seq)| seq)
    }

    /// As [`CellWatch::pull`].
    ///
    /// # Errors
    /// As [`CellWatch::pull`].
    pub fn pull(&self) -> Result<Option<Row>> {
        self.0.pull()
    }
}
