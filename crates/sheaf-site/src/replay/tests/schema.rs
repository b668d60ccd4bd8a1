//! Schema changes and virtual tables.

use super::*;

fn ddl(sql: &str) -> Op {
    Op::Ddl { sql: sql.to_owned() }
}

#[test]
fn schema_changes_come_first_and_once() {
    let db = Db::new("");
    db.applied(
        vec![
            ddl("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v TEXT)"),
            ddl("CREATE INDEX t_v ON t(v)"),
            insert("t", 1, &[("id", int(1)), ("v", text("x"))]),
        ],
        false,
    );
    for again in [
        "create table main.t ( id INTEGER PRIMARY KEY, -- the key\n v TEXT );",
        "CREATE TABLE \"t\"(id INTEGER PRIMARY KEY, v TEXT)",
        "CREATE INDEX IF NOT EXISTS t_v ON t(v)",
        "DROP TABLE nothing",
        "DROP INDEX IF EXISTS nothing",
        "PRAGMA user_version = 3",
        "PRAGMA application_id = -3",
    ] {
        db.applied(vec![ddl(again)], false);
    }
    db.rejected(vec![ddl("CREATE TABLE t(id INTEGER PRIMARY KEY)")], "exists already");
    db.rejected(vec![ddl("CREATE TABLE IF NOT EXISTS t(x)")], "exists already");
    db.rejected(vec![ddl("CREATE UNIQUE INDEX t_v ON t(v)")], "exists already");
    db.rejected(vec![ddl("CREATE VIEW t AS SELECT 1")], "exists already");
    assert_eq!(db.show("SELECT * FROM t"), "1,x");
    assert_eq!(db.show("PRAGMA user_version"), "3");
}

#[test]
fn the_same_column_is_added_once() {
    let db = Db::new("CREATE TABLE t(a INT)");
    let add = || vec![ddl("ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'x'")];
    db.applied(add(), false);
    db.applied(add(), false);
    db.applied(vec![ddl("ALTER TABLE t ADD c")], false);
    db.applied(add(), false);
    db.rejected(vec![ddl("ALTER TABLE t ADD COLUMN b INT")], "duplicate column name");
    db.applied(vec![insert("t", 1, &[("a", int(1)), ("c", int(2))])], false);
    assert_eq!(db.show("SELECT * FROM t"), "1,x,2");
}

#[test]
fn other_statements_are_no_schema_changes() {
    let db = Db::new("CREATE TABLE __sheaf_rules(tbl, col, rule)");
    for (sql, reason) in [
        ("PRAGMA journal_mode = off", "not a schema change"),
        ("PRAGMA user_version = 1; DROP TABLE t", "not a schema change"),
        ("PRAGMA user_version(1)", "not a schema change"),
        ("DELETE FROM t", "not a schema change"),
        ("ATTACH 'x' AS y", "not a schema change"),
        ("COMMIT", "not a schema change"),
        ("CREATE TEMP TABLE t(a)", "local"),
        ("DROP TABLE __sheaf_rules", "sheaf itself"),
        ("ALTER TABLE [__sheaf_rules] RENAME TO x", "sheaf itself"),
        ("CREATE TRIGGER z BEFORE UPDATE ON __sheaf_timelines BEGIN SELECT 1; END", "sheaf itself"),
        (
            "CREATE TRIGGER z AFTER INSERT ON t BEGIN UPDATE \"__SHEAF_timelines\" SET seq = 9; END",
            "sheaf itself",
        ),
        ("CREATE UNIQUE INDEX u ON __sheaf_timelines(1)", "sheaf itself"),
        ("CREATE TABLE __sheaf_remap(a)", "sheaf itself"),
        ("CREATE TABLE main.__SHEAF_lock(name TEXT PRIMARY KEY, x INTEGER NOT NULL)", "are kept"),
        ("CREATE TABLE __sheaf_lock(name TEXT, x INTEGER NOT NULL)", "are kept"),
        ("CREATE TABLE __sheaf_rules(x)", "are kept"),
        ("CREATE TABLE __sheaf_rules(tbl, col, rule AS (abs(-9223372036854775808)))", "are kept"),
        ("CREATE VIEW __sheaf_mvr AS SELECT 1", "are kept"),
        ("CREATE TABLE \u{feff}__sheaf_remap(a)", "are kept"),
        ("ALTER TABLE \u{feff}__sheaf_rules RENAME TO x", "sheaf itself"),
        ("CREATE VIRTUAL TABLE __sheaf USING fts5(x)", "are kept"),
        ("CREATE VIRTUAL TABLE f USING fts5(x, content='__sheaf_mvr')", "are kept"),
        ("CREATE", "nothing known"),
        ("CREATE TABLE", "nothing known"),
        ("", "empty"),
    ] {
        db.rejected(vec![ddl(sql)], reason);
    }
}

#[test]
fn tables_of_sheaf_are_made_as_sheaf_makes_them() {
    let db = Db::new("CREATE TABLE t(a)");
    for sql in [
        "CREATE TABLE __sheaf_lock(name TEXT PRIMARY KEY,  x INTEGER NOT NULL) WITHOUT ROWID",
        "create table if not exists \"__sheaf_mutators\"(
             name TEXT PRIMARY KEY, sql TEXT NOT NULL) WITHOUT ROWID;",
        "CREATE TABLE __sheaf_rules(tbl, col, rule, PRIMARY KEY(tbl, col, rule))",
        "CREATE VIEW declared AS SELECT * FROM __sheaf_rules",
    ] {
        db.applied(vec![ddl(sql)], false);
    }
}

#[test]
fn a_rejected_mutation_takes_its_schema_change_with_it() {
    let db = Db::new("CREATE TABLE u(a UNIQUE); INSERT INTO u VALUES(1)");
    let outcomes = db.replay(&[
        rows(vec![ddl("CREATE TABLE t(a)"), insert("u", 2, &[("a", int(1))])]),
        rows(vec![insert("t", 1, &[("a", int(1))])]),
    ]);
    assert!(matches!(&outcomes[0], Outcome::Rejected { reason } if reason.contains("UNIQUE")));
    let reason = "no such table: t".to_owned();
    assert_eq!(outcomes[1], Outcome::Rejected { reason });
}

#[test]
fn the_recaptured_mutation_keeps_its_schema_change() {
    let db = Db::new("CREATE TABLE old(a)");
    let mutation = rows(vec![ddl("CREATE TABLE old(a)"), ddl("CREATE TABLE t(a)")]);
    let replayed = db.replay_all(&[mutation]);
    // What was done already is not worth sending again.
    assert_eq!(replayed[0].recaptured, Some(rows(vec![ddl("CREATE TABLE t(a)")])));
}

#[test]
fn text_indexes_follow_their_content() {
    let db = Db::new(
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);
         CREATE VIRTUAL TABLE found USING fts5(body, content='notes', content_rowid='id');
         CREATE TRIGGER i AFTER INSERT ON notes BEGIN
           INSERT INTO found(rowid, body) VALUES(new.id, new.body); END;
         INSERT INTO notes VALUES(1, 'hello world')",
    );
    db.applied(
        vec![
            insert("notes", 2, &[("id", int(2)), ("body", text("good morning"))]),
            update("notes", 1, &[("body", text("hello world"), text("good night"))]),
            // A trigger's write to the index, if a capture ever tells of one.
            insert("found", 2, &[("body", text("good morning"))]),
        ],
        false,
    );
    assert_eq!(db.show("SELECT rowid FROM found('good') ORDER BY rowid"), "1;2");
    assert_eq!(db.show("SELECT rowid FROM found('hello')"), "");
    db.conn.execute_batch("INSERT INTO found(found, rank) VALUES('integrity-check', 1)").unwrap();
}

#[test]
fn virtual_tables_are_written_by_rowid_and_recaptured_from_the_ops() {
    let db = Db::new("CREATE VIRTUAL TABLE f USING fts5(a, b)");
    let first = insert("f", 1, &[("a", text("one")), ("b", text("x"))]);
    db.applied(vec![first], false);
    db.applied(vec![update("f", 1, &[("a", text("one"), text("uno"))])], false);
    assert_eq!(db.show("SELECT rowid, a, b FROM f('uno')"), "1,uno,x");
    let change = rows(vec![update("f", 1, &[("a", text("one"), text("eins"))])]);
    let replayed = db.replay_all(&[change, rows(vec![delete("f", 1)])]);
    let again = rows(vec![update("f", 1, &[("a", text("uno"), text("eins"))])]);
    assert_eq!(replayed[0].recaptured, Some(again));
    let Some(Mutation { body: Body::Rows(ops), .. }) = &replayed[1].recaptured else { panic!() };
    let [Op::Delete { table, key, .. }] = ops.as_slice() else { panic!("{ops:?}") };
    assert_eq!((table.as_str(), key.as_slice()), ("f", &[int(1)][..]));
    assert_eq!(db.show("SELECT count(*) FROM f('x')"), "0");
}
