//! Merge rules of one's own: expressions that travel with the site, closures of the host.

use sheaf_site::{Custom, Value};

use crate::support::{Device, World, assert_converged};

const VOTES: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, n INT);
    INSERT INTO t VALUES (1, 'base', 10)";

fn devices<const N: usize>(world: &World) -> [Device; N] {
    world.devices(&format!("{VOTES}; SELECT sheaf_merge_rule('t', 'v', 'custom:Longer')"))
}

fn conflict(a: &Device, b: &Device) {
    a.sql("UPDATE t SET v = 'much longer', n = n + 1");
    b.sql("UPDATE t SET v = 'short'");
    a.exchange();
}

fn longer(device: &Device) {
    let longer = |sides: sheaf_site::Sides<'_>| match (sides.left, sides.right) {
        (Value::Text(left), Value::Text(right)) if left.len() > right.len() => {
            Custom::Value(sides.left.clone())
        }
        (Value::Text(_), Value::Text(_)) => Custom::Value(sides.right.clone()),
        _ => Custom::Refuse,
    };
    device.site.register_merge("longer", longer).unwrap();
}

const LONGER: &str = "CASE WHEN length(:left) > length(:right) THEN :left ELSE :right END";

#[test]
fn an_expression_travels_with_the_site() {
    let world = World::new();
    let [a, b, node] = devices(&world);
    let before = a.site.last_seq();
    a.sql(&format!("SELECT sheaf_define_merge('longer', '{LONGER}')"));
    assert_eq!(a.site.last_seq(), before + 1);
    for device in [&a, &b, &node] {
        device.exchange();
    }
    conflict(&a, &b);
    b.pull();
    assert_eq!(b.local("SELECT v, n FROM t"), "much longer|11", "predicted");
    let batch = b.site.outbox(0, usize::MAX).unwrap();
    assert!(batch.is_none_or(|batch| batch.mutations.len() == 1));
    for device in [&b, &a, &node] {
        device.exchange();
    }
    assert_converged(&[&a, &b, &node]);
    assert_eq!(node.local("SELECT v, n FROM t"), "much longer|11");
    // Another definition, in the same transaction as a change that it merges elsewhere.
    a.site.define_merge("LONGER", Some(":left || '+' || :right || '-' || :base")).unwrap();
    a.sql("UPDATE t SET v = 'a'");
    b.sql("UPDATE t SET v = 'b'");
    a.exchange();
    let done = b.exchange();
    assert!(done.rejected.is_empty(), "{done:?}");
    a.exchange();
    assert_eq!(a.local("SELECT v FROM t"), "b+a-much longer");
}

#[test]
fn a_closure_merges_where_it_is_registered_and_nowhere_else() {
    let world = World::new();
    let [a, b, c] = devices(&world);
    longer(&b);
    conflict(&a, &b);
    let done = b.exchange();
    assert!(done.rejected.is_empty(), "{done:?}");
    a.exchange();
    assert_eq!(a.local("SELECT v, n FROM t"), "much longer|11");
    // C has none: nothing is overwritten, and C is told.
    c.exchange();
    a.sql("UPDATE t SET v = 'of a'");
    c.sql("UPDATE t SET v = 'of c, without the function', n = 99");
    a.exchange();
    c.pull();
    assert_eq!(c.local("SELECT v, n FROM t"), "of a|11");
    let done = c.exchange();
    let [(_, why)] = &done.rejected[..] else { panic!("{done:?}") };
    assert!(why.starts_with("t 1: there is no merge function longer here"), "{why}");
    assert_eq!(c.local("SELECT v, n FROM t"), "of a|11");
    // One side alone needs no function.
    c.sql("UPDATE t SET v = 'of c'");
    assert!(c.exchange().rejected.is_empty());
    // And a function may refuse.
    b.exchange();
    a.exchange();
    a.sql("UPDATE t SET v = x'00'");
    b.sql("UPDATE t SET v = 'b'");
    a.exchange();
    let done = b.exchange();
    let [(_, why)] = &done.rejected[..] else { panic!("{done:?}") };
    assert_eq!(why, "t 1: column v was changed by somebody else meanwhile");
    a.site.register_merge("1st", |_| Custom::Refuse).unwrap_err();
}

#[test]
fn a_stored_expression_is_checked_wherever_it_comes_from() {
    let world = World::new();
    let [a, b] = devices(&world);
    for (sql, why) in [
        ("random()", "non-deterministic"),
        ("(SELECT v FROM t)", "subqueries prohibited"),
        (":left; DELETE FROM t", "one expression"),
        ("datetime()", "non-deterministic use of datetime()"),
    ] {
        let error = a.site.define_merge("longer", Some(sql)).unwrap_err().to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
    a.try_sql("SELECT sheaf_define_merge('no name', ':left')").unwrap_err();
    // Past the check, into the table: what fails refuses, and what is taken back is missing.
    a.sql(&format!("SELECT sheaf_define_merge('longer', '{LONGER}')"));
    a.sql("UPDATE __sheaf_merges SET sql = 'json_extract(:left, ''$'')'");
    a.exchange();
    b.exchange();
    conflict(&a, &b);
    let done = b.exchange();
    let [(_, why)] = &done.rejected[..] else { panic!("{done:?}") };
    assert_eq!(why, "t 1: merge function longer: malformed JSON");
    let problem = |device: &Device| {
        let rules = device.site.rules(Some("t")).unwrap();
        rules.into_iter().find(|info| info.column == "v").unwrap().problem
    };
    assert_eq!(problem(&b), None);
    b.site.define_merge("longer", None).unwrap();
    assert!(problem(&b).unwrap().contains("no merge function longer"));
    longer(&b);
    assert_eq!(problem(&b), None);
}
