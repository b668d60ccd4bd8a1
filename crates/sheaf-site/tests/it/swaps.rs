//! Rows that exchange values of a unique column: SQLite looks at every statement alone, a merge
//! must not.

use crate::support::{Device, World, assert_converged};

/// B has changed something meanwhile, and learns what A did as a prediction before the log decides.
fn meet(a: &Device, b: &Device) -> Vec<(u64, String)> {
    let done = a.exchange();
    assert_eq!(done.rejected, []);
    b.pull();
    let done = b.exchange();
    a.exchange();
    assert_converged(&[a, b]);
    done.rejected
}

#[test]
fn rows_exchange_what_only_one_of_them_may_have() {
    for (schema, swap, query, expected) in [
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE, w); INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0)",
            "BEGIN; UPDATE t SET v = NULL WHERE id = 1; UPDATE t SET v = 'a' WHERE id = 2;
             UPDATE t SET v = 'b' WHERE id = 1; COMMIT",
            "SELECT v, w FROM t ORDER BY id",
            "b|1;a|1",
        ),
        (
            // Three go round, and neither NULL nor any other type nor another length will do.
            "CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT NOT NULL UNIQUE CHECK (length(v) = 1), w INT)
             STRICT, WITHOUT ROWID;
             INSERT INTO t VALUES ('x', 'a', 0), ('y', 'b', 0), ('z', 'c', 0)",
            "BEGIN; UPDATE t SET v = '-' WHERE id = 'x'; UPDATE t SET v = 'a' WHERE id = 'z';
             UPDATE t SET v = 'c' WHERE id = 'y'; UPDATE t SET v = 'b' WHERE id = 'x'; COMMIT",
            "SELECT v, w FROM t ORDER BY id",
            "b|1;c|1;a|1",
        ),
        (
            // Two pairs, and one that joins at a place that becomes free.
            "CREATE TABLE t(id INTEGER PRIMARY KEY, l INT, p INT NOT NULL, w, UNIQUE (l, p));
             INSERT INTO t VALUES (1, 1, 1, 0), (2, 1, 2, 0), (3, 2, 1, 0), (4, 2, 2, 0), (5, 2, 3, 0)",
            "BEGIN; UPDATE t SET p = -p; UPDATE t SET p = 3 + p WHERE l = 1;
             UPDATE t SET p = 5 + p WHERE l = 2; INSERT INTO t VALUES (6, 2, 1, 0); COMMIT",
            "SELECT l, p, w FROM t ORDER BY id",
            "1|2|1;1|1|1;2|4|1;2|3|1;2|2|1;2|1|0",
        ),
        (
            // Children follow the parent's name, and each the right one.
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v REAL NOT NULL UNIQUE, w);
             CREATE TABLE c(id INTEGER PRIMARY KEY, v REFERENCES t(v) ON UPDATE CASCADE);
             INSERT INTO t VALUES (1, 1.5, 0), (2, 2.5, 0); INSERT INTO c VALUES (1, 1.5), (2, 2.5)",
            "BEGIN; UPDATE t SET v = 0 WHERE id = 1; UPDATE t SET v = 1.5 WHERE id = 2;
             UPDATE t SET v = 2.5 WHERE id = 1; COMMIT",
            "SELECT t.v, w, group_concat(c.id) FROM t JOIN c USING (v) GROUP BY t.id",
            "2.5|1|1;1.5|1|2",
        ),
    ] {
        let [a, b] = World::new().devices(schema);
        a.sql("UPDATE t SET w = 1");
        b.sql(swap);
        assert_eq!(meet(&a, &b), [], "{swap}");
        assert_eq!(a.local(query), expected, "{swap}");
        assert_eq!(a.local("PRAGMA integrity_check"), "ok");
        assert_eq!(a.local("PRAGMA foreign_key_check"), "");
    }
}

#[test]
fn a_value_that_somebody_else_has_taken_meanwhile_is_a_conflict_still() {
    let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, v INT NOT NULL UNIQUE CHECK (v > 0));
        INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)";
    let [a, b] = World::new().devices(schema);
    a.sql("BEGIN; UPDATE t SET v = 4 WHERE id = 2; UPDATE t SET v = 2 WHERE id = 3; COMMIT");
    b.sql(
        "BEGIN; UPDATE t SET v = 9 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2;
           UPDATE t SET v = 2 WHERE id = 1; COMMIT",
    );
    let rejected = meet(&a, &b);
    let [(_, why)] = &rejected[..] else { panic!("{rejected:?}") };
    assert!(why.contains("t 1: UNIQUE constraint failed: t.v"), "{why}");
    assert_eq!(a.local("SELECT v FROM t ORDER BY id"), "1;4;2");
}

#[test]
fn a_child_of_a_value_that_is_gone_after_the_exchange_is_noticed() {
    // Row 3 waits for what row 1 frees, which waits for row 2: all three are set aside, and the
    // value that row 3 gives up is nobody's any more.
    let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE, u UNIQUE);
        CREATE TABLE c(id INTEGER PRIMARY KEY, v REFERENCES t(v));
        INSERT INTO t VALUES (1, 'a', 'p'), (2, 'b', 'o'), (3, 'z', 'r')";
    let swap = "BEGIN; UPDATE t SET v = NULL WHERE id = 1; UPDATE t SET v = 'a' WHERE id = 2;
        UPDATE t SET v = 'b', u = 'q' WHERE id = 1; UPDATE t SET v = 'y', u = 'p' WHERE id = 3;
        COMMIT";
    for (child, expected) in
        [("a", None), ("z", Some("foreign key (v) refers to t 'z', which does not exist"))]
    {
        let [a, b] = World::new().devices(schema);
        a.sql(&format!("INSERT INTO c VALUES (1, '{child}')"));
        b.sql(swap);
        let rejected = meet(&a, &b);
        let why = rejected.first().map_or("", |(_, why)| why);
        assert_eq!(rejected.is_empty(), expected.is_none(), "{why}");
        assert!(why.contains(expected.unwrap_or_default()), "{why}");
        assert_eq!(a.local("PRAGMA foreign_key_check"), "");
    }
}
