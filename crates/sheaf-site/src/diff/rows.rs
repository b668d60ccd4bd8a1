//! Comparing the rows of one table in two states.
//!
//! Invariant: each row that differs is told once: rows of the first state in the order in which
//! they are stored, then rows that only the second one has. At most one row of each side is held.

use rusqlite::Connection;
use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, PageIdx, PageSet, Result};

use super::Side;
use super::btree::{bad, first_values};
use crate::error::explain;
use crate::schema::{COLUMNS_FROM, Identity, TableInfo};
use crate::value::{Bind, from_ref};

/// A row: its stored columns, and its row id where that is its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The row id of a table that declares no key.
    pub rowid: Option<i64>,
    /// The columns that hold values of their own, in the table's order.
    pub values: Vec<Value>,
}

/// How one row differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Only the first state has it.
    Deleted(Row),
    /// Only the second state has it.
    Inserted(Row),
    /// Both have it, with other values.
    Updated {
        /// In the first state.
        old: Row,
        /// In the second state.
        new: Row,
    },
}

/// What the rows of a table look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// Its name.
    pub name: String,
    /// Names of the columns that hold values of their own.
    pub columns: Vec<String>,
    /// Which of them are the key, in key order; none where the row id is.
    pub key: Vec<usize>,
    /// The name by which SQL can ask for the row id, if it can.
    pub rowid: Option<String>,
}

impl TableShape {
    pub(super) fn of(info: &TableInfo) -> Self {
        let stored: Vec<usize> = info.stored().map(|(at, _)| at).collect();
        let place = |at: usize| stored.iter().position(|stored| *stored == at);
        Self {
            name: info.name.clone(),
            columns: info.stored().map(|(_, column)| column.name.clone()).collect(),
            key: info.key_columns().into_iter().filter_map(|(at, _)| place(at)).collect(),
            rowid: info.rowid_name().map(str::to_owned),
        }
    }

    /// The values of a row's key; its row id where it has no other.
    #[must_use]
    pub fn key_of(&self, row: &Row) -> Vec<Value> {
        match row.rowid {
            Some(rowid) => vec![Value::Int(rowid)],
            None => self.key.iter().filter_map(|at| row.values.get(*at).cloned()).collect(),
        }
    }
}

/// Where rows that may differ are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    Pages(&'a [PageIdx]),
    Everywhere,
}

/// A table in one state.
pub(super) struct Table<'a> {
    pub(super) side: &'a Side,
    pub(super) info: &'a TableInfo,
}

/// A row with its row id, if it can be asked for, whether or not that is its key.
struct Found {
    id: Option<i64>,
    row: Row,
}

impl Table<'_> {
    fn conn(&self) -> &Connection {
        &self.side.conn
    }

    /// Calls `f` with every row that may differ.
    fn each(&self, source: Source<'_>, f: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let pages = match (source, &self.side.pages) {
            (Source::Pages(list), Some(pages)) => list.iter().map(move |idx| (pages, *idx)),
            _ => return self.every_row(f),
        };
        let mut seen = PageSet::new();
        for (pages, idx) in pages {
            for cell in pages.node(idx)?.cells {
                let found = match cell.rowid {
                    Some(rowid) => self.by_rowid(rowid)?,
                    None => {
                        let count = self.info.key_columns().len();
                        self.by_key(&first_values(&pages.record(&cell, &mut seen)?, count)?)?
                    }
                };
                f(found.ok_or_else(|| bad("a row on a page is not in its table"))?)?;
            }
        }
        Ok(())
    }

    fn every_row(&self, f: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let told = |e| explain(self.conn(), e);
        let mut statement = self.conn().prepare_cached(&self.info.sql.all).map_err(told)?;
        let mut rows = statement.query([]).map_err(told)?;
        while let Some(row) = rows.next().map_err(told)? {
            f(self.found(row)?)?;
        }
        Ok(())
    }

    fn by_rowid(&self, rowid: i64) -> Result<Option<Found>> {
        let sql = self.info.sql.by_rowid.as_deref().ok_or_else(|| {
            let name = &self.info.name;
            let text = "columns named rowid, _rowid_ and oid hide the key of the rows";
            Error::new(ErrorKind::Unsupported, format!("cannot compare table `{name}`: {text}"))
        })?;
        self.one(sql, &[Value::Int(rowid), Value::Int(rowid)])
    }

    fn by_key(&self, key: &[Value]) -> Result<Option<Found>> {
        self.one(&self.info.sql.by_key, key)
    }

    fn one(&self, sql: &str, values: &[Value]) -> Result<Option<Found>> {
        let told = |e| explain(self.conn(), e);
        let mut statement = self.conn().prepare_cached(sql).map_err(told)?;
        let values = rusqlite::params_from_iter(values.iter().map(Bind));
        let mut rows = statement.query(values).map_err(told)?;
        rows.next().map_err(told)?.map(|row| self.found(row)).transpose()
    }

    fn found(&self, row: &rusqlite::Row<'_>) -> Result<Found> {
        let told = |e| explain(self.conn(), e);
        let id = row.get::<_, Option<i64>>(0).map_err(told)?;
        let stored = self.info.stored();
        let value = |(at, _)| from_ref(row.get_ref(COLUMNS_FROM + at).map_err(told)?);
        let values = stored.map(value).collect::<Result<_>>()?;
        let rowid = id.filter(|_| self.info.identity == Identity::Rowid);
        Ok(Found { id, row: Row { rowid, values } })
    }

    /// The row of this key, whichever columns make it up.
    fn keyed(&self, key: &[Value]) -> Result<Option<Row>> {
        let found = match (self.info.identity, key) {
            (Identity::Rowid, [Value::Int(rowid)]) => self.by_rowid(*rowid)?,
            (Identity::Rowid, _) => None,
            _ => self.by_key(key)?,
        };
        Ok(found.map(|found| found.row))
    }

    /// The row of this table that has the same key.
    fn counterpart(&self, shape: &TableShape, other: &Found) -> Result<Option<Row>> {
        let key = shape.key_of(&other.row);
        let by_id = match (self.info.identity, other.id) {
            (Identity::Rowid, None) => return self.by_rowid(0).map(|_| None),
            (Identity::Declared, _) if self.info.without_rowid => None,
            (_, Some(id)) if self.info.sql.by_rowid.is_some() => self.by_rowid(id)?,
            _ => None,
        };
        // Most rows keep their place: then no index needs to be read.
        let same = by_id.filter(|found| shape.key_of(&found.row) == key);
        if same.is_some() || self.info.identity != Identity::Declared {
            return Ok(same.map(|found| found.row));
        }
        Ok(self.by_key(&key)?.map(|found| found.row))
    }
}

/// Tells how the rows of a table that has the same columns in both states differ.
pub(super) fn compare(
    a: &Table<'_>,
    b: &Table<'_>,
    (in_a, in_b): (Source<'_>, Source<'_>),
    f: &mut dyn FnMut(&TableShape, Change) -> Result<()>,
) -> Result<()> {
    let shape = TableShape::of(b.info);
    a.each(in_a, &mut |found| match b.counterpart(&shape, &found)? {
        None => f(&shape, Change::Deleted(found.row)),
        Some(new) if new != found.row => f(&shape, Change::Updated { old: found.row, new }),
        Some(_) => Ok(()),
    })?;
    b.each(in_b, &mut |found| match a.counterpart(&shape, &found)? {
        None => f(&shape, Change::Inserted(found.row)),
        Some(_) => Ok(()),
    })
}

/// Tells how the rows of two tables differ that have the same key and other columns: every row of
/// both is read, and told with its counterpart unless both are the same.
pub(super) fn compare_by_name(
    a: &Table<'_>,
    b: &Table<'_>,
    (before, after): (&TableShape, &TableShape),
    f: &mut dyn FnMut(Option<Row>, Option<Row>) -> Result<()>,
) -> Result<()> {
    let names = before.columns == after.columns;
    a.every_row(&mut |found| match b.keyed(&before.key_of(&found.row))? {
        Some(new) if names && new == found.row => Ok(()),
        new => f(Some(found.row), new),
    })?;
    b.every_row(&mut |found| match a.keyed(&after.key_of(&found.row))? {
        None => f(None, Some(found.row)),
        Some(_) => Ok(()),
    })
}

/// Tells every row of a table that the other state does not have, or has in another shape.
pub(super) fn only(
    table: &Table<'_>,
    change: fn(Row) -> Change,
    f: &mut dyn FnMut(&TableShape, Change) -> Result<()>,
) -> Result<()> {
    let shape = TableShape::of(table.info);
    table.every_row(&mut |found| f(&shape, change(found.row)))
}
