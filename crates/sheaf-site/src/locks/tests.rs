use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Name, v, n.
type Asked = (&'static str, u64, Option<u64>);

fn lock(name: &str, seen: u64, own: u64, slack: Option<u64>) -> Lock {
    Lock { name: name.to_owned(), seen, own, slack, on_failure: OnFailure::Reject }
}

/// All of a transaction's locks against counters that nobody has a share in: the first that fails.
fn admitted(counters: &mut BTreeMap<&str, u64>, asked: &[Asked]) -> String {
    for (name, seen, slack) in asked {
        let moves = counters.get(name).copied().unwrap_or(0);
        match lock(name, *seen, 0, *slack).judge(Counter { moves, own: 0 }) {
            Judgement::Held => {}
            Judgement::Future => return "error:future".to_owned(),
            Judgement::Moved | Judgement::Orphaned => return format!("fail:{name}@{moves}"),
        }
    }
    let names: std::collections::BTreeSet<&str> = asked.iter().map(|(name, ..)| *name).collect();
    for name in names {
        *counters.entry(name).or_default() += 1;
    }
    "ok".to_owned()
}

#[test]
fn vectors_of_the_specification() {
    let check = |start: &[(&'static str, u64)], asked: &[&[Asked]], says: &[&str], end: u64| {
        let mut counters: BTreeMap<&str, u64> = start.iter().copied().collect();
        let replies: Vec<String> = asked.iter().map(|a| admitted(&mut counters, a)).collect();
        assert_eq!(replies, says, "{asked:?} at {start:?}");
        assert_eq!(counters.get("q"), Some(&end).filter(|_| end > 0), "{asked:?}");
    };
    let (five, two) = ([("q", 5)], [("q", 5), ("r", 2)]);
    check(&[], &[&[("q", 0, Some(0))]], &["ok"], 1);
    check(&five, &[&[("q", 5, Some(0))]], &["ok"], 6);
    check(&five, &[&[("q", 4, Some(0))]], &["fail:q@5"], 5);
    check(&five, &[&[("q", 4, Some(1))]], &["ok"], 6);
    check(&five, &[&[("q", 3, Some(1))]], &["fail:q@5"], 5);
    check(&five, &[&[("q", 0, None)]], &["ok"], 6);
    check(&five, &[&[("q", 6, Some(0))]], &["error:future"], 5);
    check(&two, &[&[("q", 5, Some(0)), ("r", 1, Some(0))]], &["fail:r@2"], 5);
    check(&five, &[&[("q", 5, Some(0)), ("q", 5, Some(0))]], &["ok"], 6);
    let again: [&[Asked]; 3] = [&[("q", 5, Some(0))], &[("q", 5, Some(0))], &[("q", 6, Some(0))]];
    check(&five, &again, &["ok", "fail:q@6", "ok"], 7);
    let window: [&[Asked]; 4] = [&[("q", 5, Some(2))]; 4];
    check(&five, &window, &["ok", "ok", "ok", "fail:q@8"], 8);
    check(&[], &[&[("q", 0, Some(0)), ("q", 0, None)]], &["ok"], 1);
}

#[test]
fn what_the_author_counted_of_its_own_is_not_somebody_elses() {
    let judge = |lock: &Lock, moves, own| lock.judge(Counter { moves, own });
    // It saw 3 of others and 2 of its own that waited.
    let strict = lock("q", 5, 2, Some(0));
    assert_eq!(judge(&strict, 5, 2), Judgement::Held);
    assert_eq!(judge(&strict, 6, 2), Judgement::Moved);
    // One of its own was refused, and somebody else came instead: the sum is the same.
    assert_eq!(judge(&strict, 5, 1), Judgement::Orphaned);
    assert_eq!(judge(&strict, 4, 1), Judgement::Orphaned);
    assert_eq!(judge(&strict, 3, 1), Judgement::Future);
    // One that was missing from what it saw was applied after all.
    assert_eq!(judge(&strict, 6, 3), Judgement::Moved);
    let any = lock("q", 5, 2, None);
    assert_eq!(judge(&any, 9, 0), Judgement::Held);
    assert_eq!(judge(&any, 2, 0), Judgement::Future);
}

#[test]
fn the_largest_counts_are_no_trouble() {
    let max = i64::MAX.unsigned_abs();
    for lock in [lock("q", max, max, Some(max)), lock("q", max, 0, Some(max))] {
        lock.check().unwrap();
        lock.judge(Counter { moves: u64::MAX, own: 0 });
        lock.judge(Counter { moves: 0, own: u64::MAX });
    }
    assert!(lock("q", max + 1, 0, None).check().is_err());
    assert!(lock("q", 1, 2, None).check().is_err());
    assert!(lock("", 0, 0, None).check().is_err());
    assert!(lock(&"q".repeat(1025), 0, 0, None).check().is_err());
}

#[test]
fn a_savepoint_takes_back_what_was_taken_in_it() {
    let mut notes = Notes::default();
    let names = |notes: &Notes| {
        notes.locks().into_iter().map(|lock| lock.name).collect::<Vec<_>>().join(" ")
    };
    let take = |notes: &mut Notes, name: &str| assert!(notes.take(lock(name, 0, 0, Some(0))));
    take(&mut notes, "a");
    notes.savepoint("s");
    take(&mut notes, "b");
    notes.savepoint("s");
    take(&mut notes, "c");
    notes.rollback_to("s");
    assert_eq!(names(&notes), "a b");
    notes.release("s");
    take(&mut notes, "b");
    take(&mut notes, "d");
    assert_eq!(names(&notes), "a b d");
    notes.rollback_to("nobody");
    notes.rollback_to("s");
    assert_eq!(names(&notes), "a");
    notes.clear();
    assert_eq!(names(&notes), "");
}

#[test]
fn a_transaction_takes_so_many_locks_and_no_more() {
    let mut notes = Notes::default();
    for at in 0..limits::LOCKS_MAX {
        assert!(notes.take(lock(&at.to_string(), 0, 0, None)));
    }
    assert!(notes.take(lock("0", 0, 0, None)), "taken before");
    assert!(!notes.take(lock("one more", 0, 0, None)));
}

proptest! {
    /// P13: of any number of transactions that saw the same, n + 1 pass; x counts those that did.
    #[test]
    fn the_window_is_as_wide_as_asked_for(start in 0u64..50, slack in 0u64..6, count in 0usize..12) {
        let mut counters = BTreeMap::from([("q", start)]);
        let replies = (0..count).map(|_| admitted(&mut counters, &[("q", start, Some(slack))]));
        let passed = replies.filter(|reply| reply == "ok").count();
        prop_assert_eq!(passed, count.min(usize::try_from(slack).unwrap() + 1));
        prop_assert_eq!(counters["q"], start + passed as u64);
    }

    /// Of a strict lock that passes, what its author was told is where the counter stands.
    #[test]
    fn a_strict_lock_that_passes_was_seen_as_it_is(
        others in 0u64..5, own in 0u64..5, more_others in 0u64..3, own_now in 0u64..5,
    ) {
        let lock = lock("q", others + own, own, Some(0));
        let moves = others + more_others + own_now;
        if lock.judge(Counter { moves, own: own_now }) == Judgement::Held {
            prop_assert_eq!((lock.seen, more_others, own), (moves, 0, own_now));
        } else {
            prop_assert!(more_others > 0 || own != own_now);
        }
    }
}
