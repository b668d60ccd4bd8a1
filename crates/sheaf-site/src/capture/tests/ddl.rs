//! Schema changes, alone and with rows.

use super::*;

const T: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,'x'),(2,'x');";
const SEPARATE: &str = "in separate transactions";

#[test]
fn ddl_is_taken_as_text() {
    check(
        T,
        &[
            "\u{feff}/* c */ CREATE TABLE u(x) -- tail\n",
            " \u{b}CREATE INDEX i ON u(x);",
            "EXPLAIN CREATE TABLE w(x)",
            "ALTER TABLE t ADD COLUMN b DEFAULT 5",
            "CREATE VIEW v AS SELECT 1",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM u; SELECT 1; END",
        ],
        &[
            "CREATE TABLE u(x) -- tail",
            "CREATE INDEX i ON u(x)",
            "ALTER TABLE t ADD COLUMN b DEFAULT 5",
            "CREATE VIEW v AS SELECT 1",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM u; SELECT 1; END",
        ],
    );
    check(T, &["DROP TABLE t"], &["DROP TABLE t"]);
    check(T, &["CREATE TABLE IF NOT EXISTS t(z)"], &[]);
    check(T, &["CREATE TABLE aux(a)", "DROP TABLE aux"], &[]);
}

#[test]
fn ddl_and_rows_together() {
    check(
        T,
        &[
            "CREATE TABLE u(k TEXT PRIMARY KEY)",
            "INSERT INTO u VALUES('b'),('a')",
            "INSERT INTO t VALUES(3,'y')",
        ],
        &["CREATE TABLE u(k TEXT PRIMARY KEY)", "+ t[3] id=3 a=y", "+ u[a] k=a", "+ u[b] k=b"],
    );
    // Rows of a table that was changed before they were touched.
    check(
        T,
        &[
            "ALTER TABLE t ADD COLUMN b INT DEFAULT 5",
            "UPDATE t SET b=6, a='z' WHERE id=2",
            "INSERT INTO t VALUES(3,3,3)",
        ],
        &[
            "ALTER TABLE t ADD COLUMN b INT DEFAULT 5",
            "~ t[2] a=x->z b=5->6",
            "+ t[3] id=3 a=3 b=3",
        ],
    );
    check(
        "CREATE TABLE w(a, k PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w VALUES(1,2,3)",
        &["ALTER TABLE w ADD COLUMN c", "UPDATE w SET b=4, c=5"],
        &["ALTER TABLE w ADD COLUMN c", "~ w[2] b=3->4 c=null->5"],
    );
    check(
        "CREATE TABLE g(a, v AS (a+1), b); INSERT INTO g VALUES(1,2)",
        &["ALTER TABLE g DROP COLUMN a", "UPDATE g SET b=3"],
        // The column is in use: the statement failed.
        &["~ g[1] b=2->3"],
    );
    check(
        "CREATE TABLE g(a, v AS (b+1), b); INSERT INTO g VALUES(1,2)",
        &["ALTER TABLE g DROP COLUMN a", "UPDATE g SET b=3"],
        &["ALTER TABLE g DROP COLUMN a", "~ g[1] b=2->3"],
    );
    // Statements on other tables in between.
    check(
        T,
        &[
            "ALTER TABLE t ADD COLUMN b",
            "UPDATE t SET b=1 WHERE id=1",
            "CREATE TABLE u(x)",
            "UPDATE t SET b=2 WHERE id=2",
            "CREATE INDEX i ON t(b)",
            "UPDATE t SET b=3 WHERE id=2",
        ],
        &[
            "ALTER TABLE t ADD COLUMN b",
            "CREATE TABLE u(x)",
            "CREATE INDEX i ON t(b)",
            "~ t[1] b=null->1",
            "~ t[2] b=null->3",
        ],
    );
}

#[test]
fn a_table_that_exists_already_is_not_made() {
    check(
        T,
        &[
            "UPDATE t SET a='y' WHERE id=1",
            "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, a)",
            "UPDATE t SET a='z'",
            "DELETE FROM t WHERE id=2",
            "CREATE TABLE u(x)",
        ],
        &["CREATE TABLE u(x)", "- t[2] id=2 a=x", "~ t[1] a=x->z"],
    );
}

#[test]
fn schema_changes_after_touch_are_refused() {
    refused(T, &["UPDATE t SET a=1", "ALTER TABLE t RENAME TO u"], SEPARATE);
    refused(T, &["UPDATE t SET a=1", "ALTER TABLE t RENAME COLUMN a TO c"], SEPARATE);
    refused(T, &["UPDATE t SET a=1", "ALTER TABLE t ADD COLUMN c"], SEPARATE);
    refused(
        T,
        &["ALTER TABLE t ADD COLUMN b", "UPDATE t SET b=1", "ALTER TABLE t ADD COLUMN c"],
        SEPARATE,
    );
    refused(
        "CREATE TABLE w(a, k PRIMARY KEY) WITHOUT ROWID; INSERT INTO w VALUES(1,2)",
        &["ALTER TABLE w DROP COLUMN a", "DELETE FROM w"],
        SEPARATE,
    );
}

#[test]
fn renamed_before_touch() {
    check(
        T,
        &["ALTER TABLE t RENAME TO u", "UPDATE u SET a='y' WHERE id=1"],
        &["ALTER TABLE t RENAME TO u", "~ u[1] a=x->y"],
    );
}

#[test]
fn tables_made_anew_have_only_new_rows() {
    // The recipe in SQLite's manual for changes that ALTER TABLE cannot make.
    check(
        T,
        &[
            "CREATE TABLE new_t(id INTEGER PRIMARY KEY, a TEXT NOT NULL)",
            "INSERT INTO new_t SELECT * FROM t",
            "DROP TABLE t",
            "ALTER TABLE new_t RENAME TO t",
            "UPDATE t SET a='z' WHERE id=2",
        ],
        &[
            "CREATE TABLE new_t(id INTEGER PRIMARY KEY, a TEXT NOT NULL)",
            "DROP TABLE t",
            "ALTER TABLE new_t RENAME TO t",
            "+ t[1] id=1 a=x",
            "+ t[2] id=2 a=z",
        ],
    );
    check(
        T,
        &[
            "UPDATE t SET a='lost'",
            "DROP TABLE t",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
            "INSERT INTO t VALUES(1,'x')",
        ],
        &["DROP TABLE t", "CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "+ t[1] id=1 a=x"],
    );
    check(T, &["UPDATE t SET a='lost'", "DROP TABLE t"], &["DROP TABLE t"]);
}

#[test]
fn create_table_as_gives_its_rows_as_rows() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN").unwrap();
    bench.conn.execute("CREATE TABLE c AS SELECT id, a||?1 AS b FROM t", ["!"]).unwrap();
    let mutation = bench.capture.finish(&bench.conn).unwrap().unwrap();
    assert_eq!(
        lines(&mutation),
        ["CREATE TABLE c(id INT,b)", "+ c[1] id=1 b=x!", "+ c[2] id=2 b=x!"]
    );
}

#[test]
fn rolled_back_ddl_is_dropped() {
    check(
        T,
        &[
            "SAVEPOINT \"A b\"",
            "CREATE TABLE u(x)",
            "INSERT INTO u VALUES(1)",
            "ALTER TABLE t ADD COLUMN b",
            "UPDATE t SET b=2",
            "ROLLBACK TO [a B]",
            "CREATE TABLE v(x)",
            "RELEASE 'A B'",
            "UPDATE t SET a='y' WHERE id=1",
        ],
        &["CREATE TABLE v(x)", "~ t[1] a=x->y"],
    );
    check(
        T,
        &[
            "SAVEPOINT s",
            "UPDATE t SET a='y' WHERE id=1",
            "SAVEPOINT i",
            "ALTER TABLE t ADD COLUMN b",
            "UPDATE t SET b=2, a='no'",
            "ROLLBACK TO i",
            "UPDATE t SET a='z' WHERE id=2",
            "RELEASE s",
        ],
        &["~ t[1] a=x->y", "~ t[2] a=x->z"],
    );
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN; CREATE TABLE u(x); ROLLBACK").unwrap();
    assert!(bench.capture.is_empty());
}

#[test]
fn statements_that_failed_are_left_out() {
    check(
        T,
        &["CREATE UNIQUE INDEX i ON t(a)", "CREATE TABLE u(x)", "CREATE INDEX j ON t(a)"],
        &["CREATE TABLE u(x)", "CREATE INDEX j ON t(a)"],
    );
    check(
        T,
        &["ALTER TABLE t ADD COLUMN c CHECK(c > 0) DEFAULT -1", "UPDATE t SET a='y' WHERE id=1"],
        &["~ t[1] a=x->y"],
    );
    check(
        T,
        &[
            "UPDATE t SET a='y' WHERE id=1",
            "ALTER TABLE t ADD COLUMN c CHECK(c > 0) DEFAULT -1",
            "UPDATE t SET a='z' WHERE id=2",
            "CREATE TABLE u(x)",
        ],
        &["CREATE TABLE u(x)", "~ t[1] a=x->y", "~ t[2] a=x->z"],
    );
}

#[test]
fn temporary_and_attached_objects_are_left_out() {
    check(
        "ATTACH ':memory:' AS aux; CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        &[
            "CREATE TABLE aux.x(a)",
            "CREATE TEMP TABLE t(z)",
            "DROP TABLE t",
            "CREATE TEMP VIEW v AS SELECT 1",
            "CREATE TABLE u(x)",
            "INSERT INTO aux.x VALUES(1)",
        ],
        &["CREATE TABLE u(x)"],
    );
}

#[test]
fn unexplained_changes_are_refused() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN").unwrap();
    bench.capture.set_enabled(false);
    bench.conn.execute_batch("CREATE TABLE hidden(x)").unwrap();
    bench.capture.set_enabled(true);
    bench.conn.execute_batch("CREATE TABLE u(x)").unwrap();
    let error = bench.capture.finish(&bench.conn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("each in its own transaction"), "{error}");
}

#[test]
fn header_fields_of_applications_travel() {
    check(
        T,
        &["PRAGMA user_version = 7", "PRAGMA application_id = 1"],
        &["PRAGMA application_id = 1", "PRAGMA user_version = 7"],
    );
    check(T, &["PRAGMA user_version", "PRAGMA user_version = 0"], &[]);
    check(T, &["SAVEPOINT s; PRAGMA user_version = 7; ROLLBACK TO s"], &[]);
}

#[test]
fn ddl_inside_an_open_query_is_seen() {
    let bench = Bench::new(T);
    let mut query = bench.conn.prepare("SELECT * FROM t").unwrap();
    bench.conn.execute_batch("BEGIN").unwrap();
    let mut rows = query.query([]).unwrap();
    rows.next().unwrap();
    bench.conn.execute_batch("CREATE TABLE\n u(x)").unwrap();
    let mutation = bench.capture.finish(&bench.conn).unwrap().unwrap();
    assert_eq!(lines(&mutation), ["CREATE TABLE\n u(x)"]);
}

#[test]
fn the_schema_survives_a_vacuum() {
    let bench = Bench::new(T);
    bench
        .conn
        .execute_batch(
            "CREATE VIEW v AS SELECT 1 AS x; CREATE INDEX i ON t(a);
        CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN SELECT 1; END; VACUUM",
        )
        .unwrap();
    bench.capture.clear();
    bench.capture.note_schema(&bench.conn).unwrap();
    assert_eq!(bench.lines(&["CREATE TABLE u(x)"]), ["CREATE TABLE u(x)"]);
}

#[test]
fn a_savepoint_that_could_not_be_opened_takes_nothing_back() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN; UPDATE t SET a='y' WHERE id=1").unwrap();
    let mut write = bench.conn.prepare("INSERT INTO t VALUES(8,8),(9,9) RETURNING id").unwrap();
    let mut rows = write.query([]).unwrap();
    rows.next().unwrap();
    assert!(bench.conn.execute_batch("SAVEPOINT s").is_err());
    drop(rows);
    bench.conn.execute_batch("CREATE TABLE IF NOT EXISTS t(z); DELETE FROM t WHERE id=2").unwrap();
    assert!(bench.conn.execute_batch("ROLLBACK TO s").is_err());
    let mutation = bench.capture.finish(&bench.conn).unwrap().unwrap();
    assert_eq!(
        lines(&mutation),
        ["- t[2] id=2 a=x", "~ t[1] a=x->y", "+ t[8] id=8 a=8", "+ t[9] id=9 a=9"]
    );
}

#[test]
fn unknown_savepoints_and_failed_releases_are_no_matter() {
    check(
        T,
        &["CREATE TABLE u(x)", "RELEASE nobody", "ROLLBACK TO nobody", "INSERT INTO u VALUES(1)"],
        &["CREATE TABLE u(x)", "+ u[1] x=1"],
    );
}
