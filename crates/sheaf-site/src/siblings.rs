//! The concurrent values of cells under `mvr`, kept beside the tables until somebody resolves them.
//!
//! Invariant: the cell itself holds the newest value, so every query works. What is kept counts
//! only while its newest value is what the cell holds: whoever writes the cell by other means than
//! a merge has resolved it, and needs to know nothing of this table. Only replays store values
//! here (`replay/siblings.rs`), so all replicas agree on them.

mod said;
mod seen;

use std::rc::Rc;

use rusqlite::{
    Connection, OptionalExtension as _, functions::Context, functions::FunctionFlags,
    params_from_iter,
};
use sheaf_merge::{Value, mvr::Siblings};
use sheaf_volume::{Error, ErrorKind, Result};

use crate::{
    mutator,
    nested::{in_savepoint, user_error, with_connection},
    opstream::{decode_key, encode_key},
    replay::{
        failure::Failure,
        rows::{key_condition, read_row},
        table::{Table, Tables, exists},
    },
    schema::quote_ident,
    site::Site,
    value::{Bind, from_ref, json_array, quote_key},
};

pub(crate) use said::{Met, Said, Saw, What, cell, is_of_siblings, only_says, strip};
pub(crate) use seen::{may_be_kept, saw};

/// The table that keeps them.
pub(crate) const TABLE: &str = "__sheaf_mvr";

/// The author of a value that was in the cell before siblings were kept.
pub(crate) const SOMEBODY: u128 = 0;

pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.__sheaf_mvr(
    tbl TEXT NOT NULL, pk BLOB NOT NULL, col TEXT NOT NULL, siblings BLOB NOT NULL,
    PRIMARY KEY(tbl, pk, col)) WITHOUT ROWID";

/// A cell by its names: the table's and the column's as they were declared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) table: &'a str,
    pub(crate) key: &'a [Value],
    pub(crate) column: &'a str,
}

/// Reads what is kept for a cell, whether it counts or not.
///
/// # Errors
/// `Unsupported` as an abort for what a newer version has stored.
pub(crate) fn load(conn: &Connection, cell: Cell<'_>) -> Result<Option<Siblings>, Failure> {
    if !exists(conn, TABLE)? {
        return Ok(None);
    }
    let bytes: Option<Vec<u8>> = conn
        .prepare_cached(
            "SELECT siblings FROM main.__sheaf_mvr
             WHERE tbl = ?1 AND pk = ?2 AND col = ?3 AND typeof(siblings) = 'blob'",
        )?
        .query_row((cell.table, encode_key(cell.key), cell.column), |row| row.get(0))
        .optional()?;
    match bytes {
        Some(bytes) => decode(&bytes).map_err(Failure::from),
        None => Ok(None),
    }
}

/// Reads the stored form; `None` for what is none, and counts for nothing: a trigger of somebody's
/// schema may have written it.
///
/// # Errors
/// `Unsupported` for what a newer version has stored.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Siblings>> {
    match Siblings::decode(bytes) {
        Ok(siblings) => Ok(Some(siblings)),
        Err(error) if Siblings::is_newer(bytes) => {
            Err(Error::new(ErrorKind::Unsupported, format!("siblings: {error}")))
        }
        Err(_) => Ok(None),
    }
}

/// Keeps the values of a cell.
pub(crate) fn store(conn: &Connection, cell: Cell<'_>, siblings: &Siblings) -> Result<(), Failure> {
    if !exists(conn, TABLE)? {
        conn.execute_batch(CREATE)?;
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO main.__sheaf_mvr(tbl, pk, col, siblings) VALUES(?1, ?2, ?3, ?4)",
    )?
    .execute((cell.table, encode_key(cell.key), cell.column, siblings.encode()))?;
    Ok(())
}

/// Forgets the values of a cell.
pub(crate) fn forget(conn: &Connection, cell: Cell<'_>) -> Result<(), Failure> {
    if exists(conn, TABLE)? {
        conn.prepare_cached(
            "DELETE FROM main.__sheaf_mvr WHERE tbl = ?1 AND pk = ?2 AND col = ?3",
        )?
        .execute((cell.table, encode_key(cell.key), cell.column))?;
    }
    Ok(())
}

/// Forgets the values of all cells of a row: it is a new one, or has gone.
pub(crate) fn forget_row(conn: &Connection, table: &Table, key: &[Value]) -> Result<(), Failure> {
    if table.has_siblings() && exists(conn, TABLE)? {
        conn.prepare_cached("DELETE FROM main.__sheaf_mvr WHERE tbl = ?1 AND pk = ?2")?
            .execute((&table.name, encode_key(key)))?;
    }
    Ok(())
}

/// Forgets what does not count any more in these tables. For writes that went past the merge: were
/// a cell given the same value later, what was resolved would come back.
pub(crate) fn sweep(
    conn: &Connection,
    tables: &mut Tables,
    names: &[String],
) -> Result<(), Failure> {
    if !exists(conn, TABLE)? {
        return Ok(());
    }
    for name in names {
        let mut statement = conn.prepare_cached(
            "SELECT pk, col, siblings FROM main.__sheaf_mvr WHERE tbl = ?1 COLLATE NOCASE
             AND typeof(pk) = 'blob' AND typeof(col) = 'text' AND typeof(siblings) = 'blob'",
        )?;
        let kept: Vec<(Vec<u8>, String, Vec<u8>)> = statement
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if kept.is_empty() {
            continue;
        }
        let table = tables.get(conn, name)?;
        for (key, column, bytes) in kept {
            let Ok(key) = decode_key(&key) else { continue };
            let held = match table.column(&column) {
                Ok(column) => read_row(conn, &table, &key, &[&column.name])?,
                Err(_) => None,
            };
            let held = held.and_then(|row| row.into_iter().next());
            let is_live =
                held.zip(decode(&bytes)?).is_some_and(|(held, kept)| counts(&kept, &held));
            if !is_live {
                forget(conn, Cell { table: &table.name, key: &key, column: &column })?;
            }
        }
    }
    Ok(())
}

/// Whether what is kept counts, for a cell that holds this value.
pub(crate) fn counts(siblings: &Siblings, held: &Value) -> bool {
    siblings.iter().last().is_some_and(|newest| newest.value.same(held))
}

/// A cell that was looked up, with all its values.
struct Found {
    table: Rc<Table>,
    key: Vec<Value>,
    column: String,
    /// Oldest first; what the cell shows is the last.
    values: Vec<Value>,
}

impl Found {
    fn cell(&self) -> Cell<'_> {
        Cell { table: &self.table.name, key: &self.key, column: &self.column }
    }

    /// Puts a value in the place of all of them.
    fn settle(&self, conn: &Connection, value: &Value) -> Result<(), Failure> {
        if self.values.last().is_some_and(|shown| shown.same(value)) {
            // No write of the cell would change it.
            return if self.values.len() > 1 { forget(conn, self.cell()) } else { Ok(()) };
        }
        let Self { table, key, column, .. } = self;
        let (name, column) = (quote_ident(&table.name), quote_ident(column));
        let condition = key_condition(table, 2);
        let values = std::iter::once(value).chain(key).map(Bind);
        conn.prepare_cached(&format!("UPDATE main.{name} SET {column} = ?1 WHERE {condition}"))?
            .execute(params_from_iter(values))?;
        Ok(())
    }
}

impl Site {
    /// Settles a cell: this value takes the place of all its values, also where the cell shows it
    /// already, which no UPDATE could say. The row is named by its primary key, or its row id
    /// where none is declared. Gives the number of the mutation; `None` where the value was the
    /// only one.
    ///
    /// # Errors
    /// `NotFound` if there is no such row, `Invalid` for a table, a column or a number of keys
    /// that cannot be, and as [`Site::write`].
    pub fn resolve_cell(
        &self,
        table: &str,
        key: &[Value],
        column: &str,
        value: &Value,
    ) -> Result<Option<u64>> {
        let settled = self.write(|tx| {
            let found = find(tx, table, column, key).map_err(Failure::into_error)?;
            let found = found.ok_or_else(|| {
                let text = format!("there is no row {} in {table}", quote_key(key));
                Error::new(ErrorKind::NotFound, text)
            })?;
            found.settle(tx, value).map_err(Failure::into_error)
        });
        settled.map(|((), seq)| seq)
    }
}

/// Looks up a cell by what a person calls it; `None` if there is no such row.
fn find(
    conn: &Connection,
    table: &str,
    column: &str,
    key: &[Value],
) -> Result<Option<Found>, Failure> {
    let table = Tables::default().get(conn, table)?;
    let column = table.column(column)?;
    let mut names = table.identity.columns();
    if key.len() != names.len() {
        let (table, names) = (&table.name, names.join(", "));
        return Err(Failure::reject(format!("a row of {table} is named by its {names}")));
    }
    names.push(&column.name);
    // The key as it is stored, where it was given as something that compares equal to it.
    let Some(mut key) = read_row(conn, &table, key, &names)? else { return Ok(None) };
    let held = key.pop().unwrap_or(Value::Null);
    let cell = Cell { table: &table.name, key: &key, column: &column.name };
    let siblings = if column.keeps_siblings() { load(conn, cell)? } else { None };
    let values = match siblings.filter(|siblings| counts(siblings, &held)) {
        Some(siblings) => siblings.iter().map(|sibling| sibling.value.clone()).collect(),
        None => vec![held],
    };
    let column = column.name.clone();
    Ok(Some(Found { table, key, column, values }))
}

/// Registers `sheaf_siblings(table, column, key...)`: the values of a cell as a JSON array, oldest
/// first, of which the last is what the cell shows. NULL if there is no such row.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    conn.create_scalar_function("sheaf_siblings", -1, flags, |context| {
        let asked = asked(context)?;
        let found = with_connection(context, |conn| asked.find(conn))?;
        Ok(found.map(|found| json_array(&found.values)))
    })
}

/// Registers `sheaf_resolve(table, column, key...)`, for connections that write: what the cell
/// shows takes the place of all its values, as if it were written anew. Gives how many others
/// there were.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register_writing(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function("sheaf_resolve", -1, flags, |context| {
        if mutator::is_running() {
            return Err(user_error(&Error::invalid("sheaf_resolve is not for mutators")));
        }
        let asked = asked(context)?;
        with_connection(context, |conn| {
            let Some(found) = asked.find(conn)? else { return Ok(0) };
            let others = found.values.len().saturating_sub(1);
            if others > 0 {
                in_savepoint(conn, || forget(conn, found.cell()).map_err(Failure::into_error))?;
            }
            Ok(i64::try_from(others).unwrap_or(i64::MAX))
        })
    })
}

/// The arguments of both functions.
struct Asked {
    table: String,
    column: String,
    key: Vec<Value>,
}

impl Asked {
    fn find(&self, conn: &Connection) -> rusqlite::Result<Option<Found>> {
        let found = find(conn, &self.table, &self.column, &self.key);
        found.map_err(|failure| user_error(&failure.into_error()))
    }
}

fn asked(context: &Context<'_>) -> rusqlite::Result<Asked> {
    if context.len() < 3 {
        let text = "give a table, a column and the key of a row";
        return Err(user_error(&Error::invalid(text)));
    }
    let key = (2..context.len()).map(|i| from_ref(context.get_raw(i)));
    let key = key.collect::<Result<_>>().map_err(|error| user_error(&error))?;
    Ok(Asked { table: context.get(0)?, column: context.get(1)?, key })
}
