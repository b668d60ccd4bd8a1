//! One of several mutations that were pushed together, by what its device remembers of it: taken
//! back alone, named in histories, and refused wherever the log shows anything else.

use std::sync::Arc;

use sheaf_site::history::{MutationName, RowChange, RowEvent};
use sheaf_site::{ErrorKind, Value};
use sheaf_volume::{Dir as _, Lsn, ManualEnv};

use crate::support::{Device, World, assert_converged};

const NOTES: &str = "BEGIN;
    CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT, votes COUNTER_INT, title TEXT);
    INSERT INTO note VALUES (1, 'the quick brown fox', 10, 'a'), (2, 'two', 0, 'b'); COMMIT";

fn name(text: &str) -> MutationName {
    text.parse().unwrap()
}

fn row(device: &Device, id: i64) -> String {
    device.local(&format!("SELECT body, votes, title FROM note WHERE id = {id}"))
}

/// The device as after a restart of its process.
fn restarted(world: &World, device: Device, number: u64) -> Device {
    let Device { site, dir, .. } = device;
    drop(site);
    world.try_reopen(dir, number, Arc::new(ManualEnv::new(number * 77))).unwrap()
}

/// Whose each column is, by number: 0 where that is not exactly known.
fn blamed(device: &Device, id: i64) -> Vec<u64> {
    let blame = device.site.blame("note", &[Value::Int(id)]).unwrap();
    let exact = |column: &sheaf_site::history::Blamed| {
        let authors = &column.origin.as_ref()?.authors;
        authors.is_exact().then(|| authors.0[0].first_seq)
    };
    blame.columns.iter().map(|column| exact(column).unwrap_or(0)).collect()
}

fn refused(device: &Device, text: &str, says: &str) {
    let before = device.site.last_seq();
    let error = device.site.undo(&name(text), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(device.site.last_seq(), before);
}

#[test]
fn one_of_several_is_undone_alone_and_what_others_did_since_stays() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql(NOTES);
    a.exchange();
    b.exchange();
    // 2 to 5, offline, and pushed at once.
    a.sql("UPDATE note SET body = 'the quick red fox', votes = votes + 5 WHERE id = 1");
    a.sql("UPDATE note SET body = 'the quick red fox jumps' WHERE id = 1");
    a.sql("INSERT INTO note VALUES (3, 'three', 0, 'c')");
    a.sql("UPDATE note SET votes = votes + 100, title = 'z' WHERE id = 1");
    a.exchange();
    assert_eq!(a.site.base().0, Lsn(2), "all of them are one commit");
    b.exchange();
    b.sql("UPDATE note SET body = 'a very quick red fox jumps', votes = votes + 1000 WHERE id = 1");
    b.exchange();
    let a = restarted(&world, a, 1);
    a.exchange();
    assert_eq!(row(&a, 1), "a very quick red fox jumps|1115|z");
    let dry = a.site.undo(&name("2"), true).unwrap();
    assert_eq!((dry.seq, dry.at, dry.rows.len(), dry.left.len()), (None, Some(Lsn(2)), 1, 0));
    let done = a.site.undo(&name("2"), false).unwrap();
    assert_eq!((done.seq, done.rows), (Some(6), dry.rows));
    assert_eq!(row(&a, 1), "a very quick brown fox jumps|1110|z");
    a.site.undo(&name("5"), false).unwrap();
    assert_eq!(row(&a, 1), "a very quick brown fox jumps|1010|a");
    a.site.undo(&name("4"), false).unwrap();
    assert_eq!(row(&a, 3), "");
    // The undos are pushed together as well, and can be undone like anything.
    a.exchange();
    a.site.undo(&name("7"), false).unwrap();
    assert_eq!(row(&a, 1), "a very quick brown fox jumps|1110|z");
    // Nobody else knows, and a position alone does not say which is meant.
    b.exchange();
    refused(&b, &format!("{}:2", a.site.timeline()), "does not remember");
    refused(&a, "@2", "holds 4 mutations: say which of them");
    a.exchange();
    b.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn own_mutations_of_one_commit_are_named_one_by_one() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql(NOTES);
    a.exchange();
    a.sql("UPDATE note SET votes = votes + 1 WHERE id = 2");
    a.sql("UPDATE note SET votes = votes + 5 WHERE id = 1");
    a.sql("UPDATE note SET title = 'y' WHERE id = 1");
    a.sql("UPDATE note SET title = 'z' WHERE id = 1");
    a.exchange();
    b.exchange();
    let a = restarted(&world, a, 1);
    let found = a.site.history("note", &[Value::Int(1)], 10, None).unwrap();
    let told = |event: &RowEvent| {
        let run = event.origin.authors.0[0];
        assert!(event.origin.authors.is_exact() && run.own);
        let columns = match &event.change {
            RowChange::Updated(changes) => changes.iter().map(|c| c.name.as_str()).collect(),
            _ => String::new(),
        };
        (run.first_seq, columns)
    };
    let told: Vec<_> = found.events.iter().map(told).collect();
    let line = |seq, column: &str| (seq, column.to_owned());
    assert_eq!(told, [line(5, "title"), line(4, "title"), line(3, "votes"), line(1, "")]);
    assert_eq!(blamed(&a, 1), [1, 1, 3, 5]);
    assert_eq!(blamed(&a, 2), [1, 1, 2, 1]);
    // A table at once, with what waits.
    a.sql("UPDATE note SET title = 'w' WHERE id = 2");
    a.sql("INSERT INTO note VALUES (0, 'nought', 0, 'n')");
    let all = a.site.blame_table("note", 2, &mut |_| {}).unwrap();
    assert_eq!((all.rows.len(), all.more), (2, true));
    let all = a.site.blame_table("NOTE", 9, &mut |_| {}).unwrap();
    assert_eq!((all.rows.len(), all.more, all.table.as_str()), (3, false, "note"));
    for row in &all.rows {
        let one = a.site.blame("note", &[row.key[0].value.clone()]).unwrap();
        assert_eq!(row.columns, one.columns);
    }
    assert_eq!((blamed(&a, 0), blamed(&a, 2)), (vec![7; 4], vec![1, 1, 2, 6]));
    assert_eq!(a.site.blame_table("nope", 9, &mut |_| {}).unwrap_err().kind(), ErrorKind::NotFound);
    // To others they are candidates, and one change.
    let told = b.site.history("note", &[Value::Int(1)], 10, None).unwrap();
    assert_eq!((told.events.len(), told.events[0].origin.authors.count()), (2, 4));
    // As many as were asked for, also of one commit.
    let short = a.site.history("note", &[Value::Int(1)], 2, None).unwrap();
    assert_eq!(short.events.len(), 2);
}

#[test]
fn what_a_call_did_is_remembered_where_it_was_run() {
    let world = World::new();
    let a = world.device();
    a.sql(NOTES);
    a.site.define_mutator("up", "UPDATE note SET votes = votes + :n WHERE id = 1").unwrap();
    a.exchange();
    let up =
        |device: &Device, n: i64| device.site.mutate("up", &serde_json::json!({ "n": n })).unwrap();
    let (first, second) = (up(&a, 5), up(&a, 100));
    // The process that pushes is another one than the one that called.
    let a = restarted(&world, a, 1);
    a.exchange();
    a.site.undo(&name(&first.to_string()), false).unwrap();
    assert_eq!(row(&a, 1), "the quick brown fox|110|a");
    assert_eq!(blamed(&a, 1)[2], first + 2, "the undo, which waits");
    a.exchange();
    a.site.undo(&name(&second.to_string()), false).unwrap();
    assert_eq!(row(&a, 1), "the quick brown fox|10|a");
}

#[test]
fn what_the_log_shows_otherwise_is_not_believed() {
    let world = World::new();
    let (node, a, b) = (world.device(), world.device(), world.device());
    a.sql(NOTES);
    a.exchange();
    b.exchange();
    a.sql("UPDATE note SET votes = votes + 5, title = 'of a' WHERE id = 1");
    a.sql("UPDATE note SET votes = votes + 7 WHERE id = 2");
    b.sql("UPDATE note SET votes = votes + 100, title = 'of b' WHERE id = 1");
    // One commit of both, as a node makes it.
    let both =
        [b.site.outbox(0, 1 << 20).unwrap().unwrap(), a.site.outbox(0, 1 << 20).unwrap().unwrap()];
    node.site.lead(&both, &*node.log, 4).unwrap();
    let head = node.site.base().0;
    for device in [&a, &b] {
        device.pull();
        assert!(device.site.volume().is_timeline_empty());
        assert_eq!(device.site.base().0, head);
    }
    assert_eq!(row(&a, 1), "the quick brown fox|115|of a");
    // Row 1 is of both, and what each has done to it cannot be told; row 2 can.
    refused(&a, "2", "not known for sure");
    assert_eq!(blamed(&a, 1), [1, 1, 0, 0]);
    assert_eq!(blamed(&a, 2), [1, 1, 3, 1]);
    a.site.undo(&name("3"), false).unwrap();
    assert_eq!(row(&a, 2), "two|0|b");
    // Of one that did both, what is known is undone, and the rest told.
    a.exchange();
    b.exchange();
    b.sql("UPDATE note SET votes = votes + 1 WHERE id = 2");
    a.sql("UPDATE note SET votes = votes + 1000, title = 'again' WHERE id = 1; ");
    a.sql(
        "BEGIN; UPDATE note SET votes = votes + 2 WHERE id = 2;
        INSERT INTO note VALUES (9, 'nine', 0, 'n'); COMMIT",
    );
    let both =
        [b.site.outbox(0, 1 << 20).unwrap().unwrap(), a.site.outbox(0, 1 << 20).unwrap().unwrap()];
    node.site.lead(&both, &*node.log, 4).unwrap();
    a.pull();
    b.pull();
    let last = a.site.last_seq();
    let done = a.site.undo(&name(&last.to_string()), false).unwrap();
    assert_eq!((done.rows.len(), done.left.len()), (1, 1), "{done:?}");
    assert_eq!(
        (done.left[0].table.as_str(), done.left[0].key.clone()),
        ("note", vec![Value::Int(2)])
    );
    assert_eq!((row(&a, 9), row(&a, 2)), (String::new(), "two|3|b".to_owned()));
}

#[test]
fn what_is_forgotten_or_damaged_is_refused_and_loses_nothing() {
    let world = World::new();
    let a = world.device();
    a.sql(NOTES);
    a.exchange();
    a.sql("UPDATE note SET votes = 1 WHERE id = 1");
    a.sql("UPDATE note SET votes = 2 WHERE id = 1");
    a.exchange();
    let image = a.dir.fork();
    for name in ["deeds-0", "deeds-1"] {
        image.open(name).unwrap().truncate(7).unwrap();
    }
    let world = world.copy();
    let lost = world.try_reopen(image, 1, Arc::new(ManualEnv::new(5))).unwrap();
    refused(&lost, "2", "does not remember");
    assert_eq!(lost.site.unremembered(), None);
    // It goes on, and remembers what comes.
    lost.sql("UPDATE note SET votes = 3 WHERE id = 1");
    lost.sql("UPDATE note SET votes = 4 WHERE id = 1");
    lost.exchange();
    lost.site.undo(&name("4"), false).unwrap();
    assert_eq!(row(&lost, 1), "the quick brown fox|3|a");
    // Without its middle, what came next is not believed either: the row was another.
    refused(&lost, "3", "does not remember");
}
