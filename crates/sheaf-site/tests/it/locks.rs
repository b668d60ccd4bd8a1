//! Sequence locks: who passes, what becomes of the others, and that all get their turn.

use std::sync::Arc;

use serde_json::json;
use sheaf_site::{Answer, Batch, RunningHash, Standing, View};
use sheaf_volume::{ErrorKind, ManualEnv};

use crate::support::{Device, World, assert_converged};

const TAKE: &str = "BEGIN IMMEDIATE; SELECT sheaf_lock('q', 0, 'reject');";

/// How a lock stands in a view.
fn stands(device: &Device, view: View, name: &str) -> String {
    device.rows(view, &format!("SELECT x FROM __sheaf_lock WHERE name = '{name}'"))
}

#[test]
fn a_strict_lock_lets_the_first_pass_and_tells_the_second_why() {
    let [a, b] = World::new().devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, v)");
    a.sql(&format!("{TAKE} INSERT INTO t VALUES ('a', 1); COMMIT"));
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b', 1); COMMIT"));
    b.sql("INSERT INTO t VALUES ('free', 1)");
    assert_eq!(a.exchange().rejected, []);
    // The prediction fails, and the log decides the same.
    assert_eq!(b.pull().unpredicted, 1);
    assert_eq!(b.local("SELECT id FROM t ORDER BY id"), "a;free");
    let done = b.exchange();
    let [(seq, reason)] = &done.rejected[..] else { panic!("{done:?}") };
    assert_eq!(*seq, 1);
    assert_eq!(reason, "lock `q` failed: it was seen at 0 and stands at 1; at most 0 would do");
    // What was refused has moved nothing; made again, it passes.
    assert_eq!(stands(&b, View::Global, "q"), "1");
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b', 1); COMMIT"));
    assert_eq!(b.exchange().rejected, []);
    a.exchange();
    assert_eq!(a.local("SELECT id FROM t ORDER BY id"), "a;b;free");
    assert_eq!(stands(&a, View::Local, "q"), "2");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_lock_that_merges_says_that_it_was_late() {
    let [a, b] = World::new().devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w);
        INSERT INTO t VALUES (1, 0, 0)",
    );
    a.sql("BEGIN; SELECT sheaf_lock('q'); UPDATE t SET v = 1; COMMIT");
    b.sql("BEGIN; SELECT sheaf_lock('q'); UPDATE t SET w = 1; COMMIT");
    assert_eq!(a.exchange().merged, 0);
    let done = b.exchange();
    assert_eq!((done.merged, done.rejected.len()), (1, 0));
    a.exchange();
    assert_eq!(a.local("SELECT v, w FROM t"), "1|1");
    assert_eq!(stands(&a, View::Global, "q"), "2");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_node_judges_as_a_device_does() {
    let world = World::new();
    let [a, b] = world.devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL)");
    let node = world.device();
    node.exchange();
    for (device, id) in [(&a, "a"), (&b, "b")] {
        for mode in ["'reject'", "'merge'"] {
            device.sql(&format!(
                "BEGIN; SELECT sheaf_lock('q', 0, {mode});
                 INSERT INTO t VALUES ('{id} ' || {mode}); COMMIT"
            ));
        }
    }
    let batches = [&a, &b].map(Device::outbox);
    let led = node.site.lead(&batches, &*node.log, 4).unwrap();
    let verdicts: Vec<String> = led.answers.iter().map(|answer| format!("{answer:?}")).collect();
    assert_eq!(verdicts[0].matches("Ok").count(), 2, "{}", verdicts[0]);
    // The second of b counted the first, which was refused: late, but it merges.
    assert!(verdicts[1].contains("Rejected") && verdicts[1].contains("Merged"), "{verdicts:?}");
    a.exchange();
    b.exchange();
    node.exchange();
    assert_eq!(b.local("SELECT id FROM t ORDER BY id"), "a merge;a reject;b merge");
    assert_converged(&[&a, &b, &node]);
}

#[test]
fn own_waiting_transactions_count() {
    let world = World::new();
    let [a, b] = world.devices("CREATE TABLE ticket(no INT PRIMARY KEY NOT NULL, who)");
    let issue = |device: &Device, who: &str| {
        device.sql(&format!(
            "BEGIN; INSERT INTO ticket VALUES (sheaf_lock('ticket', 0, 'reject'), '{who}'); COMMIT"
        ));
    };
    issue(&a, "a0");
    issue(&a, "a1");
    // Counted on disk, not in memory.
    a.site.volume().flush().unwrap();
    let a = world.open(a.dir.crash(), 1);
    issue(&a, "a2");
    assert_eq!(a.local("SELECT no, who FROM ticket"), "0|a0;1|a1;2|a2");
    assert_eq!(a.exchange().rejected, []);
    b.exchange();
    issue(&b, "b3");
    issue(&b, "b4");
    // Redone on another base, what waits is in the counter itself.
    a.sql("CREATE TABLE other(v)");
    a.exchange();
    b.pull();
    issue(&b, "b5");
    issue(&b, "b6");
    assert_eq!(b.exchange().rejected, []);
    a.exchange();
    let all = "SELECT group_concat(no || who, ' ') FROM (SELECT * FROM ticket ORDER BY no)";
    assert_eq!(a.local(all), "0a0 1a1 2a2 3b3 4b4 5b5 6b6");
    assert_converged(&[&a, &b]);
}

#[test]
fn what_was_made_on_top_of_a_refused_one_is_refused_too() {
    let [a, b] = World::new().devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, v INT UNIQUE)");
    a.sql("INSERT INTO t VALUES ('a', 1)");
    a.exchange();
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b1', 1); COMMIT"));
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b2', 2); COMMIT"));
    let done = b.exchange();
    let reasons: Vec<&str> = done.rejected.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(reasons[0].contains("UNIQUE"), "{reasons:?}");
    assert!(reasons[1].starts_with("lock `q` failed: an earlier transaction of this device"));
    assert_eq!(reasons.len(), 2);
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b2', 2); COMMIT"));
    assert_eq!(b.exchange().rejected, []);
    a.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn one_made_after_a_failed_prediction_stands_by_itself() {
    let [a, b] = World::new().devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL)");
    a.sql(&format!("{TAKE} INSERT INTO t VALUES ('a'); COMMIT"));
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b1'); COMMIT"));
    a.exchange();
    assert_eq!(b.pull().unpredicted, 1);
    // Its author has seen what happened, and takes the lock again before the log has decided.
    b.sql(&format!("{TAKE} INSERT INTO t VALUES ('b2'); COMMIT"));
    assert_eq!(b.exchange().rejected.len(), 1);
    assert_eq!(b.local("SELECT id FROM t ORDER BY id"), "a;b2");
}

#[test]
fn a_lock_lives_and_dies_with_what_it_guards() {
    let [a, b] = World::new().devices("CREATE TABLE t(v)");
    // Rolled back, whole or in part; a transaction that wrote nothing; one that changed nothing.
    a.sql("BEGIN; SELECT sheaf_lock('whole'); INSERT INTO t VALUES (1); ROLLBACK");
    a.sql("SELECT sheaf_lock('query'); INSERT INTO t VALUES (2)");
    a.sql("BEGIN; SELECT sheaf_lock('empty'); COMMIT; INSERT INTO t VALUES (3)");
    a.sql("BEGIN; SELECT sheaf_lock('idle'); UPDATE t SET v = v; COMMIT");
    a.sql(
        "BEGIN; SAVEPOINT s; SELECT sheaf_lock('part'); INSERT INTO t VALUES (4); ROLLBACK TO s;
         SELECT sheaf_lock('kept'); INSERT INTO t VALUES (5); RELEASE s; COMMIT",
    );
    // A statement by itself is a transaction too, and so is what a trigger does in it.
    a.sql("INSERT INTO t SELECT sheaf_lock('alone') + sheaf_lock('also') + 6");
    a.sql("CREATE TRIGGER r AFTER DELETE ON t BEGIN SELECT sheaf_lock('trigger'); END");
    a.sql("DELETE FROM t WHERE v = 2");
    a.exchange();
    b.exchange();
    assert_eq!(
        b.local("SELECT name, x FROM __sheaf_lock ORDER BY name"),
        "alone|1;also|1;kept|1;trigger|1"
    );
    assert_converged(&[&a, &b]);
}

#[test]
fn a_lock_is_taken_once_by_a_transaction_and_every_demand_must_hold() {
    let [a, b] = World::new().devices("CREATE TABLE t(v)");
    let both = "BEGIN; SELECT sheaf_lock('q', 'any'), sheaf_lock('q', 0, 'reject');
        INSERT INTO t VALUES (1); COMMIT";
    a.sql(both);
    b.sql(both);
    b.sql("BEGIN; SELECT sheaf_lock('q', NULL, 'reject'); INSERT INTO t VALUES (2); COMMIT");
    a.exchange();
    assert_eq!(b.exchange().rejected.len(), 1);
    assert_eq!(stands(&b, View::Global, "q"), "2");
}

#[test]
fn mutators_take_locks() {
    let [a, b] = World::new().devices("CREATE TABLE ticket(no INT PRIMARY KEY NOT NULL, who)");
    let script = "INSERT INTO ticket VALUES (sheaf_lock('no', 0, 'reject'), :who)";
    a.site.define_mutator("strict", script).unwrap();
    let script = "INSERT INTO ticket VALUES (sheaf_lock('no'), :who)";
    a.site.define_mutator("loose", script).unwrap();
    a.exchange();
    b.exchange();
    for (device, name) in [(&a, "a"), (&b, "b")] {
        for mutator in ["strict", "loose"] {
            device.site.mutate(mutator, &json!({"who": format!("{name} {mutator}")})).unwrap();
        }
    }
    assert_eq!(b.local("SELECT no FROM ticket"), "0;1");
    a.exchange();
    let done = b.exchange();
    assert_eq!((done.rejected.len(), done.merged), (1, 1), "{done:?}");
    a.exchange();
    // A call that merges runs on what is there: its number is the one after.
    assert_eq!(a.local("SELECT * FROM ticket ORDER BY no"), "0|a strict;1|a loose;2|b loose");
    assert_eq!(stands(&a, View::Global, "no"), "3");
    assert_converged(&[&a, &b]);
}

#[test]
fn what_no_lock_can_be_is_refused_at_once() {
    let [a, _b] = World::new().devices("CREATE TABLE t(v)");
    let long = format!("'{}'", "x".repeat(1025));
    for args in [
        "",
        "''",
        "NULL",
        "7",
        "x'00'",
        &long,
        "'q', -1",
        "'q', 'some'",
        "'q', 1.5",
        "'q', 0, 'wait'",
        "'q', 0, NULL",
        "'q', 0, 'reject', 1",
    ] {
        let sql = format!("BEGIN; SELECT sheaf_lock({args}); INSERT INTO t VALUES (1); COMMIT");
        a.try_sql(&sql).expect_err(args);
    }
    let many = "BEGIN; WITH n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        SELECT count(sheaf_lock('lock ' || i)) FROM n; INSERT INTO t VALUES (1); COMMIT";
    assert!(a.try_sql(many).unwrap_err().contains("at most 1000 locks"));
    assert!(a.site.volume().is_timeline_empty());
    // A view has nothing to guard.
    let global = a.site.connection(View::Global).unwrap();
    assert!(global.prepare("SELECT sheaf_lock('q')").is_err());
}

/// Every device wants the same strict lock some times over, all at once, round after round: one
/// gets it in each round, whoever comes first, so nobody waits for longer than the others want.
#[test]
fn of_many_that_take_one_lock_each_gets_its_turn() {
    const DEVICES: usize = 5;
    const TURNS: usize = 2;
    let world = World::new();
    let devices: Vec<Device> = (0..DEVICES).map(|_| world.device()).collect();
    devices[0].sql("CREATE TABLE turn(at INT PRIMARY KEY NOT NULL, who INT)");
    devices.iter().for_each(|device| drop(device.exchange()));
    let mut rng = crate::support::Rng::new(5);
    let mut left = [TURNS; DEVICES];
    let mut rounds = 0;
    while left.iter().any(|turns| *turns > 0) {
        rounds += 1;
        let mut wanting: Vec<usize> = (0..DEVICES).filter(|at| left[*at] > 0).collect();
        for at in &wanting {
            devices[*at].pull();
            devices[*at]
                .sql(&format!("INSERT INTO turn VALUES (sheaf_lock('turn', 0, 'reject'), {at})"));
        }
        let mut won = 0;
        while !wanting.is_empty() {
            let at = wanting.swap_remove(rng.below(wanting.len()));
            if devices[at].exchange().rejected.is_empty() {
                left[at] -= 1;
                won += 1;
            }
        }
        assert_eq!(won, 1, "round {rounds}");
    }
    assert_eq!(rounds, DEVICES * TURNS);
    devices.iter().for_each(|device| drop(device.exchange()));
    let turns = devices[0].local("SELECT at FROM turn ORDER BY at");
    let all: Vec<String> = (0..DEVICES * TURNS).map(|at| at.to_string()).collect();
    assert_eq!(turns, all.join(";"));
    assert_converged(&devices.iter().collect::<Vec<_>>());
}

/// Nobody holds a lock, so nobody waits for one: of two that cross, one is late and takes both
/// the next time.
#[test]
fn two_locks_in_opposite_order_are_no_deadlock() {
    for mode in ["merge", "reject"] {
        let [a, b] = World::new().devices("CREATE TABLE t(who)");
        let cross = |device: &Device, who: &str, [first, second]: [&str; 2]| {
            device.sql(&format!(
                "BEGIN; SELECT sheaf_lock('{first}', 0, '{mode}');
                 INSERT INTO t VALUES ('{who} {first}');
                 SELECT sheaf_lock('{second}', 0, '{mode}');
                 INSERT INTO t VALUES ('{who} {second}'); COMMIT"
            ));
        };
        cross(&a, "a", ["p", "q"]);
        cross(&b, "b", ["q", "p"]);
        assert_eq!(a.exchange().rejected, []);
        let late = b.exchange();
        if mode == "reject" {
            assert_eq!(late.rejected.len(), 1);
            cross(&b, "b", ["q", "p"]);
            assert_eq!(b.exchange().rejected, []);
        } else {
            assert_eq!((late.rejected.len(), late.merged), (0, 1));
        }
        a.exchange();
        assert_eq!(a.local("SELECT who FROM t"), "a p;a q;b q;b p");
        assert_eq!(a.local("SELECT name, x FROM __sheaf_lock"), "p|2;q|2");
        assert_converged(&[&a, &b]);
    }
}

const ASK: &str = "BEGIN IMMEDIATE; SELECT sheaf_lock('q', 0, 'ask');";

/// A device whose second mutation asks, because the other one was first.
fn asking() -> (World, Device, Device) {
    let world = World::new();
    let [a, b] = world.devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, v)");
    a.sql(&format!("{ASK} INSERT INTO t VALUES ('a', 1); COMMIT"));
    a.exchange();
    b.sql("INSERT INTO t VALUES ('b1', 1)");
    b.sql(&format!("{ASK} INSERT INTO t VALUES ('b2', 1); COMMIT"));
    b.sql("INSERT INTO t VALUES ('b3', 1)");
    let done = b.exchange();
    assert_eq!((done.pushed, done.rejected.len()), (1, 0), "{done:?}");
    (world, a, b)
}

#[test]
fn a_lock_that_asks_holds_back_its_author_and_nobody_else() {
    let (world, a, b) = asking();
    let asking = b.site.asking().unwrap();
    assert_eq!(asking.seq, 2);
    assert!(asking.reason.starts_with("lock `q` failed: it was seen at 0"), "{asking:?}");
    assert_eq!(b.site.standing(2), Standing::Asks(asking.reason.clone()));
    assert_eq!(b.site.standing(3), Standing::Local);
    // What waits behind it is shown, it is not.
    assert_eq!(b.local("SELECT id FROM t ORDER BY id"), "a;b1;b3");
    assert_eq!(b.exchange().pushed, 0);
    a.sql("INSERT INTO t VALUES ('a2', 1)");
    a.exchange();
    assert_eq!(a.local("SELECT id FROM t ORDER BY id"), "a;a2;b1");
    // It is asked again after a restart, and only the one that asks is answered.
    b.site.volume().flush().unwrap();
    let b = world.open(b.dir.crash(), 2);
    assert_eq!(b.exchange().pushed, 0);
    assert_eq!(b.site.asking(), Some(asking));
    assert_eq!(b.site.go_on(3).unwrap_err().kind(), ErrorKind::Conflict);
    b.site.go_on(2).unwrap();
    assert_eq!((b.site.asking(), b.site.standing(2)), (None, Standing::Local));
    assert_eq!(b.local("SELECT id FROM t ORDER BY id"), "a;a2;b1;b2;b3");
    assert_eq!(b.site.go_on(2).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(b.exchange().pushed, 2);
    a.exchange();
    assert_eq!(stands(&a, View::Global, "q"), "2");
    assert_converged(&[&a, &b]);
}

#[test]
fn what_is_withdrawn_lets_the_rest_go_on() {
    let (_world, a, b) = asking();
    b.site.withdraw(2).unwrap();
    assert_eq!(b.site.asking(), None);
    assert_eq!(b.exchange().pushed, 2);
    a.exchange();
    assert_eq!(a.local("SELECT id FROM t ORDER BY id"), "a;b1;b3");
    assert_eq!(stands(&a, View::Global, "q"), "1");
    assert_converged(&[&a, &b]);
    // Its author has it still.
    let kept = b.site.rejected();
    assert_eq!((kept.len(), kept[0].summary.as_str()), (1, "insert t 'b2'"));
    let Standing::Rejected(reason) = b.site.standing(2) else { panic!() };
    assert!(reason.starts_with("withdrawn by its author: lock `q` failed"), "{reason}");
}

#[test]
fn an_answer_may_come_too_late_again() {
    let (_world, a, b) = asking();
    a.sql(&format!("{ASK} INSERT INTO t VALUES ('a2', 1); COMMIT"));
    a.exchange();
    b.site.go_on(2).unwrap();
    assert_eq!(b.exchange().pushed, 0);
    assert!(b.site.asking().unwrap().reason.contains("seen at 1 and stands at 2"));
    b.site.go_on(2).unwrap();
    assert_eq!(b.exchange().pushed, 2);
    a.exchange();
    assert_converged(&[&a, &b]);
}

/// The vectors X01, X02 and X05 in terms of this log: a window of dependent transactions passes;
/// at the first that fails the rest of its author's waits; the others go on.
#[test]
fn a_node_stops_at_what_asks_and_decides_what_others_sent() {
    let world = World::new();
    let [a, b] = world.devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL)");
    let node = world.device();
    node.exchange();
    for device in [&a, &b] {
        let name = if std::ptr::eq(device, &a) { "a" } else { "b" };
        for at in 1..=3 {
            device.sql(&format!("{ASK} INSERT INTO t VALUES ('{name}{at}'); COMMIT"));
        }
    }
    let batches = [&a, &b].map(Device::outbox);
    let led = node.site.lead(&batches, &*node.log, 4).unwrap();
    let asks: Vec<bool> = led.answers.iter().zip(&batches).map(|(a, b)| a.asks(b)).collect();
    assert_eq!(asks, [false, true]);
    let lsn = led.commit.as_ref().unwrap().lsn;
    assert_eq!(led.commit.unwrap().applied.len(), 1, "nothing of b");
    // Sent again as it is, it is answered again, from where it can be understood.
    let again = node.site.lead(&batches[1..], &*node.log, 4).unwrap();
    let Answer::Verdicts { first_seq: 1, verdicts, lsn: known } = &again.answers[0] else {
        panic!("{again:?}")
    };
    assert_eq!((verdicts.len(), *known, again.commit), (0, lsn, None));
    b.pull();
    assert_eq!(b.site.asking().map(|asking| asking.seq), Some(1));
    assert!(b.site.outbox(0, usize::MAX).unwrap().is_none());
    b.site.go_on(1).unwrap();
    // Those behind it were made on top of it, and follow without a question of their own.
    let led = node.site.lead(&[b.outbox()], &*node.log, 4).unwrap();
    let answer = format!("{:?}", led.answers[0]);
    assert_eq!(answer.matches("Ok").count(), 3, "{answer}");
    for device in [&a, &b, &node] {
        device.exchange();
    }
    assert_eq!(a.local("SELECT count(*) FROM t"), "6");
    assert_eq!(stands(&a, View::Global, "q"), "6");
    assert_converged(&[&a, &b, &node]);
}

/// A part of a batch, as a packet of its own.
fn packet(batch: &Batch, seqs: std::ops::RangeInclusive<u64>) -> Batch {
    let (before, rest): (Vec<_>, Vec<_>) =
        batch.mutations.iter().cloned().partition(|record| record.seq < *seqs.start());
    let hash = before.iter().fold(RunningHash(batch.prev_hash), RunningHash::after);
    Batch {
        first_seq: *seqs.start(),
        prev_hash: hash.0,
        mutations: rest.into_iter().filter(|record| record.seq <= *seqs.end()).collect(),
        ..batch.clone()
    }
}

/// The vector X03: what is sent again is answered again and not done again, and a gap is named.
#[test]
fn a_node_answers_a_duplicate_again_and_names_a_gap() {
    let world = World::new();
    let [a] = world.devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL)");
    let node = world.device();
    node.exchange();
    for at in 1..=3 {
        a.sql(&format!("{TAKE} INSERT INTO t VALUES ('a{at}'); COMMIT"));
    }
    let all = a.outbox();
    let first = all.first_seq;
    let lead = |seqs| node.site.lead(&[packet(&all, seqs)], &*node.log, 4).unwrap();
    let done = lead(first..=first);
    let [Answer::Verdicts { verdicts, lsn, .. }] = &done.answers[..] else { panic!("{done:?}") };
    assert_eq!((verdicts.len(), done.commit.as_ref().map(|commit| commit.lsn)), (1, Some(*lsn)));
    let again = lead(first..=first);
    let [Answer::Verdicts { lsn: known, .. }] = &again.answers[..] else { panic!("{again:?}") };
    assert_eq!((known, &again.commit), (lsn, &None));
    let early = lead(first + 2..=first + 2);
    assert_eq!((early.answers, early.commit), (vec![Answer::Gap { next: first + 1 }], None));
    assert_eq!(stands(&node, View::Global, "q"), "1");
    // Nothing of this has harmed what the device sends next.
    lead(first + 1..=first + 2);
    assert_eq!(a.exchange().rejected, []);
    assert_eq!(stands(&a, View::Global, "q"), "3");
    assert_converged(&[&a, &node]);
}

/// The vector X04: packets of before an answer that come late do nothing. What asked has failed for
/// ever, because no counter goes back.
#[test]
fn a_node_does_nothing_with_late_packets_of_before_an_answer() {
    let world = World::new();
    let [a, b] = world.devices("CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL)");
    let node = world.device();
    a.sql(&format!("{ASK} INSERT INTO t VALUES ('a'); COMMIT"));
    a.exchange();
    for at in 1..=2 {
        b.sql(&format!("{ASK} INSERT INTO t VALUES ('b{at}'); COMMIT"));
    }
    let old = b.outbox();
    node.exchange();
    let lead = |batch: &Batch| node.site.lead(std::slice::from_ref(batch), &*node.log, 4).unwrap();
    let asked = lead(&old);
    assert!(asked.answers[0].asks(&old) && asked.commit.is_none(), "{asked:?}");
    b.pull();
    b.site.go_on(b.site.asking().unwrap().seq).unwrap();
    let new = b.outbox();
    let first = new.first_seq;
    assert!(lead(&packet(&new, first..=first)).commit.is_some());
    for late in [old.clone(), packet(&old, first + 1..=first + 1)] {
        let led = lead(&late);
        assert!(led.answers[0].asks(&late) && led.commit.is_none(), "{led:?}");
    }
    assert!(lead(&new).commit.is_some());
    for device in [&a, &b] {
        assert_eq!(device.exchange().rejected, []);
    }
    assert_eq!(a.local("SELECT id FROM t ORDER BY id"), "a;b1;b2");
    assert_converged(&[&a, &b, &node]);
}

#[test]
fn a_call_that_asks_runs_when_it_is_answered() {
    let [a, b] = World::new().devices("CREATE TABLE ticket(no INT PRIMARY KEY NOT NULL, who)");
    let script = "INSERT INTO ticket VALUES (sheaf_lock('no', 0, 'ask'), :who)";
    a.site.define_mutator("issue", script).unwrap();
    a.exchange();
    b.exchange();
    for (device, who) in [(&a, "a"), (&b, "b")] {
        device.site.mutate("issue", &json!({ "who": who })).unwrap();
        device.exchange();
    }
    assert_eq!(b.local("SELECT * FROM ticket"), "0|a");
    let seq = b.site.asking().unwrap().seq;
    b.site.go_on(seq).unwrap();
    assert_eq!(b.local("SELECT * FROM ticket"), "0|a;1|b");
    b.exchange();
    a.exchange();
    assert_eq!(a.local("SELECT * FROM ticket"), "0|a;1|b");
    assert_converged(&[&a, &b]);
}

/// A row that is not there while its mutation waits is nobody else's row of that number.
#[test]
fn what_waits_behind_a_question_means_its_own_rows() {
    let [a, b] = World::new().devices("CREATE TABLE p(id INTEGER PRIMARY KEY, v TEXT)");
    a.sql(&format!("{ASK} INSERT INTO p VALUES (1, 'of a'); COMMIT"));
    a.exchange();
    b.sql(&format!("{ASK} INSERT INTO p VALUES (1, 'of b'); COMMIT"));
    b.sql("UPDATE p SET v = v || '!' WHERE id = 1");
    assert_eq!(b.exchange().pushed, 0);
    assert_eq!(b.local("SELECT * FROM p"), "1|of a");
    let seq = b.site.asking().unwrap().seq;
    b.site.go_on(seq).unwrap();
    assert_eq!(b.local("SELECT * FROM p"), "1|of a;2|of b!");
    b.exchange();
    a.exchange();
    assert_eq!(a.local("SELECT * FROM p"), "1|of a;2|of b!");
    assert_converged(&[&a, &b]);
}

#[test]
fn nothing_is_handed_to_a_branch_before_a_question_is_answered() {
    let (_world, _a, b) = asking();
    let other = World::new().device();
    let error = b.site.hand_over(&other.site).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("change 2 waits for an answer"), "{error}");
}

/// One device does something: issues a ticket, takes the other lock, pulls, stops or exchanges.
fn at_random(world: &World, devices: &mut [Device], rng: &mut crate::support::Rng, step: u64) {
    let at = rng.below(3);
    let (device, v) = (&devices[at], rng.below(40));
    match rng.below(10) {
        0..=2 => {
            let seen = "(SELECT group_concat(id) FROM (SELECT id FROM ticket ORDER BY no))";
            // A value that is here already is refused at once.
            drop(device.try_sql(&format!(
                "INSERT INTO ticket VALUES (sheaf_lock('ticket', 0, 'reject'), \
                 '{step}', {seen}, {v})"
            )));
        }
        3..=5 => {
            let mode = rng.pick(&["merge", "reject", "ask"]);
            let n = rng.pick(&["0", "2", "'any'"]);
            drop(device.try_sql(&format!(
                "BEGIN; SELECT sheaf_lock('q', {n}, '{mode}');
                 INSERT INTO taken VALUES ('{step}', {v}); COMMIT"
            )));
        }
        6 => drop(device.pull()),
        7 => {
            device.site.volume().flush().unwrap();
            let dir = device.dir.crash();
            let env = Arc::new(ManualEnv::new(1_000_000 + step));
            devices[at] = world.try_reopen(dir, at as u64 + 1, env).unwrap();
        }
        _ => drop(device.exchange()),
    }
}

/// Three devices that issue tickets, strictly, and take another lock in any mode, at random times:
/// some transactions fail at a unique value, some wait for an answer, some are pulled over, one
/// device stops and starts again. A ticket that is issued has the number that comes next, and its
/// author had seen every ticket before it and none that was never issued.
#[test]
fn what_a_strict_author_saw_is_what_was_there() {
    const SCHEMA: &str = "
        CREATE TABLE ticket(no INT PRIMARY KEY NOT NULL, id TEXT, saw TEXT, v INT UNIQUE);
        CREATE TABLE taken(id TEXT PRIMARY KEY NOT NULL, v INT UNIQUE)";
    let runs = if crate::support::is_long() { 400 } else { 12 };
    let mut issued = 0;
    for seed in 0..runs {
        let mut rng = crate::support::Rng::new(seed);
        let world = World::new();
        let mut devices: Vec<Device> = (0..3).map(|_| world.device()).collect();
        devices[0].sql(SCHEMA);
        devices.iter().for_each(|device| drop(device.exchange()));
        (0..60).for_each(|step| at_random(&world, &mut devices, &mut rng, step));
        for device in &devices {
            while !device.site.volume().is_timeline_empty() {
                device.exchange();
                let Some(asking) = device.site.asking() else { continue };
                if rng.chance(50) {
                    device.site.go_on(asking.seq).unwrap();
                } else {
                    device.site.withdraw(asking.seq).unwrap();
                }
            }
        }
        devices.iter().for_each(|device| drop(device.exchange()));
        assert_converged(&devices.iter().collect::<Vec<_>>());
        let one = &devices[0];
        let rows = one.local("SELECT no, id, coalesce(saw, '') FROM ticket ORDER BY no");
        let mut before: Vec<&str> = Vec::new();
        for (no, row) in rows.split(';').filter(|row| !row.is_empty()).enumerate() {
            let cells: Vec<&str> = row.split('|').collect();
            assert_eq!(cells[0], no.to_string(), "seed {seed}: {rows}");
            assert_eq!(cells[2], before.join(","), "seed {seed}: {rows}");
            before.push(cells[1]);
        }
        issued += before.len();
        let counted = "SELECT (SELECT count(*) FROM ticket), (SELECT count(*) FROM taken)";
        let both = "SELECT coalesce((SELECT x FROM __sheaf_lock WHERE name = 'ticket'), 0),
            coalesce((SELECT x FROM __sheaf_lock WHERE name = 'q'), 0)";
        assert_eq!(one.local(counted), one.local(both), "seed {seed}");
        assert_eq!(
            one.local("SELECT coalesce(sum(x), 0) FROM __sheaf_lock"),
            one.local("SELECT coalesce(sum(moves), 0) FROM __sheaf_lock_moves"),
            "seed {seed}"
        );
    }
    assert!(issued > usize::try_from(runs).unwrap() * 2, "{issued} tickets in {runs} runs");
}
