//! Reading a schema through SQLite's pragma functions.
//!
//! Invariant: column numbers are SQLite's own, since `table_xinfo` leaves no column out. Leaves out
//! what pragmas do not tell except for the module of a virtual table, which is read from the text
//! of its schema.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Column, ForeignKey, FtsContent, Identity, ReadSql, SchemaObject, TableInfo, TableKind,
    affinity, fold, is_internal,
};
use crate::capture::token::Tokens;

/// A row of SQLite's list of tables.
pub(super) struct Head {
    name: String,
    kind: String,
    without_rowid: bool,
    strict: bool,
}

/// The schema table, without SQLite's internal objects.
pub(super) fn read_objects(conn: &Connection) -> rusqlite::Result<Vec<SchemaObject>> {
    let mut statement =
        conn.prepare("SELECT type, name, tbl_name, sql FROM main.sqlite_schema ORDER BY rowid")?;
    let rows = statement.query_map([], |row| {
        Ok(SchemaObject {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        })
    })?;
    rows.filter(|row| !row.as_ref().is_ok_and(|object| is_internal(&object.name))).collect()
}

/// SQLite's list of tables, without its internal ones.
pub(super) fn read_heads(conn: &Connection) -> rusqlite::Result<Vec<Head>> {
    let mut statement =
        conn.prepare("SELECT name, type, wr, strict FROM pragma_table_list WHERE schema='main'")?;
    let rows = statement.query_map([], |row| {
        Ok(Head {
            name: row.get(0)?,
            kind: row.get(1)?,
            without_rowid: row.get(2)?,
            strict: row.get(3)?,
        })
    })?;
    rows.filter(|row| !row.as_ref().is_ok_and(|head| is_internal(&head.name))).collect()
}

/// Everything about one table.
pub(super) fn read_table(
    conn: &Connection,
    head: Head,
    objects: &[SchemaObject],
) -> rusqlite::Result<TableInfo> {
    let columns = match read_columns(conn, &head.name) {
        // The module is unknown to this program, or the view names what is gone: these cannot be
        // used, the others can.
        Err(e) if head.kind != "table" && is_wrong_sql(&e) => Vec::new(),
        columns => columns?,
    };
    let kind = match head.kind.as_str() {
        "view" => TableKind::View,
        "virtual" => virtual_kind(&head.name, objects),
        // As SQLite itself finds the owner of a shadow table: up to the last underscore.
        "shadow" => TableKind::Shadow {
            owner: head.name.rsplit_once('_').map_or("", |(owner, _)| owner).to_owned(),
        },
        _ => TableKind::Table,
    };
    let rows_of_its_own = matches!(kind, TableKind::Table | TableKind::Shadow { .. });
    let identity = match columns.iter().filter(|column| column.pk > 0).count() {
        _ if !rows_of_its_own => Identity::Rowid,
        0 => Identity::Rowid,
        // The key of a row id alias is the table's own tree: it has no index. Its type name alone
        // does not tell (INTEGER PRIMARY KEY DESC is no alias).
        1 if !head.without_rowid && !has_key_index(conn, &head.name)? => Identity::Integer,
        _ => Identity::Declared,
    };
    let mut info = TableInfo {
        kind,
        columns,
        identity,
        without_rowid: head.without_rowid && rows_of_its_own,
        strict: head.strict,
        foreign_keys: read_foreign_keys(conn, &head.name)?,
        name: head.name,
        sql: ReadSql::default(),
    };
    info.sql = ReadSql::new(&info);
    Ok(info)
}

/// Whether SQLite refuses what was asked, and not the machine below it.
fn is_wrong_sql(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown)
}

fn read_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = conn.prepare_cached(
        "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
    )?;
    let rows = statement.query_map([table], |row| {
        let decltype: String = row.get(1)?;
        let hidden: i64 = row.get(3)?;
        Ok(Column {
            name: row.get(0)?,
            affinity: affinity(&decltype),
            decltype,
            generated: hidden >= 2,
            hidden: hidden == 1,
            pk: row.get(2)?,
        })
    })?;
    rows.collect()
}

fn has_key_index(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'")?
        .query_row([table], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

fn read_foreign_keys(conn: &Connection, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, \"table\", \"from\", \"to\", on_delete, on_update
         FROM pragma_foreign_key_list(?1, ?2) ORDER BY id, seq",
    )?;
    let mut rows = statement.query(params![table, "main"])?;
    let mut keys: BTreeMap<i64, ForeignKey> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let empty = ForeignKey {
            parent: row.get(1)?,
            columns: Vec::new(),
            on_delete: row.get(4)?,
            on_update: row.get(5)?,
        };
        keys.entry(row.get(0)?).or_insert(empty).columns.push((row.get(2)?, row.get(3)?));
    }
    Ok(keys.into_values().collect())
}

/// The module of a virtual table, and where its text is if it is FTS5, from the statement that
/// made it: no pragma tells.
fn virtual_kind(name: &str, objects: &[SchemaObject]) -> TableKind {
    let sql = objects
        .iter()
        .find(|object| object.kind == "table" && object.name.eq_ignore_ascii_case(name))
        .and_then(|object| object.sql.as_deref())
        .unwrap_or("");
    let mut tokens = Tokens::new(sql);
    while tokens.peek().is_some() && !tokens.eat("USING") {
        tokens.next();
    }
    let module = tokens.name().map_or_else(String::new, |module| fold(&module));
    let content = if module == "fts5" { fts_content(tokens) } else { FtsContent::None };
    TableKind::Virtual { module, content }
}

fn fts_content(mut tokens: Tokens<'_>) -> FtsContent {
    while let Some(token) = tokens.next() {
        if token.is("content") && tokens.eat_punct(b'=') {
            return match tokens.name() {
                Some(table) if !table.is_empty() => FtsContent::External,
                _ => FtsContent::Contentless,
            };
        }
    }
    FtsContent::Own
}
