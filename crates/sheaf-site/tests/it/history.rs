//! What became of one row, by the log alone: against a list that the test keeps, what a look back
//! costs, where it ends, and taking mutations back while others changed the same rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_site::history::{End, History, MutationName, RowChange, RowEvent, Since};
use sheaf_site::{ErrorKind, Value, View};
use sheaf_volume::{
    BucketRemote, Commit, FetchedPage, GcStep, Lsn, PageSize, Remote, RemoteHead, Result,
    Retention, Want,
};

use crate::support::{Device, Rng, World, assert_converged, is_long};

const TABLES: &str = "CREATE TABLE ids(id INTEGER PRIMARY KEY, v, w);
    CREATE TABLE plain(v, w);
    CREATE TABLE named(k TEXT PRIMARY KEY, v, w);
    CREATE TABLE pair(a TEXT COLLATE NOCASE, b INT, v, w, PRIMARY KEY(b, a)) WITHOUT ROWID;
    CREATE INDEX by_v ON ids(v);";

/// A table of the model: its name, the columns of its key, and the key of a number.
type Kind = (&'static str, &'static str, fn(i64) -> Vec<Value>);

const KINDS: [Kind; 4] = [
    ("ids", "id", |n| vec![n.into()]),
    ("plain", "rowid", |n| vec![(n * 7).into()]),
    ("named", "k", |n| vec![format!("key {n}").into()]),
    ("pair", "b, a", |n| vec![(n % 5).into(), format!("Key {n}").into()]),
];

fn literals(values: &[Value]) -> String {
    values.iter().map(sheaf_site::diff::literal).collect::<Vec<_>>().join(", ")
}

fn condition(columns: &str, key: &[Value]) -> String {
    format!("({columns}) = ({})", literals(key))
}

/// One change as a line: position, mark, the values before and after.
fn line(event: &RowEvent) -> String {
    let at = event.origin.at.map_or_else(|| "-".to_owned(), |lsn| lsn.0.to_string());
    let told = |value: &Value| {
        let text = sheaf_site::diff::literal(value);
        if text.len() < 40 { text } else { format!("{} bytes", text.len()) }
    };
    let cells = |cells: &[sheaf_site::history::Cell]| {
        let values = cells.iter().filter(|cell| cell.name == "v" || cell.name == "w");
        values.map(|cell| told(&cell.value)).collect::<Vec<_>>().join(",")
    };
    match &event.change {
        RowChange::Inserted(row) => format!("{at} + {}", cells(row)),
        RowChange::Deleted(row) => format!("{at} - {}", cells(row)),
        RowChange::Updated(changes) => {
            let side =
                |value: &Option<Value>| value.as_ref().map_or_else(|| "none".to_owned(), told);
            let each = changes.iter().map(|change| {
                format!("{} {} -> {}", change.name, side(&change.old), side(&change.new))
            });
            format!("{at} ~ {}", each.collect::<Vec<_>>().join(", "))
        }
    }
}

fn lines(history: &History) -> Vec<String> {
    history.events.iter().map(line).collect()
}

fn history(device: &Device, table: &str, key: impl Into<Value>) -> History {
    device.site.history(table, &[key.into()], 1_000, None).unwrap()
}

/// One mutation in one commit; gives its position.
fn commit(device: &Device, sql: &str) -> u64 {
    device.sql(&format!("BEGIN; {sql}; COMMIT"));
    device.exchange();
    device.site.base().0.0
}

fn name(text: &str) -> MutationName {
    text.parse().unwrap()
}

/// A value now and then too long for its page.
fn value(rng: &mut Rng) -> Value {
    let long = if rng.chance(8) { 2_000 } else { 60 };
    let len = rng.below(long);
    match rng.below(4) {
        0 => Value::Int(rng.below(1_000) as i64),
        1 => Value::Null,
        _ => format!("{}{}", rng.below(1_000), "x".repeat(len)).into(),
    }
}

#[test]
fn histories_are_those_that_were_made() {
    for seed in 1..=if is_long() { 4 } else { 2 } {
        let (commits, rows) = if is_long() { (300, 40) } else { (120, 20) };
        made(seed, commits, rows, 1);
    }
}

#[test]
fn its_own_mutations_of_one_commit_are_told_apart_on_their_device() {
    for seed in 5..=if is_long() { 8 } else { 6 } {
        // Few rows, so that several mutations of a commit meet in one.
        let (commits, rows) = if is_long() { (100, 12) } else { (30, 4) };
        made(seed, commits, rows, 6);
    }
}

/// Rows of every kind of table come, change and go, one row a mutation and up to `most` mutations
/// a commit, while trees grow and shrink.
fn made(seed: u64, commits: usize, numbers: usize, most: usize) {
    let mut rng = Rng::new(seed);
    let mut world = World::new();
    world.ids.page_size = PageSize::new(512).unwrap();
    let device = world.device();
    commit(&device, TABLES);
    let mut rows: BTreeMap<(usize, i64), [Value; 2]> = BTreeMap::new();
    let mut told: BTreeMap<(usize, i64), Vec<(u64, String)>> = BTreeMap::new();
    let mut lsn = device.site.base().0.0;
    // What the log has, and what waits.
    let (mut agreed, mut waiting) = (rows.clone(), Vec::new());
    let show = |value: &Value| {
        let text = sheaf_site::diff::literal(value);
        if text.len() < 40 { text } else { format!("{} bytes", text.len()) }
    };
    while lsn < commits as u64 {
        let (kind, n) = (rng.below(KINDS.len()), rng.below(numbers) as i64);
        let (table, columns, key_of) = KINDS[kind];
        let key = key_of(n);
        let at = condition(columns, &key);
        let new = [value(&mut rng), value(&mut rng)];
        let (v, w) = (show(&new[0]), show(&new[1]));
        let (sql, line) = match rows.get(&(kind, n)).cloned() {
            None => {
                rows.insert((kind, n), new.clone());
                let (key, values) = (literals(&key), literals(&new));
                let sql = format!("INSERT INTO {table}({columns}, v, w) VALUES ({key}, {values})");
                (sql, format!("+ {v},{w}"))
            }
            Some(old) if rng.chance(30) => {
                rows.remove(&(kind, n));
                let line = format!("- {},{}", show(&old[0]), show(&old[1]));
                (format!("DELETE FROM {table} WHERE {at}"), line)
            }
            Some(old) if old[0] == new[0] => continue,
            Some(old) => {
                rows.insert((kind, n), [new[0].clone(), old[1].clone()]);
                let set = sheaf_site::diff::literal(&new[0]);
                let sql = format!("UPDATE {table} SET v = {set} WHERE {at}");
                (sql, format!("~ v {} -> {v}", show(&old[0])))
            }
        };
        device.sql(&format!("BEGIN; {sql}; COMMIT"));
        waiting.push(((kind, n), device.site.last_seq(), line));
        if most > 1 && waiting.len() < most && rng.chance(80) {
            continue;
        }
        lsn += 1;
        device.exchange();
        assert_eq!(device.site.base().0.0, lsn, "{sql}");
        for (row, seq, line) in waiting.drain(..) {
            // What came back to where it was is no change of the commit.
            if rows.get(&row) != agreed.get(&row) {
                told.entry(row).or_default().push((seq, format!("{lsn} {line}")));
            }
        }
        agreed = rows.clone();
        if rng.chance(2) {
            // Another schema on the way, and pages that move.
            lsn += 1;
            let sql = format!("CREATE INDEX i{lsn} ON named(v)");
            assert_eq!(commit(&device, &sql), lsn);
        }
    }
    check_told(&device, told, seed);
    check_blames(&device, &rows, lsn, seed);
    let never = device.site.history("ids", &[Value::Int(1_000)], 9, None).unwrap();
    assert_eq!((lines(&never), never.end), (Vec::new(), End::NoTable { lsn: Lsn(1) }));
}

/// Each history is what was noted, and each change has its author.
fn check_told(device: &Device, told: BTreeMap<(usize, i64), Vec<(u64, String)>>, seed: u64) {
    for ((kind, n), mut expected) in told {
        let (table, _, key_of) = KINDS[kind];
        let history = device.site.history(table, &key_of(n), 10_000, None).unwrap();
        expected.reverse();
        let seq = |event: &RowEvent| event.origin.authors.0[0].first_seq;
        let told = lines(&history).into_iter().zip(&history.events);
        let told: Vec<_> = told.map(|(line, event)| (seq(event), line)).collect();
        assert_eq!(told, expected, "seed {seed}: {table} {n}");
        assert_eq!(history.end, End::NoTable { lsn: Lsn(1) }, "seed {seed}: {table} {n}");
        assert!(history.events.iter().all(|event| event.origin.authors.is_exact()));
    }
}

/// All rows of a table by one look back, and each by its own.
fn check_blames(device: &Device, rows: &BTreeMap<(usize, i64), [Value; 2]>, lsn: u64, seed: u64) {
    for (kind, (table, ..)) in KINDS.iter().enumerate() {
        let mut told = Vec::new();
        let all = device.site.blame_table(table, 1_000, &mut |done| told.push(done)).unwrap();
        assert_eq!(all.rows.len(), rows.keys().filter(|(of, _)| *of == kind).count());
        assert!(!all.more && told.is_sorted() && *told.last().unwrap() == all.rows.len());
        assert!(all.looked <= lsn, "{} states of {lsn}", all.looked);
        for row in all.rows.iter().step_by(if is_long() { 1 } else { 5 }) {
            let key: Vec<Value> = row.key.iter().map(|cell| cell.value.clone()).collect();
            let one = device.site.blame(table, &key).unwrap();
            assert_eq!((&row.key, &row.columns), (&one.key, &one.columns), "seed {seed}: {table}");
        }
    }
}

/// A remote that counts.
#[derive(Debug)]
struct Counting {
    inner: Arc<BucketRemote>,
    pulls: AtomicU64,
    pages: AtomicU64,
}

impl Remote for Counting {
    fn head(&self) -> Result<RemoteHead> {
        self.inner.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.pulls.fetch_add(1, Ordering::SeqCst);
        self.inner.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        let pages = wants.iter().map(|want| want.pages.len()).sum();
        self.pages.fetch_add(pages, Ordering::SeqCst);
        self.inner.fetch(wants)
    }
}

#[test]
fn a_look_back_reads_a_few_pages_per_change_and_passes_over_the_rest() {
    let world = World::new();
    let device = world.device();
    let fill = "CREATE TABLE big(id INTEGER PRIMARY KEY, v TEXT, w INT);
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000)
        INSERT INTO big SELECT i, 'row number ' || i, 1000 FROM c";
    commit(&device, fill);
    for n in 2..=400 {
        // Mostly other rows, on other pages.
        let id = if n % 100 == 0 { 10_000 } else { 500 + n * 20 };
        commit(&device, &format!("UPDATE big SET w = {} WHERE id = {id}", 1_000 + n));
    }
    let (pulls, pages) = (AtomicU64::new(0), AtomicU64::new(0));
    let counting = Arc::new(Counting { inner: world.log(), pulls, pages });
    device.site.set_remote(Some(Arc::clone(&counting) as Arc<dyn Remote>));
    let history = history(&device, "big", 10_000);
    let expected = ["400 ~ w 1300 -> 1400", "300 ~ w 1200 -> 1300", "200 ~ w 1100 -> 1200"];
    assert_eq!(lines(&history)[..3], expected);
    assert_eq!(lines(&history)[3..], ["100 ~ w 1000 -> 1100", "1 + 'row number 10000',1000"]);
    let (pulls, pages) =
        (counting.pulls.load(Ordering::SeqCst), counting.pages.load(Ordering::SeqCst));
    // The state before each change, and what others changed on the same leaf.
    assert!(history.looked <= 8, "{} states", history.looked);
    assert!(pages <= 8 * history.looked, "{pages} pages for {} states", history.looked);
    assert!(pulls <= 6, "{pulls} pulls for 400 commits");
    // What was asked for last costs little, however long the log is.
    let newest = device.site.history("big", &[Value::Int(10_000)], 1, None).unwrap();
    assert_eq!((newest.events.len(), newest.end, newest.looked), (1, End::Limit, 2));
    assert!(counting.pulls.load(Ordering::SeqCst) <= pulls + 1);
}

#[test]
fn schema_changes_are_bridged_or_end_a_history() {
    let world = World::new();
    let device = world.device();
    commit(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a')");
    commit(&device, "ALTER TABLE t ADD COLUMN w DEFAULT 7");
    commit(&device, "CREATE TABLE other(x); CREATE INDEX i ON t(v)");
    commit(&device, "UPDATE t SET w = 8");
    commit(&device, "ALTER TABLE t DROP COLUMN w");
    let bridged = history(&device, "t", 1);
    let expected = ["5 ~ w 8 -> none", "4 ~ w 7 -> 8", "2 ~ w none -> 7", "1 + 'a'"];
    assert_eq!(lines(&bridged), expected);
    assert_eq!(bridged.end, End::NoTable { lsn: Lsn(1) });
    // Another table takes the name; its pages were not touched by that.
    commit(&device, "CREATE TABLE u(id INTEGER PRIMARY KEY, v); INSERT INTO u VALUES (1, 'u')");
    commit(&device, "DROP TABLE t");
    commit(&device, "ALTER TABLE u RENAME TO t");
    let renamed = history(&device, "t", 1);
    assert_eq!(
        (lines(&renamed), renamed.end),
        (vec!["8 + 'u'".to_owned()], End::NoTable { lsn: Lsn(8) })
    );
    // At once, in one commit.
    commit(&device, "CREATE TABLE n(id INTEGER PRIMARY KEY, v); INSERT INTO n VALUES (1, 'n')");
    device.sql("DROP TABLE t; ALTER TABLE n RENAME TO t");
    device.exchange();
    assert_eq!(lines(&history(&device, "t", 1)), ["10 ~ v 'u' -> 'n'", "8 + 'u'"]);
    // The rows are told apart by something else.
    device
        .sql("DROP TABLE t; CREATE TABLE t(v TEXT PRIMARY KEY, w); INSERT INTO t VALUES ('a', 1)");
    device.exchange();
    let other = history(&device, "t", "a");
    assert_eq!((lines(&other), other.end), (Vec::new(), End::OtherKey { lsn: Lsn(11) }));
    let missing = device.site.history("nope", &[Value::Int(1)], 1, None).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    for key in [vec![], vec![Value::Int(1), Value::Int(2)]] {
        let wrong = device.site.history("t", &key, 1, None).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Invalid, "{wrong}");
    }
}

#[test]
fn a_history_ends_where_the_log_was_reclaimed() {
    let world = World::new();
    let device = world.device();
    commit(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w); INSERT INTO t VALUES (1, 0, 0)");
    for n in 1..=30 {
        commit(&device, &format!("UPDATE t SET v = {n}"));
    }
    let keep = Retention { keep_commits: 10, keep_for_ms: 0, exact: true };
    let env = sheaf_volume::ManualEnv::new(5);
    let log = world.log();
    for _ in 0..3 {
        log.gc(&env, &keep, false, &mut |_: GcStep| Ok(())).unwrap();
    }
    device.site.set_remote(Some(world.log() as Arc<dyn Remote>));
    let found = history(&device, "t", 1);
    let End::Expired { lsn } = found.end else { panic!("{found:?}") };
    assert!(lsn.0 > 1 && lsn.0 <= 22, "{lsn}");
    assert_eq!(found.events.len() as u64, 31 - lsn.0, "{:?}", lines(&found));
    assert_eq!(lines(&found)[0], "31 ~ v 29 -> 30");
    let blame = device.site.blame("t", &[Value::Int(1)]).unwrap();
    let origins: Vec<_> =
        blame.columns.iter().map(|c| c.origin.as_ref().and_then(|o| o.at)).collect();
    assert_eq!(origins, [None, Some(Lsn(31)), None]);
    assert_eq!(blame.end, End::Expired { lsn });
    let gone = device.site.undo(&name("1"), false).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Expired, "{gone}");
}

#[test]
fn authors_are_told_as_far_as_they_are_known() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    commit(&a, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w); INSERT INTO t VALUES (1, 0, 0)");
    b.exchange();
    b.sql("UPDATE t SET v = 1");
    b.sql("UPDATE t SET w = 1");
    b.exchange();
    a.exchange();
    a.sql("UPDATE t SET v = 2");
    a.sql("INSERT INTO t VALUES (2, 0, 0)");
    let found = history(&a, "t", 1);
    assert_eq!(lines(&found), ["- ~ v 1 -> 2", "2 ~ v 0 -> 1, w 0 -> 1", "1 + 0,0"]);
    let [pending, merged, first] = &found.events[..] else { panic!("{found:?}") };
    // Which of the two that wait is told by what they name.
    assert!(pending.origin.authors.is_exact() && pending.origin.authors.0[0].own);
    assert_eq!(pending.origin.authors.0[0].first_seq, 2);
    assert_eq!(merged.origin.authors.count(), 2);
    let run = merged.origin.authors.0[0];
    assert_eq!(
        (run.timeline, run.first_seq, run.last_seq, run.own),
        (b.site.timeline(), 1, 2, false)
    );
    assert!(first.origin.authors.is_exact() && first.origin.authors.0[0].own);
    assert_eq!(lines(&history(&a, "t", 2)), ["- + 0,0"]);
    // Per column.
    let blame = a.site.blame("t", &[Value::Int(1)]).unwrap();
    let at = |n: usize| blame.columns[n].origin.as_ref().unwrap().at;
    assert_eq!([at(0), at(1), at(2)], [Some(Lsn(1)), None, Some(Lsn(2))]);
    assert_eq!(blame.end, End::Explained);
    let nobody = a.site.blame("t", &[Value::Int(9)]).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    // As far back as was asked for.
    let since = |since| lines(&a.site.history("t", &[Value::Int(1)], 9, Some(since)).unwrap());
    assert_eq!(since(Since::Lsn(Lsn(1))).len(), 2);
    assert_eq!(since(Since::Time(u64::MAX)), ["- ~ v 1 -> 2"]);
    assert_eq!(since(Since::Time(0)).len(), 3);
    assert_eq!(a.site.row_key("t", &["1".to_owned()]).unwrap(), [Value::Int(1)]);
    assert!(a.site.row_key("t", &["x".to_owned()]).is_err());
}

const NOTES: &str = "CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT, votes COUNTER_INT,
        tags SET_TEXT, kept KEEP_TEXT);
    CREATE TABLE part(note INTEGER REFERENCES note(id), n INT, PRIMARY KEY(note, n)) WITHOUT ROWID;
    INSERT INTO note VALUES (1, 'the quick brown fox', 10, '[\"a\"]', 'k'), (2, 'two', 0, '[]', 'k')";

#[test]
fn an_undo_leaves_what_others_did_since() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    commit(&a, NOTES);
    b.exchange();
    let old = "UPDATE note SET body = 'the quick red fox', votes = votes + 5, tags = '[\"a\",\"b\"]' WHERE id = 1";
    assert_eq!(commit(&a, old), 2);
    b.exchange();
    let since = "UPDATE note SET body = 'the very quick red fox jumps', votes = votes + 100,
        tags = '[\"a\",\"b\",\"c\"]' WHERE id = 1";
    commit(&b, since);
    // By somebody else than its author, who names it by its timeline.
    let named = name(&format!("{}:2", a.site.timeline()));
    let dry = b.site.undo(&named, true).unwrap();
    assert_eq!((dry.seq, dry.at, dry.rows.len(), dry.left.len()), (None, Some(Lsn(2)), 1, 0));
    let row = "SELECT body, votes, tags FROM note WHERE id = 1";
    assert_eq!(b.local(row), "the very quick red fox jumps|115|[\"a\",\"b\",\"c\"]");
    let done = b.site.undo(&named, false).unwrap();
    assert_eq!((done.seq, &done.rows), (Some(2), &dry.rows));
    let undone = "the very quick brown fox jumps|110|[\"a\",\"c\"]";
    assert_eq!(b.local(row), undone);
    // It waits like any other, and its author's concurrent changes merge with it.
    commit(&a, "UPDATE note SET votes = votes + 1 WHERE id = 1");
    b.exchange();
    a.exchange();
    assert_eq!(a.local(row), undone.replace("110", "111"));
    assert_converged(&[&a, &b]);
    // The undo is a change of its own, and can be undone.
    assert_eq!(b.site.base().0, Lsn(5));
    let again = a.site.undo(&name("@5"), false).unwrap();
    assert_eq!(again.rows.len(), 1);
    assert_eq!(a.local(row), "the very quick red fox jumps|116|[\"a\",\"b\",\"c\"]");
}

#[test]
fn an_undo_names_what_it_leaves_because_a_column_went() {
    let world = World::new();
    let device = world.device();
    commit(
        &device,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c); INSERT INTO t VALUES (1, 1, 1, 1)",
    );
    let both = commit(&device, "UPDATE t SET a = 2, b = 2");
    let one = commit(&device, "UPDATE t SET b = 3");
    let delete = commit(&device, "DELETE FROM t");
    commit(&device, "ALTER TABLE t DROP COLUMN b");
    let undo = |lsn| {
        let done = device.site.undo(&name(&format!("@{lsn}")), false).unwrap();
        let left: Vec<_> = done.left.iter().map(|left| left.why).collect();
        device.exchange();
        (done.rows.len(), left, device.local("SELECT * FROM t"))
    };
    let why = "columns that it wrote are no longer there";
    assert_eq!(undo(delete), (1, vec![why], "1|2|1".to_owned()));
    assert_eq!(undo(both), (1, vec![why], "1|1|1".to_owned()));
    assert_eq!(undo(one), (0, vec![why], "1|1|1".to_owned()));
}

#[test]
fn rows_come_back_where_their_keys_are_free() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    commit(&a, NOTES);
    let insert = commit(
        &a,
        "INSERT INTO note(id, body) VALUES (3, 'three'); INSERT INTO part VALUES (3, 1)",
    );
    let delete = commit(&a, "DELETE FROM part; DELETE FROM note WHERE id > 1");
    b.exchange();
    commit(&b, "INSERT INTO note(id, body) VALUES (2, 'another two')");
    let done = b.site.undo(&name(&format!("@{delete}")), false).unwrap();
    assert_eq!(b.local("SELECT id, body FROM note"), "1|the quick brown fox;2|another two;3|three");
    assert_eq!(b.local("SELECT * FROM part"), "3|1");
    let left: Vec<_> =
        done.left.iter().map(|left| (left.table.as_str(), left.key.clone())).collect();
    assert_eq!(left, [("note", vec![Value::Int(2)])]);
    // And they go again, with what refers to them; what is gone already is left.
    let gone = b.site.undo(&name(&format!("@{insert}")), false).unwrap();
    assert_eq!((gone.rows.len(), gone.left.len()), (2, 0));
    assert_eq!(b.local("SELECT count(*) FROM part"), "0");
    let twice = b.site.undo(&name(&format!("@{insert}")), false).unwrap();
    assert_eq!((twice.seq, twice.rows.len(), twice.left.len()), (None, 0, 2));
    b.exchange();
    a.exchange();
    assert_converged(&[&a, &b]);
    // One that waits is undone by what it says itself.
    a.sql("UPDATE note SET votes = votes + 3 WHERE id = 1");
    let waiting = a.site.last_seq();
    a.sql("UPDATE note SET votes = votes + 4 WHERE id = 1");
    a.site.undo(&name(&waiting.to_string()), false).unwrap();
    assert_eq!(a.local("SELECT votes FROM note WHERE id = 1"), "14");
    a.exchange();
    b.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn what_cannot_be_undone_is_refused_and_changes_nothing() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    commit(&a, NOTES);
    a.sql("UPDATE note SET votes = 1 WHERE id = 1");
    a.sql("UPDATE note SET votes = 2 WHERE id = 2");
    assert_eq!(commit(&a, "UPDATE note SET votes = 3 WHERE id = 2"), 2);
    assert_eq!(commit(&a, "UPDATE note SET kept = 'mine' WHERE id = 1"), 3);
    a.site.define_mutator("up", "UPDATE note SET votes = votes + :n").unwrap();
    a.exchange();
    a.site.mutate("up", &serde_json::json!({ "n": 5 })).unwrap();
    let refused = |device: &Device, text: &str, kind: ErrorKind, says: &str| {
        let before = device.site.last_seq();
        for dry_run in [true, false] {
            let error = device.site.undo(&name(text), dry_run).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        assert_eq!(device.site.last_seq(), before);
    };
    refused(&a, "7", ErrorKind::Unsupported, "not decided");
    a.exchange();
    b.exchange();
    commit(&b, "UPDATE note SET kept = 'theirs' WHERE id = 1");
    a.exchange();
    refused(&a, "@1", ErrorKind::Unsupported, "schema");
    refused(&a, "@2", ErrorKind::Unsupported, "holds 3 mutations: say which of them");
    let others = format!("{}:3", a.site.timeline());
    refused(&b, &others, ErrorKind::Unsupported, "this device does not remember it");
    refused(&a, "@3", ErrorKind::Invalid, "changed by somebody else");
    refused(&a, "@4", ErrorKind::Invalid, "nothing to undo");
    refused(&a, "@99", ErrorKind::NotFound, "99");
    refused(&a, "99", ErrorKind::NotFound, ":99");
    refused(&a, "zzz:1", ErrorKind::NotFound, "zzz");
    // The effects of a call are rows.
    let votes = "SELECT group_concat(votes) FROM note";
    assert_eq!(a.local(votes), "6,8");
    a.site.undo(&name("@5"), false).unwrap();
    assert_eq!(a.local(votes), "1,3");
    assert_eq!(a.rows(View::Global, votes), "6,8");
}
