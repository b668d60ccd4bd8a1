//! Rows of ordinary tables.

use super::*;

const T: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b);
                 INSERT INTO t VALUES(1,'one',1),(2,'two',2),(3,'three',3);";

#[test]
fn insert_update_delete_by_key() {
    check(
        T,
        &[
            "INSERT INTO t VALUES(9,'nine',9)",
            "UPDATE t SET a='TWO' WHERE id=2",
            "DELETE FROM t WHERE id=1",
        ],
        &["- t[1] id=1 a=one b=1", "~ t[2] a=two->TWO", "+ t[9] id=9 a=nine b=9"],
    );
}

#[test]
fn rows_of_a_rolled_back_savepoint_vanish() {
    check(
        T,
        &[
            "SAVEPOINT s; INSERT INTO t VALUES(4,'x',4); UPDATE t SET a='x' WHERE id=1;
           DELETE FROM t WHERE id=2; ROLLBACK TO s; RELEASE s",
            "UPDATE t SET b=10 WHERE id=1",
        ],
        &["~ t[1] b=1->10"],
    );
}

#[test]
fn a_statement_that_fails_halfway_leaves_nothing() {
    check(
        T,
        &["INSERT INTO t VALUES(7,'x',7),(8,'x',8),(1,'dup',1)", "UPDATE t SET a='y' WHERE id=3"],
        &["~ t[3] a=three->y"],
    );
    check(T, &["INSERT OR FAIL INTO t VALUES(7,'x',7),(1,'dup',1)"], &["+ t[7] id=7 a=x b=7"]);
    check(T, &["INSERT OR IGNORE INTO t VALUES(7,'x',7),(1,'dup',1)"], &["+ t[7] id=7 a=x b=7"]);
}

#[test]
fn replace_and_upsert_are_updates_of_the_row_that_was_there() {
    check(T, &["INSERT OR REPLACE INTO t VALUES(1,'new',1)"], &["~ t[1] a=one->new"]);
    check(
        T,
        &["INSERT INTO t VALUES(2,'x',5) ON CONFLICT(id) DO UPDATE SET b=excluded.b"],
        &["~ t[2] b=2->5"],
    );
    check(
        "CREATE TABLE u(id INTEGER PRIMARY KEY, k UNIQUE, v); INSERT INTO u VALUES(1,'a',1),(2,'b',2)",
        &["REPLACE INTO u VALUES(5,'a',9)", "UPDATE OR REPLACE u SET k='b' WHERE id=5"],
        &["- u[1] id=1 k=a v=1", "- u[2] id=2 k=b v=2", "+ u[5] id=5 k=b v=9"],
    );
}

#[test]
fn cascades_and_triggers_are_captured() {
    let setup = "PRAGMA foreign_keys=ON;
        CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE);
        CREATE TABLE p(id INTEGER PRIMARY KEY);
        CREATE TABLE log(what);
        CREATE TRIGGER g AFTER INSERT ON p BEGIN INSERT INTO log VALUES(new.id); END;
        INSERT INTO p VALUES(1),(2); INSERT INTO c VALUES(10,1),(11,2);";
    check(
        setup,
        &["DELETE FROM p WHERE id=1", "INSERT INTO p VALUES(3)", "INSERT INTO c VALUES(12,3)"],
        &[
            "- c[10] id=10 p=1",
            "- p[1] id=1",
            "+ log[3] what=3",
            "+ p[3] id=3",
            "+ c[12] id=12 p=3",
        ],
    );
}

#[test]
fn foreign_keys_flag_is_the_writers() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("PRAGMA foreign_keys=OFF").unwrap();
    assert!(!bench.run(&["DELETE FROM t WHERE id=1"]).unwrap().unwrap().foreign_keys);
    bench.conn.execute_batch("PRAGMA foreign_keys=ON").unwrap();
    assert!(bench.run(&["DELETE FROM t WHERE id=2"]).unwrap().unwrap().foreign_keys);
}

#[test]
fn delete_without_where_and_insert_from_select() {
    check(
        "CREATE TABLE s(x); INSERT INTO s VALUES('a'),('b')",
        &["DELETE FROM s"],
        &["- s[1] x=a", "- s[2] x=b"],
    );
    check(
        "CREATE TABLE s(k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO s VALUES('a',1),('b',2);
         CREATE TABLE d(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE e(a INTEGER PRIMARY KEY); CREATE TABLE f(a INTEGER PRIMARY KEY);
         INSERT INTO e VALUES(5)",
        &["INSERT INTO d SELECT * FROM s", "INSERT INTO f SELECT * FROM e", "DELETE FROM s"],
        &["- s[a] k=a v=1", "- s[b] k=b v=2", "+ d[a] k=a v=1", "+ d[b] k=b v=2", "+ f[5] a=5"],
    );
}

#[test]
fn what_nets_out_is_no_mutation() {
    check(T, &["UPDATE t SET a=a"], &[]);
    check(
        T,
        &[
            "UPDATE t SET a='x'",
            "UPDATE t SET a='one' WHERE id=1",
            "UPDATE t SET a='two' WHERE id=2",
            "UPDATE t SET a='three' WHERE id=3",
        ],
        &[],
    );
    check(T, &["INSERT INTO t VALUES(4,4,4)", "DELETE FROM t WHERE id=4"], &[]);
    check(T, &["DELETE FROM t WHERE id=1", "INSERT INTO t VALUES(1,'one',1)"], &[]);
    check(T, &["SELECT * FROM t"], &[]);
    let bench = Bench::new(T);
    assert!(bench.run(&["UPDATE t SET a=a"]).unwrap().is_none());
}

#[test]
fn types_count_as_changes() {
    check(
        "CREATE TABLE n(id INTEGER PRIMARY KEY, v); INSERT INTO n VALUES(1,1),(2,0.0)",
        &["UPDATE n SET v=1.0 WHERE id=1", "UPDATE n SET v=0 WHERE id=2"],
        &["~ n[1] v=1->1.0", "~ n[2] v=0.0->0"],
    );
}

#[test]
fn delete_then_insert_of_one_key_is_an_update() {
    check(
        T,
        &["DELETE FROM t WHERE id=1", "INSERT INTO t VALUES(1,'uno',1)"],
        &["~ t[1] a=one->uno"],
    );
}

#[test]
fn a_changed_key_is_delete_and_insert() {
    check(
        T,
        &["UPDATE t SET id=7 WHERE id=1"],
        &["- t[1] id=1 a=one b=1", "+ t[7] id=7 a=one b=1"],
    );
    check(T, &["UPDATE t SET id=id+10", "UPDATE t SET id=id-10"], &[]);
    // Two rows change places: each key is there before and after.
    check(
        T,
        &[
            "UPDATE t SET id=-1 WHERE id=1",
            "UPDATE t SET id=1 WHERE id=2",
            "UPDATE t SET id=2 WHERE id=-1",
        ],
        &["~ t[1] a=one->two b=1->2", "~ t[2] a=two->one b=2->1"],
    );
}

#[test]
fn declared_keys_of_tables_with_row_ids() {
    let setup =
        "CREATE TABLE d(v, k TEXT PRIMARY KEY); INSERT INTO d VALUES(1,'a'),(2,'b'),(3,'c')";
    check(setup, &["UPDATE d SET v=9 WHERE k='b'"], &["~ d[b] v=2->9"]);
    check(setup, &["UPDATE d SET k='z' WHERE k='a'"], &["- d[a] v=1 k=a", "+ d[z] v=1 k=z"]);
    // The key goes to another row id: it is the same row by its key.
    check(setup, &["DELETE FROM d WHERE k='a'", "INSERT INTO d VALUES(1,'a')"], &[]);
    check(
        setup,
        &[
            "DELETE FROM d WHERE k='c'",
            "INSERT INTO d VALUES(5,'new')",
            "REPLACE INTO d VALUES(6,'a')",
        ],
        &["- d[c] v=3 k=c", "~ d[a] v=1->6", "+ d[new] v=5 k=new"],
    );
    // Row ids are taken by others meanwhile.
    check(setup, &["UPDATE d SET rowid=rowid+10", "UPDATE d SET rowid=24-rowid"], &[]);
    check(
        setup,
        &["DELETE FROM d", "INSERT INTO d VALUES(3,'c'),(2,'b'),(7,'a')"],
        &["~ d[a] v=1->7"],
    );
    check(
        "CREATE TABLE d(v, k TEXT COLLATE NOCASE PRIMARY KEY); INSERT INTO d VALUES(1,'a')",
        &["UPDATE d SET k='A'"],
        &["- d[a] v=1 k=a", "+ d[A] v=1 k=A"],
    );
}

#[test]
fn null_in_a_declared_key_is_refused() {
    refused("CREATE TABLE d(k TEXT PRIMARY KEY, v)", &["INSERT INTO d VALUES(NULL,1)"], "NULL");
    refused(
        "CREATE TABLE d(k TEXT PRIMARY KEY, v); INSERT INTO d VALUES(NULL,1)",
        &["UPDATE d SET v=2"],
        "NULL",
    );
}

#[test]
fn composite_keys_without_row_ids() {
    let setup = "CREATE TABLE w(v, b INTEGER, a TEXT, r REAL, PRIMARY KEY(a,b,r)) WITHOUT ROWID;
                 INSERT INTO w VALUES(1,1,'x',1),(2,2,'x',1)";
    check(setup, &["UPDATE w SET v=5 WHERE b=1"], &["~ w[x,1,1.0] v=1->5"]);
    check(
        setup,
        &["DELETE FROM w", "INSERT INTO w VALUES(1,'1','x','1.0'),(3,3,4,5)"],
        &["- w[x,2,1.0] v=2 b=2 a=x r=1.0", "+ w[4,3,5.0] v=3 b=3 a=4 r=5.0"],
    );
    check(
        setup,
        &["UPDATE w SET a=5, b='7', r=8 WHERE b=2"],
        &["- w[x,2,1.0] v=2 b=2 a=x r=1.0", "+ w[5,7,8.0] v=2 b=7 a=5 r=8.0"],
    );
    check(setup, &["UPDATE w SET b=b+10", "UPDATE w SET b=b-10"], &[]);
    check(setup, &["REPLACE INTO w VALUES(9,1,'x',1)"], &["~ w[x,1,1.0] v=1->9"]);
    check(
        "CREATE TABLE w(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
           INSERT INTO w VALUES('a',1)",
        &["UPDATE w SET k='A', v=2"],
        &["- w[a] k=a v=1", "+ w[A] k=A v=2"],
    );
}

#[test]
fn tables_without_key_go_by_row_id() {
    check(
        "CREATE TABLE n(x); INSERT INTO n VALUES(1),(1)",
        &["UPDATE n SET x=2 WHERE rowid=2"],
        &["~ n[2] x=1->2"],
    );
    check(
        "CREATE TABLE n(rowid TEXT, oid); INSERT INTO n VALUES('a',1)",
        &["UPDATE n SET oid=2", "INSERT INTO n VALUES('b',3)"],
        &["~ n[1] oid=1->2", "+ n[2] rowid=b oid=3"],
    );
    refused("CREATE TABLE n(rowid, oid, _rowid_)", &["INSERT INTO n VALUES(1,2,3)"], "told apart");
    check(
        "CREATE TABLE n(id INTEGER PRIMARY KEY, rowid, oid, _rowid_)",
        &["INSERT INTO n VALUES(8,1,2,3)"],
        &["+ n[8] id=8 rowid=1 oid=2 _rowid_=3"],
    );
    check(
        "CREATE TABLE n(id INTEGER PRIMARY KEY DESC, x)",
        &["INSERT INTO n VALUES(8,1)"],
        &["+ n[8] id=8 x=1"],
    );
}

#[test]
fn generated_columns_are_left_out() {
    check(
        "CREATE TABLE g(a INTEGER PRIMARY KEY, v AS (b+1), b, s AS (b*2) STORED, c TEXT);
         INSERT INTO g(b,c) VALUES(1,'x')",
        &["UPDATE g SET b=5", "INSERT INTO g(b,c) VALUES(7,'y')"],
        &["~ g[1] b=1->5", "+ g[2] a=2 b=7 c=y"],
    );
    check(
        "CREATE TABLE g(v AS (b+1), k TEXT, b, PRIMARY KEY(k)) WITHOUT ROWID;
         INSERT INTO g VALUES('x',1)",
        &["UPDATE g SET b=5", "DELETE FROM g", "INSERT INTO g VALUES('x',6)"],
        &["~ g[x] b=1->6"],
    );
}

#[test]
fn strict_tables_blobs_and_reals() {
    check(
        "CREATE TABLE s(id INTEGER PRIMARY KEY, x ANY, r REAL, d BLOB) STRICT;
         INSERT INTO s VALUES(1,'01',2,x'00ff')",
        &["UPDATE s SET d=x'', r=3", "UPDATE s SET r=2"],
        &["~ s[1] d=x[00, ff]->x[]"],
    );
    // A column that was added later has its default in old rows, in another representation.
    check(
        "CREATE TABLE s(a); INSERT INTO s VALUES(1); ALTER TABLE s ADD COLUMN r REAL DEFAULT 1",
        &["UPDATE s SET a=2"],
        &["~ s[1] a=1->2"],
    );
}

#[test]
fn incremental_blob_writes_are_captured() {
    let bench = Bench::new(
        "CREATE TABLE b(id INTEGER PRIMARY KEY, d);
                            INSERT INTO b VALUES(1,x'000000')",
    );
    bench.conn.execute_batch("BEGIN").unwrap();
    write_blob(&bench.conn);
    let mutation = bench.capture.finish(&bench.conn).unwrap().unwrap();
    assert_eq!(lines(&mutation), ["~ b[1] d=x[00, 00, 00]->x[00, 07, 00]"]);
}

/// rusqlite's feature `blob` is not among ours.
#[expect(unsafe_code, reason = "there is no safe interface to it")]
fn write_blob(conn: &Connection) {
    use rusqlite::ffi;
    let mut blob = std::ptr::null_mut();
    // SAFETY: the connection is open, the names are C strings, the blob is closed before return.
    let codes = unsafe {
        let db = conn.handle();
        let (m, t, d) = (c"main".as_ptr(), c"b".as_ptr(), c"d".as_ptr());
        let open = ffi::sqlite3_blob_open(db, m, t, d, 1, 1, &raw mut blob);
        let write = ffi::sqlite3_blob_write(blob, [7_u8].as_ptr().cast(), 1, 1);
        [open, write, ffi::sqlite3_blob_close(blob)]
    };
    assert_eq!(codes, [0; 3]);
}

#[test]
fn text_that_is_not_utf8_is_refused_only_where_it_is_new() {
    let setup = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b);
                 INSERT INTO t VALUES(1,CAST(x'ff' AS TEXT),1)";
    check(setup, &["UPDATE t SET b=2"], &["~ t[1] b=1->2"]);
    check(setup, &["UPDATE t SET a='ok'"], &["~ t[1] a=x[ff]->ok"]);
    refused(setup, &["INSERT INTO t VALUES(2,CAST(x'fe' AS TEXT),1)"], "UTF-8");
}

#[test]
fn other_schemas_and_internal_tables_are_left_out() {
    check(
        "ATTACH ':memory:' AS aux; CREATE TABLE aux.t(x); CREATE TEMP TABLE u(x);
         CREATE TABLE m(id INTEGER PRIMARY KEY AUTOINCREMENT);
         CREATE TABLE __sheaf_timelines(timeline BLOB PRIMARY KEY, seq) WITHOUT ROWID;
         CREATE TABLE __sheaf_mutators(name TEXT PRIMARY KEY, sql TEXT NOT NULL) WITHOUT ROWID",
        &[
            "INSERT INTO t VALUES(1)",
            "INSERT INTO u VALUES(1)",
            "INSERT INTO __sheaf_timelines VALUES(x'01',1)",
            "INSERT INTO __sheaf_mutators VALUES('m','s')",
            "INSERT INTO m DEFAULT VALUES",
            "ANALYZE",
        ],
        &["+ __sheaf_mutators[m] name=m sql=s", "+ m[1] id=1"],
    );
}

#[test]
fn children_are_deleted_first_and_inserted_last() {
    let setup = "CREATE TABLE a(id INTEGER PRIMARY KEY, z REFERENCES z);
                 CREATE TABLE m(id INTEGER PRIMARY KEY, a REFERENCES a);
                 CREATE TABLE z(id INTEGER PRIMARY KEY); PRAGMA foreign_keys=OFF;
                 INSERT INTO a VALUES(1,1); INSERT INTO m VALUES(1,1); INSERT INTO z VALUES(1)";
    check(
        setup,
        &[
            "DELETE FROM z",
            "DELETE FROM a",
            "DELETE FROM m",
            "INSERT INTO m VALUES(2,2)",
            "INSERT INTO a VALUES(2,2)",
            "INSERT INTO z VALUES(2)",
        ],
        &[
            "- m[1] id=1 a=1",
            "- a[1] id=1 z=1",
            "- z[1] id=1",
            "+ z[2] id=2",
            "+ a[2] id=2 z=2",
            "+ m[2] id=2 a=2",
        ],
    );
}

#[test]
fn rollback_forgets_and_a_commit_that_nobody_reported_too() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN; UPDATE t SET a='x' WHERE id=1; ROLLBACK").unwrap();
    assert!(bench.capture.is_empty());
    bench.conn.execute_batch("BEGIN; UPDATE t SET a='x' WHERE id=1; COMMIT").unwrap();
    bench.conn.execute_batch("BEGIN; UPDATE t SET a='y' WHERE id=1").unwrap();
    let mutation = bench.capture.finish(&bench.conn).unwrap().unwrap();
    assert_eq!(lines(&mutation), ["~ t[1] a=x->y"]);
    // A second BEGIN fails and ends nothing.
    assert!(bench.conn.execute_batch("BEGIN").is_err());
    assert_eq!(bench.capture.tables(), ["t"]);
    bench.conn.execute_batch("COMMIT").unwrap();
    bench.capture.clear();
    bench.capture.set_enabled(false);
    bench.conn.execute_batch("DELETE FROM t").unwrap();
    assert!(bench.capture.is_empty());
}

#[test]
fn the_mutation_is_complete_inside_the_commit_for_a_second_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut conn = Connection::open(&path).unwrap();
    let capture = Capture::install(&mut conn).unwrap();
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a)").unwrap();
    capture.clear();
    capture.note_schema(&conn).unwrap();
    conn.execute_batch("INSERT INTO t VALUES(1,2)").unwrap();
    let reader = Connection::open(&path).unwrap();
    let mutation = capture.finish(&reader).unwrap().unwrap();
    assert_eq!(lines(&mutation), ["+ t[1] id=1 a=2"]);
}

#[test]
fn a_large_insert_is_one_run() {
    let bench = Bench::new("CREATE TABLE big(id INTEGER PRIMARY KEY, v TEXT)");
    let mutation = bench
        .run(&["INSERT INTO big WITH RECURSIVE n(i) AS
                (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200000) SELECT i, 'v'||i FROM n"])
        .unwrap()
        .unwrap();
    let Body::Rows(ops) = &mutation.body else { panic!() };
    assert_eq!(ops.len(), 200_000);
    assert_eq!(line(&ops[199_999]), "+ big[200000] id=200000 v=v200000");
    assert_eq!(
        bench.run(&["UPDATE big SET v='x' WHERE id%2=0"]).unwrap().map(|m| lines(&m).len()),
        Some(100_000)
    );
}

#[test]
fn a_panic_in_a_callback_fails_the_commit() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN; UPDATE t SET a='x' WHERE id=1").unwrap();
    let shared = &bench.capture.shared;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = shared.lock();
        panic!("in a callback");
    }));
    assert!(panicked.is_err());
    let error = bench.capture.finish(&bench.conn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    bench.conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.lines(&["UPDATE t SET a='y' WHERE id=1"]), ["~ t[1] a=one->y"]);
}

#[test]
fn a_connection_may_close_in_the_middle_and_the_handle_live_on() {
    let bench = Bench::new(T);
    bench.conn.execute_batch("BEGIN; UPDATE t SET a='x' WHERE id=1").unwrap();
    let Bench { conn, capture } = bench;
    drop(conn);
    assert_eq!(capture.tables(), ["t"]);
}

#[test]
fn no_schema_noted_is_an_error() {
    let mut conn = Connection::open_in_memory().unwrap();
    let capture = Capture::install(&mut conn).unwrap();
    conn.execute_batch("BEGIN; CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
    assert_eq!(capture.finish(&conn).unwrap_err().kind(), ErrorKind::Internal);
}
