//! Running SQL text and printing what it returns.
//!
//! Invariant: statements run in order and the first error stops them; those before it stay done,
//! as in sqlite3. Parameters are NULL. Which connection it is (local, global, old) is the caller's
//! business.

use std::io::{self, Write};

use rusqlite::{Batch, Connection, Statement, fallible_iterator::FallibleIterator};

use crate::{backend::says_what_to_do, exit::Failure, render::Format};

/// Where rows go.
pub(crate) trait RowSink: Write {
    /// Whether nobody wants more of them.
    fn reader_is_gone(&self) -> bool {
        false
    }
}

impl RowSink for Vec<u8> {}

/// What running some SQL did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Statements that ran to their end.
    pub(crate) statements: usize,
    /// Statements that have columns, and so printed a result in JSON.
    pub(crate) results: usize,
}

/// Runs every statement in `sql`.
pub(crate) fn run(
    db: &Connection,
    sql: &str,
    format: &Format,
    out: &mut dyn RowSink,
) -> Result<Ran, Failure> {
    run_all(db, sql, format, out).map_err(|stop| match stop {
        Stop::Sql(error) => failure_on(db, &error),
        Stop::Output(error) => Failure::io("write rows", &error),
    })
}

/// What stopped the statements.
enum Stop {
    Sql(rusqlite::Error),
    Output(io::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn run_all(
    db: &Connection,
    sql: &str,
    format: &Format,
    out: &mut dyn RowSink,
) -> Result<Ran, Stop> {
    let mut ran = Ran::default();
    let mut batch = Batch::new(db, sql);
    while let Some(mut statement) = batch.next()? {
        if statement.column_count() == 0 {
            statement.raw_execute()?;
        } else {
            print_rows(&mut statement, format, out)?;
            ran.results += 1;
        }
        ran.statements += 1;
    }
    Ok(ran)
}

fn print_rows(
    statement: &mut Statement<'_>,
    format: &Format,
    out: &mut dyn RowSink,
) -> Result<(), Stop> {
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let count = columns.len();
    let is_readonly = statement.readonly();
    let mut renderer = if statement.is_explain() == 2 {
        format.begin_plan(columns)
    } else {
        format.begin(columns)
    };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(count);
        for index in 0..count {
            values.push(row.get_ref(index)?);
        }
        renderer.row(out, &values)?;
        // A statement that writes is always run to its end, whoever still listens.
        if is_readonly && out.reader_is_gone() {
            break;
        }
    }
    Ok(renderer.finish(out)?)
}

/// Looks at the grammar of `sql` alone, without any database: whether it could ever run.
pub(crate) fn check_grammar(sql: &str) -> Result<(), Failure> {
    let db = Connection::open_in_memory().map_err(|error| failure(&error))?;
    let mut batch = Batch::new(&db, sql);
    match batch.next() {
        Err(error) if is_grammar(&error) => Err(failure(&error)),
        // Only the first statement: later ones may need what earlier ones create.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_grammar(error: &rusqlite::Error) -> bool {
    let text = message(error);
    ["syntax error", "incomplete input", "unrecognized token"]
        .iter()
        .any(|what| text.contains(what))
}

/// SQLite's own words, without the whole statement that rusqlite repeats.
pub(crate) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::SqliteFailure(_, Some(msg)) => msg.clone(),
        other => other.to_string(),
    }
}

/// The failure of a statement on one of a site's connections. Where SQLite can only say that
/// something is wrong with a file, the site knows what.
fn failure_on(db: &Connection, error: &rusqlite::Error) -> Failure {
    let plain = failure(error);
    // Neither what is wrong with the SQL nor a full disk needs a better word than SQLite's.
    if matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    {
        return plain;
    }
    // On a connection that is not a site's there is no such function, and nothing more to say.
    let reason: Option<String> =
        db.query_row("SELECT sheaf_failure()", [], |row| row.get(0)).ok().flatten();
    let Some(reason) = reason else { return plain };
    let advice = error.sqlite_error_code().and_then(|code| advice(code, &reason));
    let failure = Failure::new("sql", reason);
    match advice {
        Some(advice) if !says_what_to_do(&failure.message) => failure.with_note(advice),
        _ => failure,
    }
}

/// A failure that says what to do, where that is not plain from SQLite's words.
pub(crate) fn failure(error: &rusqlite::Error) -> Failure {
    let text = message(error);
    let advice = error.sqlite_error_code().and_then(|code| advice(code, &text));
    let failure = Failure::new("sql", text);
    match advice {
        Some(advice) => failure.with_note(advice),
        None => failure,
    }
}

fn advice(code: rusqlite::ErrorCode, text: &str) -> Option<&'static str> {
    use rusqlite::ErrorCode as Code;
    match code {
        Code::ReadOnly => Some("only the local view can be written: leave out --view"),
        Code::DatabaseBusy | Code::DatabaseLocked => {
            Some("another writer is at work on this device: try again")
        }
        Code::DatabaseCorrupt | Code::NotADatabase => {
            Some("stop writing, keep a copy of the directory, and clone the site afresh")
        }
        Code::DiskFull => Some("free some space and try again"),
        Code::SystemIoFailure => Some(
            "a page could not be read or written: see that the disk has room and the server is \
             reachable",
        ),
        _ if text.starts_with("no such table") => {
            Some("see which there are with SELECT name FROM sqlite_schema")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink whose reader has gone away.
    struct Deaf(Vec<u8>);

    impl Write for Deaf {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl RowSink for Deaf {
        fn reader_is_gone(&self) -> bool {
            true
        }
    }

    fn db() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    fn run_on(db: &Connection, sql: &str) -> (Result<Ran, Failure>, String) {
        let mut out = Vec::new();
        let ran = run(db, sql, &Format::default(), &mut out);
        (ran, String::from_utf8(out).unwrap())
    }

    #[test]
    fn statements_run_in_order_and_stop_at_the_first_error() {
        let db = db();
        let sql = "CREATE TABLE t(a NOT NULL); INSERT INTO t VALUES (1) RETURNING a; \
            INSERT INTO t VALUES (NULL); INSERT INTO t VALUES (3)";
        let (ran, out) = run_on(&db, sql);
        assert_eq!(ran.unwrap_err().message, "NOT NULL constraint failed: t.a");
        assert_eq!(out, "1\n");
        assert_eq!(run_on(&db, "SELECT count(*) FROM t").1, "1\n");
    }

    #[test]
    fn counts_statements_and_results() {
        let (ran, _) = run_on(&db(), "CREATE TABLE t(a); ;; SELECT 1; -- end\n");
        assert_eq!(ran, Ok(Ran { statements: 2, results: 1 }));
    }

    #[test]
    fn unbound_parameters_are_null() {
        assert_eq!(run_on(&db(), "SELECT ?1 IS NULL, :name IS NULL").1, "1|1\n");
    }

    #[test]
    fn errors_are_sqlites_words() {
        let (ran, _) = run_on(&db(), "SELEC 1");
        assert_eq!(ran.unwrap_err().message, "near \"SELEC\": syntax error");
    }

    #[test]
    fn only_reading_stops_when_nobody_reads() {
        let db = db();
        let mut out = Deaf(Vec::new());
        let sql = "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3) RETURNING a; \
            SELECT a FROM t";
        run(&db, sql, &Format::default(), &mut out).unwrap();
        assert_eq!(out.0, b"1\n2\n3\n1\n");
    }

    #[test]
    fn grammar_is_checked_without_a_database() {
        assert!(check_grammar("SELEC 1").is_err());
        assert!(check_grammar("SELECT (1").is_err());
        assert!(check_grammar("SELECT * FROM not_there").is_ok());
        assert!(check_grammar("CREATE TABLE t(a); INSERT INTO t VALUES (1)").is_ok());
        assert!(check_grammar("").is_ok());
    }
}
