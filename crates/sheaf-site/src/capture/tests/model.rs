//! Random transactions: applying the mutation to a copy of the old state gives the new state.

use proptest::prelude::*;
use rusqlite::params_from_iter;

use super::*;
use crate::schema::{Identity, Schema, quote_ident};
use crate::value::Bind;

const SETUP: &str = "
    CREATE TABLE i(id INTEGER PRIMARY KEY, u UNIQUE, v);
    CREATE TABLE d(v, k TEXT PRIMARY KEY NOT NULL, u UNIQUE);
    CREATE TABLE w(u UNIQUE, a INT, b TEXT, v, PRIMARY KEY(b,a)) WITHOUT ROWID;
    CREATE TABLE n(v, u UNIQUE);
    CREATE TRIGGER g AFTER DELETE ON i BEGIN UPDATE n SET v=old.v WHERE rowid=old.id; END;
    INSERT INTO i VALUES(1,1,1),(2,2,2),(3,3,3);
    INSERT INTO d VALUES(1,'1',1),(2,'2',2),(3,'3',3);
    INSERT INTO w VALUES(1,1,'1',1),(2,2,'1',2),(3,1,'2',3);
    INSERT INTO n VALUES(1,1),(2,2),(3,3);";

fn statement() -> impl Strategy<Value = String> {
    let n = || 0..6_i32;
    let table = || prop::sample::select(vec!["i", "d", "w", "n"]);
    let or = prop::sample::select(vec!["", "OR REPLACE", "OR IGNORE", "OR FAIL"]);
    prop_oneof![
        6 => (or.clone(), table(), n(), n(), n()).prop_map(|(or, table, a, b, c)| match table {
            "w" => format!("INSERT {or} INTO w VALUES({a},{b},{c},{a}),({c},{a},{b},{a})"),
            "n" => format!("INSERT {or} INTO n(v,u,rowid) VALUES({a},{b},{c})"),
            table => format!("INSERT {or} INTO {table} VALUES({a},{b},{c}),({c},{a},{b})"),
        }),
        4 => (or, table(), n(), n(), n()).prop_map(|(or, table, a, b, c)| {
            let col = match (table, a % 3) {
                (_, 0) => "v",
                (_, 1) => "u",
                ("i", _) => "id",
                ("d", _) => "k",
                ("w", _) => "b",
                _ => "rowid",
            };
            // Long values are noted only when they go.
            let value = if b < 3 { b.to_string() } else { format!("printf('%300d',{b})") };
            format!("UPDATE {or} {table} SET {col}={value} WHERE v={c} OR u={a} OR u>9")
        }),
        3 => (table(), n()).prop_map(|(table, a)| format!("DELETE FROM {table} WHERE v={a}")),
        1 => n().prop_map(|a| format!("UPDATE d SET rowid={a} WHERE v={a}")),
        1 => table().prop_map(|table| format!("DELETE FROM {table}")),
        1 => Just("SAVEPOINT s".to_owned()),
        1 => Just("ROLLBACK TO s".to_owned()),
        1 => Just("RELEASE s".to_owned()),
        1 => Just("CREATE TABLE IF NOT EXISTS n(x)".to_owned()),
        1 => Just("CREATE TABLE m(v, u UNIQUE, k PRIMARY KEY)".to_owned()),
        1 => n().prop_map(|a| format!("INSERT INTO m VALUES({a},{a},{a})")),
        1 => Just("DROP TABLE m".to_owned()),
        1 => Just("DROP TABLE n".to_owned()),
        1 => Just("CREATE TABLE n(v, u UNIQUE)".to_owned()),
    ]
}

/// Replays a mutation on the state it was made in. Uniqueness is not checked on the way: the
/// values of both sides may pass through each other.
fn apply(conn: &Connection, mutation: &Mutation) {
    let Body::Rows(ops) = &mutation.body else { panic!() };
    let ops: Vec<_> = ops.iter().collect();
    let (ddl, rows): (Vec<_>, Vec<_>) = ops.into_iter().partition(|op| op.table().is_none());
    for op in ddl {
        let Op::Ddl { sql } = op else { panic!() };
        conn.execute_batch(sql).unwrap();
    }
    let schema = Schema::read(conn).unwrap();
    let key_names = |table: &str| -> Vec<String> {
        let info = schema.table(table).unwrap();
        match info.identity {
            Identity::Rowid => vec!["rowid".to_owned()],
            _ => info.key_columns().iter().map(|(_, c)| quote_ident(&c.name)).collect(),
        }
    };
    let by_key = |table: &str| {
        key_names(table).iter().map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(" AND ")
    };
    let mut inserts: Vec<(String, Vec<String>, Vec<Value>)> = Vec::new();
    for op in rows {
        match op {
            Op::Delete { table, key, .. } => {
                let sql = format!("DELETE FROM {table} WHERE {}", by_key(table));
                assert_eq!(conn.execute(&sql, params_from_iter(key.iter().map(Bind))).unwrap(), 1);
            }
            Op::Update { table, key, changes } => {
                // As delete and insert, so that unique values can change places.
                let sql = format!("SELECT * FROM {table} WHERE {}", by_key(table));
                let mut read = conn.prepare(&sql).unwrap();
                let mut names: Vec<String> = read.column_names().map(str::to_owned).collect();
                let mut values: Vec<Value> = read
                    .query_row(params_from_iter(key.iter().map(Bind)), |row| {
                        Ok((0..names.len())
                            .map(|at| crate::value::from_ref(row.get_ref(at).unwrap()).unwrap())
                            .collect())
                    })
                    .unwrap();
                for change in changes {
                    let at = names.iter().position(|name| *name == change.col).unwrap();
                    assert_eq!(values[at], change.base);
                    values[at] = change.left.clone();
                }
                let sql = format!("DELETE FROM {table} WHERE {}", by_key(table));
                conn.execute(&sql, params_from_iter(key.iter().map(Bind))).unwrap();
                if schema.table(table).unwrap().identity == Identity::Rowid {
                    names.push("rowid".to_owned());
                    values.extend(key.iter().cloned());
                }
                inserts.push((table.clone(), names, values));
            }
            Op::Insert { table, key, cols } => {
                let (mut names, mut values): (Vec<String>, Vec<Value>) =
                    cols.iter().cloned().unzip();
                if schema.table(table).unwrap().identity == Identity::Rowid {
                    names.push("rowid".to_owned());
                    values.extend(key.iter().cloned());
                }
                inserts.push((table.clone(), names, values));
            }
            Op::Ddl { .. } => panic!("DDL comes first"),
        }
    }
    for (table, names, values) in inserts {
        let marks = vec!["?"; names.len()].join(",");
        let sql = format!("INSERT INTO {table}({}) VALUES({marks})", names.join(","));
        conn.execute(&sql, params_from_iter(values.iter().map(Bind))).unwrap();
    }
}

fn dump(conn: &Connection) -> Vec<String> {
    let schema = Schema::read(conn).unwrap();
    let mut lines: Vec<String> = schema.objects().iter().map(|o| format!("{o:?}")).collect();
    for info in schema.tables() {
        let key = if info.identity == Identity::Rowid { "rowid," } else { "" };
        let mut read = conn.prepare(&format!("SELECT {key}* FROM {}", info.name)).unwrap();
        let count = read.column_count();
        let mut rows = read.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..count).map(|at| format!("{:?}", row.get_ref(at).unwrap()));
            lines.push(format!("{} {}", info.name, values.collect::<Vec<_>>().join(" ")));
        }
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_mutation_is_the_difference_of_two_states(
        transactions in prop::collection::vec(prop::collection::vec(statement(), 1..14), 1..3),
    ) {
        let bench = Bench::new(SETUP);
        let copy = Connection::open_in_memory().unwrap();
        copy.execute_batch(SETUP).unwrap();
        copy.execute_batch("DROP TRIGGER g").unwrap();
        bench.conn.execute_batch("DROP TRIGGER IF EXISTS dropped").unwrap();
        for statements in &transactions {
            let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
            if let Some(mutation) = bench.run(&statements).unwrap() {
                apply(&copy, &mutation);
                prop_assert_eq!(Mutation::decode(&mutation.encode()).unwrap(), mutation);
            }
            let without_trigger = |lines: Vec<String>| -> Vec<String> {
                lines.into_iter().filter(|line| !line.contains("CREATE TRIGGER")).collect()
            };
            prop_assert_eq!(without_trigger(dump(&copy)), without_trigger(dump(&bench.conn)));
        }
    }
}
