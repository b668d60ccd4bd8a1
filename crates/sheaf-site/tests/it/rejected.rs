//! What the author of a rejected mutation is told: which row, which columns, and why.

use crate::support::{Device, World};

/// What a device is told after another one's work was first: table, key, columns; reason.
fn told(schema: &str, first: &str, second: &str) -> (String, String) {
    let [a, b] = World::new().devices(schema);
    a.sql(first);
    b.sql(second);
    a.exchange();
    b.exchange();
    the_one(&b)
}

fn the_one(device: &Device) -> (String, String) {
    let rejected = device.site.rejected();
    let [rejected] = &rejected[..] else { panic!("{rejected:?}") };
    let row = rejected.row.as_ref().unwrap_or_else(|| panic!("{rejected:?}"));
    let key = row.key.as_deref().unwrap_or("?");
    let row = format!("{} {key} ({})", row.table, row.columns.join(", "));
    (row, rejected.reason.clone())
}

fn check(schema: &str, first: &str, second: &str, row: &str, reason: &str) {
    let told = told(schema, first, second);
    assert_eq!((told.0.as_str(), told.1.as_str()), (row, reason));
}

#[test]
fn a_unique_constraint_names_the_row_and_its_columns() {
    check(
        "CREATE TABLE seat(id TEXT PRIMARY KEY NOT NULL, row INT, no INT, UNIQUE(row, no))",
        "INSERT INTO seat VALUES ('ann', 3, 7)",
        "INSERT INTO seat VALUES ('eve', 1, 1), ('bob', 3, 7)",
        "seat 'bob' (row, no)",
        "seat 'bob': UNIQUE constraint failed: seat.row, seat.no",
    );
}

#[test]
fn a_check_names_the_row_and_what_was_changed_in_it() {
    check(
        "CREATE TABLE acc(id INTEGER PRIMARY KEY, v COUNTER_INT CHECK (v >= 0), w);
         INSERT INTO acc VALUES (1, 5, 0)",
        "UPDATE acc SET v = v - 4",
        "UPDATE acc SET v = v - 4",
        "acc 1 (v)",
        "acc 1: CHECK constraint failed: v >= 0",
    );
}

#[test]
fn a_not_null_constraint_names_the_row_and_its_column() {
    check(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "DROP TABLE t; CREATE TABLE t(id INTEGER PRIMARY KEY, v NOT NULL)",
        "INSERT INTO t VALUES (4, NULL)",
        "t 4 (v)",
        "t 4: NOT NULL constraint failed: t.v",
    );
}

#[test]
fn a_foreign_key_names_the_child_row() {
    let schema = "CREATE TABLE p(id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2);
        CREATE TABLE c(a TEXT, b INT, p INT REFERENCES p(id), PRIMARY KEY(a, b)) WITHOUT ROWID";
    let (child, parent) = ("INSERT INTO c VALUES ('x', 9, 2)", "DELETE FROM p WHERE id = 2");
    // One's own child whose parent somebody deleted; somebody's child whose parent one deletes.
    check(
        schema,
        parent,
        child,
        "c 'x',9 (p)",
        "c 'x',9: foreign key (p) refers to p 2, which is gone",
    );
    check(
        schema,
        child,
        parent,
        "c 'x',9 (p)",
        "c 'x',9: FOREIGN KEY constraint failed: foreign key (p) refers to p 2, which does not exist",
    );
}

#[test]
fn a_call_names_what_its_replay_knows() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE seat(id TEXT PRIMARY KEY NOT NULL, no INT UNIQUE)");
    a.site.define_mutator("take", "INSERT INTO seat VALUES (:id, :no)").unwrap();
    a.exchange();
    b.exchange();
    let take = |device: &Device, id: &str| {
        device.site.mutate("take", &serde_json::json!({ "id": id, "no": 7 })).unwrap();
    };
    take(&a, "ann");
    take(&b, "bob");
    a.exchange();
    b.exchange();
    let (row, reason) = the_one(&b);
    assert_eq!(row, "seat ? (no)", "SQLite does not say of which row");
    assert_eq!(reason, "UNIQUE constraint failed: seat.no");
}

#[test]
fn a_call_names_the_row_whose_parent_is_gone() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2);
         CREATE TABLE c(id TEXT PRIMARY KEY NOT NULL, p INT REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
    );
    a.site.define_mutator("put", "INSERT INTO c VALUES (:id, :p)").unwrap();
    a.exchange();
    b.exchange();
    a.sql("DELETE FROM p WHERE id = 2");
    b.sql("PRAGMA foreign_keys = ON");
    b.site.mutate("put", &serde_json::json!({ "id": "x", "p": 2 })).unwrap();
    a.exchange();
    b.exchange();
    assert_eq!(the_one(&b).0, "c 'x' (p)");
}

#[test]
fn a_reason_without_a_row_names_none() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(v)");
    a.exchange();
    b.exchange();
    a.sql("DROP TABLE t");
    b.sql("INSERT INTO t VALUES (1)");
    a.exchange();
    b.exchange();
    let rejected = b.site.rejected();
    assert_eq!((rejected.len(), &rejected[0].row), (1, &None), "{rejected:?}");
}
