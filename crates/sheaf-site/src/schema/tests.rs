//! What is read from schemas of every kind.

use proptest::prelude::*;

use super::*;

fn read(sql: &str) -> Schema {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(sql).unwrap();
    Schema::read(&conn).unwrap()
}

#[test]
fn identities() {
    let check = |columns: &str, identity: Identity, key: &[&str]| {
        let schema = read(&format!("CREATE TABLE t({columns}"));
        let info = schema.table("T").unwrap();
        let names: Vec<_> = info.key_columns().iter().map(|(_, c)| c.name.as_str()).collect();
        assert_eq!((info.identity, names.as_slice()), (identity, key), "{columns}");
    };
    check("a, b)", Identity::Rowid, &[]);
    check("a, b integer primary key)", Identity::Integer, &["b"]);
    check("a INTEGER, PRIMARY KEY(a))", Identity::Integer, &["a"]);
    check("a INTEGER PRIMARY KEY DESC)", Identity::Declared, &["a"]);
    check("a INT PRIMARY KEY)", Identity::Declared, &["a"]);
    check("a INTEGER PRIMARY KEY) WITHOUT ROWID", Identity::Declared, &["a"]);
    check("a, b, c, PRIMARY KEY(c, a))", Identity::Declared, &["c", "a"]);
    check("a TEXT PRIMARY KEY) STRICT", Identity::Declared, &["a"]);
}

#[test]
fn columns_keep_their_numbers() {
    let schema = read("CREATE TABLE t(a, v AS (a), s AS (a) STORED, b REAL)");
    let info = schema.table("t").unwrap();
    let stored: Vec<_> = info.stored().map(|(at, c)| (at, c.name.as_str(), c.affinity)).collect();
    assert_eq!(stored, [(0, "a", Affinity::Blob), (3, "b", Affinity::Real)]);
    assert_eq!(info.rowid_name(), Some("rowid"));
    let schema = read("CREATE TABLE t(RowID, _rowid_)");
    assert_eq!(schema.table("t").unwrap().rowid_name(), Some("oid"));
}

#[test]
fn affinity_follows_the_type_name() {
    use Affinity::{Blob, Integer, Numeric, Real, Text};
    let names =
        ["", "int", "VARCHAR(3)", "FLOATING POINT", "CHARINT", "double", "DATE", "BLOBREAL", "Any"];
    let found = names.map(affinity);
    assert_eq!(found, [Blob, Integer, Text, Integer, Integer, Real, Numeric, Blob, Blob]);
}

#[test]
fn kinds() {
    let schema = read(
        "CREATE VIRTUAL TABLE o USING fts5(content, x); CREATE TABLE t(a);
         CREATE VIRTUAL TABLE e USING FTS5(a, content = \"t\");
         CREATE VIRTUAL TABLE c USING fts5(a, content='');
         CREATE VIRTUAL TABLE r USING rtree(i, x0, x1); CREATE VIEW v AS SELECT 1;
         CREATE TABLE q(id INTEGER PRIMARY KEY AUTOINCREMENT)",
    );
    let kind = |name: &str| schema.table(name).unwrap().kind.clone();
    let fts = |content| TableKind::Virtual { module: "fts5".to_owned(), content };
    assert_eq!(kind("o"), fts(FtsContent::Own));
    assert_eq!(kind("e"), fts(FtsContent::External));
    assert_eq!(kind("c"), fts(FtsContent::Contentless));
    let rtree = TableKind::Virtual { module: "rtree".to_owned(), content: FtsContent::None };
    assert_eq!(kind("r"), rtree);
    assert_eq!(kind("o_content"), TableKind::Shadow { owner: "o".to_owned() });
    assert_eq!(kind("v"), TableKind::View);
    assert_eq!(kind("q"), TableKind::Table);
    assert!(schema.table("sqlite_sequence").is_none());
}

#[test]
fn parents_go_before_children_and_cycles_by_name() {
    let schema = read(
        "CREATE TABLE a(x REFERENCES Z); CREATE TABLE z(x PRIMARY KEY, y REFERENCES z);
         CREATE TABLE m(x REFERENCES a, y REFERENCES nobody);
         CREATE TABLE p(x REFERENCES q); CREATE TABLE q(x REFERENCES p)",
    );
    let mut names: Vec<_> = schema.tables().map(|info| info.name.as_str()).collect();
    names.sort_by_key(|name| schema.rank(name));
    assert_eq!(names, ["z", "a", "m", "p", "q"]);
    let keys = &schema.table("a").unwrap().foreign_keys;
    assert_eq!(keys[0].columns, [("x".to_owned(), None)]);
    assert_eq!(keys[0].parent, "Z");
}

#[test]
fn names_are_quoted() {
    let schema = read("CREATE TABLE \"a\"\"b\"(\"c d\" INTEGER PRIMARY KEY)");
    let info = schema.table("A\"B").unwrap();
    assert_eq!(info.sql.all, "SELECT \"c d\", \"c d\" FROM main.\"a\"\"b\"");
}

/// What [`order`] does, said as simply as possible.
fn plainly(parents: &[(String, BTreeSet<String>)]) -> BTreeMap<String, usize> {
    let mut waiting: BTreeMap<_, _> = parents.iter().cloned().collect();
    let mut ranks = BTreeMap::new();
    while let Some(next) = waiting
        .iter()
        .find(|(_, parents)| parents.iter().all(|parent| ranks.contains_key(parent)))
        .or_else(|| waiting.first_key_value())
        .map(|(name, _)| name.clone())
    {
        waiting.remove(&next);
        ranks.insert(next, ranks.len());
    }
    ranks
}

proptest! {
    #[test]
    fn parents_come_first_and_cycles_break_at_the_first_name(
        edges in prop::collection::vec((0u8..12, 0u8..12), 0..30),
    ) {
        let mut parents = vec![BTreeSet::new(); 12];
        for (child, parent) in edges {
            if child != parent {
                parents[usize::from(child)].insert(format!("t{parent:02}"));
            }
        }
        let named = parents.into_iter().enumerate().map(|(at, set)| (format!("t{at:02}"), set));
        let all: Vec<_> = named.collect();
        prop_assert_eq!(order(all.iter().cloned()), plainly(&all));
    }
}
