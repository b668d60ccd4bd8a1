//! The changes of one table: old images from the tracker, present rows from the database.
//!
//! Invariant: changes come out by key, one for each key of which either side exists. The argument
//! why pairing by key is exact stands in `capture.rs`. Leaves out what changed inside a row.

use std::cmp::Ordering;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement, params_from_iter};
use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Result};

use super::rows::{Cell, Image, KeyedSet, RowidSet, decode_values, text_or_blob};
use super::state::Rows;
use crate::schema::{Affinity, COLUMNS_FROM, Identity, TableInfo, sql_error};
use crate::value::Bind;

/// A row before and after, as the values of its target's columns.
#[derive(Debug)]
pub(crate) struct RowChange {
    pub(crate) key: Vec<Value>,
    pub(crate) old: Option<Vec<Value>>,
    pub(crate) new: Option<Vec<Value>>,
}

/// What the rows of a table are called in a mutation.
#[derive(Debug)]
pub(crate) struct Target {
    /// The table to name.
    pub(crate) table: String,
    /// Column numbers with the names to give them.
    columns: Vec<(usize, String)>,
    /// The module of the virtual table whose rows these are, if they cannot be told.
    pub(crate) refused: Option<String>,
}

impl Target {
    /// The table as it is.
    pub(crate) fn itself(info: &TableInfo) -> Self {
        let columns = info.stored().map(|(at, column)| (at, column.name.clone())).collect();
        Self { table: info.name.clone(), columns, refused: None }
    }

    /// The FTS5 table `owner`, of whose text `content` holds column n as `c<n>`.
    pub(crate) fn fts(content: &TableInfo, owner: &TableInfo) -> Self {
        let names = owner.stored().map(|(_, column)| column.name.clone());
        let columns = names.enumerate().filter_map(|(number, name)| {
            let own = format!("c{number}");
            let at = content.columns.iter().position(|column| column.name == own)?;
            Some((at, name))
        });
        let columns: Vec<_> = columns.collect();
        // Further columns hold locales, for which the table has no columns to write.
        let refused = (columns.len() + 1 != content.columns.len()).then(|| "fts5".to_owned());
        Self { table: owner.name.clone(), columns, refused }
    }

    /// Values in the order of the target's columns, with their names.
    pub(crate) fn named(&self, values: Vec<Value>) -> Vec<(String, Value)> {
        self.columns.iter().map(|(_, name)| name.clone()).zip(values).collect()
    }
}

/// Tells every row that differs, by key. Without `touched`, all rows are new.
pub(crate) fn changes(
    reader: &Connection,
    info: &TableInfo,
    target: &Target,
    touched: Option<&Rows>,
    tell: &mut dyn FnMut(RowChange),
) -> Result<()> {
    let key = info.key_columns().into_iter().map(|(at, _)| at).collect();
    let reading = Reading { reader, info, target, key };
    match touched {
        Some(Rows::ByRowid(rows)) if info.identity == Identity::Declared => {
            reading.by_declared_key(rows, tell)
        }
        Some(Rows::ByRowid(rows)) => reading.by_rowid(rows, tell),
        Some(Rows::ByKey(rows)) => reading.by_key(rows, tell),
        Some(Rows::Skipped | Rows::Unknown) => Ok(()),
        None => reading.all(tell),
    }
}

/// A touched row id with the row's old image; `None` if it is fresh.
type TouchedRow<'a> = (i64, Option<&'a Image>);

/// Whether the second row follows the first without a gap: both are read in one go.
fn is_next(a: &TouchedRow<'_>, b: &TouchedRow<'_>) -> bool {
    a.0.checked_add(1) == Some(b.0)
}

fn is_before(group: &[TouchedRow<'_>], rowid: i64) -> bool {
    group.last().is_some_and(|last| last.0 < rowid)
}

/// Reads present rows of one table.
struct Reading<'a> {
    reader: &'a Connection,
    info: &'a TableInfo,
    target: &'a Target,
    /// Column numbers of the declared key.
    key: Vec<usize>,
}

impl Reading<'_> {
    /// Rows whose key is the row id: old and new are one row.
    fn by_rowid(&self, rows: &RowidSet, tell: &mut dyn FnMut(RowChange)) -> Result<()> {
        let mut read = self.prepare_range()?;
        let touched = rows.rows();
        let mut groups = touched.chunk_by(is_next).peekable();
        for run in rows.runs() {
            while let Some(group) = groups.next_if(|group| is_before(group, run.0)) {
                self.tell_group(&mut read, group, tell)?;
            }
            self.tell_range(&mut read, *run, &[], tell)?;
        }
        groups.try_for_each(|group| self.tell_group(&mut read, group, tell))
    }

    fn tell_group(
        &self,
        read: &mut Statement<'_>,
        group: &[TouchedRow<'_>],
        tell: &mut dyn FnMut(RowChange),
    ) -> Result<()> {
        match (group.first(), group.last()) {
            (Some((first, _)), Some((last, _))) => {
                self.tell_range(read, (*first, *last), group, tell)
            }
            _ => Ok(()),
        }
    }

    /// The rows from the first id to the last, with the old images of some of them.
    fn tell_range(
        &self,
        read: &mut Statement<'_>,
        (first, last): (i64, i64),
        touched: &[TouchedRow<'_>],
        tell: &mut dyn FnMut(RowChange),
    ) -> Result<()> {
        let gone = |(rowid, image): &TouchedRow<'_>, tell: &mut dyn FnMut(RowChange)| {
            let key = vec![Value::Int(*rowid)];
            let old = image.map(|image| self.of_image(image)).transpose()?;
            tell(RowChange { key, old, new: None });
            Ok(())
        };
        let mut touched = touched.iter().peekable();
        self.range(read, first, last, &mut |row| {
            let rowid = row.get(0).map_err(sql_error("read row id"))?;
            while let Some(entry) = touched.next_if(|entry| entry.0 < rowid) {
                gone(entry, tell)?;
            }
            let image = touched.next_if(|entry| entry.0 == rowid).and_then(|entry| entry.1);
            let (old, new) = self.sides(row, image)?;
            tell(RowChange { key: vec![Value::Int(rowid)], old, new: Some(new) });
            Ok(())
        })?;
        touched.try_for_each(|entry| gone(entry, tell))
    }

    /// Rows that have ids, but whose key is declared: old and new row of a key are found by it.
    fn by_declared_key(&self, rows: &RowidSet, tell: &mut dyn FnMut(RowChange)) -> Result<()> {
        let mut sides = Sides::default();
        let mut checked = Ok(());
        self.by_rowid(rows, &mut |change| {
            for (side, values) in [(&mut sides.old, change.old), (&mut sides.new, change.new)] {
                let Some(values) = values else { continue };
                match self.key_among(&values) {
                    Ok(key) => side.push((key, values)),
                    Err(error) => checked = Err(error),
                }
            }
        })?;
        checked?;
        sides.pair(tell);
        Ok(())
    }

    /// Rows of a table without row ids.
    fn by_key(&self, rows: &KeyedSet, tell: &mut dyn FnMut(RowChange)) -> Result<()> {
        let mut read = self.prepare(&self.info.sql.by_key)?;
        let mut sides = Sides::default();
        for (bytes, image) in rows.rows() {
            let Some(key) = decode_values(bytes) else {
                return Err(Error::corrupt(format!("a key of `{}` is damaged", self.info.name)));
            };
            let mut old = None;
            let mut found = read
                .query(params_from_iter(key.iter().map(Bind)))
                .map_err(sql_error("read row"))?;
            while let Some(row) = found.next().map_err(sql_error("read row"))? {
                // The column's collation may find a row whose key has other bytes: that one is
                // another row, and touched under its own key.
                let present = self.key_of(row)?;
                if compare_keys(&present, &key) == Ordering::Equal {
                    let (before, now) = self.sides(row, image)?;
                    sides.new.push((present, now));
                    old = before;
                }
            }
            if let Some(image) = image {
                let old = old.map_or_else(|| self.of_image(image), Ok)?;
                sides.old.push((key, old));
            }
        }
        sides.pair(tell);
        Ok(())
    }

    /// Every row of a table that was made.
    fn all(&self, tell: &mut dyn FnMut(RowChange)) -> Result<()> {
        let by_rowid = self.info.identity != Identity::Declared;
        if by_rowid && self.info.rowid_name().is_none() {
            return Err(self.no_rowid());
        }
        let mut read = self.prepare(&self.info.sql.all)?;
        let mut sides = Sides::default();
        let mut rows = read.query([]).map_err(sql_error("read table"))?;
        while let Some(row) = rows.next().map_err(sql_error("read table"))? {
            let key = if by_rowid { vec![self.value(row, 0, None)?] } else { self.key_of(row)? };
            sides.new.push((key, self.sides(row, None)?.1));
        }
        sides.pair(tell);
        Ok(())
    }

    fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>> {
        self.reader.prepare_cached(sql).map_err(sql_error("read table"))
    }

    fn prepare_range(&self) -> Result<rusqlite::CachedStatement<'_>> {
        match &self.info.sql.by_rowid {
            Some(sql) => self.prepare(sql),
            None => Err(self.no_rowid()),
        }
    }

    fn range(
        &self,
        read: &mut Statement<'_>,
        first: i64,
        last: i64,
        each: &mut dyn FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut rows = read.query([first, last]).map_err(sql_error("read rows"))?;
        while let Some(row) = rows.next().map_err(sql_error("read rows"))? {
            each(row)?;
        }
        Ok(())
    }

    /// The target's columns of a row as it was, if it has an image, and as it is. Where it is
    /// compared with itself, long values that stayed are left out of both sides: NULL.
    fn sides(
        &self,
        row: &Row<'_>,
        image: Option<&Image>,
    ) -> Result<(Option<Vec<Value>>, Vec<Value>)> {
        let is_same = image.map_or(Ok(false), |image| self.keeps_key(row, image))?;
        let mut old = Vec::with_capacity(self.target.columns.len());
        let mut new = Vec::with_capacity(self.target.columns.len());
        for (at, _) in &self.target.columns {
            let (before, now) = match image.and_then(|image| image.get(*at)) {
                Some(Cell::Unchanged) if is_same && !self.key.contains(at) => Default::default(),
                Some(Cell::Unchanged) => {
                    let value = self.unchanged(row, at + COLUMNS_FROM)?;
                    (value.clone(), value)
                }
                cell => {
                    let held = cell.and_then(Cell::held);
                    let now = self.value(row, at + COLUMNS_FROM, held)?;
                    (image_value(self.info, held, *at), now)
                }
            };
            old.push(before);
            new.push(now);
        }
        Ok((image.map(|_| old), new))
    }

    /// The target's columns of a row that is gone, as they would have been read.
    fn of_image(&self, image: &Image) -> Result<Vec<Value>> {
        let value = |(at, _): &(usize, String)| match image.get(*at) {
            Some(Cell::Unchanged) => Err(Error::new(
                ErrorKind::Internal,
                format!("capture failed: a row of `{}` went unseen", self.info.name),
            )),
            cell => Ok(image_value(self.info, cell.and_then(Cell::held), *at)),
        };
        self.target.columns.iter().map(value).collect()
    }

    /// Whether a present row has the key that it had.
    fn keeps_key(&self, row: &Row<'_>, image: &Image) -> Result<bool> {
        if self.info.identity != Identity::Declared {
            return Ok(true);
        }
        for at in &self.key {
            let Some(Cell::Held(held)) = image.get(*at) else { continue };
            let now = self.value(row, at + COLUMNS_FROM, Some(held))?;
            if !now.same(&image_value(self.info, Some(held), *at)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A present value that has been there from the start, in whatever encoding.
    fn unchanged(&self, row: &Row<'_>, at: usize) -> Result<Value> {
        match row.get_ref(at).map_err(sql_error("read value"))? {
            ValueRef::Text(text) => Ok(text_or_blob(text.to_vec())),
            _ => self.value(row, at, None),
        }
    }

    fn value(&self, row: &Row<'_>, at: usize, old: Option<&Value>) -> Result<Value> {
        let value = row.get_ref(at).map_err(sql_error("read value"))?;
        Ok(match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(int) => Value::Int(int),
            ValueRef::Real(real) => Value::Real(real),
            ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
            ValueRef::Text(text) => match (std::str::from_utf8(text), old) {
                (Ok(text), _) => Value::Text(text.to_owned()),
                // Unchanged: old text that is not UTF-8 was kept as a blob.
                (Err(_), Some(Value::Blob(old))) if old == text => Value::Blob(text.to_vec()),
                (Err(_), _) => {
                    return Err(Error::invalid(format!(
                        "text in table `{}` is not UTF-8: store it as a blob",
                        self.info.name
                    )));
                }
            },
        })
    }

    fn key_of(&self, row: &Row<'_>) -> Result<Vec<Value>> {
        let key = self.key.iter().map(|at| self.value(row, at + COLUMNS_FROM, None));
        self.without_null(key.collect::<Result<_>>()?)
    }

    /// The key among values in the order of the target's columns.
    fn key_among(&self, values: &[Value]) -> Result<Vec<Value>> {
        let columns = &self.target.columns;
        let value = |at: &usize| {
            let place = columns.iter().position(|(column, _)| column == at)?;
            values.get(place).cloned()
        };
        self.without_null(self.key.iter().map(|at| value(at).unwrap_or_default()).collect())
    }

    fn without_null(&self, key: Vec<Value>) -> Result<Vec<Value>> {
        if key.contains(&Value::Null) {
            return Err(Error::invalid(format!(
                "a row of `{}` has NULL in its primary key and cannot be told apart: declare the \
                 key NOT NULL",
                self.info.name
            )));
        }
        Ok(key)
    }

    fn no_rowid(&self) -> Error {
        Error::invalid(format!(
            "rows of `{}` cannot be told apart: its columns hide the row id under all its names",
            self.info.name
        ))
    }
}

/// A column of an old image. Values of a REAL column may be stored, and be defaults, as integers.
fn image_value(info: &TableInfo, held: Option<&Value>, at: usize) -> Value {
    let affinity = info.columns.get(at).map(|column| column.affinity);
    match (held, affinity) {
        #[expect(clippy::cast_precision_loss, reason = "SQLite's own conversion")]
        (Some(Value::Int(int)), Some(Affinity::Real)) => Value::Real(*int as f64),
        (Some(value), _) => value.clone(),
        (None, _) => Value::Null,
    }
}

/// Rows by key, before and after.
#[derive(Debug, Default)]
struct Sides {
    old: Vec<(Vec<Value>, Vec<Value>)>,
    new: Vec<(Vec<Value>, Vec<Value>)>,
}

impl Sides {
    fn pair(mut self, tell: &mut dyn FnMut(RowChange)) {
        for side in [&mut self.old, &mut self.new] {
            side.sort_by(|(a, _), (b, _)| compare_keys(a, b));
        }
        let mut new = self.new.into_iter().peekable();
        for (key, old) in self.old {
            while let Some((key, row)) =
                new.next_if(|(other, _)| compare_keys(other, &key) == Ordering::Less)
            {
                tell(RowChange { key, old: None, new: Some(row) });
            }
            let same = new.next_if(|(other, _)| compare_keys(other, &key) == Ordering::Equal);
            tell(RowChange { key, old: Some(old), new: same.map(|(_, row)| row) });
        }
        for (key, row) in new {
            tell(RowChange { key, old: None, new: Some(row) });
        }
    }
}

/// SQLite's order of keys, made strict: an integer goes before the equal float.
fn compare_keys(a: &[Value], b: &[Value]) -> Ordering {
    let strict = |(a, b): (&Value, &Value)| {
        let class = |value: &Value| matches!(value, Value::Real(_));
        a.sqlite_order(b).then_with(|| class(a).cmp(&class(b)))
    };
    let mut orders = a.iter().zip(b).map(strict);
    orders.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}
