//! What the statements of a transaction say about its schema: the log of its DDL.
//!
//! Invariant: every statement that could have changed the main schema is in the log, in order,
//! unless a savepoint took it back; a statement in the log may have had no effect. Every entry
//! has a number that is never used again, so that "the layout a table had" can be named by the
//! last entry that names the table. Leaves out whether a statement succeeded: `migration.rs`
//! finds out.

use super::savepoint::Savepoints;
use super::token::Tokens;
use crate::schema::fold;

/// What one statement means to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// CREATE, ALTER or DROP, with the tables whose layout or name it may change.
    Ddl(Ddl),
    /// SAVEPOINT name.
    Savepoint(String),
    /// RELEASE name.
    Release(String),
    /// ROLLBACK TO name.
    RollbackTo(String),
    /// A PRAGMA that names a field of the header which applications own.
    HeaderPragma,
    /// Anything else.
    Other,
}

/// The names in a schema change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ddl {
    /// The table it makes, changes or drops, folded; `None` for indexes, views and triggers.
    pub(crate) table: Option<String>,
    /// The name it gives that table, folded.
    pub(crate) rename_to: Option<String>,
    /// Whether it is `CREATE TABLE ... AS SELECT`.
    pub(crate) as_select: bool,
}

/// Header fields that applications own, and that travel with the schema for that reason.
pub(crate) const HEADER_FIELDS: [&str; 2] = ["application_id", "user_version"];

/// Reads as much of a statement as capture must know.
pub(crate) fn classify(sql: &str) -> Statement {
    let mut tokens = Tokens::new(sql);
    let Some(first) = tokens.next() else {
        return Statement::Other;
    };
    if first.is("CREATE") {
        Statement::Ddl(create(tokens))
    } else if first.is("ALTER") {
        Statement::Ddl(alter(tokens))
    } else if first.is("DROP") {
        Statement::Ddl(drop_statement(tokens))
    } else if first.is("SAVEPOINT") {
        tokens.name().map_or(Statement::Other, |name| Statement::Savepoint(fold(&name)))
    } else if first.is("RELEASE") {
        Statement::Release(savepoint_name(tokens))
    } else if first.is("ROLLBACK") {
        rollback(tokens)
    } else if first.is("PRAGMA") {
        let field = tokens.qualified().map(|(_, name)| fold(&name));
        match field {
            Some(name) if HEADER_FIELDS.contains(&name.as_str()) => Statement::HeaderPragma,
            _ => Statement::Other,
        }
    } else {
        Statement::Other
    }
}

fn create(mut tokens: Tokens<'_>) -> Ddl {
    if !tokens.eat("TEMP") {
        tokens.eat("TEMPORARY");
    }
    let is_virtual = tokens.eat("VIRTUAL");
    if !tokens.eat("TABLE") {
        return Ddl::default();
    }
    if tokens.eat("IF") {
        tokens.eat("NOT");
        tokens.eat("EXISTS");
    }
    let table = tokens.qualified().map(|(_, name)| fold(&name));
    Ddl { table, rename_to: None, as_select: !is_virtual && tokens.eat("AS") }
}

fn alter(mut tokens: Tokens<'_>) -> Ddl {
    if !tokens.eat("TABLE") {
        return Ddl::default();
    }
    let table = tokens.qualified().map(|(_, name)| fold(&name));
    let renames = tokens.eat("RENAME") && tokens.eat("TO");
    let rename_to = renames.then(|| tokens.name()).flatten().map(|name| fold(&name));
    Ddl { table, rename_to, as_select: false }
}

fn drop_statement(mut tokens: Tokens<'_>) -> Ddl {
    if !tokens.eat("TABLE") {
        return Ddl::default();
    }
    if tokens.eat("IF") {
        tokens.eat("EXISTS");
    }
    let table = tokens.qualified().map(|(_, name)| fold(&name));
    Ddl { table, ..Ddl::default() }
}

/// The name after an optional SAVEPOINT, which may itself be a name.
fn savepoint_name(mut tokens: Tokens<'_>) -> String {
    let first = tokens.name().unwrap_or_default();
    if first.eq_ignore_ascii_case("savepoint")
        && let Some(name) = tokens.name()
    {
        return fold(&name);
    }
    fold(&first)
}

fn rollback(mut tokens: Tokens<'_>) -> Statement {
    if tokens.eat("TRANSACTION") && tokens.peek().is_some_and(|token| !token.is("TO")) {
        tokens.next();
    }
    if tokens.eat("TO") { Statement::RollbackTo(savepoint_name(tokens)) } else { Statement::Other }
}

/// One statement of the log.
#[derive(Clone, Debug)]
pub(crate) struct DdlEntry {
    /// Its number.
    pub(crate) id: u64,
    /// Its text from the first word on.
    pub(crate) sql: String,
    /// The tables it names.
    pub(crate) names: Ddl,
}

impl DdlEntry {
    pub(crate) fn concerns(&self, table: &str) -> bool {
        self.names.table.as_deref() == Some(table) || self.names.rename_to.as_deref() == Some(table)
    }
}

/// The schema changes of the transaction that is going on.
#[derive(Clone, Debug, Default)]
pub(crate) struct DdlLog {
    entries: Vec<DdlEntry>,
    savepoints: Savepoints<usize>,
    last_id: u64,
}

impl DdlLog {
    pub(crate) fn entries(&self) -> &[DdlEntry] {
        &self.entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the transaction; numbers are not used again.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.savepoints.clear();
    }

    pub(crate) fn push(&mut self, names: Ddl, sql: &str) {
        self.last_id += 1;
        let sql = Tokens::new(sql).rest().trim_end().trim_end_matches(';').to_owned();
        self.entries.push(DdlEntry { id: self.last_id, sql, names });
    }

    pub(crate) fn savepoint(&mut self, name: &str) {
        self.savepoints.open(name, self.entries.len());
    }

    pub(crate) fn release(&mut self, name: &str) {
        self.savepoints.release(name);
    }

    /// Drops what came after the savepoint, which stays. Returns whether that was anything.
    pub(crate) fn rollback_to(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        if let Some(mark) = self.savepoints.rollback_to(name) {
            self.entries.truncate(mark);
        }
        self.entries.len() != before
    }

    /// The number of the last statement that names a table; 0 if none does.
    pub(crate) fn layout_of(&self, table: &str) -> u64 {
        self.entries.iter().rev().find(|entry| entry.concerns(table)).map_or(0, |entry| entry.id)
    }

    /// The name a table had when the transaction began, if it was only renamed since.
    pub(crate) fn name_at_start(&self, table: &str) -> String {
        let mut name = table.to_owned();
        for entry in self.entries.iter().rev() {
            if entry.names.rename_to.as_deref() == Some(name.as_str())
                && let Some(before) = &entry.names.table
            {
                name.clone_from(before);
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ddl(table: Option<&str>, rename_to: Option<&str>, as_select: bool) -> Statement {
        let owned = |name: Option<&str>| name.map(str::to_owned);
        Statement::Ddl(Ddl { table: owned(table), rename_to: owned(rename_to), as_select })
    }

    #[test]
    fn statements_are_told_apart() {
        let check = |sql: &str, expect: Statement| assert_eq!(classify(sql), expect, "{sql}");
        check("CREATE TABLE T(a)", ddl(Some("t"), None, false));
        check("create temp table if not exists x.\"T\" as select 1", ddl(Some("t"), None, true));
        check("CREATE VIRTUAL TABLE f USING fts5(a)", ddl(Some("f"), None, false));
        check("CREATE UNIQUE INDEX i ON t(a)", ddl(None, None, false));
        check("ALTER TABLE main.[T] RENAME TO u", ddl(Some("t"), Some("u"), false));
        check("ALTER TABLE t RENAME a TO b", ddl(Some("t"), None, false));
        check("ALTER TABLE t ADD COLUMN c", ddl(Some("t"), None, false));
        check("DROP TABLE IF EXISTS t", ddl(Some("t"), None, false));
        check("DROP VIEW v", ddl(None, None, false));
        check("/* c */ SAVEPOINT 'A b'", Statement::Savepoint("a b".to_owned()));
        check("RELEASE x;", Statement::Release("x".to_owned()));
        check("RELEASE SAVEPOINT x", Statement::Release("x".to_owned()));
        check("RELEASE savepoint", Statement::Release("savepoint".to_owned()));
        check("ROLLBACK TO x", Statement::RollbackTo("x".to_owned()));
        check("ROLLBACK TRANSACTION TO SAVEPOINT x", Statement::RollbackTo("x".to_owned()));
        check("ROLLBACK TRANSACTION t TO x", Statement::RollbackTo("x".to_owned()));
        check("ROLLBACK", Statement::Other);
        check("PRAGMA main.User_Version = 3", Statement::HeaderPragma);
        check("EXPLAIN CREATE TABLE t(a)", Statement::Other);
        check("-- CREATE TABLE t(a)", Statement::Other);
        check("INSERT INTO t VALUES(1)", Statement::Other);
    }

    #[test]
    fn savepoints_take_statements_back() {
        let mut log = DdlLog::default();
        let push = |log: &mut DdlLog, sql: &str| match classify(sql) {
            Statement::Ddl(names) => log.push(names, sql),
            other => panic!("{other:?}"),
        };
        log.savepoint("a");
        push(&mut log, "CREATE TABLE t(x)");
        log.savepoint("b");
        push(&mut log, "ALTER TABLE t RENAME TO u");
        assert_eq!((log.layout_of("t"), log.layout_of("u")), (2, 2));
        assert_eq!(log.name_at_start("u"), "t");
        assert!(log.rollback_to("b"));
        assert_eq!((log.layout_of("t"), log.layout_of("u")), (1, 0));
        log.release("b");
        assert!(!log.rollback_to("nobody"));
        assert!(log.rollback_to("a"));
        assert!(log.is_empty());
        push(&mut log, "CREATE TABLE t(x)");
        assert_eq!(log.layout_of("t"), 3);
    }
}
