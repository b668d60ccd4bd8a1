//! After a replay, a mutation's old values are those it met.

use super::*;

fn recaptured(db: &Db, ops: Vec<Op>) -> Vec<Op> {
    let done = db.replay_all(&[rows(ops)]).pop().unwrap();
    match done.recaptured {
        Some(Mutation { body: Body::Rows(ops), foreign_keys: true, .. }) => ops,
        other => panic!("{other:?}"),
    }
}

#[test]
fn base_becomes_what_was_met() {
    let db = Db::new(TASKS);
    let ops = recaptured(
        &db,
        vec![
            update("tasks", 1, &[("n", int(4), int(5)), ("title", text("old"), text("uno"))]),
            update("tasks", 2, &[("done", int(0), int(0))]),
        ],
    );
    let met = update("tasks", 1, &[("title", text("one"), text("uno")), ("n", int(10), int(11))]);
    assert_eq!(ops, [met]);
}

#[test]
fn a_counter_is_added_once_over_many_rebases() {
    let db = Db::new(TASKS);
    let mut ops = vec![update("tasks", 1, &[("n", int(10), int(11))])];
    for _ in 0..3 {
        // Somebody else adds 5, then ours is redone on top.
        db.exec("UPDATE tasks SET n = n + 5 WHERE id = 1");
        ops = recaptured(&db, ops);
        db.exec("UPDATE tasks SET n = n - 1 WHERE id = 1");
    }
    db.applied(ops, false);
    assert_eq!(db.show("SELECT n FROM tasks WHERE id = 1"), "26");
}

#[test]
fn what_meets_no_row_is_kept_and_what_is_written_already_is_not() {
    let db = Db::new(TASKS);
    assert_eq!(recaptured(&db, vec![delete("tasks", 9)]), [delete("tasks", 9)]);
    let late = update("tasks", 9, &[("title", text("x"), text("y"))]);
    assert_eq!(recaptured(&db, vec![late.clone()]), [late]);
    let title = [("title", text("x"), text("one"))];
    assert_eq!(recaptured(&db, vec![update("tasks", 1, &title)]), []);
}

#[test]
fn a_renumbered_row_is_recaptured_under_its_new_id() {
    let db = Db::new("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'a')");
    let row = |id: i64| insert("t", id, &[("id", int(id)), ("v", text("b"))]);
    assert_eq!(recaptured(&db, vec![row(1)]), [row(2)]);
}

#[test]
fn cascades_are_part_of_it_and_name_their_tables() {
    let db = Db::new(
        "CREATE TABLE a(id INTEGER PRIMARY KEY);
         CREATE TABLE b(id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE CASCADE);
         INSERT INTO a VALUES(1); INSERT INTO b VALUES(5, 1)",
    );
    let done = db.replay_all(&[rows(vec![delete("a", 1)])]).pop().unwrap();
    assert_eq!(done.tables, ["a", "b"]);
    let Some(Mutation { body: Body::Rows(ops), .. }) = done.recaptured else { panic!() };
    let tables: Vec<_> = ops.iter().filter_map(Op::table).collect();
    assert_eq!(tables, ["b", "a"]);
}

#[test]
fn a_schema_change_and_its_rows_are_recaptured_together() {
    let db = Db::new("");
    let ddl = |sql: &str| Op::Ddl { sql: sql.to_owned() };
    let row = |v: &str| insert("t", 1, &[("id", int(1)), ("v", text(v))]);
    let first = vec![ddl("CREATE TABLE t(id INTEGER PRIMARY KEY, v)"), row("x")];
    let done = db.replay_all(&[
        rows(first.clone()),
        rows(vec![ddl("ALTER TABLE t ADD COLUMN w"), delete("t", 1)]),
        rows(vec![insert("t", 2, &[("id", int(2)), ("v", int(1)), ("w", int(2))])]),
    ]);
    assert_eq!(done[0].recaptured, Some(rows(first)));
    let old = ["id", "v", "w"].map(str::to_owned).into_iter();
    let old = old.zip([int(1), text("x"), Value::Null]).collect();
    let gone = Op::Delete { table: "t".into(), key: vec![int(1)], old };
    assert_eq!(done[1].recaptured, Some(rows(vec![ddl("ALTER TABLE t ADD COLUMN w"), gone])));
    let last = insert("t", 2, &[("id", int(2)), ("v", int(1)), ("w", int(2))]);
    assert_eq!(done[2].recaptured, Some(rows(vec![last])));
}

#[test]
fn a_rejected_mutation_leaves_nothing_in_the_capture() {
    let db = Db::new(TASKS);
    let done = db.replay_all(&[
        rows(vec![
            update("tasks", 2, &[("done", int(0), int(1))]),
            insert("tasks", 3, &[("id", int(3)), ("title", text("one"))]),
        ]),
        rows(vec![update("tasks", 1, &[("done", int(0), int(1))])]),
    ]);
    assert_eq!((&done[0].recaptured, done[0].tables.len()), (&None, 0));
    let only = update("tasks", 1, &[("done", int(0), int(1))]);
    assert_eq!(done[1].recaptured, Some(rows(vec![only])));
    assert_eq!(done[1].tables, ["tasks"]);
}
