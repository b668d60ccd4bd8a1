//! What is in the database: for `.tables`, `.schema` and completion.
//!
//! Invariant: Sheaf's and SQLite's own tables are shown only to those who ask for them by name.

use rusqlite::Connection;

use crate::{exit::Failure, sql};

/// How wide a list of names may be.
const WIDTH: usize = 80;

/// Tells people's objects from internal ones; `?1` is the pattern, empty for everything.
const VISIBLE: &str = "(CASE WHEN ?1 = '' THEN tbl_name NOT GLOB 'sqlite_*' \
    AND tbl_name NOT GLOB '__sheaf_*' ELSE tbl_name LIKE ?1 END)";

/// Names of tables and views that are LIKE the pattern, sorted.
pub(super) fn tables(db: &Connection, pattern: &str) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND {VISIBLE} ORDER BY name"
    );
    texts(db, &sql, &[&pattern])
}

/// The statements that make the objects of the tables that are LIKE the pattern.
pub(super) fn statements(db: &Connection, pattern: &str) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND {VISIBLE} ORDER BY rowid"
    );
    texts(db, &sql, &[&pattern])
}

/// Every name a statement may use: tables, views and their columns, sorted, without repetition.
pub(super) fn names(db: &Connection) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "WITH shown AS (SELECT name FROM sqlite_schema \
             WHERE type IN ('table', 'view') AND {VISIBLE}) \
         SELECT name FROM shown UNION \
         SELECT c.name FROM shown, pragma_table_info(shown.name) AS c ORDER BY 1"
    );
    texts(db, &sql, &[&""])
}

/// Changes whenever the schema does.
pub(super) fn version(db: &Connection) -> Option<i64> {
    db.query_row("PRAGMA schema_version", [], |row| row.get(0)).ok()
}

fn texts(
    db: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<String>, Failure> {
    let read = || {
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map(params, |row| row.get(0))?;
        rows.collect::<Result<Vec<String>, _>>()
    };
    read().map_err(|error| sql::failure(&error))
}

/// Lays names out in columns, filled from top to bottom, as the sqlite3 shell does.
pub(super) fn in_columns(names: &[String]) -> String {
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let columns = (WIDTH / (widest + 2)).max(1);
    let height = names.len().div_ceil(columns);
    let mut text = String::new();
    for row in 0..height {
        let in_row = names.iter().skip(row).step_by(height);
        let line: Vec<String> = in_row.map(|name| format!("{name:<widest$}")).collect();
        text.push_str(&line.join("  "));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE foo(a, \"b c\"); CREATE TABLE bar(a, d); CREATE INDEX i ON foo(a);
             CREATE VIEW v AS SELECT d FROM bar; CREATE TABLE __sheaf_rules(x)",
        )
        .unwrap();
        db
    }

    #[test]
    fn own_tables_are_hidden_unless_asked_for() {
        assert_eq!(tables(&db(), "").unwrap(), ["bar", "foo", "v"]);
        assert_eq!(tables(&db(), "%oo").unwrap(), ["foo"]);
        assert_eq!(tables(&db(), "__sheaf%").unwrap(), ["__sheaf_rules"]);
    }

    #[test]
    fn statements_are_complete() {
        let expect = ["CREATE TABLE foo(a, \"b c\");", "CREATE INDEX i ON foo(a);"];
        assert_eq!(statements(&db(), "foo").unwrap(), expect);
        assert_eq!(statements(&db(), "").unwrap().len(), 4);
    }

    #[test]
    fn names_hold_columns() {
        assert_eq!(names(&db()).unwrap(), ["a", "b c", "bar", "d", "foo", "v"]);
    }

    #[test]
    fn columns_fill_from_top_to_bottom() {
        let names = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect::<Vec<_>>();
        let few = names(&["a_longer_name", "bar", "foo", "sqlly", "v"]);
        let expect = "a_longer_name  bar            foo            sqlly          v            \n";
        assert_eq!(in_columns(&few), expect);
        let wide = names(&["a", "b", &"x".repeat(38), "d", "e"]);
        let pad = " ".repeat(37);
        let x = "x".repeat(38);
        assert_eq!(in_columns(&wide), format!("a{pad}  d{pad}\nb{pad}  e{pad}\n{x}\n"));
        assert_eq!(in_columns(&[]), "");
    }
}
