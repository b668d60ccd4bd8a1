//! Devices that share a bucket and no node: each rebases and appends for itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use sheaf_site::View;
use sheaf_volume::{
    Append, BucketRemote, Commit, Error, ErrorKind, FetchedPage, Lsn, Remote, RemoteHead,
    RemoteLog, Result, SegmentId, SegmentPieces, Want,
};

use crate::support::{Device, World, assert_converged};

#[test]
fn two_devices_apart_converge_column_by_column() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql(
        "CREATE TABLE task(id INTEGER PRIMARY KEY, title TEXT, done INT, votes COUNTER_INT);
         INSERT INTO task VALUES (1, 'write', 0, 10), (2, 'read', 0, 0), (3, 'rest', 0, 0);",
    );
    a.exchange();
    b.exchange();
    assert_eq!(b.local("SELECT title FROM task"), "write;read;rest");

    a.sql("UPDATE task SET title = 'write more', votes = votes + 5 WHERE id = 1");
    a.sql("DELETE FROM task WHERE id = 2");
    b.sql("UPDATE task SET done = 1, votes = votes + 3 WHERE id = 1");
    b.sql("UPDATE task SET title = 'read on' WHERE id = 2");
    b.sql("INSERT INTO task VALUES (4, 'from b', 0, 0)");
    assert_eq!(a.rows(View::Global, "SELECT title FROM task WHERE id = 1"), "write");
    a.exchange();
    let done = b.exchange();
    assert_eq!((done.pushed, done.merged), (3, 2));
    a.exchange();
    let all = "SELECT * FROM task ORDER BY id";
    assert_eq!(a.local(all), "1|write more|1|18;3|rest|0|0;4|from b|0|0");
    assert_converged(&[&a, &b]);
}

/// Found by the simulator (seed 497): redoing a timeline on a state in which one of its mutations
/// fails for now made the next one forget what it was to do with the first one's row.
#[test]
fn what_finds_nothing_to_do_in_a_prediction_is_still_meant() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE, v INT)");
    a.exchange();
    b.exchange();
    a.sql("INSERT INTO u VALUES ('a', 'taken', 0), ('both', 'a1', 1)");
    b.sql("INSERT INTO u VALUES ('b1', 'taken', 0), ('b2', 'b2', 0)");
    b.sql("INSERT INTO u VALUES ('both', 'b1', 2)");
    b.sql("UPDATE u SET v = 7 WHERE id = 'b2'");
    b.sql("DELETE FROM u WHERE id = 'b1'");
    a.exchange();
    // The first mutation of b fails here for now; the second meets a row of the same key.
    b.pull();
    assert_eq!(b.local("SELECT id FROM u ORDER BY id"), "a;both");
    a.sql("DELETE FROM u");
    a.exchange();
    b.exchange();
    a.exchange();
    assert_eq!(a.local("SELECT id, name, v FROM u ORDER BY id"), "b2|b2|7;both|b1|2");
    assert_converged(&[&a, &b]);
}

#[test]
fn both_make_the_same_table_and_the_same_row_ids_offline() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    for (device, name) in [(&a, "a"), (&b, "b")] {
        device.sql("CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT)");
        device.sql("CREATE TABLE c(id INTEGER PRIMARY KEY, p INTEGER REFERENCES p(id), t TEXT)");
        device.sql(&format!("INSERT INTO p VALUES (1, '{name}')"));
        device.sql(&format!("INSERT INTO c VALUES (1, 1, 'child of {name}')"));
    }
    a.exchange();
    b.exchange();
    a.exchange();
    let all = "SELECT p.name, c.t FROM c JOIN p ON p.id = c.p ORDER BY p.name";
    assert_eq!(a.local(all), "a|child of a;b|child of b");
    assert_eq!(a.local("PRAGMA foreign_key_check"), "");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_bad_mutation_is_recorded_and_skipped_and_takes_no_other_with_it() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE u(name TEXT UNIQUE, by TEXT)");
    a.exchange();
    b.exchange();
    a.sql("INSERT INTO u VALUES ('taken', 'a')");
    b.sql("INSERT INTO u VALUES ('one', 'b')");
    b.sql("INSERT INTO u VALUES ('taken', 'b')");
    b.sql("INSERT INTO u VALUES ('two', 'b')");
    a.exchange();
    let done = b.exchange();
    assert_eq!(done.rejected.len(), 1, "{done:?}");
    assert!(done.rejected[0].1.contains("UNIQUE"), "{done:?}");
    a.exchange();
    assert_eq!(a.local("SELECT * FROM u ORDER BY name"), "one|b;taken|a;two|b");
    let rejected = b.site.status().rejected;
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].summary.contains('u'), "{rejected:?}");
    assert_converged(&[&a, &b]);
    b.site.dismiss_rejected_through(u64::MAX).unwrap();
    assert!(b.site.status().rejected.is_empty());
}

#[test]
fn named_mutators_give_the_same_answer_everywhere() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT, at TEXT, dice INT)");
    a.site
        .define_mutator(
            "add",
            "INSERT INTO note VALUES (sheaf_uuid(), :body, datetime('now'), random());",
        )
        .unwrap();
    a.exchange();
    b.exchange();
    b.site.mutate("add", &json!({"body": "hello"})).unwrap();
    let predicted = b.local("SELECT * FROM note");
    a.sql("INSERT INTO note VALUES ('x', 'y', 'z', 1)");
    a.exchange();
    b.exchange();
    a.exchange();
    assert_eq!(a.local("SELECT * FROM note WHERE body = 'hello'"), predicted);
    assert!(a.site.mutate("nobody", &json!({})).is_err());
    assert_converged(&[&a, &b]);
}

#[test]
fn the_views_local_global_and_past() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(v)");
    a.exchange();
    for value in 1..=3 {
        a.sql(&format!("INSERT INTO t VALUES ({value})"));
        a.exchange();
    }
    a.sql("INSERT INTO t VALUES (4)");
    let list = "SELECT group_concat(v) FROM t";
    assert_eq!(a.local(list), "1,2,3,4");
    assert_eq!(a.rows(View::Global, list), "1,2,3");
    b.exchange();
    let base = b.site.base().0;
    assert_eq!(b.rows(View::At(Lsn(base.0 - 1)), list), "1,2");
    assert_eq!(b.rows(View::At(Lsn(base.0 - 2)), list), "1");
    assert!(b.site.connection(View::At(Lsn(base.0 + 9))).is_err());
    let attached = a.site.connection(View::Local).unwrap();
    attached.execute_batch("ATTACH sheaf_view('global') AS global").unwrap();
    let gap = "SELECT v FROM main.t EXCEPT SELECT v FROM global.t";
    assert_eq!(crate::support::rows(&attached, gap), "4");
    attached.execute_batch("INSERT INTO t VALUES (5)").unwrap();
    assert!(attached.execute_batch("DELETE FROM global.t").is_err());
}

#[test]
fn a_rebase_is_one_step_for_concurrent_readers() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql(
        "CREATE TABLE acc(id INTEGER PRIMARY KEY, v INT); INSERT INTO acc VALUES (1, 50), (2, 50)",
    );
    a.exchange();
    b.exchange();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sums = |device: &Device| device.local("SELECT sum(v) FROM acc");
    std::thread::scope(|scope| {
        let reader = b.site.clone();
        let stopping = &stop;
        let handle = scope.spawn(move || {
            let conn = reader.connection(View::Local).unwrap();
            let mut reads = 0;
            while !stopping.load(Ordering::Relaxed) || reads == 0 {
                assert_eq!(crate::support::rows(&conn, "SELECT sum(v) FROM acc"), "100");
                reads += 1;
            }
            reads
        });
        for round in 0..30 {
            a.sql("UPDATE acc SET v = v + CASE id WHEN 1 THEN -1 ELSE 1 END");
            b.sql(&format!("UPDATE acc SET v = v + CASE id WHEN 1 THEN {round} ELSE -{round} END"));
            a.exchange();
            b.exchange();
            assert_eq!(sums(&b), "100");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(handle.join().unwrap() > 0);
    });
    a.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn stale_read_after_push_pull_commit_does_not_happen() {
    // A pushes, B changes a row, A pulls, A commits anything: A must see B's row.
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a'), (2, 'a')");
    a.exchange();
    b.exchange();
    b.sql("UPDATE t SET v = 'b' WHERE id = 1");
    b.exchange();
    let conn = a.site.connection(View::Local).unwrap();
    assert_eq!(crate::support::rows(&conn, "SELECT v FROM t WHERE id = 1"), "a");
    a.exchange();
    conn.execute_batch("UPDATE t SET v = 'c' WHERE id = 2").unwrap();
    assert_eq!(crate::support::rows(&conn, "SELECT v FROM t ORDER BY id"), "b;c");
    a.exchange();
    b.exchange();
    assert_eq!(b.local("SELECT v FROM t ORDER BY id"), "b;c");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_pull_during_an_open_write_transaction_waits_and_loses_nothing() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(v)");
    a.exchange();
    b.exchange();
    b.sql("INSERT INTO t VALUES ('b')");
    b.exchange();
    let conn = a.site.connection(View::Local).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES ('a')").unwrap();
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| a.exchange());
        conn.execute_batch("COMMIT").unwrap();
        pull.join().unwrap();
    });
    conn.execute_batch("INSERT INTO t VALUES ('a2')").unwrap();
    a.exchange();
    b.exchange();
    assert_eq!(b.local("SELECT v FROM t ORDER BY v"), "a;a2;b");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_device_restored_from_a_backup_keeps_its_pending_work() {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(v)");
    a.exchange();
    let backup = a.dir.fork();
    a.sql("INSERT INTO t VALUES ('after the backup')");
    a.exchange();
    drop(a);
    let restored = world.open(backup, 1);
    restored.sql("INSERT INTO t VALUES ('after the restore')");
    restored.exchange();
    let b = world.device();
    b.exchange();
    assert_eq!(b.local("SELECT v FROM t ORDER BY v"), "after the backup;after the restore");
    assert_converged(&[&restored, &b]);
}

/// A log to which somebody else always appends first, and which then cannot be reached.
struct Raced<'d> {
    log: &'d BucketRemote,
    rival: &'d Device,
    calls: AtomicUsize,
}

impl std::fmt::Debug for Raced<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raced").finish_non_exhaustive()
    }
}

impl Remote for Raced<'_> {
    fn head(&self) -> Result<RemoteHead> {
        self.log.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.log.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.log.fetch(wants)
    }
}

impl RemoteLog for Raced<'_> {
    fn put_segment(&self, id: SegmentId, pieces: &mut SegmentPieces<'_>) -> Result<()> {
        self.log.put_segment(id, pieces)
    }

    fn append(&self, commit: &Commit) -> Result<Append> {
        if self.calls.fetch_add(1, Ordering::Relaxed) > 0 {
            return Err(Error::new(ErrorKind::Unavailable, "gone"));
        }
        self.rival.exchange();
        self.log.append(commit)
    }

    fn recover(&self, lsn: Lsn, nonce: [u8; 16]) -> Result<Append> {
        self.log.recover(lsn, nonce)
    }
}

#[test]
fn what_a_lost_attempt_had_written_is_not_taken_for_decided() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v COUNTER_INT); INSERT INTO t VALUES (1, 0)");
    a.exchange();
    b.exchange();
    b.sql("UPDATE t SET v = v + 1");
    b.exchange();
    a.sql("UPDATE t SET v = v + 10");
    b.sql("UPDATE t SET v = v + 100");
    let raced = Raced { log: &b.log, rival: &a, calls: AtomicUsize::new(0) };
    b.site.exchange_with_log(&raced).unwrap_err();
    assert_eq!(b.site.status().pending.len(), 1);
    b.exchange();
    a.exchange();
    assert_eq!(a.local("SELECT v FROM t"), "111");
    assert_converged(&[&a, &b]);
}

#[test]
fn what_only_a_newer_version_can_read_stops_nobody_else() {
    let world = World::new();
    let [a, b, node] = [(); 3].map(|()| world.device());
    a.sql("CREATE TABLE t(v)");
    for device in [&a, &b, &node] {
        device.exchange();
    }
    a.sql("INSERT INTO t VALUES ('of a')");
    b.sql("INSERT INTO t VALUES ('of b')");
    let mut newer = a.site.outbox(0, usize::MAX).unwrap().unwrap();
    let record = &mut newer.mutations[0];
    let mut bytes = record.bytes.to_vec();
    bytes[8] = 9;
    record.bytes = bytes.into();
    let other = b.site.outbox(0, usize::MAX).unwrap().unwrap();
    let led = node.site.lead(&[newer, other], &*node.log, 4).unwrap();
    let [sheaf_site::Answer::Malformed(why), sheaf_site::Answer::Verdicts { .. }] =
        &led.answers[..]
    else {
        panic!("{:?}", led.answers);
    };
    assert_eq!(why, "mutation 2: mutation format 9 is newer than this version of sheaf");
    assert_eq!(node.local("SELECT v FROM t"), "of b");
}

#[test]
fn a_batch_that_is_twice_in_a_group_is_told_one_position() {
    let world = World::new();
    let [a, node] = [(); 2].map(|()| world.device());
    a.sql("CREATE TABLE t(v)");
    a.exchange();
    node.exchange();
    a.sql("INSERT INTO t VALUES (1)");
    let batch = a.site.outbox(0, usize::MAX).unwrap().unwrap();
    let again = batch.clone();
    let led = node.site.lead(&[batch.clone(), batch], &*node.log, 4).unwrap();
    let later = node.site.lead(&[again], &*node.log, 4).unwrap();
    let positions = led.answers.iter().chain(&later.answers).map(|answer| match answer {
        sheaf_site::Answer::Verdicts { lsn, .. } => lsn.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(positions.collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(node.local("SELECT v FROM t"), "1");
}

#[test]
fn a_call_knows_the_device_that_made_it_wherever_it_runs() {
    let world = World::new();
    let [a, node] = [(); 2].map(|()| world.device());
    a.sql("CREATE TABLE t(who)");
    a.site.define_mutator("sign", "INSERT INTO t VALUES (sheaf_device())").unwrap();
    a.exchange();
    node.exchange();
    a.site.mutate("sign", &json!({})).unwrap();
    let batch = a.site.outbox(0, usize::MAX).unwrap().unwrap();
    node.site.lead(&[batch], &*node.log, 4).unwrap();
    assert_eq!(node.local("SELECT who FROM t"), a.site.device().to_string());
}
