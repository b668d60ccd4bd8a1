//! Schema changes: done, done already, or refused.
//!
//! Invariant: what two devices both did offline is done once; what they did differently under
//! one name is refused, never guessed.

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    failure::Failure,
    sqltext::{Token, normalise, tokens},
};
use crate::schema::quote_ident;

/// Runs one schema change. Returns whether it changed anything.
pub(super) fn apply(conn: &Connection, sql: &str) -> Result<bool, Failure> {
    let words = tokens(sql);
    let (Some(verb), second) = (words.first(), words.get(1)) else {
        return Err(Failure::reject("an empty schema change"));
    };
    if is_header_pragma(&words) {
        conn.execute_batch(sql)?;
        return Ok(true);
    }
    if !["CREATE", "ALTER", "DROP"].iter().any(|known| verb.is(known)) {
        return Err(Failure::reject(format!("{} is not a schema change", verb.text)));
    }
    if second.is_some_and(|word| word.is("TEMP") || word.is("TEMPORARY")) {
        return Err(Failure::reject("temporary things are local"));
    }
    if !verb.is("CREATE")
        && words.iter().any(|word| word.name().to_ascii_lowercase().starts_with("__sheaf_"))
    {
        return Err(Failure::reject("tables of sheaf itself cannot be changed"));
    }
    if verb.is("CREATE") {
        return create(conn, sql, &words);
    }
    if verb.is("ALTER") && is_added_already(conn, sql, &words)? {
        return Ok(false);
    }
    if verb.is("DROP")
        && let Some(name) = name_after_if(&words, 2)
        && stored_sql(conn, &name.name())?.is_none()
    {
        return Ok(false);
    }
    conn.prepare(sql)?.execute([])?;
    Ok(true)
}

/// `PRAGMA user_version = 3`: the two numbers in the header that belong to the application.
fn is_header_pragma(words: &[Token<'_>]) -> bool {
    let ([pragma, name, equals, value] | [pragma, name, equals, _, value]) = words else {
        return false;
    };
    let is_number = value.text.parse::<i32>().is_ok();
    let has_sign = words.len() == 4 || words.get(3).is_some_and(|sign| sign.text == "-");
    pragma.is("PRAGMA")
        && (name.is("user_version") || name.is("application_id"))
        && equals.text == "="
        && is_number
        && has_sign
}

fn create(conn: &Connection, sql: &str, words: &[Token<'_>]) -> Result<bool, Failure> {
    // CREATE [UNIQUE] INDEX, CREATE VIRTUAL TABLE: the kind may be the third word.
    let kind = words
        .iter()
        .take(3)
        .position(|word| ["TABLE", "INDEX", "TRIGGER", "VIEW"].iter().any(|known| word.is(known)));
    let Some(name) = kind.and_then(|kind| name_after_if(words, kind + 1)) else {
        return Err(Failure::reject("a schema change that creates nothing known"));
    };
    let Some(existing) = stored_sql(conn, &name.name())? else {
        conn.prepare(sql)?.execute([])?;
        return Ok(true);
    };
    let what = |sql: &str, words: &[Token<'_>], name: &Token<'_>| {
        let kind: Vec<String> = words
            .iter()
            .take_while(|word| word.at < name.at)
            .map(|word| word.text.to_ascii_uppercase())
            .filter(|word| !["IF", "NOT", "EXISTS", "MAIN", "."].contains(&word.as_str()))
            .collect();
        let tail = name.at + name.text.len();
        (kind, normalise(sql.get(tail..).unwrap_or_default()))
    };
    let old_words = tokens(&existing);
    let old_name = old_words.iter().find(|word| word.name().eq_ignore_ascii_case(&name.name()));
    let is_same =
        old_name.is_some_and(|old| what(&existing, &old_words, old) == what(sql, words, &name));
    if is_same {
        Ok(false)
    } else {
        Err(Failure::reject(format!("{} exists already and is different", name.name())))
    }
}

/// The name behind `[IF [NOT] EXISTS] [main.]`, from the word at `from` on.
fn name_after_if<'a>(words: &[Token<'a>], from: usize) -> Option<Token<'a>> {
    let mut rest = words.get(from..)?;
    if rest.first()?.is("IF") {
        let exists = rest.iter().position(|word| word.is("EXISTS"))?;
        rest = rest.get(exists + 1..)?;
    }
    match rest {
        [schema, dot, name, ..] if schema.is("main") && dot.text == "." => Some(*name),
        [name, ..] => Some(*name),
        [] => None,
    }
}

/// Whether `ALTER TABLE t ADD [COLUMN] definition` finds that very definition in the table.
fn is_added_already(conn: &Connection, sql: &str, words: &[Token<'_>]) -> Result<bool, Failure> {
    let Some(add) = words.iter().position(|word| word.is("ADD")) else {
        return Ok(false);
    };
    let Some(table) = name_after_if(words, 2) else {
        return Ok(false);
    };
    let column = match words.get(add + 1..) {
        Some([keyword, column, ..]) if keyword.is("COLUMN") => column,
        Some([column, ..]) => column,
        _ => return Ok(false),
    };
    let Some(existing) = stored_sql(conn, &table.name())? else {
        return Ok(false);
    };
    let definition = normalise(sql.get(column.at..).unwrap_or_default());
    let existing = normalise(&existing);
    let found = [",", ")"].iter().any(|end| existing.contains(&format!(", {definition} {end}")));
    Ok(found && has_column(conn, &table.name(), &column.name())?)
}

fn has_column(conn: &Connection, table: &str, column: &str) -> Result<bool, Failure> {
    let found = conn
        .prepare_cached(
            "SELECT 1 FROM pragma_table_xinfo(?1, 'main') WHERE name = ?2 COLLATE NOCASE",
        )?
        .query_row([table, column], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn stored_sql(conn: &Connection, name: &str) -> Result<Option<String>, Failure> {
    let sql = conn
        .prepare_cached("SELECT sql FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE")?
        .query_row([name], |row| row.get::<_, Option<String>>(0))
        .optional()?;
    // An automatic index has a name but no text.
    Ok(sql.map(|sql| sql.unwrap_or_else(|| format!("automatic {}", quote_ident(name)))))
}
