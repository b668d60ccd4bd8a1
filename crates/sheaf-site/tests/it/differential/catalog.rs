//! What the plain database holds: what the generator may name, and what a comparison compares.

use rusqlite::Connection;

/// A column that statements can name.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_generated: bool,
}

/// A table or view that statements can name.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) has_rowid: bool,
    /// The column that is the row id.
    pub(super) id: Option<String>,
}

impl Table {
    /// Its stored columns; if it has none, statements name others and fail alike.
    pub(super) fn writable(&self) -> Vec<&str> {
        let stored = self.columns.iter().filter(|column| !column.is_generated);
        let names: Vec<&str> = stored.map(|column| column.name.as_str()).collect();
        if names.is_empty() { self.names() } else { names }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }
}

/// Everything that statements can name, besides the full-text fixtures.
pub(super) struct Catalog {
    pub(super) tables: Vec<Table>,
    pub(super) views: Vec<Table>,
    pub(super) indexes: Vec<String>,
    pub(super) triggers: Vec<String>,
}

impl Catalog {
    pub(super) fn read(conn: &Connection) -> Self {
        let names = |kind: &str| -> Vec<String> {
            let sql = "SELECT name FROM sqlite_schema WHERE type = ?1 AND sql IS NOT NULL \
                       AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'fix%' ORDER BY name";
            let mut statement = conn.prepare(sql).unwrap();
            statement.query_map([kind], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let read = |kind| {
            names(kind).into_iter().filter_map(move |name| table(conn, name, kind == "view"))
        };
        Self {
            tables: read("table").collect(),
            views: read("view").collect(),
            indexes: names("index"),
            triggers: names("trigger"),
        }
    }
}

/// `None` for a view whose columns are gone.
fn table(conn: &Connection, name: String, is_view: bool) -> Option<Table> {
    let sql = "SELECT name, hidden, pk, upper(type) FROM pragma_table_xinfo(?1)";
    let mut statement = conn.prepare(sql).unwrap();
    let mut rows = statement.query([&name]).unwrap();
    let mut columns = Vec::new();
    let mut keys = Vec::new();
    while let Some(row) = rows.next().ok()? {
        let column: String = row.get_unwrap(0);
        if row.get_unwrap::<_, i64>(2) > 0 {
            keys.push((column.clone(), row.get_unwrap::<_, String>(3)));
        }
        columns.push(Column { name: column, is_generated: row.get_unwrap::<_, i64>(1) > 0 });
    }
    let without: i64 = conn
        .query_row(
            "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
            [&name],
            |row| row.get(0),
        )
        .unwrap_or(0);
    let has_rowid = !is_view && without == 0;
    let id = match keys.as_slice() {
        [(name, ty)] if has_rowid && ty == "INTEGER" => Some(name.clone()),
        _ => None,
    };
    (!columns.is_empty()).then_some(Table { name, columns, has_rowid, id })
}

/// Every row of the database as sorted text. `exact` also compares what a replay may number
/// otherwise: hidden row ids and the memory of AUTOINCREMENT. Leaves out what says nothing about
/// rows: the segments of full-text indexes and the planner's statistics.
pub(super) fn dump(conn: &Connection, exact: bool) -> Vec<String> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE '\\_\\_sheaf%' ESCAPE '\\'
               AND tbl_name NOT LIKE '\\_\\_sheaf%' ESCAPE '\\' AND name NOT LIKE 'sqlite_stat%'";
    let mut lines = rows(conn, sql).unwrap();
    let tables = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual', 'shadow')
                  AND name NOT LIKE '\\_\\_sheaf%' ESCAPE '\\' AND name <> 'sqlite_schema'";
    let mut statement = conn.prepare(tables).unwrap();
    let list: Vec<(String, String, bool)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (name, kind, without_rowid) in list {
        let is_internal = kind == "shadow" || name.starts_with("sqlite_stat");
        if is_internal || (!exact && name.starts_with("sqlite_")) {
            continue;
        }
        let rowid =
            if !without_rowid && !name.starts_with("sqlite_") && (exact || kind == "virtual") {
                "rowid, "
            } else {
                ""
            };
        match rows(conn, &format!("SELECT '{name}', {rowid}* FROM \"{name}\"")) {
            Ok(found) => lines.extend(found),
            // An index over another table whose columns are gone.
            Err(e) => lines.push(format!("{name}: {e}")),
        }
    }
    lines.sort();
    lines
}

/// What a statement gives, one line per row.
pub(super) fn rows(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let cell = |at| {
            short(match row.get_ref_unwrap(at) {
                rusqlite::types::ValueRef::Text(text) => {
                    format!("'{}'", String::from_utf8_lossy(text))
                }
                other => format!("{other:?}"),
            })
        };
        lines.push((0..columns).map(cell).collect::<Vec<_>>().join("|"));
    }
    Ok(lines)
}

/// A long value by its beginning, length and hash, for reports that can be read.
fn short(value: String) -> String {
    let Some(head) = value.get(..60) else { return value };
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{head}... {} bytes, {hash:x}", value.len())
}
