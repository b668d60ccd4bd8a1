//! Completion with the tab key: dot commands, keywords, names in the database.
//!
//! Invariant: what was typed is kept and only continued, in the case it was begun in.

use rusqlite::Connection;
use rustyline::{
    Context, Helper, completion::Completer, highlight::Highlighter, hint::Hinter,
    validate::Validator,
};

use super::{dot, schema};

/// Words of SQL that are worth completing.
const KEYWORDS: [&str; 84] = [
    "ABORT",
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "AUTOINCREMENT",
    "BEFORE",
    "BEGIN",
    "BETWEEN",
    "CASCADE",
    "CASE",
    "CAST",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "COMMIT",
    "CONFLICT",
    "CONSTRAINT",
    "CREATE",
    "CROSS",
    "CURRENT_TIMESTAMP",
    "DEFAULT",
    "DEFERRED",
    "DELETE",
    "DESC",
    "DETACH",
    "DISTINCT",
    "DROP",
    "EACH",
    "ELSE",
    "END",
    "ESCAPE",
    "EXCEPT",
    "EXCLUSIVE",
    "EXISTS",
    "EXPLAIN",
    "FOREIGN",
    "FROM",
    "FULL",
    "GENERATED",
    "GLOB",
    "GROUP",
    "HAVING",
    "IGNORE",
    "IMMEDIATE",
    "INDEX",
    "INNER",
    "INSERT",
    "INSTEAD",
    "INTERSECT",
    "INTO",
    "ISNULL",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOTNULL",
    "NULL",
    "OFFSET",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRAGMA",
    "PRIMARY",
    "QUERY",
    "RECURSIVE",
    "REFERENCES",
    "RELEASE",
    "REPLACE",
    "RETURNING",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "TABLE",
    "TRANSACTION",
    "TRIGGER",
    "UNION",
    "UNIQUE",
    "UPDATE",
    "VALUES",
    "VIEW",
    "WHERE",
    "WITHOUT",
];

/// Completes lines; it holds the names of the database as of the last prompt.
#[derive(Debug, Default)]
pub(super) struct Completion {
    names: Vec<String>,
    version: Option<i64>,
}

impl Completion {
    /// Looks at the schema again if it has changed.
    pub(super) fn refresh(&mut self, db: &Connection) {
        let version = schema::version(db);
        if version.is_none() || version != self.version {
            // Names that cannot be read now are no reason to disturb anybody.
            self.names = schema::names(db).unwrap_or_default();
            self.version = version;
        }
    }

    /// Where the word before the end of `line` starts, and what it may become.
    fn complete_word(&self, line: &str) -> (usize, Vec<String>) {
        if let Some(command) = line.strip_prefix('.') {
            return match command.split_once(char::is_whitespace) {
                None => {
                    let names = dot::COMMANDS.iter().map(|command| command.name);
                    (1, starting_with(names, command))
                }
                Some((name, rest)) => self.complete_argument(name, line.len() - rest.len(), rest),
            };
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let start = line.char_indices().rev().take_while(|(_, c)| is_word(*c)).last();
        let start = start.map_or(line.len(), |(at, _)| at);
        let word = line.get(start..).unwrap_or("");
        if word.is_empty() {
            return (start, Vec::new());
        }
        let mut found = starting_with(self.names.iter().map(String::as_str), word);
        found.extend(keywords(word));
        (start, found)
    }

    fn complete_argument(&self, name: &str, start: usize, rest: &str) -> (usize, Vec<String>) {
        let found = match name {
            "mode" => starting_with(["column", "csv", "json", "line", "list", "table"], rest),
            "offline" | "headers" | "bail" => starting_with(["off", "on"], rest),
            "schema" | "tables" => starting_with(self.names.iter().map(String::as_str), rest),
            _ => Vec::new(),
        };
        (start, found)
    }
}

/// The words that continue `begun`, in whatever case.
fn starting_with<'a>(words: impl IntoIterator<Item = &'a str>, begun: &str) -> Vec<String> {
    let continues = |word: &&str| {
        word.get(..begun.len()).is_some_and(|start| start.eq_ignore_ascii_case(begun))
    };
    words.into_iter().filter(continues).map(str::to_owned).collect()
}

/// Keywords in the case of what was begun.
fn keywords(begun: &str) -> Vec<String> {
    let is_lower = begun.chars().all(|c| !c.is_uppercase());
    let found = starting_with(KEYWORDS, begun);
    if is_lower { found.iter().map(|word| word.to_lowercase()).collect() } else { found }
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.complete_word(line.get(..pos).unwrap_or(line)))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> (usize, Vec<String>) {
        let names = ["done", "select_log", "todos"].map(str::to_owned).to_vec();
        Completion { names, version: None }.complete_word(line)
    }

    #[test]
    fn keywords_follow_the_case_that_was_begun() {
        assert_eq!(complete("SELE"), (0, vec!["select_log".into(), "SELECT".into()]));
        assert_eq!(complete("select 1 wh"), (9, vec!["where".into()]));
    }

    #[test]
    fn names_come_before_keywords() {
        assert_eq!(complete("select * from to"), (14, vec!["todos".into()]));
        assert_eq!(complete("select (do"), (8, vec!["done".into()]));
        assert_eq!(complete("select \u{fc}"), (7, vec![]));
        assert_eq!(complete("select "), (7, vec![]));
    }

    #[test]
    fn dot_commands_and_their_arguments() {
        assert_eq!(complete(".sta"), (1, vec!["status".into()]));
        assert_eq!(complete(".mode c"), (6, vec!["column".into(), "csv".into()]));
        assert_eq!(complete(".schema t"), (8, vec!["todos".into()]));
        assert_eq!(complete(".offline o"), (9, vec!["off".into(), "on".into()]));
        assert_eq!(complete(".status x"), (8, vec![]));
    }

    #[test]
    fn the_schema_is_read_again_when_it_changes() {
        let db = Connection::open_in_memory().unwrap();
        let mut completion = Completion::default();
        completion.refresh(&db);
        assert!(completion.names.is_empty());
        db.execute_batch("CREATE TABLE t(a)").unwrap();
        completion.refresh(&db);
        assert_eq!(completion.names, ["a", "t"]);
    }
}
