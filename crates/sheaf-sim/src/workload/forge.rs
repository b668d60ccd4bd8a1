//! Mutations that no device of ours would make: what somebody sends who means harm, or whose
//! memory is broken.
//!
//! Invariant: the log has to refuse each of them, wherever it comes, and nothing else may suffer.
//! Leaves out the formats of a newer version: those stop their author until the node is newer too.

use bytes::{BufMut, Bytes, BytesMut};
use sheaf_merge::Value;
use sheaf_site::{Body, Change, ErrorKind, Mutation, Op};

use crate::rng::Rng;

/// Schema changes that are none, or not for mutations.
const STATEMENTS: &[&str] = &[
    "DROP TABLE __sheaf_timelines",
    "ALTER TABLE __sheaf_timelines RENAME TO theirs",
    "PRAGMA writable_schema = 1",
    "PRAGMA foreign_keys = 0",
    "ATTACH 'other.db' AS other",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK TO sheaf_replay",
    "RELEASE sheaf_replay",
    "SAVEPOINT sheaf_replay",
    "BEGIN; DELETE FROM acc",
    "DELETE FROM acc",
    "UPDATE acc SET v = 1000000",
    "CREATE TABLE gift AS SELECT * FROM acc; DELETE FROM acc",
    "CREATE TRIGGER more AFTER INSERT ON list BEGIN DELETE FROM acc; END; DROP TABLE acc",
    "CREATE VIRTUAL TABLE nothing USING absent(x)",
    "VACUUM INTO 'copy.db'",
    "CREATE TABLE __sheaf_timelines(x)",
    "\u{0}",
];

/// Tables whose rows are not for mutations, or that are not there.
const TABLES: &[&str] =
    &["__sheaf_timelines", "__sheaf_remap", "sqlite_schema", "sqlite_sequence", "absent", ""];

/// One forged mutation as it is stored and sent; the same number gives the same bytes.
pub(super) fn forged(number: u64) -> Bytes {
    let mut rng = Rng::new(number).fork("forged");
    loop {
        let bytes = draw(&mut rng);
        let body = bytes.get(8..).map(Mutation::decode);
        if !matches!(body, Some(Err(error)) if error.kind() == ErrorKind::Unsupported) {
            return bytes;
        }
    }
}

fn draw(rng: &mut Rng) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u64_le(rng.below(u64::MAX));
    match rng.below(5) {
        0 => garbage(rng, &mut bytes),
        1 => bytes.put_slice(&cut(rng)),
        _ => bytes.put_slice(&wellformed(rng).encode()),
    }
    bytes.freeze()
}

fn garbage(rng: &mut Rng, out: &mut BytesMut) {
    // Too short for its identity, or with a version that is known and nothing that is.
    let len = rng.below(80);
    if len < 8 {
        out.truncate(usize::try_from(len).unwrap_or(0));
        return;
    }
    out.put_u8(if rng.chance(500_000) { 1 } else { 2 });
    (8..len).for_each(|_| out.put_u8(u8::try_from(rng.below(256)).unwrap_or(0)));
}

/// The front of a good mutation.
fn cut(rng: &mut Rng) -> Bytes {
    let change = Change { col: "v".into(), base: Value::Int(1), left: Value::Int(2) };
    let key = vec![Value::Text("a0".into())];
    let ops = vec![Op::Update { table: "acc".into(), key, changes: vec![change] }];
    let whole = rows(ops).encode();
    whole.slice(..1 + rng.index(whole.len() - 1))
}

fn wellformed(rng: &mut Rng) -> Mutation {
    let word = |rng: &mut Rng, from: &[&str]| rng.pick(from).copied().unwrap_or("").to_owned();
    match rng.below(5) {
        0 => rows(vec![Op::Ddl { sql: word(rng, STATEMENTS) }]),
        1 => {
            let key = vec![Value::Int(1)];
            let cols = vec![("seq".to_owned(), Value::Int(i64::MAX))];
            rows(vec![Op::Insert { table: word(rng, TABLES), key, cols }])
        }
        2 => {
            // A key of the wrong width or kind, a column that is not there.
            let wide = Op::Delete { table: "acc".into(), key: vec![Value::Null; 3], old: vec![] };
            let kind = vec![Value::Text("one".into())];
            let cols = vec![("tag".to_owned(), Value::Text("t".into()))];
            let named = Op::Insert { table: "num".into(), key: kind, cols };
            let key = vec![Value::Text(format!("forged {}", rng.below(u64::MAX)))];
            let cols = vec![("nobody".to_owned(), Value::Null)];
            let column = Op::Insert { table: "note".into(), key, cols };
            rows([wide, named, column].into_iter().skip(rng.index(3)).take(1).collect())
        }
        3 => {
            // References to nothing, by numbers that are nothing's.
            let cols = ["id", "num"].map(|col| (col.to_owned(), Value::Int(i64::MIN)));
            let mut cols = cols.to_vec();
            cols.push(("tag".to_owned(), Value::Text("forged".into())));
            rows(vec![Op::Insert { table: "kid".into(), key: vec![Value::Int(i64::MIN)], cols }])
        }
        _ => {
            let name = word(rng, &["absent", "transfer", "", "sqlite_schema"]);
            let args = vec![("n".to_owned(), Value::Text("everything".into()))];
            let body = Body::Call { name, args, seed: [0; 32], time_ms: u64::MAX };
            Mutation::new(body, rng.chance(500_000))
        }
    }
}

fn rows(ops: Vec<Op>) -> Mutation {
    Mutation::new(Body::Rows(ops), true)
}
