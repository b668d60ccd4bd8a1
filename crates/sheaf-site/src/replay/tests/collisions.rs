//! Inserts that meet inserts, and references that follow.

use super::*;

const LISTS: &str = "
    CREATE TABLE lists(id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE items(id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists(id), title TEXT);
    CREATE TABLE tags(list INTEGER REFERENCES lists, tag TEXT, PRIMARY KEY(list, tag)) WITHOUT ROWID;
    INSERT INTO lists VALUES(1, 'theirs');
    INSERT INTO items VALUES(1, 1, 'their item');";

fn list(id: i64, name: &str) -> Op {
    insert("lists", id, &[("id", int(id)), ("name", text(name))])
}

fn item(id: i64, list: i64, title: &str) -> Op {
    insert("items", id, &[("id", int(id)), ("list", int(list)), ("title", text(title))])
}

fn tag(list: i64, tag: &str) -> Op {
    Op::Insert {
        table: "tags".into(),
        key: vec![int(list), text(tag)],
        cols: vec![("list".into(), int(list)), ("tag".into(), text(tag))],
    }
}

#[test]
fn equal_row_ids_are_renumbered_and_children_follow() {
    let db = Db::new(LISTS);
    db.applied(vec![list(1, "ours"), item(1, 1, "our item"), tag(1, "x")], true);
    assert_eq!(db.show("SELECT * FROM lists"), "1,theirs;2,ours");
    assert_eq!(db.show("SELECT * FROM items"), "1,1,their item;2,2,our item");
    assert_eq!(db.show("SELECT * FROM tags"), "2,x");
    // Later mutations of that author still say 1, in this pass and in later ones.
    let rename = || update("lists", 1, &[("name", text("ours"), text("mine"))]);
    let done = db.replay(&[rows(vec![rename(), item(7, 1, "late")])]);
    assert_eq!(done, [Outcome::Applied { merged: false }]);
    let retag = Op::Delete { table: "tags".into(), key: vec![int(1), text("x")], old: vec![] };
    db.applied(vec![retag, delete("items", 1)], false);
    assert_eq!(db.show("SELECT * FROM lists"), "1,theirs;2,mine");
    assert_eq!(db.show("SELECT * FROM items"), "1,1,their item;7,2,late");
    assert_eq!(db.show("SELECT * FROM tags"), "");
    // An author who has seen the renumbering means the other row.
    let mut db = db;
    db.ctx.base = db.ctx.target;
    db.applied(vec![update("lists", 1, &[("name", text("theirs"), text("seen"))])], false);
    assert_eq!(db.show("SELECT * FROM lists"), "1,seen;2,mine");
    // So does another timeline.
    db.ctx.base = Lsn(1);
    db.ctx.timeline = TimelineId::from_bytes([9; 16]);
    db.applied(vec![update("lists", 1, &[("name", text("seen"), text("other"))])], false);
    assert_eq!(db.show("SELECT * FROM lists"), "1,other;2,mine");
}

#[test]
fn a_prediction_renumbers_without_telling_the_log() {
    let mut db = Db::new(LISTS);
    db.ctx.authority = false;
    let outcomes = db.replay(&[rows(vec![list(1, "ours")]), rows(vec![item(5, 1, "child")])]);
    assert_eq!(outcomes[0], Outcome::Applied { merged: true });
    assert_eq!(db.show("SELECT list FROM items WHERE id = 5"), "2");
    assert_eq!(db.show("SELECT count(*) FROM sqlite_schema WHERE name = '__sheaf_remap'"), "0");
}

#[test]
fn a_refused_row_is_not_somebody_elses() {
    let mut db = Db::new(LISTS);
    let outcomes = db.replay(&[
        rows(vec![list(1, "ours"), item(3, 77, "orphan")]),
        rows(vec![update("lists", 1, &[("name", text("ours"), text("edited"))])]),
        rows(vec![delete("lists", 1)]),
        rows(vec![item(8, 1, "of ours")]),
    ]);
    assert!(matches!(outcomes[0], Outcome::Rejected { .. }));
    assert_eq!(outcomes[1..3], [const { Outcome::Applied { merged: true } }; 2]);
    let Outcome::Rejected { reason } = &outcomes[3] else { panic!("{outcomes:?}") };
    assert!(reason.contains("refers to lists 1, which was refused"), "{reason}");
    // So it is in later passes, until its author uses the number again.
    db.rejected(vec![tag(1, "x")], "refers to lists 1, which was refused");
    db.exec("DELETE FROM items; DELETE FROM lists");
    db.applied(vec![list(1, "again"), tag(1, "y")], false);
    db.applied(vec![tag(1, "z")], false);
    assert_eq!(db.show("SELECT * FROM tags"), "1,y;1,z");
    // An author who knows means what is there.
    db.ctx.base = db.ctx.target;
    db.applied(vec![update("lists", 1, &[("name", text("again"), text("seen"))])], false);
    assert_eq!(db.show("SELECT * FROM lists"), "1,seen");
}

#[test]
fn rows_that_look_alike_are_not_lost() {
    let db = Db::new("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'a')");
    let row = |id: i64| insert("t", id, &[("id", int(id)), ("v", text("x"))]);
    // The first becomes 2, which the author's own second row is called.
    let outcomes = db.replay(&[rows(vec![row(1)]), rows(vec![row(2)])]);
    assert_eq!(outcomes, vec![Outcome::Applied { merged: true }; 2]);
    assert_eq!(db.show("SELECT * FROM t"), "1,a;2,x;3,x");
    // The author deletes their second: it is 3 here.
    db.applied(vec![delete("t", 2)], false);
    assert_eq!(db.show("SELECT * FROM t"), "1,a;2,x");
}

#[test]
fn one_mutations_inserts_do_not_push_each_other_aside() {
    let db = Db::new("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'a')");
    let row = |id: i64| insert("t", id, &[("id", int(id)), ("v", text("x"))]);
    db.applied(vec![row(1), row(2), row(3)], true);
    assert_eq!(db.show("SELECT * FROM t"), "1,a;2,x;3,x;4,x");
}

#[test]
fn autoincrement_never_reuses_an_id() {
    let db = Db::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v);
         INSERT INTO t VALUES(1, 'a'), (50, 'gone'); DELETE FROM t WHERE id = 50",
    );
    db.applied(vec![insert("t", 1, &[("id", int(1)), ("v", text("b"))])], true);
    assert_eq!(db.show("SELECT * FROM t"), "1,a;51,b");
}

#[test]
fn identical_rows_are_inserted_once() {
    let db = Db::new(LISTS);
    db.applied(vec![list(1, "theirs"), tag(1, "x")], false);
    db.applied(vec![tag(1, "x")], false);
    assert_eq!(db.show("SELECT * FROM lists"), "1,theirs");
    assert_eq!(db.show("SELECT * FROM tags"), "1,x");
}

#[test]
fn other_keys_become_one_row_column_by_column() {
    let db = Db::new(
        "CREATE TABLE t(k TEXT PRIMARY KEY, n COUNTER_INT, first FWW_TEXT, last TEXT, rest TEXT);
         INSERT INTO t VALUES('a', 2, 'ada', 'ada', 'kept')",
    );
    let cols = [("k", text("a")), ("n", int(3)), ("first", text("bob")), ("last", text("bob"))];
    db.applied(vec![insert("t", "a", &cols)], true);
    assert_eq!(db.show("SELECT * FROM t"), "a,5,ada,bob,kept");
}

#[test]
fn tables_without_a_key_renumber_their_rowid() {
    let db = Db::new("CREATE TABLE log(line TEXT); INSERT INTO log VALUES('theirs')");
    db.applied(vec![insert("log", 1, &[("line", text("ours"))])], true);
    db.applied(vec![update("log", 1, &[("line", text("ours"), text("mine"))])], false);
    assert_eq!(db.show("SELECT rowid, line FROM log"), "1,theirs;2,mine");
}

#[test]
fn foreign_keys_are_checked_when_a_mutation_ends() {
    let db = Db::new(LISTS);
    // The child comes first, and that is fine.
    db.applied(vec![item(2, 2, "early"), list(2, "late")], false);
    db.rejected(
        vec![item(3, 99, "orphan")],
        "items 3: foreign key (list) refers to lists 99, which is gone",
    );
    db.rejected(
        vec![delete("lists", 1)],
        "items 1: FOREIGN KEY constraint failed: foreign key (list) refers to lists 1",
    );
    assert_eq!(db.show("SELECT count(*) FROM items"), "2");
    let loose = Mutation { foreign_keys: false, ..rows(vec![item(3, 99, "orphan")]) };
    assert_eq!(db.replay(&[loose]), [Outcome::Applied { merged: false }]);
    // An old orphan is nobody's fault now.
    db.applied(vec![item(4, 1, "fine")], false);
}

#[test]
fn an_orphan_follows_the_declared_action() {
    let db = Db::new(
        "CREATE TABLE a(id INTEGER PRIMARY KEY);
         CREATE TABLE b(id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE CASCADE);
         CREATE TABLE c(id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE SET NULL);
         CREATE TABLE d(id INTEGER PRIMARY KEY, b REFERENCES b ON DELETE CASCADE)",
    );
    let child = |table: &str, parent: &str| insert(table, 1, &[("id", int(1)), (parent, int(9))]);
    let grandchild = insert("d", 1, &[("id", int(1)), ("b", int(1))]);
    db.applied(vec![child("b", "a"), child("c", "a"), grandchild], true);
    assert_eq!(db.show("SELECT * FROM b"), "");
    assert_eq!(db.show("SELECT * FROM c"), "1,-");
    assert_eq!(db.show("SELECT * FROM d"), "");
    // Cascades work although triggers are off.
    db.exec("INSERT INTO a VALUES(1); INSERT INTO b VALUES(5, 1)");
    db.applied(vec![delete("a", 1)], false);
    assert_eq!(db.show("SELECT * FROM b"), "");
}
