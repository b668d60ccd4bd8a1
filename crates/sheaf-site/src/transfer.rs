//! Plain SQLite files in and out of a site.
//!
//! Invariants: an import is ordinary SQL, so it becomes ordinary mutations, each small enough to
//! travel; an export is one consistent snapshot, complete before it gets its name. Leaves out
//! copying pages: a device never sends pages to a node.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sheaf_volume::{Error, ErrorKind, Result};

use crate::error::from_sqlite;
use crate::limits;
use crate::schema::quote_ident;
use crate::site::{Site, View};

/// What an import brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Tables made.
    pub tables: usize,
    /// Rows copied.
    pub rows: u64,
}

/// One object of the file's schema.
struct Object {
    kind: String,
    name: String,
    sql: String,
}

impl Site {
    /// Copies schema and rows of a SQLite file into this site, which must not have tables of the
    /// same names. `progress` gets the number of rows copied so far.
    ///
    /// # Errors
    /// `Invalid` when the file is not a database or a table exists already. What was copied
    /// before an error stays; each table's rows arrive in transactions of bounded size.
    pub fn import_file(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Imported> {
        let source = open_source(path)?;
        let objects = read_schema(&source)?;
        let shadows = shadow_tables(&source)?;
        let is_shadow = |name: &str| shadows.iter().any(|shadow| shadow == name);
        let is_virtual = |object: &Object| is_virtual(&object.sql);
        let mut done = Imported::default();
        let connection = self.connection(View::Local)?;
        connection.pragma_update(None, "foreign_keys", false).map_err(from_sqlite)?;
        let tables = objects.iter().filter(|o| o.kind == "table" && !is_shadow(&o.name));
        for table in tables.clone() {
            connection.execute_batch(&table.sql).map_err(|e| importing(&table.name, e))?;
            done.tables += 1;
        }
        for table in tables.filter(|table| !is_virtual(table)) {
            done.rows += copy_rows(&source, &connection, &table.name, done.rows, progress)?;
        }
        // Indexes, views and triggers last: faster, and no trigger fires for copied rows.
        for object in objects.iter().filter(|o| o.kind != "table") {
            connection.execute_batch(&object.sql).map_err(|e| importing(&object.name, e))?;
        }
        for table in objects.iter().filter(|o| o.kind == "table" && is_virtual(o)) {
            let virtual_rows = copy_virtual(&source, &connection, table, done.rows, progress)?;
            done.rows += virtual_rows;
        }
        copy_header(&source, &connection)?;
        self.volume().flush()?;
        Ok(done)
    }

    /// Writes one consistent state of the site as a plain SQLite file that does not exist yet.
    ///
    /// # Errors
    /// `Invalid` when the file exists, `Unavailable` when a page is missing and cannot be fetched.
    pub fn export_file(&self, view: View, path: &Path) -> Result<()> {
        if path.exists() {
            let path = path.display();
            return Err(Error::invalid(format!(
                "`{path}` exists already; remove it or choose another name"
            )));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let target = partial.to_string_lossy().into_owned();
        let result = self.connection(view).and_then(|connection| {
            connection.execute("VACUUM INTO ?1", [&target]).map_err(from_sqlite)
        });
        let moved = result.and_then(|_| {
            std::fs::rename(&partial, path).map_err(|e| Error::io("name exported file", e))
        });
        if moved.is_err() {
            // Only what this call made; the error that matters is the first one.
            std::fs::remove_file(&partial).ok();
        }
        moved
    }
}

fn open_source(path: &Path) -> Result<Connection> {
    let shown = path.display();
    if !path.is_file() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no file `{shown}`")));
    }
    let source = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|source| {
            source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            source.execute_batch("BEGIN")?;
            Ok(source)
        })
        .map_err(|e| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => {
                Error::invalid(format!("`{shown}` is not a SQLite database"))
            }
            _ => Error::with_source(ErrorKind::Invalid, format!("cannot read `{shown}`"), e),
        })?;
    Ok(source)
}

fn read_schema(source: &Connection) -> Result<Vec<Object>> {
    let sql = "SELECT type, name, sql FROM sqlite_schema \
               WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
    let read = || {
        let mut statement = source.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Object { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(from_sqlite)
}

fn shadow_tables(source: &Connection) -> Result<Vec<String>> {
    let read = || {
        let mut statement =
            source.prepare("SELECT name FROM pragma_table_list WHERE type = 'shadow'")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(from_sqlite)
}

fn is_virtual(sql: &str) -> bool {
    let mut words = sql.split_ascii_whitespace();
    words.next().is_some_and(|word| word.eq_ignore_ascii_case("create"))
        && words.next().is_some_and(|word| word.eq_ignore_ascii_case("virtual"))
}

fn importing(name: &str, error: rusqlite::Error) -> Error {
    Error::with_source(ErrorKind::Invalid, format!("cannot import `{name}`"), error)
}

fn copy_rows(
    source: &Connection,
    target: &Connection,
    table: &str,
    before: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let columns = stored_columns(source, table)?;
    copy(source, target, table, &columns, before, progress).map_err(|e| importing(table, e))
}

/// Columns that can be written, and the row id where it is not a column of its own.
fn stored_columns(source: &Connection, table: &str) -> Result<Vec<String>> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement =
            source.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0")?;
        let mut columns: Vec<String> =
            statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let sql = "SELECT count(*) FROM pragma_table_list l WHERE name = ?1 AND l.wr = 0 \
                   AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE pk > 0)";
        let keyless: i64 = source.query_row(sql, [table], |row| row.get(0))?;
        let taken = columns.iter().any(|column| column.eq_ignore_ascii_case("rowid"));
        if keyless > 0 && !taken {
            columns.insert(0, "rowid".to_owned());
        }
        Ok(columns)
    };
    read().map_err(from_sqlite)
}

fn copy(
    source: &Connection,
    target: &Connection,
    table: &str,
    columns: &[String],
    before: u64,
    progress: &mut dyn FnMut(u64),
) -> rusqlite::Result<u64> {
    let list: Vec<String> = columns.iter().map(|column| quote_ident(column)).collect();
    let (list, table) = (list.join(", "), quote_ident(table));
    let marks = vec!["?"; columns.len()].join(", ");
    let mut read = source.prepare(&format!("SELECT {list} FROM {table}"))?;
    let mut write = target.prepare(&format!("INSERT INTO {table} ({list}) VALUES ({marks})"))?;
    let mut rows = read.query([])?;
    let (mut count, mut bytes) = (0, 0);
    target.execute_batch("BEGIN IMMEDIATE")?;
    while let Some(row) = rows.next()? {
        for at in 0..columns.len() {
            let value = row.get_ref(at)?;
            bytes += match value {
                ValueRef::Text(text) => text.len(),
                ValueRef::Blob(blob) => blob.len(),
                _ => 8,
            };
            write.raw_bind_parameter(at + 1, rusqlite::types::ToSqlOutput::Borrowed(value))?;
        }
        write.raw_execute()?;
        count += 1;
        if bytes >= limits::IMPORT_BYTES {
            target.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
            bytes = 0;
            progress(before + count);
        }
    }
    target.execute_batch("COMMIT")?;
    progress(before + count);
    Ok(count)
}

/// Rows of a full-text table with its own content; an index over another table's rows is rebuilt.
fn copy_virtual(
    source: &Connection,
    target: &Connection,
    table: &Object,
    before: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let compact: String =
        table.sql.to_ascii_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    if !compact.contains("usingfts5") {
        return Err(Error::invalid(format!(
            "cannot import `{}`: only full-text (fts5) virtual tables travel; \
             leave it out of the file and make it again in the site",
            table.name
        )));
    }
    if compact.contains("content=") {
        return Ok(0);
    }
    let mut columns = stored_columns(source, &table.name)?;
    columns.retain(|column| column != "rowid");
    columns.insert(0, "rowid".to_owned());
    copy(source, target, &table.name, &columns, before, progress)
        .map_err(|e| importing(&table.name, e))
}

fn copy_header(source: &Connection, target: &Connection) -> Result<()> {
    for pragma in ["user_version", "application_id"] {
        let value: i64 =
            source.pragma_query_value(None, pragma, |row| row.get(0)).map_err(from_sqlite)?;
        if value != 0 {
            target.pragma_update(None, pragma, value).map_err(from_sqlite)?;
        }
    }
    Ok(())
}
