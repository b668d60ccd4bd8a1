//! Behaviour of capture on plain in-memory databases: `check` runs SQL in one transaction and
//! compares the mutation, one line per operation. Each measured property of the pre-update hook
//! has a test here.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use sheaf_merge::Value;
use sheaf_volume::ErrorKind;

use super::Capture;
use crate::mutation::{Body, Mutation, Op};

mod ddl;
mod model;
mod rows;
mod virtual_tables;

/// A database under capture.
struct Bench {
    conn: Connection,
    capture: Capture,
}

impl Bench {
    fn new(setup: &str) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        let capture = Capture::install(&mut conn).unwrap();
        conn.execute_batch(setup).unwrap();
        capture.note_schema(&conn).unwrap();
        capture.clear();
        Self { conn, capture }
    }

    /// Runs statements in one transaction, ignoring their errors, and commits.
    fn run(&self, sql: &[&str]) -> sheaf_volume::Result<Option<Mutation>> {
        self.conn.execute_batch("BEGIN").unwrap();
        for statement in sql {
            let _may_fail = self.conn.execute_batch(statement);
        }
        let outcome = self.capture.finish(&self.conn);
        let again = self.capture.finish(&self.conn);
        assert_eq!(outcome.as_ref().ok(), again.as_ref().ok(), "finish forgets nothing");
        self.conn.execute_batch("COMMIT").unwrap();
        self.capture.clear();
        self.capture.note_schema(&self.conn).unwrap();
        outcome
    }

    fn lines(&self, sql: &[&str]) -> Vec<String> {
        self.run(sql).unwrap().map_or_else(Vec::new, |mutation| lines(&mutation))
    }
}

/// A page that is not here and cannot be had, met while the work is read, rolls all back.
#[test]
fn what_is_rolled_back_while_it_is_read_is_forgotten() {
    let setup = "CREATE TABLE t(id INTEGER PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)";
    let bench = Bench::new(setup);
    let capture = bench.capture.clone();
    bench.conn.execute_batch("BEGIN; UPDATE t SET v = 2").unwrap();
    let watched = Arc::new(Mutex::new(bench));
    let mut reader = Connection::open_in_memory().unwrap();
    reader.execute_batch(setup).unwrap();
    let rolls_back = Arc::clone(&watched);
    let roll_back = move || {
        let bench = rolls_back.lock().unwrap();
        if !bench.conn.is_autocommit() {
            bench.conn.execute_batch("ROLLBACK").unwrap();
        }
        false
    };
    reader.progress_handler(1, Some(roll_back)).unwrap();
    capture.finish(&reader).unwrap_err();
    assert!(capture.is_empty());
    let bench = watched.lock().unwrap();
    bench.conn.execute_batch("UPDATE t SET v = 9").unwrap();
    capture.clear();
    assert_eq!(bench.lines(&["INSERT INTO t VALUES (2, 2)"]), ["+ t[2] id=2 v=2"]);
}

fn lines(mutation: &Mutation) -> Vec<String> {
    let Body::Rows(ops) = &mutation.body else { panic!("{mutation:?}") };
    ops.iter().map(line).collect()
}

fn line(op: &Op) -> String {
    let key = |key: &[Value]| key.iter().map(show).collect::<Vec<_>>().join(",");
    let cols = |cols: &[(String, Value)]| {
        let cols = cols.iter().map(|(name, value)| format!("{name}={}", show(value)));
        cols.collect::<Vec<_>>().join(" ")
    };
    match op {
        Op::Ddl { sql } => sql.clone(),
        Op::Insert { table, key: k, cols: c } => format!("+ {table}[{}] {}", key(k), cols(c)),
        Op::Delete { table, key: k, old } => format!("- {table}[{}] {}", key(k), cols(old)),
        Op::Update { table, key: k, changes } => {
            let changes =
                changes.iter().map(|c| format!("{}={}->{}", c.col, show(&c.base), show(&c.left)));
            format!("~ {table}[{}] {}", key(k), changes.collect::<Vec<_>>().join(" "))
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(int) => int.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => text.clone(),
        Value::Blob(blob) => format!("x{blob:02x?}"),
    }
}

/// The mutation of `sql`, run on a database made by `setup`.
fn check(setup: &str, sql: &[&str], expect: &[&str]) {
    let bench = Bench::new(setup);
    assert_eq!(bench.lines(sql), expect, "{sql:?}");
}

/// `sql` is refused for a reason that has these words in it.
fn refused(setup: &str, sql: &[&str], words: &str) {
    let bench = Bench::new(setup);
    let error = bench.run(sql).expect_err("it cannot be captured");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}
