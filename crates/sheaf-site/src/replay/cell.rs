//! One row, read and edited by its key, by the same names and rules as a replay.
//!
//! Invariant: reading a table, row or column that is not there gives nothing, not an error: the
//! state that is looked at may be older or newer than the one in which it was named.

use rusqlite::Connection;
use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Result};

use super::{
    failure::Failure,
    rows::{key_condition, read_row},
    table::{self, Table, Tables},
};
use crate::{
    merges::Merges,
    schema::quote_ident,
    value::{Bind, quote_key},
    watch::Row,
};

/// The row, all of its columns or one.
///
/// # Errors
/// What reading reports; `Invalid` for a key that does not fit the table.
pub(crate) fn read(
    conn: &Connection,
    name: &str,
    key: &[Value],
    column: Option<&str>,
) -> Result<Option<Row>> {
    let find = || {
        if !table::has(conn, name)? {
            return Ok(None);
        }
        let table = Tables::default().get(conn, name)?;
        fits(&table, key)?;
        let wanted = |name: &str| column.is_none_or(|column| name.eq_ignore_ascii_case(column));
        let columns = table.columns.iter().map(|column| column.name.as_str());
        let columns: Vec<&str> = columns.filter(|name| wanted(name)).collect();
        if columns.is_empty() {
            return Ok(None);
        }
        let row = read_row(conn, &table, key, &columns)?;
        Ok(row.map(|row| columns.iter().map(|name| (*name).to_owned()).zip(row).collect()))
    };
    find().map_err(plain)
}

/// Writes what an edit from `base` to `left` comes to on the row as it is now, cell by cell.
///
/// # Errors
/// `NotFound` where the row or column is gone, `Conflict` where the column's rule refuses, and what
/// writing reports.
pub(crate) fn edit(
    (conn, merges): (&Connection, &Merges),
    name: &str,
    key: &[Value],
    cells: &[(&str, &Value, &Value)],
) -> Result<()> {
    let gone = |what: String| Error::new(ErrorKind::NotFound, what);
    for (column, base, left) in cells {
        let Some(row) = read(conn, name, key, Some(column))? else {
            return Err(gone(format!("{name} {} has no {column} any more", quote_key(key))));
        };
        let Some((_, right)) = row.first() else { continue };
        let write = || {
            let table = Tables::default().get(conn, name)?;
            let column = table.column(column)?;
            let merged = column.merge((conn, merges), Some(base), left, right)?;
            if merged.is_refused() {
                return Ok(false);
            }
            let sql = format!(
                "UPDATE main.{} SET {} = ?1 WHERE {}",
                quote_ident(&table.name),
                quote_ident(&column.name),
                key_condition(&table, 2)
            );
            let values = std::iter::once(&merged.value).chain(key).map(Bind);
            conn.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values))?;
            Ok(true)
        };
        if !write().map_err(plain)? {
            let text = format!("column {column} was changed by somebody else meanwhile");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
    }
    Ok(())
}

fn fits(table: &Table, key: &[Value]) -> Result<(), Failure> {
    let width = table.identity.columns().len();
    if key.len() == width {
        return Ok(());
    }
    let reason = format!("the key of table {} has {width} values, not {}", table.name, key.len());
    Err(Failure::reject(reason))
}

fn plain(failure: Failure) -> Error {
    match failure {
        Failure::Abort(error) => error,
        Failure::Reject { reason, .. } => Error::invalid(reason),
    }
}
