//! Comparing states of one site, against what SQLite says of whole tables.

use sheaf_volume::{BucketRemote, DeviceId, ManualEnv, MemDir, MemObjects, Objects, Remote};

use super::*;
use crate::site::SiteOptions;

struct Bed {
    site: Site,
    log: Arc<BucketRemote>,
    objects: Arc<dyn Objects>,
    /// The number of the last commit.
    lsn: u64,
}

fn site(objects: &Arc<dyn Objects>, number: u8) -> (Site, Arc<BucketRemote>) {
    let options = SiteOptions::new("s", DeviceId::from_bytes([number; 16]));
    let env = Arc::new(ManualEnv::new(u64::from(number)));
    let site = Site::open(&MemDir::new(), env, options).unwrap();
    let ids = site.ids();
    let log = Arc::new(BucketRemote::new(Arc::clone(objects), ids.volume, ids.page_size));
    site.set_remote(Some(Arc::clone(&log) as Arc<dyn Remote>));
    (site, log)
}

impl Bed {
    fn new() -> Self {
        let objects: Arc<dyn Objects> = Arc::new(MemObjects::new());
        let (site, log) = site(&objects, 1);
        Self { site, log, objects, lsn: 0 }
    }

    fn sql(&self, sql: &str) {
        let conn = self.site.connection(View::Local).unwrap();
        conn.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {}", explain(&conn, e)));
    }

    /// Runs it as a commit of its own; gives its position.
    fn commit(&mut self, sql: &str) -> View {
        self.sql(sql);
        self.site.exchange_with_log(&*self.log).unwrap();
        assert!(self.site.base().0.0 > self.lsn, "{sql} made no commit");
        self.lsn = self.site.base().0.0;
        View::At(self.site.base().0)
    }

    fn diff(&self, a: View, b: View) -> Diff {
        let side = |view| Side::of_site(&self.site, view).unwrap();
        Diff::new(side(a), side(b)).unwrap()
    }
}

/// Rows as `-`, `+` and `~` lines, sorted.
fn lines(diff: &Diff) -> Vec<String> {
    let mut lines = Vec::new();
    for table in diff.tables() {
        diff.rows(&table, &mut |shape, change| {
            let show = |row: &Row| row.values.iter().map(literal).collect::<Vec<_>>().join(",");
            lines.push(match &change {
                Change::Deleted(row) => format!("{} -{}", shape.name, show(row)),
                Change::Inserted(row) => format!("{} +{}", shape.name, show(row)),
                Change::Updated { old, new } => {
                    format!("{} ~{} -> {}", shape.name, show(old), show(new))
                }
            });
            Ok(())
        })
        .unwrap();
    }
    lines.sort();
    lines
}

/// The same as SQLite finds it by reading both tables whole: every row with its type, per key.
fn whole_tables(diff: &Diff) -> Vec<String> {
    let mut lines = Vec::new();
    for table in diff.tables() {
        let read = |side: &Side| {
            let mut found = BTreeMap::new();
            if let Some(table) = side.table(&table) {
                rows::only(&table, Change::Inserted, &mut |shape, change| {
                    let Change::Inserted(row) = change else { unreachable!() };
                    let key: Vec<String> = shape.key_of(&row).iter().map(literal).collect();
                    let show = row.values.iter().map(literal).collect::<Vec<_>>().join(",");
                    assert!(found.insert(key, show).is_none(), "two rows with one key");
                    Ok(())
                })
                .unwrap();
            }
            found
        };
        let (a, b) = (read(&diff.a), read(&diff.b));
        for (key, old) in &a {
            match b.get(key) {
                None => lines.push(format!("{table} -{old}")),
                Some(new) if new != old => lines.push(format!("{table} ~{old} -> {new}")),
                Some(_) => {}
            }
        }
        let fresh = b.iter().filter(|(key, _)| !a.contains_key(*key));
        lines.extend(fresh.map(|(_, new)| format!("{table} +{new}")));
    }
    lines.sort();
    lines
}

/// The statements turn a copy of the first state into the second.
fn check_patch(bed: &Bed, a: View, b: View, diff: &Diff) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a.db"), dir.path().join("b.db"));
    bed.site.export_file(a, &from).unwrap();
    bed.site.export_file(b, &to).unwrap();
    let mut script = String::from("PRAGMA foreign_keys = OFF; BEGIN;\n");
    diff.statements(None, true, &mut |statement| {
        script.push_str(&statement.text());
        script.push_str(";\n");
        Ok(())
    })
    .unwrap();
    script.push_str("COMMIT;");
    let conn = Connection::open(&from).unwrap();
    conn.execute_batch(&script).unwrap_or_else(|e| panic!("{e} in\n{script}"));
    let ok: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
    drop(conn);
    let again = Diff::new(Side::of_file(&from).unwrap(), Side::of_file(&to).unwrap()).unwrap();
    assert_eq!(again.schema_changes(), [], "{script}");
    assert_eq!(whole_tables(&again), Vec::<String>::new(), "{script}");
}

const TABLES: &str = "
    CREATE TABLE plain(a, b TEXT);
    CREATE TABLE ids(id INTEGER PRIMARY KEY, n REAL, big TEXT, g AS (n + 1) STORED);
    CREATE TABLE named(name TEXT PRIMARY KEY COLLATE NOCASE, v, u UNIQUE);
    CREATE TABLE pair(x INT, y BLOB, z, PRIMARY KEY(y, x)) WITHOUT ROWID;
    CREATE INDEX by_z ON pair(z);
    CREATE TABLE seen(what);
    CREATE TRIGGER noted AFTER UPDATE ON plain BEGIN INSERT INTO seen VALUES (new.a); END;
";

/// Statements that people write, by a seed.
fn change(random: &mut impl FnMut(u64) -> u64) -> String {
    let (n, m) = (random(400), random(400));
    let text = |len: u64, random: &mut dyn FnMut(u64) -> u64| {
        format!(
            "'{}'",
            char::from(b'a' + u8::try_from(random(26)).unwrap())
                .to_string()
                .repeat(usize::try_from(len).unwrap())
        )
    };
    match random(14) {
        0 => format!("INSERT INTO plain VALUES ({n}, 'it''s {m}')"),
        1 => format!("UPDATE plain SET b = x'00ff{:02x}' WHERE rowid % 50 = {}", n % 256, m % 50),
        2 => format!("DELETE FROM plain WHERE rowid % 60 = {}", m % 60),
        3 => format!("INSERT OR REPLACE INTO ids(id, n) VALUES ({n}, {m}.5), ({m}, NULL)"),
        // A value that grows, shrinks or changes in place behind the first page.
        4 | 5 => {
            let len = [10, 3_000, 9_000, 9_000][usize::try_from(random(4)).unwrap()];
            let value = text(len, random);
            format!(
                "INSERT INTO ids(id, big) VALUES ({n}, {value}) \
                     ON CONFLICT(id) DO UPDATE SET big = excluded.big"
            )
        }
        6 => format!(
            "UPDATE ids SET big = substr(big, 1, 8000) || 'Z' || substr(big, 8002) \
                      WHERE id % 7 = {} AND length(big) > 8500",
            n % 7
        ),
        7 => format!("INSERT OR REPLACE INTO named VALUES ('K{n}', {m}, {})", n * 7 % 97),
        8 => format!("UPDATE named SET name = lower(name) WHERE rowid % 9 = {}", n % 9),
        9 => "UPDATE OR REPLACE named SET u = u + 1 WHERE u < 50".to_owned(),
        10 => format!(
            "INSERT OR REPLACE INTO pair VALUES ({n}, x'{:02x}', {})",
            m % 256,
            text(random(2) * 2_500, random)
        ),
        11 => format!("DELETE FROM pair WHERE x % 40 = {}", n % 40),
        12 => format!("UPDATE pair SET z = {m} WHERE x % 30 = {}", n % 30),
        _ => format!(
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {n}) \
                      INSERT INTO plain SELECT i, 'row ' || i FROM c"
        ),
    }
}

#[test]
fn differences_are_those_of_whole_tables() {
    let runs = if std::env::var_os("SHEAF_TEST_LONG").is_some_and(|v| v == "1") { 60 } else { 4 };
    for seed in 0..runs {
        let mut state: u64 = seed;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut bed = Bed::new();
        let mut views = vec![bed.commit(TABLES)];
        for _ in 0..6 {
            let script: Vec<String> = (0..1 + random(6)).map(|_| change(&mut random)).collect();
            // Something always changes.
            views.push(bed.commit(&format!("INSERT INTO seen VALUES (1); {}", script.join(";"))));
        }
        bed.sql(&change(&mut random));
        views.push(View::Local);
        for (n, a) in views.iter().enumerate() {
            for b in &views {
                let diff = bed.diff(*a, *b);
                assert!(diff.pages().is_some());
                assert_eq!(lines(&diff), whole_tables(&diff), "seed {seed}: {a:?} to {b:?}");
                if n % 3 == 0 {
                    check_patch(&bed, *a, *b, &diff);
                }
            }
        }
    }
}

#[test]
fn a_value_that_changed_behind_its_row_is_found() {
    let mut bed = Bed::new();
    let fill = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); \
        INSERT INTO t SELECT value, printf('%.*c', 9000, 'x') FROM generate_series(1, 9)";
    let fill = fill.replace("generate_series(1, 9)", "json_each('[1,2,3,4,5,6,7,8,9]')");
    let before = bed.commit(&fill);
    let tail = "UPDATE t SET v = substr(v, 1, 8990) || 'y' || substr(v, 8992) WHERE id = 5";
    let after = bed.commit(tail);
    let diff = bed.diff(before, after);
    assert_eq!(lines(&diff).len(), 1);
    assert_eq!(lines(&diff), whole_tables(&diff));
}

#[test]
fn one_row_of_many_costs_a_handful_of_pages() {
    let mut bed = Bed::new();
    bed.commit(
        "CREATE TABLE big(id INTEGER PRIMARY KEY, name TEXT, n INT); CREATE INDEX i ON big(name);
         CREATE TABLE other(a PRIMARY KEY, b) WITHOUT ROWID;
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000)
         INSERT INTO big SELECT i, 'row number ' || i, i FROM c;
         INSERT INTO other SELECT id, name FROM big WHERE id % 5 = 0",
    );
    let before = View::At(bed.site.base().0);
    let after = bed.commit("UPDATE big SET n = -1 WHERE id = 54321");
    // Another device, which has no page yet.
    let (cold, _) = site(&bed.objects, 2);
    let asked = Arc::new(Asked { inner: bed.log.clone(), pages: std::sync::Mutex::default() });
    cold.set_remote(Some(Arc::clone(&asked) as Arc<dyn Remote>));
    cold.adopt(bed.site.ids(), bed.log.head().unwrap()).unwrap();
    let all = u64::from(cold.volume().head().page_count().0);
    let side = |view| Side::of_site(&cold, view).unwrap();
    let diff = Diff::new(side(before), side(after)).unwrap();
    let found = lines(&diff);
    assert_eq!(found, ["big ~54321,'row number 54321',54321 -> 54321,'row number 54321',-1"]);
    let pages = *asked.pages.lock().unwrap();
    // Schema, roots, inner pages, one leaf per tree, and the row's page in both states; besides
    // what is asked for ahead.
    assert!(pages < 30 && all > 1_000, "{pages} of {all} pages");
}

/// A remote that counts the pages it is asked for.
#[derive(Debug)]
struct Asked {
    inner: Arc<BucketRemote>,
    pages: std::sync::Mutex<u64>,
}

impl Remote for Asked {
    fn head(&self) -> Result<sheaf_volume::RemoteHead> {
        self.inner.head()
    }

    fn pull(&self, after: sheaf_volume::Lsn) -> Result<Vec<sheaf_volume::Commit>> {
        self.inner.pull(after)
    }

    fn fetch(&self, wants: &[sheaf_volume::Want]) -> Result<Vec<sheaf_volume::FetchedPage>> {
        *self.pages.lock().unwrap() += wants.iter().map(|want| want.pages.len()).sum::<u64>();
        self.inner.fetch(wants)
    }
}

#[test]
fn a_restore_is_one_mutation_and_history_stays() {
    let mut bed = Bed::new();
    let old = bed.commit(&format!(
        "{TABLES} INSERT INTO plain VALUES (1, 'a'), (2, 'b'); INSERT INTO ids(id, n) VALUES (1, 1);
         INSERT INTO named VALUES ('k', 1, 1), ('l', 2, 2); INSERT INTO pair VALUES (1, x'01', 'z')"
    ));
    bed.commit(
        "UPDATE plain SET b = 'c'; DELETE FROM ids;
         DELETE FROM named; INSERT INTO named VALUES ('k', 1, 1), ('l', 2, 9);
         DROP TABLE pair; CREATE TABLE fresh(x); INSERT INTO fresh VALUES (1);
         ALTER TABLE seen ADD COLUMN more DEFAULT 7",
    );
    let planned = bed.site.restore(old, true).unwrap();
    assert!(planned.rows() > 0 && planned.seq.is_none());
    let before = bed.site.last_seq();
    let done = bed.site.restore(old, false).unwrap();
    assert_eq!((done.rows(), done.schema), (planned.rows(), planned.schema));
    assert_eq!(done.seq, Some(before + 1));
    let same = |a, b| {
        let diff = bed.diff(a, b);
        assert_eq!((diff.schema_changes(), lines(&diff)), (Vec::new(), Vec::new()));
    };
    same(old, View::Local);
    // The same for everybody, once it is in the log; and what was before is still there.
    let done = bed.site.exchange_with_log(&*bed.log).unwrap();
    assert_eq!((done.pushed, done.rejected), (1, Vec::new()));
    assert_eq!(bed.site.base().0.0, bed.lsn + 1);
    same(old, View::Global);
    assert!(!lines(&bed.diff(old, View::At(sheaf_volume::Lsn(bed.lsn)))).is_empty());
    assert_eq!(bed.site.restore(old, false).unwrap(), Restored::default());
}

#[test]
fn text_indexes_follow_a_restore() {
    let mut bed = Bed::new();
    let old = bed.commit(
        "CREATE TABLE doc(id INTEGER PRIMARY KEY, body TEXT);
         CREATE VIRTUAL TABLE found USING fts5(body, content='doc', content_rowid='id');
         CREATE TRIGGER doc_in AFTER INSERT ON doc BEGIN
             INSERT INTO found(rowid, body) VALUES (new.id, new.body); END;
         CREATE TRIGGER doc_out AFTER DELETE ON doc BEGIN
             INSERT INTO found(found, rowid, body) VALUES ('delete', old.id, old.body); END;
         CREATE VIRTUAL TABLE own USING fts5(note);
         INSERT INTO doc VALUES (1, 'first words'); INSERT INTO own VALUES ('kept note')",
    );
    bed.commit("DELETE FROM doc; INSERT INTO doc VALUES (2, 'second text'); DELETE FROM own");
    assert_eq!(lines(&bed.diff(old, View::Local)).len(), 3);
    bed.site.restore(old, false).unwrap();
    let conn = bed.site.connection(View::Local).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM found WHERE found MATCH 'first'"), 1);
    assert_eq!(count("SELECT count(*) FROM found WHERE found MATCH 'second'"), 0);
    assert_eq!(count("SELECT count(*) FROM own WHERE own MATCH 'kept'"), 1);
}

#[test]
fn sites_without_a_common_history_are_compared_row_by_row() {
    let (one, other) = (Bed::new(), Bed::new());
    one.sql("CREATE TABLE t(k PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1), ('b', 2)");
    other.sql("CREATE TABLE t(k PRIMARY KEY, v); INSERT INTO t VALUES ('b', 3), ('c', 4)");
    let side = |bed: &Bed| Side::of_site(&bed.site, View::Local).unwrap();
    let diff = Diff::new(side(&one), side(&other)).unwrap();
    assert_eq!(diff.pages(), None);
    assert_eq!(lines(&diff), ["t +'c',4", "t -'a',1", "t ~'b',2 -> 'b',3"]);
}

#[test]
fn values_are_written_as_sql_reads_them() {
    let conn = Connection::open_in_memory().unwrap();
    for value in [
        sheaf_merge::Value::Null,
        i64::MIN.into(),
        i64::MAX.into(),
        0.1.into(),
        (-0.0).into(),
        1e300.into(),
        f64::INFINITY.into(),
        f64::NEG_INFINITY.into(),
        "it's\n\u{e9}".into(),
        "a\0b".into(),
        vec![0, 255].into(),
        Vec::new().into(),
    ] {
        let sql = format!("SELECT {}", literal(&value));
        let back =
            conn.query_row(&sql, [], |row| Ok(crate::value::from_ref(row.get_ref(0)?).unwrap()));
        assert_eq!(back.unwrap(), value, "{sql}");
    }
}

#[test]
fn a_damaged_tree_is_an_error() {
    let mut bed = Bed::new();
    let before = bed.commit(TABLES);
    bed.commit("INSERT INTO plain VALUES (1, 'x')");
    let (a, b) = (
        Pages::of(Box::new(bed.site.volume().global())).unwrap().unwrap(),
        Pages::of(Box::new(Side::of_site(&bed.site, before).unwrap().snapshot.unwrap())),
    );
    let b = b.unwrap().unwrap();
    let differ = PageSet::range(PageIdx::FIRST, PageIdx::FIRST);
    let beyond = PageIdx::new(999).unwrap();
    let roots = [Roots { name: "t".to_owned(), has_rowids: true, a: beyond, b: beyond }];
    let error = walk::plan(&a, &b, &differ, &roots).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}
