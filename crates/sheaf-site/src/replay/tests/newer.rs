//! Rules and policies that a newer version has stored.

use super::*;

const RULES: &str =
    "CREATE TABLE __sheaf_rules(tbl, col, rule, PRIMARY KEY(tbl, col)) WITHOUT ROWID";

fn db(rules: &str) -> Db {
    let db = Db::new(TASKS);
    db.exec(&format!("{RULES}; INSERT INTO __sheaf_rules VALUES {rules}"));
    db
}

fn undecided(db: &Db, op: Op, expected: &str) {
    match db.one(vec![op]) {
        Outcome::Undecided { reason } => assert!(reason.contains(expected), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_rule_stops_only_what_needs_it() {
    let db = db("('tasks', 'done', 'blend@3'), ('tasks', 'nothing', 'lww')");
    db.applied(vec![update("tasks", 1, &[("done", int(0), int(1))])], false);
    db.applied(vec![update("tasks", 1, &[("title", text("one"), text("uno"))])], false);
    db.applied(vec![insert("tasks", 3, &[("id", int(3)), ("done", int(7))])], false);
    let why = "tasks 1: column done has merge rule `blend@3`, which this version of sheaf does \
               not know; upgrade";
    undecided(&db, update("tasks", 1, &[("done", int(0), int(2))]), why);
    // Not even where both wrote the same: two equal increments are two under `counter`.
    undecided(&db, update("tasks", 1, &[("done", int(0), int(1))]), why);
    assert_eq!(db.show("SELECT done FROM tasks WHERE id = 1"), "1");
}

#[test]
fn what_cannot_be_decided_leaves_nothing_behind() {
    let db = db("('tasks', 'done', 'blend')");
    let ops = vec![
        insert("tasks", 1, &[("id", int(1)), ("title", text("new"))]),
        update("tasks", 2, &[("done", int(5), int(6))]),
    ];
    let outcomes =
        db.replay(&[rows(ops), rows(vec![update("tasks", 1, &[("n", int(10), int(11))])])]);
    assert!(matches!(outcomes[0], Outcome::Undecided { .. }), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Applied { merged: false });
    assert_eq!(db.show("SELECT id, n FROM tasks"), "1,11;2,0");
    assert_eq!(db.show("SELECT count(*) FROM sqlite_schema WHERE name = '__sheaf_remap'"), "0");
}

#[test]
fn an_unknown_policy_stops_only_what_needs_it() {
    let db = db("('tasks', '*', 'ask-first')");
    let gone = |id: i64, done: i64| Op::Delete {
        table: "tasks".into(),
        key: vec![int(id)],
        old: vec![("done".into(), int(done))],
    };
    db.applied(vec![update("tasks", 1, &[("done", int(0), int(1))])], false);
    let why = "table tasks has row policy `ask-first`";
    undecided(&db, gone(1, 0), why);
    db.applied(vec![gone(2, 0)], false);
    db.applied(vec![gone(2, 0)], false);
    undecided(&db, update("tasks", 2, &[("done", int(0), int(1))]), why);
    assert_eq!(db.show("SELECT id FROM tasks"), "1");
}
