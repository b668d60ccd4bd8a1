//! What waits on a device, in SQL and as values.

use serde_json::json;
use sheaf_site::{Value, View, Waiting};

use crate::support::World;

#[test]
fn rows_and_cells_wait_until_the_log_has_decided() {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(a TEXT, b INT, v TEXT, w TEXT, PRIMARY KEY(a, b)) WITHOUT ROWID");
    a.sql("INSERT INTO t VALUES ('x', 1, 'v', 'w'), ('x', 2, 'v', 'w')");
    let all = "SELECT b, sheaf_pending('T', a, b) FROM t";
    assert_eq!(a.local(all), "1|1;2|1");
    a.exchange();
    assert_eq!(a.local(all), "1|0;2|0");

    a.sql("UPDATE t SET w = 'new' WHERE b = 2");
    assert_eq!(a.local(all), "1|0;2|1");
    let cells =
        "SELECT sheaf_pending_cell('t', 'v', a, b), sheaf_pending_cell('t', 'W', a, b) FROM t";
    assert_eq!(a.local(cells), "0|0;0|1");
    // It is about this device, whatever the view.
    assert_eq!(a.rows(View::Global, all), "1|0;2|1");
    let pending = a.site.pending().unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].info.summary, "update t 'x',2 (w)");
    assert!(!pending[0].is_sent && pending[0].failing.is_none());
    let rows = pending[0].rows.clone().unwrap();
    assert_eq!(
        (rows[0].table.as_str(), rows[0].key.clone()),
        ("t", vec!["x".into(), Value::Int(2)])
    );
    a.site.outbox(0, 1_000).unwrap();
    assert!(a.site.pending().unwrap()[0].is_sent);

    a.sql("DELETE FROM t WHERE b = 1");
    assert_eq!(a.site.waiting("t", &["x".into(), Value::Int(1)]).unwrap(), Waiting::Yes);
    a.exchange();
    assert_eq!(a.site.waiting("t", &["x".into(), Value::Int(1)]).unwrap(), Waiting::No);
    assert!(a.site.pending().unwrap().is_empty());
}

#[test]
fn a_transaction_that_was_rolled_back_waits_for_nothing() {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    a.exchange();
    a.sql("BEGIN; INSERT INTO t VALUES (1, 1); ROLLBACK");
    a.sql(
        "BEGIN; INSERT INTO t VALUES (2, 1); SAVEPOINT s; INSERT INTO t VALUES (3, 1);
           ROLLBACK TO s; COMMIT",
    );
    let each = "SELECT sheaf_pending('t', value) FROM json_each('[1, 2, 3]')";
    assert_eq!(a.local(each), "0;1;0");
}

/// The row is asked for by the number that the local view shows, which changes with the rebase.
#[test]
fn a_renumbered_row_waits_under_the_number_that_is_shown() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT)");
    a.exchange();
    b.exchange();
    a.sql("INSERT INTO t VALUES (1, 'a')");
    a.exchange();
    b.sql("INSERT INTO t VALUES (1, 'b')");
    b.sql("UPDATE t SET who = 'b still' WHERE id = 1");
    let each = "SELECT id, who, sheaf_pending('t', id) FROM t ORDER BY id";
    assert_eq!(b.local(each), "1|b still|1");
    b.pull();
    assert_eq!(b.local(each), "1|a|0;2|b still|1");
    b.sql("UPDATE t SET who = 'a too' WHERE id = 1");
    assert_eq!(b.local(each), "1|a too|1;2|b still|1");
    b.sql("UPDATE t SET who = 'mine' WHERE id = 2");
    b.exchange();
    assert_eq!(b.local(each), "1|a too|0;2|mine|0");
}

/// What fails for now keeps the numbers it was made with, which may be somebody else's by then.
#[test]
fn a_row_that_is_not_shown_does_not_make_its_neighbour_wait() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT UNIQUE)");
    a.exchange();
    b.exchange();
    a.sql("INSERT INTO t VALUES (1, 'same')");
    a.exchange();
    b.sql("INSERT INTO t VALUES (1, 'same'), (2, 'b')");
    b.sql("UPDATE t SET who = 'other' WHERE id = 1");
    b.sql("INSERT INTO t VALUES (5, 'fine')");
    // The rows 1 are alike, so they are one; the change of it waits all the same.
    b.pull();
    assert_eq!(b.local("SELECT id, sheaf_pending('t', id) FROM t ORDER BY id"), "1|1;2|1;5|1");

    let c = world.device();
    c.exchange();
    a.sql("INSERT INTO t VALUES (7, 'taken')");
    a.exchange();
    c.sql("INSERT INTO t VALUES (7, 'c'), (8, 'taken')");
    c.pull();
    let pending = c.site.pending().unwrap();
    assert!(pending[0].failing.as_deref().unwrap().contains("UNIQUE"), "{pending:?}");
    assert_eq!(c.local("SELECT id, who, sheaf_pending('t', id) FROM t WHERE id > 5"), "7|taken|0");
}

#[test]
fn a_call_waits_with_the_rows_it_changed_here() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE acc(id INTEGER PRIMARY KEY, v INT)");
    a.sql("CREATE TABLE log(id INTEGER PRIMARY KEY, what TEXT)");
    a.sql("CREATE TRIGGER tr AFTER UPDATE ON acc BEGIN INSERT INTO log(what) VALUES (new.id); END");
    a.sql("INSERT INTO acc VALUES (1, 50), (2, 50)");
    a.site
        .define_mutator(
            "take",
            "SELECT sheaf_reject('empty') WHERE (SELECT v FROM acc WHERE id = :id) < 1;
             UPDATE acc SET v = v - :n WHERE id = :id",
        )
        .unwrap();
    a.exchange();
    b.exchange();
    b.site.mutate("take", &json!({"id": 2, "n": 50})).unwrap();
    let each = "SELECT sheaf_pending('acc', id), sheaf_pending_cell('acc', 'v', id) FROM acc";
    assert_eq!(b.local(each), "0|0;1|1");
    assert_eq!(b.local("SELECT sheaf_pending('log', id) FROM log"), "1");
    // Redone, it is asked again what it does.
    a.sql("UPDATE acc SET v = 51 WHERE id = 1");
    a.exchange();
    b.pull();
    assert_eq!(b.local(each), "0|0;1|1");
    // Where it fails for now, nobody can tell what it will do.
    a.sql("UPDATE acc SET v = 0 WHERE id = 2");
    a.exchange();
    b.pull();
    assert_eq!(b.local(each), "NULL|NULL;NULL|NULL");
    assert_eq!(b.site.pending().unwrap()[0].failing.as_deref(), Some("empty"));
    b.sql("UPDATE acc SET v = 9 WHERE id = 1");
    assert_eq!(b.local(each), "1|1;NULL|NULL");
    b.exchange();
    assert_eq!(b.local(each), "0|0;0|0");
}

#[test]
fn after_opening_rows_are_known_and_calls_are_not() {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    a.site.define_mutator("add", "INSERT INTO t(v) VALUES (:v)").unwrap();
    a.exchange();
    a.sql("INSERT INTO t VALUES (1, 1)");
    let dir = a.dir.clone();
    drop(a);
    let a = world.open(dir, 1);
    assert_eq!(a.local("SELECT sheaf_pending('t', 1), sheaf_pending('t', 2)"), "1|0");
    a.site.mutate("add", &json!({"v": 2})).unwrap();
    assert_eq!(a.local("SELECT sheaf_pending('t', 2), sheaf_pending('t', 3)"), "1|0");
    let dir = a.dir.clone();
    drop(a);
    let a = world.open(dir, 1);
    assert_eq!(a.local("SELECT sheaf_pending('t', 1), sheaf_pending('t', 2)"), "1|NULL");
    a.site.redo().unwrap();
    assert_eq!(a.local("SELECT sheaf_pending('t', 2), sheaf_pending('t', 3)"), "1|0");
}

#[test]
fn mutators_cannot_ask_what_waits() {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    a.site.define_mutator("ask", "INSERT INTO t(v) SELECT sheaf_pending('t', 1)").unwrap();
    let error = a.site.mutate("ask", &json!({})).unwrap_err();
    assert!(error.to_string().contains("not for mutators"), "{error}");
    assert!(a.try_sql("SELECT sheaf_pending('t')").is_err());
}
