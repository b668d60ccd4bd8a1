//! What two states differ by, as changes that can be recorded.
//!
//! Invariant: no more is held than a transaction of the recorder takes, and one row; what is more
//! is told change by change. Leaves out how it is stored.

use sheaf_volume::{Error, ErrorKind, Result};

use super::record;
use super::reverse::{OldRow, RowUpdate};
use crate::diff::{Diff, NamedChange, Relation};
use crate::limits::{HISTORY_BATCH_BYTES, HISTORY_BATCH_ROWS};
use crate::schema::fold;

/// A change of a row, ready to be stored.
pub(super) struct Change {
    pub(super) tbl: String,
    /// The key that it had, if it was another.
    pub(super) was: Option<Vec<u8>>,
    pub(super) key: Vec<u8>,
    pub(super) update: RowUpdate,
    pub(super) now: Option<OldRow>,
}

/// Changes of one transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    pub(super) bytes: usize,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= HISTORY_BATCH_ROWS || self.bytes >= HISTORY_BATCH_BYTES
    }
}

/// All changes, unless they are too many for one transaction.
pub(super) fn small(diff: &Diff) -> Result<Option<Batch>> {
    let mut batch = Batch::default();
    let told = each_change(diff, &mut |change, bytes| {
        if batch.is_full() {
            return Err(Error::new(ErrorKind::Limit, "more than one transaction takes"));
        }
        batch.bytes += bytes;
        batch.changes.push(change);
        Ok(())
    });
    match told {
        Err(_) if batch.is_full() => Ok(None),
        other => other.map(|()| Some(batch)),
    }
}

/// Calls `f` with every change and the bytes that it takes, about.
pub(super) fn each_change(
    diff: &Diff,
    f: &mut dyn FnMut(Change, usize) -> Result<()>,
) -> Result<()> {
    for (table, relation) in diff.relations() {
        let tbl = fold(&table);
        let of_table =
            |update| Change { tbl: tbl.clone(), was: None, key: vec![], update, now: None };
        match relation {
            Relation::Came => f(of_table(RowUpdate::NoTable), tbl.len())?,
            Relation::OtherKey => f(of_table(RowUpdate::OtherKey), tbl.len())?,
            // Nobody can ask for its rows any more.
            Relation::Went => {}
            Relation::Same => diff.named_rows(&table, &mut |change| {
                change_of(&tbl, change).map_or(Ok(()), |(change, bytes)| f(change, bytes))
            })?,
        }
    }
    Ok(())
}

fn change_of(tbl: &str, change: NamedChange) -> Option<(Change, usize)> {
    let NamedChange { old_key, new_key, old, new } = change;
    let (old, new) = (old.map(record::kept), new.map(record::kept));
    let update = RowUpdate::between(old.as_ref(), new.as_ref())?;
    let key = record::stored_key(new_key.as_ref().or(old_key.as_ref())?);
    let was = old_key.map(|old| record::stored_key(&old)).filter(|was| *was != key);
    let bytes = update.encode().len() + size(new.as_ref()) + key.len() + tbl.len();
    Some((Change { tbl: tbl.to_owned(), was, key, update, now: new }, bytes))
}

/// Bytes of a row, about.
fn size(row: Option<&OldRow>) -> usize {
    row.map_or(0, |row| row.iter().map(|(name, kept)| name.len() + kept.len()).sum())
}
