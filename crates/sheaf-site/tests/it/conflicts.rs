//! What gave way when changes of two devices met, and who is told.

use sheaf_merge::{
    Rule,
    mvr::{Sibling, Siblings},
};
use sheaf_site::{ConflictKind, Value, View};
use sheaf_volume::Verdict;

use crate::support::World;

const SEEN: &str = "SELECT kind, decided, tbl, key, col, base, ours, theirs, stands
    FROM sheaf_conflicts ORDER BY tbl, key, col";

#[test]
fn whoever_overrides_is_told_and_only_where_one_value_had_to_go() {
    let [a, b] = World::new().devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, n COUNTER_INT, w TEXT, f FWW_TEXT, d TEXT MERGED);
         INSERT INTO t VALUES (1, 'old', 1, 'w', 'first', 'a b'), (2, 'old', 1, 'w', 'first', 'a b')",
    );
    a.sql("UPDATE t SET v = 'a', n = n + 1, f = 'a', d = 'z a b' WHERE id = 1");
    a.exchange();
    b.sql("UPDATE t SET v = 'b', n = n + 1, w = 'b', f = 'b', d = 'a b c' WHERE id = 1");
    b.sql("UPDATE t SET v = 'b' WHERE id = 2");
    assert_eq!(b.local(SEEN), "");
    b.pull();
    let seen = "lost|0|t|[1]|f|first|b|a|a;overridden|0|t|[1]|v|old|b|a|b";
    assert_eq!(b.local(SEEN), seen);
    assert_eq!(b.local("SELECT d, n FROM t WHERE id = 1"), "z a b c|3");
    b.exchange();
    assert_eq!(b.local(SEEN), seen.replace("|0|", "|1|"));
    a.exchange();
    assert_eq!(a.local(SEEN), "");

    // Dismissed one by one, and they stay away.
    let id = b.site.conflicts().unwrap()[0].id.unwrap();
    assert!(b.site.dismiss_conflict(id).unwrap());
    assert!(!b.site.dismiss_conflict(id).unwrap());
    assert_eq!(b.site.conflicts().unwrap().len(), 1);
    assert!(b.site.dismiss_conflicts().unwrap());
    assert_eq!(b.local("SELECT count(*) FROM sheaf_conflicts"), "0");
}

#[test]
fn a_second_redo_tells_the_cell_once_with_the_newest_value() {
    let world = World::new();
    let [a, b] = world
        .devices("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old')");
    b.sql("UPDATE t SET v = 'b' WHERE id = 1");
    for theirs in ["one", "two"] {
        a.sql(&format!("UPDATE t SET v = '{theirs}' WHERE id = 1"));
        a.exchange();
        b.pull();
    }
    assert_eq!(b.local(SEEN), "overridden|0|t|[1]|v|old|b|two|b");
    // It is in the replica, not in memory.
    let dir = b.dir.clone();
    drop(b);
    let b = world.open(dir, 2);
    assert_eq!(b.local(SEEN), "overridden|0|t|[1]|v|old|b|two|b");
    // Given up, nothing was overridden.
    b.site.give_up_pending(|| Ok(())).unwrap();
    assert_eq!(b.local(SEEN), "");
}

#[test]
fn rows_that_are_gone_or_stay_or_collide() {
    let [a, b] = World::new().devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, w TEXT); INSERT INTO t VALUES (1, 'v', 'w');
         CREATE TABLE u(k TEXT PRIMARY KEY, v TEXT); INSERT INTO u VALUES ('k', 'v');
         CREATE TABLE __sheaf_rules(tbl TEXT, col TEXT, rule TEXT, PRIMARY KEY(tbl, col)) WITHOUT ROWID;
         INSERT INTO __sheaf_rules VALUES ('u', '*', 'update-wins')",
    );
    a.sql("DELETE FROM t; UPDATE u SET v = 'a'; INSERT INTO u VALUES ('new', 'a')");
    a.exchange();
    b.sql("UPDATE t SET v = 'b'");
    b.sql("DELETE FROM u");
    b.sql("INSERT INTO u VALUES ('new', 'b')");
    b.pull();
    let seen = "lost|0|t|[1]|v|v|b|NULL|NULL;lost|0|u|[\"k\"]|NULL|NULL|NULL|NULL|NULL;\
                overridden|0|u|[\"new\"]|v|NULL|b|a|b";
    assert_eq!(b.local(SEEN), seen);
}

#[test]
fn what_was_rejected_overrode_nothing() {
    let [a, b] = World::new().devices(
        "CREATE TABLE u(id TEXT PRIMARY KEY, name TEXT UNIQUE, v TEXT);
         INSERT INTO u VALUES ('x', 'x', 'old')",
    );
    a.sql("UPDATE u SET v = 'a' WHERE id = 'x'");
    a.exchange();
    b.sql("UPDATE u SET v = 'b', name = 'taken' WHERE id = 'x'");
    b.pull();
    assert_eq!(b.local("SELECT kind FROM sheaf_conflicts"), "overridden");
    a.sql("INSERT INTO u VALUES ('y', 'taken', 'a')");
    a.exchange();
    b.exchange();
    let conflicts = b.site.conflicts().unwrap();
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].kind, ConflictKind::Rejected);
    assert_eq!(conflicts[0].table.as_deref(), Some("u"));
    assert_eq!(conflicts[0].key, ["x".into()] as [Value; 1]);
    assert!(conflicts[0].reason.as_ref().unwrap().contains("UNIQUE"));
    assert_eq!(
        b.local("SELECT kind, tbl, key, reason LIKE '%UNIQUE%' FROM sheaf_conflicts"),
        "rejected|u|[\"x\"]|1"
    );
    b.site.dismiss_rejected_through(u64::MAX).unwrap();
    assert!(b.site.conflicts().unwrap().is_empty());
}

/// A node decides for a device that has not seen what came before: its own commit and the others
/// come in one pull, and the mutation is never redone on top of them.
#[test]
fn what_an_authority_merged_is_told_as_well() {
    let [a, b] = World::new()
        .devices("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old')");
    a.sql("UPDATE t SET v = 'a' WHERE id = 1");
    a.exchange();
    b.sql("UPDATE t SET v = 'b' WHERE id = 1");
    b.sql("INSERT INTO t VALUES (2, 'more')");
    let batch = b.site.outbox(0, usize::MAX).unwrap().unwrap();
    a.site.lead(&[batch], &*a.log, 1).unwrap();
    let outcome = b.pull();
    let verdicts: Vec<Verdict> = outcome.confirmed.iter().map(|(.., verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Merged, Verdict::Ok]);
    assert!(b.site.pending().unwrap().is_empty());
    assert_eq!(b.local(SEEN), "overridden|1|t|[1]|v|old|b|a|b");
    assert_eq!(b.rows(View::Global, "SELECT v FROM t"), "b;more");
}

#[test]
fn the_list_is_bounded_and_long_values_are_cut() {
    let [a, b] = World::new().devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
         INSERT INTO t SELECT i, 'old' FROM n",
    );
    a.sql("UPDATE t SET v = printf('%.5000c', 'a')");
    a.exchange();
    b.sql("UPDATE t SET v = 'b' WHERE id <= 200");
    b.sql("UPDATE t SET v = 'b' WHERE id > 200");
    b.pull();
    let count = "SELECT count(*), min(seq), sum(cut), max(length(theirs)) FROM sheaf_conflicts";
    assert_eq!(b.local(count), "256|1|256|4096");
    assert_eq!(b.local("SELECT count(*) FROM sheaf_conflicts WHERE seq = 2"), "200");
}

#[test]
fn mutators_cannot_ask_for_conflicts() {
    let [a, _b] = World::new().devices("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    a.site.define_mutator("ask", "INSERT INTO t(v) SELECT kind FROM sheaf_conflicts").unwrap();
    let error = a.site.mutate("ask", &serde_json::json!({})).unwrap_err();
    assert!(error.to_string().contains("not for mutators"), "{error}");
    assert!(a.try_sql("DELETE FROM sheaf_conflicts").is_err());
}

#[test]
fn a_cell_with_several_values_is_listed_while_they_count() {
    let [a, _b] = World::new().devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v MVR_BLOB); INSERT INTO t VALUES (7, 'two')",
    );
    let mut siblings = Siblings::new(Rule::Mvr);
    for (at, text) in [(1, "one"), (2, "two")] {
        let sibling = Sibling { read: 0, write: at, author: at.into(), value: text.into() };
        siblings.propose(sibling, |_| None).unwrap();
    }
    let hex: String = siblings.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    a.sql(&format!(
        "CREATE TABLE IF NOT EXISTS __sheaf_mvr(tbl TEXT NOT NULL, pk BLOB NOT NULL,
         col TEXT NOT NULL, siblings BLOB NOT NULL, PRIMARY KEY(tbl, pk, col)) WITHOUT ROWID;
         INSERT INTO __sheaf_mvr VALUES ('t', CAST('2:i7' AS BLOB), 'v', x'{hex}');
         INSERT INTO __sheaf_mvr VALUES ('t', CAST('2:i8' AS BLOB), 'v', x'{hex}')"
    ));
    let all = "SELECT kind, tbl, key, col, stands, siblings, id FROM sheaf_conflicts";
    assert_eq!(a.local(all), "siblings|t|[7]|v|two|[\"one\",\"two\"]|NULL");
    // Who writes another value has chosen.
    a.sql("UPDATE t SET v = 'three'");
    assert_eq!(a.local(all), "");
}
