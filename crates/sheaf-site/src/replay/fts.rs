//! FTS5 indexes over other tables ("external content").
//!
//! Invariant: replay never writes such an index row by row. Its triggers are off, so after the
//! content table has changed the index is rebuilt from it when the mutation ends, before anybody
//! reads it.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{
    failure::Failure,
    sqltext::{Token, tokens},
    table::Tables,
};
use crate::schema::quote_ident;

/// Indexes by the lower-case name of their content table.
pub(super) fn external_content(
    conn: &Connection,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT name, sql FROM main.sqlite_schema
         WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts5%content%' ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let mut indexes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (name, sql): (String, String) = (row.get(0)?, row.get(1)?);
        if let Some(content) = content_option(&sql) {
            indexes.entry(content.to_ascii_lowercase()).or_default().push(name);
        }
    }
    Ok(indexes)
}

/// The value of `content=`; none when it is absent or empty (a contentless table).
fn content_option(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    let option = tokens.windows(3).find_map(|window| match window {
        [name, equals, value] if name.is("content") && equals.text == "=" => Some(value),
        _ => None,
    });
    option.map(Token::name).filter(|name| !name.is_empty())
}

/// Rebuilds the indexes over the touched tables, and those touched themselves.
pub(super) fn refresh(
    conn: &Connection,
    tables: &mut Tables,
    touched: &[String],
) -> Result<(), Failure> {
    let indexes = tables.text_indexes(conn)?;
    for (content, names) in indexes.iter() {
        let is_content_touched = touched.iter().any(|table| table.eq_ignore_ascii_case(content));
        for index in names {
            if is_content_touched || touched.contains(index) {
                let name = quote_ident(index);
                conn.execute_batch(&format!("INSERT INTO main.{name}({name}) VALUES('rebuild')"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_options() {
        let check = |sql, expected: Option<&str>| {
            assert_eq!(content_option(sql).as_deref(), expected, "{sql}");
        };
        check(
            "CREATE VIRTUAL TABLE f USING fts5(a, content='Notes', content_rowid='id')",
            Some("Notes"),
        );
        check("CREATE VIRTUAL TABLE f USING fts5(a, content = notes)", Some("notes"));
        check("CREATE VIRTUAL TABLE f USING fts5(a, content='')", None);
        check("CREATE VIRTUAL TABLE f USING fts5(content, title)", None);
    }
}
