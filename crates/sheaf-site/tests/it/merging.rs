//! What becomes of concurrent changes: every rule on every shape of table, and the statements and
//! constraints whose outcome a merge might spoil.

use sheaf_volume::Remote as _;

use crate::support::{Device, World, assert_converged};

struct Pair {
    _world: World,
    a: Device,
    b: Device,
}

impl Pair {
    fn new(schema: &str) -> Self {
        let world = World::new();
        let [a, b] = [(); 2].map(|()| world.device());
        a.sql(schema);
        a.exchange();
        b.exchange();
        Self { _world: world, a, b }
    }

    /// B learns what A has done, first as a prediction; then the log decides. Gives how many
    /// mutations of B were merged, and why some were rejected.
    fn meet(&self) -> (usize, Vec<String>) {
        assert!(self.a.exchange().rejected.is_empty());
        let commits = self.b.log.pull(self.b.site.base().0).unwrap();
        let learnt = self.b.site.integrate(commits).unwrap();
        let done = self.b.exchange();
        self.a.exchange();
        assert_converged(&[&self.a, &self.b]);
        // What a prediction has merged already is sent as what it came to.
        (
            done.merged.max(learnt.merged.len()),
            done.rejected.into_iter().map(|(_, why)| why).collect(),
        )
    }

    /// A is first in the log.
    fn both(schema: &str, a: &str, b: &str) -> (Self, (usize, Vec<String>)) {
        let pair = Self::new(schema);
        pair.a.sql(a);
        pair.b.sql(b);
        let met = pair.meet();
        (pair, met)
    }

    fn shows(&self, sql: &str, expected: &str) {
        assert_eq!(self.a.local(sql), expected);
        assert_eq!(self.b.local(sql), expected);
    }
}

fn rejected(met: &(usize, Vec<String>), expected: &str) {
    let [why] = &met.1[..] else { panic!("{met:?}") };
    assert!(why.contains(expected), "{why}");
}

/// A rule, the affinity of its column, and what base, right (of A, first) and left come to.
const RULES: [(&str, &str, [&str; 4]); 11] = [
    ("lww", "TEXT", ["base", "right", "left", "left"]),
    ("fww", "TEXT", ["base", "right", "left", "right"]),
    ("max", "INT", ["1", "3", "2", "3"]),
    ("min", "INT", ["5", "3", "4", "3"]),
    ("counter", "INT", ["10", "15", "7", "12"]),
    ("text", "TEXT", ["one two three", "one 2 three", "one two three four", "one 2 three four"]),
    (
        "html",
        "TEXT",
        [
            "<p id=\"p\">one two</p>",
            "<p id=\"p\">one <b>two</b></p>",
            "<p id=\"p\">one two</p><p id=\"q\">more</p>",
            "<p id=\"p\">one <b>two</b></p><p id=\"q\">more</p>",
        ],
    ),
    ("set", "TEXT", ["[1,2]", "[2,3]", "[1,2,4]", "[2,3,4]"]),
    (
        "json",
        "TEXT",
        [r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, r#"{"a":1,"b":{}}"#, r#"{"a":2,"b":{}}"#],
    ),
    ("mvr", "TEXT", ["base", "right", "left", "left"]),
    ("list", "TEXT", ["m", "x", "c", "c"]),
];

/// Tables with a column `v`, and how its one row is named.
const SHAPES: [(&str, &str, &str, &str); 5] = [
    (
        "STRICT",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v @STRICT, n INTEGER) STRICT",
        "INSERT INTO t VALUES (1, '@BASE', 0)",
        "id",
    ),
    (
        "WITHOUT ROWID",
        "CREATE TABLE t(k TEXT PRIMARY KEY, v @TYPE, n INT) WITHOUT ROWID",
        "INSERT INTO t VALUES ('k', '@BASE', 0)",
        "k",
    ),
    (
        "composite key",
        "CREATE TABLE t(n INT, v @TYPE, a TEXT NOT NULL, b INT NOT NULL, PRIMARY KEY(b, a))",
        "INSERT INTO t VALUES (0, '@BASE', 'a', 1)",
        "b, a",
    ),
    (
        "generated columns",
        "CREATE TABLE t(v @TYPE, g AS (v || '!') STORED, h AS (n + 1), n INT, id INTEGER PRIMARY KEY)",
        "INSERT INTO t(v, n, id) VALUES ('@BASE', 0, 7)",
        "id",
    ),
    ("no key", "CREATE TABLE t(v @TYPE, n INT)", "INSERT INTO t VALUES ('@BASE', 0)", "rowid"),
];

#[test]
fn every_rule_merges_on_every_shape_of_table() {
    for (rule, affinity, [base, right, left, merged]) in RULES {
        for (shape, create, insert, key) in SHAPES {
            let strict = if affinity == "INT" { "INTEGER" } else { affinity };
            let create = create.replace("@TYPE", affinity).replace("@STRICT", strict);
            let pair = Pair::new(&format!("{create}; {}", insert.replace("@BASE", base)));
            pair.a.sql(&format!("SELECT sheaf_merge_rule('t', 'v', '{rule}')"));
            pair.meet();
            pair.a.sql(&format!("UPDATE t SET v = '{right}', n = n + 1"));
            pair.b.sql(&format!("UPDATE t SET v = '{left}'"));
            assert_eq!(pair.meet(), (1, Vec::new()), "{rule} {shape}");
            pair.shows("SELECT v, n, count(*) FROM t", &format!("{merged}|1|1"));
            if rule == "mvr" {
                let see = format!("SELECT sheaf_siblings('t', 'v', {key}) FROM t");
                pair.shows(&see, r#"["right","left"]"#);
            }
        }
    }
}

#[test]
fn types_declare_as_names_do() {
    for (rule, affinity, [base, right, left, merged]) in RULES {
        let name = if rule == "text" { "MERGE" } else { rule };
        let schema = format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v {}_{affinity});
             INSERT INTO t VALUES (1, '{base}')",
            name.to_uppercase()
        );
        let update = |v: &str| format!("UPDATE t SET v = '{v}'");
        let (pair, met) = Pair::both(&schema, &update(right), &update(left));
        assert_eq!(met, (1, Vec::new()), "{rule}");
        pair.shows("SELECT v FROM t", merged);
    }
}

#[test]
fn deletes_and_updates_by_policy_in_either_order() {
    for (policy, order, left) in [
        ("delete-wins", "update first", ""),
        ("delete-wins", "delete first", ""),
        ("update-wins", "update first", "1|new"),
        ("update-wins", "delete first", ""),
    ] {
        let pair =
            Pair::new("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'old')");
        pair.a.sql(&format!("SELECT sheaf_merge_rule('t', '*', '{policy}')"));
        pair.meet();
        let (update, delete) = ("UPDATE t SET v = 'new'", "DELETE FROM t");
        let (a, b) = if order == "update first" { (update, delete) } else { (delete, update) };
        pair.a.sql(a);
        pair.b.sql(b);
        assert!(pair.meet().1.is_empty());
        pair.shows("SELECT * FROM t", left);
    }
}

#[test]
fn a_replace_changes_what_it_changes() {
    let schema =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT DEFAULT 'd', n COUNTER_INT);
        INSERT INTO t VALUES (1, 'a', 'b', 10)";
    // The same key: an update of the columns that differ, whatever SQLite did on the way.
    let (pair, met) = Pair::both(
        schema,
        "UPDATE t SET b = 'B', n = n + 2",
        "INSERT OR REPLACE INTO t VALUES (1, 'A', 'b', 11)",
    );
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT * FROM t", "1|A|B|13");
    // A column it does not name gets its default, and that is a change like any other.
    let (pair, met) =
        Pair::both(schema, "UPDATE t SET b = 'B'", "REPLACE INTO t(id, a, n) VALUES (1, 'A', 10)");
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT * FROM t", "1|A|d|10");
}

#[test]
fn a_replace_of_another_row_deletes_it() {
    let schema = "CREATE TABLE t(no INTEGER PRIMARY KEY, who TEXT UNIQUE, v);
        INSERT INTO t VALUES (1, 'eve', 'old')";
    let replace = "INSERT OR REPLACE INTO t VALUES (2, 'eve', 'new')";
    let (pair, met) = Pair::both(schema, "UPDATE t SET v = 'changed'", replace);
    assert!(met.1.is_empty(), "{met:?}");
    pair.shows("SELECT * FROM t", "2|eve|new");
    let (pair, met) = Pair::both(schema, replace, "UPDATE t SET v = 'changed'");
    assert_eq!(met, (1, Vec::new()), "dropped, and its author is told");
    pair.shows("SELECT * FROM t", "2|eve|new");
    // It replaces what its author saw. What somebody else put there since is not replaced.
    let (pair, met) = Pair::both(
        "CREATE TABLE t(no INTEGER PRIMARY KEY, who TEXT UNIQUE ON CONFLICT REPLACE, v)",
        "INSERT INTO t VALUES (1, 'eve', 'a')",
        "INSERT INTO t VALUES (2, 'eve', 'b')",
    );
    rejected(&met, "t 2: UNIQUE constraint failed: t.who");
    pair.shows("SELECT * FROM t", "1|eve|a");
}

#[test]
fn an_upsert_is_the_insert_or_the_update_that_it_was() {
    let schema = "CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, n COUNTER_INT, v TEXT);
        INSERT INTO t VALUES ('old', 5, 'v')";
    let upsert = |k: &str| {
        format!(
            "INSERT INTO t VALUES ('{k}', 1, 'x') ON CONFLICT(k) DO UPDATE SET n = n + excluded.n"
        )
    };
    let (pair, met) = Pair::both(schema, &upsert("old"), &upsert("old"));
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT * FROM t", "old|7|v");
    // Both inserted, so both rows are one: counters add from nothing.
    let (pair, met) = Pair::both(schema, &upsert("new"), &upsert("new"));
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT * FROM t WHERE k = 'new'", "new|2|x");
    // An update of a row that goes meanwhile inserts nothing.
    let (pair, met) = Pair::both(schema, "DELETE FROM t", &upsert("old"));
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT count(*) FROM t", "0");
    // DO NOTHING did nothing, which is no change.
    let nothing = "INSERT INTO t VALUES ('old', 1, 'x') ON CONFLICT DO NOTHING";
    let (pair, met) = Pair::both(schema, "DELETE FROM t", nothing);
    assert_eq!(met, (0, Vec::new()));
    pair.shows("SELECT count(*) FROM t", "0");
}

#[test]
fn cascades_travel_as_the_rows_they_changed_and_reach_those_that_came_since() {
    let schema = "CREATE TABLE p(id TEXT PRIMARY KEY NOT NULL);
        CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
        INSERT INTO p VALUES ('a'); INSERT INTO c VALUES (1, 'a')";
    let (pair, met) = Pair::both(schema, "INSERT INTO c VALUES (2, 'a')", "DELETE FROM p");
    assert!(met.1.is_empty(), "{met:?}");
    pair.shows("SELECT count(*) FROM c", "0");
    let (pair, met) = Pair::both(schema, "DELETE FROM p", "INSERT INTO c VALUES (2, 'a')");
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT count(*) FROM c", "0");
    // A changed key is a delete and an insert, but what follows it by ON UPDATE stays.
    let rename = "UPDATE p SET id = 'b'";
    let (pair, met) = Pair::both(schema, rename, "INSERT INTO p VALUES ('z')");
    assert_eq!(met, (0, Vec::new()));
    pair.shows("SELECT c.id, p.id FROM p LEFT JOIN c ON c.p = p.id", "1|b;NULL|z");
    // And so does what was moved by hand, before the old parent was deleted.
    let by_hand = "BEGIN; INSERT INTO p VALUES ('b'); UPDATE c SET p = 'b'; DELETE FROM p WHERE id = 'a'; COMMIT";
    let (pair, met) = Pair::both(schema, by_hand, "INSERT INTO p VALUES ('z')");
    assert_eq!(met, (0, Vec::new()));
    pair.shows("SELECT c.id, p.id FROM p LEFT JOIN c ON c.p = p.id", "1|b;NULL|z");
    let tree = "CREATE TABLE n(id TEXT PRIMARY KEY NOT NULL, up REFERENCES n ON DELETE CASCADE);
        INSERT INTO n VALUES ('root', NULL), ('a', 'root'), ('b', 'a'), ('c', 'b')";
    let lift = "BEGIN; UPDATE n SET up = 'a' WHERE id = 'c'; DELETE FROM n WHERE id = 'b'; COMMIT";
    let (pair, met) = Pair::both(tree, lift, "INSERT INTO n VALUES ('d', 'b')");
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT * FROM n ORDER BY id", "a|root;c|a;root|NULL");
    // A key that changes is another row: what was put under the old one goes with that.
    let rename = "UPDATE p SET id = 'b'";
    let (pair, met) = Pair::both(schema, rename, "INSERT INTO c VALUES (2, 'a')");
    assert_eq!(met, (1, Vec::new()));
    pair.shows("SELECT c.id, p.id FROM p LEFT JOIN c ON c.p = p.id", "1|b");
    let (pair, met) = Pair::both(schema, "INSERT INTO c VALUES (2, 'a')", rename);
    assert!(met.1.is_empty(), "{met:?}");
    pair.shows("SELECT c.id, p.id FROM p LEFT JOIN c ON c.p = p.id", "1|b");
}

#[test]
fn triggers_ran_where_the_change_was_made_and_only_there() {
    let schema = |total: &str| {
        format!(
            "CREATE TABLE item(id INTEGER PRIMARY KEY, price INT); CREATE TABLE log(what TEXT);
             CREATE TABLE total(id INTEGER PRIMARY KEY, v {total}); INSERT INTO total VALUES (1, 0);
             CREATE TRIGGER sum AFTER INSERT ON item BEGIN
               UPDATE total SET v = v + new.price; INSERT INTO log VALUES ('item ' || new.price); END"
        )
    };
    let insert = |price: i64| format!("INSERT INTO item VALUES ({price}, {price})");
    let see =
        "SELECT v, (SELECT count(*) FROM item), (SELECT group_concat(what) FROM log) FROM total";
    let (pair, met) = Pair::both(&schema("COUNTER_INT"), &insert(5), &insert(7));
    assert_eq!(met, (1, Vec::new()));
    pair.shows(see, "12|2|item 5,item 7");
    // Without the rule the total is a value like others, and the later stands.
    let (pair, _) = Pair::both(&schema("INT"), &insert(5), &insert(7));
    pair.shows(see, "7|2|item 5,item 7");
}

#[test]
fn constraints_are_checked_on_what_a_merge_comes_to_and_refuse_the_whole() {
    let schema = "CREATE TABLE acc(id INTEGER PRIMARY KEY, n COUNTER_INT CHECK(n >= 0), v TEXT);
        INSERT INTO acc VALUES (1, 10, 'v'), (2, 0, 'v')";
    let (pair, met) = Pair::both(
        schema,
        "UPDATE acc SET n = n - 7 WHERE id = 1",
        "BEGIN; UPDATE acc SET n = n - 8 WHERE id = 1; UPDATE acc SET n = 8 WHERE id = 2; COMMIT",
    );
    rejected(&met, "acc 1: CHECK constraint failed: n >= 0");
    pair.shows("SELECT n FROM acc", "3;0");
    let (pair, met) = Pair::both(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v MAX_INT UNIQUE); INSERT INTO t VALUES (1, 1), (2, 2)",
        "UPDATE t SET v = 9 WHERE id = 1",
        "UPDATE t SET v = 9 WHERE id = 2",
    );
    rejected(&met, "t 2: UNIQUE constraint failed: t.v");
    pair.shows("SELECT v FROM t", "9;2");
}

#[test]
fn deferred_constraints_count_at_the_end_of_a_mutation() {
    let schema = "CREATE TABLE p(id TEXT PRIMARY KEY NOT NULL, v);
        CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO p VALUES ('old', 0)";
    let (pair, met) = Pair::both(
        schema,
        "UPDATE p SET v = 1",
        "BEGIN; INSERT INTO c VALUES (1, 'new'); INSERT INTO p VALUES ('new', 0); COMMIT",
    );
    assert_eq!(met, (0, Vec::new()));
    pair.shows("SELECT c.id, p.v FROM c JOIN p ON p.id = c.p", "1|0");
    let (pair, met) = Pair::both(schema, "DELETE FROM p", "INSERT INTO c VALUES (1, 'old')");
    rejected(&met, "c 1: foreign key (p) refers to p 'old', which is gone");
    pair.shows("SELECT count(*) FROM c", "0");
}
