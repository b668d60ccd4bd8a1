//! Declaring merge rules, listing them, and what a device or node does that does not know one.

use sheaf_site::{Answer, Declared, RuleInfo, View};
use sheaf_volume::Verdict;

use crate::support::{Device, World, exchange_all, rows};

const TASKS: &str = "CREATE TABLE task(id INTEGER PRIMARY KEY, title TEXT, votes INT);
    INSERT INTO task VALUES (1, 'paint', 0), (2, 'build', 0)";

#[test]
fn the_function_declares_a_rule_in_one_mutation_that_travels() {
    let world = World::new();
    let [a, b] = world.devices(TASKS);
    let before = a.site.last_seq();
    assert_eq!(a.local("SELECT sheaf_merge_rule('TASK', 'Votes', ' COUNTER ')"), "counter");
    assert_eq!(a.site.last_seq(), before + 1, "one mutation makes the table and the row");
    assert_eq!(a.local("SELECT sheaf_merge_rule('task', '*', 'update wins')"), "update-wins");
    assert_eq!(a.local("SELECT * FROM __sheaf_rules"), "task|*|update-wins;task|votes|counter");
    exchange_all(&[&a, &b]);
    a.sql(
        "UPDATE task SET votes = votes + 1 WHERE id = 1; UPDATE task SET title = 'x' WHERE id = 2",
    );
    b.sql("UPDATE task SET votes = votes + 2 WHERE id = 1; DELETE FROM task WHERE id = 2");
    a.exchange();
    exchange_all(&[&b, &a]);
    assert_eq!(a.local("SELECT * FROM task"), "1|paint|3;2|x|0");
}

#[test]
fn a_declaration_is_part_of_the_transaction_it_is_made_in() {
    let world = World::new();
    let [a, b] = world.devices(TASKS);
    let conn = a.site.connection(View::Local).unwrap();
    let before = a.site.last_seq();
    conn.execute_batch("BEGIN; INSERT INTO task VALUES (3, 'new', 0)").unwrap();
    rows(&conn, "SELECT sheaf_merge_rule('task', 'votes', 'max')");
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(a.site.last_seq(), before);
    assert_eq!(a.local("SELECT count(*) FROM sqlite_schema WHERE name = '__sheaf_rules'"), "0");
    conn.execute_batch("BEGIN; CREATE TABLE n(id INTEGER PRIMARY KEY, v INT)").unwrap();
    rows(&conn, "SELECT sheaf_merge_rule('n', 'v', 'max'), sheaf_merge_rule('n', 'v', 'min')");
    conn.execute_batch("INSERT INTO n VALUES (1, 5); COMMIT").unwrap();
    assert_eq!(a.site.last_seq(), before + 1);
    exchange_all(&[&a, &b]);
    assert_eq!(b.local("SELECT * FROM __sheaf_rules"), "n|v|min");
    // A rule takes another's place, and goes again.
    b.site.merge_rule("n", "V", Some("keep")).unwrap();
    b.sql("SELECT sheaf_merge_rule('n', 'v', NULL)");
    assert_eq!(b.local("SELECT count(*) FROM __sheaf_rules"), "0");
    exchange_all(&[&a, &b]);
}

#[test]
fn two_devices_that_declare_at_once_agree_on_the_later() {
    let world = World::new();
    let [a, b] = world.devices(TASKS);
    a.sql("SELECT sheaf_merge_rule('task', 'votes', 'counter')");
    b.sql("SELECT sheaf_merge_rule('task', 'votes', 'max')");
    b.sql("SELECT sheaf_merge_rule('task', 'title', 'text')");
    assert!(a.exchange().rejected.is_empty() && b.exchange().rejected.is_empty());
    exchange_all(&[&a, &b]);
    assert_eq!(a.local("SELECT * FROM __sheaf_rules"), "task|title|text;task|votes|max");
}

#[test]
fn what_cannot_be_declared_is_refused_and_leaves_nothing() {
    let world = World::new();
    let [a] = world.devices(
        "CREATE TABLE task(id INTEGER PRIMARY KEY, title TEXT, n INT, g AS (n + 1));
         CREATE VIEW v AS SELECT 1 AS x; CREATE TABLE s(id INT PRIMARY KEY, any ANY) STRICT",
    );
    let before = a.site.last_seq();
    let refused = |call: &str, why: &str| {
        let error = a.try_sql(&format!("SELECT sheaf_merge_rule({call})")).unwrap_err();
        assert!(error.contains(why), "{call}: {error}");
    };
    refused("'nothing', 'title', 'text'", "there is no table nothing");
    refused("'v', 'x', 'text'", "v is no table whose rows are merged");
    refused("'__sheaf_rules', 'rule', 'keep'", "no table");
    refused("'sqlite_schema', 'sql', 'keep'", "there is no table sqlite_schema");
    refused("'task', 'nope', 'text'", "table task has no column nope");
    refused("'task', 'g', 'counter'", "it is generated");
    refused("'task', 'id', 'counter'", "it names the row");
    refused("'task', 'title', 'best'", "no merge rule is called `best`");
    refused("'task', 'title', 'lww@2'", "no merge rule is called `lww@2`");
    refused("'task', '*', 'lww'", "`delete-wins` or `update-wins`");
    refused("'task', 'n', 'text'", "declare the column MERGE_TEXT");
    refused("'task', 'title', 'counter'", "declare the column COUNTER_INT");
    refused("'nothing', 'title', NULL", "there is no table nothing");
    // Nor from within another write, a view or a mutator.
    let inside = "INSERT INTO task(title) SELECT sheaf_merge_rule('task', 'title', 'text')";
    a.try_sql(inside).unwrap_err();
    a.sql("CREATE VIEW w AS SELECT sheaf_merge_rule('task', 'title', 'text') AS done");
    let error = a.try_sql("SELECT * FROM w").unwrap_err();
    assert!(error.contains("unsafe use of sheaf_merge_rule"), "{error}");
    a.site.define_mutator("m", "SELECT sheaf_merge_rule('task', 'title', 'text')").unwrap();
    let error = a.site.mutate("m", &serde_json::Value::Null).unwrap_err();
    assert!(error.to_string().contains("not for mutators"), "{error}");
    assert_eq!(a.site.last_seq(), before + 2);
    assert_eq!(a.local("SELECT count(*) FROM sqlite_schema WHERE name = '__sheaf_rules'"), "0");
    assert_eq!(a.local("SELECT sheaf_merge_rule('s', 'any', 'text')"), "text");
}

#[test]
fn rules_are_listed_with_where_they_come_from() {
    let world = World::new();
    let [a] = world.devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, plain TEXT, votes COUNTER_INT, page HTML,
           tags [SET], own FWW_TEXT, g AS (votes + 1));
         CREATE TABLE __sheaf_rules(tbl, col, rule);
         INSERT INTO __sheaf_rules VALUES ('t', 'own', 'keep'), ('T', 'PLAIN', 'blend@2'),
           ('t', 'tags', 'counter'), ('t', '*', 'maybe'), ('gone', 'x', 'lww')",
    );
    let rules = a.site.rules(None).unwrap();
    let show = |info: &RuleInfo| {
        let rule = info.rule.as_deref().unwrap_or("-");
        let problem = if info.problem.is_some() { " !" } else { "" };
        format!("{}.{} {rule} {}{problem}", info.table, info.column, info.declared.name())
    };
    let shown: Vec<String> = rules.iter().map(show).collect();
    let expected = [
        "t.* maybe stored !",
        "t.id - key",
        "t.plain blend@2 stored !",
        "t.votes counter type",
        "t.page lww default !",
        "t.tags counter stored",
        "t.own keep stored",
        "gone.x lww stored !",
    ];
    assert_eq!(shown, expected);
    assert_eq!(a.site.rules(Some("T")).unwrap().len(), 7);
    assert_eq!(a.site.rules(Some("gone")).unwrap()[0].declared, Declared::Stored);
    let error = a.site.rules(Some("nothing")).unwrap_err();
    assert_eq!(error.kind(), sheaf_site::ErrorKind::NotFound);
    // What was declared for a table that has gone can be taken back.
    assert_eq!(a.site.merge_rule("gone", "x", Some("default")).unwrap(), None);
    assert_eq!(a.site.rules(None).unwrap().len(), 7);
}

/// A rule that only a newer version knows, and a conflict that needs it, on two of three devices.
fn conflict_of_a_newer_rule() -> (World, [Device; 3]) {
    let world = World::new();
    let [a, b, node] = world.devices(&format!(
        "{TASKS}; CREATE TABLE __sheaf_rules(tbl, col, rule);
             INSERT INTO __sheaf_rules VALUES ('task', 'title', 'blend@2')"
    ));
    a.sql("UPDATE task SET title = 'paint red' WHERE id = 1");
    b.sql("UPDATE task SET votes = 5 WHERE id = 2");
    b.sql("UPDATE task SET title = 'paint blue' WHERE id = 1");
    b.sql("UPDATE task SET votes = 7 WHERE id = 1");
    (world, [a, b, node])
}

const NEWER: &str = "mutation 2: task 1: column title has merge rule `blend@2`, which this version \
                     of sheaf does not know; upgrade";

#[test]
fn a_node_without_a_rule_decides_what_it_can_and_stops_nobody_else() {
    let (_world, [a, b, node]) = conflict_of_a_newer_rule();
    let batch = |device: &Device, after| device.site.outbox(after, usize::MAX).unwrap().unwrap();
    let lead =
        |batches: &[sheaf_site::Batch]| node.site.lead(batches, &*node.log, 4).unwrap().answers;
    let first = batch(&a, 0);
    let [Answer::Verdicts { verdicts, .. }] = &lead(&[first])[..] else { panic!() };
    assert_eq!(verdicts.len(), 1, "one side is no conflict: {verdicts:?}");
    a.exchange();
    a.sql("UPDATE task SET votes = 1 WHERE id = 2");
    // B's first mutation is decided, its second is not, and its third waits for it.
    let first = batch(&b, 0);
    let [Answer::Verdicts { verdicts, .. }] = &lead(&[first])[..] else { panic!() };
    assert_eq!(verdicts, &[(Verdict::Ok, String::new())]);
    let answers = lead(&[batch(&b, 1), batch(&a, 2)]);
    let [Answer::Malformed(why), Answer::Verdicts { .. }] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(why, NEWER);
    assert_eq!(node.local("SELECT * FROM task"), "1|paint red|0;2|build|1");
}

#[test]
fn a_device_without_a_rule_keeps_what_needs_it_and_says_so() {
    let (_world, [a, b, _]) = conflict_of_a_newer_rule();
    a.exchange();
    let error = b.site.exchange_with_log(&*b.log).unwrap_err();
    assert!(error.to_string().contains(NEWER), "{error}");
    // Nothing of it is shown, nothing is lost, and what stands before it has been sent.
    let pending: Vec<u64> = b.site.status().pending.iter().map(|one| one.seq).collect();
    assert_eq!(pending, [2, 3]);
    assert_eq!(b.local("SELECT * FROM task"), "1|paint red|7;2|build|5");
    assert!(b.site.rejected().is_empty());
    // Somebody else takes the rule back: then it is the ordinary one.
    a.exchange();
    assert_eq!(a.site.merge_rule("task", "title", None).unwrap(), None);
    a.exchange();
    let done = b.exchange();
    assert_eq!((done.pushed, done.merged), (2, 1), "{done:?}");
    exchange_all(&[&a, &b]);
    assert_eq!(a.local("SELECT * FROM task"), "1|paint blue|7;2|build|5");
}
