//! Queries that are answered again, and editors that wait.

use sheaf::{Agreement, Answer, Subscription, Value, WatchEvent};

use super::*;

/// Rows as text, columns by `|`.
fn text(answer: &Answer) -> Vec<String> {
    let cell = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Int(int) => int.to_string(),
        other => format!("{other:?}"),
    };
    let rows = answer.rows.iter();
    rows.map(|row| row.iter().map(cell).collect::<Vec<_>>().join("|")).collect()
}

fn next(subscription: &Subscription) -> Answer {
    subscription.next_within(TIMEOUT).expect("no answer").unwrap()
}

/// Takes answers until one is what is waited for: several changes may or may not be answered once.
fn wait_for(subscription: &Subscription, rows: &[&str], agreement: Agreement) {
    loop {
        let answer = next(subscription);
        if text(&answer) == rows && answer.agreement == agreement {
            return;
        }
    }
}

/// When this returns, everything that was due before has run: queries run in the order in which
/// they were made.
fn fence(site: &Site, fence: &Subscription) {
    exec(site, "INSERT INTO fence DEFAULT VALUES");
    next(fence);
}

fn pair(root: &Path) -> (Client, Client, Site, Site) {
    let url = format!("file://{}", root.join("bucket").display());
    let one = client(&root.join("a"), Some(&url), None);
    let other = client(&root.join("b"), Some(&url), None);
    let (a, b) = two(&one, &other);
    (one, other, a, b)
}

#[test]
fn a_query_runs_again_only_when_what_it_read_has_changed() {
    let root = tempfile::tempdir().unwrap();
    let one = client(root.path(), None, None);
    let site = one.site("s").unwrap();
    schema(&site);
    exec(&site, "CREATE TABLE other(x); CREATE TABLE fence(id INTEGER PRIMARY KEY, x)");
    exec(&site, "CREATE VIEW open AS SELECT what FROM todo WHERE done = 0");
    exec(
        &site,
        "CREATE TRIGGER tr AFTER INSERT ON other BEGIN
                 INSERT INTO todo(what) VALUES ('by trigger'); END",
    );
    // What it answers is new whenever it runs.
    let every = site.subscribe("SELECT hex(randomblob(16)) FROM todo LIMIT 1", &[]).unwrap();
    let open = site.subscribe("SELECT what FROM open ORDER BY what", &[]).unwrap();
    let last = site.subscribe("SELECT count(*) FROM fence", &[]).unwrap();
    assert!(every.try_next().unwrap().unwrap().rows.is_empty());
    assert_eq!(open.try_next().unwrap().unwrap().rows.len(), 0);
    last.try_next().unwrap().unwrap();

    exec(&site, "INSERT INTO todo(what) VALUES ('milk')");
    next(&every);
    assert_eq!(text(&next(&open)), ["milk"]);
    exec(&site, "CREATE TEMP TABLE t AS SELECT 1");
    fence(&site, &last);
    assert!(every.try_next().is_none(), "nothing that it read has changed");
    // Triggers change what no statement named.
    exec(&site, "INSERT INTO other VALUES (1)");
    assert_eq!(text(&next(&open)), ["by trigger", "milk"]);
    next(&every);
    // What changes no row of the answer is not delivered.
    exec(&site, "UPDATE todo SET id = id + 10");
    fence(&site, &last);
    assert!(open.try_next().is_none());
    next(&every);
    // Asked for, it runs all the same.
    every.again();
    next(&every);
}

#[test]
fn answers_say_whether_they_are_agreed_on() {
    let root = tempfile::tempdir().unwrap();
    let (_one, _other, a, b) = pair(root.path());
    let what =
        a.subscribe("SELECT what FROM todo WHERE id <= ?1 ORDER BY id", &[2.into()]).unwrap();
    let first = what.try_next().unwrap().unwrap();
    assert_eq!(
        (text(&first).join(","), first.agreement),
        ("milk,bread".into(), Agreement::Confirmed)
    );
    assert_eq!(&*first.columns, ["what".to_owned()]);

    exec(&a, "UPDATE todo SET what = 'oat milk' WHERE id = 1");
    let local = next(&what);
    assert_eq!(
        (text(&local).join(","), local.agreement),
        ("oat milk,bread".into(), Agreement::Local)
    );
    a.exchange(TIMEOUT).unwrap();
    wait_for(&what, &["oat milk", "bread"], Agreement::Confirmed);

    // A change that waits elsewhere in the table leaves what is shown agreed.
    exec(&b, "UPDATE todo SET what = 'rye' WHERE id = 2");
    b.exchange(TIMEOUT).unwrap();
    exec(&a, "UPDATE todo SET what = 'no eggs' WHERE id = 3");
    a.pull(TIMEOUT).unwrap();
    wait_for(&what, &["oat milk", "rye"], Agreement::Confirmed);
}

#[test]
fn what_others_did_is_answered_and_their_schema_followed() {
    let root = tempfile::tempdir().unwrap();
    let (_one, _other, a, b) = pair(root.path());
    let all = b.subscribe("SELECT * FROM todo WHERE id = 1", &[]).unwrap();
    assert_eq!(text(&all.try_next().unwrap().unwrap()), ["1|milk|0"]);
    exec(&a, "ALTER TABLE todo ADD COLUMN who TEXT DEFAULT 'ann'");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    wait_for(&all, &["1|milk|0|ann"], Agreement::Confirmed);
    exec(&a, "ALTER TABLE todo RENAME TO done; UPDATE done SET done = 1");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    let error = all.next_within(TIMEOUT).unwrap().unwrap_err();
    assert!(error.to_string().contains("no such table"), "{error}");
    exec(&b, "CREATE VIEW todo AS SELECT id, what FROM done");
    wait_for(&all, &["1|milk"], Agreement::Local);
    b.exchange(TIMEOUT).unwrap();
    wait_for(&all, &["1|milk"], Agreement::Confirmed);
}

#[test]
fn many_changes_in_a_row_end_in_the_newest_answer() {
    let root = tempfile::tempdir().unwrap();
    let one = client(root.path(), None, None);
    let site = one.site("s").unwrap();
    schema(&site);
    let count = site.subscribe("SELECT count(*) FROM todo", &[]).unwrap();
    for _ in 0..100 {
        exec(&site, "INSERT INTO todo(what) VALUES ('x')");
    }
    wait_for(&count, &["100"], Agreement::Local);
    assert!(count.try_next().is_none());
}

#[test]
fn a_query_that_is_always_due_keeps_no_other_from_its_answer() {
    let root = tempfile::tempdir().unwrap();
    let one = client(root.path(), None, None);
    let site = one.site("s").unwrap();
    schema(&site);
    exec(&site, "CREATE TABLE log(x)");
    let busy = site.subscribe("SELECT count(*) FROM log", &[]).unwrap();
    let other = site.subscribe("SELECT what FROM todo", &[]).unwrap();
    other.try_next().unwrap().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let conn = site.connection(View::Local).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                conn.execute_batch("INSERT INTO log VALUES (1)").unwrap();
            }
        });
        let _stop = Stop(&stop);
        exec(&site, "INSERT INTO todo(what) VALUES ('milk')");
        // One that was there, one under way, one of the round that the other is in; and the next.
        for _ in 0..4 {
            next(&busy);
        }
        assert_eq!(text(&other.try_next().expect("it waits for a busy one").unwrap()), ["milk"]);
    });
}

/// Ends the other thread, also where an assertion fails.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_subscription_only_reads_and_answers_within_bounds() {
    let root = tempfile::tempdir().unwrap();
    let one = client(root.path(), None, None);
    let site = one.site("s").unwrap();
    schema(&site);
    let refused = |sql: &str, params: &[Value]| site.subscribe(sql, params).unwrap_err();
    for sql in [
        "DELETE FROM todo",
        "INSERT INTO todo(what) VALUES (1) RETURNING id",
        "no sql",
        "ATTACH 'x' AS x",
        "PRAGMA user_version = 3",
        "SELECT 1; SELECT 2",
        "BEGIN",
    ] {
        let error = refused(sql, &[]);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error}");
    }
    refused("SELECT * FROM todo WHERE id = ?1", &[]);
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    assert_eq!(refused(many, &[]).kind(), ErrorKind::Limit);
    let all: Vec<Subscription> = (0..sheaf::limits::SUBSCRIPTIONS_MAX)
        .map(|_| site.subscribe("SELECT count(*) FROM todo", &[]).unwrap())
        .collect();
    assert_eq!(refused("SELECT 1", &[]).kind(), ErrorKind::Limit);
    drop(all);
    site.subscribe("SELECT sheaf_pending('todo', 1), count(*) FROM sheaf_conflicts", &[]).unwrap();
}

/// Nothing of the site is in use once the handles are gone: its directory can be opened again.
#[test]
fn dropped_subscriptions_leave_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let one = client(root.path(), None, None);
        let site = one.site("s").unwrap();
        exec(&site, "CREATE TABLE IF NOT EXISTS t(x)");
        let count = site.subscribe("SELECT count(*) FROM t", &[]).unwrap();
        exec(&site, "INSERT INTO t VALUES (1)");
        let cell = site.watch_cell("t", &[1.into()], "x").unwrap();
        drop((count, cell, site, one));
    }
    let one = client(root.path(), None, None);
    let site = one.site("s").unwrap();
    let count = site.subscribe("SELECT count(*) FROM t", &[]).unwrap();
    drop(site);
    // The subscription keeps its site open.
    assert_eq!(text(&count.try_next().unwrap().unwrap()), ["5"]);
}

#[test]
fn an_editor_waits_until_there_is_something_to_tell() {
    let root = tempfile::tempdir().unwrap();
    let (_one, _other, a, b) = pair(root.path());
    let cell = b.watch_cell("todo", &[1.into()], "what").unwrap();
    assert_eq!(cell.next_within(Duration::ZERO).unwrap(), None);
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cell.next_within(TIMEOUT).unwrap());
        exec(&a, "UPDATE todo SET what = 'rice milk' WHERE id = 1");
        a.exchange(TIMEOUT).unwrap();
        b.exchange(TIMEOUT).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(told, Some(WatchEvent::Value(Some("rice milk".into()))));
    let row = b.watch_row("todo", &[2.into()]).unwrap();
    row.edit(&[("done", 1.into())]).unwrap();
    assert_eq!(b.pending().unwrap().len(), 1);
    b.exchange(TIMEOUT).unwrap();
    assert_eq!(row.next_within(TIMEOUT).unwrap(), Some(WatchEvent::Converged));
    assert!(b.conflicts().unwrap().is_empty());
}
