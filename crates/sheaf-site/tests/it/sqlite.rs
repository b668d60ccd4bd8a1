//! SQLite behaves as SQLite on a site: transactions, isolation, pragmas, reopening.

use sheaf_site::View;

use crate::support::World;

#[test]
fn ordinary_sql_works_and_survives_reopening() {
    let world = World::new();
    let device = world.device();
    device.sql(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
         INSERT INTO t(v) VALUES ('a'), ('b'), ('c');
         UPDATE t SET v = upper(v) WHERE id = 2;
         DELETE FROM t WHERE id = 3;",
    );
    assert_eq!(device.local("SELECT * FROM t"), "1|a;2|B");
    let image = device.dir.fork();
    let again = world.open(image, 1);
    assert_eq!(again.local("SELECT * FROM t"), "1|a;2|B");
    assert_eq!(again.site.status().pending.len(), 4, "one mutation per transaction");
    assert_eq!(again.local("PRAGMA integrity_check"), "ok");
}

#[test]
fn rollback_and_savepoints_leave_no_trace() {
    let world = World::new();
    let device = world.device();
    device.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'x');");
    let head = device.site.status().head;
    device.sql("BEGIN IMMEDIATE; ROLLBACK;");
    device.sql("BEGIN; INSERT INTO t VALUES (2, 'y'); ROLLBACK;");
    device.sql("BEGIN; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT;");
    device.sql("UPDATE t SET v = v;");
    assert_eq!(device.site.status().head, head, "no state and no LSN for nothing");
    assert_eq!(device.site.last_seq(), 2);
    device.sql("BEGIN; INSERT INTO t VALUES (3, 'z'); SAVEPOINT s; INSERT INTO t VALUES (4, 'w'); ROLLBACK TO s; COMMIT;");
    assert_eq!(device.local("SELECT id FROM t"), "1;3");
}

#[test]
fn a_transaction_larger_than_the_page_cache_can_be_rolled_back() {
    let world = World::new();
    let device = world.device();
    device.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);");
    let conn = device.site.connection(View::Local).unwrap();
    conn.execute_batch("PRAGMA cache_size = 10; BEGIN;").unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
                INSERT INTO t(v) SELECT randomblob(1000) FROM n";
    conn.execute_batch(fill).unwrap();
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(crate::support::rows(&conn, "SELECT count(*) FROM t"), "0");
    assert_eq!(device.site.last_seq(), 1, "the rolled back transaction is no mutation");
    conn.execute_batch(fill).unwrap();
    assert_eq!(crate::support::rows(&conn, "SELECT count(*) FROM t"), "2000");
    assert_eq!(crate::support::rows(&conn, "PRAGMA integrity_check"), "ok");
}

#[test]
fn readers_keep_their_snapshot_and_never_block_the_writer() {
    let world = World::new();
    let device = world.device();
    device.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 10);");
    let reader = device.site.connection(View::Local).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(crate::support::rows(&reader, "SELECT v FROM t"), "10");
    for value in 11..40 {
        device.sql(&format!("UPDATE t SET v = {value}"));
        assert_eq!(crate::support::rows(&reader, "SELECT v FROM t"), "10");
    }
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(crate::support::rows(&reader, "SELECT v FROM t"), "39");
    // A snapshot that is not the newest cannot write: SQLite's own answer, not a lost update.
    reader.execute_batch("BEGIN; SELECT v FROM t;").unwrap();
    assert_eq!(crate::support::rows(&reader, "SELECT v FROM t"), "39");
    device.sql("UPDATE t SET v = 50");
    let error = reader.execute_batch("UPDATE t SET v = v + 1").unwrap_err();
    assert_eq!(error.sqlite_error().unwrap().extended_code, 517, "SQLITE_BUSY_SNAPSHOT");
    reader.execute_batch("ROLLBACK; UPDATE t SET v = v + 1").unwrap();
    assert_eq!(device.local("SELECT v FROM t"), "51");
}

#[test]
fn pragmas_that_mean_something_else_give_one_clear_answer() {
    let world = World::new();
    let device = world.device();
    assert_eq!(device.local("PRAGMA journal_mode=WAL"), "delete");
    assert_eq!(device.local("PRAGMA locking_mode=EXCLUSIVE"), "normal");
    let error = device.try_sql("PRAGMA page_size=8192").unwrap_err();
    assert!(error.contains("page size of a site is fixed"), "{error}");
    device.sql("PRAGMA page_size=4096; CREATE TABLE t(a); INSERT INTO t VALUES (1); VACUUM;");
    assert_eq!(device.local("SELECT a FROM t"), "1");
    device.sql("PRAGMA user_version = 7");
    assert_eq!(device.local("PRAGMA user_version"), "7");
}
