//! Schema changes: done, done already, or refused.
//!
//! Invariant: what two devices both did offline is done once; what they did differently under
//! one name is refused, never guessed. Sheaf's own tables are made as Sheaf makes them, and nothing
//! else hangs on them: the log could not go on behind a trigger or an index on one.

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    failure::Failure,
    remap,
    sqltext::{Token, normalise, statements, tokens},
};
use crate::schema::{is_own, quote_ident};
use crate::{lead, locks, merges, mutator, rules, siblings};

/// How Sheaf makes its own tables.
const OWN: [&str; 7] = [
    lead::CREATE,
    locks::CREATE,
    merges::CREATE,
    mutator::CREATE,
    remap::CREATE,
    rules::CREATE,
    siblings::CREATE,
];
/// With these a user may make the table of rules, under another key than Sheaf's.
const RULES_WORDS: [&str; 16] = [
    "tbl", "col", "rule", "TEXT", "NOT", "NULL", "PRIMARY", "KEY", "UNIQUE", "WITHOUT", "ROWID",
    "STRICT", "(", ")", ",", ";",
];

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
    check_own(sql)?;
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

/// Refuses a schema change that would put Sheaf's own tables at somebody's will. Views may read
/// them.
pub(crate) fn check_own(sql: &str) -> Result<(), Failure> {
    let words = tokens(sql);
    // What belongs to a virtual table has its name and more.
    let is_kept = |word: &Token<'_>| {
        let name = word.name();
        is_own(&name) || name.eq_ignore_ascii_case("__sheaf")
    };
    if !words.iter().any(is_kept) {
        return Ok(());
    }
    let (is_created, kind) = (words.first().is_some_and(|verb| verb.is("CREATE")), words.get(1));
    let name = name_after_if(&words, 2);
    match (kind, name) {
        (Some(kind), Some(name)) if is_created && kind.is("VIEW") && !is_kept(&name) => Ok(()),
        (Some(kind), Some(name))
            if is_created && kind.is("TABLE") && is_ours(sql, &words, &name) =>
        {
            Ok(())
        }
        _ => Err(Failure::reject(
            "tables of sheaf itself cannot be changed, and their names (`__sheaf_...`) are kept",
        )),
    }
}

/// Whether this is one of our tables, made as we make it.
fn is_ours(sql: &str, words: &[Token<'_>], name: &Token<'_>) -> bool {
    let is_rules = name.name() == rules::TABLE && {
        let mut rest = words.iter().filter(|word| word.at > name.at);
        ["tbl", "col", "rule"].iter().all(|column| words.iter().any(|word| word.is(column)))
            && rest.all(|word| RULES_WORDS.iter().any(|known| word.is(known)))
    };
    let mut own = OWN.iter().flat_map(|script| statements(script));
    is_rules
        || own.any(|own| {
            let own_words = tokens(own);
            name_after_if(&own_words, 2).is_some_and(|own_name| {
                own_name.name() == name.name()
                    && shape(own, &own_words, &own_name) == shape(sql, words, name)
            })
        })
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
    let old_words = tokens(&existing);
    let old_name = old_words.iter().find(|word| word.name().eq_ignore_ascii_case(&name.name()));
    let is_same =
        old_name.is_some_and(|old| shape(&existing, &old_words, old) == shape(sql, words, &name));
    if is_same {
        Ok(false)
    } else {
        Err(Failure::reject(format!("{} exists already and is different", name.name())))
    }
}

/// What a statement creates, but for the name: its kind, and the text behind the name.
fn shape(sql: &str, words: &[Token<'_>], name: &Token<'_>) -> (Vec<String>, String) {
    let kind = words
        .iter()
        .take_while(|word| word.at < name.at)
        .map(|word| word.text.to_ascii_uppercase())
        .filter(|word| !["IF", "NOT", "EXISTS", "MAIN", "."].contains(&word.as_str()))
        .collect();
    let tail = name.at + name.text.len();
    (kind, normalise(sql.get(tail..).unwrap_or_default()))
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
