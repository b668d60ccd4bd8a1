use sheaf_merge::Value;

use super::*;
use crate::mutation::Change;
use crate::opstream::encode_key;

mod collisions;
mod newer;
mod recapture;
mod schema;

/// A plain database, and a pen for mutations.
struct Db {
    conn: Connection,
    capture: Capture,
    ctx: ReplayContext,
}

impl Db {
    fn new(sql: &str) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        let capture = Capture::install(&mut conn).unwrap();
        let db = Self { conn, capture, ctx: context() };
        db.exec(sql);
        db
    }

    /// Runs SQL as somebody before the transaction.
    fn exec(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap();
        self.capture.clear();
        self.capture.note_schema(&self.conn).unwrap();
    }

    /// Replays all in one transaction, as an authority does.
    fn replay_all(&self, mutations: &[Mutation]) -> Vec<Replayed> {
        self.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut remap = Remap::default();
        let done = mutations
            .iter()
            .map(|m| replay(&self.conn, &self.capture, &self.ctx, &mut remap, m).unwrap())
            .collect();
        self.conn.execute_batch("COMMIT").unwrap();
        self.capture.clear();
        done
    }

    fn replay(&self, mutations: &[Mutation]) -> Vec<Outcome> {
        self.replay_all(mutations).into_iter().map(|done| done.outcome).collect()
    }

    /// What a replay that fails says.
    fn error(&self, op: Op) -> Error {
        let mut remap = Remap::default();
        replay(&self.conn, &self.capture, &self.ctx, &mut remap, &rows(vec![op])).unwrap_err()
    }

    fn one(&self, ops: Vec<Op>) -> Outcome {
        self.replay(&[rows(ops)]).pop().unwrap()
    }

    fn applied(&self, ops: Vec<Op>, merged: bool) {
        assert_eq!(self.one(ops), Outcome::Applied { merged });
    }

    fn rejected(&self, ops: Vec<Op>, expected: &str) {
        match self.one(ops) {
            Outcome::Rejected { reason } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    /// Every row of a query, values joined by commas, rows by semicolons.
    fn show(&self, sql: &str) -> String {
        let mut statement = self.conn.prepare(sql).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values = (0..width).map(|i| row.get::<_, rusqlite::types::Value>(i).unwrap());
            let texts = values.map(|value| match value {
                rusqlite::types::Value::Null => "-".to_owned(),
                rusqlite::types::Value::Integer(int) => int.to_string(),
                rusqlite::types::Value::Real(real) => real.to_string(),
                rusqlite::types::Value::Text(text) => text,
                rusqlite::types::Value::Blob(blob) => format!("{blob:?}"),
            });
            Ok(texts.collect::<Vec<_>>().join(","))
        });
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap().join(";")
    }
}

fn context() -> ReplayContext {
    ReplayContext {
        timeline: TimelineId::from_bytes([1; 16]),
        seq: 1,
        base: Lsn(1),
        target: Lsn(3),
        authority: true,
        device: DeviceId::from_bytes([2; 16]),
        time_ms: 0,
    }
}

fn rows(ops: Vec<Op>) -> Mutation {
    Mutation::new(Body::Rows(ops), true)
}

fn update(table: &str, key: impl Into<Value>, changes: &[(&str, Value, Value)]) -> Op {
    let changes = changes.iter().map(|(col, base, left)| Change {
        col: (*col).to_owned(),
        base: base.clone(),
        left: left.clone(),
    });
    Op::Update { table: table.to_owned(), key: vec![key.into()], changes: changes.collect() }
}

fn insert(table: &str, key: impl Into<Value>, cols: &[(&str, Value)]) -> Op {
    let cols = cols.iter().map(|(col, value)| ((*col).to_owned(), value.clone()));
    Op::Insert { table: table.to_owned(), key: vec![key.into()], cols: cols.collect() }
}

fn delete(table: &str, key: impl Into<Value>) -> Op {
    Op::Delete { table: table.to_owned(), key: vec![key.into()], old: Vec::new() }
}

fn int(int: i64) -> Value {
    Value::Int(int)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

const TASKS: &str = "
    CREATE TABLE tasks(id INTEGER PRIMARY KEY, title TEXT UNIQUE, done INT, n COUNTER_INT,
                       owner FWW_TEXT, price KEEP_INT, twice AS (n * 2));
    INSERT INTO tasks VALUES(1, 'one', 0, 10, NULL, 5), (2, 'two', 0, 0, NULL, 5);";

#[test]
fn different_columns_of_one_row_both_win() {
    let db = Db::new(TASKS);
    db.applied(vec![update("tasks", 1, &[("title", text("one"), text("uno"))])], false);
    db.applied(vec![update("tasks", 1, &[("done", int(0), int(1))])], false);
    assert_eq!(db.show("SELECT title, done FROM tasks WHERE id = 1"), "uno,1");
}

#[test]
fn the_later_writer_of_one_column_wins_and_is_told() {
    let db = Db::new(TASKS);
    db.applied(vec![update("tasks", 1, &[("title", text("one"), text("uno"))])], false);
    db.applied(vec![update("tasks", 1, &[("title", text("one"), text("eins"))])], true);
    db.applied(vec![update("tasks", 1, &[("title", text("one"), text("eins"))])], false);
    assert_eq!(db.show("SELECT title FROM tasks WHERE id = 1"), "eins");
}

#[test]
fn counters_add() {
    let db = Db::new(TASKS);
    db.applied(vec![update("tasks", 1, &[("n", int(10), int(11))])], false);
    db.applied(vec![update("tasks", 1, &[("n", int(10), int(11))])], true);
    db.applied(vec![update("tasks", 1, &[("n", int(10), int(7))])], true);
    assert_eq!(db.show("SELECT n, twice FROM tasks WHERE id = 1"), "9,18");
}

#[test]
fn declared_rules_count() {
    let db = Db::new(TASKS);
    db.applied(vec![update("tasks", 1, &[("owner", Value::Null, text("ada"))])], false);
    db.applied(vec![update("tasks", 1, &[("owner", Value::Null, text("bob"))])], true);
    assert_eq!(db.show("SELECT owner FROM tasks WHERE id = 1"), "ada");
    db.applied(vec![update("tasks", 1, &[("price", int(5), int(6))])], false);
    db.rejected(
        vec![
            update("tasks", 2, &[("done", int(0), int(1))]),
            update("tasks", 1, &[("price", int(5), int(7))]),
        ],
        "tasks 1: column price was changed by somebody else",
    );
    assert_eq!(db.show("SELECT price, done FROM tasks"), "6,0;5,0");
    // A rule in the table of rules is stronger than the type's, and counts from then on.
    db.exec("CREATE TABLE __sheaf_rules(tbl, col, rule, PRIMARY KEY(tbl, col)) WITHOUT ROWID");
    let rule = Op::Insert {
        table: "__sheaf_rules".into(),
        key: vec![text("tasks"), text("done")],
        cols: [("tbl", "tasks"), ("col", "done"), ("rule", "max")]
            .map(|(col, value)| (col.to_owned(), text(value)))
            .to_vec(),
    };
    let outcomes = db.replay(&[
        rows(vec![update("tasks", 1, &[("done", int(0), int(5))])]),
        rows(vec![rule]),
        rows(vec![update("tasks", 1, &[("done", int(0), int(3))])]),
    ]);
    assert_eq!(outcomes[2], Outcome::Applied { merged: true });
    assert_eq!(db.show("SELECT done FROM tasks WHERE id = 1"), "5");
}

#[test]
fn a_delete_wins_over_an_update() {
    let db = Db::new(TASKS);
    db.applied(vec![delete("tasks", 1)], false);
    db.applied(vec![update("tasks", 1, &[("done", int(0), int(1))])], true);
    db.applied(vec![delete("tasks", 1)], false);
    db.applied(vec![update("tasks", 2, &[("done", int(0), int(1))])], false);
    db.applied(vec![delete("tasks", 2)], false);
    assert_eq!(db.show("SELECT count(*) FROM tasks"), "0");
}

#[test]
fn an_update_wins_where_the_table_says_so() {
    let db = Db::new(TASKS);
    db.exec(
        "CREATE TABLE __sheaf_rules(tbl, col, rule, PRIMARY KEY(tbl, col)) WITHOUT ROWID;
             INSERT INTO __sheaf_rules VALUES('tasks', '*', 'update-wins')",
    );
    let delete = |id| Op::Delete {
        table: "tasks".into(),
        key: vec![int(id)],
        old: vec![("done".into(), int(0))],
    };
    db.applied(vec![update("tasks", 1, &[("done", int(0), int(1))])], false);
    db.applied(vec![delete(1)], true);
    db.applied(vec![delete(2)], false);
    assert_eq!(db.show("SELECT id FROM tasks"), "1");
}

#[test]
fn a_unique_violation_rejects_one_mutation_and_no_other() {
    let db = Db::new(TASKS);
    let outcomes = db.replay(&[
        rows(vec![update("tasks", 1, &[("done", int(0), int(1))])]),
        rows(vec![
            update("tasks", 2, &[("done", int(0), int(1))]),
            insert("tasks", 3, &[("id", int(3)), ("title", text("one"))]),
        ]),
        rows(vec![insert("tasks", 4, &[("id", int(4)), ("title", text("four"))])]),
    ]);
    assert_eq!(outcomes[0], Outcome::Applied { merged: false });
    let reason = "tasks 3: UNIQUE constraint failed: tasks.title".to_owned();
    assert_eq!(outcomes[1], Outcome::Rejected { reason });
    assert_eq!(outcomes[2], Outcome::Applied { merged: false });
    assert_eq!(db.show("SELECT id, done FROM tasks"), "1,1;2,0;4,-");
}

#[test]
fn unique_values_may_move_along_rows_in_any_order() {
    let db = Db::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, pos INT UNIQUE ON CONFLICT ROLLBACK);
        INSERT INTO t VALUES(1, 1), (2, 2), (3, 3), (4, 4)",
    );
    let shift = |by: i64| (1..=4).map(move |id| update("t", id, &[("pos", int(id), int(id + by))]));
    db.applied(shift(1).collect(), false);
    assert_eq!(db.show("SELECT pos FROM t ORDER BY id"), "2;3;4;5");
    db.applied(
        (1..=4).map(|id| update("t", id, &[("pos", int(id + 1), int(id))])).collect(),
        false,
    );
    assert_eq!(db.show("SELECT pos FROM t ORDER BY id"), "1;2;3;4");
}

#[test]
fn only_sound_names_reach_sql() {
    let db = Db::new(TASKS);
    db.exec("CREATE VIEW v AS SELECT 1 AS a; CREATE TABLE \"a\"\"b\"(\"x\"\"y\" PRIMARY KEY, \"sel;ect\")");
    let change = [("done", int(0), int(1))];
    db.rejected(vec![update("nothing", 1, &change)], "no such table: nothing");
    db.rejected(vec![update("v", 1, &change)], "v is a view");
    db.rejected(vec![update("tasks", 1, &[("nope", text("nope"), int(1))])], "no column nope");
    db.rejected(vec![update("tasks", 1, &[("twice", int(1), int(1))])], "generated");
    db.rejected(vec![update("__sheaf_timelines", 1, &change)], "internal");
    db.rejected(vec![update("__SHEAF_remap", 1, &change)], "internal");
    // Nor by what is said of a cell that keeps several values.
    let change = |col: &str, base: Value, left: Value| Change { col: col.into(), base, left };
    for table in ["__sheaf_timelines", "__SHEAF_lock", "__sheaf_mvr"] {
        let key = vec![table.into(), Value::Blob(encode_key(&[Value::Int(1)])), "seq".into()];
        let value = change("value", Value::Int(0), Value::Int(9));
        let changes = vec![value, change("read", Value::Null, Value::Int(0))];
        db.rejected(vec![Op::Update { table: "__sheaf_mvr".into(), key, changes }], "internal");
    }
    let wide = Op::Delete { table: "tasks".into(), key: vec![int(1), int(2)], old: vec![] };
    db.rejected(vec![wide], "the key has 2 values, not 1");
    db.applied(vec![insert("a\"b", "k", &[("x\"y", text("k")), ("sel;ect", int(1))])], false);
    db.applied(vec![update("A\"B", "k", &[("SEL;ect", int(1), int(2))])], false);
    assert_eq!(db.show("SELECT * FROM \"a\"\"b\""), "k,2");
}

#[test]
fn triggers_are_off_for_rows_and_the_switches_come_back() {
    let db = Db::new(TASKS);
    db.exec(
        "PRAGMA foreign_keys = OFF;
             CREATE TRIGGER g AFTER UPDATE ON tasks BEGIN UPDATE tasks SET n = 99; END",
    );
    db.applied(vec![update("tasks", 1, &[("done", int(0), int(1))])], false);
    assert_eq!(db.show("SELECT n FROM tasks WHERE id = 1"), "10");
    assert_eq!(db.show("PRAGMA foreign_keys"), "0");
    db.exec("UPDATE tasks SET done = 0 WHERE id = 1");
    assert_eq!(db.show("SELECT n FROM tasks WHERE id = 1"), "99");
}

#[test]
fn a_full_disk_is_an_error_and_no_rejection() {
    let db = Db::new(TASKS);
    db.conn.execute_batch("PRAGMA max_page_count = 3; BEGIN").unwrap();
    let big = insert("tasks", 3, &[("id", int(3)), ("title", text(&"x".repeat(100_000)))]);
    let error = db.error(big);
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn an_interrupt_is_an_error_and_no_rejection() {
    let mut db = Db::new(TASKS);
    db.conn.progress_handler(1, Some(|| true)).unwrap();
    db.conn.execute_batch("BEGIN").ok();
    let change = update("tasks", 1, &[("done", int(0), int(1))]);
    let error = db.error(change);
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
}

#[test]
fn keys_of_any_shape_name_their_rows() {
    let db = Db::new(
        "CREATE TABLE w(a TEXT, b INT, c, PRIMARY KEY(b, a)) WITHOUT ROWID;
         CREATE TABLE p(rowid TEXT, v); CREATE TABLE d(id INTEGER PRIMARY KEY DESC, v);
         INSERT INTO w VALUES('x', 1, 'c'); INSERT INTO p VALUES('r', 1);
         INSERT INTO d VALUES(9, 1)",
    );
    let changes = vec![Change { col: "c".into(), base: text("c"), left: text("C") }];
    let w = Op::Update { table: "w".into(), key: vec![int(1), text("x")], changes };
    db.applied(
        vec![
            w,
            update("p", 1, &[("v", int(1), int(2)), ("rowid", text("r"), text("R"))]),
            update("d", 9, &[("v", int(1), int(2))]),
        ],
        false,
    );
    assert_eq!(db.show("SELECT a, b, c FROM w"), "x,1,C");
    assert_eq!(db.show("SELECT * FROM p"), "R,2");
    assert_eq!(db.show("SELECT v FROM d"), "2");
}
