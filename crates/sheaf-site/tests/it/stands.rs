//! Which operations of a merged mutation stand as they were written.

use sheaf_site::OpBits;

use crate::support::{Device, World};

const SCHEMA: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, v, w);
    CREATE TABLE kid(id TEXT PRIMARY KEY NOT NULL, t INT REFERENCES t(id) ON DELETE CASCADE);
    INSERT INTO t VALUES (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0)";
const FIRST: &str = "
    UPDATE t SET v = 'a' WHERE id IN (1, 2); DELETE FROM t WHERE id IN (3, 4);
    INSERT INTO t VALUES (6, 'a', 'a')";
/// As captured: delete 5, update 1, 2, 3, insert 6, insert the children of 4 and of 1.
const SECOND: &str = "PRAGMA foreign_keys = ON; BEGIN;
    UPDATE t SET v = 'b' WHERE id = 1; UPDATE t SET w = 'b' WHERE id = 2;
    UPDATE t SET w = 'b' WHERE id = 3; DELETE FROM t WHERE id = 5;
    INSERT INTO t VALUES (6, 'b', 'b'); INSERT INTO kid VALUES ('gone', 4), ('kept', 1); COMMIT";
const STANDS: [bool; 7] = [true, false, true, false, false, false, true];

fn apart(world: &World) -> (Device, Device) {
    let [a, b] = world.devices(SCHEMA);
    a.sql(FIRST);
    b.sql(SECOND);
    (a, b)
}

fn all(bits: &OpBits) -> Vec<bool> {
    bits.iter().collect()
}

#[test]
fn an_authority_tells_which_operations_stand() {
    let world = World::new();
    let (a, b) = apart(&world);
    let node = world.device();
    a.exchange();
    let batch = b.outbox();
    let (timeline, seq) = (batch.timeline, batch.first_seq);
    let sheaf_site::Body::Rows(ops) = batch.mutations[0].mutation().unwrap().body else { panic!() };
    assert_eq!(ops.len(), STANDS.len());
    let led = node.site.lead(&[batch], &*node.log, 4).unwrap();
    assert_eq!(led.stands.keys().collect::<Vec<_>>(), [&(timeline, seq)]);
    let stands = all(&led.stands[&(timeline, seq)]);
    let shown: Vec<String> = ops.iter().map(sheaf_site::Op::summary).collect();
    assert_eq!(stands, STANDS, "{shown:?}");
    b.exchange();
    assert_eq!(b.local("SELECT * FROM t"), "1|b|0;2|a|b;6|a|a;7|b|b");
    assert_eq!(b.local("SELECT id FROM kid"), "kept");
}

#[test]
fn a_prediction_tells_which_operations_stand() {
    let world = World::new();
    let (a, b) = apart(&world);
    a.exchange();
    b.sql("INSERT INTO t VALUES (100, 'alone', 0)");
    let integrated = b.pull();
    assert_eq!(integrated.merged, [1]);
    assert_eq!(integrated.stands.len(), 1, "only of what was merged");
    let merged = &integrated.stands[&1];
    assert_eq!(all(&merged.stands), STANDS);
    let altered: Vec<_> =
        merged.altered.iter().map(|op| (op.at, op.table.as_deref(), &*op.key)).collect();
    let key = |n| [sheaf_site::Value::Int(n)];
    let gone = ["gone".into()];
    let expected: [(usize, Option<&str>, &[sheaf_site::Value]); 4] = [
        (1, Some("t"), &key(1)),
        (3, Some("t"), &key(3)),
        (4, Some("t"), &key(6)),
        (5, Some("kid"), &gone),
    ];
    assert_eq!(altered, expected);
    assert_eq!(merged.altered[0].summary, "update t 1 (v)");
}
