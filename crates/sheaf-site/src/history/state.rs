//! One row, or several, in one state: what they hold, and which pages say so.
//!
//! Invariant: as long as the schema is the same and none of these pages changes, looking again
//! gives the same answer, also that there is no such row.

use std::cell::Cell;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, PageIdx, PageSet, Result, Snapshot};

use crate::error::{explain, sqlite_detail};
use crate::schema::{
    COLUMNS_FROM, Identity, Schema, TableInfo, TableKind, is_internal, is_own, quote_ident,
};
use crate::site::Site;
use crate::value::{Bind, from_ref};
use crate::vfs::{Carried, FileView, SCHEMA_COOKIE, Watch, read_u32};

/// What a state shows of one row.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// SQLite's number of the schema.
    pub(super) cookie: u32,
    /// The table, if there is one of that name.
    pub(super) table: Option<TableInfo>,
    /// The row, if there is one of that key.
    pub(super) row: Option<Found>,
    /// Pages that were read to find it.
    pub(super) pages: PageSet,
}

/// A row: its stored columns, in the table's order, and its row id where that can be asked for.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) rowid: Option<i64>,
    pub(super) cells: Vec<super::Cell>,
}

impl Found {
    /// The value of a column, whose name may be in any case.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        let cell = self.cells.iter().find(|cell| cell.name.eq_ignore_ascii_case(name));
        cell.map(|cell| &cell.value)
    }

    /// The key, spelled as it is stored.
    pub(super) fn key(&self, info: &TableInfo) -> Vec<super::Cell> {
        if info.identity == Identity::Rowid {
            let value = self.rowid.map_or(Value::Null, Value::Int);
            return vec![super::Cell { name: "rowid".to_owned(), value }];
        }
        let columns = info.key_columns().into_iter();
        let cell = |name: &String| {
            let value = self.value(name).cloned().unwrap_or(Value::Null);
            super::Cell { name: name.clone(), value }
        };
        columns.map(|(_, column)| cell(&column.name)).collect()
    }
}

/// Looks for a row, with pages of that state that are at hand; gives them back, and those read.
///
/// # Errors
/// As [`Site::connection`] for a view of the past.
pub(super) fn look(
    site: &Site,
    snapshot: Snapshot,
    carried: Carried,
    (table, key): (&str, &[Value]),
) -> Result<(Seen, Carried)> {
    let (mut seen, mut rows, carried) = look_rows(site, snapshot, carried, (table, &[key]))?;
    seen.row = rows.pop().flatten();
    Ok((seen, carried))
}

/// As [`look`], for many rows, which come apart from the rest, one for each key.
///
/// # Errors
/// As [`look`].
pub(super) fn look_rows(
    site: &Site,
    snapshot: Snapshot,
    carried: Carried,
    (table, keys): (&str, &[&[Value]]),
) -> Result<(Seen, Vec<Option<Found>>, Carried)> {
    let count = snapshot.page_count();
    let watch = Arc::new(Watch::new(snapshot, carried));
    if count.0 == 0 {
        let (pages, carried) = watch.end();
        let seen = Seen { cookie: 0, table: None, row: None, pages };
        return Ok((seen, vec![None; keys.len()], carried));
    }
    let cookie = read_u32(&watch.page(PageIdx::FIRST)?, SCHEMA_COOKIE);
    let view = FileView::Watched(Arc::clone(&watch));
    let (conn, failure) = site.open_file(view, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.execute_batch("BEGIN").map_err(|e| sqlite_detail(e, &failure))?;
    // The file knows why, where SQLite only says that reading failed.
    let why = |e: Error| failure.take().unwrap_or(e);
    let info = Schema::read(&conn).map_err(why)?.table(table).filter(|t| is_kept(t)).cloned();
    let begun = Cell::new(false);
    // What the first reads stands for those after it, too: SQLite keeps it.
    let begin = || {
        if !begun.replace(true) {
            watch.begin();
        }
    };
    let row = |key: &&[Value]| match &info {
        // With another key, it is another table: see `walk.rs`.
        Some(info) if check_key(info, key).is_ok() => find(&conn, info, key, &begin).map_err(why),
        _ => Ok(None),
    };
    let rows = keys.iter().map(row).collect::<Result<_>>()?;
    drop(conn);
    let (mut pages, carried) = watch.end();
    // What becomes of it is told by the schema's number: it changes with every page taken or freed.
    pages.remove(PageIdx::FIRST);
    Ok((Seen { cookie, table: info, row: None, pages }, rows, carried))
}

/// Whether a table's rows can be followed: ordinary tables that people made.
pub(super) fn is_kept(info: &TableInfo) -> bool {
    info.kind == TableKind::Table && !is_own(&info.name) && !is_internal(&info.name)
}

/// Finds one row by its key; `begin` is called when SQLite knows the schema and begins to look.
///
/// # Errors
/// `Invalid` for a key of another shape, `Unsupported` where rows cannot be named.
pub(super) fn find(
    conn: &Connection,
    info: &TableInfo,
    key: &[Value],
    begin: &dyn Fn(),
) -> Result<Option<Found>> {
    check_key(info, key)?;
    let told = |e| explain(conn, e);
    let by_rowid = info.identity == Identity::Rowid;
    let sql = if by_rowid { info.sql.by_rowid.as_deref() } else { Some(&*info.sql.by_key) };
    let sql = sql.ok_or_else(|| no_rowid(info))?;
    let values = if by_rowid { key.iter().chain(key) } else { key.iter().chain(&[]) };
    let mut statement = conn.prepare_cached(sql).map_err(told)?;
    begin();
    let mut rows = statement.query(rusqlite::params_from_iter(values.map(Bind))).map_err(told)?;
    let Some(row) = rows.next().map_err(told)? else { return Ok(None) };
    found(conn, info, row).map(Some)
}

/// The first rows of a table, by key, at most `limit`.
///
/// # Errors
/// `Unsupported` where rows cannot be named.
pub(super) fn first_rows(conn: &Connection, info: &TableInfo, limit: usize) -> Result<Vec<Found>> {
    let told = |e| explain(conn, e);
    let order = match info.identity {
        Identity::Rowid => info.rowid_name().ok_or_else(|| no_rowid(info))?.to_owned(),
        _ => {
            let names = info.key_columns().into_iter();
            names.map(|(_, column)| quote_ident(&column.name)).collect::<Vec<_>>().join(", ")
        }
    };
    let sql = format!("{} ORDER BY {order} LIMIT ?1", info.sql.all);
    let mut statement = conn.prepare(&sql).map_err(told)?;
    let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)]).map_err(told)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(told)? {
        all.push(found(conn, info, row)?);
    }
    Ok(all)
}

fn found(conn: &Connection, info: &TableInfo, row: &rusqlite::Row<'_>) -> Result<Found> {
    let told = |e| explain(conn, e);
    let cell = |(at, column): (usize, &crate::schema::Column)| {
        let value = from_ref(row.get_ref(COLUMNS_FROM + at).map_err(told)?)?;
        Ok(super::Cell { name: column.name.clone(), value })
    };
    let cells = info.stored().map(cell).collect::<Result<_>>()?;
    Ok(Found { rowid: row.get(0).map_err(told)?, cells })
}

fn no_rowid(info: &TableInfo) -> Error {
    let name = &info.name;
    let text = format!("columns of table `{name}` hide the row id, which is its only key");
    Error::new(ErrorKind::Unsupported, text)
}

/// That a key has as many values as the table's, and a number where that is a row id.
pub(super) fn check_key(info: &TableInfo, key: &[Value]) -> Result<()> {
    let names: Vec<&str> = match info.identity {
        Identity::Rowid => vec!["rowid"],
        _ => info.key_columns().into_iter().map(|(_, column)| column.name.as_str()).collect(),
    };
    let (table, wanted) = (&info.name, names.join(", "));
    if key.len() != names.len() {
        let text = format!("the key of table `{table}` is ({wanted}), not {} values", key.len());
        return Err(Error::invalid(text));
    }
    match (info.identity, key) {
        (Identity::Declared, _) | (_, [Value::Int(_)]) => Ok(()),
        _ => Err(Error::invalid(format!("the key of table `{table}` is a number: {wanted}"))),
    }
}
